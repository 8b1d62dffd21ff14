//! A history that is being read from the stream: what has come of it, in the order of sequences.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;

use super::api::DROPPED;
use super::wire::header;
use crate::broker::incoming::check_stored;
use crate::broker::seam::{Page, Stored};
use crate::history::Position;

/// Bytes of a piece of a history, before its last message, and messages.
pub const PIECE: usize = 256 * 1024;
pub const MESSAGES: usize = 1024;

/// A history that is being read.
pub struct Read {
    pub topic: Rc<[u8]>,
    pub since: Position,
    /// The newest one there is.
    pub top: u64,
    /// What has come live; and up to where more has that there was no room for.
    pub live: Vec<Stored>,
    pub newer: u64,
    /// The message that is to be the first.
    pub expected: Option<u64>,
    /// The last one that came; 0 for none.
    pub last: u64,
    pub page: Page,
    /// Messages and bytes that were read, and bytes that have come live.
    pub taken: usize,
    pub bytes: usize,
    pub live_bytes: usize,
    /// The offset before the next one.
    pub before: u64,
    /// One by one, from the leader.
    pub slowly: bool,
    /// What was read is of no use: it begins anew.
    pub again: bool,
}

/// Histories that are being read, by number, and those that are to be.
#[derive(Default)]
pub struct Reads {
    pub now: HashMap<u64, Read>,
    pub waiting: VecDeque<(Rc<[u8]>, Position)>,
    pub last: u64,
}

impl Reads {
    /// Those under way.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Read> {
        self.now.values_mut()
    }

    /// The one of a topic.
    pub fn of(&mut self, topic: &[u8]) -> Option<&mut Read> {
        self.now.values_mut().find(|read| *read.topic == *topic)
    }

    pub fn clear(&mut self) {
        self.now.clear();
        self.waiting.clear();
    }
}

impl Read {
    /// Takes a message, in the order of sequences.
    pub fn take(&mut self, sequence: u64, time: u64, headers: &[u8], bytes: Bytes) -> bool {
        self.taken += 1;
        if sequence <= self.last {
            return true;
        }
        if self.last == 0 {
            let is_served = self.expected == Some(sequence);
            self.before = if is_served { sequence } else { sequence - 1 };
            self.page.after = self.before;
            if is_served {
                self.last = sequence;
                return true;
            }
        }
        self.last = sequence;
        self.bytes += bytes.len();
        if header(headers, DROPPED).is_some() {
            self.page.messages.clear();
            (self.page.after, self.before) = (sequence, sequence);
            return true;
        }
        if check_stored(&self.topic, &bytes).is_err() {
            return false;
        }
        let before = std::mem::replace(&mut self.before, sequence);
        self.page.messages.push(Stored { offset: sequence, before, time, bytes });
        true
    }

    /// Takes a message that has come live.
    pub fn take_live(&mut self, message: Stored) {
        self.live_bytes += message.bytes.len();
        if self.newer > 0 || self.is_full() {
            self.newer = message.offset;
            return;
        }
        self.live.push(message);
    }

    pub fn is_full(&self) -> bool {
        let bytes = self.bytes + self.live_bytes;
        bytes >= PIECE || self.taken + self.live.len() >= MESSAGES
    }

    /// Whether all has come that is asked for at once: no server sends more.
    pub fn is_whole(&self) -> bool {
        self.bytes >= PIECE || self.taken >= MESSAGES
    }

    /// The piece ends here.
    pub fn end(&mut self) {
        self.page.more = !self.is_done();
        if self.page.more && self.page.messages.is_empty() {
            // None of it is fit to be told: the next piece begins behind it.
            self.page.after = self.last;
        }
    }

    /// Whether there is nothing more than has come.
    pub fn is_done(&self) -> bool {
        self.last >= self.top.max(self.newer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unfit_at_the_begin_is_passed_over_for_good() {
        let page = Page { top: Position::NOWHERE, after: 0, messages: Vec::new(), more: false };
        let mut read = Read {
            topic: b"a"[..].into(),
            since: Position::NOWHERE,
            top: 3000,
            live: Vec::new(),
            newer: 0,
            expected: None,
            last: 0,
            page,
            taken: 0,
            bytes: 0,
            live_bytes: 0,
            before: 0,
            slowly: false,
            again: false,
        };
        for sequence in 1..=MESSAGES as u64 {
            assert!(!read.take(sequence, 1, b"", Bytes::new()));
        }
        assert!(read.is_whole() && !read.is_done());
        read.end();
        assert_eq!((read.page.after, read.page.more), (1024, true), "the next piece begins there");
    }
}
