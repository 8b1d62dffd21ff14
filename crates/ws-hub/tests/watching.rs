//! What is kept for who looks on: samples of the last minutes, the largest topics and the slowest
//! readers of each worker; while they are written, and after a worker was killed in the middle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ws_hub::highlights::{largest, Highlights, NAME, SHOWN};
use ws_hub::id::NodeId;
use ws_hub::memory::Word;
use ws_hub::samples::{EVERY_MS, KEPT, SAMPLES};
use ws_hub::{ConnId, Counter, Zone};

const NODE: NodeId = NodeId(7);

fn memory(bytes: usize) -> Vec<Word> {
    (0..bytes / 8).map(|_| Word::new(0)).collect()
}

#[test]
fn a_sample_is_taken_once_and_the_oldest_goes() {
    let memory = memory(1 << 20);
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let kept = zone.samples();
    assert_eq!(kept.samples(5000).count(), 0);

    kept.take(EVERY_MS * 10, |counter| counter as u64);
    kept.take(EVERY_MS * 10 + 1, |_| panic!("taken already"));
    kept.take(EVERY_MS * 9, |_| panic!("too late"));
    let samples: Vec<_> = kept.samples(EVERY_MS * 11).collect();
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0].number, 11);
    assert_eq!(samples[0].values[0], Counter::Open as u64);
    assert_eq!(KEPT[0], Counter::Open);

    for n in 0..3 * SAMPLES as u64 {
        kept.take(EVERY_MS * (100 + n), |_| n);
    }
    let samples: Vec<_> = kept.samples(EVERY_MS * (100 + 3 * SAMPLES as u64)).collect();
    let last = 3 * SAMPLES as u64 - 1;
    assert_eq!(samples.last().unwrap().values, [last; KEPT.len()]);
    assert_eq!(samples.len(), SAMPLES - 1, "one is due and not taken yet");
    assert!(samples.windows(2).all(|two| two[0].number + 1 == two[1].number));
}

#[test]
fn half_a_sample_is_never_seen() {
    let memory = memory(1 << 20);
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..200_000 {
                zone.samples().take(EVERY_MS * n, |_| n);
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            for sample in zone.samples().samples(EVERY_MS * 100_000) {
                assert_eq!(sample.values, [sample.number - 1; KEPT.len()]);
            }
        }
    });
}

#[test]
fn highlights_are_read_as_they_were_written() {
    let memory = memory(1 << 20);
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let seat = zone.join(0, 1, |_| true).unwrap();
    let board = zone.board();
    assert_eq!(board.read(seat.row()), Some(Highlights::default()));

    let id = ConnId::new(NODE, 3, 4, *b"123456789");
    let mut shown = Highlights {
        topics: (0..SHOWN as u64).map(|n| (format!("topic {n}").into_bytes(), 100 - n)).collect(),
        readers: vec![(id, 4711)],
    };
    shown.topics[0].0 = vec![b'x'; 200];
    board.write(seat.row(), &shown);
    let mut seen = shown.clone();
    seen.topics[0].0.truncate(NAME);
    assert_eq!(board.read(seat.row()), Some(seen));

    // The next owner of the row has nothing yet.
    zone.leave(&seat);
    let seat = zone.join(0, 2, |_| true).unwrap();
    assert_eq!(board.read(seat.row()), Some(Highlights::default()));
}

#[test]
fn half_written_highlights_are_never_seen() {
    let memory = memory(1 << 20);
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let row = zone.join(0, 1, |_| true).unwrap().row();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..20_000u64 {
                let topics = (0..SHOWN).map(|_| (n.to_string().into_bytes(), n)).collect();
                zone.board().write(row, &Highlights { topics, readers: Vec::new() });
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let Some(shown) = zone.board().read(row) else { continue };
            for (name, subscribers) in &shown.topics {
                assert_eq!(*name, subscribers.to_string().into_bytes());
                assert_eq!(*subscribers, shown.topics[0].1);
            }
        }
    });
}

#[test]
fn the_largest_come_first() {
    let all = [("b", 2), ("a", 2), ("none", 0), ("d", 9), ("c", 1)];
    assert_eq!(largest(all.into_iter(), 3), [("d", 9), ("a", 2), ("b", 2)]);
    assert_eq!(largest(all.into_iter(), 9).len(), 4);
}
