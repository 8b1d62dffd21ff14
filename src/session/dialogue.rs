//! A conversation in whole messages, without I/O: what came, what has to be answered, how it ends
//! (RFC 6455 5.5, 7.1). A server's session and a client's peer each own one and move its bytes.

use std::collections::VecDeque;

use bytes::Bytes;
use ws_proto::ext::Encoder;
use ws_proto::utf8::{self, Validator};
use ws_proto::{close, header, opcode, Event, Payload};

use super::outbox::Outbox;
use super::outgoing::{Outgoing, WINDOW_BITS};
use super::random::masking_key;
use super::stats::Tally;
use super::IoError;

/// Messages kept for a reader that does not come; then reading stops and TCP slows the peer down.
const INBOX_MESSAGES: usize = 64;
/// The same in bytes. A single larger message is kept all the same.
const INBOX_BYTES: usize = 64 * 1024;
/// Longest reason of a close frame: a control frame has 125 bytes, the code takes 2.
pub const MAX_REASON: usize = 123;

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends unmasked.
    Server,
    /// Sends masked.
    Client,
}

/// A received message.
#[derive(Debug)]
pub struct Message {
    /// Text (valid UTF-8), or binary.
    pub text: bool,
    /// All fragments, inflated.
    pub data: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer sent its close frame.
    Closed {
        /// 1005 where the frame had none (RFC 6455 7.4.1).
        code: u16,
        /// The peer's words.
        reason: Vec<u8>,
    },
    /// The peer broke a rule; the close frame that says so was sent.
    Broken(ws_proto::Error),
    /// The transport ended without a close frame.
    Lost(IoError),
    /// Nothing came after a ping.
    PingTimeout,
    /// Too much was waiting for a peer that does not read; the close frame was queued.
    SlowConsumer,
    /// This side closed, without waiting for the peer's answer: its worker is going away, or
    /// somebody elsewhere closed the connection by its id.
    Ended {
        /// The code sent.
        code: u16,
        /// The reason sent.
        reason: Vec<u8>,
    },
    /// Dropped by this side.
    Dropped,
}

impl End {
    /// The text `recv` returns.
    pub fn text(&self) -> String {
        match self {
            End::Closed { .. } | End::Ended { .. } | End::Dropped => "closed".to_string(),
            End::SlowConsumer => "slow consumer".to_string(),
            End::Broken(err) => err.to_string(),
            End::Lost(IoError::Closed) => "connection lost".to_string(),
            End::Lost(err) => format!("connection lost: {err}"),
            End::PingTimeout => "ping timeout".to_string(),
        }
    }

    /// The close code that describes the end (RFC 6455 7.1.5).
    pub fn code(&self) -> u16 {
        match self {
            End::Closed { code, .. } | End::Ended { code, .. } => *code,
            End::SlowConsumer => 1013,
            End::Broken(err) => err.close_code(),
            End::Lost(_) | End::PingTimeout | End::Dropped => 1006,
        }
    }

    /// The reason that goes with it.
    pub fn reason(&self) -> Vec<u8> {
        match self {
            End::Closed { reason, .. } | End::Ended { reason, .. } => reason.clone(),
            other => other.text().into_bytes(),
        }
    }
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The connection is closed or closing.
    Closed,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// A `send_stream` is open: messages cannot interleave.
    StreamOpen,
    /// The stream was finished, or never opened.
    NoStream,
    /// The transport failed.
    Io(IoError),
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SendError::Closed => f.write_str("closed"),
            SendError::InvalidUtf8 => f.write_str("invalid utf-8"),
            SendError::StreamOpen => f.write_str("a stream is being sent"),
            SendError::NoStream => f.write_str("stream finished"),
            SendError::Io(err) => err.fmt(f),
        }
    }
}

impl std::error::Error for SendError {}

/// The message being sent in fragments.
struct Stream {
    opcode: u8,
    started: bool,
    utf8: Option<Validator>,
}

