//! The light threads that wait for a connection or a stream, since when, and for how long they may; or
//! who is told instead of a light thread that reads. Time-outs count idle time: from the beginning of
//! the wait or the last progress, whichever is later.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use ws_conn::IoError;

use crate::ngx::clock::now_ms;
use crate::ngx::lua_wait::{Wait, Waiters};
use crate::ngx::request::Request;

/// Who takes messages where no light thread waits for them, by the number that goes with a
/// connection. It may be borrowed meanwhile, and is not used.
pub trait Sink {
    /// There is something to be told: a message, room for output, the end.
    fn ready(&self, number: u32);
    /// Something that it is subscribed to has a gap.
    fn gap(&self, number: u32);
}

/// A connection with a sink: rare, and so apart.
struct Served {
    sink: Rc<dyn Sink>,
    number: u32,
    /// More waited to leave than the high-water mark: the sink is to hear of the end.
    was_full: Cell<bool>,
}

/// Who waits. Owned beside what it is for, which may be borrowed while they are woken; without
/// semaphores while nobody has waited yet.
pub struct Waiting {
    /// Those who want something to come: one, as a rule.
    pub reader: Waiters,
    /// Set where there is nobody like that, but callbacks.
    served: OnceCell<Box<Served>>,
    /// Those who want room for output.
    pub writers: Waiters,
    /// Those who want the close handshake to end.
    pub closers: Waiters,
    /// How long a read may wait, in milliseconds.
    pub recv_timeout: Cell<u64>,
    /// How long a write may wait.
    pub send_timeout: Cell<u64>,
    /// When the present reader and writer began to wait.
    reading_since: Cell<u64>,
    draining_since: Cell<u64>,
}

impl Waiting {
    /// Nobody waits yet.
    pub fn new(recv_timeout: u64, send_timeout: u64) -> Waiting {
        let now = now_ms();
        Waiting {
            reader: Waiters::default(),
            served: OnceCell::new(),
            writers: Waiters::default(),
            closers: Waiters::default(),
            recv_timeout: Cell::new(recv_timeout),
            send_timeout: Cell::new(send_timeout),
            reading_since: Cell::new(now),
            draining_since: Cell::new(now),
        }
    }

    /// Has `sink` told instead of a reader. There is one.
    pub fn serve(&self, sink: Rc<dyn Sink>, number: u32) {
        let served = Served { sink, number, was_full: Cell::new(false) };
        let first = self.served.set(Box::new(served));
        debug_assert!(first.is_ok());
    }

    /// Whether a sink is told.
    #[inline]
    pub fn is_served(&self) -> bool {
        self.served.get().is_some()
    }

    /// Whether somebody wants what comes, and will take it soon.
    #[inline]
    pub fn is_awaited(&self) -> bool {
        self.is_served() || self.reader.waiters() > 0
    }

    /// Tells whoever takes what comes that there is something.
    #[inline]
    pub fn wake_reader(&self) {
        match self.served.get() {
            Some(served) => served.sink.ready(served.number),
            None => self.reader.wake_all(),
        }
    }

    /// As `wake_reader`: something subscribed has a gap.
    pub fn tell_gap(&self) {
        match self.served.get() {
            Some(served) => served.sink.gap(served.number),
            None => self.reader.wake_all(),
        }
    }

    /// There is no room for output.
    pub fn note_full(&self) {
        if let Some(served) = self.served.get() {
            served.was_full.set(true);
        }
    }

    /// Whether there was no room, and the sink has not been told of its end yet.
    pub fn was_full(&self) -> bool {
        self.served.get().is_some_and(|served| served.was_full.get())
    }

    /// It has been told.
    pub fn clear_full(&self) {
        if let Some(served) = self.served.get() {
            served.was_full.set(false);
        }
    }

    /// There is room for output: wakes those who wait for it.
    #[inline]
    pub fn tell_room(&self) {
        self.writers.wake_all();
        if self.was_full() {
            self.wake_reader();
        }
    }

    /// Wakes all.
    pub fn wake_all(&self) {
        self.wake_reader();
        self.writers.wake_all();
        self.closers.wake_all();
    }

    /// When a read is over that found nothing: `timeout` milliseconds after it began (not `again`) or
    /// something came.
    pub fn read_deadline(&self, again: bool, last_in: u64, timeout: u64) -> u64 {
        if !again {
            self.reading_since.set(now_ms());
        }
        self.reading_since.get().max(last_in).saturating_add(timeout)
    }

    /// Waits for room for output, some of which left at `last_out`. `left` is the time that the caller
    /// still has, where it keeps that itself.
    pub fn for_room(
        &self,
        r: Request,
        again: bool,
        left: Option<u64>,
        last_out: u64,
    ) -> Wait<Result<(), IoError>> {
        let now = now_ms();
        // The time-out counts from the last progress. A writer that joins others must not put it
        // off: a stalled peer would never fail while new sends keep coming.
        if !again && self.writers.waiters() == 0 {
            self.draining_since.set(now);
        }
        let deadline = match left {
            Some(left) => now.saturating_add(left),
            None => {
                let since = self.draining_since.get().max(last_out);
                since.saturating_add(self.send_timeout.get())
            }
        };
        // The last progress may be long ago: who has not waited yet has some time all the same.
        if now >= deadline && (again || left.is_some()) {
            return Wait::Ready(Err(IoError::Timeout));
        }
        self.writers.park(r, deadline.saturating_sub(now))
    }
}
