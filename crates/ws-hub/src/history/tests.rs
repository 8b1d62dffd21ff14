//! What the parts of a zone must always be to each other, and that a death in place of any single
//! store leaves a zone that is that again, with everything in it that was not being changed.

use std::collections::HashSet;
use std::panic::{catch_unwind, AssertUnwindSafe};

use super::cells::{Cell, CELL_BYTES, LINK};
use super::parts::{BUSY, GRAVES, IDLE, RULES};
use super::record::{
    cells_of, number, About, NEXT, NEXT_KEY, OFFSET, OLDER, PREVIOUS, SKIP, TOPIC,
};
use super::row::{
    CELLS, COUNT, FIRST, FIRST_STUB, LAST, LAST_STUB, NEWER_USED, OLDER_USED, SKIP_TO, TOP,
};
use super::*;
use crate::memory::mortal::die_at;
use crate::memory::Ordering;

thread_local!(static RANDOM: std::cell::Cell<u64> = const { std::cell::Cell::new(7) });

fn random() -> u64 {
    RANDOM.set(RANDOM.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    RANDOM.get()
}

const ME: Owner = Owner { id: 1, is_alive: |_| true, random };
const ALL: Limit = Limit { records: usize::MAX, bytes: usize::MAX };

/// Goes through everything that hangs together.
struct Check<'a> {
    parts: Parts<'a>,
    seen: HashSet<Cell>,
    keyed: HashSet<Cell>,
}

impl Check<'_> {
    fn chain(&mut self, mut cell: Cell) -> usize {
        let mut n = 0;
        while cell != 0 {
            assert!(self.seen.insert(cell), "cell {cell} is used twice");
            assert!(cell < self.parts.cells.fresh());
            n += 1;
            cell = self.parts.cells.half(cell, LINK);
        }
        n
    }

    /// A list of records; its last one and the number of cells.
    fn records(&mut self, first: Cell) -> (Cell, usize) {
        let (mut record, mut last, mut n) = (first, 0, 0);
        while record != 0 {
            let len = self.chain(record);
            assert_eq!(len, cells_of(&self.parts.cells, record));
            if About::of(&self.parts.cells, record).key > 0 {
                self.keyed.insert(record);
            }
            n += len;
            (last, record) = (record, self.parts.cells.half(record, NEXT));
        }
        (last, n)
    }

    fn row(&mut self, row: Cell) {
        let Parts { cells, .. } = self.parts;
        let more = self.parts.more(row);
        self.chain(row);
        let (last, live) = self.records(cells.half(row, FIRST));
        let (last_stub, stubs) = self.records(cells.half(more, FIRST_STUB));
        assert_eq!(last, cells.half(row, LAST));
        assert_eq!(last_stub, cells.half(more, LAST_STUB));
        assert_eq!(live + stubs, cells.half(row, CELLS) as usize);
        let (mut record, mut before) = (cells.half(row, FIRST), 0);
        let (mut mark, mut place) = (None, None);
        let mut count = 0;
        while record != 0 {
            let (n, offset) = (number(&cells, record), cells.word(record, OFFSET));
            let (last, after) = place.unwrap_or((n - 1, super::record::before(&cells, record)));
            assert_eq!((n, super::record::before(&cells, record)), (last + 1, after));
            place = Some((n, offset));
            count += 1;
            assert_eq!(cells.half(record, PREVIOUS), before);
            assert_eq!(cells.half(record, TOPIC), row);
            if n.is_multiple_of(SKIP) {
                assert!(mark.is_none_or(|mark| mark == cells.half(record, OLDER)));
                mark = Some(record);
            }
            (before, record) = (record, cells.half(record, NEXT));
        }
        assert_eq!(count, cells.half(row, COUNT));
        assert!(place.is_none_or(|(_, offset)| offset == cells.word(row, TOP)));
        assert!(mark.is_none_or(|mark| mark == cells.half(more, SKIP_TO)));
    }

    /// The rows in an order of use.
    fn used(&self, at: usize) -> Vec<Cell> {
        let Parts { cells, .. } = self.parts;
        let (mut row, mut rows) = (self.parts.get(at) as Cell, Vec::new());
        while row != 0 {
            assert_eq!(self.parts.is_busy(row), at == BUSY);
            let older = cells.half(self.parts.more(row), OLDER_USED);
            assert_eq!(older, rows.last().copied().unwrap_or(0));
            rows.push(row);
            row = cells.half(self.parts.more(row), NEWER_USED);
        }
        assert_eq!(self.parts.get(at) >> 32, u64::from(rows.last().copied().unwrap_or(0)));
        rows
    }
}

