//! Who in this worker may be pushed to: connections by id and by topic, mailboxes by topic; and the
//! fan-out to them. Who lags behind a history is resume.rs's.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::rc::Rc;

use hashbrown::HashMap;
use ws_conn::Shared;
use ws_hub::envelope::{Kind, Type};
use ws_hub::history::{Batch, Position};
use ws_hub::json::{self, State};
use ws_hub::{ConnId, Envelope, IdMap, TopicIndex};

use super::history::{cursor, Histories};
use super::mailbox::Queue;
use super::numbers::delivered;
use super::questions::Presence;
use crate::session::{Delivery, Session};

/// Who may be subscribed.
pub enum Member {
    /// A connection.
    Session(Rc<Session>),
    /// A queue of somebody's.
    Mailbox(Rc<Queue>),
}

pub(super) struct Entry {
    pub id: ConnId,
    pub member: Member,
    /// What others know it by, drawn when somebody first asks who is there.
    pub number: Option<u64>,
    /// Topics of which it has not had all that live subscribers have.
    pub behind: Vec<Rc<[u8]>>,
    /// Gaps that its handler has not been told of yet.
    pub gaps: Vec<(Rc<[u8]>, json::Reason)>,
}

/// A topic's data beside its subscribers. Most have none.
#[derive(Default)]
pub(super) struct Extra {
    /// Of a topic with a history: what live subscribers have had.
    pub at: Option<Position>,
    /// Those who are not just live and raw. Looked up for each delivery, by handles that no peer
    /// chooses, hence not std's map, whose hash costs more than all else in it.
    pub special: HashMap<u32, Special>,
    /// What subscribers say of themselves.
    pub infos: HashMap<u32, Box<str>>,
}

impl Extra {
    /// What a subscriber says of itself.
    pub fn info(&self, handle: u32) -> &str {
        self.infos.get(&handle).map_or("", |info| info)
    }
}

/// A subscription with options, or one that lags.
#[derive(Default)]
pub(super) struct Special {
    /// Each message is a line in JSON.
    pub json: bool,
    /// What becomes of messages that cannot be had any more.
    pub on_gap: OnGap,
    /// It is to be told who is there, once it has room.
    pub wants_members: bool,
    /// Set until it is live.
    pub behind: Option<Behind>,
    /// It waits for a copy of what it has had more of.
    pub waits: Option<Waits>,
}

impl Special {
    /// Whether it gets messages as they come.
    pub fn is_live(&self) -> bool {
        self.behind.is_none() && self.waits.is_none()
    }
}

/// Who has not had everything yet.
pub(super) struct Behind {
    /// What it has had.
    pub at: Position,
    /// What it is to be told before it gets more.
    pub say: Option<State>,
}

/// Who has had something of a history of which this machine's copy is not up to date, or behind.
#[derive(Clone, Copy)]
pub(super) struct Waits {
    /// What it has had: from there it goes on.
    pub at: Position,
    /// It may be sent so many messages more.
    pub limit: usize,
    /// Since when the copy should have been there.
    pub since: Option<u64>,
}

/// What becomes of messages that a raw subscriber cannot get any more. JSON has a line for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnGap {
    /// Its connection is closed with 1012: it comes back and loads what it needs.
    #[default]
    Close,
    /// Its handler is told.
    Call,
    /// Nothing.
    Ignore,
}

/// A message as subscribers get it.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// Of which topic.
    pub topic: &'a [u8],
    /// Text, or binary.
    pub text: bool,
    /// The message.
    pub data: &'a [u8],
    /// A connection that is not to get it.
    pub except: Option<ConnId>,
    /// Where it stands in its topic's history.
    pub at: Option<Position>,
}

/// Registered sessions and mailboxes. A handle is a place in `members`, reused after `remove`.
#[derive(Default)]
pub struct Local {
    pub(super) members: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_id: IdMap<u32>,
    /// Who subscribed what, by handle.
    pub(super) topics: TopicIndex<u32, Option<Box<Extra>>>,
    /// What topics remember.
    pub(super) histories: Option<Histories>,
    /// What was read from there last.
    pub(super) batch: Batch,
    /// Topics of which more is to be read than one turn takes.
    pub(super) due: Vec<Rc<[u8]>>,
    /// Questions who is there, and what is to be told of it.
    pub(super) presence: Presence,
    /// So many topics have been looked at lately (`look_at`).
    pub(super) looked_at: usize,
}

impl Local {
    /// With the histories that there are.
    pub fn new(histories: Option<Histories>) -> Local {
        Local { histories, ..Local::default() }
    }

