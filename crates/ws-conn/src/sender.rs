//! The sending half of a connection: messages and frames become bytes in the outbox. Whether sending
//! is allowed at all is for `dialogue` to say.

use bytes::Bytes;
use ws_proto::ext::Encoder;
use ws_proto::utf8::{self, Validator};
use ws_proto::{header, opcode, Role};

use crate::host::{Counted, Host};
use crate::pool::{self, NoMemory};
use crate::shared::WINDOW_BITS;
use crate::{Outbox, SendError, Shared};

/// The message being sent in fragments.
#[derive(Debug)]
struct Fragmented {
    opcode: u8,
    started: bool,
    utf8: Option<Validator>,
}

/// What is there only while it is used.
#[derive(Debug, Default)]
struct Rare {
    stream: Option<Fragmented>,
    /// Shared frames that came while a stream was open: messages cannot interleave.
    deferred: Vec<Bytes>,
    /// The latest ping that had to wait for its pong.
    ping: Option<Vec<u8>>,
    /// The latest ping that the owner has not been shown.
    unseen: Option<Vec<u8>>,
}

/// Owned by one connection.
#[derive(Debug)]
pub(crate) struct Sender {
    role: Role,
    pub outbox: Outbox,
    encoder: Option<Box<dyn Encoder>>,
    rare: Option<Box<Rare>>,
}

/// Whether a peer that so many bytes wait for is too slow for a frame that goes to many: more than
/// `mark` would wait then. Where nothing waits, one of any size goes.
pub(crate) fn is_slow(waiting: usize, frame: usize, mark: usize) -> bool {
    waiting > 0 && waiting + frame > mark
}

impl Sender {
    pub fn new(role: Role, encoder: Option<Box<dyn Encoder>>) -> Sender {
        Sender { role, outbox: Outbox::default(), encoder, rare: None }
    }

    /// Nothing more will be sent: gives back what compressing took.
    pub fn free_encoder(&mut self) {
        self.encoder = None;
    }

