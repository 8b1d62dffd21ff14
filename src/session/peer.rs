//! One side of a conversation in whole messages whose bytes somebody else carries: a client's
//! cosocket, a connection of a listener. The Lua shim feeds what came and sends what this queues.
//! What is there already it may also read, and send, past a cosocket.

use ws_proto::ext::{self, Agreed, Encoder};
use ws_proto::{opcode, Conn, Event, Masking, Settings, Style};

use super::dialogue::{Dialogue, End, Message, Role, SendError};
use super::heartbeat::{Beat, Heartbeat};
use super::intake::DIRECT_READ;
use super::outbox::Outbox;
use super::scratch;
use super::stats::{self, Counter};
use super::IoError;
use crate::ngx::clock::now_ms;
use crate::ngx::cosocket::Cosocket;
use crate::ngx::wire::Recv;

/// What a peer is opened with. Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// Our end.
    pub role: Role,
    /// What is expected of the other end's frames.
    pub masking: Masking,
    /// Longest payload of a received frame.
    pub max_frame: u64,
    /// Longest received message.
    pub max_message: u64,
    /// See `Options::heartbeat` of a session.
    pub heartbeat: Option<(u64, u64)>,
    /// The agreed compression.
    pub deflate: Option<Agreed>,
}

/// Where a conversation stands.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// A message waits to be taken.
    pub has_messages: bool,
    /// Nothing more is to be read until messages are taken.
    pub is_full: bool,
    /// Nothing more will come.
    pub is_over: bool,
}

/// A conversation.
///
/// Owned by one Lua userdata; it knows neither the socket nor the request, so it may outlive both.
pub struct Peer {
    conn: Conn,
    dialogue: Dialogue,
    outbox: Outbox,
    heartbeat: Option<Heartbeat>,
    last_in: u64,
}

impl Peer {
    /// A conversation right after the opening handshake.
    pub fn new(options: PeerOptions) -> Peer {
        let settings = Settings {
            style: Style::Messages,
            masking: options.masking,
            max_frame: options.max_frame,
            max_message: options.max_message,
            max_fragments: super::server::MAX_FRAGMENTS,
        };
        let side = match options.role {
            Role::Client => ext::Role::Client,
            Role::Server => ext::Role::Server,
        };
        let (conn, encoder) = match &options.deflate {
            Some(agreed) => {
                (Conn::with_deflate(settings, agreed, side), Some(Encoder::new(agreed, side)))
            }
            None => (Conn::new(settings), None),
        };
        Peer {
            conn,
            dialogue: Dialogue::new(options.role, encoder),
            outbox: Outbox::default(),
            heartbeat: options
                .heartbeat
                .map(|(interval, timeout)| Heartbeat::new(interval.max(1), timeout)),
            last_in: now_ms(),
        }
    }

    /// Hands out what comes between our close frame and the peer's, which is dropped otherwise.
    pub fn hear_out(&mut self) {
        self.dialogue.hear_out();
    }

    /// What a reader and a sender have to know.
    pub fn status(&self) -> Status {
        Status {
            has_messages: self.dialogue.has_messages(),
            is_full: self.dialogue.is_full(),
            is_over: self.dialogue.end().is_some() || self.dialogue.is_ending(),
        }
    }

