//! lua-resty-websocket's reading of a WebSocket URI, and IPv6 literals on top. It is deliberately
//! not RFC 3986: what follows host and port is sent as the request target, whatever it is.

use super::Error;
use std::net::Ipv6Addr;
use std::str;

/// Where to connect, and what to ask for. Borrows the text it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// `wss`.
    pub tls: bool,
    /// Host name or address (IPv6 in brackets), or `unix:` and a socket path.
    pub host: &'a [u8],
    /// Digits as written, or the scheme's default; `None` for a UNIX-domain socket.
    pub port: Option<&'a [u8]>,
    /// The request target.
    pub path: &'a [u8],
}

impl<'a> Uri<'a> {
    /// Reads `ws[s]://host[:port][path]` or `ws[s]://unix:socket:[path]`. The scheme is in lower
    /// case; a text with `unix:` anywhere must have the second shape, as with upstream.
    pub fn parse(uri: &'a [u8]) -> Result<Uri<'a>, Error> {
        let (tls, rest) = match (uri.strip_prefix(b"ws://"), uri.strip_prefix(b"wss://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(Error::BadUri),
        };
        let (host, port, path) = if uri.windows(5).any(|w| w == b"unix:") {
            let (host, path) = unix(rest).ok_or(Error::BadUri)?;
            (host, None, path)
        } else {
            let (host, rest) = network(rest).ok_or(Error::BadUri)?;
            let (port, path) = port(rest);
            let default: &[u8] = if tls { b"443" } else { b"80" };
            (host, Some(port.unwrap_or(default)), path)
        };
        Ok(Uri { tls, host, port, path: if path.is_empty() { b"/" } else { path } })
    }

    /// The Host header for this address: the port is always part of it.
    pub fn host_header(&self) -> Vec<u8> {
        match self.port {
            Some(port) => [self.host, b":", port].concat(),
            None => b"unix_sock".to_vec(),
        }
    }
}

/// `unix:socket` and what follows the colon after it.
fn unix(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    const PREFIX: &[u8] = b"unix:";
    let len = rest.strip_prefix(PREFIX)?.iter().position(|&b| b == b':').filter(|&len| len > 0)?;
    let (host, path) = rest.split_at(PREFIX.len() + len);
    Some((host, &path[1..]))
}

/// A host up to the first colon or slash, or an address in brackets.
fn network(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = if rest.starts_with(b"[") {
        let end = rest.iter().position(|&b| b == b']')?;
        str::from_utf8(&rest[1..end]).ok()?.parse::<Ipv6Addr>().ok()?;
        end + 1
    } else {
        rest.iter().position(|b| matches!(b, b':' | b'/')).unwrap_or(rest.len())
    };
    (len > 0).then(|| rest.split_at(len))
}

/// A colon and digits, if that is what comes next.
fn port(rest: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let Some(after) = rest.strip_prefix(b":") else { return (None, rest) };
    let len = after.iter().take_while(|b| b.is_ascii_digit()).count();
    if len == 0 {
        return (None, rest);
    }
    let (digits, path) = after.split_at(len);
    (Some(digits), path)
}
