//! What a handler asks of a pair: the messages that it looks at, and messages and pings that it sends.

use ws_conn::{End, IoError, Passing, SendError, View};
use ws_proto::opcode;

use super::{Pair, Upstream};
use crate::ngx::clock::now_ms;
use crate::ngx::transport::Transport;
use crate::proxy::looks::{Looks, Side};
use crate::session::Worker;

impl Pair {
    /// Sends a message to a side; `known` says that it is one that came from the other, as it came.
    pub(in crate::proxy) fn send(
        &self,
        side: Side,
        text: bool,
        data: &[u8],
        known: bool,
    ) -> Result<(), SendError> {
        let driver = &mut self.upstream.borrow_mut().driver;
        self.check(driver);
        let conn = &mut driver.conn;
        let sent = match side {
            Side::Client => {
                let more = conn.has_items() || conn.has_bytes(self.leg.io());
                let message = Passing { text, data, more };
                match known {
                    true => self.client.pass_on(message).map(|_| ()),
                    false => self.client.send_own(message),
                }
            }
            Side::Upstream => {
                if !known {
                    conn.admit(text, data)?;
                }
                let message = Passing { text, data, more: self.client.has_more() };
                conn.pass_on(&Worker, self.leg.io(), message).map(|_| ())
            }
        };
        if sent == Err(SendError::Io(IoError::NoMemory)) {
            self.give_up(driver);
        }
        driver.react(&self.leg, None);
        sent
    }

    /// Sends a ping to a side.
    pub(in crate::proxy) fn send_ping(&self, side: Side, data: &[u8]) -> Result<(), SendError> {
        let driver = &mut self.upstream.borrow_mut().driver;
        self.check(driver);
        match side {
            Side::Client => self.client.send_ping(data),
            Side::Upstream => {
                let sent = driver.conn.send_control(&Worker, opcode::PING, data);
                driver.react(&self.leg, None);
                sent.map(|_| ())
            }
        }
    }

    /// The next message of a side that the other has room for, to be copied before any connection is
    /// used again. The sides take turns.
    pub(in crate::proxy) fn take_view(&self, looks: &Looks) -> Option<(Side, View)> {
        let Upstream { driver, last, .. } = &mut *self.upstream.borrow_mut();
        self.check(driver);
        let first = looks.next_side();
        for side in [first, first.other()] {
            let view = match side {
                Side::Client if driver.conn.may_pass() => self.client.take_view(),
                Side::Upstream if self.client.may_pass() => {
                    let view = driver.conn.poll_message(&Worker, self.leg.io());
                    driver.react(&self.leg, None);
                    view
                }
                _ => None,
            };
            if let Some(view) = view {
                *last = now_ms();
                looks.note_side(side);
                return Some((side, view));
            }
        }
        None
    }

    /// How the upstream has ended.
    pub(in crate::proxy) fn upstream_end(&self) -> Option<End> {
        self.upstream.borrow().driver.conn.end().cloned()
    }
}
