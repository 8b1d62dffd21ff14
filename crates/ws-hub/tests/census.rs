//! How many subscribers a topic has over all workers: kept right while workers come, change, leave
//! and are killed, from several threads at once, and with too many topics for the table.

use std::collections::HashMap;
use std::thread;

use ws_hub::census::{Entered, MAX_COUNT};
use ws_hub::directory::{Interest, Seat};
use ws_hub::memory::Word;
use ws_hub::target::TopicHash;
use ws_hub::{NodeId, Zone};

const NODE: NodeId = NodeId(1);

fn memory(bytes: usize) -> Vec<Word> {
    (0..bytes / 8).map(|_| Word::new(0)).collect()
}

fn hash(n: usize) -> TopicHash {
    TopicHash::of(format!("topic {n}").as_bytes())
}

const NOBODY: u16 = u16::MAX;

/// The zone asks those workers alone that listen for a topic.
fn listen(zone: Zone, seat: &Seat, topics: std::ops::Range<usize>) {
    let mut interest = Interest::new(zone.directory(), seat);
    topics.for_each(|n| interest.add(hash(n)));
}

#[test]
fn numbers_of_several_workers_add_up() {
    let memory = memory(1 << 20);
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let seats: Vec<_> = (0..3).map(|slot| zone.join(slot, 1, |_| true).unwrap()).collect();
    let census = zone.census();
    seats.iter().for_each(|seat| listen(zone, seat, 0..4));
    for (n, seat) in seats.iter().enumerate() {
        assert_eq!(census.set(seat.row(), hash(1), n + 1), (Entered::No, Entered::Yes));
        assert_eq!(census.set(seat.row(), hash(1), n + 5), (Entered::Yes, Entered::Yes));
    }
    census.set(seats[0].row(), hash(2), 1);
    assert_eq!(zone.subscribers(hash(1), NOBODY), 5 + 6 + 7);
    assert_eq!(zone.subscribers(hash(1), seats[1].row()), 5 + 7);
    assert_eq!(zone.subscribers(hash(2), NOBODY), 1);
    assert_eq!(zone.subscribers(hash(3), NOBODY), 0);

    assert_eq!(census.set(seats[0].row(), hash(1), 0), (Entered::Yes, Entered::No));
    assert_eq!(census.set(seats[0].row(), hash(1), 0), (Entered::No, Entered::No));
    assert_eq!(zone.subscribers(hash(1), NOBODY), 6 + 7);
    assert_eq!(census.used(), 3);

    // One leaves, one is killed and replaced, one is killed and nobody comes.
    zone.leave(&seats[0]);
    assert_eq!((zone.subscribers(hash(2), NOBODY), census.used()), (0, 2));
    let successor = zone.join(1, 2, |_| true).unwrap();
    assert_eq!(successor.row(), seats[1].row());
    assert_eq!(zone.subscribers(hash(1), NOBODY), 7);
    assert!(!zone.leave(&seats[1]), "the row is another's, and so are its numbers");
    zone.directory().free_dead(|pid| pid == 2);
    assert_eq!(zone.subscribers(hash(1), NOBODY), 0);
}

#[test]
fn a_number_too_large_stays_at_the_largest() {
    let memory = memory(1 << 20);
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let seat = zone.join(0, 1, |_| true).unwrap();
    listen(zone, &seat, 1..2);
    zone.census().set(seat.row(), hash(1), 1 << 40);
    assert_eq!(zone.subscribers(hash(1), NOBODY), MAX_COUNT);
    zone.census().set(seat.row(), hash(1), 3);
    assert_eq!(zone.subscribers(hash(1), NOBODY), 3);
}

/// What is not counted is known, nothing else suffers, and there is room again afterwards.
#[test]
fn more_topics_than_there_is_room_for() {
    let memory = memory(1 << 20);
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let seat = zone.join(0, 1, |_| true).unwrap();
    let (row, census) = (seat.row(), zone.census());
    let topics = census.capacity() * 2;
    listen(zone, &seat, 0..topics);
    let entered: Vec<bool> =
        (0..topics).map(|n| census.set(row, hash(n), n % 100 + 1).1 == Entered::Yes).collect();
    let first = entered.iter().position(|entered| !entered).unwrap();
    println!("{} of {} slots taken at the first refusal", first, census.capacity());
    assert!(first * 10 > census.capacity() * 7);
    for (n, entered) in entered.iter().enumerate() {
        let expected = if *entered { n as u64 % 100 + 1 } else { 0 };
        assert_eq!(zone.subscribers(hash(n), NOBODY), expected, "topic {n}");
    }
    for (n, entered) in entered.iter().enumerate() {
        let had = if *entered { Entered::Yes } else { Entered::No };
        assert_eq!(census.set(row, hash(n), 0), (had, Entered::No));
    }
    assert_eq!(census.used(), 0);
}

/// Workers that change their numbers all at once, for topics that share slots.
#[test]
fn workers_do_not_disturb_each_other() {
    let memory = memory(Zone::min_len(64).unwrap());
    let zone = Zone::init(&memory, 64, NODE).unwrap();
    let seats: Vec<_> = (0..4).map(|slot| zone.join(slot, 1, |_| true).unwrap()).collect();
    seats.iter().for_each(|seat| listen(zone, seat, 0..32));
    let held: Vec<HashMap<usize, usize>> = thread::scope(|scope| {
        let workers = seats.iter().map(|seat| {
            scope.spawn(move || {
                let mut held = HashMap::new();
                let mut random = 0x9e37_79b9_7f4a_7c15u64 ^ u64::from(seat.row() + 1);
                for _ in 0..100_000 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let (topic, count) = (random as usize >> 8 & 31, random as usize >> 20 & 3);
                    let (had, has) = zone.census().set(seat.row(), hash(topic), count);
                    assert_eq!(had == Entered::Yes, held.contains_key(&topic));
                    match has {
                        Entered::Yes => held.insert(topic, count),
                        Entered::No => held.remove(&topic),
                    };
                }
                held
            })
        });
        let workers: Vec<_> = workers.collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    for topic in 0..32 {
        let sum: usize = held.iter().filter_map(|held| held.get(&topic)).sum();
        assert_eq!(zone.subscribers(hash(topic), NOBODY), sum as u64);
    }
    assert_eq!(zone.census().used(), held.iter().map(HashMap::len).sum::<usize>());
}
