//! The broadcast ring: any worker appends, every worker reads all of it with a cursor of its own.
//! Made by [`crate::Zone`], which owns the layout. Publishing never waits for anybody; a reader
//! that is too slow is overrun, and told how many messages it missed.
//!
//! # One ring, not one for each writer
//! A ring for each worker would make writers strangers to each other, but would cut the zone into
//! as many parts as there may be workers (64 in 8 MB: nothing above 128 KB could be published,
//! and one busy worker would overrun its readers while the rest of the zone lies idle), and a
//! reader would have to look into all of them. One ring gives every message the whole zone and a
//! global number. What it must get right is a writer that dies, or sleeps, in the middle.
//!
//! # Parts
//! *data*: words, addressed by positions that only grow (position modulo length). *tail*: the
//! next free position. *index*: one word for each of the last N messages: message `seq` stands in
//! `index[seq % N]`, as (lap of `seq`, offset of its record in data). *head*: the next `seq`, or
//! one less than that while somebody is between the two steps below. A record: position, seq,
//! length and writer, target, the hash of the payload, the hash of these five words; the payload.
//!
//! # Publishing
//! 1. `tail.fetch_add(words)`: the record's place. Whoever dies from here on leaves bytes that
//!    nothing points to. There is no hole that a reader could wait for.
//! 2. Write the record.
//! 3. Compare-and-swap of the index word, from the lap before to this one. This one step makes
//!    the message exist, and gives it its number: either all of it is there, or nothing. If
//!    somebody else was faster, take the next number and try again.
//! 4. `head` + 1. Whoever finds the index word set and `head` not yet moved moves it, so a death
//!    between 3 and 4 is mended by the next publisher; readers do not need `head`.
//!
//! # Reading
//! Message `next` is there when its index word has its lap; an older lap means that nothing is
//! there yet, a younger one that the index went round. Then the record is copied out and judged:
//! it counts only if the tail is not beyond one length after its position (seqlock), and both
//! hashes are right. Otherwise it is counted as lost, with all that lies in the older half of the
//! ring: a reader that went on at the very edge would be overtaken again by the next message.
//!
//! # Memory ordering
//! * Step 3 releases, the reader acquires the index word: the record's words are seen.
//! * A writer that overwrites: tail (relaxed), release fence, record's words (relaxed). A reader:
//!   words (relaxed), acquire fence, tail. If the reader saw any overwriting word, the fences
//!   make it see that writer's tail, and it drops the copy. So copies need no lock.
//! * A writer that slept in step 2 while the others wrote a whole length of the ring is the one
//!   case that the tail does not show: its late words fall into a younger record. It looks at the
//!   tail every 4 KB and before step 3, gives up its place when it was overtaken, and takes a new
//!   one; what it may have spoiled before it looked is caught by the hashes (64 bits, over
//!   position and seq too), and counted as lost like any overrun. Nothing torn is ever delivered.
//! * The lap in an index word has 32 bits: step 3 could only mistake laps if a writer slept
//!   through exactly 2^32 laps.
//! * Waking is not the ring's business; its ordering is argued in directory.rs.

use std::fmt;

use crate::memory::{fence, Ordering, Word, WORD};
use crate::target::Target;

mod record;
#[cfg(all(test, not(loom)))]
mod tests;

use record::{Head, HEAD_WORDS};

/// Places a publisher takes before it gives up, each overtaken by a whole ring of other messages.
const ATTEMPTS: usize = 4;
/// Into how many parts the ring is divided for waking everybody, see [`Published::wake_all`].
const WAKE_PARTS: u64 = 8;

/// The ring in a zone. A copy is a second handle on the same memory.
#[derive(Clone, Copy)]
pub struct Ring<'m> {
    head: &'m Word,
    tail: &'m Word,
    /// A power of two of them.
    index: &'m [Word],
    /// At most 2^32.
    data: &'m [Word],
}

/// A message that is in the ring now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number, one more than that of the message before it, whoever sent that.
    pub seq: u64,
    /// An eighth of the ring is full of messages again: wake every worker, interested or not.
    /// Otherwise a worker that nothing was meant for would lie so far behind that the ring went
    /// round, and would take for lost what it never wanted.
    pub wake_all: bool,
}

/// What is known of a message before its payload is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The row of the worker that published it.
    pub writer: u16,
    /// Its number.
    pub seq: u64,
    /// Whom it is for.
    pub target: Target,
    /// Bytes of its payload.
    pub len: usize,
}

/// The result of [`Reader::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The buffer holds a message.
    Message(Meta),
    /// Nothing more for now.
    Empty,
    /// So many messages were overwritten before they were read; the next call goes on after them.
    Overrun {
        /// How many.
        lost: u64,
    },
}

/// Why nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// Above [`Ring::max_message`].
    TooLarge,
    /// This process slept again and again while the others filled the whole ring.
    Overtaken,
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "message too large for the zone",
            Self::Overtaken => "zone overrun while publishing",
        })
    }
}

