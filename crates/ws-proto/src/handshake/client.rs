//! The client's side: URIs, and the opening handshake with lua-resty-websocket's header order and
//! texts and the checks of RFC 6455 4.1. Connecting, TLS and reading the response belong to the
//! caller.

mod chunked;
mod opening;
mod response;
mod uri;

pub use chunked::{Chunked, NotChunked};
pub use opening::{Choice, Grant, Opening, Wishes};
pub use response::{unfolded, ResponseHead};
pub use uri::Uri;

use super::fields;
use crate::ext;
use std::fmt;

/// The longest response head, that of interim responses before it included.
pub const MAX_RESPONSE: usize = 64 * 1024;

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
    /// An answer to nothing.
    NotAsked,
    /// The response, with those before it, is longer than [`MAX_RESPONSE`].
    TooLarge,
    /// The response does not start with an HTTP/1.1 status line. Holds the whole response head.
    StatusLine(Vec<u8>),
    /// Another status than 101.
    Status(u16),
    /// A response header does not say what it must: its name and value.
    Header(&'static str, Option<Vec<u8>>),
    /// The extensions chosen are not what was offered.
    Extensions(ext::Error),
}

impl Error {
    /// The text, byte for byte.
    pub fn to_bytes(&self) -> Vec<u8> {
        const FAILED: &str = "failed websocket handshake: ";
        match self {
            Self::BadUri => b"bad websocket uri".to_vec(),
            Self::ControlCharacter(part) => format!("bad {part}: control character").into_bytes(),
            Self::EmptyHeader => b"bad headers: empty line".to_vec(),
            Self::NotAsked => format!("{FAILED}nothing was asked for").into_bytes(),
            Self::TooLarge => b"response header too large".to_vec(),
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
            Self::Extensions(err) => format!("{FAILED}{err}").into_bytes(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

impl std::error::Error for Error {}
