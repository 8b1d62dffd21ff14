//! The hub between processes: four writers and two readers share a mapping and wake each other
//! over eventfds as workers do, while one of them after the other is killed with SIGKILL at a
//! random moment and another takes its place. The rest must go on, at once and for ever: no
//! reader may stay asleep, every message must be whole, in its author's order and come once.
//! Twice: with readers that keep up (nothing may be lost), and with a tiny zone at full speed
//! (what is read and what is lost must add up). Forks, hence no test harness around it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ws_hub::directory::Interest;
use ws_hub::memory;
use ws_hub::ring::{Read, Reader, RingError};
use ws_hub::{Counter, NodeId, Target, TopicHash, Zone};

#[allow(dead_code)]
mod common;
use common::{message, Books, Random};
#[path = "common/forks.rs"]
mod forks;
use forks::{is_alive, kill, map, wait_for_end, Children, PATIENCE};

const WRITERS: usize = 4;
const WORKERS: usize = WRITERS + 2;
const CONTROLLER: u16 = WORKERS as u16;

/// What everybody needs; inherited over fork.
struct World {
    zone: Zone<'static>,
    control: &'static Control,
    eventfds: [i32; WORKERS + 1],
    /// Writers wait for the readers, so that these lose nothing.
    paced: bool,
    topic: TopicHash,
    most: usize,
}

/// Beside the zone, for the test alone.
struct Control {
    stop: AtomicU64,
    /// Where each reader is; u64::MAX for none that anyone need wait for.
    at: [AtomicU64; WORKERS],
    read: AtomicU64,
    lost: AtomicU64,
    missed: AtomicU64,
    slept: AtomicU64,
}

impl World {
    fn new(bytes: usize, paced: bool) -> Self {
        // SAFETY: the mapping is ours alone, zeroed, and never unmapped.
        let words = unsafe { memory::words(map(bytes), bytes) }.unwrap();
        // SAFETY: as above; zeroes are a valid Control, and a page is aligned for it.
        let control = unsafe { &*map(size_of::<Control>()).cast::<Control>() };
        let zone = Zone::init(words, 64, NodeId(1)).unwrap();
        // SAFETY: plain system calls.
        let eventfds = [(); WORKERS + 1].map(|()| unsafe { libc::eventfd(0, libc::EFD_NONBLOCK) });
        assert!(eventfds.iter().all(|&fd| fd >= 0));
        let most = zone.ring().max_message() / 16;
        Self { zone, control, eventfds, paced, topic: TopicHash::of(b"topic"), most }
    }

    /// Wakes the worker in a row; eventfds are by slot.
    fn knock(&self, row: u16) {
        let Some((slot, _)) = self.zone.directory().worker(row) else { return };
        // SAFETY: the bytes are read from a live value.
        let n =
            unsafe { libc::write(self.eventfds[usize::from(slot)], (&raw const ONE).cast(), 8) };
        assert_eq!(n, 8);
    }

    fn knock_others(&self, row: u16) {
        self.zone.directory().others(row).for_each(|row| self.knock(row));
    }

    /// A worker in a new process: a writer or a reader by its slot. Its process id.
    fn fork(&self, slot: usize, author: u32) -> i32 {
        forks::fork(|| if slot < WRITERS { self.write(slot, author) } else { self.read(slot) })
    }

    fn write(&self, slot: usize, author: u32) {
        let directory = self.zone.directory();
        let seat = self.zone.join(slot as u16, std::process::id(), is_alive).unwrap();
        self.knock_others(seat.row());
        let published = self.zone.counters().row(seat.row());
        let (ring, target) = (self.zone.ring(), Target::Topic(self.topic));
        let mut bytes = Vec::new();
        for number in 0.. {
            if self.control.stop.load(Ordering::Acquire) != 0 {
                break;
            }
            message(author, number, self.most, &mut bytes);
            let (a, b) = bytes.split_at(bytes.len() / 2);
            let done = loop {
                match ring.publish(seat.row(), target, &[a, b]) {
                    Err(RingError::Overtaken) => {}
                    done => break done.unwrap(),
                }
            };
            directory.wake(target, done.wake_all, seat.row(), |row| self.knock(row));
            published.add(Counter::Published, 1);
            if self.paced {
                self.wait_for_readers();
            }
        }
        self.zone.leave(&seat);
    }

    /// So that no reader is ever more than 256 messages behind: half a megabyte at their mean
    /// size of 2 KB, far from a lap of either the data or the index.
    fn wait_for_readers(&self) {
        let room = 256;
        let is_behind = |at: &AtomicU64| {
            at.load(Ordering::Acquire).saturating_add(room) < self.zone.ring().end()
        };
        while self.control.at.iter().any(is_behind)
            && self.control.stop.load(Ordering::Acquire) == 0
        {
            std::thread::yield_now();
        }
    }

