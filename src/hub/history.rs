//! What topics remember, as this worker sees it: the rules that hold now, messages on their way into
//! a history and out of it. The memory is shared by all workers and generations (ws-hub's `history`
//! argues it); made by the master, never freed.

use ws_hub::gateway::Gateway;
use ws_hub::history::{
    Batch, Cursor, From, Gap, History, HistoryError, Limit, Limits, Message, Owner, Page, Placed,
    Position, Published, Record, Rule, Rules, Stats, Topic,
};
use ws_hub::json::CursorText;
use ws_hub::{ConnId, Counter, TopicHash, Zone};

use super::error::Error;
use super::reach::Reach;
use crate::ngx::zone::{HISTORY, HUB};
use crate::ngx::{clock, log, process};
use crate::session::{random, stats};

/// In a record's flags: the message is no text.
const BINARY: u8 = 1;
/// In a record's flags: the id of a connection that is not to get it stands before the message.
const EXCEPT: u8 = 2;

/// This worker's handle on the histories.
pub struct Histories {
    store: History<'static>,
    rules: Rules,
    /// A message with the id before it, used again and again.
    joined: Vec<u8>,
    /// How it stands with the brokers, and how many there are now.
    place: Option<Gateway<'static>>,
}

/// A message for a history.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// Text, or binary.
    pub text: bool,
    /// The message.
    pub data: &'a [u8],
    /// A connection that is not to get it.
    pub except: Option<ConnId>,
}

impl<'a> Item<'a> {
    /// What a record holds.
    pub fn of(record: &Record<'a>) -> Item<'a> {
        let (except, data) = match record.data.split_first_chunk() {
            Some((id, data)) if record.flags & EXCEPT != 0 => (Some(ConnId::from_bytes(*id)), data),
            _ => (None, record.data),
        };
        Item { text: record.flags & BINARY == 0, data, except }
    }

    /// A record's flags and data, for which `joined` may be used.
    fn encode<'b>(&self, joined: &'b mut Vec<u8>) -> Result<(u8, &'b [u8]), Error>
    where
        'a: 'b,
    {
        let flags = if self.text { 0 } else { BINARY };
        let Some(id) = &self.except else { return Ok((flags, self.data)) };
        joined.clear();
        let room = joined.try_reserve(id.as_bytes().len() + self.data.len());
        room.map_err(|_| Error::NoMemory)?;
        joined.extend_from_slice(id.as_bytes());
        joined.extend_from_slice(self.data);
        Ok((flags | EXCEPT, joined))
    }
}

/// The cursor of a position in a topic.
pub fn cursor(topic: &[u8], position: Position) -> CursorText {
    Cursor { topic: TopicHash::of(topic), position }.encode()
}

fn owner() -> Owner {
    Owner {
        id: std::process::id().into(),
        is_alive: |pid| u32::try_from(pid).is_ok_and(process::runs),
        random: || u64::from_ne_bytes(random::bytes()),
    }
}

/// Which of so many brokers a topic with such flags goes by.
fn by_flags(flags: u32, brokers: usize) -> Option<usize> {
    let broker = match Reach::of(flags) {
        Reach::First => 0,
        Reach::Broker(n) => n,
        Reach::Here => return None,
    };
    (broker < brokers).then_some(broker)
}

/// Makes the memory, or finds it again, and sets what holds from now on, in the master.
pub fn prepare(rules: &[Rule], brokers: usize) -> bool {
    let Some(words) = HISTORY.memory() else { return true };
    let store = match History::attach(words, owner()) {
        Some(store) => Ok(store),
        None => History::init(words, owner()),
    };
    let set = |store: History<'static>| {
        store.set_rules(rules, clock::wall_ms())?;
        let mut rules = Rules::default();
        store.refresh(&mut rules);
        let flags = |name: &[u8]| rules.find(name).map_or(0, |rule| rule.flags);
        store.drop_copies(|name| by_flags(flags(name), brokers).is_none());
        Ok(())
    };
    match store.and_then(set) {
        Ok(()) => true,
        Err(err) => {
            log::alert(&format!("websocket: {err}"));
            false
        }
    }
}

/// The smallest `websocket_history_zone`.
pub fn smallest_zone() -> usize {
    128 * 1024
}

/// How full the memory is, in any process that has it.
pub fn stats() -> Stats {
    let words = HISTORY.memory();
    words.and_then(|words| History::attach(words, owner())).map(|s| s.stats()).unwrap_or_default()
}

impl Histories {
    /// The worker's handle. None: there is no memory.
    pub fn attach() -> Option<Histories> {
        let store = History::attach(HISTORY.memory()?, owner())?;
        let (rules, joined) = (Rules::default(), Vec::new());
        // Also where this worker has no seat: what a broker keeps is not its to store.
        let zone = HUB.memory().and_then(|words| Zone::attach(words).ok());
        let place = zone.map(|zone| zone.gateway());
        let mut histories = Histories { store, rules, joined, place };
        histories.refresh();
        Some(histories)
    }

