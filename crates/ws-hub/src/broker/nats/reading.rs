//! Reading a history from the stream. First its leader is asked for the topic's newest message: it
//! has our subscription by then, so whatever is newer comes by itself. Then messages are read from the
//! caller's position on, that one's message included: if it is still there nothing is missing behind
//! it. Several come at once from any of the stream's servers (NATS 2.11); from older ones, and where
//! the one that answers lags behind, one by one from the leader.
//!
//! What comes live meanwhile is told behind the piece; where that is too much it makes the piece one that
//! is not the last.

use super::api::{found, Found, DROPPED, NO_MESSAGE};
use super::asked::What;
use super::read::{Read, MESSAGES, PIECE};
use super::wire::{header, Message};
use super::{Lost, Nats};
use crate::broker::seam::{Action, Page};
use crate::broker::tally::Number;
use crate::history::Position;

/// Histories that are read at a time.
const READS: usize = 64;
impl Nats {
    /// Begins with those that wait.
    pub(super) fn begin_reads(&mut self, now: u64) {
        while self.is_stream_good() && self.reads.now.len() < READS {
            let Some((topic, since)) = self.reads.waiting.pop_front() else { return };
            self.reads.last += 1;
            let id = self.reads.last;
            self.ask_newest(What::Top(id), &topic, now);
            let page = Page { top: Position::NOWHERE, after: 0, messages: Vec::new(), more: false };
            let (top, newer, last, before) = (0, 0, 0, 0);
            let (taken, bytes, live_bytes) = (0, 0, 0);
            let (expected, live, slowly, again) = (None, Vec::new(), false, false);
            let read = Read {
                topic,
                since,
                top,
                live,
                newer,
                expected,
                last,
                page,
                taken,
                bytes,
                live_bytes,
                before,
                slowly,
                again,
            };
            self.reads.now.insert(id, read);
        }
    }

    /// Asks the stream's leader for a topic's newest message.
    pub(super) fn ask_newest(&mut self, what: What, topic: &[u8], now: u64) {
        let question = format!("{{\"last_by_subj\":\"{}\"}}", self.names.stored(topic));
        self.ask_stream("STREAM.MSG.GET", what, &question, now);
    }

    fn ask_stream(&mut self, verb: &str, what: What, question: &str, now: u64) {
        let Some(stream) = &self.settings.stream else { return };
        let subject = format!("$JS.API.{verb}.{}", stream.name);
        self.ask(what, &subject, &[], question.as_bytes(), now);
    }

    /// A read could not go on: it begins anew when the stream can be used.
    pub(super) fn put_off(&mut self, id: u64) {
        if let Some(read) = self.reads.now.remove(&id) {
            self.reads.waiting.push_back((read.topic, read.since));
        }
    }

    /// The newest message of what is read is known; None: there is none.
    pub(super) fn top_answered(&mut self, id: u64, payload: &[u8], now: u64) -> Result<(), Lost> {
        let epoch = self.standing.epoch;
        let Some(read) = self.reads.now.get_mut(&id) else { return Ok(()) };
        match found(payload).ok_or_else(garbage)? {
            Ok(newest) => {
                let (is_ours, top) = (read.since.epoch == epoch, newest.sequence);
                read.top = top;
                read.expected =
                    Some(read.since.offset).filter(|&at| is_ours && at > 0 && at <= top);
                let is_dropped = header(&newest.headers, DROPPED).is_some();
                if read.expected == Some(top) || is_dropped {
                    (read.page.after, read.before, read.last) = (top, top, top);
                    self.finish(id, now);
                } else {
                    self.read_on(id, now);
                }
            }
            Err(fault) if fault.number == NO_MESSAGE => self.finish(id, now),
            Err(_) => {
                self.put_off(id);
                self.doubt_stream(now);
            }
        }
        Ok(())
    }