impl std::error::Error for RingError {}

enum Copied {
    Whole(Meta),
    Unwanted,
    Gone,
}

impl<'m> Ring<'m> {
    /// A ring over words that are zero, or that were a ring's of the same lengths before. Data
    /// alone may hold anything. Nothing, if the lengths are not a ring's.
    pub fn new(
        head: &'m Word,
        tail: &'m Word,
        index: &'m [Word],
        data: &'m [Word],
    ) -> Option<Self> {
        let fits = index.len().is_power_of_two()
            && data.len() >= 4 * HEAD_WORDS
            && u32::try_from(data.len()).is_ok();
        fits.then_some(Self { head, tail, index, data })
    }

    /// The largest payload: half of the ring, so that a reader of one message of that size is
    /// not overrun by the next.
    pub fn max_message(&self) -> usize {
        ((self.data.len() / 2 - HEAD_WORDS) * WORD).min(u32::MAX as usize)
    }

    /// How many messages the ring holds at most, however small they are.
    pub fn max_messages(&self) -> usize {
        self.index.len()
    }

    /// The number that the next message will have.
    pub fn end(&self) -> u64 {
        loop {
            let seq = self.head.load(Ordering::Acquire);
            if !self.is_committed(seq) {
                return seq;
            }
            self.advance(seq);
        }
    }

    /// Appends one message, the parts joined, in the name of the worker in row `writer`. Never
    /// waits. The caller then wakes whom [`crate::directory::Directory::wake`] names.
    pub fn publish(
        &self,
        writer: u16,
        target: Target,
        parts: &[&[u8]],
    ) -> Result<Published, RingError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > self.max_message() {
            return Err(RingError::TooLarge);
        }
        let words = (HEAD_WORDS + len.div_ceil(WORD)) as u64;
        let hash = record::hash(parts);
        for _ in 0..ATTEMPTS {
            let position = self.tail.fetch_add(words, Ordering::Relaxed);
            fence(Ordering::Release);
            let payload = self.offset(position + HEAD_WORDS as u64);
            if !record::store(self.data, payload, parts, || !self.is_lapped(position)) {
                continue;
            }
            let mut head = Head { position, seq: 0, len: len as u32, writer, target, hash };
            if let Some(seq) = self.commit(&mut head) {
                let part = self.data.len() as u64 / WAKE_PARTS;
                let index_part = (self.index.len() as u64 / WAKE_PARTS).max(1);
                let wake_all =
                    position / part != (position + words) / part || seq.is_multiple_of(index_part);
                return Ok(Published { seq, wake_all });
            }
        }
        Err(RingError::Overtaken)
    }

    /// Step 3 and 4. Nothing if the record's place was overtaken.
    fn commit(&self, head: &mut Head) -> Option<u64> {
        loop {
            let seq = self.head.load(Ordering::Acquire);
            let word = self.index_word(seq);
            let seen = word.load(Ordering::Acquire);
            match laps_ahead(seen, self.lap(seq)) {
                0 => self.advance(seq),
                -1 => {
                    if self.is_lapped(head.position) {
                        return None;
                    }
                    head.seq = seq;
                    let offset = self.offset(head.position);
                    head.store(self.data, offset);
                    let new = u64::from(self.lap(seq)) << 32 | offset as u64;
                    let swap =
                        word.compare_exchange(seen, new, Ordering::Release, Ordering::Relaxed);
                    if swap.is_ok() {
                        self.advance(seq);
                        return Some(seq);
                    }
                }
                // `head` was old: others have gone round since.
                _ => {}
            }
        }
    }

    /// Copies message `seq`, whose index word is `word`, if the reader wants it.
    fn copy(
        &self,
        word: u64,
        seq: u64,
        out: &mut Vec<u8>,
        want: impl FnOnce(&Meta) -> bool,
    ) -> Copied {
        let offset = word as u32 as usize;
        if offset >= self.data.len() {
            return Copied::Gone;
        }
        let Some(head) = Head::load(self.data, offset) else { return Copied::Gone };
        if head.seq != seq || self.offset(head.position) != offset {
            return Copied::Gone;
        }
        let meta = Meta { writer: head.writer, seq, target: head.target, len: head.len as usize };
        if meta.len > self.max_message() {
            return Copied::Gone;
        }
        if !want(&meta) {
            fence(Ordering::Acquire);
            return if self.is_lapped(head.position) { Copied::Gone } else { Copied::Unwanted };
        }
        let payload = self.offset(head.position + HEAD_WORDS as u64);
        if !record::load(self.data, payload, meta.len, out) {
            // Without memory for it, it is lost to this reader as if it had been overwritten.
            return Copied::Gone;
        }
        fence(Ordering::Acquire);
        if self.is_lapped(head.position) || record::hash(&[out]) != head.hash {
            return Copied::Gone;
        }
        Copied::Whole(meta)
    }

    /// Where a reader goes on that was overtaken before `from`: at the oldest message that half a
    /// ring of others would have to overwrite. At the very edge it would be overtaken again at
    /// once, message for message.
    fn within_reach(&self, from: u64) -> u64 {
        let end = self.end();
        let mut low = from.max(end.saturating_sub(self.index.len() as u64 / 2));
        let mut high = end.max(low);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.is_young(middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// Whether less than half a ring has been written since message `seq` began.
    fn is_young(&self, seq: u64) -> bool {
        let offset = self.index_word(seq).load(Ordering::Acquire) as u32 as usize;
        let head = if offset < self.data.len() { Head::load(self.data, offset) } else { None };
        head.is_some_and(|head| {
            let written = self.tail.load(Ordering::Relaxed).wrapping_sub(head.position);
            head.seq == seq && written <= self.data.len() as u64 / 2
        })
    }

    /// Whether others may have written over the record at `position`.
    fn is_lapped(&self, position: u64) -> bool {
        self.tail.load(Ordering::Relaxed).wrapping_sub(position) > self.data.len() as u64
    }

    fn is_committed(&self, seq: u64) -> bool {
        laps_ahead(self.index_word(seq).load(Ordering::Acquire), self.lap(seq)) == 0
    }

    /// `head` past `seq`, which is committed; fails if somebody else did it.
    fn advance(&self, seq: u64) {
        let _ = self.head.compare_exchange(seq, seq + 1, Ordering::AcqRel, Ordering::Relaxed);
    }

    fn offset(&self, position: u64) -> usize {
        (position % self.data.len() as u64) as usize
    }

    fn index_word(&self, seq: u64) -> &'m Word {
        &self.index[seq as usize & (self.index.len() - 1)]
    }

    /// Counted from 1, since 0 stands in an index word that was never used.
    fn lap(&self, seq: u64) -> u32 {
        ((seq >> self.index.len().trailing_zeros()) as u32).wrapping_add(1)
    }
}