    /// Takes bytes that the socket received. Returns the rule they broke.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ws_proto::Error> {
        scratch::lend(|buffer| {
            for piece in bytes.chunks(scratch::SIZE) {
                let copy = &mut buffer[..piece.len()];
                copy.copy_from_slice(piece);
                self.run(copy)?;
            }
            Ok(())
        })
    }

    /// Reads past the cosocket what is there, until a message is whole. Only right after bytes that
    /// its `receiveany` returned were fed, less than it had been asked for: then no others wait in
    /// its buffer. The end and errors are left to the cosocket's next read.
    pub fn receive(&mut self, socket: &Cosocket) -> Result<(), ws_proto::Error> {
        let mut result = Ok(());
        while result.is_ok() && socket.read_ready() {
            let status = self.status();
            if status.has_messages || status.is_over {
                break;
            }
            let body = self.conn.body_room().filter(|(_, missing)| *missing >= DIRECT_READ);
            if let Some((body, missing)) = body {
                let Recv::Data(n) = socket.recv_into(body, missing) else { break };
                self.last_in = now_ms();
                let event = self.conn.body_filled(n);
                result = self.absorbed(event);
            } else {
                let came = scratch::lend(|buffer| match socket.recv(buffer) {
                    Recv::Data(n) => Some(self.run(&mut buffer[..n])),
                    _ => None,
                });
                let Some(done) = came else { break };
                result = done;
            }
        }
        socket.done_reading();
        result
    }

    /// Takes what the codec made of bytes.
    fn absorbed(
        &mut self,
        event: Result<Option<Event<'_>>, ws_proto::Error>,
    ) -> Result<(), ws_proto::Error> {
        match event {
            Ok(Some(event)) => self.dialogue.absorb(event, &mut self.outbox, true),
            Ok(None) => {}
            Err(err) => {
                stats::add(Counter::protocol_error(err.rule()), 1);
                self.dialogue.fail(err, &mut self.outbox);
                return Err(err);
            }
        }
        Ok(())
    }

    fn run(&mut self, bytes: &mut [u8]) -> Result<(), ws_proto::Error> {
        self.last_in = now_ms();
        let mut input = bytes;
        // Nothing that follows the end of a conversation means anything (RFC 6455 5.5.1).
        while !input.is_empty() && self.dialogue.end().is_none() && !self.dialogue.is_ending() {
            let event = self.conn.feed(&mut input);
            self.absorbed(event)?;
        }
        Ok(())
    }

    /// The socket ended or failed.
    pub fn lost(&mut self, err: IoError) {
        self.dialogue.finish(End::Lost(err));
    }

    /// The oldest message: whether it is text, and its bytes.
    pub fn take(&mut self) -> Option<(bool, Vec<u8>)> {
        let Some(Message { text, data }) = self.dialogue.pop() else {
            self.dialogue.settle(&mut self.outbox);
            return None;
        };
        Some((text, data))
    }

    /// Sends past the cosocket what the kernel takes; it must allow that (`may_send`). An error, as
    /// errno, is found by the cosocket's own send too.
    pub fn offer(&mut self, socket: &Cosocket) -> Result<(), i32> {
        self.outbox.offer(|part| socket.offer(part))
    }

    /// What is to be sent now, if anything.
    pub fn output(&mut self) -> Option<Vec<u8>> {
        (!self.outbox.is_empty()).then(|| self.outbox.take_all())
    }

    /// What the heartbeat wants: how long a read may wait before this is to be asked again, after
    /// queueing a ping where one is due. None: no heartbeat. The end is set when the peer is dead.
    pub fn beat(&mut self) -> Option<u64> {
        let heartbeat = self.heartbeat.as_mut()?;
        match heartbeat.beat(now_ms(), self.last_in) {
            Beat::Wait(ms) => Some(ms),
            Beat::Ping(ms) => {
                if self.dialogue.control(opcode::PING, &[], &mut self.outbox).is_ok() {
                    stats::add(Counter::PingsSent, 1);
                }
                Some(ms)
            }
            Beat::Dead => {
                stats::add(Counter::PingTimeouts, 1);
                self.dialogue.finish(End::PingTimeout);
                None
            }
        }
    }

    /// How the conversation ended.
    pub fn end(&self) -> Option<&End> {
        self.dialogue.end()
    }

    /// Whether it ended by anybody's fault: a broken rule, a failed transport.
    pub fn failed(&self) -> bool {
        let good = |end: &End| {
            matches!(end, End::Closed { .. } | End::Ended { .. } | End::Dropped)
                || *end == End::Lost(IoError::Closed)
        };
        !self.end().is_none_or(good)
    }

    /// Whether our close frame was queued.
    pub fn is_closing(&self) -> bool {
        self.dialogue.is_closing()
    }

    /// Bytes queued and not yet given to the socket.
    pub fn buffered(&self) -> usize {
        self.outbox.len()
    }

    /// Whether nothing is half received and no message waits to be taken.
    pub fn is_between(&mut self) -> bool {
        !self.dialogue.has_messages() && self.conn.set_style(Style::Messages)
    }

    /// Ends without a word.
    pub fn drop_now(&mut self) {
        self.dialogue.finish(End::Dropped);
        self.outbox.clear();
    }

    /// Queues a close frame, once.
    pub fn close(&mut self, code: Option<u16>, reason: &[u8]) {
        self.dialogue.close(code, reason, &mut self.outbox);
    }

    /// Runs one of `Dialogue`'s sending calls. Returns the bytes queued.
    pub fn write(
        &mut self,
        send: impl FnOnce(&mut Dialogue, &mut Outbox) -> Result<usize, SendError>,
    ) -> Result<usize, SendError> {
        send(&mut self.dialogue, &mut self.outbox)
    }
}
