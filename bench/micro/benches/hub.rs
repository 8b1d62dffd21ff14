//! What a message costs between workers, and what the topic index costs in one: run in
//! bench/ with `cargo bench --bench hub`.

#![allow(missing_docs)] // criterion_group! makes a public function

use std::hint::black_box;

use criterion::{criterion_group, criterion_main, BatchSize, Criterion, Throughput};
use ws_hub::directory::Interest;
use ws_hub::history::{Batch, From, Limit, Limits, Message, Owner, Topic};
use ws_hub::memory::Word;
use ws_hub::ring::{Read, Reader};
use ws_hub::{History, NodeId, Target, TopicHash, TopicIndex, Zone};

fn memory(bytes: usize) -> Vec<Word> {
    (0..bytes / 8).map(|_| Word::new(0)).collect()
}

fn ring(c: &mut Criterion) {
    let memory = memory(8 << 20);
    let zone = Zone::init(&memory, 64, NodeId(1)).unwrap();
    let ring = zone.ring();
    let head = [7; 32];
    let mut group = c.benchmark_group("ring");
    for len in [64, 1024, 16 << 10, 1 << 20] {
        let payload = vec![1; len];
        let mut out = Vec::new();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("publish/{len}"), |b| {
            b.iter(|| ring.publish(0, Target::All, &[&head, black_box(&payload)]).unwrap());
        });
        group.bench_function(format!("publish_and_read/{len}"), |b| {
            let mut reader = Reader::new(ring);
            b.iter(|| {
                ring.publish(0, Target::All, &[&head, black_box(&payload)]).unwrap();
                assert!(matches!(reader.read(&mut out), Read::Message(_)));
            });
        });
        group.bench_function(format!("publish_and_pass_over/{len}"), |b| {
            let mut reader = Reader::new(ring);
            b.iter(|| {
                ring.publish(0, Target::All, &[&head, black_box(&payload)]).unwrap();
                assert_eq!(reader.read_if(&mut out, |_| false), Read::Empty);
            });
        });
    }
}

fn waking(c: &mut Criterion) {
    let memory = memory(8 << 20);
    let zone = Zone::init(&memory, 64, NodeId(1)).unwrap();
    let directory = zone.directory();
    let target = Target::Topic(TopicHash::of(b"room"));
    for slot in 0..4 {
        let seat = zone.join(slot, 1, |_| true).unwrap();
        Interest::new(directory, &seat).add(TopicHash::of(b"room"));
    }
    c.bench_function("wake/3_of_4_signalled_already", |b| {
        b.iter(|| directory.wake(black_box(target), false, 0, |row| _ = black_box(row)));
    });
}

fn topics(c: &mut Criterion) {
    let names: Vec<Vec<u8>> = (0..1000).map(|n| format!("topic/{n}").into_bytes()).collect();
    c.bench_function("topic/subscribe_50000_to_one", |b| {
        b.iter_batched_ref(
            TopicIndex::<u32>::new,
            |index| (0..50_000).for_each(|s| assert!(index.subscribe(b"one", s))),
            BatchSize::LargeInput,
        );
    });
    let mut index: TopicIndex<_> = TopicIndex::new();
    for s in 0..50_000u32 {
        index.subscribe(b"one", s);
    }
    for name in &names {
        index.subscribe(name, 25_000);
    }
    c.bench_function("topic/leave_and_come_back_in_50000", |b| {
        b.iter(|| {
            assert!(index.unsubscribe(b"one", 25_000));
            assert!(index.subscribe(b"one", 25_000));
        });
    });
    c.bench_function("topic/subscribers_of_50000", |b| {
        b.iter(|| index.subscribers(black_box(b"one")).iter().map(|&s| u64::from(s)).sum::<u64>());
    });
}

/// Messages of 100 bytes, kept by number.
fn history(c: &mut Criterion) {
    let memory = memory(64 << 20);
    let owner = Owner { id: 1, is_alive: |_| true, random: || 1 };
    let limits = Limits { count: 100, ttl: 300_000, bytes: 0 };
    let message = Message { data: &[1; 100], flags: 1, key: None, subscribed: true };
    let mut group = c.benchmark_group("history");
    // 10 000 topics of 20 messages fit.
    for topics in [1, 10_000] {
        let limits = Limits { count: 20, ..limits };
        let history = History::init(&memory, owner).unwrap();
        let names: Vec<_> = (0..topics).map(|n| format!("topic {n}")).collect();
        let mut names = names.iter().cycle();
        group.bench_function(format!("publish/{topics}_topics"), |b| {
            b.iter(|| {
                let name = names.next().map_or(&b""[..], |name| name.as_bytes());
                history.publish(&Topic { name, limits, generation: 0 }, black_box(&message), 1)
            });
        });
    }
    let history = History::init(&memory, owner).unwrap();
    let topic = Topic { name: b"topic", limits, generation: 0 };
    (0..200).for_each(|_| _ = history.publish(&topic, &message, 1).unwrap());
    let mut out = Batch::default();
    let all = Limit { records: 1000, bytes: 1 << 20 };
    group.bench_function("read/100_messages", |b| {
        b.iter(|| history.read_all(&topic, From::Newest(100), all, 1, &mut out).unwrap());
    });
}

criterion_group!(benches, ring, waking, topics, history);
criterion_main!(benches);
