//! Questions of other machines: the gateway answers for its machine. Where nobody is there, or more
//! than were asked for, it knows how many; otherwise it asks the workers as anybody does, and passes
//! their pieces on as they come, as those of one answer.

use ws_hub::envelope::Kind;
use ws_hub::presence::{with_head, Head, Then};
use ws_hub::roll_call::Answered;
use ws_hub::{ConnId, Envelope, NodeId};

use super::local::Local;
use super::publish::message;
use super::questions::{self, Relay};
use super::worker::Hub;
use crate::ngx::clock;

/// A worker that is silent for so long is not waited for, in milliseconds: less than who asks waits
/// for us.
pub(super) const SILENCE_MS: u64 = 1000;
/// Questions that are under way at once. More are not answered in full.
const MOST_RELAYS: usize = 256;

impl Local {
    /// A worker has answered a question that was put for another machine.
    pub(super) fn relay(&mut self, id: &ConnId, from: NodeId, piece: &[u8]) {
        let Some(relay) = self.presence.relays.get_mut(id) else { return };
        let Some((then, mut members)) = relay.roll.take(from, piece, clock::now_ms()) else {
            return;
        };
        match (then, questions::end(&mut relay.roll)) {
            // It has more than all had when this was asked.
            (Then::Number(n), _) => self.end_relay(id, Then::Number(n)),
            (_, Some(answered)) => {
                let then = ending(answered);
                self.pass_piece(id, then, piece);
            }
            _ if members.next().is_some() => self.pass_piece(id, Then::More, piece),
            _ => {}
        }
    }

    /// Ends questions that nobody will answer any more.
    pub(super) fn end_relays(&mut self) {
        let relays = self.presence.relays.iter_mut();
        let ended: Vec<_> =
            relays.filter_map(|(id, r)| Some((*id, questions::end(&mut r.roll)?))).collect();
        ended.iter().for_each(|(id, answered)| self.end_relay(id, ending(*answered)));
    }

    fn end_relay(&mut self, id: &ConnId, then: Then) {
        self.pass_piece(id, then, &[]);
    }

    fn pass_piece(&mut self, id: &ConnId, then: Then, piece: &[u8]) {
        let Some(relay) = self.presence.relays.get_mut(id) else { return };
        let head = Head { row: 0, piece: relay.pieces, then };
        relay.pieces += 1;
        // Who asked does not wait for ever for one that there is no memory for.
        let piece = with_head(&head, piece).map(|piece| (relay.to, piece));
        self.presence.outgoing.extend(piece);
        if then != Then::More {
            self.presence.relays.remove(id);
        }
    }
}

fn ending(answered: Answered) -> Then {
    match answered.machines == answered.known {
        true => Then::End,
        false => Then::Cut,
    }
}

impl Hub {
    /// Another machine asks who subscribes a topic.
    pub(super) fn asked_from_afar(&mut self, question: &Envelope<'_>) {
        let Kind::Ask { topic, id: to, most } = question.kind else { return };
        let count = self.subscribers(topic);
        // What the census has no room for is seen by who listens.
        let is_heard = |hub: &Hub| hub.bus.as_ref().is_some_and(|b| b.is_heard_elsewhere(topic));
        let then = match count {
            0 if !is_heard(self) => Then::Number(0),
            n if n > most.into() => Then::Number(n),
            _ if self.local.presence.relays.len() >= MOST_RELAYS => Then::Cut,
            _ => {
                let id = self.new_id();
                let question = Envelope { kind: Kind::Ask { topic, id, most }, ..*question };
                match self.put_question(&question, SILENCE_MS) {
                    Ok(roll) => {
                        let relay = Relay { to, roll, pieces: 0 };
                        self.local.presence.relays.insert(id, relay);
                        return self.local.presence.gather();
                    }
                    Err(_) => Then::Cut,
                }
            }
        };
        let mut answer = Vec::new();
        Head { row: 0, piece: 0, then }.encode(&mut answer);
        self.local.presence.outgoing.push((to, answer));
        self.send_answers();
    }

    /// Sends what there is for other machines.
    pub(super) fn send_answers(&mut self) {
        for (id, piece) in std::mem::take(&mut self.local.presence.outgoing) {
            let answer = message(Kind::Answer { id }, false, &piece, None);
            // Who asks sees what is missing.
            let _ = self.send_by_gateway(&Envelope { far: true, ..answer });
        }
    }
}
