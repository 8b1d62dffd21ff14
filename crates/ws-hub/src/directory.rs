//! Which workers exist, what each listens for, and whom a publisher must wake. A worker takes a
//! row when it starts, whatever nginx's number for it is (process slots run to 1024, and the old
//! generation keeps its own while it drains; rows are only as many as live at a time). Everything
//! here survives a worker that is killed anywhere: a row is one compare-and-swap, its bits are
//! cleared by whoever takes it next, and stale bits or signals cost a needless wake-up at most.
//!
//! # Waking
//! A row has one signal word, so that a burst costs its readers few wake-ups: how many drains the
//! worker has begun, and one bit that says that it has been woken for the next one. Publisher:
//! message into the ring, full fence, look at the signal; without the bit it wakes the worker and
//! only then sets the bit, unless the worker has begun a drain meanwhile. Worker: next number
//! without the bit, full fence, read the ring until it is empty.
//!
//! * Of the two fences one comes first: if the worker's, the publisher finds the new number
//!   without the bit and wakes it; if the publisher's, the worker finds the message.
//! * The bit is never set before a wake-up for that number is under way, so nobody who is killed
//!   anywhere leaves a worker deaf. The price: publishers that meet between look and bit each
//!   wake it, and all but one of those wake-ups find nothing.
//! * Who is killed between ring and wake-up leaves a message that nobody was woken for; it is
//!   read at the next wake-up. A new worker wakes all others once ([`Directory::others`]; the
//!   master starts one for the one that died), and every eighth of the ring wakes all.
//! * A killed worker leaves its bit set: [`Directory::join`] begins a drain, and the new worker
//!   reads the ring once unasked.
//!
//! # Interest
//! A Bloom filter of topics with two hashes, turned round: a bucket holds one bit for each row, so
//! a publisher reads two words (for 64 rows) and not one filter for each worker. How many topics
//! stand behind a bit is counted in the owner's own memory ([`Interest`]); false positives wake
//! a worker for nothing. With 65536 buckets (a zone of 8 MB) a worker of 1000 topics is woken
//! wrongly by 0.1 % of the others' messages, one of 10 000 topics by 7 %.

use std::fmt;

use crate::envelope::Origin;
use crate::id::{ConnId, NodeId, GENERATION_BITS};
use crate::memory::{fence, Ordering, Word};
use crate::target::{Target, TopicHash};

/// Words of a row: one cache line.
pub(crate) const ROW_WORDS: usize = 8;
const AT_OWNER: usize = 0;
const AT_SIGNAL: usize = 1;
/// In a signal word: somebody has woken the worker since it last began a drain.
const WOKEN: u64 = 1;
/// What one drain adds to it.
const DRAIN: u64 = 2;

/// The table of workers in a zone. A copy is a second handle on the same memory.
#[derive(Clone, Copy)]
pub struct Directory<'m> {
    node: NodeId,
    rows: &'m [Word],
    /// For each bucket `rows / 64` words.
    interest: &'m [Word],
}

/// A worker's place. Only [`Directory::join`] makes one; it is good until `leave`, or the
/// worker's death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    node: NodeId,
    row: u16,
    owner: Owner,
}

/// Whose connection an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// That of the worker in this row.
    Here(u16),
    /// Another machine's.
    There(NodeId),
    /// Nobody's any more: its worker is gone.
    Gone,
}

impl Seat {
    /// Its row: the writer of its messages, the place of its counters.
    pub fn row(&self) -> u16 {
        self.row
    }

    /// How often the row was taken before.
    pub fn generation(&self) -> u16 {
        self.owner.generation
    }

    /// This worker, for those who get its messages.
    pub fn origin(&self) -> Origin {
        Origin { node: self.node, row: self.row, generation: self.owner.generation }
    }

    /// An id for a connection of this worker; `random` from the operating system's generator.
    pub fn conn_id(&self, random: [u8; 9]) -> ConnId {
        ConnId::new(self.node, self.row, self.owner.generation, random)
    }
}

