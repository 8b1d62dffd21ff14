//! Reading, and taking what came: by frames, by messages, by fragments.

use ws_proto::header::FrameHeader;
use ws_proto::{opcode, Error, Event, Payload};

use super::view::{lend_out, Passing, View};
use super::Connection;
use crate::config::Style;
use crate::dialogue::{owned, Dialogue, News};
use crate::host::{Counted, Host, Io, NoIo};
use crate::inbox::Item;
use crate::receiver::{Receiver, RecvError};
use crate::{End, IoError};

impl Connection {
    /// Whether items wait to be taken.
    #[inline]
    pub fn has_items(&self) -> bool {
        !self.dialogue.inbox.is_empty()
    }

    /// Whether nothing more is read until items are taken.
    pub fn is_full(&self) -> bool {
        self.dialogue.is_full()
    }

    /// Whether nothing more will come, but for items that wait.
    pub fn is_ending(&self) -> bool {
        self.dialogue.is_over() || self.dialogue.is_put_off()
    }

    /// Whether bytes wait that nobody has looked at, as far as is known without a read.
    #[inline]
    pub fn has_bytes(&self, io: &impl Io) -> bool {
        self.receiver.has_bytes(io)
    }

    /// Whether nothing waits for who carries messages: there is room for others, none has come, and no end is
    /// near.
    pub fn is_quiet(&self, io: &impl Io) -> bool {
        let ends = self.is_closing() || self.is_ending() || self.held_close().is_some();
        !ends && self.may_pass() && !self.has_items() && !self.has_bytes(io)
    }

    /// Whether a part of a frame came and the rest is missing.
    pub fn is_mid_frame(&self) -> bool {
        self.receiver.is_mid_frame()
    }

    /// Whether the next bytes begin an item.
    pub fn is_between(&self) -> bool {
        self.receiver.is_between()
    }

    /// Whether a reader that waits may as well read by itself what has come: it gets its payload
    /// without a copy.
    pub fn may_hand_over(&self) -> bool {
        // Once the peer has closed nobody reads on, whatever waits in the socket.
        !self.is_closing() && !self.is_ending() && !self.has_items() && self.receiver.is_between()
    }

    /// In frame style: whether half a message has been handed out.
    pub fn is_half_read(&self) -> bool {
        self.dialogue.half_read
    }

    /// The failure that a read which is due has met.
    pub fn io_error(&self, err: IoError) -> RecvError {
        self.receiver.io_error(err)
    }

    /// Why nothing more can be received.
    pub fn read_end(&self) -> Option<RecvError> {
        self.receiver.end()
    }

