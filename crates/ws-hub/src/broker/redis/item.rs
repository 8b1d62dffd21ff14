//! What waits to be sent, and to which server of a Cluster it belongs.

use super::history::{Op, Todo};
use super::slots::{tag_of, Tag};

/// What waits to be sent.
#[derive(Debug)]
pub enum Item {
    /// A message.
    Message(Message),
    /// Something about a history.
    Op(Op),
}

/// A message as it will be sent.
#[derive(Debug)]
pub struct Message {
    /// The command.
    pub bytes: Vec<u8>,
    /// The tag of its channel.
    pub tag: Tag,
    /// It waits until then at most.
    pub until: u64,
}

impl Item {
    /// The tag of the names that it is about.
    pub fn tag(&self) -> Tag {
        match self {
            Self::Message(message) => message.tag,
            Self::Op(op) => tag_of(&op.topic),
        }
    }

    /// Bytes of it, as it is queued.
    pub fn len(&self) -> usize {
        match self {
            Self::Message(message) => message.bytes.len(),
            Self::Op(op) => op.len,
        }
    }

    /// It waits until then at most.
    pub fn waits_until(&self) -> u64 {
        match self {
            Self::Message(message) => message.until,
            Self::Op(op) => op.until,
        }
    }

    /// The connection that it has been sent by is gone: all is as before, and it waits until then.
    pub fn begin_anew(&mut self, until: u64) {
        match self {
            Self::Message(message) => message.until = until,
            Self::Op(op) => {
                (op.certain, op.asking, op.kin, op.until) = (false, false, None, until);
            }
        }
    }

    /// How many messages.
    pub fn messages(&self) -> usize {
        match self {
            Self::Message(_) => 1,
            Self::Op(op) => op.messages(),
        }
    }

    /// Whether it only reads.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Op(Op { todo: Todo::Read { .. }, .. }))
    }
}
