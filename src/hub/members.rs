//! What subscribers in JSON format are told of each other: who is there after they subscribe, and
//! again when a worker has died or something was missed; with `join_leave` who comes and goes, gathered
//! for a while. One question goes out for all who wait for a topic's members; changes that come
//! meanwhile are worked into the list, so that it is never older than a line before it.

use std::collections::HashSet;
use std::rc::Rc;

use ws_conn::Shared;
use ws_hub::envelope::Kind;
use ws_hub::json::{self, Members};
use ws_hub::presence::{Changes, Told, MAX_CHANGES};
use ws_hub::{ConnId, Envelope, NodeId, Target, TopicHash};

use super::local::{Local, Special};
use super::numbers::{delivered, living_zone};
use super::publish::message;
use super::questions::{end, Call, Presence, Seen, MOST_MEMBERS, SILENCE_MS};
use super::reach::{JOIN_LEAVE, PRESENCE};
use super::worker::{with, Hub};
use crate::ngx::clock;
use crate::ngx::timer::Timer;
use crate::session::Delivery;

thread_local! {
    static TICK: Timer = const { Timer::new() };
}

/// Changes are gathered for so many milliseconds.
const GATHER_MS: u64 = 100;
/// Questions that are under way at once.
const MOST_CALLS: usize = 64;

impl Presence {
    /// Has `tick` called in a while.
    pub(super) fn gather(&mut self) {
        if !std::mem::replace(&mut self.ticks, true) {
            TICK.with(|timer| timer.set(GATHER_MS, tick));
        }
    }
}

/// It is time to tell what was gathered, and to look whether somebody who was asked has died.
fn tick() {
    let _ = with(|hub| {
        hub.local.presence.ticks = false;
        hub.tell_changes();
        hub.local.end_calls();
        hub.local.end_relays();
        hub.send_answers();
        hub.ask_for_members();
        let Presence { calls, relays, .. } = &hub.local.presence;
        if !(calls.is_empty() && relays.is_empty()) {
            hub.local.presence.gather();
        }
        Ok(())
    });
}

impl Local {
    /// A subscription has begun, or is about to end.
    pub(super) fn note_change(&mut self, topic: &[u8], handle: u32, has_come: bool) {
        if self.flags(topic) & JOIN_LEAVE == 0 {
            return;
        }
        let Some(number) = self.number(handle) else { return };
        let Local { topics, presence, .. } = self;
        let extra = topics.get(topic).and_then(|(_, extra)| extra.as_ref());
        let info = extra.map_or("", |extra| extra.info(handle));
        match presence.changes.get_mut(topic) {
            Some(changes) => changes.note(number, has_come, info),
            None => {
                let mut changes = Changes::default();
                changes.note(number, has_come, info);
                presence.changes.insert(topic.into(), changes);
            }
        }
        presence.gather();
    }

    /// A worker tells who has come and gone. Returns how many connections were told.
    pub(super) fn changed(&mut self, topic: &[u8], node: NodeId, payload: &[u8]) -> usize {
        let Some(told) = Told::decode(payload) else { return 0 };
        for call in self.presence.calls.values_mut().filter(|call| *call.topic == *topic) {
            told.leaves.iter().for_each(|left| call.remove(node, left.0));
            told.joins.iter().for_each(|&(number, info)| call.add(node, number, info));
        }
        let Some((_, Some(extra))) = self.topics.get(topic) else { return 0 };
        // Whoever is yet to be told who is there learns it from that.
        let is_told = |s: &Special| {
            s.json && !s.wants_members && s.behind.as_ref().is_none_or(|b| b.say.is_none())
        };
        let them: Vec<u32> =
            extra.special.iter().filter(|(_, s)| is_told(s)).map(|(&handle, _)| handle).collect();
        if them.is_empty() {
            return 0;
        }
        let reaches_far = self.histories.as_ref().is_some_and(|h| h.broker_of(topic).is_some());
        if told.are_many && reaches_far {
            // How many are there now no machine knows alone.
            for handle in them {
                if let Some(Some(entry)) = self.members.get(handle as usize) {
                    self.presence.want(topic, entry.id);
                }
            }
            return 0;
        }
        let mut line = Vec::new();
        let are_listed = !told.are_many && {
            let member = |&(number, info)| json::Member { number, node, info };
            let lists = collected(&told.joins, member).zip(collected(&told.leaves, member));
            lists.is_some_and(|(joins, leaves)| json::changes(&mut line, topic, &joins, &leaves))
        };
        if !are_listed || line.len() > MAX_CHANGES {
            line.clear();
            json::members(&mut line, topic, Members::Count(told.subscribers));
        }
        self.tell_line(topic, &line, &them)
    }