    /// Asks for more.
    fn read_on(&mut self, id: u64, now: u64) {
        let many = self.info.reads_many && self.standing.about.as_ref().is_some_and(|a| a.direct);
        let Some(read) = self.reads.now.get(&id) else { return };
        let from = if read.last == 0 { read.expected.unwrap_or(1) } else { read.last + 1 };
        let subject = self.names.stored(&read.topic);
        let mut question = format!("{{\"seq\":{from},\"next_by_subj\":\"{subject}\"");
        match many && !read.slowly {
            true => {
                question += &format!(",\"batch\":{MESSAGES},\"max_bytes\":{PIECE}}}");
                self.ask_stream("DIRECT.GET", What::Many(id), &question, now);
            }
            false => {
                question.push('}');
                self.ask_stream("STREAM.MSG.GET", What::One(id), &question, now);
            }
        }
    }

    /// A message of several, or what is said after the last one. Whether that was it.
    pub(super) fn many_answered(
        &mut self,
        id: u64,
        message: &Message,
        now: u64,
    ) -> Result<bool, Lost> {
        let Some(read) = self.reads.now.get_mut(&id) else { return Ok(true) };
        let sequence = message.number("Nats-Sequence").filter(|&sequence| sequence > 0);
        let time =
            message.header("Nats-Time-Stamp").and_then(|text| std::str::from_utf8(text).ok());
        let time = time.and_then(super::api::millis);
        if let (None, Some(sequence), Some(time)) = (message.status(), sequence, time) {
            if read.is_whole() {
                return Err(Lost::garbage("more of a history than was asked for"));
            }
            if !read.take(sequence, time, &message.headers, message.payload.clone()) {
                self.contact.tally.add(Number::BadMessages, 1);
            }
            return Ok(false);
        }
        if !read.is_done() && !read.is_full() {
            // The one that answers lags behind, or does not know how.
            read.slowly = true;
            self.read_on(id, now);
        } else {
            self.finish(id, now);
        }
        Ok(true)
    }

    /// One message from the leader.
    pub(super) fn one_answered(&mut self, id: u64, payload: &[u8], now: u64) -> Result<(), Lost> {
        let Some(read) = self.reads.now.get_mut(&id) else { return Ok(()) };
        match found(payload).ok_or_else(garbage)? {
            Ok(Found { sequence, .. }) if sequence <= read.last => return Err(garbage()),
            Ok(Found { sequence, time, headers, data }) => {
                if !read.take(sequence, time, &headers, data) {
                    self.contact.tally.add(Number::BadMessages, 1);
                }
                if read.is_done() || read.is_full() {
                    self.finish(id, now);
                } else {
                    self.read_on(id, now);
                }
            }
            // What was the newest is gone.
            Err(fault) if fault.number == NO_MESSAGE => {
                read.again = true;
                self.finish(id, now);
            }
            Err(_) => {
                self.put_off(id);
                self.doubt_stream(now);
            }
        }
        Ok(())
    }

    /// This is the piece.
    fn finish(&mut self, id: u64, now: u64) {
        let Some(mut read) = self.reads.now.remove(&id) else { return };
        if read.again {
            self.reads.waiting.push_back((read.topic, read.since));
            return self.begin_reads(now);
        }
        read.end();
        if read.last > 0 {
            let offset = read.last.max(read.top);
            read.page.top = Position { epoch: self.standing.epoch, offset };
        }
        let (topic, epoch) = (read.topic.to_vec(), self.standing.epoch);
        let live = if read.page.more { Vec::new() } else { read.live };
        self.contact
            .actions
            .push_back(Action::Page { topic: topic.clone(), page: Some(read.page) });
        for message in live.into_iter().filter(|message| message.offset > read.last) {
            self.contact.actions.push_back(Action::Stored { topic: topic.clone(), epoch, message });
        }
        self.begin_reads(now);
    }
}

fn garbage() -> Lost {
    Lost::garbage("not a message of a stream")
}
