//! The ring under threads: four writers at full speed, three readers of which one is slow, in
//! rings so small that everybody is overrun all the time. Whatever comes is whole, in order and
//! comes once; what is read and what is lost add up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ws_hub::memory::Word;
use ws_hub::ring::{Read, Reader, RingError, Target};
use ws_hub::Zone;

#[allow(dead_code)]
mod common;
use common::{message, Books};

const WRITERS: u32 = 4;

fn storm(bytes: usize, messages: u64) {
    let memory: Vec<Word> = (0..bytes / 8).map(|_| Word::new(0)).collect();
    let ring = Zone::init(&memory, 64).unwrap().ring();
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
