//! NATS servers of one cluster, of which one is talked to (mod.rs). When it says that it will end
//! (lame duck) another one is connected to first, and all that is wanted is subscribed there. Once the
//! other servers know that, too, nothing more is sent to the old one, and when it has answered what it
//! was asked, the new one takes its place. What both send meanwhile is told once (heard_twice.rs);
//! histories are read at the new one from where they are.
//!
//! If the server ends before that, it is as with any connection that is lost. What one gives the other
//! stands in `heir`.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::{Nats, Server};
use crate::broker::contact::PEER;
use crate::broker::heard_twice::HeardTwice;
use crate::broker::seam::{Action, Broker, Keep, Peer, Refused, State, To};
use crate::broker::settings::{Driver, Settings};
use crate::broker::tally::{Number, Tally};
use crate::history::Position;

/// So long it takes at most, in milliseconds, until all servers know what is subscribed at one of them:
/// until then what is published elsewhere may come by the old one alone.
const SETTLES: u64 = 1000;
/// So long answers of the old one are awaited, and its connection is kept after its place was taken.
const PATIENCE: u64 = 1000;

/// What is said when no other one can be connected to.
const FAILED: &str = "the server will end, and no other is there yet";

/// A connection to one of the servers.
struct Member {
    nats: Nats,
    /// By which the driver knows the connection.
    peer: Peer,
}

/// Who is to take the place of the one that will end.
struct Heir {
    member: Member,
    heard: HeardTwice,
    /// What it has said of topics that it denies.
    denied: Vec<Action>,
    /// When it had subscribed all for the first time.
    level_since: Option<u64>,
    /// That it was lost has been said.
    has_failed: bool,
}

/// Who was there before.
struct Left {
    /// It may answer until then.
    member: Option<Member>,
    until: u64,
    /// What has come from it, and may come again from the one in its place.
    heard: HeardTwice,
}

/// The state machine.
pub struct Cluster {
    now: Member,
    next: Option<Heir>,
    left: Option<Left>,
    last_peer: u16,
    actions: VecDeque<Action>,
    /// The time of the last call.
    clock: u64,
}

impl Cluster {
    /// Not started yet.
    pub fn new(server: &Server, settings: Settings, driver: Driver) -> Self {
        let now = Member { nats: Nats::new(server, settings, driver), peer: PEER };
        Self { now, next: None, left: None, last_peer: PEER.0, actions: VecDeque::new(), clock: 0 }
    }

    /// Who a connection belongs to.
    fn behind(&mut self, peer: Peer) -> Option<&mut Nats> {
        let mut all = self.all_mut();
        all.find(|member| member.peer == peer).map(|member| &mut member.nats)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        let next = self.next.as_mut().map(|heir| &mut heir.member);
        let left = self.left.as_mut().and_then(|left| left.member.as_mut());
        [Some(&mut self.now), next, left].into_iter().flatten()
    }

    /// Begins with another server once one says that it will end, and gives that up when it is lost.
    fn look(&mut self) {
        let now = self.clock;
        if !self.now.nats.is_leaving() {
            if let Some(heir) = self.next.take() {
                self.actions.push_back(Action::Close { peer: heir.member.peer });
            }
        } else if self.next.is_none() && self.left.is_none() {
            self.last_peer = self.last_peer.wrapping_add(1);
            let mut nats = self.now.nats.heir();
            nats.start(now);
            let member = Member { nats, peer: Peer(self.last_peer) };
            let heard = HeardTwice::new(self.now.nats.node());
            let (denied, level_since) = (Vec::new(), None);
            let has_failed = false;
            self.next = Some(Heir { member, heard, denied, level_since, has_failed });
        }
        let Some(Left { member, until, .. }) = &self.left else { return };
        let is_over = *until <= now;
        if is_over || member.as_ref().is_some_and(|member| !member.nats.is_ready()) {
            self.end();
        }
        self.left.take_if(|_| is_over);
    }

