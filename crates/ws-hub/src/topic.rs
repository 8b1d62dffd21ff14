//! Who subscribes what in this worker. A subscriber is a handle of the caller's (a slot number);
//! subscribe and unsubscribe take constant expected time however many topics a connection or
//! connections a topic has, and a topic's subscribers lie in one slice for the fan-out.
//!
//! Memory: the index owns everything, copies each topic's name once, and gives memory back as
//! subscriptions go (the list of topics excepted, 40 bytes each: its holes are filled again);
//! when the last one is gone it holds none. With `u32` handles a subscription costs about 30
//! bytes, a subscriber 60, a topic 70 and its name.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashTable};

/// The longest topic, in bytes.
pub const MAX_TOPIC: usize = 255;

/// Whether `topic` may be subscribed and published: 1 to 255 bytes of any kind.
pub const fn check_topic(topic: &[u8]) -> Result<(), TopicError> {
    match topic.len() {
        0 => Err(TopicError::Empty),
        1..=MAX_TOPIC => Ok(()),
        _ => Err(TopicError::TooLong),
    }
}

/// What is wrong with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// No bytes.
    Empty,
    /// More than [`MAX_TOPIC`] bytes.
    TooLong,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "topic is empty",
            Self::TooLong => "topic is too long",
        })
    }
}

impl std::error::Error for TopicError {}

struct Topic<S, D> {
    name: Box<[u8]>,
    subscribers: Vec<S>,
    data: D,
}

/// Where a subscription stands in the two lists that hold it.
#[derive(Clone, Copy)]
struct Link {
    in_topic: u32,
    in_subscriber: u32,
}

/// The subscriptions of one worker. The caller may keep data with each topic that has subscribers.
pub struct TopicIndex<S, D = ()> {
    /// Slab; a hole has no subscribers and stands in `holes`.
    topics: Vec<Topic<S, D>>,
    holes: Vec<u32>,
    /// Slab numbers by name. Names come from clients, hence a keyed SipHash.
    by_name: HashTable<u32>,
    name_hash: RandomState,
    /// The number that was last found: who asks for a topic asks for it several times.
    found: Cell<u32>,
    /// Slab numbers of each subscriber's topics.
    of: HashMap<S, Vec<u32>>,
    links: HashMap<(u32, S), Link>,
}

impl<S: Copy + Eq + Hash, D: Default> Default for TopicIndex<S, D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Copy + Eq + Hash, D: Default> TopicIndex<S, D> {
    /// An empty index; it allocates nothing yet.
    pub fn new() -> Self {
        Self {
            topics: Vec::new(),
            holes: Vec::new(),
            by_name: HashTable::new(),
            name_hash: RandomState::new(),
            found: Cell::new(0),
            of: HashMap::new(),
            links: HashMap::new(),
        }
    }

    /// Subscribes `s` to `topic`; false if it already was. [`TopicIndex::count`] is 1 afterwards
    /// when the topic is new to this worker.
    pub fn subscribe(&mut self, topic: &[u8], s: S) -> bool {
        let number = match self.number(topic) {
            Some(number) => number,
            None => self.add_topic(topic),
        };
        let Entry::Vacant(link) = self.links.entry((number, s)) else {
            return false;
        };
        let subscribers = &mut self.topics[number as usize].subscribers;
        let topics = self.of.entry(s).or_default();
        link.insert(Link {
            in_topic: subscribers.len() as u32,
            in_subscriber: topics.len() as u32,
        });
        subscribers.push(s);
        topics.push(number);
        true
    }

    /// Ends one subscription; false if there was none. [`TopicIndex::count`] is 0 afterwards when
    /// it was the topic's last.
    pub fn unsubscribe(&mut self, topic: &[u8], s: S) -> bool {
        let Some(number) = self.number(topic) else { return false };
        let Some(link) = self.links.remove(&(number, s)) else { return false };
        if let Some(topics) = self.of.get_mut(&s) {
            let at = link.in_subscriber as usize;
            topics.swap_remove(at);
            if let Some(moved) = topics.get(at) {
                if let Some(other) = self.links.get_mut(&(*moved, s)) {
                    other.in_subscriber = link.in_subscriber;
                }
            }
            if topics.is_empty() {
                self.of.remove(&s);
            } else {
                shrink_vec(topics);
            }
        }
        self.leave_topic(number, link.in_topic);
        self.shrink();
        true
    }

    /// Ends every subscription of `s` and says how many there were. `left` is told each topic and
    /// how many subscribers it has left here.
    pub fn unsubscribe_all(&mut self, s: S, mut left: impl FnMut(&[u8], usize)) -> usize {
        let Some(topics) = self.of.remove(&s) else { return 0 };
        for &number in &topics {
            if let Some(link) = self.links.remove(&(number, s)) {
                match self.leave_topic(number, link.in_topic) {
                    Some(name) => left(&name, 0),
                    None => {
                        let topic = &self.topics[number as usize];
                        left(&topic.name, topic.subscribers.len());
                    }
                }
            }
        }
        self.shrink();
        topics.len()
    }

    /// The topics of one subscriber, in no particular order.
    pub fn topics(&self, s: S) -> impl ExactSizeIterator<Item = &[u8]> {
        let numbers = self.of.get(&s).map_or(&[][..], Vec::as_slice);
        numbers.iter().map(|&number| &*self.topics[number as usize].name)
    }

