//! The two ends of a connection (RFC 6455 5.1).

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Accepted the connection; sends unmasked.
    Server,
    /// Opened it; sends masked.
    Client,
}
