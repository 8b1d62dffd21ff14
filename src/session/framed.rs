//! One side of a conversation in single frames, fragments kept, with the protocol kept as well:
//! pings are answered, frames judged, the close handshake is noticed. Somebody else carries the
//! bytes: the Lua shim feeds what came and sends what this queues. No I/O here.

use std::collections::VecDeque;

use ws_proto::header::{self, Head};
use ws_proto::{close, opcode, Conn, Error, Event, FrameCheck, Masking, Payload, Settings, Style};

use super::dialogue::{Role, MAX_REASON};
use super::outbox::Outbox;
use super::random::masking_key;
use super::stats::{self, Counter, Tally};

/// Frames kept for a reader that does not come; then nothing more is read into frames.
const QUEUE_FRAMES: usize = 64;
/// The same in bytes. A single larger frame is kept all the same.
const QUEUE_BYTES: usize = 64 * 1024;

/// A data frame.
#[derive(Debug)]
pub struct Frame {
    /// The last fragment of its message.
    pub fin: bool,
    /// One of `ws_proto::opcode`, no control frame.
    pub opcode: u8,
    /// The payload, unmasked.
    pub data: Vec<u8>,
}

/// A frame that broke a rule.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The rule.
    pub error: Error,
    /// The frame's head.
    pub head: Head,
    /// Its length, where that was the fault.
    pub len: usize,
}

/// How a conversation ended.
#[derive(Clone, Copy, Debug)]
pub enum Over {
    /// The peer's close frame came, with this code (1005: none).
    Closed(u16),
    /// The peer broke a rule.
    Broken(Fault),
    /// The transport ended.
    Lost,
}

/// A judge of frames that are handed out one by one: sizes are the reader's business.
pub fn frame_check() -> FrameCheck {
    FrameCheck::new(u64::MAX, u32::MAX)
}

/// Whether a frame may come now.
pub fn check_frame(check: &mut FrameCheck, fin: bool, op: u8, payload: &[u8]) -> Result<(), Error> {
    match op {
        opcode::CLOSE => close::validate_strict(payload).map(|_| ()),
        _ if opcode::is_control(op) => Ok(()),
        _ => check.data(op, fin, payload),
    }
}

/// A conversation.
///
/// Owned by one Lua userdata; it knows neither the socket nor the request, so it may outlive both.
/// It counts as an open connection from its making to its end, at the latest its drop.
pub struct Framed {
    role: Role,
    conn: Conn,
    check: FrameCheck,
    /// Received while the queue was full.
    stash: Vec<u8>,
    /// Found behind frames that still wait: it counts once they are taken.
    fault: Option<Fault>,
    queue: VecDeque<Frame>,
    queued: usize,
    outbox: Outbox,
    close_sent: bool,
    over: Option<Over>,
    pongs: u64,
    tally: Tally,
    counted: bool,
}

impl Framed {
    /// A conversation right after the opening handshake. `max_frame`: longest payload of a frame.
    pub fn new(role: Role, max_frame: u64) -> Framed {
        let masking = match role {
            Role::Server => Masking::Required,
            Role::Client => Masking::Forbidden,
        };
        // The last two count in message style only.
        let settings = Settings {
            style: Style::Frames,
            masking,
            max_frame,
            max_message: max_frame,
            max_fragments: 1,
        };
        if role == Role::Server {
            stats::opened();
        }
        Framed {
            role,
            conn: Conn::new(settings),
            check: frame_check(),
            stash: Vec::new(),
            fault: None,
            queue: VecDeque::new(),
            queued: 0,
            outbox: Outbox::default(),
            close_sent: false,
            over: None,
            pongs: 0,
            tally: Tally::default(),
            counted: role == Role::Server,
        }
    }

