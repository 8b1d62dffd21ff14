//! What the server sends: answers, and what it pushes. Whatever is not what was asked for ends the
//! connection: a stream that is out of step would never be in step again.

use std::collections::VecDeque;

use bytes::Bytes;

use super::asked::{Asked, What};
use super::elsewhere::Elsewhere;
use super::history::{pushed, replication_id, Answer, Op, Pushed};
use super::item::Item;
use super::names::KEPT;
use super::wire::Frame;
use super::{Redis, BATCH};
use crate::broker::incoming::{check, heard, Unfit, Via};
use crate::broker::lost::{shown, Lost};
use crate::broker::seam::{Action, State, Stored, Unkept};
use crate::broker::tally::{Number, Tally};
use crate::history::Position;

/// What a server says that is not the right one, or not yet: nothing was done.
const ELSEWHERE: [&str; 5] = ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS"];

impl Redis {
    /// Takes what has come whole.
    pub(super) fn take_frames(&mut self, now: u64) -> Result<(), Lost> {
        loop {
            match self.incoming.next() {
                Ok(Some(Frame::Push(items))) => self.pushed(&items, now)?,
                Ok(Some(Frame::Attribute(_))) => {}
                Ok(Some(frame)) => self.answered(frame, now)?,
                Ok(None) => return Ok(()),
                Err(_) => return Err(Lost::garbage("not the protocol of a Redis server")),
            }
        }
    }

    fn answered(&mut self, frame: Frame, now: u64) -> Result<(), Lost> {
        let error = match &frame {
            Frame::Error(text) | Frame::BlobError(text) => {
                Some(shown(text, &self.settings.password.0))
            }
            _ => None,
        };
        let Some(Asked { what, .. }) = self.asked.pop_front() else {
            return Err(match error {
                Some(why) => Lost::refused(why),
                None => Lost::garbage("an answer to nothing"),
            });
        };
        if let (true, Frame::Error(text)) = (self.names.are_sharded(), &frame) {
            if let Some(place) = Elsewhere::parse(text) {
                let why = error.unwrap_or_default();
                return self.is_elsewhere(what, place, why, now);
            }
        }
        match (what, error) {
            (What::Message(message), error) => {
                self.in_flight -= message.bytes.len();
                match (&frame, error) {
                    (Frame::Integer(_), _) => self.contact.tally.add(Number::Published, 1),
                    (_, Some(_)) => {
                        self.contact.tally.add(Number::DroppedRefused, 1);
                        self.contact.tally.add(Number::ErrorRefused, 1);
                    }
                    _ => {
                        self.contact.tally.add(Number::DroppedCut, 1);
                        return Err(out_of_step());
                    }
                }
            }
            (What::Subscribe(names), Some(why)) => {
                self.batch = (names.len() / 2).max(1);
                if let Some(name) = self.wanted.refused(&names) {
                    // What is none of a topic belongs to all.
                    let Some((kind, topic)) = self.names.topic(name) else {
                        return Err(Lost::refused(why));
                    };
                    if kind == KEPT {
                        let topic = topic.to_vec();
                        self.contact.actions.push_back(Action::Page { topic, page: None });
                    }
                    self.contact.tally.add(Number::ErrorRefused, 1);
                    let topic = topic.to_vec();
                    self.contact.actions.push_back(Action::State(State::Denied { topic, why }));
                }
            }
            // Until PING is answered.
            (What::Unsubscribe(names), Some(_)) => self.ask_first(What::Unsubscribe(names), now),
            (What::Unsubscribe(names), None) if matches!(frame, Frame::SimpleString(_)) => {
                names.iter().for_each(|name| self.wanted.left(name));
            }
            (What::Stay(names), None) if matches!(frame, Frame::SimpleString(_)) => {
                names.iter().for_each(|name| self.wanted.stayed(name));
            }
            (What::Op(op), error) => return self.op_answered(op, &frame, error, now),
            (_, Some(why)) => return Err(Lost::refused(why)),
            (What::Info, None) => {
                let id = replication_id(&frame).ok_or_else(out_of_step)?;
                self.questions -= 1;
                let certain = self.replication.now == id;
                for item in &mut self.held {
                    if let Item::Op(op) = item {
                        op.certain = certain;
                    }
                }
                if !certain {
                    let before = std::mem::replace(&mut self.replication.now, id);
                    self.replication.before = before;
                    self.kin.clear();
                }
            }
            (What::Load(n), None) => {
                let digest = frame.as_bytes().ok_or_else(out_of_step)?;
                self.questions -= 1;
                self.digests[n] = digest.clone();
            }
            (What::Hello, None) if matches!(frame, Frame::Map(_)) => {}
            (What::Select, None) if matches!(frame, Frame::SimpleString(_)) => {}
            (What::Word, None) if matches!(frame, Frame::Integer(_)) => {}
            (What::Asking, None) if matches!(frame, Frame::SimpleString(_)) => {}
            (What::Whole, None) => self.is_whole(&frame, now).ok_or_else(out_of_step)?,
            (What::Map, None) => {
                self.questions -= 1;
                self.returned.map = Some(frame);
            }
            (What::Role, None) => match frame.as_array().and_then(|role| role.first()) {
                Some(role) if role.as_bytes().is_some_and(|role| &role[..] == b"master") => {}
                Some(_) => return Err(Lost::refused("not a master".to_string())),
                None => return Err(out_of_step()),
            },
            _ => return Err(out_of_step()),
        }
        Ok(())
    }

