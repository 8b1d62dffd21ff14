//! The ring under threads: four writers at full speed, three readers of which one is slow, in
//! rings so small that everybody is overrun all the time. Whatever comes is whole, in order and
//! comes once; what is read and what is lost add up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Barrier;
use std::thread;

use ws_hub::memory::Word;
use ws_hub::ring::{Read, Reader, RingError};
use ws_hub::{NodeId, Target, Zone};

#[allow(dead_code)]
mod common;
use common::{message, Books};

const WRITERS: u32 = 4;

fn storm(bytes: usize, messages: u64) {
    let memory: Vec<Word> = (0..bytes / 8).map(|_| Word::new(0)).collect();
    let ring = Zone::init(&memory, 64, NodeId(1)).unwrap().ring();
    let most = ring.max_message() / 8;
    let writing = AtomicUsize::new(WRITERS as usize);
    let readers: Vec<_> = (0..3).map(|_| Reader::new(ring)).collect();
    let mut books = Vec::new();
    thread::scope(|scope| {
        for author in 0..WRITERS {
            let writing = &writing;
            scope.spawn(move || {
                let mut bytes = Vec::new();
                for number in 0..messages {
                    message(author, number, most, &mut bytes);
                    let (a, b) = bytes.split_at(bytes.len() / 3);
                    while ring.publish(author as u16, Target::All, &[a, b])
                        == Err(RingError::Overtaken)
                    {}
                }
                writing.fetch_sub(1, Ordering::Release);
            });
        }
        let readers = readers.into_iter().enumerate().map(|(n, mut reader)| {
            let writing = &writing;
            scope.spawn(move || {
                let (mut books, mut out) = (Books::default(), Vec::new());
                loop {
                    // Before the read: Empty after the last writer's end is the end.
                    let all_written = writing.load(Ordering::Acquire) == 0;
                    match reader.read(&mut out) {
                        Read::Message(meta) => books.enter(&meta, &out, most),
                        Read::Overrun { lost } => books.lost += lost,
                        Read::Empty if all_written => return books,
                        Read::Empty => thread::yield_now(),
                    }
                    if n == 0 && books.read.is_multiple_of(16) {
                        thread::yield_now();
                    }
                }
            })
        });
        books = readers.collect::<Vec<_>>().into_iter().map(|r| r.join().unwrap()).collect();
    });
    assert_eq!(ring.end(), u64::from(WRITERS) * messages);
    for books in books {
        println!("{bytes} bytes: {} read, {} lost", books.read, books.lost);
        assert_eq!(books.read + books.lost, ring.end());
        assert!(books.missed <= books.lost);
    }
}

#[test]
fn in_the_smallest_ring() {
    storm(Zone::min_len(64).unwrap(), 30_000);
}

#[test]
fn in_a_ring_of_a_megabyte() {
    storm(1 << 20, 20_000);
}

/// Workers that start at once, some of them in slots of dead ones, never share a row.
#[test]
fn everybody_who_joins_at_once_has_a_row_alone() {
    let memory: Vec<Word> = (0..Zone::min_len(64).unwrap() / 8).map(|_| Word::new(0)).collect();
    let zone = Zone::init(&memory, 64, NodeId(1)).unwrap();
    for round in 0..20 {
        let pid = |slot: u16| round * 1000 + u32::from(slot) + 1;
        let is_alive = |pid: u32| pid > round * 1000;
        let start = Barrier::new(64);
        let mut seats = Vec::new();
        thread::scope(|scope| {
            let workers = (0..64).map(|n| {
                // Every round half of the slots are new, and half of the rows are still taken.
                let slot = n * 2 + (round as u16 % 2) * (n % 2);
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let seat = zone.join(slot, pid(slot), is_alive).unwrap();
                    (seat, slot)
                })
            });
            let workers: Vec<_> = workers.collect();
            seats = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        });
        for (seat, slot) in &seats {
            let worker = zone.directory().worker(seat.row());
            assert_eq!(worker, Some((*slot, pid(*slot))), "round {round}");
        }
        for (seat, _) in seats.iter().step_by(2) {
            assert!(zone.leave(seat));
        }
    }
}
