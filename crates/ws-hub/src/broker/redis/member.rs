//! One server among those of a Cluster: what it says of slots that are another's, what goes from one
//! to another then, and what the router (cluster/mod.rs) asks of it.

use std::rc::Rc;

use super::asked::{Asked, What};
use super::elsewhere::Elsewhere;
use super::history::Op;
use super::item::Item;
use super::names::KEPT;
use super::slots::{tag_of, Tag};
use super::wire::{command, Frame};
use super::{Lost, Redis};
use crate::broker::contact::Phase;
use crate::broker::seam::{Action, State};
use crate::broker::tally::Number;

/// Milliseconds until what a server cannot do now is tried again, and as many at most more.
const PAUSE: u64 = 50;

impl Redis {
    /// Whether messages pass.
    pub(super) fn is_ready(&self) -> bool {
        self.contact.phase == Phase::Ready
    }

    /// Whether `poll` may have something.
    pub(super) fn is_stirred(&self) -> bool {
        self.contact.stirred || !self.contact.actions.is_empty()
    }

    /// Whether nothing that was handed to it is under way.
    pub(super) fn is_done(&self) -> bool {
        !self.is_ready() || self.asked.is_empty() && self.wanted.is_level() && self.held.is_empty()
    }

    /// How many topics are wanted, and how many are subscribed; `all` are names that are none.
    pub(super) fn topics(&self, all: &[(Vec<u8>, Tag)]) -> (usize, usize) {
        let wanted = all.iter().filter(|(name, _)| self.wanted.wants(name)).count();
        let subscribed = all.iter().filter(|(name, _)| self.wanted.answered(name) == Some(true));
        (self.wanted.wanted() - wanted, self.wanted.subscribed().saturating_sub(subscribed.count()))
    }

    /// The replication id, as far as it is known.
    pub(super) fn replication_id(&self) -> Option<Rc<[u8]>> {
        let id = &self.replication.now;
        (self.is_ready() && !id.is_empty()).then(|| id[..].into())
    }

    /// The keys of these tags come from the server with this replication id, which had their slots
    /// until now.
    pub(super) fn set_kin(&mut self, tag: Tag, id: Rc<[u8]>) {
        self.kin.insert(tag, id);
    }

    /// Whether this is the one that says that the machine lives.
    pub(super) fn set_beats(&mut self, beats: bool, now: u64) {
        if beats && !self.beats && self.is_ready() {
            self.beat(now);
        }
        self.beats = beats;
    }

    /// Asks whose the slots are. What is sent waits until that is known, so that nothing is
    /// overtaken by what goes to another server then.
    pub(super) fn ask_map(&mut self, now: u64) {
        self.questions += 1;
        self.ask(What::Map, &command(&[b"CLUSTER", b"SLOTS"]), now);
        self.contact.stir(now);
    }

    /// A name is to be subscribed here, or is no more.
    pub(super) fn want_name(&mut self, name: &[u8], wanted: bool) {
        self.wanted.want(name, wanted);
        self.contact.stirred = true;
    }

