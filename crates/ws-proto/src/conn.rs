//! The receiving side of one connection: bytes go in, frames or messages come out. The owner of
//! the socket holds one `Conn` per connection and feeds it what it read. A `Conn` owns the
//! payload under way and nothing else: the buffer moves into the event that completes it, so an
//! idle connection holds none. What sending needs is stateless: see `header` and `mask`.

mod assembly;
mod event;
mod sequence;

use crate::header::{Head, Lengths, Masking};
use crate::{close, mask, opcode, Error};
use assembly::Assembly;
use bytes::BytesMut;
use sequence::Sequence;
use std::mem;

pub use event::{Event, Payload};

/// Reserved bits that negotiated extensions own: none is negotiated.
const RSV_OWNED: u8 = 0;

/// What a connection's owner wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Every frame as it is, by lua-resty-websocket's rules: nothing is joined, no sequence, no
    /// UTF-8 and no close code is checked, any form of length is taken.
    Frames,
    /// Whole messages, by the letter of RFC 6455.
    Messages,
}

/// Rules and limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Frames or messages.
    pub style: Style,
    /// Which incoming frames must be masked.
    pub masking: Masking,
    /// Longest payload of a frame; in message style, of a data frame.
    pub max_frame: u64,
    /// Longest message, all fragments together. Message style only.
    pub max_message: u64,
    /// Most fragments of a message. Message style only.
    pub max_fragments: u32,
}

/// What the next bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The first two bytes of a frame.
    First2,
    /// The 16-bit length.
    Len16,
    /// The 64-bit length.
    Len64,
    /// Masking key and payload.
    Body,
}

/// The frame whose payload is arriving.
#[derive(Clone, Copy, Debug)]
struct Frame {
    head: Head,
    key: [u8; 4],
    filled: usize,
    missing: usize,
}

impl Frame {
    /// Counts the next payload bytes, and unmasks them.
    fn take(&mut self, bytes: &mut [u8]) {
        if self.head.masked {
            mask::apply(self.key, self.filled, bytes);
        }
        self.filled += bytes.len();
        self.missing -= bytes.len();
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    First2,
    Len(Head),
    Key(Head, usize),
    Body(Frame),
    /// After a close or an error.
    Over,
}

/// Receiver of one connection.
#[derive(Debug)]
pub struct Conn {
    settings: Settings,
    state: State,
    /// Bytes of the header field that `state` waits for.
    field: [u8; 8],
    field_len: u8,
    /// In frame style the frame, in message style the message under way.
    data: Assembly,
    /// In message style the control frame under way: it may stand between two fragments.
    control: Assembly,
    sequence: Sequence,
}

/// How far the body got with the bytes at hand.
enum Progress<'a> {
    Event(Event<'a>),
    FrameEnd,
    More,
}

impl Conn {
    /// A connection right after its opening handshake.
    pub fn new(settings: Settings) -> Conn {
        Conn {
            settings,
            state: State::First2,
            field: [0; 8],
            field_len: 0,
            data: Assembly::default(),
            control: Assembly::default(),
            sequence: Sequence::default(),
        }
    }

    /// Changes the limit on frames, from the next header on.
    pub fn set_max_frame(&mut self, max: u64) {
        self.settings.max_frame = max;
    }

    /// Takes bytes from the front of `input` (and advances it) until one event is whole. `None`
    /// means that all bytes were taken and more are needed.
    ///
    /// After [`Event::Close`] or an error nothing more is read: every later call swallows its
    /// input and returns `None` (RFC 6455 5.5.1, 7.1.7). In frame style a close frame is a
    /// frame like any other, and only an error ends the connection.
    pub fn feed<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, Error> {
        let result = self.run(input);
        if result.is_err() {
            self.stop();
        }
        result
    }

    /// What the next bytes belong to: what a read that now fails or times out was reading.
    pub fn stage(&self) -> Stage {
        match self.state {
            State::First2 | State::Over => Stage::First2,
            State::Len(head) if head.ext_len() == 2 => Stage::Len16,
            State::Len(_) => Stage::Len64,
            State::Key(..) | State::Body(_) => Stage::Body,
        }
    }

