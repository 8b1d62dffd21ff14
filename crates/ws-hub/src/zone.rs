//! The hub's shared memory: its header and where each part lies. Made by the process that maps
//! the memory ([`Zone::init`]) before any worker runs; found again, with all that is in it, by the
//! next configuration after a reload ([`Zone::attach`]). The memory is the caller's.
//!
//! Layout, in words: header, the directory's rows, counters, highlights, samples, gateway,
//! standings, interest, census, the ring's index, the ring's data. Interest and census take at most a sixteenth of the zone each, the index
//! somewhat more, data nearly all of the rest.

use std::fmt;

use crate::census::Census;
use crate::counters::{Counter, Counters};
use crate::directory::{Directory, DirectoryError, Seat, ROW_WORDS};
use crate::gateway::Gateway;
use crate::highlights::{Board, Highlights};
use crate::id::NodeId;
use crate::memory::{Ordering, Word, WORD};
use crate::ring::Ring;
use crate::samples::Samples;
use crate::standing::Standings;
use crate::target::{Target, TopicHash};

/// "wshub" and the version of the layout.
const MAGIC: u64 = 0x0077_7368_7562_0007;
/// Words of the header; head and tail of the ring lie on cache lines of their own.
const HEADER: usize = 32;
const AT_MAGIC: usize = 0;
const AT_LEN: usize = 1;
const AT_ROWS: usize = 2;
const AT_COUNTERS: usize = 3;
const AT_NODE: usize = 4;
const AT_HEAD: usize = 8;
const AT_TAIL: usize = 16;
/// As many as nginx has process slots (NGX_MAX_PROCESSES): more would never be used.
const MAX_ROWS: usize = 1024;
const MIN_BUCKETS: usize = 64;
const MAX_BUCKETS: usize = 1 << 16;
const MIN_CENSUS: usize = 256;
/// Less data than this is no ring.
const MIN_DATA: usize = 16 * 1024 / WORD;

/// The shared memory. A copy is a second handle on it.
#[derive(Clone, Copy)]
pub struct Zone<'m> {
    ring: Ring<'m>,
    directory: Directory<'m>,
    counters: Counters<'m>,
    census: Census<'m>,
    board: Board<'m>,
    samples: Samples<'m>,
    gateway: Gateway<'m>,
    standings: Standings<'m>,
}

/// Words of each worker's row, in all parts that have rows.
const PER_ROW: usize = ROW_WORDS + Counters::STRIDE + Board::STRIDE;

/// Lengths of the parts, in words.
struct Layout {
    rows: usize,
    buckets: usize,
    census: usize,
    index: usize,
    data: usize,
}

impl Layout {
    fn of(words: usize, rows: usize) -> Result<Self, ZoneError> {
        if rows == 0 || rows > MAX_ROWS {
            return Err(ZoneError::Rows);
        }
        let rows = rows.next_multiple_of(64);
        // Of each bucket one bit a row.
        let bucket = rows / 64;
        let buckets = (words / 16 / bucket).clamp(MIN_BUCKETS, MAX_BUCKETS);
        let buckets = 1 << buckets.ilog2();
        let census = (words / 16).max(MIN_CENSUS);
        let shared = Samples::WORDS + Gateway::WORDS + Standings::WORDS;
        let before = HEADER + rows * PER_ROW + shared + buckets * bucket + census;
        let rest = words.saturating_sub(before);
        // One index word for every 10 to 20 words of data: small messages have about that size.
        let index = (rest / 20).next_power_of_two();
        let data = rest.saturating_sub(index).min(u32::MAX as usize);
        if data < MIN_DATA {
            return Err(ZoneError::TooSmall);
        }
        Ok(Self { rows, buckets, census, index, data })
    }
}

impl<'m> Zone<'m> {
    /// The least number of bytes for a zone with this many rows.
    pub fn min_len(rows: usize) -> Result<usize, ZoneError> {
        // Up to a multiple of a page, by doubling and halving: the layout has no closed inverse.
        let (mut low, mut high) = (0, 1 << 30);
        while high - low > 512 {
            let middle = (low + high) / 2;
            match Layout::of(middle, rows) {
                Ok(_) => high = middle,
                Err(ZoneError::TooSmall) => low = middle,
                Err(error) => return Err(error),
            }
        }
        Ok((high * WORD).next_multiple_of(4096))
    }

    /// Makes an empty zone of `words`, whatever they held, for at most `rows` (rounded up to a
    /// multiple of 64) workers at a time. `node` is drawn from the system's generator, and the
    /// zone's as long as it lives. Nobody else may use the memory meanwhile.
    pub fn init(words: &'m [Word], rows: usize, node: NodeId) -> Result<Self, ZoneError> {
        let layout = Layout::of(words.len(), rows)?;
        let used = words.len() - layout.data;
        for word in &words[..used] {
            word.store(0, Ordering::Relaxed);
        }
        words[AT_LEN].store(words.len() as u64, Ordering::Relaxed);
        words[AT_ROWS].store(layout.rows as u64, Ordering::Relaxed);
        words[AT_COUNTERS].store(Counter::FINGERPRINT, Ordering::Relaxed);
        words[AT_NODE].store(node.0.into(), Ordering::Relaxed);
        words[AT_MAGIC].store(MAGIC, Ordering::Release);
        Self::carve(words, layout)
    }

