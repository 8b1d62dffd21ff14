//! A subscriber that is no connection: a bounded queue that a light thread empties. For programs
//! whose code decides what becomes of a published message, connection by connection. Made by
//! `hub::open_mailbox` for a Lua userdata; filled by the fan-out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;

use ws_hub::ConnId;

use crate::ngx::lua_wait::{Wait, Waiters};
use crate::ngx::request::Request;
use crate::session::Delivery;

/// Messages kept for an owner that does not come; what more arrives is lost, and counted.
const CAPACITY: usize = 4096;
/// The same in bytes. A single larger message is kept all the same.
const CAPACITY_BYTES: usize = 8 * 1024 * 1024;

/// A published message: its topic and its bytes.
pub type Message = (Box<[u8]>, Vec<u8>);

/// What the fan-out fills.
#[derive(Default)]
pub struct Queue {
    messages: RefCell<VecDeque<Message>>,
    bytes: Cell<usize>,
    lost: Cell<u64>,
    /// Made when somebody first waits.
    waiters: Waiters,
    /// Called when a message has come.
    woken: RefCell<Option<Rc<dyn Fn()>>>,
}

impl Queue {
    /// Takes a published message, unless too many wait already, or there is no memory for it.
    pub fn deliver(&self, topic: &[u8], payload: &[u8]) -> Delivery {
        let mut messages = self.messages.borrow_mut();
        let bytes = self.bytes.get() + payload.len();
        let mut copy = Vec::new();
        if messages.len() >= CAPACITY
            || (bytes > CAPACITY_BYTES && !messages.is_empty())
            || copy.try_reserve_exact(payload.len()).is_err()
        {
            self.lost.set(self.lost.get() + 1);
            return Delivery::Dropped;
        }
        self.bytes.set(bytes);
        copy.extend_from_slice(payload);
        messages.push_back((topic.into(), copy));
        drop(messages);
        self.wake();
        Delivery::Queued
    }

    fn wake(&self) {
        self.waiters.wake_all();
        let woken = self.woken.borrow().clone();
        if let Some(woken) = woken {
            woken();
        }
    }
}

/// The owner's side: subscribed by its id, emptied by `take`.
///
/// Owned by a Lua userdata. The hub holds the queue as long as this lives; dropping it ends the
/// subscriptions.
pub struct Mailbox {
    queue: Rc<Queue>,
    id: ConnId,
    handle: u32,
    /// Told the handle at the end.
    forget: fn(u32),
}

impl Mailbox {
    pub(super) fn new(queue: Rc<Queue>, id: ConnId, handle: u32, forget: fn(u32)) -> Mailbox {
        Mailbox { queue, id, handle, forget }
    }

    /// For `subscribe`, and to be left out when publishing.
    pub fn id(&self) -> &ConnId {
        &self.id
    }

    /// The oldest message.
    pub fn take(&self) -> Option<Message> {
        let message = self.queue.messages.borrow_mut().pop_front()?;
        self.queue.bytes.set(self.queue.bytes.get() - message.1.len());
        Some(message)
    }

    /// Has `woken` called whenever a message comes, within a call of the hub.
    pub fn on_message(&self, woken: Rc<dyn Fn()>) {
        self.queue.woken.replace(Some(woken));
    }

    /// How many messages were lost since this was last asked.
    pub fn lost(&self) -> u64 {
        self.queue.lost.take()
    }

    /// Parks the light thread that runs now in `r` until a message comes, `wake` is called, or for
    /// so many milliseconds.
    pub fn park(&self, r: Request, ms: u64) -> Wait<Infallible> {
        self.queue.waiters.park(r, ms)
    }

    /// Resumes every light thread that `park` holds.
    pub fn wake(&self) {
        self.queue.wake();
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        (self.forget)(self.handle);
    }
}
