//! One connection: a receiver, a dialogue, and the deadlines of both. The owner calls, and afterwards
//! acts on `take_news`.

mod receiving;
mod sending;
mod view;

use ws_proto::{Conn, Error, Settings};

use crate::config::{Config, Style};
use crate::dialogue::{Dialogue, News, Phase, Tally};
use crate::end::Close;
use crate::heartbeat::{Beat, Heartbeat};
use crate::host::{Counted, Host, Io};
use crate::receiver::{Receiver, RecvError};
use crate::sender::Sender;
use crate::{End, IoError};

pub use view::{Passing, View};

/// Fragments of one message: enough for any honest peer, and no way to make us work for nothing.
pub const MAX_FRAGMENTS: u32 = 1 << 20;

/// See the module. Owned by whoever has its socket; holds no buffer while idle.
#[derive(Debug)]
pub struct Connection {
    receiver: Receiver,
    dialogue: Dialogue,
    heartbeat: Option<Heartbeat>,
    /// Memory of the item last handed out, given back with the next call.
    lent: Vec<u8>,
    /// Why nothing more can be written.
    write_end: Option<IoError>,
    /// When output last left.
    last_out: u64,
    /// When it is closed, however well it goes.
    until: u64,
    /// The owner was told of `News::AGAIN`, and the end of the turn has not come.
    flush_wanted: bool,
}

impl Connection {
    /// A connection right after its opening handshake.
    pub fn new(host: &impl Host, config: &Config) -> Connection {
        let settings = Settings {
            style: codec_style(config.style),
            masking: config.masking,
            max_frame: config.max_frame,
            max_message: config.max_message,
            max_fragments: MAX_FRAGMENTS,
        };
        let (codec, encoder) = match &config.extension {
            Some(agreed) => (
                Conn::with_extension(settings, agreed, config.role),
                Some(agreed.encoder(config.role)),
            ),
            None => (Conn::new(settings), None),
        };
        let now = host.now_ms();
        Connection {
            receiver: Receiver::new(codec, now),
            dialogue: Dialogue::new(config, Sender::new(config.role, encoder)),
            heartbeat: config.heartbeat.map(Heartbeat::new),
            lent: Vec::new(),
            write_end: None,
            last_out: now,
            until: config.lifetime.map_or(u64::MAX, |ms| now.saturating_add(ms)),
            flush_wanted: false,
        }
    }

    /// What has to be acted on since the last time.
    #[inline]
    pub fn take_news(&mut self) -> News {
        std::mem::take(&mut self.dialogue.news)
    }

    /// How items are taken now.
    #[inline]
    pub fn style(&self) -> Style {
        self.dialogue.style
    }

    /// Goes on in another style. False, and nothing changes, while half a frame or half a message has
    /// come: the rules it began with hold to its end.
    pub fn begin(&mut self, style: Style) -> bool {
        if self.dialogue.style == style {
            return true;
        }
        // Whole items that wait are messages whatever they are taken as; a frame is not.
        let frames_wait = self.dialogue.style == Style::Frames && !self.dialogue.inbox.is_empty();
        let possible = !frames_wait
            && !self.dialogue.half_read
            && self.receiver.codec().set_style(codec_style(style));
        if possible {
            self.dialogue.style = style;
        }
        possible
    }

    /// Whether nothing more can be sent or received.
    #[inline]
    pub fn is_over(&self) -> bool {
        let deaf = self.receiver.end().is_some() && self.dialogue.style == Style::Frames;
        deaf || self.dialogue.is_over()
    }

    /// How it ended. None while it has not, and for frames, whose owner knows.
    pub fn end(&self) -> Option<&End> {
        self.dialogue.end()
    }

    /// Leaves it to the owner to answer the peer's close frame, by `close`: in message style, where
    /// somebody else has to be heard first. Of a broken rule it is the time that is the owner's, not the
    /// code. What comes after our own close frame is handed out too. The time for the answer to that counts
    /// from when something last left: what waits before it may take longer.
    pub fn hold_close(&mut self) {
        self.dialogue.holds_close = true;
        self.dialogue.late = true;
    }