    /// What the one says that is to take the place of another.
    fn hear_heir(&mut self) {
        let Some(heir) = &mut self.next else { return };
        let Heir { member, heard, denied, level_since, has_failed } = heir;
        while let Some(action) = member.nats.poll() {
            match action {
                Action::Deliver(bytes) => heard.keep(0, bytes),
                Action::State(State::Denied { .. }) | Action::Page { page: None, .. } => {
                    denied.push(action);
                }
                Action::State(State::Down { why, .. }) => {
                    *heard = HeardTwice::new(member.nats.node());
                    denied.clear();
                    *level_since = None;
                    fold_heir(member.nats.tally(), self.now.nats.tally());
                    if !std::mem::replace(has_failed, true) {
                        let why = format!("{FAILED}: {why}");
                        self.actions.push_back(Action::State(State::Faulty { why }));
                    }
                }
                action => self.actions.extend(of_connection(action, member.peer)),
            }
        }
        if member.nats.is_level() {
            level_since.get_or_insert(self.clock);
        }
    }

    /// When it may take the place, and when it does, whatever the old one has not answered by then.
    /// Nothing: it has not subscribed all, save for what is asked for later.
    fn turns(&self) -> Option<(u64, u64)> {
        let heir = self.next.as_ref()?;
        let settled = heir.level_since? + SETTLES;
        let has_answered = heir.member.nats.has_subscribed(settled);
        has_answered.then_some((settled, settled + PATIENCE))
    }

    /// Once everybody knows what it has subscribed: it takes the place.
    fn take_over(&mut self) {
        let now = self.clock;
        let turns = self.turns().filter(|(settled, _)| *settled <= now);
        self.now.nats.set_retired(turns.is_some());
        if turns.is_none_or(|(_, latest)| self.now.nats.is_asked() && now < latest) {
            return;
        }
        let Some(heir) = self.next.take() else { return };
        let Heir { member, mut heard, denied, .. } = heir;
        let mut before = std::mem::replace(&mut self.now, member);
        let heir = &mut self.now.nats;
        before.nats.retire(heir, now);
        let (missed, has_lost) = heard.take();
        // What was counted goes on.
        fold_heir(heir.tally(), before.nats.tally());
        *heir.tally() = std::mem::take(before.nats.tally());
        heir.tally().add(Number::Received, missed.len());
        heir.tally().add(Number::Reconnects, 1);
        heir.tally().add(Number::Gaps, usize::from(has_lost));
        self.actions.extend(missed.into_iter().map(|(_, bytes)| Action::Deliver(bytes)));
        self.actions.extend(before.nats.lapsed_at(heir).map(Action::Lapsed));
        self.actions.extend(denied.into_iter().filter(|action| heir.still_denies(action)));
        self.actions.extend(heir.follows().map(Action::Follows));
        self.left = Some(Left { member: Some(before), until: now + PATIENCE, heard });
    }

    /// The one that was left is closed.
    fn end(&mut self) {
        self.hear_left();
        let left = self.left.as_mut().and_then(|left| left.member.take());
        let Some(mut member) = left else { return };
        let heir = &mut self.now.nats;
        member.nats.end(heir, self.clock);
        while let Some(action) = member.nats.poll() {
            self.actions.extend(Some(action).filter(|a| matches!(a, Action::Kept { .. })));
        }
        fold(member.nats.tally(), heir.tally());
        self.actions.push_back(Action::Close { peer: member.peer });
    }

    /// What is still answered by the one that was left.
    fn hear_left(&mut self) {
        let Some(Left { member: Some(member), .. }) = &mut self.left else { return };
        while let Some(action) = member.nats.poll() {
            match action {
                Action::Kept { .. } => self.actions.push_back(action),
                action => self.actions.extend(of_connection(action, member.peer)),
            }
        }
    }

    /// What the one says that is talked to. A message that the one before it has brought is not told
    /// again.
    fn hear(&mut self) -> Option<Action> {
        let Member { nats, peer } = &mut self.now;
        loop {
            let action = nats.poll()?;
            if let Action::Deliver(bytes) = &action {
                if self.left.as_mut().is_some_and(|left| left.heard.came_before(bytes)) {
                    continue;
                }
                // Before it has subscribed anything the other one does not bring it, too.
                if let Some(heir) = self.next.as_mut().filter(|heir| heir.member.nats.may_hear()) {
                    heir.heard.pass_bytes(bytes);
                }
            }
            return match action {
                Action::Connect { .. }
                | Action::Secure { .. }
                | Action::Close { .. }
                | Action::Send { .. } => of_connection(action, *peer),
                action => Some(action),
            };
        }
    }
}

/// What is asked for a connection, for this one; nothing: it is about something else.
fn of_connection(action: Action, peer: Peer) -> Option<Action> {
    match action {
        Action::Connect { to, .. } => Some(Action::Connect { peer, to }),
        Action::Secure { .. } => Some(Action::Secure { peer }),
        Action::Close { .. } => Some(Action::Close { peer }),
        Action::Send { bytes, .. } => Some(Action::Send { peer, bytes }),
        _ => None,
    }
}