    /// Registers a member.
    pub fn add(&mut self, id: ConnId, member: Member) -> u32 {
        let handle = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            (self.members.len() - 1) as u32
        });
        let entry = Entry { id, member, number: None, behind: Vec::new(), gaps: Vec::new() };
        self.members[handle as usize] = Some(entry);
        self.by_id.insert(id, handle);
        handle
    }

    /// Forgets a member, which has no subscription any more.
    pub fn remove(&mut self, handle: u32) {
        if let Some(entry) = self.members.get_mut(handle as usize).and_then(Option::take) {
            self.by_id.remove(&entry.id);
            self.free.push(handle);
        }
    }

    /// The handle of a member of this worker.
    pub fn handle(&self, id: &ConnId) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// The session of a connection of this worker.
    pub fn session(&self, id: &ConnId) -> Option<&Rc<Session>> {
        self.session_at(self.handle(id)?)
    }

    pub(super) fn session_at(&self, handle: u32) -> Option<&Rc<Session>> {
        match &self.members.get(handle as usize)?.as_ref()?.member {
            Member::Session(session) => Some(session),
            Member::Mailbox(_) => None,
        }
    }

    /// The connections, and how many bytes wait for each to read them.
    pub fn waiting(&self) -> impl Iterator<Item = (ConnId, u64)> + '_ {
        self.members.iter().flatten().filter_map(|entry| match &entry.member {
            Member::Session(session) => Some((entry.id, session.buffered() as u64)),
            Member::Mailbox(_) => None,
        })
    }

    /// Forgets what a topic keeps of a subscriber, whose subscription has ended.
    pub(super) fn forget_special(&mut self, topic: &[u8], handle: u32) {
        if let Some((_, Some(extra))) = self.topics.get_mut(topic) {
            extra.special.remove(&handle);
            extra.infos.remove(&handle);
        }
        if let Some(Some(entry)) = self.members.get_mut(handle as usize) {
            entry.gaps.retain(|(lost, _)| **lost != *topic);
        }
    }

    /// Hands a message to every subscriber who is up to date, but one, and none of `seen`, to whom
    /// they are added. Who has no room for a message of a history gets it later. Returns how many
    /// took it.
    pub fn fan_out(&mut self, message: &Message<'_>, mut seen: Option<&mut HashSet<u32>>) -> usize {
        let Local { members, topics, .. } = self;
        let Some((subscribers, extra)) = topics.get(message.topic) else { return 0 };
        let special = extra.as_ref().map(|extra| &extra.special).filter(|s| !s.is_empty());
        let raw = Shared::new(message.text, message.data);
        let (mut reached, mut fallen) = (0, Vec::new());
        let (line, mut as_line) = (OnceCell::new(), None);
        let mut hand = |handle: u32, outgoing: &Shared<'_>| {
            let Some(Some(entry)) = members.get(handle as usize) else { return };
            let is_seen = seen.as_mut().is_some_and(|seen| !seen.insert(handle));
            if message.except == Some(entry.id) || is_seen {
                return;
            }
            // Nobody fills a mailbox: what it has no room for it says itself.
            let is_filled = message.at.is_some() && matches!(entry.member, Member::Session(_));
            let delivery = match &entry.member {
                Member::Session(session) if is_filled => session.offer(outgoing),
                Member::Session(session) => session.deliver(outgoing),
                Member::Mailbox(queue) => queue.deliver(message.topic, outgoing.payload()),
            };
            if is_filled && delivery == Delivery::Dropped {
                fallen.push(handle);
            } else {
                delivered(delivery);
            }
            reached += usize::from(delivery == Delivery::Queued);
        };
        for &handle in subscribers {
            match special.and_then(|special| special.get(&handle)) {
                None => hand(handle, &raw),
                Some(special) if !special.is_live() => {}
                Some(special) if special.json => {
                    let line = || as_text(line.get_or_init(|| message.line()).as_deref());
                    hand(handle, as_line.get_or_insert_with(line));
                }
                Some(_) => hand(handle, &raw),
            }
        }
        for handle in fallen {
            self.fall_behind(message, handle);
        }
        reached
    }

    /// Hands a message to whom it concerns. Returns how many connections took it.
    pub fn receive(&mut self, message: &Envelope<'_>) -> usize {
        let text = message.typ == Type::Text;
        let of = |topic| Message {
            topic,
            text,
            data: message.payload,
            except: message.except,
            at: None,
        };
        match message.kind {
            Kind::Publish { topic } => self.fan_out(&of(topic), None),
            Kind::PublishMany { topics } => {
                let mut seen = HashSet::new();
                topics.iter().map(|topic| self.fan_out(&of(topic), Some(&mut seen))).sum()
            }
            Kind::Doorbell { topic } => match message.stored {
                Some(stored) => {
                    let at = Position { epoch: stored.epoch, offset: stored.offset };
                    self.rung(topic, at)
                }
                None => 0,
            },
            Kind::Listens { .. } | Kind::WhoListens | Kind::Errand { .. } | Kind::HandsOver => 0,
            Kind::CloseTopic { topic, code, reason } => {
                let subscribers = self.topics.subscribers(topic);
                let sessions = subscribers.iter().filter_map(|&handle| self.session_at(handle));
                sessions.map(|session| session.end_with(code, reason.as_bytes())).count()
            }
            Kind::ToConnection { id } => {
                let Some(session) = self.session(&id) else { return 0 };
                delivered(session.deliver(&Shared::new(text, message.payload)));
                1
            }
            Kind::Ask { topic, id, most } => {
                self.asked(topic, id, most);
                0
            }
            Kind::Untold => {
                self.tell_all_members();
                0
            }
            Kind::Answer { id } => {
                usize::from(self.hand_answer(&id, message.origin.node, message.payload))
            }
            Kind::Changes { topic } => self.changed(topic, message.origin.node, message.payload),
            Kind::CloseConnection { id, code, reason } => {
                let Some(session) = self.session(&id) else { return 0 };
                session.end_with(code, reason.as_bytes());
                1
            }
        }
    }
}

impl Message<'_> {
    /// The message as a line in JSON. None: there is no memory for it.
    pub(super) fn line(&self) -> Option<Vec<u8>> {
        let cursor = self.at.map(|at| cursor(self.topic, at));
        let mut line = Vec::new();
        json::message(&mut line, self.topic, cursor.as_ref(), self.text, self.data).then_some(line)
    }
}

/// A line on its way, or that there was no memory for it.
pub(super) fn as_text(line: Option<&[u8]>) -> Shared<'_> {
    match line {
        Some(line) => Shared::new(true, line),
        None => Shared::unmade(),
    }
}
