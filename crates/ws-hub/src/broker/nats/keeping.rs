//! Messages for histories, on their way to the stream, which answers where each is; and dropping a
//! history: one message takes the place of all that it had (`Nats-Rollup`), and says so.

use std::rc::Rc;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine as _;

use super::api::{ack, found, Ack, DROPPED, NO_MESSAGE};
use super::asked::{Kept, What};
use super::sending::WINDOW;
use super::wire::header;
use super::{Lost, Nats};
use crate::broker::seam::{Action, Outcome, Placed, Unkept};
use crate::broker::tally::Number;
use crate::history::Position;
use crate::TopicHash;

/// A stream without room says so with a code that otherwise means that it cannot be used now.
const NO_ROOM: u64 = 10077;
/// What headers of ours take at most.
const HEADERS: usize = 512;

impl Nats {
    pub(super) fn tell(&mut self, ticket: u64, outcome: Outcome) {
        if ticket != 0 {
            self.contact.actions.push_back(Action::Kept { ticket, outcome });
        }
    }

    /// Puts a message behind what waits.
    pub(super) fn push_kept(&mut self, kept: Kept, now: u64) {
        self.contact.stir(now);
        let (len, ticket) = (kept.len(), kept.ticket);
        let is_full = self.queued() + len > self.keeps.most();
        if is_full || self.keeps.push(kept, len, now).is_err() {
            self.contact.tally.add(Number::DroppedFull, 1);
            self.tell(ticket, Err(Unkept::Full));
        }
    }

    /// What has waited too long was surely not stored, if it was never sent.
    pub(super) fn expire_kept(&mut self, now: u64) {
        while let Some(kept) = self.keeps.expired(now) {
            self.contact.tally.add(Number::DroppedExpired, 1);
            self.tell(kept.ticket, Err(Unkept::Unavailable));
        }
        let (late, held): (Vec<Kept>, Vec<Kept>) =
            std::mem::take(&mut self.held).into_iter().partition(|kept| kept.until <= now);
        self.held = held.into();
        for kept in late {
            self.contact.tally.add(Number::DroppedExpired, 1);
            // One with a key may have been sent before.
            let why = if kept.key.is_some() { Unkept::Timeout } else { Unkept::Unavailable };
            self.tell(kept.ticket, Err(why));
        }
    }

    /// Sends what waits for the stream.
    pub(super) fn send_kept(&mut self, now: u64) {
        while self.is_stream_good() {
            let len = self.held.front().map(Kept::len).or(self.keeps.next_len());
            let is_room = |len| self.in_flight == 0 || self.in_flight + len <= WINDOW;
            if !len.is_some_and(is_room) {
                return;
            }
            let next = self.held.pop_front().or_else(|| self.keeps.pop());
            let (Some(kept), Some(stream)) = (next, &self.settings.stream) else { return };
            if kept.message.len() + HEADERS > self.info.max_payload {
                self.contact.tally.add(Number::DroppedTooLarge, 1);
                self.tell(kept.ticket, Err(Unkept::Refused));
                continue;
            }
            self.in_flight += kept.len();
            let id = kept.key.as_ref().map(|key| {
                let hash = TopicHash::of(&kept.topic).0;
                format!("{hash:016x}{}", URL_SAFE_NO_PAD.encode(key))
            });
            let (name, subject) = (stream.name.clone(), self.names.stored(&kept.topic));
            let mut headers = vec![("Nats-Expected-Stream", &name[..])];
            headers.extend(id.as_deref().map(|id| ("Nats-Msg-Id", id)));
            let message = kept.message.clone();
            self.ask(What::Keep(kept), &subject, &headers, &message, now);
        }
    }

    /// What has become of a message; None: nobody is there who could store it.
    pub(super) fn kept_answered(
        &mut self,
        kept: Kept,
        payload: Option<&[u8]>,
        now: u64,
    ) -> Result<(), Lost> {
        self.in_flight = self.in_flight.saturating_sub(kept.len());
        let Some(answer) = read(payload, ack) else {
            // It may be answered so again: until then, and no longer.
            self.miss_kept(kept, now);
            return Err(garbage());
        };
        match answer {
            Some(Ok(Ack { sequence, repeated })) => {
                self.contact.tally.add(Number::Published, 1);
                let at = Position { epoch: self.standing.epoch, offset: sequence };
                self.tell(kept.ticket, Ok(Placed { at, repeated }));
            }
            Some(Err(fault)) if !fault.is_unavailable() || fault.number == NO_ROOM => {
                self.refuse_kept(kept);
                let why = self.shown(fault.why.as_bytes());
                self.say(format!("a message is refused: {why}"), now);
            }
            // It was surely not stored.
            None | Some(Err(_)) => {
                self.held.push_back(kept);
                self.doubt_stream(now);
            }
        }
        Ok(())
    }

