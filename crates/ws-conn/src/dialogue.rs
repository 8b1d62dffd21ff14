//! What the two sides say to each other: what has come, what must be answered, how it ends. The pieces
//! that `Connection` and its calls work on; bytes and sockets are not known here.

mod ending;

use ws_proto::header::FrameHeader;
use ws_proto::{close, opcode, Error, Event, FrameCheck, Payload};

use crate::config::{Config, Style, Words};
use crate::end::Close;
use crate::host::{Counted, Host};
use crate::inbox::{Inbox, Item};
use crate::pool::{self, NoMemory};
use crate::rate::Bucket;
use crate::sender::Sender;
use crate::SendError;

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
