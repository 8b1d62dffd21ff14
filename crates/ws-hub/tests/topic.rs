//! The topic index against the obvious model, and at the sizes it is made for.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use ws_hub::topic::{check_topic, TopicError, TopicIndex, Totals};

#[derive(Clone, Debug)]
enum Step {
    Subscribe(u8, u32),
    Unsubscribe(u8, u32),
    UnsubscribeAll(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12u8, 0..12u32).prop_map(|(t, s)| Step::Subscribe(t, s)),
        4 => (0..12u8, 0..12u32).prop_map(|(t, s)| Step::Unsubscribe(t, s)),
        1 => (0..12u32).prop_map(Step::UnsubscribeAll),
    ]
}

fn name(topic: u8) -> Vec<u8> {
    vec![topic; usize::from(topic) + 1]
}

type Model = BTreeMap<u8, BTreeSet<u32>>;

fn assert_same(index: &TopicIndex<u32>, model: &Model) {
    for topic in 0..12 {
        let subscribers = index.subscribers(&name(topic));
        let set: BTreeSet<u32> = subscribers.iter().copied().collect();
        assert_eq!(set.len(), subscribers.len(), "nobody stands there twice");
        assert_eq!(set, model.get(&topic).cloned().unwrap_or_default());
        assert_eq!(index.count(&name(topic)), set.len());
    }
    for s in 0..12 {
        let mut topics: Vec<Vec<u8>> = index.topics(s).map(<[u8]>::to_vec).collect();
        topics.sort();
        let theirs = model.iter().filter(|(_, set)| set.contains(&s));
        assert_eq!(topics, theirs.map(|(&topic, _)| name(topic)).collect::<Vec<_>>());
        assert_eq!(index.count_of(s), topics.len());
    }
    let topics = model.values().filter(|set| !set.is_empty()).count();
    let subscriptions = model.values().map(BTreeSet::len).sum();
    assert_eq!(index.totals(), Totals { topics, subscriptions });
    assert_eq!(index.all().map(|(_, n)| n).sum::<usize>(), subscriptions);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_map_of_sets(steps in prop::collection::vec(step(), 1..200)) {
        let mut index: TopicIndex<_> = TopicIndex::new();
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Subscribe(t, s) => {
                    let new = model.entry(t).or_default().insert(s);
                    prop_assert_eq!(index.subscribe(&name(t), s), new);
                    prop_assert!(index.contains(&name(t), s));
                }
                Step::Unsubscribe(t, s) => {
                    let was = model.get_mut(&t).is_some_and(|set| set.remove(&s));
                    prop_assert_eq!(index.unsubscribe(&name(t), s), was);
                    prop_assert!(!index.contains(&name(t), s));
                }
                Step::UnsubscribeAll(s) => {
                    let mut left = Vec::new();
                    let mut expected = Vec::new();
                    let mut n = 0;
                    for (&topic, set) in &mut model {
                        if set.remove(&s) {
                            n += 1;
                            expected.push((name(topic), set.len()));
                        }
                    }
                    let count = index.unsubscribe_all(s, |topic, n| left.push((topic.to_vec(), n)));
                    prop_assert_eq!(count, n);
                    left.sort();
                    prop_assert_eq!(left, expected);
                }
            }
            assert_same(&index, &model);
        }
    }
}

#[test]
fn topics_have_1_to_255_bytes() {
    assert_eq!(check_topic(b""), Err(TopicError::Empty));
    assert_eq!(check_topic(&[0; 1]), Ok(()));
    assert_eq!(check_topic(&[0xff; 255]), Ok(()));
    assert_eq!(check_topic(&[b'a'; 256]), Err(TopicError::TooLong));
    assert_eq!(TopicError::Empty.to_string(), "topic is empty");
    assert_eq!(TopicError::TooLong.to_string(), "topic is too long");
}

/// 50 000 connections in one topic, one of them in 1000 more; all leave in an order that a list
/// to be searched would make quadratic (10^9 steps).
#[test]
fn large_topics_and_busy_connections() {
    let mut index: TopicIndex<_> = TopicIndex::new();
    for s in 0..50_000u32 {
        assert!(index.subscribe(b"all", s));
    }
    for topic in 0..1000u32 {
        assert!(index.subscribe(&topic.to_be_bytes(), 7));
    }
    assert_eq!(index.totals(), Totals { topics: 1001, subscriptions: 51_000 });
    for s in (0..50_000).step_by(2) {
        assert!(index.unsubscribe(b"all", s));
    }
    assert_eq!(index.count(b"all"), 25_000);
    assert!(index.subscribers(b"all").iter().all(|s| s % 2 == 1));
    let mut gone = 0;
    assert_eq!(index.unsubscribe_all(7, |_, left| gone += u32::from(left == 0)), 1001);
    assert_eq!(gone, 1000);
    for s in (0..50_000).rev() {
        index.unsubscribe_all(s, |_, _| {});
    }
    assert_eq!(index.totals(), Totals { topics: 0, subscriptions: 0 });
    assert_eq!(index.all().count(), 0);
}
