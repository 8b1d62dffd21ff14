//! Histories against a model of a few lines, over random publishes, reads, clocks and limits; and
//! under threads, whose order must be one for all. Cursors as clients may send them.

use std::collections::HashMap;
use std::thread;

use proptest::prelude::*;
use ws_hub::history::{Batch, Cursor, From, Gap, Limit, Limits, Message, Position, KEY_MS};
use ws_hub::{History, TopicHash};

#[path = "common/history.rs"]
#[allow(dead_code)]
mod common;
use common::{topic, words, ALL, ME};

const NAMES: [&[u8]; 3] = [b"a", b"topic", &[b'n'; 200]];
const TTLS: [u64; 3] = [1000, 100_000, 900_000];

/// Offset, time, flags, data.
type Kept = (u64, u64, u8, Vec<u8>);

#[derive(Default)]
struct Model {
    /// Nothing before the first message.
    epoch: Option<u64>,
    top: u64,
    limits: Option<Limits>,
    messages: Vec<Kept>,
    keys: HashMap<Vec<u8>, (u64, u64)>,
}

impl Model {
    fn trim(&mut self, now: u64) {
        let Some(limits) = self.limits else { return };
        let over = self.messages.len().saturating_sub(limits.count as usize);
        self.messages.drain(..over);
        self.messages.retain(|message| now - message.1 <= limits.ttl);
        self.keys.retain(|_, (_, time)| now - *time <= KEY_MS);
    }

