//! Where a server is, and what is wrong with an address.

use std::fmt;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// By name or address, and port.
    Tcp(
        /// The name or address; one of IPv6 without brackets.
        String,
        /// The port.
        u16,
    ),
    /// A unix socket.
    Unix(
        /// Its path.
        String,
    ),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// A host and its port, which may be missing; an address of IPv6 stands in brackets.
pub fn split_host(place: &str, default: u16) -> Result<Address, ServerError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(ServerError::NoHost)?,
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    if host.is_empty() {
        return Err(ServerError::NoHost);
    }
    let port = match port.strip_prefix(':') {
        Some(digits) => match digits.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(ServerError::Port),
        },
        None if port.is_empty() => default,
        None => return Err(ServerError::Port),
    };
    Ok(Address::Tcp(host.to_string(), port))
}

/// What is wrong with a server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerError {
    /// Nothing known speaks like that.
    Scheme(String),
    /// A user or password, which would be shown with it.
    Secret,
    /// No host, or no path.
    NoHost,
    /// No number, or one that is too large.
    Port,
    /// What follows the port is no number.
    Database,
    /// No name of a master behind its sentinels.
    Master,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(scheme) => write!(f, "unknown broker scheme \"{scheme}\""),
            Self::Secret => f.write_str("a user or password in the address of a broker"),
            Self::NoHost => f.write_str("no host in the address of a broker"),
            Self::Port => f.write_str("invalid port in the address of a broker"),
            Self::Master => f.write_str("no name of a master in the address of a broker"),
            Self::Database => f.write_str("invalid database in the address of a broker"),
        }
    }
}

impl std::error::Error for ServerError {}
