//! The stream that keeps histories: whether it is there, and whether it still is the one that it was.
//! Its identity is the epoch of all histories in it (api.rs). Whoever finds that it has lost some of
//! its newest messages, which no date of birth tells, gives it another identity, for all machines.
//! That something may be wrong is seen by a sequence that does not grow; and so that a stream which is
//! made anew while nothing is said is found, too, it is asked about with each probe.

use super::api::{about, create, About, Answer, NO_STREAM};
use super::asked::What;
use super::names::KEPT;
use super::{Lost, Nats};
use crate::broker::contact::Phase;
use crate::broker::seam::{Action, State};
use crate::broker::settings::Stream;
use crate::broker::tally::Number;

/// Milliseconds until a stream that cannot be used now is asked about again.
const PAUSE: u64 = 250;
/// And one that has a fault.
const LONG_PAUSE: u64 = 5000;
/// A stream that is not there is made so much later, and machines do so within so long.
const LATER: u64 = 500;
const APART: u64 = 500;
/// So long a stream is shorter than it was before that is believed.
const SURE: u64 = 1000;
/// So long nothing is said twice, and so much at most at all.
const QUIET: u64 = 60_000;
const DIFFERENT: usize = 8;

impl Nats {
    /// Asks about the stream, unless that has been done.
    pub(super) fn ask_about_stream(&mut self, now: u64) {
        let Some(stream) = &self.settings.stream else { return };
        let subject = format!("$JS.API.STREAM.INFO.{}", stream.name);
        self.standing.ask_at = None;
        if !self.questions.any(|what| matches!(what, What::Stream(_) | What::Create | What::Renew))
        {
            self.ask(What::Stream(self.standing.newest), &subject, &[], b"", now);
        }
    }

    /// The stream cannot be used before it was asked about again.
    pub(super) fn doubt_stream(&mut self, now: u64) {
        self.standing.about = None;
        let at = now + PAUSE;
        self.standing.ask_at = Some(self.standing.ask_at.map_or(at, |other| other.min(at)));
    }

    /// There is no stream. All machines see that at once, and not all are to make it at once: NATS before
    /// 2.9.16 then has several streams behind one name (nats-server 4013), each of which stores and
    /// sends on what comes. And one that was deleted is not to be made at once: its files may still be
    /// removed, and with them those of the new one, which then finds no message that it has stored. So
    /// it is looked for once more before.
    fn missing(&mut self, stream: &Stream, now: u64) {
        self.standing.about = None;
        let random = self.contact.backoff.random();
        let at = *self.standing.make_at.get_or_insert(now + LATER + random % APART);
        if now < at {
            self.standing.ask_at = Some(at);
            return;
        }
        self.standing.make_at = None;
        let subject = format!("$JS.API.STREAM.CREATE.{}", stream.name);
        self.ask(What::Create, &subject, &[], &create(stream, &self.names, random), now);
    }

    /// There is a fault, which is said once.
    fn fault(&mut self, why: String, now: u64) {
        self.contact.tally.add(Number::ErrorRefused, 1);
        self.standing.about = None;
        self.standing.ask_at = Some(now + LONG_PAUSE);
        self.say(why, now);
    }

    /// Says what is wrong, not again and again.
    pub(super) fn say(&mut self, why: String, now: u64) {
        let said = &mut self.standing.said;
        said.retain(|(_, at)| now < at + QUIET);
        if said.len() < DIFFERENT && said.iter().all(|(other, _)| *other != why) {
            said.push((why.clone(), now));
            self.contact.actions.push_back(Action::State(State::Faulty { why }));
        }
    }

    /// Answered: what the stream is, or that it was made.
    pub(super) fn stream_answered(
        &mut self,
        what: &What,
        payload: &[u8],
        now: u64,
    ) -> Result<(), Lost> {
        let Some(stream) = self.settings.stream.clone() else { return Ok(()) };
        let answer: Answer<About> = about(payload);
        match (what, answer.ok_or_else(|| Lost::garbage("not an answer of a stream"))?) {
            (What::Stream(newest), Ok(about)) => self.told_about_stream(about, *newest, now),
            (What::Stream(_), Err(fault)) if fault.number == NO_STREAM => {
                self.missing(&stream, now);
            }
            (_, Err(fault)) if fault.is_unavailable() => self.doubt_stream(now),
            (What::Create, Err(fault)) if fault.is_taken() => self.ask_about_stream(now),
            (_, Err(fault)) => {
                let done = match what {
                    What::Create => "made",
                    What::Renew => "given another identity",
                    _ => "asked about",
                };
                let why = self.shown(fault.why.as_bytes());
                self.fault(format!("stream {} cannot be {done}: {why}", stream.name), now);
            }
            // What it is now it says by itself.
            (_, Ok(_)) => self.ask_about_stream(now),
        }
        Ok(())
    }

    fn told_about_stream(&mut self, about: About, newest: u64, now: u64) {
        let Some(stream) = self.settings.stream.clone() else { return };
        self.standing.make_at = None;
        if let Some(why) = about.fault(&self.names) {
            return self.fault(format!("stream {}: {why}", stream.name), now);
        }
        if let Some(why) = about.narrower(&stream) {
            self.say(format!("stream {} is narrower than its topics: {why}", stream.name), now);
        }
        let is_another = self.standing.epoch != 0 && self.standing.epoch != about.epoch;
        let is_shorter = !is_another && about.last < newest;
        if is_shorter && self.standing.suspected.is_none_or(|at| now < at + SURE) {
            // A leader that has just become one may not have read all of its log.
            self.standing.suspected.get_or_insert(now);
            self.standing.ask_at = Some(now + SURE / 2);
        } else if is_shorter {
            // It has lost its newest messages, and will use their sequences again.
            let config = about.renewed(self.contact.backoff.random());
            let subject = format!("$JS.API.STREAM.UPDATE.{}", stream.name);
            (self.standing.newest, self.standing.suspected) = (0, None);
            self.standing.about = None;
            self.ask(What::Renew, &subject, &[], &config, now);
            return self.follow_again();
        } else {
            self.standing.suspected = None;
        }
        self.standing.epoch = about.epoch;
        self.standing.about = Some(about);
        if is_another {
            self.standing.newest = 0;
            self.follow_again();
        }
    }

    /// All that is known of histories may be wrong: they are read anew.
    fn follow_again(&mut self) {
        self.reads.values_mut().for_each(|read| read.again = true);
        let kept = self.wanted.all_subscribed().filter(|name| self.wanted.wants(name));
        let topics = kept.filter_map(|name| name.strip_prefix(KEPT));
        self.contact.actions.extend(topics.map(|topic| Action::Follows(topic.to_vec())));
    }

    /// A message of the stream has been sent on.
    pub(super) fn seen(&mut self, sequence: u64, now: u64) {
        if sequence <= self.standing.newest {
            self.ask_about_stream(now);
        }
        self.standing.newest = self.standing.newest.max(sequence);
    }

    /// Whether histories can be used now.
    pub(super) fn is_stream_good(&self) -> bool {
        self.contact.phase == Phase::Ready && self.standing.about.is_some()
    }
}
