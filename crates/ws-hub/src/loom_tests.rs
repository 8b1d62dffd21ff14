//! The orderings that ring.rs, directory.rs and history.rs argue, tried out by the model checker: every
//! interleaving of these few steps with up to the given number of preemptions, and every value
//! that the C11 memory model lets a relaxed load see. Run with
//! `RUSTFLAGS="--cfg loom" cargo test -p ws-hub --lib --config profile.test.opt-level=2 loom`
//! (a minute once compiled).

use loom::thread;

use crate::directory::{Directory, Interest, Seat, ROW_WORDS};
use crate::history::lock::{Lock, Slot, LOCK_WORDS};
use crate::id::NodeId;
use crate::memory::{Ordering, Word};
use crate::ring::{Read, Reader, Ring};
use crate::target::{Target, TopicHash};

const INDEX: usize = 2;
/// Three records of one word of payload, and a bit: they lie differently in every lap.
const DATA: usize = 24;

/// Never freed, so that every thread may hold it: some hundred bytes an execution.
fn words(n: usize) -> &'static [Word] {
    (0..n).map(|_| Word::new(0)).collect::<Vec<_>>().leak()
}

fn ring(words: &[Word]) -> Ring<'_> {
    let (index, data) = words[2..].split_at(INDEX);
    Ring::new(&words[0], &words[1], index, data).unwrap()
}

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(model);
}

/// Reads to the end; what came as (writer, payload), and how many were lost.
fn drain(reader: &mut Reader) -> (Vec<(u16, u8)>, u64) {
    let (mut all, mut lost_in_all, mut out) = (Vec::new(), 0, Vec::new());
    loop {
        match reader.read(&mut out) {
            Read::Message(meta) => {
                assert_eq!(out, [out[0]; 8], "torn");
                all.push((meta.writer, out[0]));
            }
            Read::Overrun { lost } => lost_in_all += lost,
            Read::Empty => return (all, lost_in_all),
        }
    }
}

/// The writers are spawned before the reader, because the checker goes back from a load to the
/// stores before it more surely than from a store to the loads.
#[test]
fn two_writers_and_a_reader_meet() {
    check(2, || {
        let words = words(2 + INDEX + DATA);
        let mut reader = Reader::new(ring(words));
        let writers = [0, 1].map(|writer: u16| {
            thread::spawn(move || {
                let published = ring(words).publish(writer, Target::All, &[&[writer as u8; 8]]);
                published.unwrap().seq
            })
        });
        let reader = thread::spawn(move || {
            let early = drain(&mut reader);
            (reader, early)
        });
        let seqs = writers.map(|writer| writer.join().unwrap());
        let (mut reader, (early, lost)) = reader.join().unwrap();
        let (late, lost_later) = drain(&mut reader);
        assert_eq!((lost, lost_later), (0, 0));
        let all: Vec<_> = early.into_iter().chain(late).collect();
        assert_eq!(all, if seqs[0] == 0 { [(0, 0), (1, 1)] } else { [(1, 1), (0, 0)] });
        assert_eq!(ring(words).end(), 2);
    });
}

/// The reader copies while the writer goes round the data and the index over it.
#[test]
fn a_reader_is_overwritten() {
    check(2, || {
        let words = words(2 + INDEX + DATA);
        let mut reader = Reader::new(ring(words));
        ring(words).publish(0, Target::All, &[&[1; 8]]).unwrap();
        let writer = thread::spawn(move || {
            for n in 2..6 {
                ring(words).publish(0, Target::All, &[&[n; 8]]).unwrap();
            }
        });
        let (early, lost) = drain(&mut reader);
        writer.join().unwrap();
        let (late, lost_later) = drain(&mut reader);
        let all: Vec<u8> = early.into_iter().chain(late).map(|(_, n)| n).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
        assert_eq!(all.len() as u64 + lost + lost_later, 5);
        assert_eq!(all.last(), Some(&5));
    });
}

fn directory(words: &[Word]) -> Directory<'_> {
    let (rows, interest) = words.split_at(64 * ROW_WORDS);
    Directory::new(NodeId(1), rows, interest)
}

/// Wakes as a publisher does; how many were woken.
fn wake(words: &[Word], target: Target, from: &Seat) -> usize {
    let mut woken = 0;
    directory(words).wake(target, false, from.row(), |_| woken += 1);
    woken
}

fn two_seats(directory: Directory) -> (Seat, Seat) {
    let seat = |slot| directory.join(slot, 1, |_| true).unwrap();
    (seat(0), seat(1))
}

