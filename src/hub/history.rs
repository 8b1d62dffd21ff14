//! What topics remember, as this worker sees it: the rules that hold now, messages on their way into
//! a history and out of it. The memory is shared by all workers and generations (ws-hub's `history`
//! argues it); made by the master, never freed.

use ws_hub::history::{
    Batch, Cursor, From, Gap, History, HistoryError, Limit, Message, Owner, Page, Position,
    Published, Record, Rule, Rules, Stats, Topic,
};
use ws_hub::json::CursorText;
use ws_hub::{ConnId, Counter, TopicHash};

use super::error::Error;
use super::reach::Reach;
use crate::ngx::zone::HISTORY;
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

/// Makes the memory, or finds it again, and sets what holds from now on, in the master.
pub fn prepare(rules: &[Rule]) -> bool {
    let Some(words) = HISTORY.memory() else { return true };
    let store = match History::attach(words, owner()) {
        Some(store) => Ok(store),
        None => History::init(words, owner()),
    };
    match store.and_then(|store| store.set_rules(rules, clock::wall_ms())) {
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
        let mut histories = Histories { store, rules: Rules::default(), joined: Vec::new() };
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

    /// How far a topic reaches, by its rule.
    pub fn reach(&self, name: &[u8]) -> Reach {
        Reach::of(self.flags(name))
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
        let mut flags = if item.text { 0 } else { BINARY };
        let mut data = item.data;
        if let Some(id) = &item.except {
            self.joined.clear();
            let room = self.joined.try_reserve(id.as_bytes().len() + item.data.len());
            room.map_err(|_| Error::NoMemory)?;
            self.joined.extend_from_slice(id.as_bytes());
            self.joined.extend_from_slice(item.data);
            (flags, data) = (flags | EXCEPT, &self.joined);
        }
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