    /// A piece of an answer to a question of `ask_for_members` has come.
    pub(super) fn called_back(&mut self, to: &ConnId, node: NodeId, piece: &[u8]) {
        let Some(call) = self.presence.calls.get_mut(to) else { return };
        let piece = call.roll.take(node, piece, clock::now_ms());
        for (number, info) in piece.into_iter().flat_map(|(_, members)| members) {
            call.add(node, number, info);
        }
        if end(&mut call.roll).is_some() {
            self.end_call(to);
        }
    }

    /// Ends questions that nobody will answer any more.
    fn end_calls(&mut self) {
        let calls = self.presence.calls.iter_mut();
        let ended: Vec<ConnId> =
            calls.filter_map(|(id, call)| end(&mut call.roll).map(|_| *id)).collect();
        ended.iter().for_each(|id| self.end_call(id));
    }

    fn end_call(&mut self, id: &ConnId) {
        let Some(call) = self.presence.calls.remove(id) else { return };
        let members = collected(&call.members, |(node, number, info)| json::Member {
            number: *number,
            node: *node,
            info,
        });
        let members = match (call.many(), &members) {
            (None, Some(members)) => Members::All(members),
            (many, _) => Members::Count(many.unwrap_or(call.members.len() as u64)),
        };
        self.tell_members(&call.topic, members, &call.waiting);
    }

    fn tell_members(&mut self, topic: &[u8], members: Members<'_>, waiting: &HashSet<ConnId>) {
        let mut line = Vec::new();
        if let (false, Members::All(all)) = (json::members(&mut line, topic, members), members) {
            json::members(&mut line, topic, Members::Count(all.len() as u64));
        }
        let them: Vec<u32> = waiting.iter().filter_map(|id| self.handle(id)).collect();
        self.tell_line(topic, &line, &them);
    }

    /// Hands a line to subscribers in JSON format. Who has no room for it is told who is there once it
    /// has. Returns how many took it.
    fn tell_line(&mut self, topic: &[u8], line: &[u8], them: &[u32]) -> usize {
        let line = Shared::new(true, line);
        let mut reached = 0;
        for &handle in them {
            let Some(session) = self.session_at(handle).cloned() else { continue };
            let Some((_, Some(extra))) = self.topics.get_mut(topic) else { return reached };
            let is_filled = extra.at.is_some();
            let Some(special) = extra.special.get_mut(&handle).filter(|s| s.json) else { continue };
            let delivery = if is_filled { session.offer(&line) } else { session.deliver(&line) };
            if delivery == Delivery::Dropped {
                special.wants_members = true;
                session.tell_room();
                let Some(Some(entry)) = self.members.get_mut(handle as usize) else { continue };
                if !entry.behind.iter().any(|behind| **behind == *topic) {
                    entry.behind.push(topic.into());
                }
            } else {
                delivered(delivery);
            }
            reached += usize::from(delivery == Delivery::Queued);
        }
        reached
    }

    /// Has everybody told once more who is there: something may have been missed.
    pub(super) fn tell_all_members(&mut self) {
        let all = self.topics.all().map(|(topic, _)| topic);
        let topics: Vec<Rc<[u8]>> =
            all.filter(|topic| self.flags(topic) & PRESENCE != 0).map(Rc::from).collect();
        for topic in topics {
            let Some((_, Some(extra))) = self.topics.get(&topic) else { continue };
            let is_told = |s: &Special| s.json && !s.wants_members;
            for (&handle, _) in extra.special.iter().filter(|(_, s)| is_told(s)) {
                if let Some(Some(entry)) = self.members.get(handle as usize) {
                    self.presence.want(&topic, entry.id);
                }
            }
        }
    }
}

