//! Subscribers of topics with a history: live ones share one pointer into it in each worker, which
//! moves as the doorbell rings; who asks for messages of before, or has no room for one, has a
//! pointer of its own, is filled from the history as its output drains, outside the slow-consumer
//! cap, and becomes live where the two meet. So each gets every message once, in order, or is told.

use std::rc::Rc;

use ws_conn::Shared;
use ws_hub::history::read::{PIECE_BYTES, PIECE_RECORDS};
use ws_hub::history::{Batch, Cursor, From, Gap, Limit, Page, Position, Published};
use ws_hub::json::{self, Reason, State};
use ws_hub::since::Since;
use ws_hub::{ConnId, Counter, TopicHash};

use super::bus::delivered;
use super::error::Error;
use super::history::Item;
use super::local::{Behind, Extra, Local, Member, Message, OnGap, Special};
use super::position::cursor;
use crate::session::{stats, Delivery, Session};

/// Output that waits for one subscriber while it is being filled.
const ROOM: usize = 64 * 1024;
/// How much of a topic is read in one turn of the event loop, in messages.
const TURN: usize = 256;
/// How much is read at once.
const PIECE: Limit = Limit { records: PIECE_RECORDS, bytes: PIECE_BYTES };
/// Topics of which is looked, in one go, whether they are where their histories are.
const LOOK: usize = 1000;
/// One message, to see whether it is there.
const ONE: Limit = Limit { records: 1, bytes: 1 };

/// How a topic is subscribed.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Messages of before.
    pub since: Since<'a>,
    /// At most so many of them.
    pub limit: usize,
    /// Each message as a line in JSON.
    pub json: bool,
    /// What becomes of messages that cannot be had any more.
    pub on_gap: OnGap,
}

/// What `fill` came to in one topic.
enum Filled {
    Live,
    Full,
    Gone,
}

impl Local {
    /// After the first subscription of a topic here: from where on messages are live.
    pub(super) fn begin_topic(&mut self, topic: &[u8]) {
        let Some(histories) = &self.histories else { return };
        if histories.keeps(topic) {
            histories.set_subscribed(topic, true);
            let at = histories.position(topic);
            if let Some((_, extra)) = self.topics.get_mut(topic) {
                extra.get_or_insert_default().at = Some(at);
            }
        }
    }

    /// Before a subscription: nothing that its client has a cursor of may be ahead of the pointer.
    pub(super) fn move_to_top(&mut self, topic: &[u8]) {
        while self.follow(topic).1 {}
    }

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
        let behind = from.is_some() || wanted.json;
        if !behind && wanted.on_gap == OnGap::Close {
            return state;
        }
        let nowhere = Position { epoch: 0, offset: 0 };
        let at = from.or(live).unwrap_or(nowhere);
        let behind = behind.then(|| Behind { at, say: wanted.json.then_some(state) });
        if let Some((_, extra)) = self.topics.get_mut(topic) {
            let is_behind = behind.is_some();
            let special = Special { json: wanted.json, on_gap: wanted.on_gap, behind };
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
            let cursor = Some(cursor(topic, live));
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
        let Local { histories: Some(histories), batch, .. } = self else { return now(None) };
        if let Err(gap) = histories.read(topic, from, ONE, batch) {
            return now(Some(gap.into()));
        }
        let offset = batch.get(0).map_or(live.offset, |first| first.offset - 1).min(live.offset);
        let count = live.offset - offset;
        if count > at_most {
            return now(Some(Reason::TooMany));
        }
        let at = Position { epoch: live.epoch, offset };
        let cursor = Some(cursor(topic, at));
        (Some(at), State { cursor, recovered: true, count, reason: None })
    }

    /// The doorbell rang: the topic's history goes up to `top` at least. Returns how many
    /// connections were handed something.
    pub(super) fn rung(&mut self, topic: &[u8], top: Position) -> usize {
        match self.topics.get(topic) {
            Some((_, Some(extra))) if extra.at.is_some_and(|at| is_past(at, top)) => 0,
            Some(_) => self.follow_or_put_off(topic),
            None => 0,
        }
    }

    /// A message that this worker has just put into the history, at `at`.
    pub(super) fn stored(&mut self, message: &Message<'_>, at: Position) -> usize {
        let Some((_, Some(extra))) = self.topics.get_mut(message.topic) else { return 0 };
        match &mut extra.at {
            Some(last) if last.epoch == at.epoch && last.offset + 1 == at.offset => {
                *last = at;
                self.fan_out(message, None)
            }
            _ => self.rung(message.topic, at),
        }
    }