    /// Keeps pings for `take_ping`, of several the latest. They are answered nevertheless.
    pub fn show_pings(&mut self) {
        self.dialogue.shows_pings = true;
    }

    /// The payload of a ping that has come.
    pub fn take_ping(&mut self) -> Option<Vec<u8>> {
        self.dialogue.sender.take_ping()
    }

    /// How the peer has ended, where that waits for the owner's close frame.
    pub fn held_close(&self) -> Option<&End> {
        self.dialogue.held()
    }

    /// How it ended, for the numbers: of frames, what can be said of them.
    pub fn outcome(&self) -> Option<End> {
        self.dialogue.outcome().or_else(|| match self.receiver.end()? {
            RecvError::Protocol(err) => Some(End::Broken(err)),
            RecvError::Io(_, err) => Some(End::Lost(err)),
            RecvError::Ended => None,
        })
    }

    /// Whether our close frame was queued.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.dialogue.is_closing()
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        if self.dialogue.end().is_some() {
            Phase::Closed
        } else if self.dialogue.is_closing() {
            Phase::Closing
        } else {
            Phase::Open
        }
    }

    /// The rule that the peer broke, if it did.
    pub fn fault(&self) -> Option<Error> {
        let end = match &self.dialogue.close {
            Close::PeerClosed(farewell) => Some(&farewell.end),
            _ => self.dialogue.end(),
        };
        match end {
            Some(End::Broken(err)) => Some(*err),
            _ => None,
        }
    }

    /// What it has moved.
    pub fn tally(&self) -> Tally {
        self.dialogue.tally
    }

    /// Pongs that came; of fragments only.
    pub fn pongs(&self) -> u64 {
        self.dialogue.pongs()
    }

    /// When the last byte came.
    pub fn last_in(&self) -> u64 {
        self.receiver.last_in()
    }

    /// When output last left.
    pub fn last_out(&self) -> u64 {
        self.last_out
    }

    /// How long the owner is to read on before it closes the transport, in milliseconds: after close
    /// frames the peer may finish what it is sending (RFC 6455 7.1.1), or a reset would take our last
    /// bytes from it. None: not any more.
    pub fn linger_ms(&self, host: &impl Host) -> Option<u64> {
        match &self.dialogue.close {
            Close::Draining(ended) => ended.1.checked_sub(host.now_ms()).filter(|left| *left > 0),
            _ => None,
        }
    }

    /// Does what is due now. Returns in how many milliseconds something may be due again. `unread`: bytes
    /// may have come that the owner has not let it look at.
    pub fn handle_timeout(&mut self, host: &impl Host, unread: bool) -> Option<u64> {
        if self.dialogue.is_over() {
            return None;
        }
        if let Close::Sent { until, ms } = self.dialogue.close {
            let until = match self.dialogue.holds_close {
                true => until.max(self.last_out.saturating_add(ms.into())),
                false => until,
            };
            let left = until.saturating_sub(host.now_ms());
            if left == 0 {
                self.cut(End::Unanswered);
                return None;
            }
            return Some(left);
        }
        let left = self.until.saturating_sub(host.now_ms());
        if left == 0 {
            self.end_with(host, 1001, b"lifetime is over");
            return None;
        }
        let beat = self.beat(host, unread);
        if self.dialogue.is_over() {
            return None;
        }
        self.sooner(beat, left)
    }

    /// The sooner of the heartbeat's time and the end of the lifetime.
    fn sooner(&self, beat: Option<u64>, left: u64) -> Option<u64> {
        let left = (self.until != u64::MAX).then_some(left);
        beat.into_iter().chain(left).min()
    }

    /// Does what the heartbeat wants now. Returns in how many milliseconds it is to be asked again.
    fn beat(&mut self, host: &impl Host, unread: bool) -> Option<u64> {
        let last_in = self.receiver.last_in();
        let heartbeat = self.heartbeat.as_mut()?;
        // Reading has stopped because nobody takes the items: silence says nothing then.
        if self.dialogue.is_full() {
            return Some(heartbeat.interval());
        }
        match heartbeat.beat(host.now_ms(), last_in, unread) {
            Beat::Wait(ms) => Some(ms),
            Beat::Ping(ms) => {
                self.ping(host);
                Some(ms)
            }
            Beat::Dead => {
                host.count(Counted::PingTimeout);
                self.cut(End::PingTimeout);
                None
            }
        }
    }

    /// In how many milliseconds `handle_timeout` is to be called first. `random` spreads that over
    /// connections which came all at once.
    pub fn first_timeout(&mut self, host: &impl Host, random: u32) -> Option<u64> {
        let first = self.heartbeat.as_mut().map(|heartbeat| {
            heartbeat.spread(random);
            heartbeat.first()
        });
        self.sooner(first, self.until.saturating_sub(host.now_ms()))
    }

    /// The connection is taken from its owner: nothing more comes or leaves, and nobody is told.
    pub fn lost(&mut self, err: IoError) {
        self.receiver.stop(err);
        self.write_end.get_or_insert(err);
        self.dialogue.sender.outbox.clear();
        self.dialogue.lost(err);
    }

    /// What waits to leave will never leave.
    pub fn give_up_output(&mut self) {
        self.dialogue.sender.outbox.clear();
        self.write_end.get_or_insert(IoError::Closed);
    }

    /// The transport goes: a connection of which no end is known has lost its peer without a word.
    pub fn end_unsaid(&mut self) {
        if self.outcome().is_none() {
            self.dialogue.lost(IoError::Closed);
        }
    }

    /// Ends at once, whatever waits.
    pub fn drop_now(&mut self) {
        self.cut(End::Dropped);
    }

    fn cut(&mut self, end: End) {
        self.dialogue.finish(end);
        self.receiver.stop(IoError::Closed);
        self.dialogue.sender.outbox.clear();
        self.write_end.get_or_insert(IoError::Closed);
        self.dialogue.news |= News::CUT;
    }

    /// Gives back what compressing and decompressing took: nothing more will be sent or received.
    pub fn free_codecs(&mut self) {
        self.receiver.free_inflater();
        self.dialogue.sender.free_encoder();
    }

    /// The end of a turn of the event loop: reads what there is where the protocol is kept, carries out
    /// an end that nobody holds up any more, sends what waits, and gives memory back.
    pub fn handle_flush(&mut self, host: &impl Host, io: &impl Io) {
        self.handle_turn(host, io);
        self.flush(host, io);
        self.end_turn(host);
    }

    /// The first part of `handle_flush`: what may add to what waits.
    #[inline]
    pub fn handle_turn(&mut self, host: &impl Host, io: &impl Io) {
        if self.dialogue.style != Style::Frames {
            self.handle_read(host, io);
            // A reader that was waiting runs before the second of two flushes, and may have answered
            // all by then; nobody else holds the close frame up.
            if let Close::PeerClosed(farewell) = &mut self.dialogue.close {
                if std::mem::replace(&mut farewell.waited, true) {
                    self.dialogue.finish_close(host);
                } else {
                    self.dialogue.news |= News::AGAIN;
                }
            }
        }
    }

    /// The last part of `handle_flush`: gives memory back.
    #[inline]
    pub fn end_turn(&mut self, host: &impl Host) {
        self.flush_wanted = false;
        self.receiver.end_turn(host);
    }
}

fn codec_style(style: Style) -> ws_proto::Style {
    match style {
        Style::Messages => ws_proto::Style::Messages,
        Style::Frames | Style::Fragments => ws_proto::Style::Frames,
    }
}
