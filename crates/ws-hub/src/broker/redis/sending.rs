//! What leaves, and when: topics that are to be subscribed, messages, and what is to be done with
//! histories.

use super::asked::{Asked, What};
use super::history::{Op, Replication};
use super::item::Item;
use super::slots::tag_of;
use super::wire::{about, command};
use super::{Redis, BATCH, BATCHES, READS, WINDOW};
use crate::broker::contact::Phase;
use crate::broker::seam::{Action, Outcome, Unkept};
use crate::broker::tally::Number;
use crate::broker::wanted::Batch;

impl Redis {
    pub(super) fn ask(&mut self, what: What, bytes: &[u8], now: u64) {
        self.contact.out.extend(bytes);
        self.asked.push_back(Asked { what, at: now, done: 0 });
    }

    /// Sends whatever may leave now.
    pub(super) fn go_on(&mut self, now: u64) {
        (self.contact.stirred, self.has_changed, self.contact.now) = (false, false, now);
        self.expire(now);
        if self.contact.phase == Phase::Ready && self.refuses.is_none() {
            self.subscribe_more(now);
            if self.can_send() {
                self.send_waiting(now);
            }
            self.contact.look(&self.wanted);
        }
        self.contact.flush(self.queue.bytes(), &self.wanted);
    }

    /// Gives up what has waited too long.
    fn expire(&mut self, now: u64) {
        while let Some(item) = self.queue.expired(now) {
            self.give_up(item);
        }
        while let Some(n) = self.held.iter().position(|item| item.waits_until() <= now) {
            let item = self.held.remove(n);
            item.into_iter().for_each(|item| self.give_up(item));
        }
    }

    fn give_up(&mut self, item: Item) {
        self.contact.tally.add(Number::DroppedExpired, item.messages());
        if let Item::Op(op) = item {
            self.tell(op.outcomes(Err(Unkept::Unavailable)));
        }
    }

    fn subscribe_more(&mut self, now: u64) {
        while self.wanted.asked() < BATCHES * BATCH {
            let names = &self.names;
            let batch = self.wanted.next(self.batch, |a, b| names.are_together(a, b));
            match batch {
                Some(Batch::Subscribe(topics)) => {
                    let bytes = about(self.names.subscribe, &self.names.prefix, &topics);
                    self.ask(What::Subscribe(topics), &bytes, now);
                }
                Some(Batch::Unsubscribe(topics)) => {
                    let mut bytes = about(self.names.unsubscribe, &self.names.prefix, &topics);
                    if self.names.are_sharded() {
                        bytes.extend(command(&[b"PING"]));
                    }
                    self.ask(What::Unsubscribe(topics), &bytes, now);
                }
                None => break,
            }
        }
    }

    /// Sends messages, and what is to be done with histories.
    fn send_waiting(&mut self, now: u64) {
        if self.held_until <= now {
            for item in std::mem::take(&mut self.held) {
                self.send(item, now);
            }
        }
        let reading = |asked: &&Asked| matches!(&asked.what, What::Op(op) if op.messages() == 0);
        let mut reading = self.asked.iter().filter(reading).count();
        while reading < READS {
            let Some(op) = self.reads.pop_front() else { break };
            self.run(op, now);
            reading += 1;
        }
        while let Some(len) = self.queue.next_len() {
            if self.in_flight > 0 && self.in_flight + len > WINDOW {
                break;
            }
            let Some(mut item) = self.queue.pop() else { break };
            if let Item::Op(op) = &mut item {
                let more =
                    |op: &Op, item: &Item| matches!(item, Item::Op(other) if op.takes(other));
                while let Some(Item::Op(other)) = self.queue.pop_if(|item| more(op, item)) {
                    op.take(other);
                }
            }
            // Behind what it must not overtake.
            match self.held.iter().any(|held| held.tag() == item.tag()) {
                true => self.held.push_back(item),
                false => self.send(item, now),
            }
        }
    }

    fn send(&mut self, item: Item, now: u64) {
        match item {
            Item::Message(message) => {
                self.in_flight += message.bytes.len();
                self.contact.out.extend(&message.bytes);
                self.asked.push_back(Asked { what: What::Message(message), at: now, done: 0 });
            }
            Item::Op(op) => self.run(op, now),
        }
    }

    fn run(&mut self, op: Op, now: u64) {
        let epoch = self.contact.backoff.random().max(1);
        let kin = op.kin.as_ref().or_else(|| self.kin.get(&tag_of(&op.topic)));
        let Replication { now: id, before } = &self.replication;
        let before = kin.map_or(&before[..], |kin| kin);
        let bytes =
            op.command(&self.names, &self.digests, id, before, epoch, self.driver.max_message);
        self.in_flight += op.len;
        if op.asking {
            self.ask(What::Asking, &command(&[b"ASKING"]), now);
        }
        self.ask(What::Op(op), &bytes, now);
    }

    /// Puts something behind what waits.
    pub(super) fn push(&mut self, mut op: Op, now: u64) {
        op.until = self.queue.until(now);
        let len = op.len;
        if let Err(Item::Op(op)) = self.queue.push(Item::Op(op), len, now) {
            self.contact.tally.add(Number::DroppedFull, op.messages());
            self.tell(op.outcomes(Err(Unkept::Full)));
        }
        self.contact.stir(now);
    }

    pub(super) fn tell(&mut self, outcomes: Vec<(u64, Outcome)>) {
        let told = outcomes.into_iter().filter(|(ticket, _)| *ticket != 0);
        self.contact.actions.extend(told.map(|(ticket, outcome)| Action::Kept { ticket, outcome }));
    }
}
