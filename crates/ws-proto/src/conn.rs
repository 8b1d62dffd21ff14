//! The receiving side of one connection: bytes go in, frames or messages come out. The owner of
//! the socket holds one `Conn` per connection and feeds it what it read. A `Conn` owns the
//! payload under way: the buffer moves into the event that completes it, so an idle connection
//! holds none. Where a peer may take its compression context over, it owns an inflater as well.
//! What sending needs is stateless, compression (`ext`) excepted: see `header` and `mask`.

mod assembly;
mod awaited;
mod check;
mod event;
mod plain;
mod progress;
mod sequence;
mod settings;

use crate::ext::{self, Ahead, Decoder};
use crate::header::{FrameHeader, Lengths};
use crate::{close, opcode, Error, Role};
use assembly::Assembly;
use progress::{Frame, State};
use sequence::Sequence;
use std::mem;

pub use check::FrameCheck;
pub use event::{Event, Payload};
pub use plain::Plain;
pub use progress::Stage;
pub use settings::{Settings, Style};

/// So much of a message is decoded before its last byte has come: more is not wanted until then, and
/// a few bytes may stand for very many.
const AHEAD: usize = 64 * 1024;

/// Receiver of one connection.
#[derive(Debug)]
pub struct Conn {
    settings: Settings,
    state: State,
    frame: Frame,
    /// Bytes of the header field that `state` waits for.
    field: [u8; 8],
    field_len: u8,
    /// In frame style the frame, in message style the message under way.
    data: Assembly,
    /// In message style the control frame under way: it may stand between two fragments.
    control: Assembly,
    sequence: Sequence,
    /// A plain frame's payload is shorter than this. Follows from the settings.
    plain_end: u32,
    /// The agreed extension's; its memory goes with the connection's last event.
    decoder: Option<Box<dyn Decoder>>,
    /// Bytes of the messages that came through the extension: decoded, and as they came.
    coded_bytes: (u64, u64),
}

impl Conn {
    /// A connection right after its opening handshake, without extensions.
    pub fn new(settings: Settings) -> Conn {
        Conn {
            settings,
            state: State::First2,
            frame: Frame { head: FrameHeader::default(), key: [0; 4], filled: 0, missing: 0 },
            field: [0; 8],
            field_len: 0,
            data: Assembly::default(),
            control: Assembly::default(),
            sequence: Sequence::default(),
            plain_end: plain::end(&settings),
            decoder: None,
            coded_bytes: (0, 0),
        }
    }

    /// A connection that agreed on an extension; `role` is our side. Message style only: frame style
    /// hands out frames as they are, and reserved bits stay an error there.
    pub fn with_extension(settings: Settings, agreed: &ext::Agreed, role: Role) -> Conn {
        let mut conn = Conn::new(settings);
        if settings.style == Style::Messages {
            conn.decoder = Some(agreed.decoder(role));
        }
        conn
    }

    /// Payload bytes of compressed messages so far: before their compression, and after it.
    pub fn compressed_bytes(&self) -> (u64, u64) {
        self.coded_bytes
    }

    /// Changes the limit on frames, from the next header on.
    #[inline]
    pub fn set_max_frame(&mut self, max: u64) {
        if self.settings.max_frame != max {
            self.settings.max_frame = max;
            self.plain_end = plain::end(&self.settings);
        }
    }

    /// Goes on in another style. False, and nothing changes, while a frame or a fragmented
    /// message is under way: the rules it began with hold to its end. False as well for frame
    /// style where an extension was agreed on: its frames mean nothing by themselves.
    pub fn set_style(&mut self, style: Style) -> bool {
        let possible = self.is_between() && (style == Style::Messages || self.decoder.is_none());
        if possible {
            self.settings.style = style;
            self.plain_end = plain::end(&self.settings);
        }
        possible
    }

    /// Nothing more will be fed: frees what was under way, and the extension's memory.
    pub fn end(&mut self) {
        self.stop();
    }

    /// Whether neither a frame nor a fragmented message is under way.
    pub fn is_between(&self) -> bool {
        match self.state {
            State::First2 => self.field_len == 0 && !self.sequence.is_under_way(),
            State::Over => true,
            _ => false,
        }
    }

