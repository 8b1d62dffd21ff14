//! Subscribers of topics with a history who are not live: who asks for messages of before, or has no
//! room for one, has a pointer of its own into the history, is filled from there as its output drains,
//! outside the slow-consumer cap, and becomes live where it meets the worker's (follow.rs). So each
//! gets every message once, in order, or is told.

use std::rc::Rc;

use ws_conn::Shared;
use ws_hub::history::{Cursor, From, Gap, Limit, Position};
use ws_hub::json::{self, Reason, State};
use ws_hub::since::Since;
use ws_hub::{ConnId, Counter, TopicHash};

use super::follow::{PIECE, UNKNOWN};
use super::history::{cursor, Item};
use super::local::{as_text, Behind, Extra, Local, Member, Message, OnGap, Special, Waits};
use super::numbers::delivered;
use super::reach::PRESENCE;
use crate::ngx::clock;
use crate::session::{stats, Delivery, Session};

/// Output that waits for one subscriber while it is being filled.
const ROOM: usize = 64 * 1024;
/// Who has had more than this machine's copy has waits for so long, in milliseconds: longer than a
/// connection that leads nowhere is believed in. No history has its cursor then.
const PATIENCE_MS: u64 = 20_000;
/// One message, to see whether it is there.
const ONE: Limit = Limit { records: 1, bytes: 1 };

/// How a topic is subscribed.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Messages of before.
    pub since: Since<'a>,
    /// At most so many of them.
    pub limit: usize,
    /// How many topics the connection may have.
    pub most_topics: usize,
    /// Each message as a line in JSON.
    pub json: bool,
    /// What becomes of messages that cannot be had any more.
    pub on_gap: OnGap,
    /// What the subscriber says of itself, to who asks who is there; empty for nothing.
    pub info: &'a [u8],
}

/// What `fill` came to in one topic.
enum Filled {
    Live,
    Full,
    Gone,
}

impl Local {
    /// A new subscription's options, and where it stands. `fill` comes next.
    pub(super) fn begin(&mut self, handle: u32, topic: &[u8], wanted: &Wanted<'_>) -> State {
        let live = self.topics.get(topic).and_then(|(_, extra)| extra.as_ref()?.at);
        let (from, state) = match live {
            Some(live) => self.stand(topic, live, wanted),
            None => {
                let asked = wanted.since != Since::Now;
                let reason = asked.then_some(Reason::Epoch);
                (None, State { cursor: None, recovered: false, count: 0, reason })
            }
        };
        if asked_for(wanted) {
            stats::add(Counter::resumed(state.reason.map(Reason::name)), 1);
        }
        let waits = match (state.reason, wanted.since) {
            (Some(Reason::Unavailable), Since::Cursor(text)) => Cursor::decode(text),
            _ => None,
        };
        let limit = wanted.limit;
        let waits = waits.map(|cursor| Waits { at: cursor.position, limit, since: None });
        let behind = from.is_some() || wanted.json;
        if !behind && wanted.on_gap == OnGap::Close && waits.is_none() {
            return state;
        }
        let at = from.or(live).unwrap_or(Position::NOWHERE);
        let behind = behind.then(|| Behind { at, say: wanted.json.then_some(state) });
        let wants_members = wanted.json && self.flags(topic) & PRESENCE != 0;
        if let Some((_, extra)) = self.topics.get_mut(topic) {
            let is_behind = behind.is_some();
            let Wanted { json, on_gap, .. } = *wanted;
            let special = Special { json, on_gap, wants_members, behind, waits };
            extra.get_or_insert_default().special.insert(handle, special);
            if let (true, Some(Some(entry))) = (is_behind, self.members.get_mut(handle as usize)) {
                entry.behind.push(topic.into());
            }
        }
        state
    }

