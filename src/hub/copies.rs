//! Histories that a broker keeps, in the gateway: this machine has copies of those that somebody here
//! follows, or has asked for, in the memory of its own histories, so that all that is read there is
//! read as ever, and a storm of readers costs the broker one read a topic.
//!
//! A copy is up to date once the broker has acknowledged the subscription and what came before has
//! been read; it has the term's mark then. Each loss of the connection begins a new term: all copies
//! are read anew, from where they are. What comes while one is read is in the next piece of it, for
//! both come by one connection.

use std::collections::{HashMap, HashSet};

use ws_hub::broker::{encode_outcome, Broker, Outcome, Page, Placed as At, Stored, Unkept};
use ws_hub::history::{HistoryError, Placed, Position};
use ws_hub::{ConnId, Envelope};

use super::error::Error;
use super::history::{Histories, Item};
use crate::ngx::clock;
use crate::session::random;

/// So long a topic that was asked for is followed though nobody subscribes it, in milliseconds: longer than
/// who asks waits.
const LINGER: u64 = 10_000;

/// Pieces of a history more than it may have messages.
const MORE_PIECES: u32 = 16;

/// What the others are to hear.
pub enum News {
    /// There is something new in a topic's history, up to there; or its copy is up to date now.
    Ring(Vec<u8>, Position),
    /// Somebody's errand is done.
    Answer(ConnId, Vec<u8>),
}

/// The copies of one broker's histories.
pub struct Copies {
    /// The mark of those that are up to date.
    term: u32,
    /// Topics that the broker has acknowledged.
    followed: HashSet<Box<[u8]>>,
    /// Those of them that are being read, and how many pieces more may come of each.
    reading: HashMap<Box<[u8]>, u32>,
    /// Who waits until a copy is up to date, and since when.
    waiting: HashMap<Box<[u8]>, Vec<(ConnId, u64)>>,
    /// When topics were asked for last.
    asked: HashMap<Box<[u8]>, u64>,
    /// Who waits for what becomes of a message.
    tickets: HashMap<u64, ConnId>,
    last_ticket: u64,
}

impl Copies {
    /// None yet.
    pub fn new() -> Copies {
        Copies {
            term: new_term(),
            followed: HashSet::new(),
            reading: HashMap::new(),
            waiting: HashMap::new(),
            asked: HashMap::new(),
            tickets: HashMap::new(),
            last_ticket: 0,
        }
    }

    /// The mark of copies that are up to date.
    pub fn term(&self) -> u32 {
        self.term
    }

    /// The connection is lost: no copy is up to date.
    pub fn lose(&mut self) {
        self.term = new_term();
        self.followed.clear();
        self.reading.clear();
    }

    /// A topic is followed no more: its copy is not up to date.
    pub fn lapse(&mut self, topic: &[u8], histories: &Histories) {
        self.reading.remove(topic);
        if self.followed.remove(topic) {
            histories.set_mark(topic, 0);
        }
    }

    /// Somebody wants a copy to be up to date. Returns what to answer, if it is.
    pub fn fetch(
        &mut self,
        topic: &[u8],
        id: ConnId,
        broker: &mut dyn Broker,
        histories: &Histories,
    ) -> Option<News> {
        let is_asked = id != ConnId::NOBODY;
        if is_asked {
            self.asked.insert(topic.into(), clock::now_ms());
        }
        if self.followed.contains(topic) && !self.reading.contains_key(topic) {
            if histories.is_current(topic) {
                return is_asked.then(|| News::Answer(id, up_to_date(topic, histories)));
            }
            // It had to go, for others needed the room.
            self.read(topic, broker, histories);
        }
        if is_asked {
            let waiting = self.waiting.entry(topic.into()).or_default();
            waiting.push((id, clock::now_ms()));
        }
        broker.follow(topic);
        None
    }

    /// A ticket for who waits for what becomes of a message; 0 for nobody.
    pub fn ticket(&mut self, id: ConnId) -> u64 {
        if id == ConnId::NOBODY {
            return 0;
        }
        self.last_ticket += 1;
        self.tickets.insert(self.last_ticket, id);
        self.last_ticket
    }

    /// Something became of a message.
    pub fn kept(&mut self, ticket: u64, outcome: Outcome) -> Option<News> {
        let id = self.tickets.remove(&ticket)?;
        Some(News::Answer(id, encode_outcome(&outcome)))
    }

    /// Whether a topic is to be followed though nobody subscribes it. If not, its copy is as new as
    /// it is from now on.
    pub fn keeps(&mut self, topic: &[u8], is_subscribed: bool, histories: &Histories) -> bool {
        let now = clock::now_ms();
        if let Some(waiting) = self.waiting.get_mut(topic) {
            // However long the broker does not answer.
            waiting.retain(|(_, since)| now < since + LINGER);
            if waiting.is_empty() {
                self.waiting.remove(topic);
            }
        }
        let is_asked = self.asked.get(topic).is_some_and(|at| now < at + LINGER);
        if is_subscribed || is_asked || self.waiting.contains_key(topic) {
            return true;
        }
        self.asked.remove(topic);
        self.lapse(topic, histories);
        false
    }

