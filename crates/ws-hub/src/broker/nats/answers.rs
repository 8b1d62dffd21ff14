//! What the server sends: about itself, messages for topics and machines, what a stream sends on, answers,
//! and what is wrong. An error that does not end the connection names the subject that was denied.

use bytes::Bytes;

use super::api::DROPPED;
use super::asked::{Before, What};
use super::info::Info;
use super::names::{Subject, KEPT, PLAIN};
use super::wire::{Frame, Message};
use super::{Lost, Nats};
use crate::broker::contact::{Phase, PEER};
use crate::broker::incoming::{check, check_stored, heard, Unfit, Via};
use crate::broker::seam::{Action, State, Stored, Unkept};
use crate::broker::tally::Number;
use crate::history::Position;

/// How errors begin that name a subject.
const SUBSCRIPTION: &[u8] = b"Permissions Violation for Subscription to ";
const PUBLISH: &[u8] = b"Permissions Violation for Publish to ";

impl Nats {
    /// Takes what has come whole.
    pub(super) fn take_frames(&mut self, now: u64) -> Result<(), Lost> {
        loop {
            let frame = self.incoming.next();
            let frame = frame.map_err(|_| Lost::garbage("not the protocol of a NATS server"))?;
            // Who is there is not known yet, so nothing else is believed.
            if matches!(self.contact.phase, Phase::Hearing(_)) {
                match &frame {
                    None | Some(Frame::Info(_)) => {}
                    Some(Frame::Error(text)) => return Err(Lost::refused(self.shown(text))),
                    Some(_) => return Err(Lost::garbage("not what a NATS server begins with")),
                }
            }
            match frame {
                None => return Ok(()),
                Some(Frame::Info(text)) => self.informed(&text, now)?,
                Some(Frame::Message(message)) => self.heard(&message, now)?,
                Some(Frame::Ping) => self.contact.out.extend(b"PONG\r\n"),
                Some(Frame::Pong) => self.answered(now)?,
                Some(Frame::Ok) => {}
                Some(Frame::Error(text)) => self.wrong(&text, now)?,
            }
            if matches!(self.contact.phase, Phase::Waiting(_) | Phase::Securing(_)) {
                return Ok(());
            }
        }
    }

    fn informed(&mut self, text: &[u8], now: u64) -> Result<(), Lost> {
        let garbage = || Lost::garbage("not what a NATS server says of itself");
        self.info = Info::parse(text).ok_or_else(garbage)?;
        // Before TLS anybody may have said it, and who we are is said to whom it names.
        let is_believed = !self.tls
            || self.settings.tls_first
            || !matches!(self.contact.phase, Phase::Hearing(_));
        if is_believed {
            self.servers.learn(&self.info.others);
        }
        if let Phase::Hearing(until) = self.contact.phase {
            if !self.info.headers {
                return Err(Lost::refused("the server takes no headers".to_string()));
            }
            if self.info.tls_required && !self.tls {
                return Err(Lost::refused("the server asks for tls".to_string()));
            }
            if self.tls && !self.settings.tls_first {
                // What comes before TLS is not to be taken for what comes by it.
                if !self.incoming.is_empty() {
                    return Err(Lost::garbage("bytes before tls"));
                }
                self.contact.phase = Phase::Securing(until);
                self.contact.actions.push_back(Action::Secure { peer: PEER });
                return Ok(());
            }
            return self.greet(now);
        }
        self.is_leaving |= self.info.is_leaving && self.servers.has_others();
        Ok(())
    }

