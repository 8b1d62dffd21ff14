//! What was asked of the server and is not answered yet, in order.

use std::rc::Rc;

use super::history::Op;

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
    /// PUBLISH of a message; bytes of the command.
    Message(usize),
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
    /// UNSUBSCRIBE of topics, answered alike.
    Unsubscribe(Vec<Rc<[u8]>>),
}

impl Asked {
    /// Whether it is about topics.
    pub fn is_batch(&self) -> bool {
        matches!(self.what, What::Subscribe(_) | What::Unsubscribe(_))
    }
}
