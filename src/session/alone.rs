//! A session without a handler: somebody is told of its messages, and its request ends with it.

use std::rc::Rc;

use ws_proto::opcode;

use super::server::{Each, Session};
use super::worker::Worker;

impl Session {
    /// Lets the connection live without a handler, once it begins: `each` is called with every
    /// message, and the request ends when the conversation has ended.
    pub fn run_alone(&self, each: Rc<Each>) {
        self.io.borrow_mut().alone = Some(each);
    }

    /// After bytes have been worked on: hands messages on and ends the request, if the
    /// connection lives without a handler. Nothing may be borrowed, because `each` may publish
    /// to this very connection.
    #[inline]
    pub(super) fn tend(&self) {
        if self.waiting.is_served() {
            return self.end_served();
        }
        let has_handler = {
            let io = self.io.borrow();
            io.alone.is_none() && io.partner.is_none()
        };
        if !has_handler {
            self.tend_alone();
        }
    }

    #[inline(never)]
    fn tend_alone(&self) {
        let (each, partner) = {
            let io = self.io.borrow();
            (io.alone.clone(), io.partner.clone())
        };
        if let Some(each) = each {
            self.hand_on(&*each);
        }
        if let Some(partner) = partner {
            partner.tend();
        }
    }

    fn hand_on(&self, each: &Each) {
        loop {
            let item = {
                let mut io = self.io.borrow_mut();
                let item = io.driver.conn.take_item(&Worker);
                if item.is_none() && self.link.is_open() && !io.driver.conn.is_over() {
                    let before = io.driver.conn.last_in();
                    self.converse(&mut io);
                    if io.driver.conn.has_items() || io.driver.conn.last_in() > before {
                        continue;
                    }
                }
                self.react(&mut io);
                item
            };
            let Some(item) = item else { break };
            each(item.opcode == opcode::TEXT, &item.data);
        }
        let over = self.io.borrow().driver.conn.is_over();
        if over && self.link.is_open() {
            self.io.borrow_mut().alone = None;
            self.link.finish_request();
        }
    }
}
