//! An accepted connection as a stream of bytes, the way a cosocket is one: what Lua code of any
//! light thread of the worker may call. Reads wait for what is asked, writes go through an outbox
//! and wait above its high-water mark.

use std::cell::RefCell;
use std::rc::Rc;

use ws_conn::{Host, IoError, NoMemory};

use super::inbox::{Inbox, Want, MAX_LINE};
use super::output::{send, Bytes, Output};
use super::waiting::Waiting;
use super::worker::{self, Worker};
use crate::ngx::accepted::{Accepted, Events};
use crate::ngx::clock::now_ms;
use crate::ngx::lua_wait::Wait;
use crate::ngx::request::Request;
use crate::ngx::transport::Transport;
use crate::ngx::wire::{Io, Recv};

/// As ngx_lua's cosockets without time-outs of their own.
const DEFAULT_TIMEOUT_MS: u64 = 60_000;
/// A send that leaves more than this pending waits for the peer.
const HIGH_WATER: usize = 256 * 1024;

/// How long the last output of a closed stream may stay without progress, at most.
const DRAIN_MS: u64 = 60_000;

/// Result of a read.
pub enum Got {
    /// Bytes, to be copied before anything else happens.
    Data(Vec<u8>),
    /// An error, and what had come until then.
    Failed(IoError, Vec<u8>),
    /// The line has no end.
    LineTooLong,
}

/// What of a stream is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ours to read.
    Read,
    /// Ours to write, once all is sent.
    Write,
    /// Both.
    Both,
}

struct State {
    inbox: Inbox,
    read_end: Option<IoError>,
    output: Bytes,
    /// Our side of the stream ends when the outbox is empty.
    end_output: bool,
    /// Bytes received so far.
    received: u64,
    /// The stream is closed for Lua; it holds itself until its output is sent.
    draining: Option<Rc<Stream>>,
    closed: bool,
}

/// A connection of a listener.
///
/// Reference-counted: one count lies in each Lua userdata, one in the pool of the request whose
/// light thread serves it (given back at that request's end, which closes the stream), one in
/// `draining` while its last output drains. A parked light thread holds the userdata on its stack,
/// so the semaphores outlive their waiters. With the last count the connection is closed.
pub struct Stream {
    socket: Accepted,
    waiting: Waiting,
    io: RefCell<State>,
}

impl Stream {
    /// A stream over a connection taken from its listener.
    pub fn new(socket: Accepted) -> Rc<Stream> {
        let stream = Rc::new(Stream {
            socket,
            waiting: Waiting::new(DEFAULT_TIMEOUT_MS, DEFAULT_TIMEOUT_MS),
            io: RefCell::new(State {
                inbox: Inbox::default(),
                read_end: None,
                output: Bytes::new(HIGH_WATER),
                end_output: false,
                received: 0,
                draining: None,
                closed: false,
            }),
        });
        Accepted::attach(&stream);
        stream
    }

    /// The connection: addresses, descriptor.
    pub fn socket(&self) -> &Accepted {
        &self.socket
    }

    /// Whether it has not been closed by this side.
    pub fn is_open(&self) -> bool {
        !self.io.borrow().closed
    }

    /// Sets the time-outs in milliseconds; None leaves one as it is.
    pub fn set_timeouts(&self, send: Option<u64>, recv: Option<u64>) {
        let Waiting { send_timeout, recv_timeout, .. } = &self.waiting;
        send_timeout.set(send.unwrap_or(send_timeout.get()));
        recv_timeout.set(recv.unwrap_or(recv_timeout.get()));
    }