    /// Takes what belongs to tags that are not its own: names that are wanted, and what waits.
    pub(super) fn take_foreign(
        &mut self,
        is_own: impl Fn(Tag) -> bool,
    ) -> (Vec<Vec<u8>>, Vec<Item>) {
        let names = &self.names;
        let shared = names.shared();
        let mut foreign = Vec::new();
        let (actions, tally) = (&mut self.contact.actions, &mut self.contact.tally);
        let mut lapsed = Vec::new();
        self.wanted.retain(&mut |name| {
            let topic = names.topic(name);
            let tag = match topic {
                Some((_, topic)) => Some(tag_of(topic)),
                None => shared.iter().find(|(one, _)| one == name).map(|(_, tag)| *tag),
            };
            let stays = tag.is_none_or(&is_own);
            if !stays {
                foreign.push(name.to_vec());
                lapsed.extend(topic.filter(|(kind, _)| *kind == KEPT).map(|(_, t)| t.to_vec()));
            }
            stays
        });
        if self.contact.phase == Phase::Ready {
            if !foreign.is_empty() {
                tally.add(Number::Gaps, 1);
            }
            actions.extend(lapsed.into_iter().map(Action::Lapsed));
        } else {
            // Nothing is subscribed, and nothing to be given up.
            self.wanted.reset();
        }
        self.reads.retain(|op| is_own(tag_of(&op.topic)));
        let held = std::mem::take(&mut self.held);
        let (stay, mut items): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|item| is_own(item.tag()));
        self.held = stay.into();
        items.retain(|item| !item.is_read());
        let queued = self.queue.take_out(|item| !is_own(item.tag()));
        items.extend(queued.into_iter().map(|(item, ..)| item));
        self.contact.stirred = true;
        (foreign, items)
    }

    /// Puts what another server did not do before what waits.
    pub(super) fn adopt(&mut self, items: Vec<Item>) {
        for mut item in items.into_iter().rev() {
            let (len, until) = (item.len(), item.waits_until());
            item.begin_anew(until);
            self.queue.push_back_in(item, len, until);
        }
        self.contact.stirred = true;
    }

    /// Tries this again in a moment.
    pub(super) fn hold(&mut self, item: Item) {
        let pause = PAUSE + self.contact.backoff.random() % PAUSE;
        self.held_until = self.held_until.max(self.contact.now + pause);
        self.held.push_back(item);
    }

    /// Does something whose keys have come here before their slot, from the server with this
    /// replication id.
    pub(super) fn do_asking(&mut self, op: Op, from: Option<Rc<[u8]>>) {
        self.held.push_back(Item::Op(Op { asking: true, kin: from, ..op }));
        self.contact.stirred = true;
    }

    /// Something was not done.
    pub(super) fn is_elsewhere(
        &mut self,
        what: What,
        place: Elsewhere,
        why: String,
        now: u64,
    ) -> Result<(), Lost> {
        self.returned.doubts |= place == Elsewhere::Moved;
        let (item, was_asking) = match what {
            What::Message(message) => (Item::Message(message), false),
            What::Op(op) => {
                let asking = op.asking;
                (Item::Op(Op { asking: false, kin: None, ..op }), asking)
            }
            What::Subscribe(names) => {
                self.wanted.put_off(&names);
                if place == Elsewhere::Moved {
                    let names = names.iter().filter(|name| self.wanted.wants(name)).cloned();
                    let names: Vec<Rc<[u8]>> = names.collect();
                    names.iter().for_each(|name| self.wanted.want(name, false));
                    self.returned.names.extend(names);
                } else {
                    self.refuse(why, now);
                }
                return Ok(());
            }
            // Until PING is answered.
            What::Unsubscribe(names) => {
                let moved = place == Elsewhere::Moved;
                self.ask_first(
                    if moved { What::Unsubscribe(names) } else { What::Stay(names) },
                    now,
                );
                if !moved {
                    self.refuse(why, now);
                }
                return Ok(());
            }
            What::Word if place != Elsewhere::Moved => {
                self.refuse(why, now);
                return Ok(());
            }
            What::Word => return Ok(()),
            _ => return Err(Lost::refused(why)),
        };
        self.in_flight -= item.len();
        match place {
            // Its topic is followed anew where it is now, and read there.
            Elsewhere::Moved if item.is_read() && !was_asking => {}
            Elsewhere::Moved => self.returned.items.push((item, None)),
            Elsewhere::Later if was_asking => self.returned.items.push((item, None)),
            Elsewhere::Ask(to) if !was_asking => self.returned.items.push((item, Some(to))),
            Elsewhere::Ask(_) | Elsewhere::Later => self.hold(item),
            Elsewhere::Down => {
                self.held.push_back(item);
                self.refuse(why, now);
            }
        }
        Ok(())
    }

    /// What has been answered in part only waits for the rest.
    pub(super) fn ask_first(&mut self, what: What, now: u64) {
        self.asked.push_front(Asked { what, at: now, done: 0 });
    }

    /// The Cluster is not whole: all waits until it is.
    fn refuse(&mut self, why: String, now: u64) {
        let again_in = PAUSE + self.contact.backoff.random() % PAUSE;
        if self.refuses.is_none() {
            self.contact.is_not_up();
            self.returned.doubts = true;
            self.contact.actions.push_back(Action::State(State::Impaired { why, again_in }));
        }
        self.refuses = Some(now + again_in);
    }

    pub(super) fn ask_whole(&mut self, now: u64) {
        self.refuses = self.refuses.map(|_| u64::MAX);
        self.ask(What::Whole, &command(&[b"CLUSTER", b"INFO"]), now);
    }

    /// The answer of CLUSTER INFO. Nothing: it is none.
    pub(super) fn is_whole(&mut self, frame: &Frame, now: u64) -> Option<()> {
        let text = match frame.as_verbatim_string() {
            Some((_, text)) => text,
            None => frame.as_bytes()?,
        };
        let state = b"cluster_state:";
        let at = text.windows(state.len()).position(|part| part == state)?;
        match text[at + state.len()..].starts_with(b"ok") {
            true => self.refuses = None,
            false => self.refuse("the cluster is down".to_string(), now),
        }
        Some(())
    }
}
