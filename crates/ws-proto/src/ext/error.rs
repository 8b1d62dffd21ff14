//! Why a server's extensions are refused.

use std::fmt;

/// Why a server's answer is not one to our offer (RFC 6455 4.1, RFC 7692 5.1): the connection
/// has to be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not of the header's grammar.
    Malformed,
    /// An extension that was not offered.
    NotOffered,
    /// More than one extension for the same bit.
    Several,
    /// A parameter that the extension does not have, or has only in offers.
    UnknownParameter,
    /// The same parameter twice.
    RepeatedParameter,
    /// A value that the named parameter cannot have, or that exceeds the offered one.
    BadValue(&'static str),
    /// What was asked for by the named parameter is not granted.
    NotGranted(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("malformed extensions"),
            Self::NotOffered => f.write_str("extension was not offered"),
            Self::Several => f.write_str("more than one extension"),
            Self::UnknownParameter => f.write_str("unknown extension parameter"),
            Self::RepeatedParameter => f.write_str("repeated extension parameter"),
            Self::BadValue(name) => write!(f, "bad value of extension parameter {name}"),
            Self::NotGranted(name) => write!(f, "extension parameter {name} not granted"),
        }
    }
}

impl std::error::Error for Error {}