    /// A PONG: all that was sent before its PING has been taken.
    fn answered(&mut self, now: u64) -> Result<(), Lost> {
        let (at, before) = self.pings.pop_front().ok_or_else(out_of_step)?;
        match before {
            Before::Greeting => self.ready(now),
            Before::Subscribe(names) => {
                for name in names {
                    // One that was denied is not meant.
                    if self.wanted.answered(&name) == Some(false) {
                        continue;
                    }
                    self.wanted.acknowledged(&name, true);
                    if let (true, Some(topic)) = (self.wanted.wants(&name), name.strip_prefix(KEPT))
                    {
                        self.contact.actions.push_back(Action::Follows(topic.to_vec()));
                    }
                }
            }
            Before::Unsubscribe(names) => {
                names.iter().for_each(|name| self.wanted.acknowledged(name, false));
            }
            Before::Messages(messages, bytes) => {
                self.in_flight = self.in_flight.saturating_sub(bytes);
                let denied = std::mem::take(&mut self.denied).min(messages);
                self.contact.tally.add(Number::Published, messages - denied);
                self.contact.tally.set(Number::RttMs, now.saturating_sub(at));
            }
        }
        Ok(())
    }

    fn ready(&mut self, now: u64) {
        self.contact.ready();
        self.try_the_way(now);
        self.beat(now);
    }

    /// What is wrong. Most of it ends the connection, which the server closes then.
    fn wrong(&mut self, text: &[u8], now: u64) -> Result<(), Lost> {
        let why = self.shown(text);
        let quoted = |rest: &[u8]| -> Vec<u8> {
            let word = rest.split(|&byte| byte == b'"').nth(1).unwrap_or_default();
            word.to_vec()
        };
        if let Some(rest) = text.strip_prefix(SUBSCRIPTION) {
            let Some(name) = self.names.name_of(&quoted(rest)) else {
                return Err(Lost::refused(why));
            };
            let topic = name[PLAIN.len()..].to_vec();
            self.contact.tally.add(Number::ErrorRefused, 1);
            self.numbers.remove(&name[..]);
            let was_subscribed = self.wanted.answered(&name) == Some(true);
            if self.wanted.refused(&[name[..].into()]).is_some() {
                if name.starts_with(KEPT) {
                    // The rights of a connection may be taken back (a reload of the server).
                    if was_subscribed {
                        self.contact.actions.push_back(Action::Lapsed(topic.clone()));
                    }
                    self.contact
                        .actions
                        .push_back(Action::Page { topic: topic.clone(), page: None });
                }
                self.contact.actions.push_back(Action::State(State::Denied { topic, why }));
            }
            return Ok(());
        }
        let Some(rest) = text.strip_prefix(PUBLISH) else { return Err(Lost::refused(why)) };
        let subject = quoted(rest);
        self.contact.tally.add(Number::ErrorRefused, 1);
        if let Some(topic) = self.names.topic_stored(&subject) {
            let is_of = |what: &What| what.kept().is_some_and(|kept| *kept.topic == topic[..]);
            for what in self.questions.take_like(is_of) {
                if let What::Keep(kept) = what {
                    self.in_flight = self.in_flight.saturating_sub(kept.len());
                    self.contact.tally.add(Number::DroppedRefused, 1);
                    self.tell(kept.ticket, Err(Unkept::Refused));
                }
            }
            self.contact.actions.push_back(Action::State(State::Denied { topic, why }));
        } else if subject.starts_with(b"$JS.") {
            // Its question has no answer, and is missed in time.
            self.say(why, now);
        } else {
            self.denied += 1;
            self.contact.tally.add(Number::DroppedRefused, 1);
        }
        Ok(())
    }

    fn heard(&mut self, message: &Message, now: u64) -> Result<(), Lost> {
        let via = match self.names.read(&message.subject) {
            Some(Subject::Answer(number)) => return self.reply(number, message, now),
            Some(Subject::Kept(topic)) => {
                self.heard_stored(topic, message, now);
                return Ok(());
            }
            Some(Subject::Probe) => {
                self.contact.word_came(&message.payload, now);
                return Ok(());
            }
            Some(Subject::All) => match heard(&message.payload) {
                Some(node) if node == self.driver.node => return Ok(()),
                Some(node) => {
                    self.contact.actions.push_back(Action::Heard(node));
                    return Ok(());
                }
                None => check(Via::All, &message.payload, self.driver.node),
            },
            Some(Subject::Node) => check(Via::Node, &message.payload, self.driver.node),
            Some(Subject::Plain(topic)) => {
                check(Via::Topic(&topic), &message.payload, self.driver.node)
            }
            None => Err(Unfit::Bad),
        };
        match via {
            Ok(_) => {
                self.contact.tally.add(Number::Received, 1);
                self.contact.actions.push_back(Action::Deliver(message.payload.clone()));
            }
            Err(Unfit::Own) => {}
            Err(Unfit::Bad) => self.contact.tally.add(Number::BadMessages, 1),
        }
        Ok(())
    }

