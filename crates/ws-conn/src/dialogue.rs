//! What the two sides say to each other: what has come, what must be answered, how it ends. The pieces
//! that `Connection` and its calls work on; bytes and sockets are not known here.

use ws_proto::header::FrameHeader;
use ws_proto::{close, opcode, Error, Event, FrameCheck, Payload};

use crate::config::{Config, Style, Words};
use crate::end::{self, Close, Farewell};
use crate::host::{Counted, Host};
use crate::inbox::{Inbox, Item};
use crate::pool::{self, NoMemory};
use crate::rate::Bucket;
use crate::sender::Sender;
use crate::{End, IoError, SendError};

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Both sides may send.
    Open,
    /// A close frame was sent, the peer's has not come.
    Closing,
    /// Nothing more can be sent or received.
    Closed,
}

/// What an owner has to act on after a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News(u8);

impl News {
    /// Output was queued.
    pub const OUTPUT: News = News(1);
    /// Items wait to be taken.
    pub const ITEMS: News = News(2);
    /// There is more to do at the end of this turn: call `handle_flush`.
    pub const AGAIN: News = News(4);
    /// It is over, from now on.
    pub const OVER: News = News(8);
    /// A rule was broken (`Connection::fault`), from now on.
    pub const BROKEN: News = News(16);
    /// The transport is to be cut at once.
    pub const CUT: News = News(32);
    /// Something left past the queue.
    pub const LEFT: News = News(64);

    /// Whether all of `other` is among it.
    #[inline]
    pub fn has(self, other: News) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    #[inline]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl std::ops::BitOrAssign for News {
    #[inline]
    fn bitor_assign(&mut self, other: News) {
        self.0 |= other.0;
    }
}

/// What one connection has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages (in frame style: data frames) received.
    pub messages_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Messages queued.
    pub messages_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
}

/// Close frames that went through a connection in frame style: their codes, 1005 for none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Closes {
    /// The owner has sent one.
    pub sent: Option<u16>,
    /// The owner was handed the peer's.
    pub taken: Option<u16>,
}

/// What only fragments need.
#[derive(Debug)]
struct Fragments {
    check: FrameCheck,
    pongs: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Dialogue {
    pub style: Style,
    pub late: bool,
    /// The peer's close frame, or the rule it broke, is answered when the owner closes.
    pub holds_close: bool,
    /// The owner is shown pings, which are answered nevertheless.
    pub shows_pings: bool,
    /// In frame style: the data frame last handed out was not its message's last.
    pub half_read: bool,
    /// In frame style: the owner was told that nothing more will come.
    pub deaf: bool,
    pub news: News,
    pub mark: usize,
    pub close: Close,
    pub closes: Closes,
    pub inbox: Inbox,
    pub sender: Sender,
    pub tally: Tally,
    answer: Option<u16>,
    words: Option<Words>,
    fragments: Option<Box<Fragments>>,
    /// Boxed: few connections have one.
    bucket: Option<Box<Bucket>>,
}

/// How long a peer may go on sending after it is over, before its connection is cut.
const LINGER_MS: u64 = 1000;

impl Dialogue {
    pub fn new(config: &Config, sender: Sender) -> Dialogue {
        let fragments = || {
            // Sizes are the reader's business.
            Box::new(Fragments { check: FrameCheck::new(u64::MAX, u32::MAX), pongs: 0 })
        };
        Dialogue {
            style: config.style,
            late: config.late,
            holds_close: false,
            shows_pings: false,
            half_read: false,
            deaf: false,
            news: News::default(),
            mark: config.mark,
            close: Close::Open,
            closes: Closes::default(),
            inbox: Inbox::default(),
            sender,
            tally: Tally::default(),
            answer: config.answer,
            words: config.words,
            fragments: (config.style == Style::Fragments).then(fragments),
            bucket: config.rate.map(|rate| Box::new(Bucket::new(rate))),
        }
    }

    /// Whether nothing more can be sent or received, and nothing more is to be told of this
    /// connection. The one place that says so; frames, which keep the close handshake themselves, are
    /// over with the second close frame.
    #[inline]
    pub fn is_over(&self) -> bool {
        match self.close {
            Close::Draining(_) | Close::Done(_) => true,
            _ => self.closes.sent.is_some() && self.closes.taken.is_some(),
        }
    }

    /// How it ended, in so far as the module knows: frames are their owner's.
    pub fn end(&self) -> Option<&End> {
        match &self.close {
            Close::Draining(ended) => Some(&ended.0),
            Close::Done(end) => Some(end),
            _ => None,
        }
    }

    /// Whether our close frame is on its way or sent, or cannot be sent any more.
    #[inline]
    pub fn is_closing(&self) -> bool {
        !matches!(self.close, Close::Open | Close::PeerClosed(_))
    }

    /// Whether an end is put off until what came before it is taken.
    #[inline]
    pub fn is_put_off(&self) -> bool {
        matches!(self.close, Close::PeerClosed(_))
    }

