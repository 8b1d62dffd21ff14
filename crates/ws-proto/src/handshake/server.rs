//! The server's side: whether a request is an opening handshake, and what to answer. One check
//! by lua-resty-websocket's rules for the drop-in API, one by RFC 6455 4.2.1 for our own. The
//! caller sends the 101 response; on a refusal nothing is sent here.

use super::{accept_key, fields, AcceptKey};
use crate::ext;
use base64::{engine::general_purpose::STANDARD, Engine as _};
use std::fmt;

/// A request as the HTTP server parsed it. The slices stay the server's.
#[derive(Clone, Copy, Debug)]
pub struct ClientHandshake<'a> {
    /// The method, as sent.
    pub method: &'a [u8],
    /// Whether the version is HTTP/1.1 exactly.
    pub http11: bool,
    /// Whether there is a Host header.
    pub host: bool,
    /// Header lines in order, names in any case.
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

impl<'a> ClientHandshake<'a> {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        fields::values(self.headers.iter().copied(), name)
    }

    /// Whether the client asks for the WebSocket protocol, rightly or not.
    pub fn asks_upgrade(&self) -> bool {
        self.has_token("upgrade", "websocket")
    }

    /// The subprotocols that the client offers, in its order.
    pub fn offered_protocols(&self) -> impl Iterator<Item = &'a [u8]> {
        self.values("sec-websocket-protocol").flat_map(fields::elements)
    }

    /// The values of its Sec-WebSocket-Extensions lines.
    pub fn extensions(&self) -> Vec<&'a [u8]> {
        self.values("sec-websocket-extensions").collect()
    }

    /// Whether a list header has this token, in any case, on any of its lines.
    fn has_token(&self, name: &'static str, token: &str) -> bool {
        self.values(name)
            .flat_map(fields::elements)
            .any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// What the 101 response needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// Value for Sec-WebSocket-Accept.
    pub accept: AcceptKey,
    /// Value for Sec-WebSocket-Protocol, if that header is to be sent.
    pub protocol: Option<&'a [u8]>,
}

/// Why a request was refused. Its text carries the client's bytes where lua-resty-websocket's
/// does: [`Refusal::to_bytes`] gives it exactly, `Display` with bad UTF-8 replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not HTTP/1.1.
    HttpVersion,
    /// Not GET.
    Method,
    /// No Host header.
    Host,
    /// The Upgrade header (its first value) does not say websocket.
    Upgrade(Option<Vec<u8>>),
    /// The Connection header does not say upgrade.
    Connection,
    /// Sec-WebSocket-Key is missing or malformed.
    Key,
    /// Sec-WebSocket-Version is missing or malformed.
    NoVersion,
    /// Another Sec-WebSocket-Version than 13.
    OtherVersion,
    /// The policy wants an Origin header.
    NoOrigin,
    /// The Origin is not one of the allowed.
    Origin,
    /// Sec-WebSocket-Extensions is not of its grammar.
    Extensions,
}

impl Refusal {
    /// The fitting HTTP status: 400, 403 or 426. With 426 go `Sec-WebSocket-Version: 13` (RFC 6455
    /// 4.4) and `Upgrade: websocket` (RFC 9110 15.5.22).
    pub const fn status(&self) -> u16 {
        match self {
            Self::OtherVersion => 426,
            Self::NoOrigin | Self::Origin => 403,
            _ => 400,
        }
    }

    /// Short name of the broken rule, for logs and counters.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::HttpVersion => "http_version",
            Self::Method => "method",
            Self::Host => "host",
            Self::Upgrade(_) => "upgrade",
            Self::Connection => "connection",
            Self::Key => "key",
            Self::NoVersion | Self::OtherVersion => "version",
            Self::NoOrigin | Self::Origin => "origin",
            Self::Extensions => "extensions",
        }
    }

    /// The text, byte for byte.
    pub fn to_bytes(&self) -> Vec<u8> {
        let text = match self {
            Self::HttpVersion => "bad http version",
            Self::Method => "bad request method",
            Self::Host => "bad \"host\" request header",
            Self::Upgrade(value) => {
                return fields::with_value("bad \"upgrade\" request header: ", value.as_deref())
            }
            Self::Connection => "bad \"connection\" request header",
            Self::Key => "bad \"sec-websocket-key\" request header",
            Self::NoVersion | Self::OtherVersion => "bad \"sec-websocket-version\" request header",
            Self::NoOrigin => "no \"origin\" request header",
            Self::Origin => "origin not allowed",
            Self::Extensions => "bad \"sec-websocket-extensions\" request header",
        };
        text.as_bytes().to_vec()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

impl std::error::Error for Refusal {}

/// lua-resty-websocket's check: its rules in its order, each header judged by its first value.
/// Method, Host and Origin are not looked at; the first Sec-WebSocket-Protocol value is answered
/// as it is, even when it is a list.
pub fn check_lenient<'a>(request: &ClientHandshake<'a>) -> Result<Upgrade<'a>, Refusal> {
    let first = |name| request.values(name).next();
    if !request.http11 {
        return Err(Refusal::HttpVersion);
    }
    let upgrade = first("upgrade");
    if !upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(Refusal::Upgrade(upgrade.map(<[u8]>::to_vec)));
    }
    let names_upgrade = |value: &[u8]| value.windows(7).any(|w| w.eq_ignore_ascii_case(b"upgrade"));
    if !first("connection").is_some_and(names_upgrade) {
        return Err(Refusal::Connection);
    }
    let key = first("sec-websocket-key").ok_or(Refusal::Key)?;
    match first("sec-websocket-version") {
        None => return Err(Refusal::NoVersion),
        Some(b"13") => {}
        Some(_) => return Err(Refusal::OtherVersion),
    }
    Ok(Upgrade { accept: accept_key(key), protocol: first("sec-websocket-protocol") })
}

