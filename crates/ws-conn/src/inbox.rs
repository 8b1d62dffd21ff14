//! Items that came and that nobody has taken yet: messages, or frames. Bounded: a full inbox stops
//! the reading, and TCP slows the peer down.

use std::collections::VecDeque;

/// Items kept for a reader that does not come.
const ITEMS: usize = 64;
/// The same in bytes. A single larger item is kept all the same.
const BYTES: usize = 64 * 1024;

/// A received message or frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The last fragment of its message; of a message, true.
    pub fin: bool,
    /// One of `ws_proto::opcode`: of a message, text (and then valid UTF-8) or binary.
    pub opcode: u8,
    /// The payload: of a message, all fragments, inflated.
    pub data: Vec<u8>,
}

/// Owned by one connection; without memory while it is empty.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    #[allow(
        clippy::box_collection,
        reason = "a pointer instead of four words, nearly always null"
    )]
    items: Option<Box<VecDeque<Item>>>,
    bytes: usize,
}

impl Inbox {
    pub fn is_empty(&self) -> bool {
        self.items.is_none()
    }

    pub fn is_full(&self) -> bool {
        self.bytes >= BYTES || self.items.as_ref().is_some_and(|items| items.len() >= ITEMS)
    }

    pub fn push(&mut self, item: Item) {
        self.bytes += item.data.len();
        self.items.get_or_insert_default().push_back(item);
    }

    pub fn pop(&mut self) -> Option<Item> {
        let items = self.items.as_mut()?;
        let item = items.pop_front();
        if items.is_empty() {
            self.items = None;
        }
        self.bytes -= item.as_ref().map_or(0, |item| item.data.len());
        item
    }
}