    /// Whether a message in fragments is under way.
    pub fn is_streaming(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.stream.is_some())
    }

    /// Whether an unmasked message goes out as it is.
    pub fn is_plain(&self) -> bool {
        self.role == Role::Server && self.encoder.is_none() && !self.is_streaming()
    }

    /// Queues a whole message, compressed where that was agreed and pays. Returns its bytes on
    /// the wire.
    pub fn message(&mut self, host: &impl Host, op: u8, data: &[u8]) -> Result<usize, SendError> {
        if self.is_streaming() {
            return Err(SendError::StreamOpen);
        }
        if let Some(encoder) = &mut self.encoder {
            let mut packed = Vec::new();
            if encoder.encode(data, &mut packed) {
                let rsv = encoder.rsv();
                let pushed = self.push(host, true, rsv, op, &packed);
                if let (Err(_), Some(encoder)) = (&pushed, &mut self.encoder) {
                    // The peer's window will not have it.
                    encoder.sent_elsewhere();
                }
                let bytes = pushed?;
                host.count(Counted::Compressed(data.len(), packed.len()));
                return Ok(bytes);
            }
        }
        Ok(self.push(host, true, 0, op, data)?)
    }

    /// Whether this message may be sent now.
    #[inline]
    pub fn admit(&self, text: bool, data: &[u8]) -> Result<(), SendError> {
        if self.is_streaming() {
            return Err(SendError::StreamOpen);
        }
        if text && !utf8::is_valid(data) {
            return Err(SendError::InvalidUtf8);
        }
        Ok(())
    }

    /// Opens a message that is sent in fragments.
    pub fn open_stream(&mut self, text: bool) -> Result<(), SendError> {
        if self.is_streaming() {
            return Err(SendError::StreamOpen);
        }
        self.rare.get_or_insert_default().stream = Some(Fragmented {
            opcode: if text { opcode::TEXT } else { opcode::BINARY },
            started: false,
            utf8: text.then(Validator::new),
        });
        Ok(())
    }

    fn stream(&mut self) -> Result<&mut Fragmented, SendError> {
        self.rare.as_mut().and_then(|rare| rare.stream.as_mut()).ok_or(SendError::NoStream)
    }

    /// Queues one fragment. Text that cannot become valid is refused before it is sent.
    pub fn write_stream(&mut self, host: &impl Host, data: &[u8]) -> Result<usize, SendError> {
        let stream = self.stream()?;
        let mut ahead = stream.utf8.clone();
        if let Some(utf8) = &mut ahead {
            utf8.push(data).map_err(|_| SendError::InvalidUtf8)?;
        }
        let op = if stream.started { opcode::CONTINUATION } else { stream.opcode };
        let bytes = self.push(host, false, 0, op, data)?;
        let stream = self.stream()?;
        (stream.started, stream.utf8) = (true, ahead);
        Ok(bytes)
    }

    /// Queues the last, empty fragment, and what has waited for it.
    pub fn finish_stream(&mut self, host: &impl Host) -> Result<usize, SendError> {
        let stream = self.stream()?;
        if stream.utf8.as_ref().is_some_and(|utf8| utf8.finish().is_err()) {
            return Err(SendError::InvalidUtf8);
        }
        let op = if stream.started { opcode::CONTINUATION } else { stream.opcode };
        let bytes = self.push(host, true, 0, op, &[])?;
        if let Some(rare) = &mut self.rare {
            rare.stream = None;
            for frame in std::mem::take(&mut rare.deferred) {
                self.outbox.push_shared(host.pool(), &frame);
            }
        }
        self.free_rare();
        Ok(bytes)
    }

    /// Queues a message that goes to many. Returns false, and queues nothing, where the peer is a
    /// slow consumer.
    pub fn share(
        &mut self,
        host: &impl Host,
        message: &Shared<'_>,
        mark: usize,
    ) -> Result<bool, NoMemory> {
        let deferred =
            self.rare.as_ref().map_or(0, |rare| rare.deferred.iter().map(Bytes::len).sum());
        let waiting = self.outbox.len() + deferred;
        let packed = match &self.encoder {
            Some(encoder) if encoder.takes_deflated(WINDOW_BITS, message.len()) => message.packed(),
            _ => None,
        };
        let frame = match packed {
            Some(frame) => frame,
            None => message.plain()?,
        };
        if is_slow(waiting, frame.len(), mark) {
            return Ok(false);
        }
        if let (Some(encoder), Some(_)) = (&mut self.encoder, packed) {
            // The peer's window has moved on without this encoder.
            encoder.sent_elsewhere();
            host.count(Counted::Compressed(message.len(), frame.len()));
        }
        match &mut self.rare {
            Some(rare) if rare.stream.is_some() => rare.deferred.push(frame.clone()),
            _ => self.outbox.push_shared(host.pool(), frame),
        }
        Ok(true)
    }

    /// Answers a ping, at once or, where more than `mark` bytes wait, later. An endpoint may answer
    /// only the latest ping (RFC 6455 5.5.3): a peer that pings and does not read gets one pong more.
    pub fn answer(&mut self, host: &impl Host, payload: &[u8], mark: usize) {
        // Without memory for its pong a ping is lost: another may come.
        if self.outbox.len() <= mark {
            let _ = self.push(host, true, 0, opcode::PONG, payload);
        } else if let Ok(payload) = pool::copy(payload) {
            self.rare.get_or_insert_default().ping = Some(payload);
        }
    }

    /// Output has left: there may be room for the pong that waits.
    #[inline]
    pub fn made_room(&mut self, host: &impl Host, mark: usize) {
        if self.rare.is_some() && self.outbox.len() <= mark {
            if let Some(payload) = self.rare.as_mut().and_then(|rare| rare.ping.take()) {
                self.free_rare();
                self.answer(host, &payload, mark);
            }
        }
    }

    /// Queues our close frame, which nothing of ours may follow.
    pub fn close(&mut self, host: &impl Host, payload: &[u8]) {
        self.rare = None;
        // Without memory for it the stream ends without a word.
        let _ = self.push(host, true, 0, opcode::CLOSE, payload);
    }

    /// Queues one frame.
    pub fn push(
        &mut self,
        host: &impl Host,
        fin: bool,
        rsv: u8,
        op: u8,
        payload: &[u8],
    ) -> Result<usize, NoMemory> {
        let key = (self.role == Role::Client).then(|| host.masking_key());
        self.push_masked(host, fin, rsv, op, payload, key)
    }

    /// Queues one frame, masked or not.
    pub fn push_masked(
        &mut self,
        host: &impl Host,
        fin: bool,
        rsv: u8,
        op: u8,
        payload: &[u8],
        key: Option<[u8; 4]>,
    ) -> Result<usize, NoMemory> {
        let head = header::encode(fin, rsv, op, payload.len() as u64, key);
        self.outbox.push(host.pool(), head.as_ref(), payload, key)?;
        Ok(head.as_ref().len() + payload.len())
    }

    /// Keeps a ping for `take_ping`.
    pub fn note_ping(&mut self, payload: &[u8]) {
        self.rare.get_or_insert_default().unseen = Some(payload.to_vec());
    }

    /// The ping that was kept.
    pub fn take_ping(&mut self) -> Option<Vec<u8>> {
        let ping = self.rare.as_mut()?.unseen.take();
        self.free_rare();
        ping
    }

    fn free_rare(&mut self) {
        if let Some(rare) = &self.rare {
            let pings = rare.ping.is_some() || rare.unseen.is_some();
            if rare.stream.is_none() && !pings && rare.deferred.is_empty() {
                self.rare = None;
            }
        }
    }
}