    pub(super) fn refuse_kept(&mut self, kept: Kept) {
        self.contact.tally.add(Number::DroppedRefused, 1);
        self.contact.tally.add(Number::ErrorRefused, 1);
        self.tell(kept.ticket, Err(Unkept::Refused));
    }

    /// Nobody knows what has become of a message. With a key it may be sent again.
    fn miss_kept(&mut self, kept: Kept, now: u64) {
        if kept.key.is_some() && kept.until > now {
            return self.held.push_back(kept);
        }
        self.contact.tally.add(Number::DroppedCut, 1);
        self.tell(kept.ticket, Err(Unkept::Timeout));
    }

    /// The connection is lost.
    pub(super) fn lose_kept(&mut self, now: u64) {
        for what in self.questions.take_all() {
            self.lose_question(what, now);
        }
    }

    /// The connection is lost, or is about to be, and this has no answer.
    fn lose_question(&mut self, what: What, now: u64) {
        match what {
            What::Keep(mut kept) => {
                kept.until = now + self.settings.retry;
                self.miss_kept(kept, now);
            }
            What::Newest(_, ticket) | What::Drop(ticket) => {
                self.tell(ticket, Err(Unkept::Timeout));
            }
            _ => {}
        }
    }

    /// Answers that have not come in time.
    pub(super) fn miss_answers(&mut self, now: u64) {
        let timeout = self.settings.command_timeout;
        while let Some(what) =
            now.checked_sub(timeout).and_then(|than| self.questions.take_older(than))
        {
            self.contact.tally.add(Number::ErrorTimeout, 1);
            self.doubt_stream(now);
            match what {
                What::Keep(kept) => {
                    self.in_flight = self.in_flight.saturating_sub(kept.len());
                    self.miss_kept(kept, now);
                }
                What::Newest(_, ticket) | What::Drop(ticket) => {
                    self.tell(ticket, Err(Unkept::Timeout));
                }
                What::Top(id) | What::Many(id) | What::One(id) => self.put_off(id),
                What::Stream(_) | What::Create | What::Renew => {
                    self.say("no answer about the stream".to_string(), now);
                }
            }
        }
    }

    /// Drops a history, if there is one.
    pub(super) fn drop_history(&mut self, topic: &[u8], ticket: u64, now: u64) {
        self.contact.stir(now);
        match self.is_stream_good() {
            true => self.ask_newest(What::Newest(topic.into(), ticket), topic, now),
            false => self.tell(ticket, Err(Unkept::Unavailable)),
        }
    }

    /// The newest message of a history that is to be dropped.
    pub(super) fn newest_answered(
        &mut self,
        topic: Rc<[u8]>,
        ticket: u64,
        payload: Option<&[u8]>,
        now: u64,
    ) -> Result<(), Lost> {
        let Some(answer) = read(payload, found) else {
            self.lose_question(What::Newest(topic, ticket), now);
            return Err(garbage());
        };
        let is_empty = match answer {
            Some(Ok(newest)) => header(&newest.headers, DROPPED).is_some(),
            Some(Err(fault)) if fault.number == NO_MESSAGE => true,
            None | Some(Err(_)) => {
                self.tell(ticket, Err(Unkept::Unavailable));
                return Ok(());
            }
        };
        let Some(stream) = self.settings.stream.as_ref().filter(|_| !is_empty) else {
            self.tell(ticket, Ok(Placed { at: Position::NOWHERE, repeated: true }));
            return Ok(());
        };
        let (name, subject) = (stream.name.clone(), self.names.stored(&topic));
        let headers = [("Nats-Expected-Stream", &name[..]), ("Nats-Rollup", "sub"), (DROPPED, "1")];
        self.ask(What::Drop(ticket), &subject, &headers, b"", now);
        Ok(())
    }

    /// The message that takes the place of all others is there, or not.
    pub(super) fn drop_answered(
        &mut self,
        ticket: u64,
        payload: Option<&[u8]>,
        now: u64,
    ) -> Result<(), Lost> {
        let Some(answer) = read(payload, ack) else {
            self.lose_question(What::Drop(ticket), now);
            return Err(garbage());
        };
        let outcome = match answer {
            Some(Ok(Ack { sequence, .. })) => {
                let at = Position { epoch: self.standing.epoch, offset: sequence };
                Ok(Placed { at, repeated: false })
            }
            Some(Err(fault)) if !fault.is_unavailable() => Err(Unkept::Refused),
            None | Some(Err(_)) => Err(Unkept::Unavailable),
        };
        self.tell(ticket, outcome);
        Ok(())
    }
}

/// Reads an answer, if there is one; None: it is garbage.
fn read<T>(payload: Option<&[u8]>, parse: impl Fn(&[u8]) -> Option<T>) -> Option<Option<T>> {
    match payload {
        Some(payload) => parse(payload).map(Some),
        None => Some(None),
    }
}

fn garbage() -> Lost {
    Lost::garbage("not an answer of a stream")
}