    /// Takes bytes that the socket received.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.stash.extend_from_slice(bytes);
        self.scan();
    }

    /// The oldest frame not taken yet; Err: a fault comes next, and the caller closes then. None:
    /// nothing has come, or nothing more will (`over`).
    pub fn take(&mut self) -> Option<Result<Frame, Fault>> {
        let Some(frame) = self.queue.pop_front() else {
            let fault = self.fault.take()?;
            stats::add(Counter::protocol_error(fault.error.rule()), 1);
            self.end(Over::Broken(fault));
            return Some(Err(fault));
        };
        self.queued -= frame.data.len();
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        if !self.stash.is_empty() {
            self.scan();
        }
        Some(Ok(frame))
    }

    /// Whether nothing more is read into frames until some are taken.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= QUEUE_FRAMES || self.queued >= QUEUE_BYTES
    }

    fn scan(&mut self) {
        let mut bytes = std::mem::take(&mut self.stash);
        let mut input = &mut bytes[..];
        while !input.is_empty() && !self.is_over() && !self.is_full() {
            let (error, head, len) = match self.conn.feed(&mut input) {
                Ok(None) => continue,
                Ok(Some(Event::Frame { fin, opcode, payload })) => {
                    match check_frame(&mut self.check, fin, opcode, payload.as_ref()) {
                        Ok(()) => {
                            self.arrived(fin, opcode, payload);
                            continue;
                        }
                        Err(error) => {
                            (error, Head { fin, opcode, ..Head::default() }, payload.len())
                        }
                    }
                }
                Ok(Some(_)) => unreachable!("a codec in frame style finds frames only"),
                Err(error) => {
                    let (head, len) = self.conn.refused();
                    (error, head, len)
                }
            };
            self.fault = Some(Fault { error, head, len });
        }
        let left = input.len();
        if !self.is_over() && left > 0 {
            bytes.drain(..bytes.len() - left);
            self.stash = bytes;
        }
    }

    /// Whether what still comes is of no meaning.
    pub fn is_over(&self) -> bool {
        self.over.is_some() || self.fault.is_some()
    }

    fn arrived(&mut self, fin: bool, op: u8, payload: Payload<'_>) {
        match op {
            opcode::PING => {
                // A peer that pings and never reads gets no more pongs than fit.
                if !self.close_sent && self.outbox.len() < QUEUE_BYTES {
                    self.push(true, opcode::PONG, payload.as_ref());
                }
            }
            opcode::PONG => self.pongs += 1,
            opcode::CLOSE => {
                let code = close::parse(payload.as_ref()).ok().and_then(|(code, _)| code);
                self.end(Over::Closed(code.unwrap_or(1005)));
            }
            _ => {
                self.tally.message_in(payload.len());
                let data = match payload {
                    Payload::Slice(bytes) => bytes.to_vec(),
                    Payload::Owned(bytes) => bytes,
                };
                self.queued += data.len();
                self.queue.push_back(Frame { fin, opcode: op, data });
            }
        }
    }

    /// Queues a data frame. Returns its bytes on the wire; None: a close frame was sent.
    pub fn send(&mut self, fin: bool, op: u8, data: &[u8]) -> Option<usize> {
        if self.close_sent {
            return None;
        }
        self.tally.message_out(data.len());
        Some(self.push(fin, op, data))
    }

    /// Queues a ping.
    pub fn ping(&mut self) {
        if !self.close_sent {
            stats::add(Counter::PingsSent, 1);
            self.push(true, opcode::PING, &[]);
        }
    }

    /// How many pongs have come.
    pub fn pongs(&self) -> u64 {
        self.pongs
    }

    /// Queues a close frame, once; false where one was sent before. A reason that is too long for
    /// a control frame is cut.
    pub fn close(&mut self, code: Option<u16>, reason: &[u8]) -> bool {
        if self.close_sent {
            return false;
        }
        let mut end = reason.len().min(MAX_REASON);
        while end < reason.len() && end > 0 && reason[end] & 0xC0 == 0x80 {
            end -= 1;
        }
        self.push(true, opcode::CLOSE, &close::encode(code, &reason[..end]));
        self.close_sent = true;
        true
    }

    /// Whether a close frame was queued.
    pub fn is_closing(&self) -> bool {
        self.close_sent
    }

    /// What is to be sent now, if anything.
    pub fn output(&mut self) -> Option<Vec<u8>> {
        (!self.outbox.is_empty()).then(|| self.outbox.take_all())
    }

    /// How the conversation ended; frames that came before may still wait.
    pub fn over(&self) -> Option<Over> {
        self.over
    }

    /// Ends the conversation, unless it has ended.
    pub fn end(&mut self, over: Over) {
        self.over.get_or_insert(over);
        self.uncount();
    }

    fn uncount(&mut self) {
        if std::mem::take(&mut self.counted) {
            stats::closed(match self.over {
                Some(Over::Closed(code)) => code,
                Some(Over::Broken(fault)) => fault.error.close_code(),
                _ => 1006,
            });
        }
    }

    fn push(&mut self, fin: bool, op: u8, payload: &[u8]) -> usize {
        let key = (self.role == Role::Client).then(masking_key);
        let head = header::encode(fin, 0, op, payload.len() as u64, key);
        self.outbox.push(head.as_ref(), payload, key);
        head.as_ref().len() + payload.len()
    }
}

impl Drop for Framed {
    fn drop(&mut self) {
        self.uncount();
    }
}