    /// Finds the zone that [`Zone::init`] made of these words, with all that is in it.
    pub fn attach(words: &'m [Word]) -> Result<Self, ZoneError> {
        let at = |n: usize| words.get(n).map_or(0, |word| word.load(Ordering::Acquire));
        let ours = at(AT_MAGIC) == MAGIC
            && at(AT_LEN) == words.len() as u64
            && at(AT_COUNTERS) == Counter::FINGERPRINT;
        if !ours {
            return Err(ZoneError::Foreign);
        }
        let rows = usize::try_from(at(AT_ROWS)).map_err(|_| ZoneError::Foreign)?;
        Self::carve(words, Layout::of(words.len(), rows).map_err(|_| ZoneError::Foreign)?)
    }

    fn carve(words: &'m [Word], layout: Layout) -> Result<Self, ZoneError> {
        let (header, rest) = words.split_at(HEADER);
        let (rows, rest) = rest.split_at(layout.rows * ROW_WORDS);
        let (counters, rest) = rest.split_at(layout.rows * Counters::STRIDE);
        let (board, rest) = rest.split_at(layout.rows * Board::STRIDE);
        let (samples, rest) = rest.split_at(Samples::WORDS);
        let (gateway, rest) = rest.split_at(Gateway::WORDS);
        let (standings, rest) = rest.split_at(Standings::WORDS);
        let (interest, rest) = rest.split_at(layout.buckets * layout.rows / 64);
        let (census, rest) = rest.split_at(layout.census);
        let (index, rest) = rest.split_at(layout.index);
        let data = &rest[..layout.data];
        let node = NodeId(header[AT_NODE].load(Ordering::Relaxed) as u32);
        let ring = Ring::new(&header[AT_HEAD], &header[AT_TAIL], index, data);
        let directory = Directory::new(node, rows, interest);
        Ok(Self {
            ring: ring.ok_or(ZoneError::TooSmall)?,
            directory,
            gateway: Gateway::new(directory, gateway),
            counters: Counters::new(counters),
            census: Census::new(census),
            board: Board::new(board),
            samples: Samples::new(samples),
            standings: Standings::new(standings),
        })
    }

    /// Takes a row for a worker as [`Directory::join`] does, after freeing those of the dead, and
    /// resets its gauges and its part of the census. Connections that a predecessor took with it
    /// have been closed without a close frame.
    pub fn join(
        &self,
        slot: u16,
        pid: u32,
        is_alive: impl Fn(u32) -> bool,
    ) -> Result<Seat, DirectoryError> {
        self.directory.free_dead(&is_alive);
        let seat = self.directory.join(slot, pid, is_alive)?;
        let counters = self.counters.row(seat.row());
        counters.add(Counter::Closed1006, counters.get(Counter::Open));
        counters.reset_gauges();
        self.board.write(seat.row(), &Highlights::default());
        self.census.clear(seat.row());
        Ok(seat)
    }

    /// Gives the row back; its totals stay.
    pub fn leave(&self, seat: &Seat) -> bool {
        if self.directory.holds(seat) {
            self.census.clear(seat.row());
        }
        self.directory.leave(seat)
    }

    /// A topic's subscribers in all workers but the one in row `except`, which knows its own. Only
    /// workers that listen for the topic are asked.
    pub fn subscribers(&self, topic: TopicHash, except: u16) -> u64 {
        let rows = self.directory.rows_to_wake(Target::Topic(topic), except);
        rows.map(|row| self.census.get(row, topic)).sum()
    }

    /// A counter over all workers: totals of the living and the dead, gauges of the living. The
    /// connections of the dead count as closed, until the row has a new owner who adds them.
    pub fn sum(&self, counter: Counter) -> u64 {
        let of = |row| {
            let counters = self.counters.row(row);
            match (counter, self.directory.worker(row)) {
                (Counter::Closed1006, None) => counters.get(counter) + counters.get(Counter::Open),
                (_, None) if counter.is_gauge() => 0,
                _ => counters.get(counter),
            }
        };
        (0..self.directory.capacity()).map(of).fold(0, u64::wrapping_add)
    }

    /// The messages.
    pub fn ring(&self) -> Ring<'m> {
        self.ring
    }

    /// The workers.
    pub fn directory(&self) -> Directory<'m> {
        self.directory
    }

    /// Who talks to the broker.
    pub fn gateway(&self) -> Gateway<'m> {
        self.gateway
    }

    /// How it stands with the brokers.
    pub fn standings(&self) -> Standings<'m> {
        self.standings
    }

    /// The topics' subscribers.
    pub fn census(&self) -> Census<'m> {
        self.census
    }

    /// What stands out in each worker.
    pub fn board(&self) -> Board<'m> {
        self.board
    }

    /// The numbers of the last minutes.
    pub fn samples(&self) -> Samples<'m> {
        self.samples
    }

    /// The numbers.
    pub fn counters(&self) -> Counters<'m> {
        self.counters
    }
}

/// Why memory is no zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneError {
    /// Less than [`Zone::min_len`].
    TooSmall,
    /// Not one to 1024 rows.
    Rows,
    /// Not a zone of this version, or of another size.
    Foreign,
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooSmall => "zone too small",
            Self::Rows => "a zone has 1 to 1024 rows",
            Self::Foreign => "memory holds no zone of this version and size",
        })
    }
}

impl std::error::Error for ZoneError {}
