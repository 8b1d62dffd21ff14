//! How a broker is talked to, and for whom.

use std::fmt;

use crate::id::NodeId;

/// What somebody must not see: it prints as nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(
    /// The secret.
    pub Vec<u8>,
);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// How a broker is talked to, beside where it is. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its user; empty for the default one.
    pub user: Vec<u8>,
    /// Its password; empty for none.
    pub password: Secret,
    /// The user and the password of its Sentinels, likewise.
    pub sentinel_user: Vec<u8>,
    /// See `sentinel_user`.
    pub sentinel_password: Secret,
    /// What all names there begin with.
    pub prefix: Vec<u8>,
    /// A connection must be there by then.
    pub connect_timeout: u64,
    /// An answer must be there by then.
    pub command_timeout: u64,
    /// So often the way of a message is tried.
    pub probe: u64,
    /// At most so long it is left alone before it is tried again.
    pub reconnect: u64,
    /// Bytes that may wait for it.
    pub queue: usize,
    /// How long they may.
    pub retry: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            user: Vec::new(),
            password: Secret::default(),
            sentinel_user: Vec::new(),
            sentinel_password: Secret::default(),
            prefix: b"ws:".to_vec(),
            connect_timeout: 2000,
            command_timeout: 5000,
            probe: 10_000,
            reconnect: 10_000,
            queue: 4 << 20,
            retry: 2000,
        }
    }
}

/// Who drives a broker.
#[derive(Clone, Copy, Debug)]
pub struct Driver {
    /// The machine.
    pub node: NodeId,
    /// The largest message it takes.
    pub max_message: usize,
    /// Some topics have histories at the broker.
    pub keeps: bool,
    /// A number that no other machine's has, from the system's generator.
    pub seed: u64,
}