impl Hub {
    /// Puts the questions that subscribers wait for, as many as may be under way.
    pub(super) fn ask_for_members(&mut self) {
        let Presence { wanted, calls, .. } = &self.local.presence;
        if wanted.is_empty() {
            return;
        }
        let is_free = |topic: &&Rc<[u8]>| calls.values().all(|call| call.topic != **topic);
        let room = MOST_CALLS - calls.len();
        let topics: Vec<_> = wanted.keys().filter(is_free).take(room).cloned().collect();
        for topic in topics {
            let waiting = self.local.presence.wanted.remove(&topic).unwrap_or_default();
            let count = self.subscribers(&topic);
            // Too many to be listed: others are asked how many they have.
            let is_list = count as usize <= MOST_MEMBERS;
            let (most, more) = if is_list { (MOST_MEMBERS as u32, 0) } else { (0, count) };
            let to = self.new_id();
            let question = self.question(Kind::Ask { topic: &topic, id: to, most });
            match self.put_question(&question, SILENCE_MS) {
                Ok(roll) => {
                    let call = Call { topic, waiting, roll, members: Vec::new(), more };
                    self.local.presence.calls.insert(to, call);
                }
                // Nobody can be asked.
                Err(_) => self.local.tell_members(&topic, Members::Count(count), &waiting),
            }
        }
        self.local.end_calls();
        self.local.presence.gather();
    }

    /// Tells all workers what has changed.
    pub(super) fn tell_changes(&mut self) {
        for (topic, changes) in std::mem::take(&mut self.local.presence.changes) {
            if changes.is_empty() {
                continue;
            }
            let most = self.bus.as_ref().map_or(MAX_CHANGES, |bus| bus.max_payload());
            let payload = changes.encode(self.subscribers(&topic), most.min(MAX_CHANGES));
            let message = message(Kind::Changes { topic: &topic }, false, &payload, None);
            let message = Envelope { far: self.goes_far(&topic), ..message };
            // What cannot be put is missed, of which everybody hears.
            let _ = self.put(Target::Topic(TopicHash::of(&topic)), &message);
        }
    }
    /// Looks whether a worker or a machine has come or gone since this was last called, and its members
    /// with it, and whether a broker was away, by which we hear of others.
    pub(super) fn look_at_others(&mut self) {
        let (Some(zone), Some(bus)) = (living_zone(), &self.bus) else { return };
        let (now, place) = (clock::now_ms(), bus.place());
        let now = Seen {
            departures: zone.directory().departures(),
            machines: place.alive(now).collect(),
            term: if place.away(0, now).is_some() { 0 } else { place.term(0) },
        };
        let Some(before) = self.local.presence.seen.replace(now.clone()) else { return };
        let is_back = now.term != 0 && now.term != before.term;
        let has_lost = before.departures != now.departures;
        if is_back || has_lost || before.machines != now.machines {
            self.local.tell_all_members();
        }
        if (is_back || has_lost) && bus.is_gateway() {
            self.tell_untold();
        }
    }

    /// Other machines are to ask anew who is here: what they were told may not be all.
    pub(super) fn tell_untold(&mut self) {
        if self.local.histories.as_ref().is_none_or(|histories| !histories.has_flag(PRESENCE)) {
            return;
        }
        let _ = self
            .send_by_gateway(&Envelope { far: true, ..message(Kind::Untold, false, &[], None) });
    }
}

/// A list made of another one; none where there is no memory for it, and a count has to do.
fn collected<'a, T, U>(list: &'a [T], make: impl Fn(&'a T) -> U) -> Option<Vec<U>> {
    let mut made = Vec::new();
    made.try_reserve_exact(list.len()).ok()?;
    made.extend(list.iter().map(make));
    Some(made)
}
