//! Topics with a history, as this worker follows them: its live subscribers share one pointer into
//! each, which moves as the doorbell rings. Whoever lags has a pointer of its own (resume.rs).

use ws_hub::history::read::{PIECE_BYTES, PIECE_RECORDS};
use ws_hub::history::{Batch, From, Gap, Limit, Page, Position, Published};

use super::error::Error;
use super::history::Item;
use super::local::{Extra, Local, Member, Message, Special};
use super::numbers::delivered;
use crate::session::Delivery;

/// How much of a topic is read in one turn of the event loop, in messages.
const TURN: usize = 256;
/// How much is read at once.
pub(super) const PIECE: Limit = Limit { records: PIECE_RECORDS, bytes: PIECE_BYTES };
/// Topics of which is looked, in one go, whether they are where their histories are.
const LOOK: usize = 1000;

/// Where live subscribers of a copy stand that has not been up to date since they came: what comes
/// from then on is theirs.
pub(super) const UNKNOWN: Position = Position { epoch: 0, offset: u64::MAX };

impl Local {
    /// After the first subscription of a topic here: from where on messages are live.
    pub(super) fn begin_topic(&mut self, topic: &[u8]) {
        let Some(histories) = &self.histories else { return };
        if histories.keeps(topic) {
            histories.set_subscribed(topic, true);
            let at = match histories.is_current(topic) {
                true => histories.position(topic),
                false => UNKNOWN,
            };
            if let Some((_, extra)) = self.topics.get_mut(topic) {
                extra.get_or_insert_default().at = Some(at);
            }
        }
    }

    /// Whether a topic's history here is all that there is, or as new as what its broker keeps.
    pub(super) fn is_current(&self, topic: &[u8]) -> bool {
        self.histories.as_ref().is_none_or(|histories| histories.is_current(topic))
    }

    /// Which broker keeps a topic's history, if one does.
    pub(super) fn keeper(&self, topic: &[u8]) -> Option<usize> {
        self.histories.as_ref()?.keeper(topic)
    }

    /// A copy is up to date for the first time here: messages are live from now on.
    fn begin_if_current(&mut self, topic: &[u8]) {
        let Some(histories) = &self.histories else { return };
        let is_unknown = |extra: &Extra| extra.at == Some(UNKNOWN);
        let extra = self.topics.get(topic).and_then(|(_, extra)| extra.as_deref());
        if extra.is_some_and(is_unknown) && histories.is_current(topic) {
            let at = histories.position(topic);
            self.move_to(topic, at);
        }
        // Before what is live, so that they get it in its place.
        self.resume_waiting(topic);
    }

    /// Before a subscription: nothing that its client has a cursor of may be ahead of the pointer.
    pub(super) fn move_to_top(&mut self, topic: &[u8]) {
        self.begin_if_current(topic);
        while self.follow(topic).1 {}
    }

    /// The doorbell rang: the topic's history goes up to `top` at least. Returns how many
    /// connections were handed something.
    pub(super) fn rung(&mut self, topic: &[u8], top: Position) -> usize {
        self.begin_if_current(topic);
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
            Some(last)
                if last.epoch == at.epoch && last.offset.checked_add(1) == Some(at.offset) =>
            {
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
            self.begin_if_current(&topic);
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
            if at == UNKNOWN {
                break;
            }
            match histories.read(topic, From::After(at), PIECE, &mut batch) {
                Ok(page) => {
                    more = page.more;
                    for record in batch.iter() {
                        let at = Position { epoch: page.top.epoch, offset: record.offset };
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
        let is_live = |h: &u32| extra.special.get(h).is_none_or(Special::is_live);
        let live: Vec<u32> = subscribers.iter().copied().filter(is_live).collect();
        for handle in live {
            self.tell(topic, handle, gap.into(), top);
            self.fill(handle);
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
            let at = match histories.keeper(&topic) {
                Some(_) => UNKNOWN,
                None => Position { offset: 0, ..histories.position(&topic) },
            };
            if let Some((_, extra)) = self.topics.get_mut(&topic) {
                let extra = extra.get_or_insert_default();
                extra.at = keeps.then_some(at);
                if !keeps {
                    // There is nothing to wait for any more.
                    extra.special.values_mut().for_each(|special| special.waits = None);
                }
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
        self.looked_at = 0;
        self.look_at(all);
    }

    fn look_at(&mut self, most: usize) {
        let Some(histories) = &self.histories else { return };
        let from = std::mem::take(&mut self.looked_at);
        let mut looked = 0;
        for (topic, _) in self.topics.all().skip(from).take(most) {
            looked += 1;
            let Some((_, Some(extra))) = self.topics.get(topic) else { continue };
            let waits = extra.special.values().any(|special| special.waits.is_some());
            if waits || extra.at.is_some_and(|at| histories.position(topic) != at) {
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

    /// Where a topic's history ends.
    pub(super) fn position(&self, topic: &[u8]) -> Option<Position> {
        self.histories.as_ref().map(|histories| histories.position(topic))
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
}

/// Whether somebody who has had `at` has had `top`.
fn is_past(at: Position, top: Position) -> bool {
    at.epoch == top.epoch && at.offset >= top.offset
}