/// An end found behind messages that nobody has taken yet. It is put off, so that what came before
/// it can be answered before our close frame: the peer sent it in that order.
enum Ending {
    Closed { code: Option<u16>, reason: Vec<u8> },
    Broken(ws_proto::Error),
}

/// State of one conversation. Owned by the session or peer; holds no memory of its own while idle.
pub struct Dialogue {
    role: Role,
    inbox: VecDeque<Message>,
    inbox_bytes: usize,
    close_sent: bool,
    end: Option<End>,
    ending: Option<Ending>,
    /// Whether what comes after our own close frame is handed out too.
    late: bool,
    stream: Option<Stream>,
    /// Shared frames that came while a stream was open: messages cannot interleave.
    deferred: Vec<Bytes>,
    encoder: Option<Encoder>,
    /// Counts of this connection.
    pub tally: Tally,
}

impl Dialogue {
    /// A conversation right after the opening handshake.
    pub fn new(role: Role, encoder: Option<Encoder>) -> Dialogue {
        Dialogue {
            role,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            close_sent: false,
            end: None,
            ending: None,
            late: false,
            stream: None,
            deferred: Vec::new(),
            encoder,
            tally: Tally::default(),
        }
    }

    /// Hands out what comes between our close frame and the peer's.
    pub fn hear_out(&mut self) {
        self.late = true;
    }

    /// Nothing more will be sent: gives back what compressing took.
    pub fn free_encoder(&mut self) {
        self.encoder = None;
    }

    /// Whether no more should be read until messages are taken.
    pub fn is_full(&self) -> bool {
        self.inbox.len() >= INBOX_MESSAGES
            || self.inbox_bytes >= INBOX_BYTES
            || self.ending.is_some()
    }

    /// Whether the end has been found and put off; `settle` carries it out.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// The oldest message not taken yet.
    pub fn pop(&mut self) -> Option<Message> {
        let message = self.inbox.pop_front()?;
        self.inbox_bytes -= message.data.len();
        if self.inbox.is_empty() {
            self.inbox = VecDeque::new();
        }
        Some(message)
    }