    /// A script has answered, or could not run.
    fn op_answered(
        &mut self,
        op: Op,
        frame: &Frame,
        error: Option<String>,
        now: u64,
    ) -> Result<(), Lost> {
        self.in_flight -= op.len;
        if let Some(why) = error {
            if why.starts_with("NOSCRIPT") {
                self.held.push_back(Item::Op(op));
                if self.questions == 0 {
                    self.load_scripts(now);
                }
                return Ok(());
            }
            if ELSEWHERE.iter().any(|start| why.starts_with(start)) {
                self.held.push_back(Item::Op(op));
                return Err(Lost::refused(why));
            }
            self.contact.tally.add(Number::DroppedRefused, op.messages());
            self.contact.tally.add(Number::ErrorRefused, 1);
            self.tell(op.outcomes(Err(Unkept::Refused)));
            if op.messages() == 0 {
                let topic = op.topic.to_vec();
                self.contact.actions.push_back(Action::Page { topic: topic.clone(), page: None });
                self.contact.actions.push_back(Action::State(State::Denied { topic, why }));
            }
            return Ok(());
        }
        let Some(answer) = op.answer(frame) else {
            // It is not sent again: it may be answered so each time.
            self.contact.tally.add(Number::DroppedCut, op.messages());
            self.tell(op.outcomes(Err(Unkept::Timeout)));
            return Err(out_of_step());
        };
        match answer {
            Answer::Doubt => {
                self.held.push_back(Item::Op(op));
                if self.questions == 0 {
                    self.ask_info(now);
                }
            }
            Answer::Kept(outcome) => {
                self.contact.tally.add(Number::Published, op.messages());
                self.tell(op.outcomes(outcome));
            }
            Answer::Page(page, unfit) => {
                self.contact.tally.add(Number::BadMessages, unfit);
                let topic = op.topic.to_vec();
                self.contact.actions.push_back(Action::Page { topic, page: Some(page) });
            }
        }
        Ok(())
    }

