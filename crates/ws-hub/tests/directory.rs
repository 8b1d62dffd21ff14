//! The zone, its rows, who is woken, and the counters: one thread that plays several workers.

use std::collections::BTreeSet;

use proptest::prelude::*;
use ws_hub::counters::TABLE;
use ws_hub::directory::{DirectoryError, Interest, Whose};
use ws_hub::memory::Word;
use ws_hub::ring::{Read, Reader, RingError};
use ws_hub::target::{Target, TopicHash};
use ws_hub::zone::ZoneError;
use ws_hub::{ConnId, Counter, NodeId, Zone};

const NODE: NodeId = NodeId(0x0a0b_0c0d);

fn memory(bytes: usize) -> Vec<Word> {
    (0..bytes / 8).map(|n| Word::new(n as u64)).collect()
}

fn all_alive(_: u32) -> bool {
    true
}

/// The rows that are woken for a message of `from`.
fn woken(zone: Zone, target: Target, wake_all: bool, from: u16) -> Vec<u16> {
    let mut rows = Vec::new();
    zone.directory().wake(target, wake_all, from, |row| rows.push(row));
    rows
}

fn hash(topic: &str) -> TopicHash {
    TopicHash::of(topic.as_bytes())
}

#[test]
fn a_reload_finds_everything_again() {
    let memory = memory(1 << 20);
    assert_eq!(Zone::attach(&memory).err(), Some(ZoneError::Foreign));
    let old = Zone::init(&memory, 64, NODE).unwrap();
    let seat = old.join(3, 100, all_alive).unwrap();
    old.counters().row(seat.row()).add(Counter::Accepted, 5);
    let mut reader = Reader::new(old.ring());

    let new = Zone::attach(&memory).unwrap();
    assert_eq!(new.sum(Counter::Accepted), 5);
    let newcomer = new.join(4, 101, all_alive).unwrap();
    assert_ne!(newcomer.row(), seat.row());
    new.ring().publish(newcomer.row(), Target::All, &[b"to the old ones"]).unwrap();
    let mut out = Vec::new();
    assert!(matches!(reader.read(&mut out), Read::Message(meta) if meta.writer == newcomer.row()));
    assert_eq!(woken(new, Target::All, false, newcomer.row()), [seat.row()]);

    let shorter = &memory[..memory.len() - 1];
    assert_eq!(Zone::attach(shorter).err(), Some(ZoneError::Foreign));
    assert_eq!(Zone::attach(&memory[..0]).err(), Some(ZoneError::Foreign));
    memory[0].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(Zone::attach(&memory).err(), Some(ZoneError::Foreign));
}

#[test]
fn the_least_zone_works_and_a_lesser_does_not() {
    for rows in [1, 64, 65, 128, 1024] {
        let least = Zone::min_len(rows).unwrap();
        assert!(least.is_multiple_of(4096));
        let memory = memory(least);
        let zone = Zone::init(&memory, rows, NODE).unwrap();
        assert_eq!(usize::from(zone.directory().capacity()), rows.next_multiple_of(64));
        let mut reader = Reader::new(zone.ring());
        let most = zone.ring().max_message();
        assert!(most > 4096, "{rows} rows, {least} bytes: {most}");
        zone.ring().publish(0, Target::All, &[&vec![1; most]]).unwrap();
        let mut out = Vec::new();
        assert!(matches!(reader.read(&mut out), Read::Message(meta) if meta.len == most));
        let more = [&vec![1; most + 1][..]];
        assert_eq!(zone.ring().publish(0, Target::All, &more), Err(RingError::TooLarge));
        let lesser = &memory[..memory.len() - 1024];
        assert_eq!(Zone::init(lesser, rows, NODE).err(), Some(ZoneError::TooSmall));
        println!("{rows} rows: at least {least} bytes");
        // No larger one is refused either, although the parts grow in leaps.
        let larger: Vec<Word> = (0..least / 2).map(|_| Word::new(0)).collect();
        for words in (least / 8..larger.len()).step_by(1009) {
            assert!(Zone::init(&larger[..words], rows, NODE).is_ok(), "{rows} rows, {words} words");
        }
    }
    assert_eq!(Zone::min_len(0), Err(ZoneError::Rows));
    assert_eq!(Zone::min_len(1025), Err(ZoneError::Rows));
    assert_eq!(Zone::init(&memory(80), 64, NODE).err(), Some(ZoneError::TooSmall));
}

