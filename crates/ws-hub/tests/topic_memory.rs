//! What the topic index costs and gives back, by the allocator's own count.

#[path = "../../ws-proto/tests/common/counting.rs"]
mod counting;

use counting::HELD;
use ws_hub::TopicIndex;

#[test]
fn memory_follows_the_subscriptions() {
    let mut index = TopicIndex::<u32>::new();
    let mut costs = Vec::with_capacity(8);
    let before = HELD.get().0;
    let held = || HELD.get().0 - before;
    for round in 0..3 {
        for s in 0..100_000 {
            index.subscribe(b"one for all", s);
        }
        let full = held();
        costs.push(full / 100_000);
        assert!(full < 100 * 100_000, "{full}");
        for s in 1000..100_000 {
            index.unsubscribe(b"one for all", s);
        }
        assert!(held() < full / 20, "{} of {full} after 99 % left", held());
        for s in 0..1000 {
            index.unsubscribe_all(s, |_, _| {});
        }
        assert_eq!(held(), 0, "round {round}");

        for topic in 0..100_000u32 {
            index.subscribe(&topic.to_be_bytes(), topic % 100);
        }
        let full = held();
        costs.push(full / 100_000);
        assert!(full < 120 * 100_000, "{full}");
        for s in 0..100 {
            index.unsubscribe_all(s, |_, _| {});
        }
        assert_eq!(held(), 0, "round {round}");
    }
    println!("bytes a connection of one shared topic, a topic of 1000 of a connection: {costs:?}");
}