    /// Where somebody begins who wants messages of before: None for live.
    fn stand(
        &mut self,
        topic: &[u8],
        live: Position,
        wanted: &Wanted<'_>,
    ) -> (Option<Position>, State) {
        let now = |reason| {
            let cursor = (live != UNKNOWN).then(|| cursor(topic, live));
            (None, State { cursor, recovered: false, count: 0, reason })
        };
        let (from, at_most) = match wanted.since {
            Since::Now => return now(None),
            Since::Newest(n) => (From::Newest(n.min(wanted.limit)), u64::MAX),
            Since::Cursor(text) => match Cursor::decode(text) {
                Some(cursor) if cursor.topic == TopicHash::of(topic) => {
                    (From::After(cursor.position), wanted.limit as u64)
                }
                _ => return now(Some(Reason::Cursor)),
            },
        };
        let unavailable = || {
            let mut unavailable = now(Some(Reason::Unavailable));
            if let Since::Cursor(text) = wanted.since {
                unavailable.1.cursor = text.try_into().ok();
            }
            unavailable
        };
        let is_ahead = matches!(from, From::After(at) if self.is_ahead(topic, at, live));
        // It may have become so this moment: it is not live here yet.
        if is_ahead || live == UNKNOWN || !self.is_current(topic) {
            return unavailable();
        }
        if from == From::After(Position::NOWHERE) {
            // Of a topic that was empty where it is kept: what has come since may have gone again.
            return now(Some(Reason::Epoch));
        }
        let Local { histories: Some(histories), batch, .. } = self else { return now(None) };
        let all = match histories.read(topic, from, ONE, batch) {
            Err(gap) => return now(Some(gap.into())),
            // Another epoch has begun this moment, and is not live yet.
            Ok(page) if page.top.epoch != live.epoch => match from {
                From::After(_) => return unavailable(),
                From::Newest(_) => return now(None),
            },
            Ok(page) => page.all,
        };
        let offset = match (from, batch.get(0)) {
            (From::After(at), Some(_)) => at.offset,
            (_, first) => first.map_or(live.offset, |first| first.offset - 1),
        };
        let offset = offset.min(live.offset);
        // What came after those that are live is not theirs to be filled with.
        let newer = histories.read(topic, From::After(live), ONE, batch).map_or(0, |page| page.all);
        let count = all.saturating_sub(newer);
        if count > at_most {
            return now(Some(Reason::TooMany));
        }
        let at = Position { epoch: live.epoch, offset };
        let cursor = Some(cursor(topic, at));
        (Some(at), State { cursor, recovered: true, count, reason: None })
    }

    /// Whether somebody has had more of a history than this machine's copy has: another machine's is
    /// further, and what is between is on its way here.
    pub(super) fn is_ahead(&self, topic: &[u8], at: Position, here: Position) -> bool {
        at.epoch == here.epoch && at.offset > here.offset && self.keeper(topic).is_some()
    }

    /// A copy is up to date: whoever has waited for that goes on from where it was.
    pub(super) fn resume_waiting(&mut self, topic: &[u8]) {
        let Some((_, Some(extra))) = self.topics.get_mut(topic) else { return };
        let Some(live) = extra.at.filter(|_| extra.special.values().any(|s| s.waits.is_some()))
        else {
            return;
        };
        let is_current = self.is_current(topic);
        let Some((_, Some(extra))) = self.topics.get_mut(topic) else { return };
        if !is_current {
            extra
                .special
                .values_mut()
                .filter_map(|s| s.waits.as_mut())
                .for_each(|w| w.since = None);
            return;
        }
        let now = clock::now_ms();
        let of = |(handle, special): (&u32, &mut Special)| Some((*handle, special.waits?));
        let waiting: Vec<(u32, Waits)> = extra.special.iter_mut().filter_map(of).collect();
        for (handle, waits) in waiting {
            let text = cursor(topic, waits.at);
            let (since, json, on_gap) = (Since::Cursor(&text), false, OnGap::Ignore);
            let Waits { limit, .. } = waits;
            let wanted = Wanted { since, limit, most_topics: 0, json, on_gap, info: b"" };
            let (from, state) = self.stand(topic, live, &wanted);
            let is_ahead = state.reason == Some(Reason::Unavailable);
            let since = waits.since.unwrap_or(now);
            let goes_on = is_ahead && now < since + PATIENCE_MS;
            let Some((_, Some(extra))) = self.topics.get_mut(topic) else { return };
            let Some(special) = extra.special.get_mut(&handle) else { continue };
            special.waits = goes_on.then_some(Waits { since: Some(since), ..waits });
            match (from, state.reason) {
                _ if goes_on => continue,
                (Some(at), _) => self.go_on_from(topic, handle, at, state),
                (None, Some(_)) if is_ahead => self.tell(topic, handle, Reason::Epoch, live),
                (None, Some(reason)) => self.tell(topic, handle, reason, live),
                (None, None) => {}
            }
            self.fill(handle);
        }
    }