    /// The plain frame that `input` begins with. The caller goes on behind it. Whatever is not
    /// quite that, or breaks a rule, changes nothing here: `None`, and [`Conn::feed`] judges.
    #[inline]
    pub fn plain(&mut self, input: &mut [u8]) -> Option<Plain> {
        let between = self.state == State::First2 && self.field_len == 0;
        if !between || self.sequence.is_under_way() {
            return None;
        }
        plain::find(input, self.plain_end, self.settings.style)
    }

    /// Takes bytes from the front of `input` (and advances it) until one event is whole. `None`
    /// means that all bytes were taken and more are needed.
    ///
    /// After [`Event::Close`] or an error nothing more is read: every later call swallows its
    /// input and returns `None` (RFC 6455 5.5.1, 7.1.7). In frame style a close frame is a
    /// frame like any other, and only an error ends the connection.
    pub fn feed<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, Error> {
        if let Some(Plain { opcode, payload }) = self.plain(input) {
            let payload = Payload::Slice(&take_front(input, payload.end)[payload]);
            return Ok(Some(match self.settings.style {
                Style::Messages => Event::Message { text: opcode == opcode::TEXT, payload },
                Style::Frames => Event::Frame { fin: true, opcode, payload },
            }));
        }
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
            State::Len if self.frame.head.ext_len() == 2 => Stage::Len16,
            State::Len => Stage::Len64,
            State::Key | State::Body => Stage::Body,
        }
    }

    /// The frame that broke a rule, for who wants to name it: its head as it stands there, and, in
    /// frame style, its length where that was the fault. Of no meaning before an error.
    pub fn refused(&self) -> (FrameHeader, usize) {
        (self.frame.head, self.frame.missing)
    }

    /// Whether a part of a frame came and the rest is missing.
    pub fn is_mid_frame(&self) -> bool {
        match self.state {
            State::First2 => self.field_len > 0,
            State::Over => false,
            _ => true,
        }
    }

    fn run<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, Error> {
        loop {
            match self.state {
                State::First2 => {
                    let Some(field) = self.field(input) else { return Ok(None) };
                    let rsv = self.rsv_allowed(field[0] & 0x0F);
                    self.frame.head = FrameHeader::parse(field, rsv, self.settings.masking)
                        .inspect_err(|_| self.frame.head = FrameHeader::read(field))?;
                    self.state = State::Len;
                }
                State::Len => {
                    let len = match self.frame.head.ext_len() {
                        0 => self.admit(&[])?,
                        2 => {
                            let Some(ext) = self.field::<2>(input) else { return Ok(None) };
                            self.admit(&ext)?
                        }
                        _ => {
                            let Some(ext) = self.field::<8>(input) else { return Ok(None) };
                            self.admit(&ext)?
                        }
                    };
                    self.frame.filled = 0;
                    self.frame.missing = len;
                    self.state = State::Key;
                }
                State::Key => {
                    if self.frame.head.masked {
                        let Some(key) = self.field(input) else { return Ok(None) };
                        self.frame.key = key;
                    }
                    self.state = State::Body;
                }
                State::Body => {
                    let result = self.body(input);
                    // A fragment is no event: on to the next frame.
                    if !matches!(result, Ok(None)) || self.state == State::Body {
                        return result;
                    }
                }
                State::Over => {
                    *input = &mut [];
                    return Ok(None);
                }
            }
        }
    }

    /// Takes the `N` bytes (at most 8) of a header field, over as many calls as it needs.
    #[inline]
    fn field<const N: usize>(&mut self, input: &mut &mut [u8]) -> Option<[u8; N]> {
        let have = usize::from(self.field_len);
        let part = take_front(input, N - have);
        // Nearly always the field lies there whole, and needs no store.
        if let Ok(field) = <[u8; N]>::try_from(&*part) {
            return Some(field);
        }
        self.field[have..have + part.len()].copy_from_slice(part);
        if have + part.len() < N {
            self.field_len += part.len() as u8;
            return None;
        }
        self.field_len = 0;
        self.field.first_chunk().copied()
    }

    /// Everything that can be refused once the length is known, before a payload byte is read.
    fn admit(&mut self, ext: &[u8]) -> Result<usize, Error> {
        let (head, max) = (&self.frame.head, self.settings.max_frame);
        let len = match self.settings.style {
            Style::Frames => {
                let len = head.payload_len(ext, Lengths::Lenient)?;
                self.frame.missing = usize::try_from(len).unwrap_or(usize::MAX);
                head.check(len, max)?;
                len
            }
            Style::Messages => {
                let len = head.payload_len(ext, Lengths::Minimal)?;
                if self.is_data() {
                    head.check(len, max)?;
                    self.sequence.frame(head, len, &self.settings)?;
                } else {
                    head.check(len, u64::MAX)?;
                }
                len
            }
        };
        usize::try_from(len).map_err(|_| Error::LenTooLarge)
    }

    fn body<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, Error> {
        let limit = self.limit();
        let chunk = take_front(input, self.frame.missing);
        let whole = self.frame.filled == 0 && chunk.len() == self.frame.missing;
        self.frame.take(chunk);
        if self.is_coded() {
            self.decode(chunk)?;
            return if self.frame.missing > 0 { Ok(None) } else { self.complete(None) };
        }
        let data = self.is_data();
        if data {
            self.sequence.bytes(chunk)?;
        }
        if whole && !(data && self.sequence.is_fragmented()) {
            return self.complete(Some(chunk));
        }
        self.assembly().append(chunk, limit)?;
        if self.frame.missing > 0 {
            return Ok(None);
        }
        self.complete(None)
    }

    /// Passes payload bytes through the extension into the message. The limit is looked at before
    /// anything is stored.
    fn decode(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let Conn { decoder: Some(decoder), data, sequence, coded_bytes, .. } = self else {
            unreachable!("a marked frame without an extension was refused")
        };
        let max = usize::try_from(self.settings.max_message).unwrap_or(usize::MAX);
        let last = self.frame.head.fin && self.frame.missing == 0;
        if chunk.is_empty() && !last {
            return Ok(());
        }
        coded_bytes.1 += chunk.len() as u64;
        let ahead = Ahead { decoded: AHEAD.saturating_sub(data.len()), coded: max };
        decoder.decode(chunk, (!last).then_some(ahead), &mut |fresh, end| {
            let limit = max.saturating_sub(data.len());
            sequence.bytes(&fresh[..fresh.len().min(limit)])?;
            if fresh.len() > limit {
                return Err(Error::MessageTooLarge);
            }
            coded_bytes.0 += fresh.len() as u64;
            data.append(fresh, if end { fresh.len() } else { limit })
        })
    }

    /// The frame is whole: its payload is `slice`, or else lies in its assembly buffer.
    #[inline]
    fn complete<'a>(&mut self, slice: Option<&'a mut [u8]>) -> Result<Option<Event<'a>>, Error> {
        let FrameHeader { fin, opcode, .. } = self.frame.head;
        self.state = State::First2;
        let data = self.is_data();
        if data && !fin {
            return Ok(None);
        }
        let text = data && self.sequence.end()?;
        let payload = match slice {
            Some(slice) => Payload::Slice(slice),
            None => Payload::Owned(self.assembly().finish()),
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
    fn is_data(&self) -> bool {
        self.settings.style == Style::Messages && !opcode::is_control(self.frame.head.opcode)
    }

    /// Whether the frame's payload goes through the extension.
    #[inline]
    fn is_coded(&self) -> bool {
        self.sequence.is_coded() && self.is_data()
    }

    /// The reserved bits that a frame may have: the extension's, where a message begins (RFC 7692
    /// 6.1).
    #[inline]
    fn rsv_allowed(&self, opcode: u8) -> u8 {
        match (&self.decoder, opcode) {
            (Some(decoder), opcode::TEXT | opcode::BINARY) => decoder.rsv(),
            _ => 0,
        }
    }

    fn assembly(&mut self) -> &mut Assembly {
        match self.settings.style {
            Style::Messages if opcode::is_control(self.frame.head.opcode) => &mut self.control,
            _ => &mut self.data,
        }
    }

    /// How many bytes may still come into the frame's buffer: those the frame misses, or in a
    /// fragmented message those the message's limit leaves.
    fn limit(&self) -> usize {
        if !self.is_data() || !self.sequence.is_fragmented() {
            return self.frame.missing;
        }
        let max = usize::try_from(self.settings.max_message).unwrap_or(usize::MAX);
        max.saturating_sub(self.data.len())
    }

    /// Nothing more is read; frees what was under way.
    fn stop(&mut self) {
        self.state = State::Over;
        self.data = Assembly::default();
        self.control = Assembly::default();
        self.decoder = None;
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