/// A publisher and a worker that drains at the same time: the worker has the message, or is
/// woken. One word stands for the ring.
#[test]
fn no_wake_up_is_missed() {
    check(3, || {
        let message = &words(1)[0];
        let words = words(64 * ROW_WORDS + 2);
        let (me, other) = two_seats(directory(words));
        // Somebody has woken the worker before, and it is about to drain.
        assert_eq!(wake(words, Target::All, &me), 1);
        let publisher = thread::spawn(move || {
            message.store(1, Ordering::Release);
            wake(words, Target::All, &me)
        });
        directory(words).begin_drain(&other);
        let has_it = message.load(Ordering::Acquire) == 1;
        let woken = publisher.join().unwrap() == 1;
        assert!(has_it || woken);
    });
}

/// Two publishers, of which one may be killed before it wakes anybody, and a worker that sleeps
/// unless it is woken: the other's message is read. An eventfd is a word of its own.
#[test]
fn a_killed_publisher_leaves_nobody_deaf() {
    check(3, || {
        let other_words = words(2);
        let (message, eventfd) = (&other_words[0], &other_words[1]);
        let words = words(64 * ROW_WORDS + 2);
        let (me, worker) = two_seats(directory(words));
        let publish = move |killed: bool| {
            message.fetch_add(1, Ordering::Release);
            if !killed {
                directory(words).wake(Target::All, false, me.row(), |_| {
                    eventfd.fetch_add(1, Ordering::AcqRel);
                });
            }
        };
        let publishers = [true, false].map(|killed| thread::spawn(move || publish(killed)));
        // Awake for another reason just now.
        directory(words).begin_drain(&worker);
        let early = message.load(Ordering::Acquire);
        publishers.map(|publisher| publisher.join().unwrap());
        assert!(early == 2 || eventfd.load(Ordering::Acquire) > 0);
    });
}

/// A publisher and a worker that begins to listen: the drain after `add` finds the message, or
/// the worker is woken for it.
#[test]
fn no_message_falls_between_interest_and_drain() {
    check(3, || {
        let message = &words(1)[0];
        let words = words(64 * ROW_WORDS + 2);
        let topic = TopicHash(0x1_0000_0000);
        let (me, other) = two_seats(directory(words));
        let publisher = thread::spawn(move || {
            message.store(1, Ordering::Release);
            wake(words, Target::Topic(topic), &me)
        });
        let mut interest = Interest::new(directory(words), &other);
        interest.add(topic);
        directory(words).begin_drain(&other);
        let has_it = message.load(Ordering::Acquire) == 1;
        let woken = publisher.join().unwrap() == 1;
        assert!(has_it || woken);
    });
}

/// A topic under the lock of histories: two words that are equal but while it is being changed.
struct Guarded {
    words: &'static [Word],
    dead: &'static Word,
}

const TOPIC: u32 = 7;

impl Guarded {
    /// Takes the lock, repairs if it must, and changes the topic's two words; dies before step
    /// `dies_at`.
    fn change(&self, me: u64, dies_at: usize) {
        let lock = Lock::new(self.words);
        let topic = &self.words[LOCK_WORDS..];
        if lock.take(me, |id| self.dead.load(Ordering::Acquire) != id) {
            if lock.changing(TOPIC) {
                topic.iter().for_each(|word| word.store(0, Ordering::Relaxed));
            }
            lock.end(Slot::Own);
        }
        assert!(!lock.changing(TOPIC));
        let [a, b] = [0, 1].map(|n| topic[n].load(Ordering::Relaxed));
        assert_eq!(a, b, "half done");
        let steps: [&dyn Fn(); 5] = [
            &|| lock.begin(Slot::Own, TOPIC),
            &|| topic[0].store(a + 1, Ordering::Relaxed),
            &|| topic[1].store(b + 1, Ordering::Relaxed),
            &|| lock.end(Slot::Own),
            &|| lock.give(),
        ];
        steps.iter().take(dies_at).for_each(|step| step());
        if dies_at < steps.len() {
            // The system's news of it, which comes after all it did.
            self.dead.store(me, Ordering::Release);
        }
    }
}

/// One of two dies anywhere while it holds the lock: the other, and a third that comes later, find
/// the topic whole.
#[test]
fn a_dead_owner_is_robbed_and_its_change_undone() {
    for dies_at in 0..=5 {
        check(2, move || {
            let words = words(LOCK_WORDS + 2);
            let dead = &self::words(1)[0];
            let other = thread::spawn(move || Guarded { words, dead }.change(1, 5));
            Guarded { words, dead }.change(2, dies_at);
            other.join().unwrap();
            Guarded { words, dead }.change(3, 5);
            let topic = [0, 1].map(|n| words[LOCK_WORDS + n].load(Ordering::Relaxed));
            // Killed before its change began, or after its end: nothing of it is undone.
            let survive: &[u64] = match dies_at {
                0 => &[2],
                1..=3 => &[1, 2],
                _ => &[3],
            };
            assert!(topic[0] == topic[1] && survive.contains(&topic[0]), "{topic:?}");
        });
    }
}