    fn follow_or_put_off(&mut self, topic: &[u8]) -> usize {
        let (deliveries, more) = self.follow(topic);
        if more && !self.due.iter().any(|due| **due == *topic) {
            self.due.push(topic.into());
        }
        deliveries
    }

    /// Goes on with topics that were put off. Whether some are still.
    pub(super) fn go_on(&mut self) -> bool {
        for topic in std::mem::take(&mut self.due) {
            self.follow_or_put_off(&topic);
        }
        !self.due.is_empty()
    }

    /// Hands live subscribers what is new in a topic's history, or a turn's part of it. Returns how
    /// many connections were handed something, and whether there is more.
    pub(super) fn follow(&mut self, topic: &[u8]) -> (usize, bool) {
        let (mut deliveries, mut messages, mut more) = (0, 0, true);
        let mut batch = std::mem::take(&mut self.batch);
        while more && messages < TURN {
            more = false;
            let Some((_, Some(extra))) = self.topics.get(topic) else { break };
            let (Some(at), Some(histories)) = (extra.at, &self.histories) else { break };
            match histories.read(topic, From::After(at), PIECE, &mut batch) {
                Ok(page) => {
                    more = page.more;
                    for record in batch.iter() {
                        let at = Position { epoch: at.epoch, offset: record.offset };
                        let Item { text, data, except } = Item::of(&record);
                        self.move_to(topic, at);
                        let message = Message { topic, text, data, except, at: Some(at) };
                        deliveries += self.fan_out(&message, None);
                        messages += 1;
                    }
                }
                Err(gap) => self.lose(topic, gap),
            }
        }
        self.batch = batch;
        (deliveries, more)
    }

    fn move_to(&mut self, topic: &[u8], to: Position) {
        if let Some((_, Some(extra))) = self.topics.get_mut(topic) {
            extra.at = Some(to);
        }
    }

    /// What live subscribers have not had is gone: they go on at the history's end, and are told.
    fn lose(&mut self, topic: &[u8], gap: Gap) {
        let Some(histories) = &self.histories else { return };
        let top = histories.position(topic);
        self.move_to(topic, top);
        let Some((subscribers, Some(extra))) = self.topics.get(topic) else { return };
        let is_live = |h: &u32| extra.special.get(h).is_none_or(|s| s.behind.is_none());
        let live: Vec<u32> = subscribers.iter().copied().filter(is_live).collect();
        for handle in live {
            self.tell(topic, handle, gap.into(), top);
            self.fill(handle);
        }
    }