    /// Whether no more should be read until items are taken.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.inbox.is_full() || self.is_put_off()
    }

    /// Pongs that came; counted for fragments only.
    pub fn pongs(&self) -> u64 {
        self.fragments.as_ref().map_or(0, |fragments| fragments.pongs)
    }

    /// Takes what the codec found, and queues what must be answered. An error: a broken rule, of the
    /// frame with this head and length.
    pub fn absorb(
        &mut self,
        host: &impl Host,
        event: Event<'_>,
    ) -> Result<(), (Error, FrameHeader, usize)> {
        match event {
            Event::Message { text, payload } => {
                let op = if text { opcode::TEXT } else { opcode::BINARY };
                self.keep(host, true, op, payload)
            }
            Event::Ping(payload) => {
                self.ping(host, payload.as_ref());
                Ok(())
            }
            Event::Pong(_) => Ok(()),
            Event::Close { code, reason } => {
                self.peer_closed(host, code, reason.as_ref());
                Ok(())
            }
            Event::Frame { fin, opcode, payload } => self.frame(host, fin, opcode, payload),
        }
    }

    /// A frame, where the protocol is kept: of fragments, or of a drop-in object that closes in the
    /// middle of a message and waits for the peer's close frame.
    fn frame(
        &mut self,
        host: &impl Host,
        fin: bool,
        op: u8,
        payload: Payload<'_>,
    ) -> Result<(), (Error, FrameHeader, usize)> {
        if let Some(fragments) = &mut self.fragments {
            check_frame(&mut fragments.check, fin, op, payload.as_ref()).map_err(|err| {
                (err, FrameHeader { fin, opcode: op, ..FrameHeader::default() }, payload.len())
            })?;
        }
        match op {
            opcode::PING if self.fragments.is_some() => self.ping(host, payload.as_ref()),
            opcode::PONG => {
                if let Some(fragments) = &mut self.fragments {
                    fragments.pongs += 1;
                }
            }
            opcode::CLOSE => {
                let (code, reason) = close::parse(payload.as_ref()).unwrap_or((None, &[]));
                self.peer_closed(host, code, reason);
            }
            _ if self.fragments.is_some() => return self.keep(host, fin, op, payload),
            _ => {}
        }
        Ok(())
    }

    /// A message or a fragment, for a reader who comes later.
    fn keep(
        &mut self,
        host: &impl Host,
        fin: bool,
        opcode: u8,
        payload: Payload<'_>,
    ) -> Result<(), (Error, FrameHeader, usize)> {
        self.count_in(host, payload.len());
        if fin {
            self.admit(host).map_err(|err| (err, FrameHeader::default(), payload.len()))?;
        }
        // What comes after our own close frame is read only to find the peer's, as a rule.
        if !self.is_closing() || self.late {
            let data = owned(payload).map_err(|err| (err.into(), FrameHeader::default(), 0))?;
            self.inbox.push(Item { fin, opcode, data });
            self.news |= News::ITEMS;
        }
        Ok(())
    }

    fn ping(&mut self, host: &impl Host, payload: &[u8]) {
        if !self.is_closing() {
            if self.shows_pings {
                self.sender.note_ping(payload);
            }
            self.sender.answer(host, payload, self.mark);
            self.news |= News::OUTPUT;
        }
    }

    /// The peer's close frame came.
    fn peer_closed(&mut self, host: &impl Host, code: Option<u16>, reason: &[u8]) {
        self.end_by(host, Farewell::closed(code, reason, self.answer));
    }

    /// The peer broke a rule: tells it why, and ends.
    pub fn fail(&mut self, host: &impl Host, err: Error, head: FrameHeader, len: usize) {
        host.count(Counted::Broken(err));
        self.news |= News::BROKEN;
        let words = self.words.map_or_else(|| err.to_string(), |words| words(err, head, len));
        self.end_by(host, Farewell::broken(err, &words));
    }

    fn end_by(&mut self, host: &impl Host, farewell: Farewell) {
        if self.is_over() || self.is_put_off() {
            return;
        }
        if (self.inbox.is_empty() && !self.holds(&farewell)) || self.is_closing() {
            self.part(host, farewell);
        } else {
            self.close = Close::PeerClosed(Box::new(farewell));
            self.news |= News::AGAIN;
        }
    }

    /// How the peer has ended, which the owner is to answer.
    pub fn held(&self) -> Option<&End> {
        match &self.close {
            Close::PeerClosed(farewell) if self.inbox.is_empty() && self.holds(farewell) => {
                Some(&farewell.end)
            }
            _ => None,
        }
    }

    /// Carries out an end that was put off, unless that is the owner's to do.
    pub fn finish_close(&mut self, host: &impl Host) {
        if matches!(&self.close, Close::PeerClosed(farewell) if !self.holds(farewell)) {
            if let Close::PeerClosed(farewell) = std::mem::take(&mut self.close) {
                self.part(host, *farewell);
            }
        }
    }

