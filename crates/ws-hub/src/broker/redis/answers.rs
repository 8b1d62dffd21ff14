//! What the server sends: answers, and what it pushes. Whatever is not what was asked for ends the
//! connection: a stream that is out of step would never be in step again.

use bytes::Bytes;

use super::asked::{Asked, What};
use super::wire::Frame;
use super::{Lost, Phase, Redis, BATCH};
use crate::broker::incoming::{check, heard, Unfit, Via};
use crate::broker::seam::{Action, State};
use crate::broker::tally::Number;

/// Characters of what a server says that are shown.
const SHOWN: usize = 120;

impl Redis {
    /// Takes what has come whole.
    pub(super) fn take_frames(&mut self, now: u64) -> Result<(), Lost> {
        loop {
            match self.incoming.next() {
                Ok(Some(Frame::Push(items))) => self.pushed(&items, now)?,
                Ok(Some(Frame::Attribute(_))) => {}
                Ok(Some(frame)) => self.answered(&frame)?,
                Ok(None) => return Ok(()),
                Err(_) => return Err(garbage("not the protocol of a Redis server")),
            }
        }
    }

    fn answered(&mut self, frame: &Frame) -> Result<(), Lost> {
        let error = match frame {
            Frame::Error(text) | Frame::BlobError(text) => Some(self.shown(text)),
            _ => None,
        };
        let Some(Asked { what, .. }) = self.asked.pop_front() else {
            return Err(match error {
                Some(why) => refused(why),
                None => garbage("an answer to nothing"),
            });
        };
        match (what, error) {
            (What::Message(len), error) => {
                self.in_flight -= len;
                match (frame, error) {
                    (Frame::Integer(_), _) => self.tally.add(Number::Published, 1),
                    (_, Some(_)) => {
                        self.tally.add(Number::DroppedRefused, 1);
                        self.tally.add(Number::ErrorRefused, 1);
                    }
                    _ => return Err(out_of_step()),
                }
            }
            (What::Subscribe(names), Some(why)) => {
                self.batch = (names.len() / 2).max(1);
                if let Some(name) = self.wanted.refused(&names) {
                    let topic = name.to_vec();
                    self.tally.add(Number::ErrorRefused, 1);
                    self.actions.push_back(Action::State(State::Denied { topic, why }));
                }
            }
            (_, Some(why)) => return Err(refused(why)),
            (What::Hello, None) if matches!(frame, Frame::Map(_)) => {}
            (What::Select, None) if matches!(frame, Frame::SimpleString(_)) => {}
            (What::Word, None) if matches!(frame, Frame::Integer(_)) => {}
            (What::Role, None) => match frame.as_array().and_then(|role| role.first()) {
                Some(role) if role.as_bytes().is_some_and(|role| &role[..] == b"master") => {}
                Some(_) => return Err(refused("not a master".to_string())),
                None => return Err(out_of_step()),
            },
            _ => return Err(out_of_step()),
        }
        Ok(())
    }

    fn pushed(&mut self, items: &[Frame], now: u64) -> Result<(), Lost> {
        let [kind, channel, value, ..] = items else { return Ok(()) };
        let (Some(kind), Some(channel)) = (kind.as_bytes(), channel.as_bytes()) else {
            return Ok(());
        };
        match (&kind[..], value.as_bytes()) {
            (b"message", Some(message)) => {
                self.heard(channel, message, now);
                Ok(())
            }
            (b"subscribe", _) => self.acknowledged(channel, true, now),
            (b"unsubscribe", _) => self.acknowledged(channel, false, now),
            _ => Ok(()),
        }
    }

    fn acknowledged(&mut self, channel: &[u8], subscribed: bool, now: u64) -> Result<(), Lost> {
        let topic = channel.strip_prefix(&self.names.topic[..]);
        if let Some(topic) = topic {
            self.wanted.acknowledged(topic, subscribed);
        }
        let Some(asked) = self.asked.front_mut() else { return Ok(()) };
        let (names, name, expected) = match &asked.what {
            What::Own(names) => (names, channel, true),
            What::Subscribe(names) => (names, topic.unwrap_or_default(), true),
            What::Unsubscribe(names) => (names, topic.unwrap_or_default(), false),
            _ => return Ok(()),
        };
        if expected != subscribed || names.get(asked.done).is_none_or(|next| &**next != name) {
            return Ok(());
        }
        asked.done += 1;
        if asked.done == names.len() {
            match self.asked.pop_front() {
                Some(Asked { what: What::Own(_), .. }) => self.ready(now),
                Some(asked) if asked.is_batch() => self.batch = (2 * self.batch).min(BATCH),
                _ => {}
            }
        }
        Ok(())
    }

    fn ready(&mut self, now: u64) {
        self.phase = Phase::Ready;
        self.tally.set(Number::Connected, 1);
        if self.away_since.is_some() {
            self.tally.add(Number::Reconnects, 1);
        }
        self.try_the_way(now);
        self.beat(now);
    }

    fn heard(&mut self, channel: &[u8], message: &Bytes, now: u64) {
        let via = if let Some(topic) = channel.strip_prefix(&self.names.topic[..]) {
            Via::Topic(topic)
        } else if channel == self.names.node {
            Via::Node
        } else if channel == self.names.probe {
            let word = self.probe.take_if(|(_, word)| word == message);
            if let Some((at, _)) = word {
                self.tally.set(Number::RttMs, now - at);
            }
            return;
        } else if channel != self.names.all {
            return self.tally.add(Number::BadMessages, 1);
        } else if let Some(node) = heard(message) {
            if node != self.driver.node {
                self.actions.push_back(Action::Heard(node));
            }
            return;
        } else {
            Via::All
        };
        match check(via, message, self.driver.node) {
            Ok(_) => {
                self.tally.add(Number::Received, 1);
                self.actions.push_back(Action::Deliver(message.clone()));
            }
            Err(Unfit::Own) => {}
            Err(Unfit::Bad) => self.tally.add(Number::BadMessages, 1),
        }
    }

    /// What a server says, as far as it may be shown: a line at most, and no secret of ours.
    fn shown(&self, text: &[u8]) -> String {
        let secret = &self.settings.password.0;
        if !secret.is_empty() && text.windows(secret.len()).any(|part| part == secret) {
            return "an error that is not shown, for it has the password in it".to_string();
        }
        let printable = |&byte: &u8| if (b' '..=b'~').contains(&byte) { byte as char } else { '?' };
        text.iter().take(SHOWN).map(printable).collect()
    }
}

fn refused(why: String) -> Lost {
    Lost { kind: Number::ErrorRefused, why, open: true }
}

fn garbage(why: &str) -> Lost {
    Lost { kind: Number::ErrorProtocol, why: why.to_string(), open: true }
}

fn out_of_step() -> Lost {
    garbage("not an answer to what was asked")
}
