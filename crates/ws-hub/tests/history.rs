//! Histories: what is kept and for how long, what a reader is told, what it costs.

use ws_hub::history::{
    Batch, From, Gap, HistoryError, Limit, Limits, Message, Position, Rule, Rules, KEY_MS,
    POSITION_MS,
};
use ws_hub::topic::TopicError;
use ws_hub::History;

#[path = "common/history.rs"]
mod common;
use common::{keyed, limits, offsets, text, topic, used, words, ALL, ME};

const MB: usize = 1 << 20;
const MINUTE: u64 = 60_000;

#[test]
fn what_was_published_is_read() {
    let memory = words(MB);
    let history = History::init(&memory, ME).unwrap();
    let news = topic(b"news", limits(10, MINUTE));
    let before = history.position(b"news");
    assert_eq!(before.offset, 0);
    let mut out = Batch::default();
    let page = history.read(&news, From::After(before), ALL, 0, &mut out).unwrap();
    assert_eq!((page.top, page.more, out.len()), (before, false, 0));
    assert_eq!(used(&history), 0, "reading makes nothing");

    let long: Vec<u8> = (0..5000).map(|n| n as u8).collect();
    for (n, data) in [&b""[..], b"a", &[0xff; 24], &[1; 25], &long].into_iter().enumerate() {
        let message = Message { flags: n as u8, ..text(data) };
        let published = history.publish(&news, &message, 1000 + n as u64).unwrap();
        assert_eq!(published.position, Position { epoch: before.epoch, offset: n as u64 + 1 });
        assert!(!published.repeated);
    }
    let page = history.read(&news, From::After(before), ALL, 2000, &mut out).unwrap();
    assert_eq!(page.top, history.position(b"news"));
    assert_eq!(offsets(&out), [1, 2, 3, 4, 5]);
    assert_eq!(out.iter().map(|r| r.time).collect::<Vec<_>>(), [1000, 1001, 1002, 1003, 1004]);
    assert_eq!(out.iter().map(|r| r.flags).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(out.get(0).unwrap().data, b"");
    assert_eq!(out.get(4).unwrap().data, long);
    let two = Limit { records: 2, ..ALL };
    let page = history.read(&news, From::Newest(3), two, 2000, &mut out).unwrap();
    assert_eq!((offsets(&out), page.more), (vec![3, 4], true));
    let tiny = Limit { records: 9, bytes: 10 };
    let at = Position { offset: 4, ..before };
    history.read(&news, From::After(at), tiny, 2000, &mut out).unwrap();
    assert_eq!(offsets(&out), [5], "one comes, however large");
}

#[test]
fn a_reload_finds_everything_and_another_size_nothing() {
    let memory = words(MB);
    assert!(History::attach(&memory, ME).is_none());
    let news = topic(b"news", limits(10, MINUTE));
    let at = History::init(&memory, ME).unwrap().publish(&news, &text(b"a"), 1).unwrap().position;
    assert_eq!(History::attach(&memory, ME).unwrap().position(b"news"), at);
    assert!(History::attach(&memory[..memory.len() / 2], ME).is_none());
    let again = History::init(&memory, ME).unwrap();
    assert_ne!(again.position(b"news").epoch, at.epoch);
    assert_eq!(History::init(&memory[..1000], ME).err(), Some(HistoryError::TooSmall));
}

#[test]
fn number_and_age_are_kept_to() {
    let memory = words(MB);
    let history = History::init(&memory, ME).unwrap();
    let news = topic(b"news", limits(3, MINUTE));
    let start = history.position(b"news");
    for n in 0..5 {
        history.publish(&news, &text(b"a"), n * 1000).unwrap();
    }
    let mut out = Batch::default();
    let after = |offset| From::After(Position { offset, ..start });
    assert_eq!(history.read(&news, after(1), ALL, 4000, &mut out), Err(Gap::Trimmed));
    history.read(&news, after(2), ALL, 4000, &mut out).unwrap();
    assert_eq!(offsets(&out), [3, 4, 5]);
    // The clock moves: one message after the other is too old.
    history.read(&news, From::Newest(9), ALL, MINUTE + 3000, &mut out).unwrap();
    assert_eq!(offsets(&out), [4, 5]);
    assert_eq!(history.read(&news, after(2), ALL, MINUTE + 3000, &mut out), Err(Gap::Trimmed));
    let late = history.read(&news, From::Newest(9), ALL, 9 * MINUTE, &mut out).unwrap();
    assert_eq!((out.len(), late.top.offset), (0, 5));
    history.read(&news, after(5), ALL, 9 * MINUTE, &mut out).unwrap();
    assert_eq!(history.read(&news, after(4), ALL, 9 * MINUTE, &mut out), Err(Gap::Trimmed));
    // A clock that goes back does no harm.
    history.publish(&news, &text(b"a"), 5).unwrap();
    assert_eq!(history.position(b"news").offset, 6);
}

#[test]
fn a_position_of_nowhere_is_told() {
    let memory = words(MB);
    let history = History::init(&memory, ME).unwrap();
    let news = topic(b"news", limits(3, MINUTE));
    let at = history.publish(&news, &text(b"a"), 0).unwrap().position;
    let mut out = Batch::default();
    let mut gap = |at| history.read(&news, From::After(at), ALL, 0, &mut out).err();
    assert_eq!(gap(Position { offset: 2, ..at }), Some(Gap::Epoch));
    assert_eq!(gap(Position { offset: u64::MAX, ..at }), Some(Gap::Epoch));
    assert_eq!(gap(Position { epoch: at.epoch + 1, offset: 0 }), Some(Gap::Epoch));
    assert_eq!(gap(at), None);
    assert!(history.forget(b"news"));
    assert!(!history.forget(b"news"));
    assert_eq!((history.stats().forgotten, history.stats().killed), (1, 0));
    assert_eq!(gap(at), Some(Gap::Epoch));
    assert_eq!(gap(Position { offset: 0, ..at }), Some(Gap::Epoch));
    assert_eq!(gap(history.position(b"news")), None);
}

#[test]
fn a_key_answers_its_first_message_for_five_minutes() {
    let memory = words(MB);
    let history = History::init(&memory, ME).unwrap();
    let news = topic(b"news", limits(2, 2 * MINUTE));
    let first = history.publish(&news, &keyed(b"a", b"key"), 0).unwrap();
    let other = topic(b"other", limits(2, MINUTE));
    assert!(!history.publish(&other, &keyed(b"a", b"key"), 0).unwrap().repeated);
    // Trimmed by number, then too old: the key is still known.
    for n in 1..9 {
        history.publish(&news, &text(b"b"), n).unwrap();
    }
    for now in [1, KEY_MS] {
        let again = history.publish(&news, &keyed(b"c", b"key"), now).unwrap();
        assert_eq!((again.position, again.repeated), (first.position, true));
    }
    assert_eq!(history.position(b"news").offset, 9);
    let later = history.publish(&news, &keyed(b"d", b"key"), KEY_MS + 1).unwrap();
    assert_eq!((later.position.offset, later.repeated), (10, false));
    let again = history.publish(&news, &keyed(b"e", b"key"), KEY_MS + 2).unwrap();
    assert_eq!(again.position, later.position);
    let mut out = Batch::default();
    history.read(&news, From::Newest(1), ALL, KEY_MS + 2, &mut out).unwrap();
    assert_eq!(out.get(0).map(|r| (r.key, r.data)), Some((&b"key"[..], &b"d"[..])));
    // Forgotten with its history.
    history.forget(b"news");
    assert!(!history.publish(&news, &keyed(b"f", b"key"), KEY_MS + 2).unwrap().repeated);
}

#[test]
fn a_flood_of_keys_stays_within_its_topic() {
    let memory = words(MB);
    let history = History::init(&memory, ME).unwrap();
    let kept = topic(b"kept", limits(10, MINUTE));
    let at = history.publish(&kept, &text(b"a"), 0).unwrap().position;
    let flood = topic(b"flood", limits(1, MINUTE));
    for n in 0..1_000_000u32 {
        history.publish(&flood, &keyed(b"", &n.to_le_bytes()), 1).unwrap();
    }
    assert!(used(&history) < history.stats().capacity / 7);
    assert_eq!(history.stats().evicted, 0);
    assert_eq!(history.position(b"kept"), at);
    // The newest are known, the oldest had to go.
    let again = |n: u32| history.publish(&flood, &keyed(b"", &n.to_le_bytes()), 1).unwrap();
    assert!(again(999_999).repeated);
    assert!(again(999_000).repeated);
    assert!(!again(0).repeated);
    // And in time all of them.
    history.publish(&kept, &text(b"a"), KEY_MS + 2).unwrap();
    for _ in 0..5000 {
        history.sweep(KEY_MS + 2);
    }
    assert_eq!(used(&history), 2 * 2 * 64 + 64);
}

#[test]
fn a_topic_of_large_messages_trims_itself() {
    let memory = words(MB);
    let history = History::init(&memory, ME).unwrap();
    let kept = topic(b"kept", limits(10, MINUTE));
    let at = history.publish(&kept, &text(b"a"), 0).unwrap().position;
    let flood = topic(b"flood", limits(100_000, MINUTE));
    let large = vec![7; 50_000];
    for _ in 0..100 {
        history.publish(&flood, &text(&large), 1).unwrap();
    }
    assert!(used(&history) <= history.stats().capacity / 7);
    assert_eq!(history.position(b"kept"), at);
    let mut out = Batch::default();
    history.read_all(&flood, From::Newest(9), ALL, 1, &mut out).unwrap();
    assert_eq!(offsets(&out), [99, 100]);
    assert!(out.iter().all(|record| record.data == large));
    let error = history.publish(&flood, &text(&vec![0; MB / 8]), 1);
    assert_eq!(error, Err(HistoryError::TooLarge));
    assert_eq!(history.position(b"flood").offset, 100);
    let all = Limits { bytes: u64::MAX, ..flood.limits };
    let error = history.publish(&topic(b"flood", all), &text(&vec![0; MB / 2]), 1);
    assert_eq!(error, Err(HistoryError::TooLarge));
    history.publish(&topic(b"flood", all), &text(&vec![0; MB / 3]), 1).unwrap();
}

#[test]
fn when_full_those_without_subscribers_go_first_then_the_longest_unused() {
    let memory = words(MB);
    let history = History::init(&memory, ME).unwrap();
    let heard = topic(b"heard", limits(10, MINUTE));
    let message = Message { subscribed: true, ..text(b"a") };
    let at = history.publish(&heard, &message, 0).unwrap().position;
    let mut names = Vec::new();
    let mut positions = Vec::new();
    while history.stats().evicted < 1000 {
        names.push(format!("flood{}", names.len()));
        let flood = topic(names.last().unwrap().as_bytes(), limits(10, MINUTE));
        positions.push(history.publish(&flood, &text(b"a"), 1).unwrap().position);
    }
    assert_eq!(history.position(b"heard"), at, "has subscribers");
    let is_there = |n: usize| history.position(names[n].as_bytes()) == positions[n];
    assert!((0..1000).all(|n| !is_there(n)), "the oldest are gone");
    assert!((1000..names.len()).all(is_there), "and nobody else");
    // What was evicted says so, even if it was the zone's epoch then.
    let mut out = Batch::default();
    for n in 0..1000 {
        let gone = topic(names[n].as_bytes(), limits(10, MINUTE));
        let from = From::After(Position { offset: 0, ..positions[n] });
        assert_eq!(history.read(&gone, from, ALL, 1, &mut out), Err(Gap::Epoch));
    }
    // Once nobody listens it goes as others do.
    history.set_subscribed(b"heard", false);
    let goal = history.stats().evicted + names.len() as u64;
    while history.stats().evicted < goal {
        names.push(format!("flood{}", names.len()));
        let flood = topic(names.last().unwrap().as_bytes(), limits(10, MINUTE));
        history.publish(&flood, &text(b"a"), 1).unwrap();
    }
    assert_ne!(history.position(b"heard"), at);
}

#[test]
fn a_position_outlives_its_messages_by_a_day() {
    let memory = words(MB);
    let history = History::init(&memory, ME).unwrap();
    let news = topic(b"news", limits(3, MINUTE));
    let at = history.publish(&news, &text(b"a"), 1).unwrap().position;
    let sweep = |now| (0..memory.len()).step_by(64).for_each(|_| history.sweep(now));
    sweep(POSITION_MS);
    assert_eq!(history.position(b"news"), at);
    assert_eq!(used(&history), 128, "the message is gone");
    sweep(POSITION_MS + 2);
    assert_eq!(used(&history), 0);
    assert_ne!(history.position(b"news").epoch, at.epoch);
    assert_eq!(history.stats().evicted, 0);
}

#[test]
fn sizes_are_as_promised() {
    let memory = words(16 * MB);
    let history = History::init(&memory, ME).unwrap();
    let news = topic(&[b'n'; 32], limits(100_000, MINUTE));
    history.publish(&news, &text(&[0; 100]), 1).unwrap();
    let first = used(&history);
    for _ in 0..999 {
        history.publish(&news, &text(&[0; 100]), 1).unwrap();
    }
    let message = (used(&history) - first) / 999;
    println!("100 bytes take {message}, a topic {}", first - message);
    assert!(message <= 200);
    assert!(first - message <= 320);
    assert!(history.stats().capacity as f64 > 0.96 * (16 * MB) as f64);
}

#[test]
fn any_offset_among_many_is_found() {
    let memory = words(16 * MB);
    let history = History::init(&memory, ME).unwrap();
    let bytes = 16 * MB as u64;
    let news = topic(b"news", Limits { bytes, ..limits(100_000, MINUTE) });
    let mut at = history.position(b"news");
    for n in 1..=110_000u64 {
        at = history.publish(&news, &text(&n.to_le_bytes()), 1).unwrap().position;
    }
    let mut out = Batch::default();
    for offset in (10_000..110_000).step_by(37).chain(109_800..110_000) {
        let from = From::After(Position { offset, ..at });
        let one = Limit { records: 1, ..ALL };
        let page = history.read(&news, from, one, 1, &mut out).unwrap();
        assert_eq!(page.more, offset + 1 < 110_000);
        let record = out.get(0).unwrap();
        assert_eq!((record.offset, record.data), (offset + 1, &(offset + 1).to_le_bytes()[..]));
    }
    let from = From::After(Position { offset: 10_000, ..at });
    history.read_all(&news, from, ALL, 1, &mut out).unwrap();
    assert!(offsets(&out).into_iter().eq(10_001..=110_000));
    // A smaller limit holds at once, for those who read too.
    let few = topic(b"news", limits(5, MINUTE));
    history.read_all(&few, From::Newest(100), ALL, 1, &mut out).unwrap();
    assert_eq!(out.len(), 5);
}

#[test]
fn bad_input_is_refused() {
    let memory = words(MB);
    let history = History::init(&memory, ME).unwrap();
    let publish = |name: &[u8], key| {
        let message = Message { key, ..text(b"a") };
        history.publish(&topic(name, limits(1, 1)), &message, 0).err()
    };
    assert_eq!(publish(b"", None), Some(HistoryError::Topic(TopicError::Empty)));
    assert_eq!(publish(&[0; 256], None), Some(HistoryError::Topic(TopicError::TooLong)));
    assert_eq!(publish(&[0; 255], None), None);
    assert_eq!(publish(b"a", Some(&[][..])), Some(HistoryError::Key));
    assert_eq!(publish(b"a", Some(&[0; 65][..])), Some(HistoryError::Key));
    assert_eq!(publish(b"a", Some(&[0; 64][..])), None);
    for error in [HistoryError::Key, HistoryError::TooLarge, HistoryError::Stale] {
        assert!(!error.to_string().is_empty());
    }
}

fn rule(pattern: &str, count: u32) -> Rule {
    let limits = (count > 0).then_some(limits(count, MINUTE));
    Rule { pattern: pattern.as_bytes().into(), limits, flags: count + 1 }
}

#[test]
fn the_newest_rules_hold_for_everybody() {
    let memory = words(MB);
    let history = History::init(&memory, ME).unwrap();
    let mut rules = Rules::default();
    assert!(!history.refresh(&mut rules));
    assert!(rules.is_empty());
    let set = [rule("*", 1), rule("a:*", 2), rule("a:b:*", 0), rule("a:b:c", 4), rule("a:b", 5)];
    history.set_rules(&set, 0).unwrap();
    assert!(history.refresh(&mut rules));
    assert!(!history.refresh(&mut rules));
    let count = |rules: &Rules, name: &[u8]| rules.topic(name).map_or(0, |t| t.limits.count);
    let names = ["x", "a:x", "a:b:", "a:b:x", "a:b:c", "a:b:c2", "a:b", "a:bx"];
    let found = names.map(|name| count(&rules, name.as_bytes()));
    assert_eq!(found, [1, 2, 0, 0, 4, 0, 5, 2]);
    assert_eq!(rules.find(b"a:b:x"), Some(&set[2]));

    let old = rules.topic(b"a:x").unwrap();
    let kept = rules.topic(b"a:b:c").unwrap();
    let gone = history.publish(&old, &text(b"a"), 1).unwrap().position;
    let at = history.publish(&kept, &text(b"a"), 1).unwrap().position;
    history.set_rules(&set, 0).unwrap();
    assert!(!history.refresh(&mut rules), "the same rules again");
    history.set_rules(&[rule("a:b:c", 1)], 0).unwrap();
    assert_eq!(history.publish(&old, &text(b"a"), 1), Err(HistoryError::Stale));
    // Nothing is kept for a:x now: should it come back, that is told.
    history.set_rules(&[rule("a:*", 1)], 0).unwrap();
    history.refresh(&mut rules);
    assert_eq!(history.position(b"a:b:c"), at);
    let back = rules.topic(b"a:x").unwrap();
    let mut out = Batch::default();
    assert_eq!(history.read(&back, From::After(gone), ALL, 1, &mut out), Err(Gap::Epoch));

    let before = used(&history);
    let many: Vec<_> = (0..9000).map(|n| rule(&format!("a:b{n}"), 1)).collect();
    assert_eq!(history.set_rules(&many, 0), Err(HistoryError::Rules));
    assert_eq!(history.set_rules(&[rule(&"a".repeat(256), 1)], 0), Err(HistoryError::Rules));
    assert_eq!(used(&history), before);
    history.set_rules(&[], 0).unwrap();
    assert_eq!(history.stats().topics, 0);
}