    /// Whether it waits for the owner to close.
    fn holds(&self, farewell: &Farewell) -> bool {
        self.holds_close && matches!(farewell.end, End::Closed { .. } | End::Broken(_))
    }

    /// The close frame that tells the peer which rule it broke, where that has waited for the owner:
    /// it says that whatever the owner's says.
    fn held_fault(&self) -> Option<&[u8]> {
        match &self.close {
            Close::PeerClosed(farewell) if self.holds(farewell) => {
                matches!(farewell.end, End::Broken(_)).then_some(&farewell.answer)
            }
            _ => None,
        }
    }

    /// It is over: queues our close frame if it is not sent yet.
    fn part(&mut self, host: &impl Host, farewell: Farewell) {
        if !self.is_closing() {
            self.sender.close(host, &farewell.answer);
        }
        self.drain(host, farewell.end);
    }

    /// It is over, and what is queued still leaves.
    pub fn drain(&mut self, host: &impl Host, end: End) {
        if !self.has_ended() {
            self.close = Close::Draining(Box::new((end, host.now_ms() + LINGER_MS)));
            self.news |= News::OUTPUT;
            self.news |= News::OVER;
        }
    }

    /// It is over, without a word.
    pub fn finish(&mut self, end: End) {
        if !self.has_ended() {
            self.close = Close::Done(Box::new(end));
            self.news |= News::OVER;
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.close, Close::Draining(_) | Close::Done(_))
    }

    /// Queues a close frame, once; the peer's is awaited until `until`. Without a code it is empty.
    /// False where none can be sent any more.
    pub fn close(
        &mut self,
        host: &impl Host,
        code: Option<u16>,
        reason: &[u8],
        until: u64,
    ) -> bool {
        let can = !self.is_closing();
        if can {
            let frame = self.held_fault().map(<[u8]>::to_vec);
            let frame = frame.unwrap_or_else(|| close::encode(code, end::cut(reason)));
            self.sender.close(host, &frame);
            if self.style == Style::Frames {
                self.closes.sent = Some(code.unwrap_or(1005));
            }
            self.close_sent(host, until);
        }
        can
    }

    /// Our close frame is queued. If the peer's was found already, that is the end.
    pub fn close_sent(&mut self, host: &impl Host, until: u64) {
        self.news |= News::OUTPUT;
        if let Close::PeerClosed(farewell) = std::mem::replace(&mut self.close, Close::Sent(until))
        {
            self.drain(host, farewell.end);
        }
    }

    #[inline]
    pub fn check_open(&self) -> Result<(), SendError> {
        if self.is_closing() {
            Err(SendError::Closed)
        } else {
            Ok(())
        }
    }

    /// Whether another message may come now.
    #[inline]
    pub fn admit(&mut self, host: &impl Host) -> Result<(), Error> {
        let fits = self.bucket.as_mut().is_none_or(|bucket| bucket.take(host.now_ms()));
        fits.then_some(()).ok_or(Error::TooManyMessages)
    }

    #[inline]
    pub fn count_in(&mut self, host: &impl Host, bytes: usize) {
        self.tally.messages_in += 1;
        self.tally.bytes_in += bytes as u64;
        host.count(Counted::MessageIn(bytes));
    }

    #[inline]
    pub fn count_out(&mut self, host: &impl Host, bytes: usize) {
        self.tally.messages_out += 1;
        self.tally.bytes_out += bytes as u64;
        host.count(Counted::MessageOut(bytes));
    }

    /// What is to be said of it in numbers: the end, or what of it went through as frames.
    pub fn outcome(&self) -> Option<End> {
        if let Some(end) = self.end() {
            return Some(end.clone());
        }
        match self.closes {
            Closes { taken: Some(code), .. } => Some(End::Closed { code, reason: Vec::new() }),
            Closes { sent: Some(code), .. } => Some(End::Ended { code, reason: Vec::new() }),
            _ => None,
        }
    }

    /// The transport failed, or ended: whatever was to be read on for does not come.
    pub fn lost(&mut self, err: IoError) {
        match std::mem::take(&mut self.close) {
            Close::Draining(ended) => self.close = Close::Done(Box::new(ended.0)),
            // It has said how it ends, behind what nobody has taken yet.
            Close::PeerClosed(farewell) => self.finish(farewell.end),
            close => {
                self.close = close;
                self.finish(End::Lost(err));
            }
        }
    }
}

/// Whether a frame may come now, where the rules of messages hold for frames.
pub fn check_frame(check: &mut FrameCheck, fin: bool, op: u8, payload: &[u8]) -> Result<(), Error> {
    match op {
        opcode::CLOSE => close::validate_strict(payload).map(|_| ()),
        _ if opcode::is_control(op) => Ok(()),
        _ => check.data(op, fin, payload),
    }
}

/// The payload in memory of its own.
pub(crate) fn owned(payload: Payload<'_>) -> Result<Vec<u8>, NoMemory> {
    match payload {
        Payload::Slice(bytes) => pool::copy(bytes),
        Payload::Owned(bytes) => Ok(bytes),
    }
}
