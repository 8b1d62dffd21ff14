//! How a broker is talked to, and for whom.

use std::fmt;
use std::rc::Rc;

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

/// Signs with a key that nobody sees.
#[derive(Clone)]
pub struct Signer {
    /// The public key, as the broker knows it.
    pub public: String,
    /// Signs; nothing: it could not.
    pub sign: Rc<Sign>,
}

/// See [`Signer`].
pub type Sign = dyn Fn(&[u8]) -> Option<[u8; 64]>;

impl Signer {
    /// One that signs like this.
    pub fn new(public: String, sign: impl Fn(&[u8]) -> Option<[u8; 64]> + 'static) -> Self {
        Self { public, sign: Rc::new(sign) }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

/// How we say who we are.
#[derive(Clone, Debug, Default)]
pub enum Login {
    /// By user and password, if there is one.
    #[default]
    Password,
    /// By a token (NATS).
    Token(Secret),
    /// By a key (NATS).
    Key(Signer),
    /// By a token that says whose key it is, and the key (NATS).
    Credentials(Secret, Signer),
}

/// The stream in which a JetStream keeps histories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Where it has to be made: on so many servers.
    pub replicas: u32,
    /// The most that any of its topics keeps: messages, and milliseconds.
    pub count: u32,
    /// See `count`.
    pub ttl: u64,
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
    /// How we say who we are.
    pub login: Login,
    /// The stream that keeps histories, at a NATS server.
    pub stream: Option<Stream>,
    /// TLS begins before the server has said anything (NATS).
    pub tls_first: bool,
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
            login: Login::default(),
            stream: None,
            tls_first: false,
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
