//! What was asked of the server and is not answered yet. Each question has a number, which is in the
//! subject that its answer comes to; a PONG answers all that was sent before its PING.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// A message for a history.
pub struct Kept {
    pub topic: Rc<[u8]>,
    pub message: Vec<u8>,
    pub key: Option<Box<[u8]>>,
    pub ticket: u64,
    /// It is sent no more after that.
    pub until: u64,
}

impl Kept {
    /// Bytes of it, as it is queued.
    pub fn len(&self) -> usize {
        self.message.len() + self.topic.len()
    }
}

/// A question.
pub enum What {
    /// A message is to be stored.
    Keep(Kept),
    /// The newest message of a history that is to be dropped.
    Newest(Rc<[u8]>, u64),
    /// That which stands for it from now on.
    Drop(u64),
    /// The stream; the newest sequence that had been seen then.
    Stream(u64),
    /// It is to be made, or to have another identity.
    Create,
    Renew,
    /// A history's newest message, for the read of this number.
    Top(u64),
    /// Its messages from some sequence on, several or one.
    Many(u64),
    One(u64),
}

impl What {
    /// A message for a history.
    pub fn kept(&self) -> Option<&Kept> {
        match self {
            Self::Keep(kept) => Some(kept),
            _ => None,
        }
    }
}

/// The questions, by number.
#[derive(Default)]
pub struct Questions {
    asked: BTreeMap<u64, (u64, What)>,
    last: u64,
}

impl Questions {
    /// A new one. Returns its number.
    pub fn add(&mut self, what: What, now: u64) -> u64 {
        self.last += 1;
        self.asked.insert(self.last, (now, what));
        self.last
    }

    /// One that is answered.
    pub fn take(&mut self, number: u64) -> Option<What> {
        self.asked.remove(&number).map(|(_, what)| what)
    }

    /// One that another part of its answer is awaited for.
    pub fn get(&self, number: u64) -> Option<&What> {
        self.asked.get(&number).map(|(_, what)| what)
    }

    /// When the oldest was asked.
    pub fn oldest(&self) -> Option<u64> {
        self.asked.first_key_value().map(|(_, (at, _))| *at)
    }

    /// One that was asked by then.
    pub fn take_older(&mut self, than: u64) -> Option<What> {
        let first = self.asked.first_entry().filter(|first| first.get().0 <= than)?;
        Some(first.remove().1)
    }

    /// Those that are like this.
    pub fn take_like(&mut self, like: impl Fn(&What) -> bool) -> Vec<What> {
        let found = self.asked.iter().filter(|(_, (_, what))| like(what));
        let numbers: Vec<u64> = found.map(|(number, _)| *number).collect();
        numbers.into_iter().filter_map(|number| self.take(number)).collect()
    }

    /// All, in their order.
    pub fn take_all(&mut self) -> Vec<What> {
        std::mem::take(&mut self.asked).into_values().map(|(_, what)| what).collect()
    }

    /// Whether one is like this.
    pub fn any(&self, like: impl Fn(&What) -> bool) -> bool {
        self.asked.values().any(|(_, what)| like(what))
    }
}

/// What a PONG says.
pub enum Before {
    /// We are let in.
    Greeting,
    /// These are subscribed, save for those that were denied.
    Subscribe(Vec<Rc<[u8]>>),
    /// These are no more.
    Unsubscribe(Vec<Rc<[u8]>>),
    /// So many messages of so many bytes have been taken.
    Messages(usize, usize),
}

impl Before {
    /// Whether it is about topics.
    pub fn is_batch(&self) -> bool {
        matches!(self, Self::Subscribe(_) | Self::Unsubscribe(_))
    }
}

/// PINGs that are under way, and when they were sent.
pub type Pings = VecDeque<(u64, Before)>;