/// The default zone of 8 MB takes messages of the default greatest size and has room for many.
#[test]
fn the_default_zone_takes_a_message_of_a_megabyte() {
    let memory = memory(8 << 20);
    let ring = Zone::init(&memory, 64, NODE).unwrap().ring();
    println!("8 MB: {} bytes at most, {} messages", ring.max_message(), ring.max_messages());
    assert!(ring.max_message() > 3 << 20);
    assert!(ring.max_messages() > 32_000);
}

#[test]
fn rows_are_taken_over_freed_and_run_out() {
    let memory = memory(1 << 20);
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let directory = zone.directory();
    let mut seats: Vec<_> =
        (0..64).map(|n| zone.join(n * 16, 100 + u32::from(n), all_alive).unwrap()).collect();
    let rows: BTreeSet<u16> = seats.iter().map(|seat| seat.row()).collect();
    assert_eq!(rows.len(), 64);
    let full = zone.join(1023, 999, all_alive).unwrap_err();
    assert_eq!(full, DirectoryError::Full);
    assert_eq!(full.to_string(), "more workers than the zone has rows");

    // The same process slot again: its process must be gone, whatever its number says.
    assert_eq!(directory.departures(), 0);
    let again = directory.join(16, 999, all_alive).unwrap();
    assert_eq!(directory.departures(), 1);
    assert_eq!(again.row(), seats[1].row());
    assert_eq!(again.generation(), seats[1].generation() + 1);
    assert_eq!(directory.worker(again.row()), Some((16, 999)));
    assert!(!directory.leave(&seats[1]), "it has lost the row");
    assert_eq!(directory.worker(again.row()), Some((16, 999)));

    assert!(zone.leave(&seats[2]));
    assert!(!zone.leave(&seats[2]));
    assert_eq!(directory.departures(), 2);
    assert_eq!(directory.worker(seats[2].row()), None);
    seats[2] = zone.join(1000, 1000, all_alive).unwrap();
    assert_eq!(directory.worker(seats[2].row()), Some((1000, 1000)));

    // Full again, but the process in slot 80 is gone.
    let seat = directory.join(1001, 1001, |pid| pid != 105).unwrap();
    assert_eq!(seat.row(), seats[5].row());
    // Of 100 to 109 three have been replaced.
    assert_eq!(directory.free_dead(|pid| pid < 110), 57);
    assert_eq!(directory.joined().count(), 7);
    // Two before, the one in slot 80, and those.
    assert_eq!(directory.departures(), 2 + 1 + 57);
    assert_eq!(directory.worker(64), None);
    assert_eq!(directory.worker(u16::MAX), None);
}

#[test]
fn an_id_leads_to_its_owner_as_long_as_that_lives() {
    let memory = memory(1 << 20);
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let directory = zone.directory();
    zone.join(0, 1, all_alive).unwrap();
    let seat = zone.join(9, 2, all_alive).unwrap();
    let id = seat.conn_id([7; 9]);
    assert_eq!((id.node(), id.row(), id.generation()), (NODE, seat.row(), seat.generation()));
    assert_eq!(directory.owner_of(&id), Whose::Here(seat.row()));
    assert_eq!(woken(zone, Target::Row(seat.row()), false, 0), [seat.row()]);
    let successor = zone.join(9, 3, all_alive).unwrap();
    assert_eq!(successor.row(), seat.row());
    assert_eq!(directory.owner_of(&id), Whose::Gone);
    assert_eq!(directory.owner_of(&successor.conn_id([7; 9])), Whose::Here(seat.row()));
    zone.leave(&successor);
    assert_eq!(directory.owner_of(&successor.conn_id([7; 9])), Whose::Gone);
    assert_eq!(directory.owner_of(&ConnId::new(NODE, 1023, 0, [7; 9])), Whose::Gone);
    // The first worker of the first row is what every machine has.
    let elsewhere = ConnId::new(NodeId(1), seat.row(), seat.generation(), [7; 9]);
    assert_eq!(directory.owner_of(&elsewhere), Whose::There(NodeId(1)));
}

/// A row's generation goes round within the bits that an id has for it.
#[test]
fn an_id_leads_to_its_owner_after_any_number_of_restarts() {
    let memory = memory(Zone::min_len(64).unwrap());
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let mut last = None;
    for _ in 0..(1 << 14) + 2 {
        let seat = zone.directory().join(0, 1, all_alive).unwrap();
        let id = seat.conn_id([7; 9]);
        assert_eq!(zone.directory().owner_of(&id), Whose::Here(seat.row()));
        if let Some(last) = last.replace(id) {
            assert_eq!(zone.directory().owner_of(&last), Whose::Gone);
        }
    }
}

