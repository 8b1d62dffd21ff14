//! A request head as bytes, for servers that have no HTTP server in front of them: nginx parses the
//! requests of its own ports, this those of ports that a program opened by itself.

use super::server;
use httparse::{Status, EMPTY_HEADER};
use std::fmt;

/// The longest head, request line and empty line included; nginx's own limit is of that order.
pub const MAX_HEAD: usize = 32 * 1024;
/// The most header lines, nginx's own limit as well.
const MAX_LINES: usize = 100;

/// A parsed request head. The slices stay the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The method, as sent.
    pub method: &'a [u8],
    /// The request target, as sent, query included.
    pub target: &'a [u8],
    /// HTTP/1.1; otherwise HTTP/1.0.
    pub http11: bool,
    /// Header lines in order.
    pub headers: Vec<(&'a [u8], &'a [u8])>,
    /// Bytes of the head: what follows it begins there.
    pub len: usize,
}

/// Why bytes are no request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not HTTP/1.0 or 1.1.
    Malformed,
    /// Above the limit in bytes or lines.
    TooLarge,
}

impl HeadError {
    /// The fitting HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::TooLarge => 431,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed request",
            Self::TooLarge => "request header too large",
        })
    }
}

impl std::error::Error for HeadError {}

impl<'a> RequestHead<'a> {
    /// Parses what has come so far. None: it may still become a request.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<RequestHead<'a>>, HeadError> {
        let mut lines = [EMPTY_HEADER; MAX_LINES];
        let mut parsed = httparse::Request::new(&mut lines);
        let len = match parsed.parse(bytes) {
            Ok(Status::Complete(len)) if len <= MAX_HEAD => len,
            Ok(Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
            Err(_) => return Err(HeadError::Malformed),
        };
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
            return Err(HeadError::Malformed);
        };
        Ok(Some(RequestHead {
            method: method.as_bytes(),
            target: target.as_bytes(),
            http11: parsed.version == Some(1),
            headers: parsed.headers.iter().map(|line| (line.name.as_bytes(), line.value)).collect(),
            len,
        }))
    }

    /// As the server's checks take it.
    pub fn request(&self) -> server::ClientHandshake<'_> {
        let host = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"host"));
        server::ClientHandshake {
            method: self.method,
            http11: self.http11,
            host,
            headers: &self.headers,
        }
    }
}