    /// Whether a part of a frame came and the rest is missing.
    pub fn is_mid_frame(&self) -> bool {
        match self.state {
            State::First2 => self.field_len > 0,
            State::Over => false,
            _ => true,
        }
    }

    /// For large frames: the buffer that the payload is assembled in, with room made in it, and
    /// how many bytes of this frame are missing. The owner may append at most that many bytes
    /// from the socket, within the buffer's spare capacity, and then must call
    /// [`Conn::body_filled`]. `None` when no payload is awaited; then use [`Conn::feed`].
    pub fn body_room(&mut self) -> Option<(&mut BytesMut, usize)> {
        let State::Body(frame) = self.state else { return None };
        let limit = self.room(&frame);
        Some((self.assembly(&frame).room(frame.missing, limit), frame.missing))
    }

    /// The owner appended `n` bytes to the buffer of [`Conn::body_room`]: unmasks and validates
    /// them there. Returns the event if that completes one.
    ///
    /// # Panics
    /// When no payload is awaited, or `n` is more than the frame misses or the buffer holds.
    pub fn body_filled(&mut self, n: usize) -> Result<Option<Event<'static>>, Error> {
        let State::Body(mut frame) = self.state else { panic!("no payload is awaited") };
        assert!(n <= frame.missing, "more bytes than the frame has");
        let messages = self.is_data(&frame);
        let fresh = self.assembly(&frame).tail(n);
        frame.take(fresh);
        let valid = if messages { self.sequence.bytes(self.data.tail(n)) } else { Ok(()) };
        self.state = State::Body(frame);
        let result = valid.and_then(|()| match frame.missing {
            0 => self.complete(&frame, None),
            _ => Ok(None),
        });
        if result.is_err() {
            self.stop();
        }
        result
    }

    fn run<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, Error> {
        loop {
            match self.state {
                State::First2 => {
                    let Some(field) = self.field(2, input) else { return Ok(None) };
                    let head = Head::parse([field[0], field[1]], RSV_OWNED, self.settings.masking)?;
                    self.state = State::Len(head);
                }
                State::Len(head) => {
                    let n = head.ext_len();
                    let Some(field) = self.field(n, input) else { return Ok(None) };
                    let len = self.admit(&head, &field[..n])?;
                    self.state = State::Key(head, len);
                }
                State::Key(head, len) => {
                    let n = if head.masked { 4 } else { 0 };
                    let Some(field) = self.field(n, input) else { return Ok(None) };
                    let key = [field[0], field[1], field[2], field[3]];
                    self.state = State::Body(Frame { head, key, filled: 0, missing: len });
                }
                State::Body(frame) => match self.body(frame, input)? {
                    Progress::Event(event) => return Ok(Some(event)),
                    Progress::FrameEnd => {}
                    Progress::More => return Ok(None),
                },
                State::Over => {
                    *input = &mut [];
                    return Ok(None);
                }
            }
        }
    }

    /// Collects the `n` bytes (at most 8) of a header field, over as many calls as it takes.
    #[inline]
    fn field(&mut self, n: usize, input: &mut &mut [u8]) -> Option<[u8; 8]> {
        let have = usize::from(self.field_len);
        let part = take_front(input, n - have);
        self.field[have..have + part.len()].copy_from_slice(part);
        if have + part.len() < n {
            self.field_len += part.len() as u8;
            return None;
        }
        self.field_len = 0;
        Some(self.field)
    }

    /// Everything that can be refused once the length is known, before a payload byte is read.
    fn admit(&mut self, head: &Head, ext: &[u8]) -> Result<usize, Error> {
        let len = match self.settings.style {
            Style::Frames => {
                let len = head.payload_len(ext, Lengths::Lenient)?;
                head.check(len, self.settings.max_frame)?;
                len
            }
            Style::Messages => {
                let len = head.payload_len(ext, Lengths::Minimal)?;
                if opcode::is_control(head.opcode) {
                    head.check(len, u64::MAX)?;
                } else {
                    head.check(len, self.settings.max_frame)?;
                    self.sequence.frame(head, len, &self.settings)?;
                }
                len
            }
        };
        usize::try_from(len).map_err(|_| Error::LenTooLarge)
    }