    /// A stream has stored something, and sends it on.
    fn heard_stored(&mut self, topic: Vec<u8>, message: &Message, now: u64) {
        let place = message.number("Nats-Sequence").zip(message.number("Nats-Last-Sequence"));
        let is_ours =
            self.settings.stream.as_ref().is_some_and(|stream| {
                message.header("Nats-Stream") == Some(stream.name.as_bytes())
            });
        let is_dropped = message.header(DROPPED).is_some();
        let Some((offset, before)) = place.filter(|&(offset, before)| is_ours && before < offset)
        else {
            return self.contact.tally.add(Number::BadMessages, 1);
        };
        self.seen(offset, now);
        let epoch = self.standing.epoch;
        if epoch == 0 {
            // It is not known yet which stream this is: the history is read when it is.
            return;
        }
        if is_dropped {
            self.reads.of(&topic).into_iter().for_each(|read| read.again = true);
            let at = Position { epoch, offset };
            return self.contact.actions.push_back(Action::Dropped { topic, at });
        }
        if check_stored(&topic, &message.payload).is_err() {
            return self.contact.tally.add(Number::BadMessages, 1);
        }
        let time =
            message.header("Nats-Time-Stamp").and_then(|text| std::str::from_utf8(text).ok());
        // NATS before 2.10 does not say.
        let time = time.and_then(super::api::millis).unwrap_or(0);
        self.contact.tally.add(Number::Received, 1);
        let bytes: Bytes = message.payload.clone();
        let message = Stored { offset, before, time, bytes };
        if let Some(read) = self.reads.of(&topic) {
            return read.take_live(message);
        }
        self.contact.actions.push_back(Action::Stored { topic, epoch, message });
    }

    /// An answer to a question, or a part of it.
    fn reply(&mut self, number: u64, message: &Message, now: u64) -> Result<(), Lost> {
        let is_nobody = message.status() == Some(503);
        if let (Some(What::Many(id)), false) = (self.questions.get(number), is_nobody) {
            let id = *id;
            if self.many_answered(id, message, now)? {
                self.questions.take(number);
            }
            return Ok(());
        }
        // One that came too late has been missed already.
        let Some(what) = self.questions.take(number) else { return Ok(()) };
        let payload = (!is_nobody).then_some(&message.payload[..]);
        match (what, payload) {
            (What::Keep(kept), payload) => self.kept_answered(kept, payload, now),
            (What::Newest(topic, ticket), payload) => {
                self.newest_answered(topic, ticket, payload, now)
            }
            (What::Drop(ticket), payload) => self.drop_answered(ticket, payload, now),
            (What::Top(id), Some(payload)) => self.top_answered(id, payload, now),
            (What::One(id), Some(payload)) => self.one_answered(id, payload, now),
            (What::Top(id) | What::Many(id) | What::One(id), _) => {
                self.put_off(id);
                self.doubt_stream(now);
                Ok(())
            }
            (What::Stream(_) | What::Create | What::Renew, None) => {
                self.say("no JetStream answers".to_string(), now);
                self.doubt_stream(now);
                Ok(())
            }
            (what, Some(payload)) => self.stream_answered(&what, payload, now),
        }
    }
}

fn out_of_step() -> Lost {
    Lost::garbage("not an answer to what was asked")
}
