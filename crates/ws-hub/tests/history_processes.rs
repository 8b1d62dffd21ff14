//! Histories between processes: four writers and two readers, while one of them after the other is
//! killed with SIGKILL at a random moment, in the middle of a publish, a read or a repair. The
//! others must go on at once. A reader follows its topics by position: within an epoch it gets
//! every message, whole and in order, and where it does not it is told. A death ends two epochs at
//! most, and leaves no cell of the zone lost. Twice: in a zone with room enough, and in one where
//! every publish has to evict somebody. Forks, hence no test harness around it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ws_hub::history::{Batch, From, Limit, Limits, Message, Owner, Position, Topic};
use ws_hub::{memory, History};

#[allow(dead_code)]
mod common;
use common::{message, Random};
#[path = "common/forks.rs"]
mod forks;
use forks::{fork, is_alive, kill, map, wait_for_end, Children, PATIENCE};

const WRITERS: usize = 4;
const WORKERS: usize = WRITERS + 2;
const TOPICS: usize = 8;
const NAMES: [&[u8]; TOPICS] = [b"t0", b"t1", b"t2", b"t3", b"t4", b"t5", b"t6", b"t7"];
/// Larger messages come seldom, see [`message`].
const MOST: usize = 3000;

/// For the test alone; inherited over fork.
struct Control {
    stop: AtomicU64,
    published: AtomicU64,
    read: AtomicU64,
    gaps: AtomicU64,
}

/// Random numbers, unlike those of any other process of this test.
fn random() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut random = Random((u64::from(std::process::id()) << 32) + count + 1);
    (0..9).fold(0, |_, _| random.next())
}

fn me() -> Owner {
    let is_alive = |id| is_alive(id as u32);
    Owner { id: std::process::id().into(), is_alive, random }
}

struct World {
    bytes: usize,
    memory: *mut u8,
    control: &'static Control,
    /// Every publish needs somebody else's room.
    tight: bool,
}

impl World {
    fn new(bytes: usize, tight: bool) -> Self {
        // SAFETY: zeroes are a valid Control, and a page is aligned for it.
        let control = unsafe { &*map(size_of::<Control>()).cast::<Control>() };
        let world = Self { bytes, memory: map(bytes), control, tight };
        History::init(world.words(), me()).unwrap();
        world
    }

