//! What the transport can report, with ngx_lua's own texts: programs compare them.

use std::fmt;
use std::io;

use crate::NoMemory;

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
    /// There was no memory for what should be sent or was received.
    NoMemory,
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

impl From<NoMemory> for IoError {
    fn from(_: NoMemory) -> Self {
        IoError::NoMemory
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IoError::Timeout => f.write_str("timeout"),
            IoError::Closed => f.write_str("closed"),
            IoError::ClientAborted => f.write_str("client aborted"),
            IoError::BusyReading => f.write_str("socket busy reading"),
            IoError::NoMemory => f.write_str("no memory"),
            // As ngx_lua gives it: lower case, without the number.
            IoError::Errno(errno) => {
                let text = io::Error::from_raw_os_error(*errno).to_string();
                f.write_str(&text.split(" (os error").next().unwrap_or_default().to_lowercase())
            }
        }
    }
}

impl std::error::Error for IoError {}