    /// A subscriber has had a topic's messages up to `at`, and gets what came after them.
    fn go_on_from(&mut self, topic: &[u8], handle: u32, at: Position, state: State) {
        let Some(Some(entry)) = self.members.get_mut(handle as usize) else { return };
        let Some((_, Some(extra))) = self.topics.get_mut(topic) else { return };
        let is_json = extra.special.get(&handle).is_some_and(|special| special.json);
        put_behind(extra, handle, Behind { at, say: is_json.then_some(state) });
        if !entry.behind.iter().any(|behind| **behind == *topic) {
            entry.behind.push(topic.into());
        }
    }

    /// Tells a subscriber of a gap, after which it goes on at `at`.
    pub(super) fn tell(&mut self, topic: &[u8], handle: u32, reason: Reason, at: Position) {
        let Some(Some(entry)) = self.members.get_mut(handle as usize) else { return };
        let Some((_, Some(extra))) = self.topics.get_mut(topic) else { return };
        let (json, on_gap) =
            extra.special.get(&handle).map_or_else(Default::default, |s| (s.json, s.on_gap));
        let is_told =
            json || (on_gap != OnGap::Ignore && matches!(entry.member, Member::Session(_)));
        stats::add(if is_told { Counter::GapsTold } else { Counter::GapsIgnored }, 1);
        if json {
            let cursor = Some(cursor(topic, at));
            let state = State { cursor, recovered: false, count: 0, reason: Some(reason) };
            put_behind(extra, handle, Behind { at, say: Some(state) });
            if !entry.behind.iter().any(|behind| **behind == *topic) {
                entry.behind.push(topic.into());
            }
            return;
        }
        if let Some(Special { behind: Some(behind), .. }) = extra.special.get_mut(&handle) {
            behind.at = at;
        }
        match (on_gap, &entry.member) {
            (OnGap::Call, Member::Session(session)) => {
                // Its handler may not come for long: one of each topic is enough.
                entry.gaps.retain(|(lost, _)| **lost != *topic);
                entry.gaps.push((topic.into(), reason));
                session.notify();
            }
            (OnGap::Close, Member::Session(session)) => {
                session.end_with(1012, format!("messages lost: {}", reason.name()).as_bytes());
            }
            _ => {}
        }
    }

    /// A live subscriber has no room for this message: it gets it when it has.
    pub(super) fn fall_behind(&mut self, message: &Message<'_>, handle: u32) {
        let (Some(at), topic) = (message.at, message.topic) else { return };
        let Some((_, extra)) = self.topics.get_mut(topic) else { return };
        let had = Position { epoch: at.epoch, offset: at.offset - 1 };
        put_behind(extra.get_or_insert_default(), handle, Behind { at: had, say: None });
        if let Some(Some(entry)) = self.members.get_mut(handle as usize) {
            entry.behind.push(topic.into());
            if let Member::Session(session) = &entry.member {
                session.tell_room();
            }
        }
    }

    /// Sends a subscriber what it has not had yet, as much as there is room for.
    pub(super) fn fill(&mut self, handle: u32) {
        let Some(session) = self.session_at(handle).cloned() else { return };
        while let Some(Some(entry)) = self.members.get(handle as usize) {
            let Some(topic) = entry.behind.last().cloned() else { return };
            match self.fill_topic(handle, &session, &topic) {
                Filled::Live => {
                    self.forget_plain(&topic, handle);
                    if let Some(Some(entry)) = self.members.get_mut(handle as usize) {
                        entry.behind.retain(|behind| *behind != topic);
                    }
                }
                Filled::Full => return session.tell_room(),
                Filled::Gone => return,
            }
        }
    }

