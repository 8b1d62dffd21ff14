//! Sending: messages, frames, streams, what many connections share, and the way out of all of it.

use ws_proto::header::FrameHeader;
use ws_proto::{header, opcode, utf8, Error};

use super::{Connection, Passing};
use crate::config::Style;
use crate::dialogue::News;
use crate::host::{Counted, Host, Io, Sent};
use crate::pool::{NoMemory, BURST};
use crate::sender::is_slow;
use crate::{End, IoError, SendError, Shared, SLOW_CONSUMER};

/// A payload of this size may go to the kernel from where it lies, without a copy.
const DIRECT_SEND: usize = 8 * 1024;
/// A payload of this size always does.
const NEVER_COPIED: usize = 64 * 1024;

impl Connection {
    /// Bytes queued that have not left.
    #[inline]
    pub fn buffered(&self) -> usize {
        self.dialogue.sender.outbox.len()
    }

    /// The high-water mark.
    pub fn mark(&self) -> usize {
        self.dialogue.mark
    }

    /// Whether a message may be queued now, or has to wait until the peer has read.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.buffered() <= self.dialogue.mark
    }

    /// Whether a message of another connection may be passed on now: there is room, and no message of
    /// our own is being sent in fragments (RFC 6455 5.4), whose end it waits for.
    #[inline]
    pub fn may_pass(&self) -> bool {
        self.has_room() && !self.dialogue.sender.is_streaming()
    }

    /// Whether a frame with so many bytes of payload, which goes to many, is too much for this peer.
    /// `held`: bytes for it that were taken by whoever carries them, and have not left.
    pub fn is_slow_for(&self, payload: usize, held: usize) -> bool {
        is_slow(self.buffered() + held, payload, self.dialogue.mark)
    }

    /// Why nothing more can be written.
    #[inline]
    pub fn write_end(&self) -> Option<IoError> {
        self.write_end
    }

    /// Whether output waits to leave.
    #[inline]
    pub fn has_pending(&self, io: &impl Io) -> bool {
        self.write_end.is_none() && (self.buffered() > 0 || io.holds_back())
    }

    #[inline]
    fn check(&self) -> Result<(), SendError> {
        match self.write_end {
            Some(err) => Err(SendError::Io(err)),
            None => self.dialogue.check_open(),
        }
    }

    /// Queues a whole message, or sends it from where it lies. Returns its bytes on the wire.
    pub fn send_message(
        &mut self,
        host: &impl Host,
        io: &impl Io,
        text: bool,
        data: &[u8],
    ) -> Result<usize, SendError> {
        self.admit(text, data)?;
        self.pass_on(host, io, Passing { text, data, more: false })
    }

    /// Whether a message of ours may be sent now, and is one.
    pub fn admit(&self, text: bool, data: &[u8]) -> Result<(), SendError> {
        self.check()?;
        self.dialogue.sender.admit(text, data)
    }

    /// The same for what has been a message already, and whose text is therefore known to be UTF-8, or
    /// for what `admit` has looked at.
    pub fn pass_on(
        &mut self,
        host: &impl Host,
        io: &impl Io,
        message: Passing<'_>,
    ) -> Result<usize, SendError> {
        self.check()?;
        let Passing { text, data, more } = message;
        let op = if text { opcode::TEXT } else { opcode::BINARY };
        let bytes = if self.dialogue.sender.is_plain() {
            self.put(host, io, true, op, data, more)?
        } else {
            self.dialogue.sender.message(host, op, data)?
        };
        self.dialogue.count_out(host, data.len());
        self.dialogue.news |= News::OUTPUT;
        self.sound(bytes)
    }

    /// Sends a message where nobody has to wait or be told of anything. Returns its bytes. None: ask
    /// `send_message`.
    #[inline]
    pub fn send_message_now(
        &mut self,
        host: &impl Host,
        io: &impl Io,
        text: bool,
        valid: bool,
        data: &[u8],
    ) -> Option<usize> {
        let plain = self.check().is_ok()
            && self.dialogue.sender.is_plain()
            && (!text || valid || utf8::is_valid(data));
        if !plain {
            return None;
        }
        self.put_now(host, io, if text { opcode::TEXT } else { opcode::BINARY }, data)
    }

    /// Sends an unmasked data frame where nobody has to wait or be told of anything. Returns its
    /// bytes. None: ask `send_frame`.
    #[inline]
    pub fn send_frame_now(
        &mut self,
        host: &impl Host,
        io: &impl Io,
        op: u8,
        data: &[u8],
    ) -> Option<usize> {
        self.check().ok()?;
        self.put_now(host, io, op, data)
    }

    /// Sends an unmasked data frame, unless it would have to wait. None is for an error of the socket,
    /// too, which is known from then on.
    #[inline]
    fn put_now(&mut self, host: &impl Host, io: &impl Io, op: u8, data: &[u8]) -> Option<usize> {
        let before = self.buffered();
        if before + header::LONGEST + data.len() > self.dialogue.mark {
            return None;
        }
        if data.len() >= DIRECT_SEND {
            let head = header::encode(true, 0, op, data.len() as u64, None);
            self.put_large(host, io, head.as_ref(), data, false).ok()?;
            if self.write_end.is_some() {
                return None;
            }
            self.dialogue.count_out(host, data.len());
            return Some(head.as_ref().len() + data.len());
        }
        self.dialogue.sender.outbox.push_plain(host.pool(), op, data).ok()?;
        self.dialogue.count_out(host, data.len());
        // What waits already is under way.
        if before == 0 {
            self.dialogue.news |= News::OUTPUT;
        }
        Some(self.buffered() - before)
    }

    /// Lets an unmasked frame go, by the cheapest way. A short one leaves at the end of this turn,
    /// with all that comes until then.
    fn put(
        &mut self,
        host: &impl Host,
        io: &impl Io,
        fin: bool,
        op: u8,
        data: &[u8],
        more: bool,
    ) -> Result<usize, NoMemory> {
        let head = header::encode(fin, 0, op, data.len() as u64, None);
        let head = head.as_ref();
        if data.len() < DIRECT_SEND {
            self.dialogue.sender.outbox.push(host.pool(), head, data, None)?;
        } else {
            self.put_large(host, io, head, data, more)?;
        }
        Ok(head.len() + data.len())
    }

    /// A larger one is offered to the kernel at once, from where it lies; but where `more` follow, or the
    /// peer has sent several and each is answered, a system call for each costs more than a copy of
    /// each, and they leave together.
    fn put_large(
        &mut self,
        host: &impl Host,
        io: &impl Io,
        head: &[u8],
        data: &[u8],
        more: bool,
    ) -> Result<(), NoMemory> {
        let burst = more || self.receiver.has_bytes(io) || self.has_items();
        if data.len() < NEVER_COPIED && (burst || self.has_pending(io)) {
            self.dialogue.sender.outbox.push_burst(host.pool(), head, data)?;
            self.dialogue.news |= News::OUTPUT;
            if self.buffered() >= BURST {
                self.flush(host, io);
            }
            return Ok(());
        }
        if self.has_pending(io) {
            self.flush(host, io);
        }
        if self.write_end.is_some() {
            return Ok(());
        }
        if self.has_pending(io) {
            self.dialogue.sender.outbox.push(host.pool(), head, data, None)?;
            self.dialogue.news |= News::OUTPUT;
            return Ok(());
        }
        let rest = match io.send(&[head, data]) {
            Sent::Failed(errno) => {
                self.write_end = Some(IoError::from_errno(errno));
                Ok(())
            }
            Sent::Bytes(n) if n >= head.len() => {
                let rest = &data[n - head.len()..];
                self.dialogue.sender.outbox.push_rest(host.pool(), &[], rest)
            }
            Sent::Bytes(n) => self.dialogue.sender.outbox.push_rest(host.pool(), &head[n..], data),
        };
        if rest.is_err() {
            // The frame has begun to leave, and its rest is gone: nothing can follow.
            self.write_end = Some(IoError::NoMemory);
        }
        self.last_out = host.now_ms();
        if self.has_pending(io) {
            io.want_write();
        }
        self.dialogue.news |= News::LEFT;
        Ok(())
    }

    fn sound(&self, bytes: usize) -> Result<usize, SendError> {
        match self.write_end {
            Some(err) => Err(SendError::Io(err)),
            None => Ok(bytes),
        }
    }

    /// Queues one frame as it is asked for: fragments may come in any order, text is not looked at. A
    /// close frame is noted; where the protocol is kept, nothing may follow it.
    pub fn send_frame(
        &mut self,
        host: &impl Host,
        io: &impl Io,
        fin: bool,
        op: u8,
        data: &[u8],
        masked: bool,
    ) -> Result<usize, SendError> {
        self.check()?;
        let bytes = if masked {
            let key = Some(host.masking_key());
            self.dialogue.sender.push_masked(host, fin, 0, op, data, key)?
        } else {
            self.put(host, io, fin, op, data, false)?
        };
        self.note_sent(host, fin, op, data);
        self.sound(bytes)
    }

    fn note_sent(&mut self, host: &impl Host, fin: bool, op: u8, data: &[u8]) {
        self.dialogue.news |= News::OUTPUT;
        if op == opcode::CLOSE {
            let code = data.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
            match self.dialogue.style {
                Style::Frames => {
                    self.dialogue.closes.sent = Some(code);
                    if self.dialogue.is_over() {
                        self.dialogue.news |= News::OVER;
                    }
                }
                _ => self.dialogue.close_sent(host, u64::MAX),
            }
        } else if !opcode::is_control(op) {
            // A message's fragments are one message, where they are known to be.
            if fin || self.dialogue.style != Style::Messages {
                self.dialogue.count_out(host, data.len());
            } else {
                self.dialogue.tally.bytes_out += data.len() as u64;
            }
        }
    }

    /// Queues a ping or pong of at most 125 bytes. Returns the frame's bytes.
    pub fn send_control(
        &mut self,
        host: &impl Host,
        op: u8,
        data: &[u8],
    ) -> Result<usize, SendError> {
        self.check()?;
        self.dialogue.news |= News::OUTPUT;
        Ok(self.dialogue.sender.push(host, true, 0, op, data)?)
    }

    /// Queues an empty ping, and counts it.
    pub fn ping(&mut self, host: &impl Host) {
        if self.send_control(host, opcode::PING, &[]).is_ok() {
            host.count(Counted::Ping);
        }
    }

    /// Opens a message that is sent in fragments.
    pub fn open_stream(&mut self, text: bool) -> Result<(), SendError> {
        self.check()?;
        self.dialogue.sender.open_stream(text)
    }

    /// Queues one fragment of it.
    pub fn write_stream(&mut self, host: &impl Host, data: &[u8]) -> Result<usize, SendError> {
        self.check()?;
        let bytes = self.dialogue.sender.write_stream(host, data)?;
        self.dialogue.tally.bytes_out += data.len() as u64;
        self.dialogue.news |= News::OUTPUT;
        Ok(bytes)
    }

    /// Queues its last, empty fragment.
    pub fn finish_stream(&mut self, host: &impl Host) -> Result<usize, SendError> {
        self.check()?;
        let bytes = self.dialogue.sender.finish_stream(host)?;
        self.dialogue.count_out(host, 0);
        self.dialogue.news |= News::OUTPUT;
        Ok(bytes)
    }

    /// Queues a message that goes to many. None: it is over, perhaps because there is no memory for the
    /// message. False, and nothing is queued, where more than the high-water mark would wait then.
    pub fn share(&mut self, host: &impl Host, io: &impl Io, message: &Shared<'_>) -> Option<bool> {
        self.check().ok()?;
        if self.is_over() {
            return None;
        }
        let mark = self.dialogue.mark;
        let mut taken = self.dialogue.sender.share(host, message, mark);
        if taken == Ok(false) {
            // What this very turn has queued does not make a slow reader: the kernel may take it.
            self.flush(host, io);
            if self.write_end.is_some() {
                return None;
            }
            taken = self.dialogue.sender.share(host, message, mark);
        }
        let Ok(taken) = taken else {
            if !self.dialogue.is_put_off() {
                self.receiver.stop(IoError::NoMemory);
                self.dialogue.fail(host, Error::NoMemory, FrameHeader::default(), 0);
            }
            return None;
        };
        if taken {
            self.dialogue.count_out(host, message.len());
            self.dialogue.news |= News::OUTPUT;
        }
        Some(taken)
    }

    /// Closes a peer that does not read: of what waits for it nothing more leaves but a frame that has
    /// begun to, and a close frame with 1013.
    pub fn close_slow(&mut self, host: &impl Host) {
        self.dialogue.sender.outbox.forget_unsent();
        let (code, reason) = SLOW_CONSUMER;
        if self.dialogue.close(host, Some(code), reason.as_bytes(), 0) {
            self.end_output(host, End::SlowConsumer);
        }
    }

    /// Queues a close frame, once, and awaits the peer's for at most `ms` milliseconds. Without a code
    /// it is empty; a reason that is too long is cut. False where none can be sent any more.
    pub fn close(&mut self, host: &impl Host, code: Option<u16>, reason: &[u8], ms: u64) -> bool {
        self.dialogue.close(host, code, reason, ms)
    }

    /// Does not wait for the answer to a close frame, which still leaves, behind what was queued before it.
    pub fn end_unanswered(&mut self, host: &impl Host) {
        if self.dialogue.end().is_none() {
            self.end_output(host, End::Unanswered);
        }
    }

    /// Closes without waiting for the peer's answer: what was queued before goes out first. Where the
    /// peer's own close frame waits behind what nobody has taken, that one is answered.
    pub fn end_with(&mut self, host: &impl Host, code: u16, reason: &[u8]) {
        self.dialogue.finish_close(host);
        if self.dialogue.end().is_none() {
            self.dialogue.close(host, Some(code), reason, 0);
            self.end_output(host, End::Ended { code, reason: reason.to_vec() });
        }
    }

    fn end_output(&mut self, host: &impl Host, end: End) {
        self.receiver.stop(IoError::Closed);
        self.dialogue.drain(host, end);
    }

    /// Sends as much as the kernel takes.
    pub fn flush(&mut self, host: &impl Host, io: &impl Io) {
        while self.write_end.is_none() {
            match self.dialogue.sender.outbox.flush(host.pool(), io) {
                Ok(0) => return,
                Ok(_) => self.last_out = host.now_ms(),
                Err(err) => self.write_end = Some(err),
            }
            let waiting = self.buffered();
            self.dialogue.sender.made_room(host, self.dialogue.mark);
            if self.buffered() == waiting {
                return;
            }
        }
    }

    /// Everything that waits, for somebody else to send; None where nothing does.
    pub fn take_output(&mut self, host: &impl Host) -> Option<Vec<u8>> {
        if self.buffered() == 0 {
            return None;
        }
        match self.dialogue.sender.outbox.take_all(host.pool()) {
            Ok(bytes) => {
                self.last_out = host.now_ms();
                self.dialogue.sender.made_room(host, self.dialogue.mark);
                Some(bytes)
            }
            Err(NoMemory) => {
                self.lost(IoError::NoMemory);
                None
            }
        }
    }
}
