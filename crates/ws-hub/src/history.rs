//! Histories: what topics remember, in shared memory of its own, for all workers, over reloads
//! and over the death of any of them. The memory is the caller's, as the hub's zone is.
//!
//! # Use
//! * The process that maps the memory: [`History::attach`], or [`History::init`] if that finds
//!   nothing; then [`History::set_rules`]. Each worker attaches with its own [`Owner`].
//! * A worker keeps [`Rules`], calls [`History::refresh`] before it uses them, and asks them for a
//!   [`Topic`]: without one, a topic has no history and none of this is its business.
//! * publish: [`History::publish`], then tell the others that there is something;
//! * deliver: [`History::read`] from the subscriber's last position on, piece by piece;
//! * subscribe: [`History::position`], a [`Cursor`] for the client; [`History::set_subscribed`];
//! * now and then: [`History::sweep`].
//!
//! # One lock
//! One word is the lock of everything, held for a publish or a piece of a read: a microsecond, or
//! the time to copy a large message. Locks for each topic would not help much, because what makes
//! room for one message is another topic's; and a process may die with any lock it holds. So the
//! questions are what is found after that, and how long others wait (lock.rs: until the system
//! says that the owner is dead, no longer).
//!
//! # What is true and what is derived
//! *True*: the epoch of new topics; the rules; the chains of topics by hash; of each topic its
//! name, epoch, top offset and its records, in a list. Everything else is *derived* from that:
//! free cells, the order of use, the keys, the numbers.
//!
//! * The true words outside a topic change by one store each, after what they lead to was stored
//!   (release): a topic is in its chain or not, the old rules hold or the new ones.
//! * Before a topic is changed, its name is put beside the lock; a step changes two at most, the
//!   topic itself and one that makes room (lock.rs argues the order).
//! * Whoever takes a dead owner's lock repairs (repair.rs): topics under change go, and with them
//!   their epochs, so that their readers are told; what is derived is made anew.
//!
//! So SIGKILL at any instant costs at most the histories that were being written to, and a message
//! is either in its history, whole and with its offset, or its epoch is over. What a dead publisher
//! did store is found by whoever reads next, told or not.
//!
//! # Positions
//! An epoch says that offsets mean the same as before. New topics begin in the zone's epoch at
//! offset 0, which is also the position of a topic that was never published to: it needs no
//! memory. That position must not come back once messages were published: so the zone begins a
//! new epoch before it forgets any topic of the present one. A topic of an older epoch was there
//! all the time since, so nobody was told the new one of it.

use std::ops::Deref;

use crate::memory::Word;
use crate::topic::check_topic;

mod cells;
mod copy;
pub mod cursor;
mod keys;
pub(crate) mod lock;
mod parts;
mod publish;
pub mod read;
mod record;
mod repair;
mod row;
pub mod rules;
#[cfg(all(test, not(loom)))]
mod tests;
mod trim;
mod types;
mod used;

pub use copy::Placed;
pub use cursor::Cursor;
pub use read::{Batch, From, Gap, Limit, Page, Record};
pub use rules::{Rule, Rules};
pub use types::{
    HistoryError, Limits, Message, Owner, Position, Published, Stats, Topic, KEY_MS, MAX_KEY,
    POSITION_MS,
};

use cells::Cell;
use lock::Slot;
use parts::{Parts, EPOCH, EVICTED, FORGOTTEN, KILLED, TOPICS};

/// Buckets of topics that are swept in one go.
const SWEEP: usize = 64;

/// The histories of a zone. A copy is a second handle.
#[derive(Clone, Copy)]
pub struct History<'m> {
    parts: Parts<'m>,
    owner: Owner,
}

/// The lock, held.
struct Held<'m>(Parts<'m>);

impl<'m> Deref for Held<'m> {
    type Target = Parts<'m>;

    fn deref(&self) -> &Parts<'m> {
        &self.0
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock.abandon();
        } else {
            self.0.lock.give();
        }
    }
}

impl<'m> History<'m> {
    /// An empty zone of these words, whatever they held. Nobody else may use them meanwhile.
    pub fn init(words: &'m [Word], owner: Owner) -> Result<Self, HistoryError> {
        let parts = Parts::init(words, (owner.random)(), (owner.random)())?;
        Ok(Self { parts, owner })
    }