    /// Every topic and its number of subscribers, in no particular order.
    pub fn all(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let used = self.topics.iter().filter(|topic| !topic.subscribers.is_empty());
        used.map(|topic| (&*topic.name, topic.subscribers.len()))
    }

    /// The subscribers of one topic, in no particular order.
    pub fn subscribers(&self, topic: &[u8]) -> &[S] {
        self.number(topic).map_or(&[], |number| &self.topics[number as usize].subscribers)
    }

    /// The subscribers of one topic, and its data. None: it has no subscribers.
    pub fn get(&self, topic: &[u8]) -> Option<(&[S], &D)> {
        let topic = &self.topics[self.number(topic)? as usize];
        Some((&topic.subscribers, &topic.data))
    }

    /// The same, with data that may be changed.
    pub fn get_mut(&mut self, topic: &[u8]) -> Option<(&[S], &mut D)> {
        let number = self.number(topic)?;
        let topic = &mut self.topics[number as usize];
        Some((&topic.subscribers, &mut topic.data))
    }

    /// How many subscribers a topic has.
    pub fn count(&self, topic: &[u8]) -> usize {
        self.subscribers(topic).len()
    }

    /// How many topics a subscriber has.
    pub fn count_of(&self, s: S) -> usize {
        self.of.get(&s).map_or(0, Vec::len)
    }

    /// Whether `s` subscribes `topic`.
    pub fn contains(&self, topic: &[u8], s: S) -> bool {
        self.subscribes(topic)(s)
    }

    /// The same, to be asked of many: the topic is looked up once.
    pub fn subscribes(&self, topic: &[u8]) -> impl Fn(S) -> bool + '_ {
        let number = self.number(topic);
        move |s| number.is_some_and(|number| self.links.contains_key(&(number, s)))
    }

    /// Topics and subscriptions in all.
    pub fn totals(&self) -> Totals {
        Totals { topics: self.by_name.len(), subscriptions: self.links.len() }
    }

    fn number(&self, name: &[u8]) -> Option<u32> {
        let is_it = |n: u32| self.topics.get(n as usize).is_some_and(|topic| *topic.name == *name);
        // A hole has no name, and no topic is without one.
        if is_it(self.found.get()) && !name.is_empty() {
            return Some(self.found.get());
        }
        let hash = self.name_hash.hash_one(name);
        let number = self.by_name.find(hash, |&n| is_it(n)).copied()?;
        self.found.set(number);
        Some(number)
    }

    fn add_topic(&mut self, name: &[u8]) -> u32 {
        let topic = Topic { name: name.into(), subscribers: Vec::new(), data: D::default() };
        let number = match self.holes.pop() {
            Some(number) => {
                self.topics[number as usize] = topic;
                number
            }
            None => {
                self.topics.push(topic);
                (self.topics.len() - 1) as u32
            }
        };
        let (topics, name_hash) = (&self.topics, &self.name_hash);
        self.by_name.insert_unique(name_hash.hash_one(name), number, |&n| {
            name_hash.hash_one(&*topics[n as usize].name)
        });
        number
    }

    /// Takes the subscriber at `at` out of a topic, whose link is gone already. The topic's name
    /// if that was its last one: then the topic is gone too.
    fn leave_topic(&mut self, number: u32, at: u32) -> Option<Box<[u8]>> {
        let topic = &mut self.topics[number as usize];
        topic.subscribers.swap_remove(at as usize);
        if let Some(moved) = topic.subscribers.get(at as usize) {
            if let Some(link) = self.links.get_mut(&(number, *moved)) {
                link.in_topic = at;
            }
        }
        if !topic.subscribers.is_empty() {
            shrink_vec(&mut topic.subscribers);
            return None;
        }
        let hash = self.name_hash.hash_one(&*topic.name);
        topic.subscribers = Vec::new();
        topic.data = D::default();
        let name = std::mem::take(&mut topic.name);
        if let Ok(entry) = self.by_name.find_entry(hash, |&n| n == number) {
            entry.remove();
        }
        self.holes.push(number);
        Some(name)
    }

    /// Gives memory back: tables shrink once three quarters are empty (so the cost spreads over
    /// the removals before), everything goes when nothing is left.
    fn shrink(&mut self) {
        if self.links.is_empty() {
            let name_hash = std::mem::take(&mut self.name_hash);
            *self = Self { name_hash, ..Self::new() };
            return;
        }
        let room = self.links.len() * 2;
        if self.links.capacity() > 64 && self.links.capacity() > room * 2 {
            self.links.shrink_to(room);
        }
        let room = self.of.len() * 2;
        if self.of.capacity() > 64 && self.of.capacity() > room * 2 {
            self.of.shrink_to(room);
        }
        let room = self.by_name.len() * 2;
        if self.by_name.capacity() > 64 && self.by_name.capacity() > room * 2 {
            let (topics, name_hash) = (&self.topics, &self.name_hash);
            self.by_name.shrink_to(room, |&n| name_hash.hash_one(&*topics[n as usize].name));
        }
    }
}

/// What a [`TopicIndex`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Topics with at least one subscriber.
    pub topics: usize,
    /// Pairs of topic and subscriber.
    pub subscriptions: usize,
}

fn shrink_vec<T>(vec: &mut Vec<T>) {
    if vec.capacity() > 16 && vec.len() * 4 < vec.capacity() {
        vec.shrink_to(vec.len() * 2);
    }
}