    /// Tells a subscriber of a gap, after which it goes on at `at`.
    fn tell(&mut self, topic: &[u8], handle: u32, reason: Reason, at: Position) {
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
            let Some(behind) = &mut special.behind else { return Filled::Live };
            if let Some(state) = &behind.say {
                let mut line = Vec::new();
                json::state(&mut line, topic, state);
                match session.offer(&Shared::new(true, &line)) {
                    Delivery::Queued => behind.say = None,
                    Delivery::Dropped => return Filled::Full,
                    Delivery::Closed | Delivery::Gone => return Filled::Gone,
                }
            }
            let at = behind.at;
            let (Some(live), Some(histories)) = (live, &self.histories) else {
                return Filled::Live;
            };
            if at == live {
                return Filled::Live;
            }
            let room = ROOM.saturating_sub(session.buffered());
            if room == 0 {
                return Filled::Full;
            }
            let left = live.offset.saturating_sub(at.offset);
            let limit = Limit { records: left.min(PIECE.records as u64) as usize, bytes: room };
            let mut batch = std::mem::take(&mut self.batch);
            let read = match at.epoch == live.epoch {
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
                        let at = Position { epoch: at.epoch, offset: record.offset };
                        let Item { text, data, except } = Item::of(&record);
                        if except != Some(id) {
                            let message = Message { topic, text, data, except, at: Some(at) };
                            let delivery = match json {
                                true => session.offer(&Shared::new(true, &message.line())),
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
            if !special.json && special.on_gap == OnGap::Close {
                extra.special.remove(&handle);
            }
        }
    }

    /// Follows the newest configuration: topics that have a history now, or none any more.
    pub(super) fn follow_rules(&mut self) {
        let Some(histories) = &mut self.histories else { return };
        if !histories.refresh() {
            return;
        }
        let is_kept = |extra: &Option<Box<Extra>>| extra.as_ref().is_some_and(|e| e.at.is_some());
        let changed: Vec<Box<[u8]>> = self
            .topics
            .all()
            .filter(|(topic, _)| {
                let kept = self.topics.get(topic).is_some_and(|(_, extra)| is_kept(extra));
                histories.keeps(topic) != kept
            })
            .map(|(topic, _)| topic.into())
            .collect();
        for topic in changed {
            let keeps = histories.keeps(&topic);
            // Whoever is subscribed was before anything was stored.
            let at = Position { offset: 0, ..histories.position(&topic) };
            if let Some((_, extra)) = self.topics.get_mut(&topic) {
                extra.get_or_insert_default().at = keeps.then_some(at);
            }
            if keeps {
                self.due.push(topic.into());
            }
        }
    }

    /// Looks whether topics are where their histories are: a publisher may have been killed between
    /// the history and the doorbell, or the bell been missed.
    pub(super) fn look_at_all(&mut self) {
        let all = self.topics.totals().topics;
        self.look_at(all);
    }

    fn look_at(&mut self, most: usize) {
        let Some(histories) = &self.histories else { return };
        let from = std::mem::take(&mut self.looked_at);
        let mut looked = 0;
        for (topic, _) in self.topics.all().skip(from).take(most) {
            looked += 1;
            let Some((_, Some(extra))) = self.topics.get(topic) else { continue };
            if extra.at.is_some_and(|at| histories.position(topic) != at) {
                self.due.push(topic.into());
            }
        }
        if looked == most {
            self.looked_at = from + looked;
        }
    }

    /// What is done now and then.
    pub(super) fn tidy(&mut self) {
        if let Some(histories) = &self.histories {
            histories.sweep();
            self.look_at(LOOK);
            for entry in self.members.iter().flatten().filter(|entry| !entry.behind.is_empty()) {
                if let Member::Session(session) = &entry.member {
                    if session.close_if_stuck() {
                        delivered(Delivery::Closed);
                    }
                }
            }
        }
    }

    /// Whether a topic has a history.
    pub(super) fn keeps(&self, topic: &[u8]) -> bool {
        self.histories.as_ref().is_some_and(|histories| histories.keeps(topic))
    }

    /// Whether a topic with subscribers here had one when it was last looked at.
    pub(super) fn is_kept(&self, topic: &[u8]) -> bool {
        self.topics
            .get(topic)
            .is_some_and(|(_, extra)| extra.as_ref().is_some_and(|e| e.at.is_some()))
    }

    /// Says whether anybody subscribes a topic that has a history.
    pub(super) fn set_subscribed(&self, topic: &[u8], subscribed: bool) {
        if let Some(histories) = &self.histories {
            histories.set_subscribed(topic, subscribed);
        }
    }

    /// Puts a message into a topic's history.
    pub(super) fn store(
        &mut self,
        topic: &[u8],
        item: &Item<'_>,
        key: Option<&[u8]>,
        subscribed: bool,
    ) -> Result<Published, Error> {
        let histories = self.histories.as_mut().ok_or(Error::NoHistory)?;
        histories.publish(topic, item, key, subscribed)
    }

    /// Reads from a topic's history.
    pub(super) fn read_all(
        &self,
        topic: &[u8],
        from: From,
        limit: Limit,
        out: &mut Batch,
    ) -> Result<Page, Error> {
        self.histories.as_ref().ok_or(Error::NoHistory)?.read_all(topic, from, limit, out)
    }

    /// Drops a topic's history. Whether there was one.
    pub(super) fn forget_history(&self, topic: &[u8]) -> Result<bool, Error> {
        self.histories.as_ref().ok_or(Error::NoHistory)?.forget(topic)
    }

    /// Where live subscribers of a topic stand.
    pub(super) fn stands(&self, topic: &[u8]) -> State {
        let at = self.topics.get(topic).and_then(|(_, extra)| extra.as_ref()?.at);
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

/// Whether somebody who has had `at` has had `top`.
fn is_past(at: Position, top: Position) -> bool {
    at.epoch == top.epoch && at.offset >= top.offset
}

fn put_behind(extra: &mut Extra, handle: u32, behind: Behind) {
    extra.special.entry(handle).or_default().behind = Some(behind);
}

fn asked_for(wanted: &Wanted<'_>) -> bool {
    wanted.since != Since::Now
}
