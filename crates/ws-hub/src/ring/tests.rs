//! The ring by itself: what a reader gets from one writer, and from one that died at each of the
//! steps of publishing or slept in it. Threads and processes are in tests/, orderings in
//! loom_tests.rs.

use super::*;
use crate::target::TopicHash;

const INDEX: usize = 16;
const DATA: usize = 200;

struct Memory(Vec<Word>);

impl Memory {
    /// Data starts as garbage: a ring must not care.
    fn new() -> Self {
        let word = |n: usize| Word::new(if n < 2 + INDEX { 0 } else { 0x0101_0101_0101_0101 });
        Self((0..2 + INDEX + DATA).map(word).collect())
    }

    fn ring(&self) -> Ring<'_> {
        let (index, data) = self.0[2..].split_at(INDEX);
        Ring::new(&self.0[0], &self.0[1], index, data).unwrap()
    }
}

fn publish(ring: Ring, text: &str) -> u64 {
    ring.publish(1, Target::All, &[text.as_bytes()]).unwrap().seq
}

/// Everything there is to read; what is lost counts into the second.
fn drain(reader: &mut Reader) -> (Vec<String>, u64) {
    let (mut texts, mut lost_in_all, mut out) = (Vec::new(), 0, Vec::new());
    loop {
        match reader.read(&mut out) {
            Read::Message(meta) => {
                assert_eq!(meta.len, out.len());
                texts.push(String::from_utf8(out.clone()).unwrap());
            }
            Read::Overrun { lost } => lost_in_all += lost,
            Read::Empty => return (texts, lost_in_all),
        }
    }
}

#[test]
fn every_reader_gets_every_message_in_order_round_and_round() {
    let memory = Memory::new();
    let ring = memory.ring();
    let mut readers = [Reader::new(ring), Reader::new(ring)];
    let mut out = vec![9; 50];
    for n in 0..10_000u64 {
        let payload: Vec<u8> = (0..n * 7 % 600).map(|i| (n + i * 3) as u8).collect();
        let (a, rest) = payload.split_at(payload.len() / 3);
        let (b, c) = rest.split_at(rest.len() / 2);
        let target = [Target::All, Target::Row(n as u16), Target::Topic(TopicHash(!n))];
        let target = target[n as usize % 3];
        let published = ring.publish(n as u16, target, &[a, &[], b, c]).unwrap();
        assert_eq!(published.seq, n);
        for reader in &mut readers {
            let meta = Meta { writer: n as u16, seq: n, target, len: payload.len() };
            assert_eq!(reader.read(&mut out), Read::Message(meta));
            assert_eq!(out, payload);
            assert_eq!(reader.read(&mut out), Read::Empty);
        }
    }
}

#[test]
fn a_reader_starts_at_the_end() {
    let memory = Memory::new();
    publish(memory.ring(), "before");
    let mut reader = Reader::new(memory.ring());
    assert_eq!(publish(memory.ring(), "after"), 1);
    assert_eq!(reader.behind(), 1);
    assert_eq!(drain(&mut reader), (vec!["after".into()], 0));
    assert_eq!((reader.behind(), reader.next_seq()), (0, 2));
}

#[test]
fn what_is_not_wanted_is_passed_over() {
    let memory = Memory::new();
    let mut reader = Reader::new(memory.ring());
    for n in 0..5 {
        memory.ring().publish(n, Target::All, &[&[n as u8]]).unwrap();
    }
    let mut out = Vec::new();
    for n in [1, 3] {
        let read = reader.read_if(&mut out, |meta| meta.writer % 2 == 1);
        assert!(matches!(read, Read::Message(Meta { writer, .. }) if writer == n));
        assert_eq!(out, [n as u8]);
    }
    assert_eq!(reader.read_if(&mut out, |meta| meta.writer % 2 == 1), Read::Empty);
}

#[test]
fn the_largest_message_fits_and_one_byte_more_does_not() {
    let memory = Memory::new();
    let mut reader = Reader::new(memory.ring());
    let most = memory.ring().max_message();
    assert_eq!(most, (DATA / 2 - HEAD_WORDS) * WORD);
    let error = memory.ring().publish(0, Target::All, &[&vec![0; most], b"x"]).unwrap_err();
    assert_eq!(error, RingError::TooLarge);
    assert_eq!(error.to_string(), "message too large for the zone");
    let large = "x".repeat(most);
    for _ in 0..7 {
        publish(memory.ring(), &large);
        publish(memory.ring(), &large);
        assert_eq!(drain(&mut reader), (vec![large.clone(), large.clone()], 0));
    }
}