    /// Reads. `again` says that the caller was parked by the call before; `left` is the time it
    /// still has, in milliseconds, where it keeps that itself (None: the stream's time-out).
    pub fn receive(&self, r: Request, want: Want, again: bool, left: Option<u64>) -> Wait<Got> {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        if !again && self.waiting.reader.waiters() > 0 {
            return Wait::Ready(Got::Failed(IoError::BusyReading, Vec::new()));
        }
        if want == Want::Exactly(0) && io.read_end.is_none() && !io.closed {
            return Wait::Ready(Got::Data(Vec::new()));
        }
        loop {
            match io.inbox.taken(want) {
                Ok(Some(data)) => return Wait::Ready(Got::Data(data)),
                Ok(None) => {}
                Err(NoMemory) => return Wait::Ready(Got::Failed(IoError::NoMemory, Vec::new())),
            }
            if want == Want::Line && io.inbox.len() > MAX_LINE {
                return Wait::Ready(Got::LineTooLong);
            }
            if io.closed {
                return Wait::Ready(Got::Failed(IoError::Closed, Vec::new()));
            }
            if let Some(err) = io.read_end {
                let rest = io.inbox.take_all();
                return Wait::Ready(match (want, err) {
                    (Want::All, IoError::Closed) => Got::Data(rest),
                    _ => Got::Failed(err, rest),
                });
            }
            if !self.fill(io) {
                break;
            }
        }
        let now = now_ms();
        let own = self.waiting.read_deadline(again, 0, self.waiting.recv_timeout.get());
        let deadline = left.map_or(own, |left| now.saturating_add(left));
        if now >= deadline {
            return Wait::Ready(Got::Failed(IoError::Timeout, io.inbox.take_all()));
        }
        self.waiting.reader.park(r, deadline.saturating_sub(now))
    }

    /// Waits until a read would not wait: bytes, or the end of the stream. `left` is what is left of
    /// the caller's time, in milliseconds.
    pub fn readable(&self, r: Request, left: Option<u64>) -> Wait<Result<(), IoError>> {
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        if io.closed {
            return failed(IoError::Closed);
        }
        if io.inbox.is_empty() && io.read_end.is_none() {
            self.fill(io);
        }
        if !io.inbox.is_empty() || io.read_end.is_some() {
            return done();
        }
        if left == Some(0) {
            return failed(IoError::Timeout);
        }
        self.waiting.reader.park(r, left.unwrap_or(u64::MAX))
    }

    /// Queues bytes; they leave at the end of this turn, or now where much waits. Returns whether
    /// more is pending than the high-water mark allows: then call `drained`.
    pub fn send(&self, parts: &[&[u8]]) -> Result<bool, IoError> {
        let mut io = self.io.borrow_mut();
        if let Some(err) = io.output.end {
            return Err(err);
        }
        if io.closed || io.end_output || !self.socket.is_open() {
            return Err(IoError::Closed);
        }
        for part in parts {
            if io.output.queue.push(Worker.pool(), part, &[], None).is_err() {
                // Of several parts some may be queued: what follows would make no sense.
                io.output.end = Some(IoError::NoMemory);
                return Err(IoError::NoMemory);
            }
        }
        if io.output.queue.len() > HIGH_WATER {
            self.flush_now(&mut io);
        } else {
            self.socket.post_flush();
        }
        match io.output.end {
            Some(err) => Err(err),
            None => Ok(io.output.queue.len() > HIGH_WATER),
        }
    }

    /// Whether output is below `mark` bytes (None: the high-water mark); parks the light thread
    /// that runs in `r` if not. `again` and `left` as in `receive`.
    pub fn drained(
        &self,
        r: Request,
        mark: Option<usize>,
        again: bool,
        left: Option<u64>,
    ) -> Wait<Result<(), IoError>> {
        let mut io = self.io.borrow_mut();
        let mark = mark.unwrap_or(HIGH_WATER);
        if io.output.end.is_none() && !io.closed && mark < HIGH_WATER {
            self.flush_now(&mut io);
        }
        if let Some(err) = io.output.end {
            return failed(err);
        }
        if io.closed {
            return failed(IoError::Closed);
        }
        if io.output.queue.len() <= mark {
            return done();
        }
        // Without any time of its own the stream does not wait.
        let left = left.or((self.waiting.send_timeout.get() == 0).then_some(0));
        self.waiting.for_room(r, again, left, io.output.last_out)
    }

    /// Bytes that were sent and not yet taken by the kernel.
    pub fn buffered(&self) -> usize {
        self.io.borrow().output.queue.len()
    }

    /// Bytes received and sent so far.
    pub fn moved(&self) -> (u64, u64) {
        let io = self.io.borrow();
        (io.received, io.output.sent)
    }

