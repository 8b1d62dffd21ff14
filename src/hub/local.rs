//! Who in this worker may be pushed to: connections by id and by topic, mailboxes by topic.

use std::collections::HashMap;
use std::rc::Rc;

use ws_hub::envelope::{Kind, Type};
use ws_hub::{ConnId, Envelope, TopicIndex};

use super::bus::delivered;
use super::mailbox::Queue;
use crate::session::{Delivery, Outgoing, Session};

/// Who may be subscribed.
pub enum Member {
    /// A connection.
    Session(Rc<Session>),
    /// A queue of somebody's.
    Mailbox(Rc<Queue>),
}

struct Entry {
    id: ConnId,
    member: Member,
}

/// Registered sessions and mailboxes. A handle is a place in `members`, reused after `remove`.
#[derive(Default)]
pub struct Local {
    members: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_id: HashMap<ConnId, u32>,
    /// Who subscribed what, by handle.
    pub topics: TopicIndex<u32>,
}

impl Local {
    /// Registers a member.
    pub fn add(&mut self, id: ConnId, member: Member) -> u32 {
        let handle = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            (self.members.len() - 1) as u32
        });
        self.members[handle as usize] = Some(Entry { id, member });
        self.by_id.insert(id, handle);
        handle
    }

    /// Forgets a member.
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
        let entry = self.members.get(self.handle(id)? as usize)?.as_ref()?;
        match &entry.member {
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

    /// Hands a message to every subscriber but one. Returns how many took it.
    pub fn fan_out(&self, topic: &[u8], message: &Outgoing<'_>, except: Option<ConnId>) -> usize {
        let mut reached = 0;
        for &handle in self.topics.subscribers(topic) {
            let Some(Some(entry)) = self.members.get(handle as usize) else { continue };
            if except == Some(entry.id) {
                continue;
            }
            let delivery = match &entry.member {
                Member::Session(session) => session.deliver(message),
                Member::Mailbox(queue) => queue.deliver(topic, message.payload()),
            };
            delivered(delivery);
            reached += usize::from(delivery == Delivery::Queued);
        }
        reached
    }

    /// Hands a message to whom it concerns. Returns how many connections took it.
    pub fn receive(&self, message: &Envelope<'_>) -> usize {
        let outgoing = Outgoing::new(message.typ == Type::Text, message.payload);
        match message.kind {
            Kind::Publish { topic } => self.fan_out(topic, &outgoing, message.except),
            Kind::ToConnection { id } => {
                let Some(session) = self.session(&id) else { return 0 };
                delivered(session.deliver(&outgoing));
                1
            }
            Kind::CloseConnection { id, code, reason } => {
                let Some(session) = self.session(&id) else { return 0 };
                session.end_with(code, reason.as_bytes());
                1
            }
        }
    }
}