/// Who has a row, as one word: process id, generation, nginx's slot counted from 1 (0: nobody).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    pid: u32,
    generation: u16,
    slot: Option<u16>,
}

impl Owner {
    fn load(word: &Word) -> Self {
        let bits = word.load(Ordering::Acquire);
        Self {
            pid: (bits >> 32) as u32,
            generation: (bits >> 16) as u16,
            slot: (bits as u16).checked_sub(1),
        }
    }

    fn bits(self) -> u64 {
        let slot = self.slot.map_or(0, |slot| slot + 1);
        u64::from(self.pid) << 32 | u64::from(self.generation) << 16 | u64::from(slot)
    }

    fn swap(word: &Word, old: Self, new: Self) -> bool {
        word.compare_exchange(old.bits(), new.bits(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn vacated(self) -> Self {
        Self { pid: 0, generation: self.generation, slot: None }
    }
}

impl<'m> Directory<'m> {
    /// The lengths are the zone's business: whole rows, a multiple of 64 of them, and a power of
    /// two of buckets.
    pub(crate) fn new(node: NodeId, rows: &'m [Word], interest: &'m [Word]) -> Self {
        Self { node, rows, interest }
    }

    /// The node whose workers these are.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// How many rows there are.
    pub fn capacity(&self) -> u16 {
        (self.rows.len() / ROW_WORDS) as u16
    }

    /// Takes a row for the worker in nginx's process slot `slot`: the one of its predecessor in
    /// that slot (nginx gives a slot away only once its process is gone), a free one, or one whose
    /// process is gone by `is_alive` (a process that one may not signal, EPERM, is alive). The
    /// row's interest is reset and a drain begun.
    pub fn join(
        &self,
        slot: u16,
        pid: u32,
        is_alive: impl Fn(u32) -> bool,
    ) -> Result<Seat, DirectoryError> {
        // In this order of preference. A race for a free row is lost to another slot's worker,
        // hence the second and third look at the rest.
        let ours = |owner: Owner| owner.slot == Some(slot);
        let free = |owner: Owner| owner.slot.is_none();
        let dead = |owner: Owner| owner.slot.is_some() && !is_alive(owner.pid);
        let choices: [&dyn Fn(Owner) -> bool; 3] = [&ours, &free, &dead];
        for choice in choices {
            for row in 0..self.capacity() {
                let word = self.word(row, AT_OWNER);
                let old = Owner::load(word);
                if !choice(old) {
                    continue;
                }
                let generation = (old.generation + 1) % (1 << GENERATION_BITS);
                let owner = Owner { pid, generation, slot: Some(slot) };
                if Owner::swap(word, old, owner) {
                    let seat = Seat { node: self.node, row, owner };
                    self.clear_interest(row);
                    self.begin_drain(&seat);
                    return Ok(seat);
                }
            }
        }
        Err(DirectoryError::Full)
    }

    /// Gives the row back. False if somebody else has it by now.
    pub fn leave(&self, seat: &Seat) -> bool {
        if !self.holds(seat) {
            return false;
        }
        self.clear_interest(seat.row);
        Owner::swap(self.word(seat.row, AT_OWNER), seat.owner, seat.owner.vacated())
    }

    /// Frees the rows of processes that are gone, and says how many.
    pub fn free_dead(&self, is_alive: impl Fn(u32) -> bool) -> usize {
        let mut freed = 0;
        for row in 0..self.capacity() {
            let word = self.word(row, AT_OWNER);
            let old = Owner::load(word);
            if old.slot.is_some() && !is_alive(old.pid) {
                freed += usize::from(Owner::swap(word, old, old.vacated()));
            }
        }
        freed
    }

    /// nginx's process slot of the worker in `row`, and its process id.
    pub fn worker(&self, row: u16) -> Option<(u16, u32)> {
        let owner = Owner::load(self.get(row)?);
        Some((owner.slot?, owner.pid))
    }

    /// The generation of the worker in `row`.
    pub(crate) fn generation(&self, row: u16) -> Option<u16> {
        let owner = Owner::load(self.get(row)?);
        owner.slot.map(|_| owner.generation)
    }

    /// How many workers have gone, in whatever way; good for seeing whether it has changed.
    pub fn departures(&self) -> u64 {
        let owners = (0..self.capacity()).map(|row| Owner::load(self.word(row, AT_OWNER)));
        let of =
            |owner: Owner| u64::from(owner.generation).wrapping_sub(owner.slot.is_some().into());
        owners.map(of).fold(0, u64::wrapping_add)
    }

    /// The rows that are taken.
    pub fn joined(self) -> impl Iterator<Item = u16> + 'm {
        (0..self.capacity()).filter(move |&row| self.worker(row).is_some())
    }

    /// The rows of all workers but `from`: a worker that has joined wakes them.
    pub fn others(self, from: u16) -> impl Iterator<Item = u16> + 'm {
        self.joined().filter(move |&row| row != from)
    }

    /// Whose connection this is: a worker's that is still the one that accepted it, or another
    /// machine's.
    pub fn owner_of(&self, id: &ConnId) -> Whose {
        if id.node() != self.node {
            return Whose::There(id.node());
        }
        let owner = self.get(id.row()).map(Owner::load);
        let is_its = |owner: Owner| owner.slot.is_some() && owner.generation == id.generation();
        if owner.is_some_and(is_its) {
            Whose::Here(id.row())
        } else {
            Whose::Gone
        }
    }

    /// Wakes whoever may want a message that `from` has just published and has not been woken
    /// already; with [`crate::ring::Published::wake_all`] everybody, already woken or not.
    /// `knock` wakes the worker in a row; it must not fail silently.
    pub fn wake(&self, target: Target, wake_all: bool, from: u16, mut knock: impl FnMut(u16)) {
        let target = if wake_all { Target::All } else { target };
        for row in self.rows_to_wake(target, from) {
            self.signal(row, wake_all, &mut knock);
        }
    }

    /// The rows whose workers may want a message, but never `from`.
    pub fn rows_to_wake(self, target: Target, from: u16) -> impl Iterator<Item = u16> + 'm {
        // The message before the question who wants it, see Interest::add.
        fence(Ordering::SeqCst);
        (0..usize::from(self.capacity() / 64))
            .flat_map(move |n| {
                let mut bits = match target {
                    Target::All => u64::MAX,
                    Target::Topic(topic) => {
                        let [one, two] = self.buckets(topic);
                        self.bits(one, n) & self.bits(two, n)
                    }
                    Target::Row(row) if usize::from(row) / 64 == n => 1 << (row % 64),
                    Target::Row(_) => 0,
                };
                if usize::from(from) / 64 == n {
                    bits &= !(1 << (from % 64));
                }
                std::iter::from_fn(move || {
                    let bit = bits.checked_ilog2()?;
                    bits ^= 1 << bit;
                    Some((n * 64) as u16 + bit as u16)
                })
            })
            .filter(move |&row| self.worker(row).is_some())
    }