/// The same of one that is not talked to yet: what it has heard is told if nobody else has brought it,
/// and nothing is missing when it is lost.
fn fold_heir(from: &mut Tally, to: &mut Tally) {
    for not_told in [Number::Received, Number::Gaps, Number::Reconnects] {
        from.take(not_told);
    }
    fold(from, to);
}

/// Adds what one has counted to another's.
fn fold(from: &mut Tally, to: &mut Tally) {
    for (number, _) in Number::SHOWN {
        if !number.is_gauge() {
            to.add(number, from.take(number) as usize);
        }
    }
}

impl Broker for Cluster {
    fn start(&mut self, now: u64) {
        self.clock = now;
        self.now.nats.start(now);
    }

    fn want(&mut self, topic: &[u8], wanted: bool) {
        self.now.nats.want(topic, wanted);
        if let Some(heir) = &mut self.next {
            heir.member.nats.want(topic, wanted);
        }
    }

    fn follow(&mut self, topic: &[u8]) {
        self.now.nats.follow(topic);
        if let Some(heir) = &mut self.next {
            heir.member.nats.follow(topic);
        }
    }

    fn keep(&mut self, keep: &Keep<'_>, now: u64) {
        self.clock = now;
        self.now.nats.keep(keep, now);
    }

    fn read(&mut self, topic: &[u8], since: Position, most: u32) {
        self.now.nats.read(topic, since, most);
    }

    fn forget(&mut self, topic: &[u8], ticket: u64, now: u64) {
        self.clock = now;
        self.now.nats.forget(topic, ticket, now);
    }

    fn wants(&self, topic: &[u8]) -> bool {
        self.now.nats.wants(topic)
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&[u8]) -> bool) {
        self.now.nats.retain(keep);
        if let Some(heir) = &mut self.next {
            heir.member.nats.retain(keep);
        }
    }

    fn publish(&mut self, to: To<'_>, message: &[u8], now: u64) -> Result<(), Refused> {
        self.clock = now;
        self.now.nats.publish(to, message, now)
    }

    fn connected(&mut self, peer: Peer, now: u64) {
        self.clock = now;
        if let Some(nats) = self.behind(peer) {
            nats.connected(PEER, now);
        }
    }

    fn received(&mut self, peer: Peer, bytes: &[u8], now: u64) {
        self.clock = now;
        if let Some(nats) = self.behind(peer) {
            nats.received(PEER, bytes, now);
        }
        self.look();
    }

    fn closed(&mut self, peer: Peer, why: &str, now: u64) {
        self.clock = now;
        if let Some(nats) = self.behind(peer) {
            nats.closed(PEER, why, now);
        }
        self.look();
    }

    fn timer(&mut self, now: u64) {
        self.clock = now;
        for member in self.all_mut() {
            if member.nats.due().is_some_and(|due| due <= now) {
                member.nats.timer(now);
            }
        }
        self.look();
    }

    fn due(&self) -> Option<u64> {
        let next = self.next.as_ref().and_then(|heir| heir.member.nats.due());
        let left = self.left.as_ref().and_then(|Left { member, until, .. }| {
            member.iter().filter_map(|member| member.nats.due()).chain([*until]).min()
        });
        let turn =
            self.turns().map(|turns| if self.now.nats.is_retired { turns.1 } else { turns.0 });
        [self.now.nats.due(), next, left, turn].into_iter().flatten().min()
    }

    fn poll(&mut self) -> Option<Action> {
        if self.next.is_some() || self.left.is_some() {
            self.hear_heir();
            self.hear_left();
        }
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if let Some(action) = self.hear() {
            return Some(action);
        }
        // All that the one before has brought by now is told.
        if self.next.is_some() {
            self.take_over();
        }
        self.actions.pop_front().or_else(|| self.hear())
    }

    fn is_level(&self) -> bool {
        self.now.nats.is_level()
    }

    fn is_idle(&self) -> bool {
        let left = self.left.as_ref().and_then(|left| left.member.as_ref());
        self.now.nats.is_idle() && left.is_none_or(|member| member.nats.is_idle())
    }

    fn tally(&mut self) -> &mut Tally {
        self.now.nats.tally()
    }
}