    /// Follows the newest configuration. Whether it has changed.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        self.store.refresh(&mut self.rules)
    }

    /// Whether a topic has a history.
    pub fn keeps(&self, name: &[u8]) -> bool {
        self.rules.topic(name).is_some()
    }

    /// What holds for a topic beside its history.
    pub fn flags(&self, name: &[u8]) -> u32 {
        self.rules.find(name).map_or(0, |rule| rule.flags)
    }

    /// Whether some topic has such a flag.
    pub fn has_flag(&self, flag: u32) -> bool {
        self.rules.any(|rule| rule.flags & flag != 0)
    }

    fn brokers(&self) -> usize {
        self.place.map_or(0, |place| place.brokers())
    }

    /// Which broker a topic goes by.
    pub fn broker_of(&self, name: &[u8]) -> Option<usize> {
        by_flags(self.flags(name), self.brokers())
    }

    /// Which broker keeps a topic's history, if one does: what is here is a copy then.
    pub fn keeper(&self, name: &[u8]) -> Option<usize> {
        self.broker_of(name).filter(|_| self.keeps(name))
    }

    /// Whether a broker keeps any history.
    pub fn keeps_far(&self) -> bool {
        self.brokers() > 0
            && self.rules.any(|rule| rule.limits.is_some() && Reach::of(rule.flags) != Reach::Here)
    }

    /// Whether a topic's history here is all that there is, or a copy that is up to date.
    pub fn is_current(&self, name: &[u8]) -> bool {
        let Some(keeper) = self.keeper(name) else { return true };
        let term = self.place.map_or(0, |place| place.term(keeper));
        term != 0 && self.store.mark(name) == term
    }

    /// What is kept of a topic, by its rule.
    pub fn limits(&self, name: &[u8]) -> Option<Limits> {
        self.rules.topic(name).map(|topic| topic.limits)
    }

    /// See [`History::begin_copy`].
    pub fn begin_copy(&self, name: &[u8], at: Position) -> Result<(), Error> {
        let topic = self.topic(name)?;
        self.store.begin_copy(&topic, at, clock::wall_ms()).map_err(Error::History)
    }

    /// See [`History::place`].
    pub fn place(
        &self,
        name: &[u8],
        at: Position,
        before: u64,
        time: u64,
        item: &Item<'_>,
    ) -> Result<Placed, Error> {
        let topic = self.topic(name)?;
        let mut joined = Vec::new();
        let (flags, data) = item.encode(&mut joined)?;
        let message = Message { data, flags, key: None, subscribed: true };
        self.store.place(&topic, at, before, time, &message).map_err(Error::History)
    }

    /// Says of which term a copy is; 0: it is not kept up to date.
    pub fn set_mark(&self, name: &[u8], term: u32) {
        self.store.set_mark(name, term);
    }

    fn topic<'a>(&self, name: &'a [u8]) -> Result<Topic<'a>, Error> {
        self.rules.topic(name).ok_or(Error::NoHistory)
    }

    /// Puts a message into a topic's history. `Error::NoHistory`: it has none.
    pub fn publish(
        &mut self,
        name: &[u8],
        item: &Item<'_>,
        key: Option<&[u8]>,
        subscribed: bool,
    ) -> Result<Published, Error> {
        let (flags, data) = item.encode(&mut self.joined)?;
        let message = Message { data, flags, key, subscribed };
        loop {
            let topic = self.rules.topic(name).ok_or(Error::NoHistory)?;
            match self.store.publish(&topic, &message, clock::wall_ms()) {
                Err(HistoryError::Stale) => _ = self.store.refresh(&mut self.rules),
                result => return result.map_err(Error::History),
            }
        }
    }

    /// Reads a piece.
    pub fn read(
        &self,
        name: &[u8],
        from: From,
        limit: Limit,
        out: &mut Batch,
    ) -> Result<Page, Gap> {
        // Without a rule it is as if the history had been dropped, which it is.
        let topic = self.rules.topic(name).ok_or(Gap::Epoch)?;
        stats::add(Counter::HistoryReadsStore, 1);
        self.store.read(&topic, from, limit, clock::wall_ms(), out)
    }

    /// Reads as many pieces as it takes.
    pub fn read_all(
        &self,
        name: &[u8],
        from: From,
        limit: Limit,
        out: &mut Batch,
    ) -> Result<Page, Error> {
        let topic = self.topic(name)?;
        stats::add(Counter::HistoryReadsStore, 1);
        self.store.read_all(&topic, from, limit, clock::wall_ms(), out).map_err(Error::Gap)
    }

    /// A topic's newest position.
    pub fn position(&self, name: &[u8]) -> Position {
        self.store.position(name)
    }

    /// Says whether anybody subscribes a topic.
    pub fn set_subscribed(&self, name: &[u8], subscribed: bool) {
        self.store.set_subscribed(name, subscribed);
    }

    /// Drops a history. Whether there was one.
    pub fn forget(&self, name: &[u8]) -> Result<bool, Error> {
        self.topic(name)?;
        Ok(self.store.forget(name))
    }

    /// Removes what is too old, a part at a time.
    pub fn sweep(&self) {
        self.store.sweep(clock::wall_ms());
    }
}