#[test]
fn a_worker_is_woken_once_until_it_drains() {
    let memory = memory(1 << 20);
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let directory = zone.directory();
    let (me, other) = (zone.join(0, 1, all_alive).unwrap(), zone.join(1, 2, all_alive).unwrap());
    let woken = |wake_all| woken(zone, Target::All, wake_all, me.row());
    assert_eq!(woken(false), [other.row()]);
    assert_eq!(woken(false), [0; 0]);
    assert_eq!(woken(true), [other.row()]);
    directory.begin_drain(&other);
    assert_eq!(woken(false), [other.row()]);
    assert_eq!(directory.others(me.row()).collect::<Vec<_>>(), [other.row()]);

    // It is killed before it drains; its successor is woken.
    assert_eq!(woken(false), [0; 0]);
    let other = zone.join(1, 3, all_alive).unwrap();
    assert_eq!(woken(false), [other.row()]);
    zone.leave(&other);
    assert_eq!(woken(true), [0; 0]);
}

/// A publisher that is killed while it wakes a worker leaves no mark: the next one wakes it.
#[test]
fn a_publisher_killed_while_waking_leaves_nobody_deaf() {
    let memory = memory(1 << 20);
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let (me, other) = (zone.join(0, 1, all_alive).unwrap(), zone.join(1, 2, all_alive).unwrap());
    let killed = std::panic::catch_unwind(|| {
        zone.directory().wake(Target::All, false, me.row(), |_| panic!("killed"));
    });
    assert!(killed.is_err());
    assert_eq!(woken(zone, Target::All, false, me.row()), [other.row()]);
    // The worker drains between wake-up and mark: the mark is not for the next drain.
    zone.directory().begin_drain(&other);
    zone.directory().wake(Target::All, false, me.row(), |_| zone.directory().begin_drain(&other));
    assert_eq!(woken(zone, Target::All, false, me.row()), [other.row()]);
    assert_eq!(woken(zone, Target::All, false, me.row()), [0; 0]);
}

#[test]
fn only_those_who_listen_are_woken() {
    let memory = memory(8 << 20);
    let zone = Zone::init(&memory, 128, NODE).unwrap();
    let directory = zone.directory();
    let seats: Vec<_> =
        (0..100).map(|n| zone.join(n + 500, 1 + u32::from(n), all_alive).unwrap()).collect();
    let mut interests: Vec<_> = seats.iter().map(|seat| Interest::new(directory, seat)).collect();
    for n in [3, 63, 64, 99] {
        interests[n].add(hash("news"));
    }
    interests[7].add(hash("other"));
    let woken = |topic: &str, from| {
        let rows = directory.rows_to_wake(Target::Topic(hash(topic)), from);
        rows.collect::<BTreeSet<u16>>()
    };
    assert_eq!(woken("news", 1), BTreeSet::from([3, 63, 64, 99]));
    assert_eq!(woken("news", 64), BTreeSet::from([3, 63, 99]));
    assert_eq!(woken("nobody's", 64), BTreeSet::new());
    assert!(interests[3].wants(Target::Topic(hash("news"))));
    assert!(!interests[4].wants(Target::Topic(hash("news"))));
    assert!(interests[4].wants(Target::Row(4)) && !interests[4].wants(Target::Row(5)));
    assert!(interests[4].wants(Target::All));

    interests[63].remove(hash("news"));
    assert_eq!(woken("news", 1), BTreeSet::from([3, 64, 99]));
    zone.leave(&seats[64]);
    assert_eq!(woken("news", 1), BTreeSet::from([3, 99]));
    // Killed: the bits stand until the row is taken again, and then they are gone.
    zone.join(599, 1000, all_alive).unwrap();
    assert_eq!(woken("news", 1), BTreeSet::from([3]));
    assert_eq!(directory.rows_to_wake(Target::All, 5).count(), 98);
    assert_eq!(directory.rows_to_wake(Target::Row(99), 5).collect::<Vec<_>>(), [99]);
    assert_eq!(directory.rows_to_wake(Target::Row(110), 5).count(), 0);
}

