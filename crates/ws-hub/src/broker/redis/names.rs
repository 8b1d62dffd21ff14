//! What things are called at the server, behind the prefix.

use crate::broker::settings::Driver;
use crate::id::NodeId;

/// Before a topic's name: its channel, and that of its history.
pub const PLAIN: &[u8] = b"t:";
pub const KEPT: &[u8] = b"h:";

/// The names.
pub struct Names {
    /// What all begin with.
    pub prefix: Vec<u8>,
    /// This machine's channel.
    pub node: Vec<u8>,
    /// Every machine's.
    pub all: Vec<u8>,
    /// That of this machine's probe.
    pub probe: Vec<u8>,
}

impl Names {
    /// The names for this machine.
    pub fn new(prefix: &[u8], driver: &Driver) -> Self {
        let name = |rest: &str| [prefix, rest.as_bytes()].concat();
        Self {
            node: name(&format!("n:{:08x}", driver.node.0)),
            all: name("all"),
            probe: name(&format!("p:{:08x}", driver.node.0)),
            prefix: prefix.to_vec(),
        }
    }

    /// Those that are subscribed before any topic.
    pub fn own(&self) -> [&[u8]; 3] {
        [&self.node, &self.all, &self.probe]
    }

    /// Another machine's channel.
    pub fn of_node(&self, node: NodeId) -> Vec<u8> {
        [&self.prefix[..], format!("n:{:08x}", node.0).as_bytes()].concat()
    }
}