    fn words(&self) -> &'static [memory::Word] {
        // SAFETY: the mapping is ours alone, was zeroed, and is never unmapped.
        unsafe { memory::words(self.memory, self.bytes) }.unwrap()
    }

    /// As a worker does after it was forked.
    fn attach(&self) -> History<'static> {
        History::attach(self.words(), me()).unwrap()
    }

    fn topic(&self, name: &'static [u8]) -> Topic<'static> {
        let count = if self.tight { 20 } else { 500 };
        let bytes = if self.tight { 0 } else { self.bytes as u64 / 12 };
        let limits = Limits { count, ttl: 1 << 30, bytes };
        Topic { name, limits, generation: 0 }
    }

    fn fork(&self, slot: usize, author: u32) -> i32 {
        fork(|| if slot < WRITERS { self.write(author) } else { self.read() })
    }

    fn stopped(&self) -> bool {
        self.control.stop.load(Ordering::Acquire) != 0
    }

    /// Message `number` goes to the topic of that number.
    fn write(&self, author: u32) {
        let history = self.attach();
        let mut bytes = Vec::new();
        for number in (0..).take_while(|_| !self.stopped()) {
            message(author, number, MOST, &mut bytes);
            let topic = self.topic(NAMES[number as usize % TOPICS]);
            let key = (!self.tight && number % 4 < 2).then_some(&bytes[..12]);
            let message = Message { data: &bytes, flags: 1, key, subscribed: number % 3 == 0 };
            let first = history.publish(&topic, &message, number).unwrap();
            assert!(!first.repeated);
            if key.is_some() {
                let again = history.publish(&topic, &message, number).unwrap();
                let same = again.position == first.position && again.repeated;
                assert!(same || again.position.epoch != first.position.epoch);
            }
            if self.tight {
                let name = [b"flood", &bytes[..12]].concat();
                let flood = Topic { name: &name, ..topic };
                history.publish(&flood, &Message { subscribed: false, ..message }, number).unwrap();
            }
            self.control.published.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Until the writers have stopped and everything is read.
    fn read(&self) {
        let history = self.attach();
        let mut books: Vec<_> =
            NAMES.iter().map(|name| Books::new(history.position(name))).collect();
        let mut out = Batch::default();
        loop {
            let stopped = self.stopped();
            let mut came = false;
            for (name, books) in NAMES.into_iter().zip(&mut books) {
                let limit = Limit { records: 20, bytes: 4000 };
                let from = From::After(books.at);
                if history.read(&self.topic(name), from, limit, 0, &mut out).is_err() {
                    *books = Books { last: books.old(), ..Books::new(history.position(name)) };
                    self.control.gaps.fetch_add(1, Ordering::Relaxed);
                }
                out.iter().for_each(|record| books.enter(record.offset, record.data));
                came |= !out.is_empty();
                self.control.read.fetch_add(out.len() as u64, Ordering::Relaxed);
            }
            if stopped && !came {
                return;
            }
        }
    }

    fn wait_for_progress(&self, more: u64) {
        let goal = self.control.published.load(Ordering::Relaxed) + more;
        let start = Instant::now();
        while self.control.published.load(Ordering::Relaxed) < goal {
            assert!(start.elapsed() < PATIENCE, "the others do not go on");
            std::thread::yield_now();
        }
    }
}

/// What a reader has had of one topic.
struct Books {
    at: Position,
    /// The last number of each author, and whether it came in this epoch without a gap since.
    last: HashMap<u32, (u64, bool)>,
    expected: Vec<u8>,
}

impl Books {
    fn new(at: Position) -> Self {
        Self { at, last: HashMap::new(), expected: Vec::new() }
    }

    /// After a gap only the order is sure.
    fn old(&self) -> HashMap<u32, (u64, bool)> {
        self.last.iter().map(|(&author, &(number, _))| (author, (number, false))).collect()
    }

    fn enter(&mut self, offset: u64, bytes: &[u8]) {
        self.at.offset += 1;
        assert_eq!(offset, self.at.offset);
        let author = u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let number = u64::from_le_bytes(bytes[4..12].try_into().unwrap());
        message(author, number, MOST, &mut self.expected);
        assert!(self.expected == bytes, "message {number} of {author} is not what it was");
        match self.last.insert(author, (number, true)) {
            Some((last, true)) => assert_eq!(number, last + TOPICS as u64, "of {author}"),
            // The same again if its key was forgotten with its epoch.
            Some((last, false)) => assert!(number >= last, "{number} of {author} after {last}"),
            None => {}
        }
    }
}

fn storm(bytes: usize, tight: bool, kills: usize) {
    let world = World::new(bytes, tight);
    let history = world.attach();
    let seed = u64::from(std::process::id()) | 1 << 40;
    println!("zone {bytes}, seed {seed}");
    let mut random = Random(seed);
    let mut authors = 0..;
    let mut workers = Children([0; WORKERS]);
    for (slot, pid) in workers.0.iter_mut().enumerate() {
        *pid = world.fork(slot, authors.next().unwrap());
    }
    world.wait_for_progress(100);
    let epochs = || NAMES.map(|name| history.position(name).epoch);
    let (mut repairs, mut ended) = (0, 0);
    for _ in 0..kills {
        let (before, zone) = (epochs(), history.position(b"never published to").epoch);
        let until = Instant::now() + Duration::from_nanos(random.next() % 1_000_000);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        // Three of four times a writer.
        let slot = random.next() as usize % WRITERS;
        let slot = if random.next().is_multiple_of(4) { WRITERS + slot % 2 } else { slot };
        let pid = std::mem::take(&mut workers.0[slot]);
        kill(pid);
        if random.next().is_multiple_of(4) {
            world.wait_for_progress(200);
        }
        if !tight {
            let changed = before.iter().zip(epochs()).filter(|(old, new)| *old != new).count();
            let repaired = history.position(b"never published to").epoch != zone;
            assert!(changed <= if repaired { 2 } else { 0 }, "{changed} epochs ended");
            repairs += usize::from(repaired);
            ended += changed;
        }
        workers.0[slot] = world.fork(slot, authors.next().unwrap());
    }
    world.wait_for_progress(1000);
    world.control.stop.store(1, Ordering::Release);
    for pid in &mut workers.0 {
        assert_eq!(wait_for_end(std::mem::take(pid)), 0, "a worker failed");
    }
    let control = world.control;
    let [published, read, gaps] =
        [&control.published, &control.read, &control.gaps].map(|word| word.load(Ordering::Relaxed));
    let stats = history.stats();
    println!(
        "{kills} killed: {published} published, {read} read, {gaps} gaps; {repairs} died with the \
         lock, {ended} epochs ended; {} topics, {} of {} bytes, {} evicted",
        stats.topics, stats.bytes, stats.capacity, stats.evicted
    );
    assert_eq!(tight, stats.evicted > 0);
    if !tight {
        // One of which nothing was there yet is none.
        assert!(stats.killed <= ended as u64, "{} counted", stats.killed);
    }
    assert!(read > 0);
    // Whatever has been killed in the middle of what: no cell is lost.
    history.set_rules(&[], 0).unwrap();
    while history.stats().bytes > 0 {
        let before = history.stats().bytes;
        history.sweep(0);
        assert!(history.stats().bytes < before, "{before} bytes belong to nobody");
    }
    assert_eq!(history.stats().topics, 0);
}

fn main() {
    // More for a longer look: WS_HUB_KILLS=5000.
    let kills = std::env::var("WS_HUB_KILLS").map_or(200, |kills| kills.parse().unwrap());
    // So large that no key is forgotten before its second use, even by a writer that slept.
    storm(64 << 20, false, kills);
    storm(64 << 10, true, kills);
    println!("test history_processes ... ok");
}
