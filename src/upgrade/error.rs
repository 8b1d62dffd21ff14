//! Why an upgrade does not happen: in words, and as an HTTP status.

use std::fmt;

use ws_proto::handshake::server::Refusal;

use crate::hub;
use crate::ngx::switch::{Failed, CLIENT_GONE};

/// Why an upgrade does not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The request is no good opening handshake.
    Refused(Refusal),
    /// A part of another request's answer.
    Subrequest,
    /// Its body is being thrown away, and would be taken for frames.
    Body,
    /// No memory.
    NoMemory,
    /// The hub does not take it.
    Hub(hub::Error),
    /// The 101 was begun, and cannot leave.
    Begun(Failed),
}

impl Error {
    /// The HTTP status that fits. Once the 101 was begun none can be sent; 499 is what nginx and
    /// ngx_lua take for a client that has gone, and say nothing.
    pub const fn status(&self) -> u16 {
        match self {
            Error::Refused(refusal) => refusal.status(),
            Error::Body => 400,
            Error::Hub(hub::Error::TooManySubscriptions) => 403,
            Error::Subrequest | Error::NoMemory | Error::Hub(_) => 500,
            Error::Begun(_) => CLIENT_GONE as u16,
        }
    }

    /// The text, byte for byte; a client's bytes may be in it.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Error::Refused(refusal) => refusal.to_bytes(),
            Error::Subrequest => b"a subrequest cannot be upgraded".to_vec(),
            Error::Body => b"the request body is being discarded".to_vec(),
            Error::NoMemory => b"no memory".to_vec(),
            Error::Hub(err) => err.to_string().into_bytes(),
            Error::Begun(Failed::Header) => {
                b"failed to send response header: nginx output filter error".to_vec()
            }
            Error::Begun(Failed::Flush) => {
                b"failed to flush response header: nginx output filter error".to_vec()
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

impl std::error::Error for Error {}