    /// The zone that `init` made of these words, with all that is in it; nothing if there is none
    /// of this version and size.
    pub fn attach(words: &'m [Word], owner: Owner) -> Option<Self> {
        Some(Self { parts: Parts::attach(words)?, owner })
    }

    fn hold(&self) -> Held<'m> {
        let is_stolen = self.parts.lock.take(self.owner.id, self.owner.is_alive);
        let held = Held(self.parts);
        if is_stolen {
            held.repair(self.owner.random);
        }
        held
    }

    /// Puts a message into its topic's history. It is there when this returns.
    pub fn publish(
        &self,
        topic: &Topic<'_>,
        message: &Message<'_>,
        now: u64,
    ) -> Result<Published, HistoryError> {
        check_topic(topic.name).map_err(HistoryError::Topic)?;
        if message.key.is_some_and(|key| key.is_empty() || key.len() > MAX_KEY) {
            return Err(HistoryError::Key);
        }
        self.hold().publish(topic, message, now, self.owner.random)
    }

    /// Begins a copy of a history that is kept elsewhere, anew: see copy.rs. Its next message is the
    /// one after `at`.
    pub fn begin_copy(
        &self,
        topic: &Topic<'_>,
        at: Position,
        now: u64,
    ) -> Result<(), HistoryError> {
        check_topic(topic.name).map_err(HistoryError::Topic)?;
        self.hold().begin_copy(topic, at, now, self.owner.random)
    }

    /// Appends to a copy the message that is at `at` there, after the one at `before`, if it follows
    /// on what the copy has. Its key is of no use in a copy.
    pub fn place(
        &self,
        topic: &Topic<'_>,
        at: Position,
        before: u64,
        time: u64,
        message: &Message<'_>,
    ) -> Result<Placed, HistoryError> {
        self.hold().place(topic, at, before, time, message, self.owner.random)
    }

    /// The caller's mark of a copy; 0: none was set, or there is no such topic.
    pub fn mark(&self, name: &[u8]) -> u32 {
        self.hold().mark(name)
    }

    /// Marks a copy.
    pub fn set_mark(&self, name: &[u8], mark: u32) {
        self.hold().set_mark(name, mark);
    }

    /// Reads one piece, at most [`read::PIECE_RECORDS`] and [`read::PIECE_BYTES`], into `out`.
    pub fn read(
        &self,
        topic: &Topic<'_>,
        from: From,
        limit: Limit,
        now: u64,
        out: &mut Batch,
    ) -> Result<Page, Gap> {
        out.clear();
        self.read_more(topic, from, limit, now, out)
    }

    fn read_more(
        &self,
        topic: &Topic<'_>,
        from: From,
        limit: Limit,
        now: u64,
        out: &mut Batch,
    ) -> Result<Page, Gap> {
        let limit = Limit {
            records: limit.records.min(read::PIECE_RECORDS),
            bytes: limit.bytes.min(read::PIECE_BYTES),
        };
        out.reserve();
        loop {
            let held = self.hold();
            let row = held.find(topic.name);
            if let Some(row) = row {
                if held.is_over(row, &topic.limits, now) {
                    held.lock.begin(Slot::Own, row);
                    let more = held.trim(row, &topic.limits, now);
                    held.lock.end(Slot::Own);
                    if more {
                        continue;
                    }
                }
                held.touch(row, held.is_busy(row));
            }
            return held.read(row, from, limit, out);
        }
    }

    /// Reads as many pieces as it takes. Where the history loses messages meanwhile, what came
    /// before stays, and the next read is told.
    pub fn read_all(
        &self,
        topic: &Topic<'_>,
        from: From,
        limit: Limit,
        now: u64,
        out: &mut Batch,
    ) -> Result<Page, Gap> {
        let mut page = self.read(topic, from, limit, now, out)?;
        while page.more {
            // A limit of 0 brings none.
            let Some(last) = out.len().checked_sub(1).and_then(|last| out.get(last)) else {
                break;
            };
            let at = Position { epoch: page.top.epoch, offset: last.offset };
            let left = Limit {
                records: limit.records - out.len(),
                bytes: limit.bytes.saturating_sub(out.bytes()),
            };
            if left.records == 0 || left.bytes == 0 {
                break;
            }
            let before = out.len();
            match self.read_more(topic, From::After(at), left, now, out) {
                Ok(next) => page = next,
                Err(_) => break,
            }
            if out.len() == before {
                break;
            }
        }
        Ok(page)
    }

    /// A topic's newest position. Costs nothing for a topic that was never published to.
    pub fn position(&self, name: &[u8]) -> Position {
        let held = self.hold();
        held.top(held.find(name))
    }

    /// Drops a history; its epoch is over. Whether there was one.
    pub fn forget(&self, name: &[u8]) -> bool {
        let held = self.hold();
        let Some(row) = held.find(name) else { return false };
        held.remove(row, Slot::Own, self.owner.random);
        held.set(FORGOTTEN, held.get(FORGOTTEN) + 1);
        true
    }

    /// Says whether a topic has subscribers, for the order in which topics go.
    pub fn set_subscribed(&self, name: &[u8], subscribed: bool) {
        let held = self.hold();
        if let Some(row) = held.find(name) {
            held.touch(row, subscribed);
        }
    }

    /// Removes what is too old from the next few topics, and frees some of what was removed;
    /// called now and then, it comes round to all of them.
    pub fn sweep(&self, now: u64) {
        let held = self.hold();
        (0..SWEEP).take_while(|_| held.free_grave()).for_each(drop);
        (0..SWEEP.min(held.topics.len())).for_each(|_| held.sweep(0, now, self.owner.random));
    }

    /// Sets the rules for all who use the zone, and drops the histories that no rule keeps now:
    /// what is published meanwhile would be missing if they came back.
    pub fn set_rules(&self, rules: &[Rule], now: u64) -> Result<(), HistoryError> {
        let bytes = rules::encode(rules).ok_or(HistoryError::Rules)?;
        let random = self.owner.random;
        self.hold().replace_rules(&bytes, now, random)?;
        let rules = Rules::new(0, rules.to_vec());
        self.remove_all(|_, _, name| rules.topic(name).is_none());
        Ok(())
    }

    /// Drops the copies of topics that are kept here from now on. What was published elsewhere is in no
    /// history of this zone's, so no position in one is good any more for who was told it before.
    pub fn drop_copies(&self, is_here: impl Fn(&[u8]) -> bool) {
        self.remove_all(|held, row, name| {
            let goes = held.is_copy(row) && is_here(name);
            if goes {
                held.commit(EPOCH, (self.owner.random)());
            }
            goes
        });
    }

    /// Removes the topics that `goes` says yes to, some at a time.
    fn remove_all(&self, mut goes: impl FnMut(&Held<'_>, Cell, &[u8]) -> bool) {
        let mut name = Vec::new();
        for buckets in self.parts.topics.chunks(SWEEP) {
            let held = self.hold();
            for bucket in buckets {
                held.remove_if(bucket, self.owner.random, |row| {
                    held.name(row, &mut name);
                    goes(&held, row, &name)
                });
            }
        }
    }

    /// Brings a copy of the rules up to date; whether they have changed. Costs one load if not.
    pub fn refresh(&self, rules: &mut Rules) -> bool {
        if self.parts.generation() == rules.generation {
            return false;
        }
        let mut bytes = Vec::new();
        let generation = {
            let held = self.hold();
            held.load_rules(&mut bytes);
            held.generation()
        };
        // Always readable: the zone's version is ours.
        *rules = Rules::new(generation, rules::decode(&bytes).unwrap_or_default());
        true
    }

    /// How full it is, without waiting for anybody.
    pub fn stats(&self) -> Stats {
        Stats {
            topics: self.parts.get(TOPICS),
            bytes: self.parts.used(),
            capacity: self.parts.capacity(),
            evicted: self.parts.get(EVICTED),
            forgotten: self.parts.get(FORGOTTEN),
            killed: self.parts.get(KILLED),
        }
    }
}