    fn body<'a>(
        &mut self,
        mut frame: Frame,
        input: &mut &'a mut [u8],
    ) -> Result<Progress<'a>, Error> {
        let limit = self.room(&frame);
        let chunk = take_front(input, frame.missing);
        let whole = frame.filled == 0 && chunk.len() == frame.missing;
        frame.take(chunk);
        self.state = State::Body(frame);
        let data = self.is_data(&frame);
        if data {
            self.sequence.bytes(chunk)?;
        }
        if whole && !(data && self.sequence.is_fragmented()) {
            return self.complete(&frame, Some(chunk)).map(Progress::from);
        }
        self.assembly(&frame).append(chunk, limit);
        match frame.missing {
            0 => self.complete(&frame, None).map(Progress::from),
            _ => Ok(Progress::More),
        }
    }

    /// The frame is whole: its payload is `slice`, or else lies in its assembly buffer.
    fn complete<'a>(
        &mut self,
        frame: &Frame,
        slice: Option<&'a mut [u8]>,
    ) -> Result<Option<Event<'a>>, Error> {
        let Head { fin, opcode, .. } = frame.head;
        self.state = State::First2;
        let data = self.is_data(frame);
        if data && !fin {
            return Ok(None);
        }
        let text = data && self.sequence.end()?;
        let payload = match slice {
            Some(slice) => Payload::Slice(slice),
            None => Payload::Owned(self.assembly(frame).finish()),
        };
        if self.settings.style == Style::Frames {
            if opcode == opcode::CLOSE {
                close::parse(payload.as_ref())?;
            }
            return Ok(Some(Event::Frame { fin, opcode, payload }));
        }
        Ok(Some(match opcode {
            opcode::PING => Event::Ping(payload),
            opcode::PONG => Event::Pong(payload),
            opcode::CLOSE => {
                let (code, _) = close::validate_strict(payload.as_ref())?;
                self.stop();
                Event::Close { code, reason: payload.skip(if code.is_some() { 2 } else { 0 }) }
            }
            _ => Event::Message { text, payload },
        }))
    }

    /// Whether the frame is part of a message, and not a frame to hand over by itself.
    fn is_data(&self, frame: &Frame) -> bool {
        self.settings.style == Style::Messages && !opcode::is_control(frame.head.opcode)
    }

    fn assembly(&mut self, frame: &Frame) -> &mut Assembly {
        match self.settings.style {
            Style::Messages if opcode::is_control(frame.head.opcode) => &mut self.control,
            _ => &mut self.data,
        }
    }

    /// How many bytes may still come into the frame's buffer: those the frame misses, or in a
    /// fragmented message those the message's limit leaves.
    fn room(&self, frame: &Frame) -> usize {
        if !self.is_data(frame) || !self.sequence.is_fragmented() {
            return frame.missing;
        }
        let max = usize::try_from(self.settings.max_message).unwrap_or(usize::MAX);
        max.saturating_sub(self.data.len())
    }

    /// Nothing more is read; frees what was under way.
    fn stop(&mut self) {
        self.state = State::Over;
        self.data = Assembly::default();
        self.control = Assembly::default();
    }
}

impl<'a> From<Option<Event<'a>>> for Progress<'a> {
    fn from(event: Option<Event<'a>>) -> Self {
        event.map_or(Progress::FrameEnd, Progress::Event)
    }
}

/// Splits at most `n` bytes off the front of `input`.
#[inline]
fn take_front<'a>(input: &mut &'a mut [u8], n: usize) -> &'a mut [u8] {
    let whole = mem::take(input);
    let (front, rest) = whole.split_at_mut(n.min(whole.len()));
    *input = rest;
    front
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(mem::size_of::<Conn>() < 200, "{}", mem::size_of::<Conn>());
    }
}