    /// What a read from an offset of this epoch gives.
    fn after(&self, offset: u64) -> Result<&[Kept], Gap> {
        let before_first = self.top - self.messages.len() as u64;
        match offset {
            _ if offset > self.top => Err(Gap::Epoch),
            _ if offset < before_first => Err(Gap::Trimmed),
            _ => Ok(&self.messages[(offset - before_first) as usize..]),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish { topic: usize, key: Option<u8>, len: usize, count: u32 },
    Read { topic: usize, after: u64, limit: usize },
    Newest { topic: usize, n: usize },
    Wait(u64),
    Forget(usize),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let topic = || 0..NAMES.len();
    prop_oneof![
        8 => (topic(), prop::option::weighted(0.3, 0..6u8), 0..400usize, 1..60u32)
            .prop_map(|(topic, key, len, count)| Step::Publish { topic, key, len, count }),
        4 => (topic(), 0..80u64, 1..100usize)
            .prop_map(|(topic, after, limit)| Step::Read { topic, after, limit }),
        2 => (topic(), 0..80usize).prop_map(|(topic, n)| Step::Newest { topic, n }),
        2 => (0..500_000u64).prop_map(|ms| Step::Wait(ms / 1000 * (ms % 7))),
        1 => topic().prop_map(Step::Forget),
        1 => Just(Step::Sweep),
    ]
}

fn all(batch: &Batch) -> Vec<Kept> {
    batch.iter().map(|r| (r.offset, r.time, r.flags, r.data.to_vec())).collect()
}

fn run(steps: Vec<Step>) {
    let memory = words(1 << 20);
    let history = History::init(&memory, ME).unwrap();
    let mut models = [Model::default(), Model::default(), Model::default()];
    let (mut now, mut flags, mut out) = (1u64, 0u8, Batch::default());
    for step in steps {
        models.iter_mut().for_each(|model| model.trim(now));
        match step {
            Step::Publish { topic: n, key, len, count } => {
                let (model, limits) = (&mut models[n], Limits { count, ttl: TTLS[n], bytes: 0 });
                flags = flags.wrapping_add(1);
                let data: Vec<u8> = (0..len).map(|i| i as u8 ^ flags).collect();
                let key = key.map(|key| vec![key; 1 + usize::from(key) * 12]);
                let message =
                    Message { data: &data, flags, key: key.as_deref(), subscribed: len % 2 > 0 };
                let published = history.publish(&topic(NAMES[n], limits), &message, now).unwrap();
                let epoch = *model.epoch.get_or_insert(published.position.epoch);
                assert_eq!(published.position.epoch, epoch);
                let before = key.as_ref().and_then(|key| model.keys.get(key));
                assert_eq!(published.repeated, before.is_some());
                if let Some(&(offset, _)) = before {
                    assert_eq!(published.position.offset, offset);
                    continue;
                }
                model.top += 1;
                assert_eq!(published.position.offset, model.top);
                model.limits = Some(limits);
                model.messages.push((model.top, now, flags, data));
                key.map(|key| model.keys.insert(key, (model.top, now)));
                model.trim(now);
            }
            Step::Read { topic: n, after, limit } => {
                let model = &models[n];
                let Some((limits, epoch)) = model.limits.zip(model.epoch) else { continue };
                let after = (model.top + 3).saturating_sub(after);
                let from = From::After(Position { epoch, offset: after });
                let limit = Limit { records: limit, ..ALL };
                let page = history.read_all(&topic(NAMES[n], limits), from, limit, now, &mut out);
                assert_eq!(page.err(), model.after(after).err());
                if let (Ok(page), Ok(messages)) = (page, model.after(after)) {
                    let shown = messages.len().min(limit.records);
                    assert_eq!(all(&out), messages[..shown]);
                    assert_eq!(page.more, shown < messages.len());
                }
            }
            Step::Newest { topic: n, n: newest } => {
                let model = &models[n];
                let Some(limits) = model.limits else { continue };
                let from = From::Newest(newest);
                history.read_all(&topic(NAMES[n], limits), from, ALL, now, &mut out).unwrap();
                let skip = model.messages.len().saturating_sub(newest);
                assert_eq!(all(&out), model.messages[skip..]);
            }
            Step::Wait(ms) => now += ms,
            Step::Forget(n) => {
                let old = std::mem::take(&mut models[n]);
                assert_eq!(history.forget(NAMES[n]), old.epoch.is_some());
                assert!(old.epoch.is_none_or(|old| old != history.position(NAMES[n]).epoch));
            }
            Step::Sweep => history.sweep(now),
        }
    }
    for (name, model) in NAMES.into_iter().zip(&models) {
        assert_eq!(history.position(name).offset, model.top);
    }
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(steps in prop::collection::vec(step(), 1..400)) {
        run(steps);
    }

    #[test]
    fn a_cursor_is_what_it_was(topic: u64, epoch: u64, offset: u64) {
        let position = Position { epoch, offset };
        let cursor = Cursor { topic: TopicHash(topic), position };
        let text = cursor.encode();
        prop_assert!(text.len() <= 40 && text[0] == b'c');
        prop_assert_eq!(Cursor::decode(&text), Some(cursor));
    }

    /// Only what `encode` makes is read.
    #[test]
    fn no_other_text_is_a_cursor(text in "c?[-_A-Za-z0-9+/=.]{0,40}") {
        let text = text.as_bytes();
        if let Some(cursor) = Cursor::decode(text) {
            prop_assert_eq!(&cursor.encode()[..], text);
        }
    }
}

/// Four publishers, two readers: each reader has every message once, in the one order, and each
/// author's in its own.
#[test]
fn threads_see_one_order() {
    const EACH: u64 = 4000;
    let memory = words(8 << 20);
    let news = topic(b"news", Limits { count: 100_000, ttl: 1000, bytes: 4 << 20 });
    let with = |id| {
        let owner = ws_hub::history::Owner { id, ..ME };
        History::attach(&memory, owner).unwrap()
    };
    let start = History::init(&memory, ME).unwrap().position(b"news");
    let with = &with;
    thread::scope(|scope| {
        for author in 0..4u64 {
            scope.spawn(move || {
                for number in 0..EACH {
                    let data = [author, number].map(u64::to_le_bytes).concat();
                    with(2 + author).publish(&news, &common::text(&data), 0).unwrap();
                }
            });
        }
        for reader in 6..8 {
            scope.spawn(move || {
                let (mut at, mut out) = (start, Batch::default());
                let mut next = [0u64; 4];
                while at.offset < 4 * EACH {
                    let from = From::After(at);
                    with(reader).read(&news, from, ALL, 0, &mut out).unwrap();
                    for record in out.iter() {
                        at.offset += 1;
                        assert_eq!(record.offset, at.offset);
                        let author = usize::from(record.data[0]);
                        assert_eq!(record.data[8..], next[author].to_le_bytes());
                        next[author] += 1;
                    }
                }
            });
        }
    });
}
