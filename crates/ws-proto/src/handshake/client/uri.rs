//! WebSocket URIs (RFC 6455 3), IPv6 literals among them, and lua-resty-websocket's shape for
//! UNIX-domain sockets. What cannot be part of a URI is refused, for a space or a control character
//! in it would forge the request.

use super::Error;
use std::net::Ipv6Addr;
use std::str;

/// Where to connect, and what to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// `wss`.
    pub tls: bool,
    /// Host name or address (IPv6 in brackets), or `unix:` and a socket path.
    pub host: Vec<u8>,
    /// Digits as written, or the scheme's default; `None` for a UNIX-domain socket.
    pub port: Option<Vec<u8>>,
    /// The request target: path and query. A fragment is none of the server's business.
    pub target: Vec<u8>,
}

impl Uri {
    /// Reads `ws[s]://host[:port][/path][?query]` or `ws[s]://unix:socket:[/path][?query]`. A text
    /// with `unix:` anywhere must have the second shape, as with upstream.
    pub fn parse(uri: &[u8]) -> Result<Uri, Error> {
        let (tls, rest) = scheme(uri).ok_or(Error::BadUri)?;
        let (host, port, rest) = if uri.windows(5).any(|w| w == b"unix:") {
            let (host, rest) = unix(rest).ok_or(Error::BadUri)?;
            (host, None, rest)
        } else {
            let (host, rest) = network(rest).ok_or(Error::BadUri)?;
            let (port, rest) = port(rest);
            let default: &[u8] = if tls { b"443" } else { b"80" };
            (host, Some(port.unwrap_or(default).to_vec()), rest)
        };
        let target = target(rest).ok_or(Error::BadUri)?;
        Ok(Uri { tls, host: host.to_vec(), port, target })
    }

    /// As `parse`, with path and query by themselves, where `unix:` means nothing.
    pub fn with_target(uri: &[u8], path: &[u8]) -> Result<Uri, Error> {
        let target = target(path).ok_or(Error::BadUri)?;
        Ok(Uri { target, ..Uri::parse(uri)? })
    }

    /// The Host header for this address: the port is always part of it.
    pub fn host_header(&self) -> Vec<u8> {
        match &self.port {
            Some(port) => [&self.host, &b":"[..], port].concat(),
            None => b"unix_sock".to_vec(),
        }
    }
}

/// Whether TLS is wanted, and what follows the scheme, which has no case (RFC 3986 3.1).
fn scheme(uri: &[u8]) -> Option<(bool, &[u8])> {
    let at = uri.windows(3).position(|w| w == b"://")?;
    let (scheme, rest) = (&uri[..at], &uri[at + 3..]);
    if scheme.eq_ignore_ascii_case(b"ws") {
        Some((false, rest))
    } else {
        scheme.eq_ignore_ascii_case(b"wss").then_some((true, rest))
    }
}

/// `unix:socket` and what follows the colon after it.
fn unix(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    const PREFIX: &[u8] = b"unix:";
    let len = rest.strip_prefix(PREFIX)?.iter().position(|&b| b == b':').filter(|&len| len > 0)?;
    let (host, path) = rest.split_at(PREFIX.len() + len);
    (!host.iter().any(u8::is_ascii_control)).then_some((host, &path[1..]))
}

/// A host, which may be an address in brackets, and what follows it. Userinfo has no place in a
/// WebSocket URI.
fn network(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = rest.iter().position(|b| b"/?#".contains(b)).unwrap_or(rest.len());
    let authority = &rest[..end];
    let len = if authority.starts_with(b"[") {
        let end = authority.iter().position(|&b| b == b']')?;
        str::from_utf8(&authority[1..end]).ok()?.parse::<Ipv6Addr>().ok()?;
        end + 1
    } else {
        authority.iter().position(|&b| b == b':').unwrap_or(end)
    };
    (len > 0 && authority.iter().all(|b| is_visible(b) && *b != b'@')).then(|| rest.split_at(len))
}

/// The port, if one is named, and what follows it. A colon alone stands for the default.
fn port(rest: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let Some(after) = rest.strip_prefix(b":") else { return (None, rest) };
    let len = after.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = after.split_at(len);
    ((len > 0).then_some(digits), rest)
}

/// Path and query; an empty path is `/`.
fn target(rest: &[u8]) -> Option<Vec<u8>> {
    let end = rest.iter().position(|&b| b == b'#').unwrap_or(rest.len());
    let slash: &[u8] = match rest.first() {
        None | Some(b'?' | b'#') => b"/",
        Some(b'/') => b"",
        Some(_) => return None,
    };
    rest.iter().all(is_visible).then(|| [slash, &rest[..end]].concat())
}

/// Neither a space nor a control character.
fn is_visible(b: &u8) -> bool {
    *b > b' ' && *b != 0x7F
}
