//! The client's side: URI rules and header order of lua-resty-websocket, and the check of the
//! response (RFC 6455 4.1). Connecting, TLS and reading the response belong to the caller.

mod response;
mod uri;

pub use response::{Response, ResponseHead};
pub use uri::Uri;

use super::fields;
use std::fmt;

/// Why a connection cannot be asked for, or was not granted. The text may carry the caller's or
/// the peer's bytes: [`Error::to_bytes`] gives it exactly, `Display` with bad UTF-8 replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not a URI of the accepted shapes.
    BadUri,
    /// CR, LF or NUL in the named part of the request would forge another.
    ControlCharacter(&'static str),
    /// An empty custom header line would end the request early.
    EmptyHeader,
    /// The response does not start with an HTTP/1.1 status line. Holds the whole response head.
    StatusLine(Vec<u8>),
    /// Another status than 101.
    Status(u16),
    /// A response header does not say what it must: its name and value.
    Header(&'static str, Option<Vec<u8>>),
}

impl Error {
    /// The text, byte for byte.
    pub fn to_bytes(&self) -> Vec<u8> {
        const FAILED: &str = "failed websocket handshake: ";
        match self {
            Self::BadUri => b"bad websocket uri".to_vec(),
            Self::ControlCharacter(part) => format!("bad {part}: control character").into_bytes(),
            Self::EmptyHeader => b"bad headers: empty line".to_vec(),
            Self::StatusLine(head) => {
                fields::with_value("bad HTTP response status line: ", Some(head))
            }
            Self::Status(code) => {
                format!("{FAILED}unexpected response status: {code}").into_bytes()
            }
            Self::Header(name, value) => fields::with_value(
                &format!("{FAILED}bad \"{name}\" response header: "),
                value.as_deref(),
            ),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

impl std::error::Error for Error {}

/// The parts of an opening request. All are sent as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Request target: [`Uri::path`].
    pub path: &'a [u8],
    /// Host header: the caller's own, or [`Uri::host_header`].
    pub host: &'a [u8],
    /// Sec-WebSocket-Key: 16 bytes from a random generator, in base64.
    pub key: &'a [u8],
    /// Sec-WebSocket-Protocol.
    pub protocols: Option<&'a [u8]>,
    /// Origin.
    pub origin: Option<&'a [u8]>,
    /// Further header lines, without line ends.
    pub headers: &'a [&'a [u8]],
}

impl Request<'_> {
    /// The request's bytes, its headers in lua-resty-websocket's order. Refuses the bytes with
    /// which a part could forge another line or end the header.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        check_text("path", self.path)?;
        check_text("host", self.host)?;
        check_text("key", self.key)?;
        check_text("protocols", self.protocols.unwrap_or_default())?;
        check_text("origin", self.origin.unwrap_or_default())?;
        for line in self.headers {
            check_text("headers", line)?;
            if line.is_empty() {
                return Err(Error::EmptyHeader);
            }
        }
        let mut out = Vec::with_capacity(256);
        let mut put = |name: &str, value: &[u8]| {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
        };
        put("GET ", self.path);
        put(" HTTP/1.1\r\nUpgrade: websocket\r\nHost: ", self.host);
        put("\r\nSec-WebSocket-Key: ", self.key);
        if let Some(protocols) = self.protocols {
            put("\r\nSec-WebSocket-Protocol: ", protocols);
        }
        put("\r\nSec-WebSocket-Version: 13", b"");
        if let Some(origin) = self.origin {
            put("\r\nOrigin: ", origin);
        }
        put("\r\nConnection: Upgrade", b"");
        for line in self.headers {
            put("\r\n", line);
        }
        put("\r\n\r\n", b"");
        Ok(out)
    }
}

fn check_text(part: &'static str, text: &[u8]) -> Result<(), Error> {
    if text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err(Error::ControlCharacter(part));
    }
    Ok(())
}
