//! One connection's life: it is asked for, says who we are and asks whether it is the right server,
//! its way is tried now and then, and it ends.

use std::rc::Rc;

use bytes::Bytes;

use super::asked::{Asked, What};
use super::history::{scripts, Replication};
use super::item::Item;
use super::names::KEPT;
use super::wire::{about, command};
use super::{Lost, Redis, BATCH};
use crate::broker::contact::Phase;
use crate::broker::incoming::heartbeat;
use crate::broker::seam::{Action, Unkept};
use crate::broker::settings::Settings;
use crate::broker::tally::Number;

impl Redis {
    pub(super) fn connect(&mut self, now: u64) {
        self.contact.connect(self.server.address.clone(), now);
    }

    /// Who we are, whether it is the right server, and what every machine listens for.
    pub(super) fn greet(&mut self, now: u64) {
        let Settings { user, password, .. } = &self.settings;
        let name = format!("ws:{:08x}", self.driver.node.0);
        let mut hello = hello(user, &password.0);
        hello.extend([&b"SETNAME"[..], name.as_bytes()]);
        let hello = command(&hello);
        self.ask(What::Hello, &hello, now);
        if self.server.database > 0 {
            let database = self.server.database.to_string();
            self.ask(What::Select, &command(&[b"SELECT", database.as_bytes()]), now);
        }
        self.ask(What::Role, &command(&[b"ROLE"]), now);
        if self.names.are_sharded() {
            self.ask_whole(now);
        }
        if self.driver.keeps {
            self.questions = 0;
            self.ask_info(now);
            self.load_scripts(now);
        }
        let own: Vec<Rc<[u8]>> = self.names.own().into_iter().map(Rc::from).collect();
        let subscribe = about(b"SUBSCRIBE", b"", &own);
        self.ask(What::Own(own), &subscribe, now);
        self.contact.phase = Phase::Greeting;
    }

    pub(super) fn ask_info(&mut self, now: u64) {
        self.questions += 1;
        self.ask(What::Info, &command(&[b"INFO", b"replication"]), now);
    }

    pub(super) fn load_scripts(&mut self, now: u64) {
        let scripts = scripts(self.names.publish);
        self.digests = vec![Bytes::new(); scripts.len()];
        for (n, script) in scripts.iter().enumerate() {
            self.questions += 1;
            self.ask(What::Load(n), &command(&[b"SCRIPT", b"LOAD", script.as_bytes()]), now);
        }
    }

    pub(super) fn ready(&mut self, now: u64) {
        self.contact.ready();
        self.try_the_way(now);
        if self.beats {
            self.beat(now);
        }
    }

    /// The connection has ended, or is of no use: what was under way is lost, and all begins anew.
    pub(super) fn lose(&mut self, lost: Lost, now: u64) {
        self.contact.lose(&lost, &self.wanted, self.refuses.is_none(), now);
        self.contact.tally.add(Number::DroppedCut, self.messages_asked());
        // What was surely not done waits again, before what waits already.
        let held = std::mem::take(&mut self.held);
        let mut again: Vec<Item> = held.into_iter().filter(|item| !item.is_read()).collect();
        for Asked { what, .. } in std::mem::take(&mut self.asked) {
            match what {
                What::Op(op) if op.is_repeatable() => again.push(Item::Op(op)),
                What::Op(op) => self.tell(op.outcomes(Err(Unkept::Timeout))),
                _ => {}
            }
        }
        for mut item in again.into_iter().rev() {
            let (len, until) = (item.len(), self.queue.until(now));
            item.begin_anew(until);
            self.queue.push_back_in(item, len, until);
        }
        self.reads.clear();
        if self.names.are_sharded() {
            // The other servers' topics are followed still.
            let names = self.wanted.all_subscribed().filter_map(|name| self.names.topic(name));
            let kept = names.filter(|(kind, _)| *kind == KEPT);
            self.contact.actions.extend(kept.map(|(_, topic)| Action::Lapsed(topic.to_vec())));
        }
        (self.questions, self.replication) = (0, Replication::default());
        (self.refuses, self.held_until) = (None, 0);
        self.kin.clear();
        self.incoming.clear();
        self.wanted.reset();
        if self.names.are_sharded() {
            self.wanted.sort();
        }
        (self.in_flight, self.batch) = (0, BATCH);
        self.contact.wait(lost.why, now);
    }

    fn messages_asked(&self) -> usize {
        let messages = |asked: &Asked| match &asked.what {
            What::Message(_) => 1,
            What::Op(op) if !op.is_repeatable() => op.messages(),
            _ => 0,
        };
        self.asked.iter().map(messages).sum()
    }

    /// Tries the way of a message, and asks whether this still is the right server.
    pub(super) fn try_the_way(&mut self, now: u64) {
        let word = self.contact.next_word(now);
        self.ask(What::Word, &command(&[b"PUBLISH", &self.names.probe, &word]), now);
        self.ask(What::Role, &command(&[b"ROLE"]), now);
        if self.names.are_sharded() && self.refuses.is_none() {
            self.ask_whole(now);
        }
    }

    pub(super) fn beat(&mut self, now: u64) {
        let word = heartbeat(self.driver.node);
        let bytes = command(&[self.names.publish, &self.names.all, &word]);
        self.ask(What::Word, &bytes, now);
        self.contact.beats(now);
    }

    /// When what is answered next was asked.
    pub(super) fn first_asked(&self) -> Option<u64> {
        self.asked.front().map(|asked| asked.at)
    }
}

/// The words that begin every connection.
pub fn hello<'a>(user: &'a [u8], password: &'a [u8]) -> Vec<&'a [u8]> {
    let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
    if !password.is_empty() {
        let user: &[u8] = if user.is_empty() { b"default" } else { user };
        hello.extend([&b"AUTH"[..], user, password]);
    }
    hello
}