    /// Reads until the controller's farewell. Blocks for wake-ups with no other way out.
    fn read(&self, slot: usize) {
        let directory = self.zone.directory();
        let seat = self.zone.join(slot as u16, std::process::id(), is_alive).unwrap();
        let mut interest = Interest::new(directory, &seat);
        interest.add(self.topic);
        // 0 holds the writers up until the reader's place is known.
        let at = &self.control.at[slot];
        at.store(0, Ordering::SeqCst);
        let mut reader = Reader::new(self.zone.ring());
        at.store(reader.next_seq(), Ordering::Release);
        self.knock_others(seat.row());
        let (mut books, mut out) = (Books::default(), Vec::new());
        let first = reader.next_seq();
        loop {
            directory.begin_drain(&seat);
            loop {
                match reader.read_if(&mut out, |meta| interest.wants(meta.target)) {
                    Read::Message(meta) if meta.target == Target::All => {
                        assert_eq!(out, b"farewell");
                        assert_eq!(books.read + books.lost, meta.seq - first);
                        assert!(books.missed <= books.lost);
                        assert!(!self.paced || books.lost == 0, "lost {}", books.lost);
                        self.control.read.fetch_add(books.read, Ordering::Relaxed);
                        self.control.lost.fetch_add(books.lost, Ordering::Relaxed);
                        self.control.missed.fetch_add(books.missed, Ordering::Relaxed);
                        return;
                    }
                    Read::Message(meta) => books.enter(&meta, &out, self.most),
                    Read::Overrun { lost } => books.lost += lost,
                    Read::Empty => break,
                }
                at.store(reader.next_seq(), Ordering::Release);
            }
            self.sleep(slot);
        }
    }

    /// Until the eventfd is written to.
    fn sleep(&self, slot: usize) {
        self.control.slept.fetch_add(1, Ordering::Relaxed);
        let mut poll = libc::pollfd { fd: self.eventfds[slot], events: libc::POLLIN, revents: 0 };
        let mut count = 0u64;
        // SAFETY: one pollfd and eight bytes, both ours.
        let ready = unsafe {
            let ready = libc::poll(&raw mut poll, 1, 2 * PATIENCE.as_millis() as i32);
            libc::read(self.eventfds[slot], (&raw mut count).cast(), 8);
            ready
        };
        assert_eq!(ready, 1, "never woken");
    }

    /// Until the others have published `more` messages.
    fn wait_for_progress(&self, more: u64) {
        let goal = self.zone.ring().end() + more;
        let start = Instant::now();
        while self.zone.ring().end() < goal {
            assert!(start.elapsed() < PATIENCE, "the others do not go on");
            std::thread::yield_now();
        }
    }
}

static ONE: u64 = 1;

fn storm(bytes: usize, paced: bool, kills: usize) {
    let world = World::new(bytes, paced);
    let seed = u64::from(std::process::id()) | 1 << 40;
    let mut random = Random(seed);
    for at in &world.control.at {
        at.store(u64::MAX, Ordering::Release);
    }
    let mut authors = 0..;
    // Readers first, and there, so that they see every message.
    let mut workers = Children([0; WORKERS]);
    for slot in (0..WORKERS).rev() {
        workers.0[slot] = world.fork(slot, authors.next().unwrap());
        let start = Instant::now();
        while world.zone.directory().joined().count() < WORKERS - slot {
            assert!(start.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }
    for _ in 0..kills {
        // The moment: after a random time that is a small multiple of a publish's.
        let until = Instant::now() + Duration::from_nanos(random.next() % 2_000_000);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        // Three of four times a writer.
        let reader = random.next().is_multiple_of(4);
        let slot = random.next() as usize % WRITERS;
        let slot = if reader { WRITERS + slot % 2 } else { slot };
        kill(workers.0[slot]);
        world.control.at[slot].store(u64::MAX, Ordering::Release);
        // The others do not need its successor: not even to get past the dead one's work.
        if random.next().is_multiple_of(4) && !paced {
            world.wait_for_progress(200);
        }
        workers.0[slot] = world.fork(slot, authors.next().unwrap());
        if random.next().is_multiple_of(8) {
            world.wait_for_progress(2000);
        }
    }
    world.wait_for_progress(1000);
    world.control.stop.store(1, Ordering::Release);
    for pid in &mut workers.0[..WRITERS] {
        assert_eq!(wait_for_end(std::mem::take(pid)), 0, "a writer failed (seed {seed})");
    }
    // By everybody's rules, and from a new worker.
    let me = world.zone.join(CONTROLLER, std::process::id(), is_alive).unwrap();
    let directory = world.zone.directory();
    world.knock_others(me.row());
    world.zone.ring().publish(me.row(), Target::All, &[b"farewell"]).unwrap();
    directory.wake(Target::All, false, me.row(), |row| world.knock(row));
    for pid in &mut workers.0[WRITERS..] {
        assert_eq!(wait_for_end(std::mem::take(pid)), 0, "a reader failed (seed {seed})");
    }
    // Readers leave no row: they end as if killed. Everyone else's is free again.
    assert_eq!(directory.free_dead(is_alive), 2);
    assert_eq!(directory.joined().collect::<Vec<_>>(), [me.row()]);
    let control = world.control;
    let [read, lost, missed, slept] =
        [&control.read, &control.lost, &control.missed, &control.slept]
            .map(|word| word.load(Ordering::Relaxed));
    assert!(read > 0 && slept > 0);
    println!(
        "zone {bytes}, paced {paced}: {kills} killed; {} published; the last two readers: {read} \
         read, {lost} lost, {missed} of them by number; slept {slept} times",
        world.zone.ring().end()
    );
}

fn main() {
    // More for a longer look: WS_HUB_KILLS=5000.
    let kills = std::env::var("WS_HUB_KILLS").map_or(100, |kills| kills.parse().unwrap());
    storm(8 << 20, true, kills);
    storm(Zone::min_len(64).unwrap(), false, kills);
    println!("test processes ... ok");
}