fn check(parts: Parts<'_>) {
    let mut check = Check { parts, seen: HashSet::new(), keyed: HashSet::new() };
    let mut rows = Vec::new();
    for bucket in parts.topics {
        rows.extend(parts.chain(bucket));
    }
    rows.iter().for_each(|&row| check.row(row));
    let mut used = [check.used(IDLE), check.used(BUSY)].concat();
    used.sort_unstable();
    rows.sort_unstable();
    assert_eq!(rows, used);
    assert_eq!(rows.len() as u64, parts.get(TOPICS));
    check.records(parts.get(GRAVES) as Cell);
    check.chain(parts.get(RULES) as Cell);
    assert_eq!(parts.used(), (check.seen.len() * CELL_BYTES) as u64, "cells that nobody has");
    let mut keyed = HashSet::new();
    for bucket in parts.keys {
        let mut record = bucket.load(Ordering::Relaxed) as Cell;
        while record != 0 {
            assert!(keyed.insert(record));
            record = parts.cells.half(record, NEXT_KEY);
        }
    }
    assert_eq!(keyed, check.keyed);
}

/// Of each topic: position, and its messages by offset.
type Content = Vec<(Position, Vec<(u64, Vec<u8>)>)>;

const NAMES: usize = 60;

fn name(n: usize) -> Vec<u8> {
    format!("topic {n}").into_bytes()
}

fn content(history: &History<'_>) -> Content {
    let held = history.hold();
    let of = |n| {
        let row = held.find(&name(n));
        let mut out = Batch::default();
        held.read(row, From::Newest(usize::MAX), ALL, &mut out).unwrap();
        let records = out.iter().map(|record| (record.offset, record.data.to_vec()));
        (held.top(row), records.collect())
    };
    (0..NAMES).map(of).collect()
}

fn publish(history: &History<'_>, n: usize, count: u32, bytes: u64, key: &[u8], data: &[u8]) {
    let limits = Limits { count, ttl: 1000, bytes };
    let key = (!key.is_empty()).then_some(key);
    let message = Message { data, flags: 0, key, subscribed: n.is_multiple_of(2) };
    let _ = history.publish(&Topic { name: &name(n), limits, generation: 0 }, &message, 0);
}

/// A small zone that is full: one topic of many messages, one with keys, many of one message.
fn full() -> Vec<Word> {
    let memory: Vec<Word> = (0..2400).map(|_| Word::new(0)).collect();
    let history = History::init(&memory, ME).unwrap();
    for n in 0..70 {
        publish(&history, 0, 100, 100 * 64, b"", &[n]);
    }
    for n in 0..6 {
        publish(&history, 2, 3, 0, &[n; 30], &[n; 60]);
    }
    for n in 0.. {
        publish(&history, 3 + n % (NAMES - 4), 3, 0, b"", &[n as u8; 10]);
        if history.stats().evicted >= 10 {
            break;
        }
    }
    check(*history.hold());
    memory
}

