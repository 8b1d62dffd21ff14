//! What was asked of the server and is not answered yet, in order.

use std::rc::Rc;

use super::history::Op;
use super::item::Message;

/// A command under way.
pub struct Asked {
    /// Which.
    pub what: What,
    /// When it was sent.
    pub at: u64,
    /// How many of its names have been answered for.
    pub done: usize,
}

/// Which command.
pub enum What {
    /// HELLO, answered by a map.
    Hello,
    /// SELECT.
    Select,
    /// ROLE, answered by an array that begins with the role.
    Role,
    /// PUBLISH of a message.
    Message(Message),
    /// INFO, for the replication id.
    Info,
    /// SCRIPT LOAD of one of the scripts.
    Load(usize),
    /// A script about a topic's history.
    Op(Op),
    /// PUBLISH of a word of our own.
    Word,
    /// SUBSCRIBE of this machine's channels.
    Own(Vec<Rc<[u8]>>),
    /// SUBSCRIBE of topics. One push for each name, in their order, or one error for all.
    Subscribe(Vec<Rc<[u8]>>),
    /// UNSUBSCRIBE of topics, answered alike. In a Cluster the server may say the same of its own
    /// accord, when a slot leaves it, and then answers by an error: PING behind it tells that it is done.
    Unsubscribe(Vec<Rc<[u8]>>),
    /// The same, which the server has refused.
    Stay(Vec<Rc<[u8]>>),
    /// In a Cluster: CLUSTER INFO, for whether it is whole.
    Whole,
    /// CLUSTER SLOTS.
    Map,
    /// ASKING, before a script.
    Asking,
}
