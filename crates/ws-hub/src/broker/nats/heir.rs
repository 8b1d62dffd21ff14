//! What one machine gives to another, for the next server, that takes its place: what is wanted, what
//! waits, what is known of the stream; and how far either is with that. `cluster` says when.

use super::asked::What;
use super::names::{KEPT, PLAIN};
use super::Nats;
use crate::broker::contact::Phase;
use crate::broker::seam::{Action, State};
use crate::broker::settings::Driver;
use crate::id::NodeId;

impl Nats {
    /// Whether its server has said that it will end, and there are others.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    pub(super) fn is_ready(&self) -> bool {
        self.contact.phase == Phase::Ready
    }

    /// Whether something is subscribed, or is about to be.
    pub(super) fn may_hear(&self) -> bool {
        matches!(self.contact.phase, Phase::Greeting | Phase::Ready)
    }

    /// Whether all that was asked for by then is subscribed, or denied.
    pub(super) fn has_subscribed(&self, by: u64) -> bool {
        self.is_ready() && !self.pings.iter().any(|(at, before)| before.is_batch() && *at <= by)
    }

    /// Whose machine's this is.
    pub(super) fn node(&self) -> NodeId {
        self.driver.node
    }

    /// Another one, for the next server, where all is wanted that is wanted here.
    pub(super) fn heir(&mut self) -> Nats {
        // Answers come to subjects of its own.
        let driver = Driver { seed: self.contact.backoff.random(), ..self.driver };
        let mut heir = Nats::with(self.tls, self.servers.clone(), self.settings.clone(), driver);
        self.wanted.all_wanted().for_each(|name| heir.wanted.want(name, true));
        heir.standing.go_on(&self.standing);
        heir
    }

    /// Topics of histories that are followed here.
    pub(super) fn follows(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        let names = self.wanted.all_subscribed().filter(|name| self.wanted.wants(name));
        names.filter_map(|name| name.strip_prefix(KEPT)).map(<[u8]>::to_vec)
    }

    /// Those that are, and are not by the one in its place: it denies them, or has not answered yet.
    pub(super) fn lapsed_at<'a>(&'a self, heir: &'a Nats) -> impl Iterator<Item = Vec<u8>> + 'a {
        let is_there = |topic: &[u8]| heir.wanted.answered(&[KEPT, topic].concat()) == Some(true);
        self.follows().filter(move |topic| !is_there(topic))
    }

    /// Whether what was said of a topic that was denied holds.
    pub(super) fn still_denies(&self, action: &Action) -> bool {
        let (Action::State(State::Denied { topic, .. }) | Action::Page { topic, .. }) = action
        else {
            return false;
        };
        let mut names = [PLAIN, KEPT].iter().map(|kind| [kind, &topic[..]].concat());
        names.any(|name| self.wanted.wants(&name) && self.wanted.answered(&name) == Some(false))
    }

    /// Another one takes its place: what waits goes there.
    pub(super) fn retire(&mut self, heir: &mut Nats, now: u64) {
        std::mem::swap(&mut self.queue, &mut heir.queue);
        std::mem::swap(&mut self.keeps, &mut heir.keeps);
        heir.held = std::mem::take(&mut self.held);
        heir.standing.go_on(&self.standing);
        heir.contact.stir(now);
    }

    /// Whether nothing more is sent.
    pub(super) fn set_retired(&mut self, is_retired: bool) {
        self.contact.stirred |= self.is_retired && !is_retired;
        self.is_retired = is_retired;
    }

    /// Whether something that was sent is to be answered.
    pub(super) fn is_asked(&self) -> bool {
        let is_told =
            |what: &What| matches!(what, What::Keep(_) | What::Newest(..) | What::Drop(_));
        !self.pings.is_empty() || self.questions.any(is_told)
    }

    /// It is closed. What may be sent again goes to the one in its place.
    pub(super) fn end(&mut self, heir: &mut Nats, now: u64) {
        self.cut(now);
        heir.held.append(&mut self.held);
        heir.contact.stir(now);
    }
}