    /// Has `knock` wake the worker in `row`, unless that has been done since its last drain began
    /// (or in any case, with `always`).
    fn signal(&self, row: u16, always: bool, knock: &mut impl FnMut(u16)) {
        fence(Ordering::SeqCst);
        let signal = self.word(row, AT_SIGNAL);
        let seen = signal.load(Ordering::Relaxed);
        if seen & WOKEN != 0 && !always {
            return;
        }
        knock(row);
        // A failure means that the worker drains, or that somebody else has woken it too.
        let _ = signal.compare_exchange(seen, seen | WOKEN, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The worker is about to read the ring until it is empty; whoever publishes from now on
    /// wakes it again. Its wake-up must have been emptied before, not after.
    pub fn begin_drain(&self, seat: &Seat) {
        let signal = self.word(seat.row, AT_SIGNAL);
        // The number is this worker's alone; what others may add meanwhile is the bit that goes.
        let drains = signal.load(Ordering::Relaxed) & !WOKEN;
        signal.store(drains.wrapping_add(DRAIN), Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Whether the row is still this worker's.
    pub(crate) fn holds(&self, seat: &Seat) -> bool {
        Owner::load(self.word(seat.row, AT_OWNER)) == seat.owner
    }

    fn word(&self, row: u16, at: usize) -> &'m Word {
        &self.rows[usize::from(row) * ROW_WORDS + at]
    }

    /// The owner's word of a row that may not exist.
    fn get(&self, row: u16) -> Option<&'m Word> {
        self.rows.get(usize::from(row) * ROW_WORDS + AT_OWNER)
    }

    fn buckets(&self, topic: TopicHash) -> [usize; 2] {
        let buckets = self.interest.len() / usize::from(self.capacity() / 64);
        [topic.0 as usize & (buckets - 1), (topic.0 >> 32) as usize & (buckets - 1)]
    }

    /// Word `n` of a bucket: rows 64 n to 64 n + 63.
    fn bits(&self, bucket: usize, n: usize) -> u64 {
        self.interest[bucket * usize::from(self.capacity() / 64) + n].load(Ordering::Acquire)
    }

    fn set_bit(&self, bucket: usize, row: u16, on: bool) {
        let words = usize::from(self.capacity() / 64);
        let word = &self.interest[bucket * words + usize::from(row / 64)];
        let bit = 1 << (row % 64);
        if on {
            word.fetch_or(bit, Ordering::AcqRel);
        } else if word.load(Ordering::Relaxed) & bit != 0 {
            word.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    fn clear_interest(&self, row: u16) {
        for bucket in 0..self.interest.len() / usize::from(self.capacity() / 64) {
            self.set_bit(bucket, row, false);
        }
    }
}

/// What this worker listens for: the owner of its row's bits. It lives in the worker's own memory
/// and counts the topics behind each bit, two bytes a bucket.
pub struct Interest<'m> {
    directory: Directory<'m>,
    row: u16,
    /// One that reaches its maximum stays there, and its bit stays set.
    counts: Vec<u16>,
}

impl<'m> Interest<'m> {
    /// No interest in anything yet. One for each seat.
    pub fn new(directory: Directory<'m>, seat: &Seat) -> Self {
        let buckets = directory.interest.len() / usize::from(directory.capacity() / 64);
        Self { directory, row: seat.row, counts: vec![0; buckets] }
    }

    /// A topic has its first subscriber here. Whoever publishes to it and does not yet wake this
    /// worker has published before: a drain after this call finds the message, so drain, and only
    /// then subscribe.
    pub fn add(&mut self, topic: TopicHash) {
        for bucket in self.directory.buckets(topic) {
            let count = &mut self.counts[bucket];
            *count = count.saturating_add(1);
            if *count == 1 {
                self.directory.set_bit(bucket, self.row, true);
            }
        }
        fence(Ordering::SeqCst);
    }

    /// A topic has lost its last subscriber here; one call for each [`Interest::add`].
    pub fn remove(&mut self, topic: TopicHash) {
        for bucket in self.directory.buckets(topic) {
            let count = &mut self.counts[bucket];
            if matches!(*count, 0 | u16::MAX) {
                continue;
            }
            *count -= 1;
            if *count == 0 {
                self.directory.set_bit(bucket, self.row, false);
            }
        }
    }

    /// Whether this worker may want a message; for [`crate::ring::Reader::read_if`].
    pub fn wants(&self, target: Target) -> bool {
        match target {
            Target::All => true,
            Target::Row(row) => row == self.row,
            Target::Topic(topic) => {
                self.directory.buckets(topic).iter().all(|&bucket| self.counts[bucket] > 0)
            }
        }
    }
}

/// Why a worker has no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryError {
    /// Every row belongs to a living process.
    Full,
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "more workers than the zone has rows",
        })
    }
}

impl std::error::Error for DirectoryError {}
