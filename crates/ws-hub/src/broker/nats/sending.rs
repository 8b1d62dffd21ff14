//! What is wanted and what is to be published, sent to the server: topics in batches, messages as many
//! bytes as may be unanswered, and a PING after each, which acknowledges it.

use super::asked::Before;
use super::wire::publish;
use super::Nats;
use crate::broker::tally::Number;
use crate::broker::wanted::Batch;

/// Topics subscribed before one PING, and how many of those may be unanswered.
const BATCH: usize = 512;
const BATCHES: usize = 4;
/// Bytes of messages that may be unanswered: enough for any way there, and little to lose.
pub(super) const WINDOW: usize = 1 << 20;

impl Nats {
    pub(super) fn ping(&mut self, before: Before, now: u64) {
        self.contact.out.extend(b"PING\r\n");
        self.pings.push_back((now, before));
    }

    pub(super) fn subscribe(&mut self, now: u64) {
        while self.pings.iter().filter(|(_, before)| before.is_batch()).count() < BATCHES {
            match self.wanted.next(BATCH, |_, _| true) {
                Some(Batch::Subscribe(names)) => {
                    for name in &names {
                        self.last_number += 1;
                        self.numbers.insert(name.clone(), self.last_number);
                        let subject = self.names.wanted(name);
                        self.contact
                            .out
                            .extend(format!("SUB {subject} {}\r\n", self.last_number).bytes());
                    }
                    self.ping(Before::Subscribe(names), now);
                }
                Some(Batch::Unsubscribe(names)) => {
                    for number in names.iter().filter_map(|name| self.numbers.remove(name)) {
                        self.contact.out.extend(format!("UNSUB {number}\r\n").bytes());
                    }
                    self.ping(Before::Unsubscribe(names), now);
                }
                None => return,
            }
        }
    }

    pub(super) fn send_messages(&mut self, now: u64) {
        let (mut messages, mut bytes) = (0, 0);
        while let Some(len) = self.queue.next_len() {
            if self.in_flight > 0 && self.in_flight + len > WINDOW {
                break;
            }
            let Some((subject, message)) = self.queue.pop() else { break };
            if message.len() > self.info.max_payload {
                self.contact.tally.add(Number::DroppedTooLarge, 1);
                continue;
            }
            publish(&mut self.contact.out, &subject, "", &[], &message);
            (messages, bytes) = (messages + 1, bytes + len);
            self.in_flight += len;
        }
        if messages > 0 {
            self.ping(Before::Messages(messages, bytes), now);
        }
    }
}
