//! What the transport can report, with ngx_lua's own texts: programs compare them.

use std::fmt;

use crate::ngx::errno;

/// A failed read or write, as cosockets name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoError {
    /// Nothing happened for the time allowed.
    Timeout,
    /// The peer ended the stream, or nginx is shutting the worker down.
    Closed,
    /// The peer ended the stream, under `lua_check_client_abort on`.
    ClientAborted,
    /// Another light thread is reading.
    BusyReading,
    /// An error of the operating system, as errno.
    Errno(i32),
}

impl IoError {
    /// From the errno of a failed call; 0, which TLS leaves, counts as closed.
    pub fn from_errno(errno: i32) -> IoError {
        if errno == 0 {
            IoError::Closed
        } else {
            IoError::Errno(errno)
        }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IoError::Timeout => f.write_str("timeout"),
            IoError::Closed => f.write_str("closed"),
            IoError::ClientAborted => f.write_str("client aborted"),
            IoError::BusyReading => f.write_str("socket busy reading"),
            IoError::Errno(errno) => f.write_str(&errno::text(*errno)),
        }
    }
}

impl std::error::Error for IoError {}