    /// Whether a message waits to be taken.
    pub fn has_messages(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// How it ended, if it did.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Whether our close frame is on its way or sent.
    pub fn is_closing(&self) -> bool {
        self.close_sent
    }

    /// Takes what the codec found, and queues what must be answered.
    pub fn absorb(&mut self, event: Event<'_>, out: &mut Outbox, room: bool) {
        match event {
            Event::Message { text, payload } => {
                self.tally.message_in(payload.len());
                // What comes after our own close frame is read only to find the peer's, as a rule.
                if !self.close_sent || self.late {
                    let data = match payload {
                        Payload::Slice(bytes) => bytes.to_vec(),
                        Payload::Owned(bytes) => bytes,
                    };
                    self.inbox_bytes += data.len();
                    self.inbox.push_back(Message { text, data });
                }
            }
            // A peer that pings and never reads gets no more pongs than fit (RFC 6455 5.5.3 asks
            // for an answer to the latest ping only).
            Event::Ping(payload) if room && !self.close_sent => {
                self.frame(out, opcode::PONG, payload.as_ref());
            }
            Event::Ping(_) | Event::Pong(_) => {}
            Event::Close { code, reason } => self.closed(code, reason.as_ref(), out),
            // A drop-in object that closes in the middle of a message still reads frames.
            Event::Frame { opcode: opcode::CLOSE, payload, .. } => {
                let (code, reason) = close::parse(payload.as_ref()).unwrap_or((None, &[]));
                self.closed(code, reason, out);
            }
            Event::Frame { .. } => {}
        }
    }

    /// The peer's close frame came.
    fn closed(&mut self, code: Option<u16>, reason: &[u8], out: &mut Outbox) {
        self.end_by(Ending::Closed { code, reason: reason.to_vec() }, out);
    }

    /// The peer broke a rule: tells it why, and ends.
    pub fn fail(&mut self, err: ws_proto::Error, out: &mut Outbox) {
        self.end_by(Ending::Broken(err), out);
    }

    fn end_by(&mut self, ending: Ending, out: &mut Outbox) {
        self.ending.get_or_insert(ending);
        if self.inbox.is_empty() || self.close_sent {
            self.settle(out);
        }
    }

    /// Carries out an end that was put off: queues our close frame if it is not sent yet.
    pub fn settle(&mut self, out: &mut Outbox) {
        let Some(ending) = self.ending.take() else { return };
        let (end, answer) = match ending {
            // The answer carries the peer's code (RFC 6455 5.5.1).
            Ending::Closed { code, reason } => {
                let end = End::Closed { code: code.unwrap_or(1005), reason };
                (end, close::encode(code, &[]))
            }
            Ending::Broken(err) => {
                let text = err.to_string();
                (End::Broken(err), close::encode(Some(err.close_code()), text.as_bytes()))
            }
        };
        if !self.close_sent && self.end.is_none() {
            self.frame(out, opcode::CLOSE, &answer);
            self.close_sent = true;
        }
        self.end.get_or_insert(end);
    }

    /// Ends without a word.
    pub fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// Queues a close frame, once. Without a code it is empty.
    pub fn close(&mut self, code: Option<u16>, reason: &[u8], out: &mut Outbox) {
        if !self.close_sent && self.end.is_none() {
            self.frame(out, opcode::CLOSE, &close::encode(code, reason));
            self.close_sent = true;
        }
    }

    /// Queues a ping or pong of at most 125 bytes. Returns the frame's bytes.
    pub fn control(&mut self, op: u8, data: &[u8], out: &mut Outbox) -> Result<usize, SendError> {
        self.check_open()?;
        Ok(self.frame(out, op, data))
    }

    /// Queues a whole message, compressed where that was agreed and pays. Returns its bytes on
    /// the wire.
    pub fn send(&mut self, text: bool, data: &[u8], out: &mut Outbox) -> Result<usize, SendError> {
        let op = self.admit(text, data)?;
        if let Some(encoder) = &mut self.encoder {
            let mut packed = Vec::new();
            if encoder.encode(data, &mut packed) {
                self.tally.compressed(data.len(), packed.len());
                return Ok(self.push(out, true, RSV1, op, &packed));
            }
        }
        Ok(self.push(out, true, 0, op, data))
    }

    /// The header of a whole message that the caller sends by itself, from where it lies. None
    /// where the payload has to be changed on its way (masked, compressed): then call `send`.
    pub fn send_head(
        &mut self,
        text: bool,
        data: &[u8],
    ) -> Result<Option<header::Encoded>, SendError> {
        if self.role == Role::Client || self.encoder.is_some() {
            return Ok(None);
        }
        let op = self.admit(text, data)?;
        Ok(Some(header::encode(true, 0, op, data.len() as u64, None)))
    }

    /// The opcode of a whole message that goes out as it is, if it may be sent and needs nothing
    /// but that. The caller counts it.
    #[inline]
    pub fn plain(&self, text: bool, data: &[u8]) -> Option<u8> {
        let plain = self.role == Role::Server
            && self.encoder.is_none()
            && self.stream.is_none()
            && self.check_open().is_ok()
            && (!text || utf8::is_valid(data));
        plain.then_some(if text { opcode::TEXT } else { opcode::BINARY })
    }

    /// Whether this message may be sent now. Counts it, and returns its opcode.
    fn admit(&mut self, text: bool, data: &[u8]) -> Result<u8, SendError> {
        self.check_open()?;
        if self.stream.is_some() {
            return Err(SendError::StreamOpen);
        }
        if text {
            let mut utf8 = Validator::new();
            utf8.push(data).and_then(|()| utf8.finish()).map_err(|_| SendError::InvalidUtf8)?;
        }
        self.tally.message_out(data.len());
        Ok(if text { opcode::TEXT } else { opcode::BINARY })
    }

    /// Opens a message that is sent in fragments.
    pub fn open_stream(&mut self, text: bool) -> Result<(), SendError> {
        self.check_open()?;
        if self.stream.is_some() {
            return Err(SendError::StreamOpen);
        }
        self.stream = Some(Stream {
            opcode: if text { opcode::TEXT } else { opcode::BINARY },
            started: false,
            utf8: text.then(Validator::new),
        });
        Ok(())
    }

    /// Queues one fragment. Text that cannot become valid is refused before it is sent.
    pub fn write_stream(&mut self, data: &[u8], out: &mut Outbox) -> Result<usize, SendError> {
        self.check_open()?;
        let stream = self.stream.as_mut().ok_or(SendError::NoStream)?;
        if let Some(utf8) = &mut stream.utf8 {
            let mut ahead = utf8.clone();
            ahead.push(data).map_err(|_| SendError::InvalidUtf8)?;
            *utf8 = ahead;
        }
        let op = if stream.started { opcode::CONTINUATION } else { stream.opcode };
        stream.started = true;
        self.tally.bytes_out += data.len() as u64;
        Ok(self.push(out, false, 0, op, data))
    }

    /// Queues the last, empty fragment.
    pub fn finish_stream(&mut self, out: &mut Outbox) -> Result<usize, SendError> {
        self.check_open()?;
        let stream = self.stream.as_ref().ok_or(SendError::NoStream)?;
        if stream.utf8.as_ref().is_some_and(|utf8| utf8.finish().is_err()) {
            return Err(SendError::InvalidUtf8);
        }
        let op = if stream.started { opcode::CONTINUATION } else { stream.opcode };
        self.stream = None;
        self.tally.message_out(0);
        let bytes = self.push(out, true, 0, op, &[]);
        for frame in std::mem::take(&mut self.deferred) {
            out.push_shared(&frame);
        }
        Ok(bytes)
    }

    /// Queues a message that goes to many. Returns false, and queues nothing, where more than
    /// `cap` bytes would wait then; where nothing waits, a message of any size is taken (it is
    /// shared, not copied).
    pub fn share(&mut self, message: &Outgoing<'_>, cap: usize, out: &mut Outbox) -> bool {
        let waiting = out.len() + self.deferred.iter().map(Bytes::len).sum::<usize>();
        let packed = match &mut self.encoder {
            Some(encoder) if encoder.window_bits() >= WINDOW_BITS => message.packed(),
            _ => None,
        };
        let frame = packed.unwrap_or_else(|| message.plain());
        if waiting > 0 && waiting + frame.len() > cap {
            return false;
        }
        if let (Some(encoder), Some(_)) = (&mut self.encoder, packed) {
            // The peer's window has moved on without this encoder.
            encoder.sent_elsewhere();
            self.tally.compressed(message.len(), frame.len());
        }
        self.tally.message_out(message.len());
        if self.stream.is_some() {
            self.deferred.push(frame.clone());
        } else {
            out.push_shared(frame);
        }
        true
    }

    /// Queues a frame as it is asked for: fragments may come in any order, text is not looked at.
    pub fn raw(
        &mut self,
        fin: bool,
        op: u8,
        data: &[u8],
        out: &mut Outbox,
    ) -> Result<usize, SendError> {
        self.check_open()?;
        if opcode::is_control(op) {
            self.close_sent = op == opcode::CLOSE;
        } else if fin {
            self.tally.message_out(data.len());
        } else {
            self.tally.bytes_out += data.len() as u64;
        }
        Ok(self.push(out, fin, 0, op, data))
    }

    fn check_open(&self) -> Result<(), SendError> {
        if self.close_sent || self.end.is_some() {
            Err(SendError::Closed)
        } else {
            Ok(())
        }
    }

    fn frame(&self, out: &mut Outbox, op: u8, payload: &[u8]) -> usize {
        self.push(out, true, 0, op, payload)
    }

    fn push(&self, out: &mut Outbox, fin: bool, rsv: u8, op: u8, payload: &[u8]) -> usize {
        let key = (self.role == Role::Client).then(masking_key);
        let head = header::encode(fin, rsv, op, payload.len() as u64, key);
        out.push(head.as_ref(), payload, key);
        head.as_ref().len() + payload.len()
    }
}

/// Set on the first frame of a compressed message (RFC 7692 6).
const RSV1: u8 = 0x40;