/// By the index (small messages) and by the data (larger ones): what is read and what is lost
/// add up to what was published, and what is read is the newest, in order. Who was overtaken goes
/// on where half a ring more does not overtake it.
#[test]
fn an_overrun_is_counted_exactly() {
    for size in [0, 1, 8, 100, 300] {
        let memory = Memory::new();
        let ring = memory.ring();
        let mut reader = Reader::new(ring);
        for published in [1, 3, 16, 17, 40, 1000] {
            let first = ring.end();
            for _ in 0..published {
                publish(ring, &format!("{:0size$}", ring.end()));
            }
            let (texts, lost) = drain(&mut reader);
            assert_eq!(texts.len() as u64 + lost, published);
            let expected = (first + lost..first + published).map(|n| format!("{n:0size$}"));
            assert_eq!(texts, expected.collect::<Vec<_>>());
            let words = HEAD_WORDS + texts[0].len().div_ceil(WORD);
            let room = INDEX.min(DATA / words) as u64;
            let reach = (INDEX / 2).min(DATA / 2 / words) as u64;
            let expected = if published > room { published - reach } else { 0 };
            assert_eq!(lost, expected, "{size} {published}");
        }
    }
}

#[test]
fn the_loss_is_told_before_what_comes_after_it() {
    let memory = Memory::new();
    let mut reader = Reader::new(memory.ring());
    for n in 0..20 {
        publish(memory.ring(), &n.to_string());
    }
    let mut out = Vec::new();
    assert_eq!(reader.read_if(&mut out, |_| false), Read::Overrun { lost: 12 });
    assert!(matches!(reader.read(&mut out), Read::Message(Meta { seq: 12, .. })));
    assert_eq!(out, b"12");
}

#[test]
fn a_reader_that_was_overtaken_is_not_overtaken_again_at_once() {
    let memory = Memory::new();
    let mut reader = Reader::new(memory.ring());
    for n in 0..20 {
        publish(memory.ring(), &n.to_string());
    }
    let mut out = Vec::new();
    assert!(matches!(reader.read(&mut out), Read::Overrun { .. }));
    for n in 0..8 {
        assert!(matches!(reader.read(&mut out), Read::Message(_)), "{n}");
        publish(memory.ring(), "x");
        publish(memory.ring(), "x");
    }
}

#[test]
fn a_reader_stops_where_it_is_told() {
    let memory = Memory::new();
    let mut reader = Reader::new(memory.ring());
    (0..5).for_each(|n| _ = publish(memory.ring(), &n.to_string()));
    let mut out = Vec::new();
    assert_eq!(reader.read_before(3, &mut out, |_| false), Read::Empty);
    assert_eq!(reader.next_seq(), 3);
    assert_eq!(reader.read_before(3, &mut out, |_| true), Read::Empty);
    assert!(matches!(reader.read_before(4, &mut out, |_| true), Read::Message(_)));
    assert_eq!(out, b"3");
}

#[test]
fn a_publisher_passes_over_its_own_message_when_it_is_the_next() {
    let memory = Memory::new();
    let mut reader = Reader::new(memory.ring());
    let (other, own) = (publish(memory.ring(), "other"), publish(memory.ring(), "own"));
    assert!(!reader.pass(own));
    let mut out = Vec::new();
    assert!(matches!(reader.read(&mut out), Read::Message(meta) if meta.seq == other));
    assert!(reader.pass(own));
    assert_eq!(reader.read(&mut out), Read::Empty);
}

#[test]
fn everybody_is_woken_several_times_a_lap() {
    for size in [1, 200] {
        let memory = Memory::new();
        let mut since = 0;
        for _ in 0..1000 {
            let published = memory.ring().publish(0, Target::All, &[&vec![0; size]]).unwrap();
            since = if published.wake_all { 0 } else { since + 1 };
            let words = HEAD_WORDS + size.div_ceil(WORD);
            assert!(since * words <= DATA / 8 && since <= INDEX / 8, "{since}");
        }
    }
}

/// Step 1 or 2: place taken, nothing that points to it.
#[test]
fn a_writer_that_dies_before_the_commit_leaves_nothing() {
    let memory = Memory::new();
    let mut reader = Reader::new(memory.ring());
    for round in 0..100 {
        memory.0[1].fetch_add(7, Ordering::Relaxed);
        let text = round.to_string();
        assert_eq!(publish(memory.ring(), &text), round);
        assert_eq!(drain(&mut reader), (vec![text], 0));
    }
}

