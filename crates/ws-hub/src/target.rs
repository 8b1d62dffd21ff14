//! Who a message in the ring is for, as far as a reader can tell without copying it: what ring and
//! directory both speak of.

use twox_hash::XxHash64;

/// A topic as workers compare it: the same in every process and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicHash(
    /// The hash itself.
    pub u64,
);

impl TopicHash {
    /// The hash of a topic.
    pub fn of(topic: &[u8]) -> Self {
        Self(XxHash64::oneshot(0, topic))
    }
}

/// Who needs to look at a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everybody.
    All,
    /// Whoever has subscribers of the topic with this hash.
    Topic(TopicHash),
    /// The worker in this row of the directory.
    Row(u16),
}