    /// Takes those who wait, each with the topic whose copy it waits for.
    pub fn take_waiting(&mut self) -> impl Iterator<Item = (Box<[u8]>, ConnId)> {
        let of = |(topic, ids): (Box<[u8]>, Vec<(ConnId, u64)>)| {
            ids.into_iter().map(move |(id, _)| (topic.clone(), id))
        };
        std::mem::take(&mut self.waiting).into_iter().flat_map(of)
    }

    /// The broker has acknowledged that a topic is followed.
    pub fn follows(&mut self, topic: &[u8], broker: &mut dyn Broker, histories: &Histories) {
        self.followed.insert(topic.into());
        self.read(topic, broker, histories);
    }

    fn read(&mut self, topic: &[u8], broker: &mut dyn Broker, histories: &Histories) {
        let most = histories.limits(topic).map_or(1, |limits| limits.count);
        // One message at least is in each; some may come while it is read.
        self.reading.entry(topic.into()).or_insert(most.saturating_add(MORE_PIECES));
        broker.read(topic, histories.position(topic), most);
    }

    /// A piece of a history has come; none: the broker refuses it.
    pub fn page(
        &mut self,
        topic: &[u8],
        page: Option<Page>,
        broker: &mut dyn Broker,
        histories: &Histories,
    ) -> Vec<News> {
        let Some(page) = page else {
            self.reading.remove(topic);
            return self.answer(topic, &encode_outcome(&Err(Unkept::Refused)));
        };
        // What has lapsed since it was asked for is read anew once it is followed again.
        if !self.followed.contains(topic) {
            return Vec::new();
        }
        let (top, more) = (page.top, page.more);
        let is_copied = copy(topic, page, histories).is_ok();
        match self.reading.get_mut(topic) {
            Some(left @ 1..) if is_copied && more => {
                *left -= 1;
                self.read(topic, broker, histories);
                return Vec::new();
            }
            // Without room, or of a history without end, the copy ends there: its readers are told a gap.
            _ if !is_copied || more => _ = histories.begin_copy(topic, top),
            _ => {}
        }
        self.reading.remove(topic);
        histories.set_mark(topic, self.term);
        let mut news = self.answer(topic, &up_to_date(topic, histories));
        news.push(News::Ring(topic.to_vec(), histories.position(topic)));
        news
    }

    fn answer(&mut self, topic: &[u8], answer: &[u8]) -> Vec<News> {
        let waiting = self.waiting.remove(topic).unwrap_or_default();
        waiting.into_iter().map(|(id, _)| News::Answer(id, answer.to_vec())).collect()
    }

    /// A message has come.
    pub fn stored(
        &mut self,
        topic: &[u8],
        epoch: u64,
        message: &Stored,
        broker: &mut dyn Broker,
        histories: &Histories,
    ) -> Option<News> {
        if self.reading.contains_key(topic) || !self.followed.contains(topic) {
            return None;
        }
        let at = Position { epoch, offset: message.offset };
        match place(topic, epoch, message, histories) {
            Ok(Placed::Known) => return None,
            Ok(Placed::Appended) => {}
            Ok(Placed::Gap) | Err(Error::History(HistoryError::Stale)) => {
                self.read(topic, broker, histories);
                return None;
            }
            Err(_) => _ = histories.begin_copy(topic, at),
        }
        Some(News::Ring(topic.to_vec(), at))
    }

    /// A history was dropped.
    pub fn dropped(&mut self, topic: &[u8], at: Position, histories: &Histories) -> Option<News> {
        if !self.followed.contains(topic) {
            return None;
        }
        let _ = histories.begin_copy(topic, at);
        Some(News::Ring(topic.to_vec(), at))
    }
}

fn up_to_date(topic: &[u8], histories: &Histories) -> Vec<u8> {
    encode_outcome(&Ok(At { at: histories.position(topic), repeated: false }))
}

/// Brings a copy on by a piece of what it is of.
fn copy(topic: &[u8], page: Page, histories: &Histories) -> Result<(), Error> {
    let Page { top, after, messages, .. } = page;
    let from = Position { epoch: top.epoch, offset: after };
    if histories.position(topic) != from {
        histories.begin_copy(topic, from)?;
    }
    for message in &messages {
        place(topic, from.epoch, message, histories)?;
    }
    Ok(())
}

fn place(
    topic: &[u8],
    epoch: u64,
    stored: &Stored,
    histories: &Histories,
) -> Result<Placed, Error> {
    let message = Envelope::decode(&stored.bytes).map_err(Error::Envelope)?;
    let text = message.typ == ws_hub::envelope::Type::Text;
    let item = Item { text, data: message.payload, except: message.except };
    let time = if stored.time == 0 { clock::wall_ms() } else { stored.time };
    histories.place(topic, Position { epoch, offset: stored.offset }, stored.before, time, &item)
}

/// Never 0, and another each time.
fn new_term() -> u32 {
    u32::from_ne_bytes(random::bytes()).max(1)
}