    /// Bytes that somebody else has read: they count as not looked at yet.
    pub fn preread(&mut self, host: &impl Host, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.receiver.append(host, bytes);
        }
    }

    /// As `handle_read`, of bytes that somebody else has read.
    pub fn feed(&mut self, host: &impl Host, bytes: &[u8]) {
        // Nothing that follows the end means anything (RFC 6455 5.5.1).
        if !self.is_ending() {
            self.preread(host, bytes);
            self.handle_read(host, &NoIo);
            self.receiver.end_turn(host);
        }
    }

    /// Reads what there is, and answers what must be answered, where the protocol is kept. Items wait
    /// to be taken; a full inbox stops the reading.
    #[inline(always)]
    pub fn handle_read(&mut self, host: &impl Host, io: &impl Io) {
        if self.dialogue.is_put_off() {
            if !self.has_items() {
                self.dialogue.finish_close(host);
            }
        } else if self.receiver.may_bring(io) && !self.dialogue.is_over() {
            self.read_on(host, io, false, usize::MAX);
        }
    }

    /// As `handle_read`, until one item is whole.
    pub fn read_item(&mut self, host: &impl Host, io: &impl Io) {
        if !self.is_ending() && !self.has_items() {
            self.read_on(host, io, false, 1);
            self.receiver.end_turn(host);
        }
    }

    /// Reads items, at most `most`. With `lend` it ends at the first, and leaves its payload where it
    /// lies.
    fn read_on(&mut self, host: &impl Host, io: &impl Io, lend: bool, most: usize) -> Option<View> {
        let Connection { receiver, dialogue, lent, .. } = self;
        let lend = lend && !dialogue.is_closing();
        let (mut view, mut read, mut any) = (None, 0, false);
        while view.is_none() && read < most && !dialogue.is_over() && !dialogue.is_full() {
            let next = receiver.next(host, io, |event, _| match event {
                Event::Message { text, payload } if lend => {
                    dialogue.count_in(host, payload.len());
                    dialogue
                        .admit(host)
                        .map_err(|err| (err, FrameHeader::default(), payload.len()))?;
                    let op = if text { opcode::TEXT } else { opcode::BINARY };
                    view = Some(lend_out(lent, true, op, payload));
                    Ok(())
                }
                event => dialogue.absorb(host, event),
            });
            any |= next.is_some();
            match next {
                None => break,
                Some(Ok(Ok(()))) => read += usize::from(!dialogue.inbox.is_empty()),
                Some(fault) => end_reading(receiver, dialogue, host, fault),
            }
        }
        if any {
            self.note_held();
        }
        view
    }

    /// Message style: hands every message that is here to `sink`, until that answers that it has no room
    /// for more, or none is left.
    pub fn pass(
        &mut self,
        host: &impl Host,
        io: &impl Io,
        mut sink: impl FnMut(Passing<'_>) -> bool,
    ) {
        let mut room = true;
        while room {
            let Some(Item { opcode, data, .. }) = self.dialogue.inbox.pop() else { break };
            let more = self.has_items() || self.receiver.has_bytes(io);
            room = sink(Passing { text: opcode == opcode::TEXT, data: &data, more });
            host.recycle(data);
        }
        if !room || self.is_ending() {
            if room {
                self.dialogue.finish_close(host);
            }
            return;
        }
        let Connection { receiver, dialogue, .. } = self;
        let mut any = false;
        while room && !dialogue.is_over() && !dialogue.is_full() && receiver.may_bring(io) {
            let next = receiver.next(host, io, |event, more| match event {
                Event::Message { text, payload } if !dialogue.is_closing() || dialogue.late => {
                    let len = payload.len();
                    dialogue.count_in(host, len);
                    dialogue.admit(host).map_err(|err| (err, FrameHeader::default(), len))?;
                    room = sink(Passing { text, data: payload.as_ref(), more });
                    if let Payload::Owned(bytes) = payload {
                        host.recycle(bytes);
                    }
                    Ok(())
                }
                event => dialogue.absorb(host, event),
            });
            any |= next.is_some();
            match next {
                None => break,
                Some(Ok(Ok(()))) => {}
                Some(fault) => end_reading(receiver, dialogue, host, fault),
            }
        }
        if any {
            self.note_held();
        }
    }

    /// What is held for what came is given back at the end of the turn.
    #[inline]
    fn note_held(&mut self) {
        if self.receiver.is_holding() {
            self.want_flush();
        }
    }

    /// There is more to do at the end of this turn: the owner is told so once.
    #[inline]
    fn want_flush(&mut self) {
        if !std::mem::replace(&mut self.flush_wanted, true) {
            self.dialogue.news |= News::AGAIN;
        }
    }

    /// Message style: the next message, if it is here.
    #[inline(always)]
    pub fn poll_message(&mut self, host: &impl Host, io: &impl Io) -> Option<View> {
        self.free_lent(host);
        if self.has_items() || self.dialogue.is_put_off() {
            return self.pop_message(host);
        }
        if !self.receiver.may_bring(io) || self.dialogue.is_over() {
            return None;
        }
        let plain = match self.dialogue.is_closing() {
            false => self.receiver.next_plain(host, io),
            true => None,
        };
        let Some((opcode, data, len)) = plain else { return self.read_any_message(host, io) };
        self.dialogue.count_in(host, len);
        // What is left is looked at in this turn, even if the reader does not come back.
        if self.receiver.is_holding() || io.read_ready() {
            self.want_flush();
        }
        if let Err(err) = self.dialogue.admit(host) {
            self.dialogue.fail(host, err, FrameHeader::default(), len);
            return None;
        }
        Some(View { fin: true, opcode, code: None, data, len })
    }

    #[cold]
    fn pop_message(&mut self, host: &impl Host) -> Option<View> {
        // Reading may have stopped. There is room now, and what came meanwhile may be a ping.
        if self.dialogue.is_full() {
            self.want_flush();
        }
        let view = self.pop();
        if view.is_none() {
            self.dialogue.finish_close(host);
        }
        view
    }

    /// The rest of `poll_message`: of messages that are not plain, or not whole yet.
    #[inline(never)]
    fn read_any_message(&mut self, host: &impl Host, io: &impl Io) -> Option<View> {
        let view = self.read_on(host, io, true, usize::MAX).or_else(|| self.pop());
        if view.is_some() && self.receiver.has_bytes(io) {
            self.want_flush();
        }
        view
    }

    /// The next item of what has been fed.
    pub fn take_fed(&mut self, host: &impl Host) -> Option<Item> {
        if !self.has_items() {
            self.handle_read(host, &NoIo);
            self.receiver.end_turn(host);
        }
        self.take_item(host)
    }

    /// The next item that waits. Where none does, an end that was put off is carried out.
    pub fn take_item(&mut self, host: &impl Host) -> Option<Item> {
        let item = self.dialogue.inbox.pop();
        if item.is_none() {
            self.dialogue.finish_close(host);
        }
        item
    }

    /// Whether something that has come waits to be taken or looked at.
    pub fn has_unread(&self) -> bool {
        self.has_items() || self.receiver.has_bytes(&NoIo)
    }

    fn pop(&mut self) -> Option<View> {
        let Item { fin, opcode, data } = self.dialogue.inbox.pop()?;
        let view = View::new(fin, opcode, &data);
        self.lent = data;
        Some(view)
    }

    /// Frame style: the next frame, if it is here. An error is final, and every later call repeats it.
    pub fn poll_frame(
        &mut self,
        host: &impl Host,
        io: &impl Io,
        max_frame: u64,
    ) -> Option<Result<View, RecvError>> {
        let view = self.poll_frame_now(host, io, max_frame);
        view.map(Ok).or_else(|| self.read_end().map(Err))
    }

    /// As `poll_frame`, for a caller who asks that where none is here.
    #[inline(always)]
    pub fn poll_frame_now(
        &mut self,
        host: &impl Host,
        io: &impl Io,
        max_frame: u64,
    ) -> Option<View> {
        self.free_lent(host);
        if self.has_items() {
            return self.pop_frame(host);
        }
        if !self.receiver.may_bring(io) {
            return None;
        }
        self.receiver.codec().set_max_frame(max_frame);
        let Some((opcode, data, len)) = self.receiver.next_plain(host, io) else {
            return self.read_any_frame(host, io);
        };
        self.dialogue.half_read = false;
        self.dialogue.count_in(host, len);
        self.note_held();
        Some(View { fin: true, opcode, code: None, data, len })
    }

    #[cold]
    fn pop_frame(&mut self, host: &impl Host) -> Option<View> {
        let view = self.pop()?;
        self.note_frame(host, &view, false);
        Some(view)
    }

    /// The rest of `poll_frame`: of frames that are not plain, or not whole yet.
    #[inline(never)]
    fn read_any_frame(&mut self, host: &impl Host, io: &impl Io) -> Option<View> {
        let Connection { receiver, lent, .. } = self;
        let next = receiver.next(host, io, |event, _| {
            let (fin, opcode, payload) = frame(event);
            lend_out(lent, fin, opcode, payload)
        })?;
        match &next {
            Ok(view) => self.note_frame(host, view, true),
            Err(err) => self.note_deaf(host, *err),
        }
        self.note_held();
        next.ok()
    }

    /// Frame style: goes on with a frame that has begun to come, for a reader that waits for it.
    /// Returns whether that is to be woken.
    pub fn read_frame(&mut self, host: &impl Host, io: &impl Io) -> bool {
        // The reader itself reads what begins a frame: it gets its payload without a copy.
        if !self.receiver.is_mid_frame() {
            return true;
        }
        let next = self.receiver.next(host, io, |event, _| {
            let (fin, opcode, payload) = frame(event);
            owned(payload).map(|data| Item { fin, opcode, data })
        });
        self.note_held();
        match next {
            Some(Ok(Ok(item))) => self.dialogue.inbox.push(item),
            Some(Ok(Err(_))) => self.receiver.stop(IoError::NoMemory),
            Some(Err(err)) => self.note_deaf(host, err),
            None => return false,
        }
        true
    }

    /// Frame style: nothing more will come. Whoever found that out, it is told once.
    fn note_deaf(&mut self, host: &impl Host, err: RecvError) {
        if std::mem::replace(&mut self.dialogue.deaf, true) {
            return;
        }
        if let RecvError::Protocol(err) = err {
            host.count(Counted::Broken(err));
        }
        self.dialogue.news |= News::OVER;
    }

    /// Keeps count of a frame handed out: of whole messages, when they came.
    #[inline]
    fn note_frame(&mut self, host: &impl Host, view: &View, fresh: bool) {
        if !opcode::is_control(view.opcode) {
            if fresh || self.dialogue.style == Style::Frames {
                self.dialogue.half_read = !view.fin;
                self.dialogue.count_in(host, view.len);
            }
        } else if view.opcode == opcode::CLOSE {
            self.dialogue.closes.taken = Some(view.code.unwrap_or(1005));
            if self.dialogue.is_over() {
                self.dialogue.news |= News::OVER;
            }
        }
    }

    /// What was handed out has been copied.
    #[inline]
    pub fn free_lent(&mut self, host: &impl Host) {
        if self.lent.capacity() > 0 {
            host.recycle(std::mem::take(&mut self.lent));
        }
    }
}

/// What a read has brought is no item: a broken rule, or the end.
fn end_reading(
    receiver: &mut Receiver,
    dialogue: &mut Dialogue,
    host: &impl Host,
    fault: Result<Result<(), (Error, FrameHeader, usize)>, RecvError>,
) {
    match fault {
        Ok(Ok(())) => {}
        Ok(Err((err, head, len))) => dialogue.fail(host, err, head, len),
        Err(RecvError::Protocol(err)) => {
            let (head, len) = receiver.codec().refused();
            dialogue.fail(host, err, head, len);
        }
        Err(RecvError::Io(_, err)) => dialogue.lost(err),
        Err(RecvError::Ended) => dialogue.finish(End::Dropped),
    }
}

fn frame(event: Event<'_>) -> (bool, u8, Payload<'_>) {
    match event {
        Event::Frame { fin, opcode, payload } => (fin, opcode, payload),
        _ => unreachable!("a codec in frame style finds frames only"),
    }
}