/// What a server asks of a client beyond the RFC. The default asks nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy<'p> {
    /// Subprotocols in the server's order: the first that the client offers too is chosen, and
    /// none is chosen when none is common.
    pub protocols: &'p [&'p [u8]],
    /// Allowed Origin values, each exact or `*.example.com` (any scheme and port, any host below
    /// example.com but not that itself). `None` allows all.
    pub origins: Option<&'p [&'p [u8]]>,
    /// Refuses a request without Origin, which non-browser clients send.
    pub require_origin: bool,
}

/// RFC 6455 4.2.1 by the letter, and the server's policy.
pub fn check_strict<'a>(
    request: &ClientHandshake<'a>,
    policy: &Policy<'_>,
) -> Result<Upgrade<'a>, Refusal> {
    if request.method != b"GET" {
        return Err(Refusal::Method);
    }
    if !request.http11 {
        return Err(Refusal::HttpVersion);
    }
    if !request.host {
        return Err(Refusal::Host);
    }
    if !request.has_token("upgrade", "websocket") {
        return Err(Refusal::Upgrade(request.values("upgrade").next().map(<[u8]>::to_vec)));
    }
    if !request.has_token("connection", "upgrade") {
        return Err(Refusal::Connection);
    }
    let key = sole(request, "sec-websocket-key").filter(|key| is_nonce(key)).ok_or(Refusal::Key)?;
    match sole(request, "sec-websocket-version") {
        None => return Err(Refusal::NoVersion),
        Some(b"13") => {}
        Some(_) => return Err(Refusal::OtherVersion),
    }
    check_origin(request, policy)?;
    // RFC 6455 9.1: a client that breaks the grammar is failed; what it means is negotiated later.
    if !ext::is_well_formed(&request.extensions()) {
        return Err(Refusal::Extensions);
    }
    Ok(Upgrade { accept: accept_key(key), protocol: choose(request, policy.protocols) })
}

/// The value of a header that must stand there once (RFC 6455 11.3).
fn sole<'a>(request: &ClientHandshake<'a>, name: &'static str) -> Option<&'a [u8]> {
    let mut values = request.values(name);
    let value = values.next()?.trim_ascii();
    values.next().is_none().then_some(value)
}

/// Whether the key is 16 bytes in base64.
fn is_nonce(key: &[u8]) -> bool {
    let mut nonce = [0; 18];
    key.len() == 24 && STANDARD.decode_slice(key, &mut nonce) == Ok(16)
}

/// The first of the server's subprotocols that the client offers (names are case-sensitive).
fn choose<'a>(request: &ClientHandshake<'a>, ours: &[&[u8]]) -> Option<&'a [u8]> {
    ours.iter().find_map(|name| request.offered_protocols().find(|offer| offer == name))
}

/// The policy's part about origins, for whatever a browser may send.
pub fn check_origin(request: &ClientHandshake<'_>, policy: &Policy<'_>) -> Result<(), Refusal> {
    let mut present = request.values("origin").peekable();
    if present.peek().is_none() {
        return if policy.require_origin { Err(Refusal::NoOrigin) } else { Ok(()) };
    }
    let Some(allowed) = policy.origins else { return Ok(()) };
    let is_allowed =
        |origin: &[u8]| allowed.iter().any(|pattern| origin_matches(origin.trim_ascii(), pattern));
    // A second Origin line is no browser's: all must pass, so that none can hide another.
    if present.all(is_allowed) {
        Ok(())
    } else {
        Err(Refusal::Origin)
    }
}

/// Scheme and host have no case, and an Origin is nothing else (RFC 6454 6.1). One with a space or a
/// control character in it is no browser's, and matches nothing.
fn origin_matches(origin: &[u8], pattern: &[u8]) -> bool {
    if !is_visible(origin) {
        return false;
    }
    match pattern.strip_prefix(b"*") {
        Some(suffix) if suffix.starts_with(b".") => {
            let host = origin_host(origin);
            host.len() > suffix.len()
                && host[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
        }
        _ => origin.eq_ignore_ascii_case(pattern),
    }
}

fn is_visible(text: &[u8]) -> bool {
    text.iter().all(|b| *b > b' ' && *b != 0x7f)
}

/// Whether an origin can match this pattern at all: `null`, a serialized origin, or one whose host
/// begins with `*.`.
pub fn is_origin_pattern(pattern: &[u8]) -> bool {
    let is_origin = match pattern.strip_prefix(b"*.") {
        Some(host) => !host.is_empty() && !host.contains(&b':') && !host.contains(&b'/'),
        None => pattern.eq_ignore_ascii_case(b"null") || !origin_host(pattern).is_empty(),
    };
    is_origin && is_visible(pattern) && !pattern[1..].contains(&b'*')
}

/// The host in `scheme://host[:port]`; empty when the value has no such shape.
fn origin_host(origin: &[u8]) -> &[u8] {
    let Some(at) = origin.windows(3).position(|w| w == b"://") else { return &[] };
    let authority = &origin[at + 3..];
    // Nothing but a host and a port may follow; anything else is no serialized origin.
    if authority.iter().any(|b| matches!(b, b'/' | b'?' | b'#' | b'@' | b'\\')) {
        return &[];
    }
    authority.split(|&b| b == b':').next().unwrap_or(&[])
}
