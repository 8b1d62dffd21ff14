//! What things are called at the server, behind the prefix: a kind of two bytes and a topic. In a
//! Cluster there is the topic's tag between the two, `{tag}:`, and what is called by a name is
//! subscribed and published by the commands for shards.

use std::rc::Rc;

use super::slots::{tag_of, Tag, Tags};
use crate::broker::settings::Driver;
use crate::id::NodeId;

/// Before a topic's name: its channel, and that of its history.
pub const PLAIN: &[u8] = b"t:";
pub const KEPT: &[u8] = b"h:";
/// In a Cluster, before a machine's name, and before nothing: the channel of every machine.
const NODE: &[u8] = b"n:";
const ALL: &[u8] = b"a:";
const KIND: usize = PLAIN.len();

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
    own: NodeId,
    /// In a Cluster.
    tags: Option<Rc<Tags>>,
    /// The commands.
    pub subscribe: &'static [u8],
    pub unsubscribe: &'static [u8],
    pub publish: &'static [u8],
}

impl Names {
    /// The names for this machine, at one server, or in a Cluster.
    pub fn new(prefix: &[u8], driver: &Driver, tags: Option<Rc<Tags>>) -> Self {
        let [subscribe, unsubscribe, publish]: [&[u8]; 3] = match tags {
            None => [b"SUBSCRIBE", b"UNSUBSCRIBE", b"PUBLISH"],
            Some(_) => [b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"SPUBLISH"],
        };
        let mut names = Self {
            probe: [prefix, format!("p:{:08x}", driver.node.0).as_bytes()].concat(),
            prefix: prefix.to_vec(),
            node: Vec::new(),
            all: Vec::new(),
            own: driver.node,
            tags,
            subscribe,
            unsubscribe,
            publish,
        };
        names.node = names.of_node(driver.node);
        names.all = match names.tags {
            None => [prefix, b"all"].concat(),
            Some(_) => [prefix, &names.name(ALL, b"")[..]].concat(),
        };
        names
    }

    /// Whether they are a Cluster's.
    pub fn are_sharded(&self) -> bool {
        self.tags.is_some()
    }

    /// The channels that are subscribed before any topic. In a Cluster the others are wherever
    /// their slots are: see `shared`.
    pub fn own(&self) -> Vec<&[u8]> {
        match self.tags {
            None => vec![&self.node, &self.all, &self.probe],
            Some(_) => vec![&self.probe],
        }
    }

    /// In a Cluster: this machine's channel and every machine's, as names, and their tags.
    pub fn shared(&self) -> [(Vec<u8>, Tag); 2] {
        let of = |channel: &[u8]| channel[self.prefix.len()..].to_vec();
        [(of(&self.node), tag_to(Some(self.own))), (of(&self.all), tag_to(None))]
    }

    /// What stands between a kind and a topic.
    pub fn mark(&self, topic: &[u8]) -> Vec<u8> {
        match &self.tags {
            None => Vec::new(),
            Some(tags) => [b"{", tags.text(tag_of(topic)), b"}:"].concat(),
        }
    }

    /// A name, without the prefix.
    pub fn name(&self, kind: &[u8], topic: &[u8]) -> Vec<u8> {
        [kind, &self.mark(topic)[..], topic].concat()
    }

    /// Another machine's channel.
    pub fn of_node(&self, node: NodeId) -> Vec<u8> {
        [&self.prefix[..], &self.name(NODE, &node_text(node))].concat()
    }

    /// Whether one command may be about both names.
    pub fn are_together(&self, one: &[u8], other: &[u8]) -> bool {
        let marked = |name: &'_ [u8]| name.iter().position(|&byte| byte == b'}').unwrap_or(KIND);
        self.tags.is_none() || one[KIND..marked(one)] == other[KIND..marked(other)]
    }

    /// The kind and the topic of a name; nothing: it is none of a topic.
    pub fn topic<'n>(&self, name: &'n [u8]) -> Option<(&'n [u8], &'n [u8])> {
        let (kind, rest) = name.split_at_checked(KIND)?;
        if kind != PLAIN && kind != KEPT {
            return None;
        }
        let topic = match self.tags {
            None => rest,
            Some(_) => {
                let end = rest.windows(2).position(|two| two == b"}:")?;
                rest.strip_prefix(b"{").map(|_| &rest[end + 2..])?
            }
        };
        Some((kind, topic))
    }
}

/// The tag of a machine's channel, or of that of all.
pub fn tag_to(node: Option<NodeId>) -> Tag {
    node.map_or(tag_of(b""), |node| tag_of(&node_text(node)))
}

fn node_text(node: NodeId) -> Vec<u8> {
    format!("{:08x}", node.0).into_bytes()
}