    fn pushed(&mut self, items: &[Frame], now: u64) -> Result<(), Lost> {
        let [kind, channel, value, ..] = items else { return Ok(()) };
        let (Some(kind), Some(channel)) = (kind.as_bytes(), channel.as_bytes()) else {
            return Ok(());
        };
        match (&kind[..], value.as_bytes()) {
            (b"message" | b"smessage", Some(message)) => {
                self.heard(channel, message, now);
                Ok(())
            }
            (b"subscribe" | b"ssubscribe", _) => self.acknowledged(channel, true, now),
            (b"unsubscribe" | b"sunsubscribe", _) => self.acknowledged(channel, false, now),
            _ => Ok(()),
        }
    }

    fn acknowledged(&mut self, channel: &[u8], subscribed: bool, now: u64) -> Result<(), Lost> {
        let topic = channel.strip_prefix(&self.names.prefix[..]);
        if let Some(name) = topic {
            self.wanted.acknowledged(name, subscribed);
            let is_wanted = self.wanted.wants(name);
            // Its slot has left.
            self.returned.doubts |= is_wanted && !subscribed;
            if let (true, Some((KEPT, topic))) = (is_wanted, self.names.topic(name)) {
                let topic = topic.to_vec();
                self.contact.actions.push_back(match subscribed {
                    true => Action::Follows(topic),
                    false => Action::Lapsed(topic),
                });
            }
        }
        let Some(asked) = self.asked.front_mut() else { return Ok(()) };
        let (names, name, expected) = match &asked.what {
            What::Own(names) => (names, channel, true),
            What::Subscribe(names) => (names, topic.unwrap_or_default(), true),
            What::Unsubscribe(names) if !self.names.are_sharded() => {
                (names, topic.unwrap_or_default(), false)
            }
            _ => return Ok(()),
        };
        if expected != subscribed || names.get(asked.done).is_none_or(|next| &**next != name) {
            return Ok(());
        }
        asked.done += 1;
        if asked.done == names.len() {
            match self.asked.pop_front() {
                Some(Asked { what: What::Own(_), .. }) => self.ready(now),
                _ => self.batch = (2 * self.batch).min(BATCH),
            }
        }
        Ok(())
    }

    fn heard(&mut self, channel: &[u8], message: &Bytes, now: u64) {
        let name = channel.strip_prefix(&self.names.prefix[..]).unwrap_or_default();
        let via = if let Some((kind, topic)) = self.names.topic(name) {
            if kind == KEPT {
                return heard_stored(
                    topic,
                    message,
                    &mut self.contact.actions,
                    &mut self.contact.tally,
                );
            }
            Via::Topic(topic)
        } else if channel == self.names.node {
            Via::Node
        } else if channel == self.names.probe {
            return self.contact.word_came(message, now);
        } else if channel != self.names.all {
            return self.contact.tally.add(Number::BadMessages, 1);
        } else if let Some(node) = heard(message) {
            if node != self.driver.node {
                self.contact.actions.push_back(Action::Heard(node));
            }
            return;
        } else {
            Via::All
        };
        match check(via, message, self.driver.node) {
            Ok(_) => {
                self.contact.tally.add(Number::Received, 1);
                self.contact.actions.push_back(Action::Deliver(message.clone()));
            }
            Err(Unfit::Own) => {}
            Err(Unfit::Bad) => self.contact.tally.add(Number::BadMessages, 1),
        }
    }
}

fn heard_stored(topic: &[u8], message: &Bytes, actions: &mut VecDeque<Action>, tally: &mut Tally) {
    let topic = topic.to_vec();
    match pushed(&topic, message) {
        Some(Pushed::Message(at, time, message)) => {
            tally.add(Number::Received, 1);
            let Position { epoch, offset } = at;
            let message = Stored { offset, before: offset - 1, time, bytes: message };
            actions.push_back(Action::Stored { topic, epoch, message });
        }
        Some(Pushed::Dropped) => {
            actions.push_back(Action::Dropped { topic, at: Position::NOWHERE });
        }
        None => tally.add(Number::BadMessages, 1),
    }
}

fn out_of_step() -> Lost {
    Lost::garbage("not an answer to what was asked")
}