/// The documented rates of needless wake-ups in a zone of 8 MB.
#[test]
fn false_positives_are_rare() {
    let memory = memory(8 << 20);
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let directory = zone.directory();
    let mut interest = Interest::new(directory, &zone.join(0, 1, all_alive).unwrap());
    let mut needless = |topics: std::ops::Range<u32>| {
        topics.for_each(|n| interest.add(hash(&format!("room {n}"))));
        let is_woken = |n: &u32| {
            let target = Target::Topic(hash(&format!("another {n}")));
            directory.rows_to_wake(target, 63).next().is_some()
        };
        (0..100_000).filter(is_woken).count()
    };
    let (thousand, ten_thousand) = (needless(0..1000), needless(1000..10_000));
    println!("woken for nothing, of 100000: {thousand} and {ten_thousand}");
    assert!(thousand < 200 && ten_thousand < 8_000);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However topics come and go: whoever has a topic is woken for it, and when all are gone no
    /// bit is left. The zone is the smallest, so topics share their bits.
    #[test]
    fn interest_never_misses(steps in prop::collection::vec((0..60u32, any::<bool>()), 1..300)) {
        let memory = memory(Zone::min_len(64).unwrap());
        let zone = Zone::init(&memory, 64, NODE).unwrap();
        let directory = zone.directory();
        let mut interest = Interest::new(directory, &zone.join(0, 1, all_alive).unwrap());
        let mut has = BTreeSet::new();
        for (topic, add) in steps {
            let changed = if add { has.insert(topic) } else { has.remove(&topic) };
            match (changed, add) {
                (true, true) => interest.add(hash(&topic.to_string())),
                (true, false) => interest.remove(hash(&topic.to_string())),
                _ => {}
            }
            for topic in &has {
                let target = Target::Topic(hash(&topic.to_string()));
                prop_assert!(interest.wants(target));
                prop_assert_eq!(directory.rows_to_wake(target, 63).collect::<Vec<_>>(), vec![0]);
            }
        }
        for topic in &has {
            interest.remove(hash(&topic.to_string()));
        }
        for topic in 0..60u32 {
            let target = Target::Topic(hash(&topic.to_string()));
            prop_assert!(!interest.wants(target));
            prop_assert_eq!(directory.rows_to_wake(target, 63).next(), None);
        }
    }
}

#[test]
fn totals_outlive_their_worker_and_gauges_do_not() {
    let memory = memory(1 << 20);
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let (one, two) = (zone.join(0, 1, all_alive).unwrap(), zone.join(1, 2, all_alive).unwrap());
    for (seat, n) in [(&one, 3), (&two, 4)] {
        let row = zone.counters().row(seat.row());
        row.add(Counter::Open, n + 1);
        row.sub(Counter::Open, 1);
        row.add(Counter::MessagesIn, 10 * n);
        row.set(Counter::Topics, n);
        assert_eq!(row.get(Counter::Open), n);
    }
    let sums = || {
        [Counter::Open, Counter::Closed1006, Counter::Topics, Counter::MessagesIn]
            .map(|counter| zone.sum(counter))
    };
    assert_eq!(sums(), [7, 0, 7, 70]);
    // Killed: its connections are closed as soon as that is known, and stay closed.
    zone.directory().free_dead(|pid| pid != 1);
    assert_eq!(sums(), [4, 3, 4, 70]);
    let successor = zone.join(0, 3, all_alive).unwrap();
    assert_eq!(successor.row(), one.row());
    assert_eq!(sums(), [4, 3, 4, 70]);
    zone.leave(&two);
    assert_eq!(sums(), [0, 7, 0, 70]);
}

#[test]
fn the_table_of_counters_is_sound() {
    let mut names = BTreeSet::new();
    for (number, entry) in TABLE.iter().enumerate() {
        assert_eq!(entry.counter as usize, number);
        assert!(names.insert((entry.name, entry.label)), "{entry:?}");
        assert_eq!(entry.counter.is_gauge(), entry.gauge);
        let kin = TABLE.iter().filter(|other| other.name == entry.name);
        for other in kin {
            assert_eq!((entry.help, entry.gauge), (other.help, other.gauge));
            assert_eq!(entry.label.map(|l| l.0), other.label.map(|l| l.0));
        }
    }
    println!("{} counters", TABLE.len());
    assert_eq!(Counter::closed(0), Counter::Closed1006);
    assert_eq!(Counter::closed(1013), Counter::Closed1013);
    assert_eq!(Counter::closed(3999), Counter::Closed3xxx);
    assert_eq!(Counter::closed(4000), Counter::Closed4xxx);
    assert_eq!(Counter::closed(2999), Counter::ClosedOther);
    assert_eq!(Counter::protocol_error("utf8"), Counter::ErrorUtf8);
    assert_eq!(Counter::protocol_error("new rule"), Counter::ErrorOther);
    assert_eq!(Counter::refused("origin"), Counter::RefusedOrigin);
    assert_eq!(Counter::refused("utf8"), Counter::RefusedOther);
}