/// How many laps an index word is ahead of `lap`.
fn laps_ahead(word: u64, lap: u32) -> i32 {
    ((word >> 32) as u32).wrapping_sub(lap) as i32
}

/// One reader's place in the ring. It is nobody's business but its owner's: a reader that dies,
/// or never comes, holds nothing up.
pub struct Reader<'m> {
    ring: Ring<'m>,
    next: u64,
    lost: u64,
}

impl<'m> Reader<'m> {
    /// A reader of what is published from now on.
    pub fn new(ring: Ring<'m>) -> Self {
        Self { next: ring.end(), ring, lost: 0 }
    }

    /// The number of the message it will look at next.
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    /// How many messages it is behind.
    pub fn behind(&self) -> u64 {
        self.ring.end().saturating_sub(self.next)
    }

    /// Passes over message `seq`, which the caller has published and has by other means. False, and
    /// nothing done: it is not the next.
    pub fn pass(&mut self, seq: u64) -> bool {
        let is_next = self.next == seq;
        self.next += u64::from(is_next);
        is_next
    }

    /// The next message, whole, into `out` (whose old contents go).
    pub fn read(&mut self, out: &mut Vec<u8>) -> Read {
        self.read_if(out, |_| true)
    }

    /// The next message that `want` says yes to; the others are passed over without a copy.
    pub fn read_if(&mut self, out: &mut Vec<u8>, want: impl FnMut(&Meta) -> bool) -> Read {
        self.read_before(u64::MAX, out, want)
    }

    /// The same among the messages before `end`.
    pub fn read_before(
        &mut self,
        end: u64,
        out: &mut Vec<u8>,
        mut want: impl FnMut(&Meta) -> bool,
    ) -> Read {
        loop {
            if self.next >= end {
                return self.lost().unwrap_or(Read::Empty);
            }
            let word = self.ring.index_word(self.next).load(Ordering::Acquire);
            let ahead = laps_ahead(word, self.ring.lap(self.next));
            if ahead < 0 {
                return self.lost().unwrap_or(Read::Empty);
            }
            let copied = match ahead {
                0 => self.ring.copy(word, self.next, out, &mut want),
                _ => Copied::Gone,
            };
            if matches!(copied, Copied::Gone) {
                let skip_to = self.ring.within_reach(self.next + 1);
                self.lost += skip_to - self.next;
                self.next = skip_to;
                continue;
            }
            // What is lost is told first; the message is read again by the next call.
            if let Some(lost) = self.lost() {
                return lost;
            }
            self.next += 1;
            if let Copied::Whole(meta) = copied {
                return Read::Message(meta);
            }
        }
    }

    fn lost(&mut self) -> Option<Read> {
        let lost = std::mem::take(&mut self.lost);
        (lost > 0).then_some(Read::Overrun { lost })
    }
}