/// Between step 3 and 4: the message is there, `head` does not say so.
#[test]
fn a_writer_that_dies_after_the_commit_has_published() {
    let memory = Memory::new();
    let mut reader = Reader::new(memory.ring());
    for round in 0..50 {
        let before = memory.0[0].load(Ordering::Relaxed);
        publish(memory.ring(), "last words");
        memory.0[0].store(before, Ordering::Relaxed);
        let late = (round % 2 == 0).then(|| Reader::new(memory.ring()));
        if late.is_none() {
            assert_eq!(publish(memory.ring(), "next"), before + 1);
        }
        let (texts, lost) = drain(&mut reader);
        assert_eq!((texts[0].as_str(), texts.len(), lost), ("last words", 1 + round % 2, 0));
        if let Some(mut late) = late {
            assert_eq!(drain(&mut late), (vec![], 0), "published before it came");
        }
    }
}

/// A writer that slept while the others went round writes into a younger record: whatever word it
/// hits, that message is lost and counted, and the next one is read.
#[test]
fn a_spoiled_record_is_lost_and_never_delivered() {
    for word in 0..HEAD_WORDS + 2 {
        let memory = Memory::new();
        let mut reader = Reader::new(memory.ring());
        publish(memory.ring(), "0123456789abcdef");
        publish(memory.ring(), "the next");
        for bit in 0..64 {
            memory.0[2 + INDEX + word].fetch_xor(1 << bit, Ordering::Relaxed);
            let mut again = Reader { ring: reader.ring, next: reader.next, lost: 0 };
            assert_eq!(drain(&mut again), (vec!["the next".into()], 1), "word {word} bit {bit}");
            memory.0[2 + INDEX + word].fetch_xor(1 << bit, Ordering::Relaxed);
        }
        assert_eq!(drain(&mut reader).0.len(), 2);
    }
}

/// The index may point anywhere after damage: nothing is read out of bounds.
#[test]
fn a_spoiled_index_is_no_danger() {
    let memory = Memory::new();
    let mut reader = Reader::new(memory.ring());
    publish(memory.ring(), "a");
    publish(memory.ring(), "b");
    memory.0[2].fetch_or(0xffff_ffff, Ordering::Relaxed);
    assert_eq!(drain(&mut reader), (vec!["b".into()], 1));
}

/// A writer that finds itself overtaken before the commit takes a new place.
#[test]
fn an_overtaken_writer_tries_again_elsewhere() {
    let memory = Memory::new();
    let ring = memory.ring();
    let head = Head { position: 0, seq: 0, len: 0, writer: 0, target: Target::All, hash: 0 };
    ring.tail.store(DATA as u64, Ordering::Relaxed);
    assert_eq!(ring.commit(&mut { head }), Some(0), "a full lap is not over it yet");
    ring.tail.store(DATA as u64 + 1, Ordering::Relaxed);
    assert_eq!(ring.commit(&mut { head }), None);
    let go_on = || false;
    assert!(!record::store(ring.data, 0, &[&[0; 4096]], go_on), "looks after 4 KB");
}

#[test]
fn laps_are_compared_modulo_2_32() {
    assert_eq!(laps_ahead(0, 1), -1);
    assert_eq!(laps_ahead(1 << 32 | 77, 1), 0);
    assert_eq!(laps_ahead(u64::from(u32::MAX) << 32, 0), -1);
    assert_eq!(laps_ahead(0, u32::MAX), 1);
    let memory = Memory::new();
    // Shortly before the lap's 32 bits overflow.
    let seq = (u64::from(u32::MAX) - 2) * INDEX as u64;
    memory.0[0].store(seq, Ordering::Relaxed);
    for word in &memory.0[2..2 + INDEX] {
        word.store(u64::from(u32::MAX - 2) << 32, Ordering::Relaxed);
    }
    let mut reader = Reader::new(memory.ring());
    for n in seq..seq + 5 * INDEX as u64 {
        assert_eq!(publish(memory.ring(), "x"), n);
        assert_eq!(drain(&mut reader), (vec!["x".into()], 0));
    }
}

#[test]
fn lengths_that_are_no_ring() {
    let words: Vec<Word> = (0..100).map(|_| Word::new(0)).collect();
    assert!(Ring::new(&words[0], &words[1], &words[2..5], &words[10..]).is_none());
    assert!(Ring::new(&words[0], &words[1], &words[2..2], &words[10..]).is_none());
    assert!(Ring::new(&words[0], &words[1], &words[2..6], &words[90..]).is_none());
    assert!(Ring::new(&words[0], &words[1], &words[2..6], &words[10..]).is_some());
}