    fn fill_topic(&mut self, handle: u32, session: &Rc<Session>, topic: &[u8]) -> Filled {
        let Some(Some(entry)) = self.members.get(handle as usize) else { return Filled::Gone };
        let id = entry.id;
        loop {
            let Some((_, Some(extra))) = self.topics.get_mut(topic) else { return Filled::Live };
            let live = extra.at;
            let Some(special) = extra.special.get_mut(&handle) else { return Filled::Live };
            let json = special.json;
            if let Some(state) = special.behind.as_ref().and_then(|behind| behind.say.as_ref()) {
                let mut line = Vec::new();
                json::state(&mut line, topic, state);
                match session.offer(&Shared::new(true, &line)) {
                    Delivery::Queued => special.behind.iter_mut().for_each(|b| b.say = None),
                    Delivery::Dropped => return Filled::Full,
                    Delivery::Closed | Delivery::Gone => return Filled::Gone,
                }
            }
            if std::mem::take(&mut special.wants_members) {
                self.presence.want(topic, id);
            }
            let Some(behind) = &mut special.behind else { return Filled::Live };
            let at = behind.at;
            let (Some(live), Some(histories)) = (live, &self.histories) else {
                return Filled::Live;
            };
            if at == live || at == UNKNOWN || live == UNKNOWN {
                return Filled::Live;
            }
            let room = ROOM.saturating_sub(session.buffered());
            if room == 0 {
                return Filled::Full;
            }
            let left = live.offset.saturating_sub(at.offset);
            let limit = Limit { records: left.min(PIECE.records as u64) as usize, bytes: room };
            let mut batch = std::mem::take(&mut self.batch);
            let read = match at.epoch == live.epoch || at == Position::NOWHERE {
                true => histories.read(topic, From::After(at), limit, &mut batch),
                false => Err(Gap::Epoch),
            };
            let (mut had, mut stop) = (at, None);
            match read {
                Err(gap) => {
                    self.tell(topic, handle, gap.into(), live);
                    had = live;
                }
                Ok(_) if batch.is_empty() => had = live,
                Ok(_) => {
                    for record in batch.iter() {
                        if record.offset > live.offset {
                            had = live;
                            break;
                        }
                        let at = Position { epoch: live.epoch, offset: record.offset };
                        let Item { text, data, except } = Item::of(&record);
                        if except != Some(id) {
                            let message = Message { topic, text, data, except, at: Some(at) };
                            let delivery = match json {
                                true => session.offer(&as_text(message.line().as_deref())),
                                false => session.offer(&Shared::new(text, data)),
                            };
                            match delivery {
                                Delivery::Queued => delivered(delivery),
                                Delivery::Dropped => stop = Some(Filled::Full),
                                Delivery::Closed | Delivery::Gone => stop = Some(Filled::Gone),
                            }
                        }
                        if stop.is_some() {
                            break;
                        }
                        had = at;
                    }
                }
            }
            self.batch = batch;
            self.has_had(topic, handle, had);
            if let Some(stop) = stop {
                return stop;
            }
        }
    }

    fn has_had(&mut self, topic: &[u8], handle: u32, at: Position) {
        if let Some((_, Some(extra))) = self.topics.get_mut(topic) {
            if let Some(Special { behind: Some(behind), .. }) = extra.special.get_mut(&handle) {
                behind.at = at;
            }
        }
    }

    /// A subscriber is live. One without options needs no note of it.
    fn forget_plain(&mut self, topic: &[u8], handle: u32) {
        let Some((_, Some(extra))) = self.topics.get_mut(topic) else { return };
        if let Some(special) = extra.special.get_mut(&handle) {
            special.behind = None;
            if !special.json && special.on_gap == OnGap::Close && special.waits.is_none() {
                extra.special.remove(&handle);
            }
        }
    }

    /// Where live subscribers of a topic stand.
    pub(super) fn stands(&self, topic: &[u8]) -> State {
        let at = self.topics.get(topic).and_then(|(_, extra)| extra.as_ref()?.at);
        let at = at.filter(|at| *at != UNKNOWN);
        State { cursor: at.map(|at| cursor(topic, at)), recovered: false, count: 0, reason: None }
    }

    /// The oldest gap that a connection's handler has not been told of.
    pub(super) fn take_gap(&mut self, id: &ConnId) -> Option<(Vec<u8>, &'static str)> {
        let handle = self.handle(id)?;
        let entry = self.members.get_mut(handle as usize)?.as_mut()?;
        let (topic, reason) = (!entry.gaps.is_empty()).then(|| entry.gaps.remove(0))?;
        Some((topic.to_vec(), reason.name()))
    }
}

fn put_behind(extra: &mut Extra, handle: u32, behind: Behind) {
    extra.special.entry(handle).or_default().behind = Some(behind);
}

fn asked_for(wanted: &Wanted<'_>) -> bool {
    wanted.since != Since::Now
}