    /// Ends one or both directions; what was sent before still goes out. The stream stays ours.
    pub fn shut_down(&self, side: Direction) {
        let mut io = self.io.borrow_mut();
        if io.closed {
            return;
        }
        if side != Direction::Write {
            io.read_end.get_or_insert(IoError::Closed);
            io.inbox.take_all();
            self.waiting.reader.wake_all();
        }
        if side != Direction::Read {
            io.end_output = true;
            self.flush_now(&mut io);
        }
    }

    /// Closes the stream for Lua. What was sent goes out in the background, for as long as the
    /// peer reads; `now` gives up what the kernel does not take at once.
    pub fn close(self: &Rc<Self>, now: bool) {
        let mut io = self.io.borrow_mut();
        if io.closed {
            return;
        }
        io.closed = true;
        io.inbox = Inbox::default();
        self.flush_now(&mut io);
        let pending = self.has_pending(&io);
        if io.output.end.is_some() || (pending && now) {
            self.socket.close();
        } else if pending {
            io.draining = Some(self.clone());
            self.socket.set_timer(self.waiting.send_timeout.get().min(DRAIN_MS), true);
        } else {
            self.socket.close_gently();
        }
        drop(io);
        self.waiting.wake_all();
    }

    fn has_pending(&self, io: &State) -> bool {
        io.output.has_pending(self.socket.io())
    }

    /// Reads once from the socket. False: nothing is there now.
    fn fill(&self, io: &mut State) -> bool {
        if !self.socket.read_ready() {
            return false;
        }
        let got = worker::lend(|buffer| {
            let got = self.socket.recv(buffer);
            if let Recv::Data(n) = got {
                io.inbox.append(&buffer[..n])?;
                io.received += n as u64;
            }
            Ok::<_, NoMemory>(got)
        });
        let Ok(Ok(got)) = got else {
            io.read_end = Some(IoError::NoMemory);
            return true;
        };
        match got {
            Recv::Data(_) => true,
            Recv::Again => false,
            Recv::Eof => {
                io.read_end = Some(IoError::Closed);
                true
            }
            Recv::Failed(errno) => {
                io.read_end = Some(IoError::from_errno(errno));
                true
            }
        }
    }

    /// Sends as much as the kernel takes.
    fn flush_now(&self, io: &mut State) {
        if self.socket.is_shaking() {
            return;
        }
        let pending = send(&mut io.output, &self.socket, Some(&self.waiting));
        if !pending && io.end_output && io.output.end.is_none() {
            io.output.end = Some(IoError::Closed);
            self.socket.end_output();
        }
    }

    /// The last output is sent, or will never be.
    fn release(&self, sent: bool) {
        let own = self.io.borrow_mut().draining.take();
        if own.is_some() {
            if sent {
                self.socket.close_gently();
            } else {
                self.socket.close();
            }
        }
    }
}

fn done() -> Wait<Result<(), IoError>> {
    Wait::Ready(Ok(()))
}

fn failed(err: IoError) -> Wait<Result<(), IoError>> {
    Wait::Ready(Err(err))
}

impl Events for Stream {
    fn socket(&self) -> &Accepted {
        &self.socket
    }

    fn readable(&self) {
        if self.io.borrow().draining.is_none() {
            // Nothing is read while nobody asks: TCP slows the peer down.
            self.waiting.reader.wake_all();
        }
    }

    fn flush(&self) {
        let mut io = self.io.borrow_mut();
        self.flush_now(&mut io);
        if io.draining.is_none() {
            return;
        }
        let (pending, failed) = (self.has_pending(&io), io.output.end.is_some());
        if pending {
            self.socket.set_timer(self.waiting.send_timeout.get().min(DRAIN_MS), true);
        }
        drop(io);
        if !pending {
            self.release(!failed);
        }
    }

    fn timer(&self) {
        self.release(false);
    }

    fn dropped(&self) {
        let mut io = self.io.borrow_mut();
        io.read_end = Some(IoError::Closed);
        io.output.end = Some(IoError::Closed);
        io.output.queue.clear();
        drop(io);
        self.release(false);
        self.waiting.wake_all();
    }
}