/// Lets the change die at each of its stores, and every few times the repair after it too.
fn dies_anywhere(change: impl Fn(&History<'_>)) {
    let original = full();
    let copy = || -> Vec<Word> {
        original.iter().map(|word| Word::new(word.load(Ordering::Relaxed))).collect()
    };
    let before = content(&History::attach(&copy(), ME).unwrap());
    let memory = copy();
    let history = History::attach(&memory, ME).unwrap();
    change(&history);
    check(*history.hold());
    let done = content(&history);
    assert!(before != done || history.stats().topics > 0);
    for n in 0.. {
        let memory = copy();
        let history = History::attach(&memory, ME).unwrap();
        die_at(Some(n));
        let is_dead = catch_unwind(AssertUnwindSafe(|| change(&history))).is_err();
        if is_dead && n.is_multiple_of(5) {
            die_at(Some(n * 37 % 3000));
            let _ = catch_unwind(AssertUnwindSafe(|| drop(history.hold())));
        }
        die_at(None);
        check(*history.hold());
        let after = content(&history);
        let mut ended = 0;
        for ((before, done), after) in before.iter().zip(&done).zip(&after) {
            if after.0.epoch != before.0.epoch && after.0.epoch != done.0.epoch {
                ended += usize::from(before.0.offset > 0 && done.0.offset > 0);
            } else if after.0.offset > 0 {
                assert!(after.1 == before.1 || after.1 == done.1, "died at store {n}");
            }
        }
        assert!(ended <= 2, "{ended} epochs ended at store {n}");
        if !is_dead {
            println!("{n} stores");
            return;
        }
    }
}

#[test]
fn a_publisher_dies_that_evicts() {
    dies_anywhere(|history| publish(history, 3, 3, 0, b"", &[9; 1200]));
    dies_anywhere(|history| publish(history, NAMES - 1, 3, 0, b"", &[9; 100]));
}

#[test]
fn a_publisher_dies_that_trims() {
    dies_anywhere(|history| publish(history, 2, 3, 0, &[9; 30], &[9; 60]));
    dies_anywhere(|history| publish(history, 2, 3, 11 * 64, &[9; 30], &[9; 60]));
    dies_anywhere(|history| publish(history, 0, 40, 100 * 64, b"", &[9; 60]));
}

#[test]
fn others_die() {
    dies_anywhere(|history| assert!(history.forget(&name(0))));
    dies_anywhere(|history| history.set_subscribed(&name(2), false));
    for now in [500, 1001, KEY_MS + 1, POSITION_MS + 1] {
        dies_anywhere(|history| history.sweep(now));
    }
    let rule = |pattern: &[u8]| {
        let limits = Some(Limits { count: 1, ttl: 1, bytes: 0 });
        Rule { pattern: pattern.into(), limits, flags: 0 }
    };
    dies_anywhere(|history| history.set_rules(&[rule(b"topic 1*"), rule(b"x*")], 0).unwrap());
    dies_anywhere(|history| {
        let limits = Limits { count: 9, ttl: 1000, bytes: 0 };
        let topic = Topic { name: &name(2), limits, generation: 0 };
        let mut out = Batch::default();
        let _ = history.read(&topic, From::Newest(9), ALL, 1001, &mut out);
    });
}

#[test]
fn a_copy_takes_what_follows_and_reads_as_any_history() {
    let words: Vec<Word> = (0..4800).map(|_| Word::new(0)).collect();
    let zone = History::init(&words, ME).unwrap();
    let limits = Limits { count: 3, ttl: 1000, bytes: 0 };
    let rule = Rule { pattern: (*b"t").into(), limits: Some(limits), flags: 0 };
    zone.set_rules(&[rule], 0).unwrap();
    let mut rules = Rules::default();
    zone.refresh(&mut rules);
    let topic = rules.topic(b"t").unwrap();
    let after = |epoch, offset, before| {
        let message = Message { data: &[offset as u8], flags: 0, key: None, subscribed: true };
        zone.place(&topic, Position { epoch, offset }, before, 10, &message).unwrap()
    };
    let place = |epoch, offset| after(epoch, offset, offset - 1);
    let read = |from| {
        let mut batch = Batch::default();
        let page = zone.read(&topic, from, ALL, 10, &mut batch)?;
        Ok((page.top, batch.iter().map(|record| record.data[0]).collect::<Vec<u8>>()))
    };
    let at = |epoch, offset| Position { epoch, offset };
    assert_eq!(place(7, 1), Placed::Gap, "of what nothing is known");
    // Empty there: whatever comes first follows, and who had nothing has missed nothing.
    zone.begin_copy(&topic, Position::NOWHERE, 10).unwrap();
    assert_eq!(read(From::After(Position::NOWHERE)), Ok((Position::NOWHERE, vec![])));
    assert_eq!(place(7, 2), Placed::Gap);
    assert_eq!((place(7, 1), place(7, 1)), (Placed::Appended, Placed::Known));
    assert_eq!(read(From::After(Position::NOWHERE)), Ok((at(7, 1), vec![1])));
    assert_eq!(
        (place(7, 3), place(8, 2), place(7, 2)),
        (Placed::Gap, Placed::Gap, Placed::Appended)
    );
    (3..=5).for_each(|offset| assert_eq!(place(7, offset), Placed::Appended));
    assert_eq!(read(From::After(Position::NOWHERE)), Err(Gap::Epoch), "the first is gone");
    assert_eq!(read(From::After(at(7, 2))), Ok((at(7, 5), vec![3, 4, 5])));
    assert_eq!(read(From::After(at(7, 1))), Err(Gap::Trimmed));
    // Anew, in the middle of another epoch.
    zone.set_mark(b"t", 9);
    zone.begin_copy(&topic, at(8, 20), 10).unwrap();
    assert_eq!((zone.mark(b"t"), zone.mark(b"u")), (9, 0));
    assert_eq!((place(8, 21), place(8, 23)), (Placed::Appended, Placed::Gap));
    assert_eq!(read(From::After(at(8, 20))), Ok((at(8, 21), vec![21])));
    assert_eq!(read(From::After(at(7, 5))), Err(Gap::Epoch));
    assert_eq!(read(From::Newest(9)), Ok((at(8, 21), vec![21])));
    // A piece that was asked for before: nothing that has been there goes.
    zone.begin_copy(&topic, at(8, 20), 10).unwrap();
    assert_eq!(
        (read(From::After(at(8, 21))), place(8, 21)),
        (Ok((at(8, 21), vec![])), Placed::Known)
    );
    // With gaps between offsets.
    assert_eq!((after(8, 30, 22), after(8, 30, 21)), (Placed::Gap, Placed::Appended));
    assert_eq!((after(8, 40, 30), after(8, 50, 40)), (Placed::Appended, Placed::Appended));
    assert_eq!(read(From::After(at(8, 21))), Ok((at(8, 50), vec![30, 40, 50])), "only 20 is gone");
    assert_eq!(read(From::After(at(8, 20))), Err(Gap::Trimmed));
    assert_eq!(read(From::After(at(8, 39))), Ok((at(8, 50), vec![40, 50])), "before a message");
    assert_eq!(read(From::After(at(8, 51))), Err(Gap::Epoch));
    assert_eq!(read(From::Newest(2)), Ok((at(8, 50), vec![40, 50])));
    check(zone.parts);
}

#[test]
fn a_topic_that_is_kept_here_again_begins_anew() {
    let words: Vec<Word> = (0..4800).map(|_| Word::new(0)).collect();
    let zone = History::init(&words, ME).unwrap();
    let limits = Limits { count: 9, ttl: 1000, bytes: 0 };
    let topic = Topic { name: b"t", limits, generation: 0 };
    let message = Message { data: b"x", flags: 0, key: None, subscribed: true };
    let publish = || zone.publish(&topic, &message, 10).unwrap().position;
    let (before, unused) = (publish(), zone.position(b"u"));
    zone.begin_copy(&topic, Position { epoch: 7, offset: 40 }, 10).unwrap();
    assert_eq!(
        zone.place(&topic, Position { epoch: 7, offset: 41 }, 40, 10, &message),
        Ok(Placed::Appended)
    );
    zone.drop_copies(|_| false);
    assert_eq!(zone.position(b"t"), Position { epoch: 7, offset: 41 });
    zone.drop_copies(|name| name == b"t");
    let after = publish();
    assert_eq!((before.offset, after.offset), (1, 1));
    assert!(after.epoch != before.epoch && after.epoch != 7);
    assert_ne!(zone.position(b"u").epoch, unused.epoch, "of any topic that was kept elsewhere");
    zone.drop_copies(|_| true);
    assert_eq!(zone.position(b"t"), after, "it is no copy");
    check(zone.parts);
}

#[test]
fn any_offset_of_a_long_copy_with_gaps_is_found() {
    let words: Vec<Word> = (0..48_000).map(|_| Word::new(0)).collect();
    let zone = History::init(&words, ME).unwrap();
    let topic = Topic {
        name: b"t",
        limits: Limits { count: 500, ttl: 1000, bytes: 1 << 20 },
        generation: 0,
    };
    zone.begin_copy(&topic, Position { epoch: 7, offset: 100 }, 10).unwrap();
    let offsets: Vec<u64> = (0..1200).map(|n| 101 + 3 * n + n % 2).collect();
    let mut before = 100;
    for &offset in &offsets {
        let data = &offset.to_le_bytes()[..];
        let message = Message { data, flags: 0, key: None, subscribed: true };
        let at = Position { epoch: 7, offset };
        assert_eq!(zone.place(&topic, at, before, 10, &message), Ok(Placed::Appended));
        before = offset;
    }
    let kept = &offsets[700..];
    let mut batch = Batch::default();
    for after in offsets[699]..=*kept.last().unwrap() {
        let at = From::After(Position { epoch: 7, offset: after });
        let page = zone.read(&topic, at, Limit { records: 1, bytes: 1 }, 10, &mut batch).unwrap();
        let expected = kept.iter().filter(|&&offset| offset > after);
        assert_eq!(page.all, expected.clone().count() as u64);
        assert_eq!(batch.get(0).map(|r| r.offset), expected.copied().next());
    }
    for n in [1, 63, 64, 65, 499, 500, 501] {
        let limit = Limit { records: 1, bytes: 1 };
        let page = zone.read(&topic, From::Newest(n), limit, 10, &mut batch).unwrap();
        assert_eq!(page.all, n.min(500) as u64);
        assert_eq!(batch.get(0).map(|r| r.offset), Some(kept[500 - n.min(500)]));
    }
    check(zone.parts);
}
