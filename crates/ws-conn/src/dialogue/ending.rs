//! How a dialogue ends: by a close frame of either side, by a broken rule, by the transport. Our close
//! frame is queued once; what came before the peer's is taken first.

use ws_proto::header::FrameHeader;
use ws_proto::{close, Error};

use super::{Closes, Dialogue, News};
use crate::config::Style;
use crate::end::{self, Close, Farewell};
use crate::host::{Counted, Host};
use crate::{End, IoError};

/// How long a peer may go on sending after it is over, before its connection is cut.
const LINGER_MS: u64 = 1000;

impl Dialogue {
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

    /// The peer's close frame came.
    pub(super) fn peer_closed(&mut self, host: &impl Host, code: Option<u16>, reason: &[u8]) {
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

    /// Queues a close frame, once; the peer's is awaited for `ms` milliseconds. Without a code it is empty.
    /// False where none can be sent any more.
    pub fn close(&mut self, host: &impl Host, code: Option<u16>, reason: &[u8], ms: u64) -> bool {
        let can = !self.is_closing();
        if can {
            let frame = self.held_fault().map(<[u8]>::to_vec);
            let frame = frame.unwrap_or_else(|| close::encode(code, end::cut(reason)));
            self.sender.close(host, &frame);
            if self.style == Style::Frames {
                self.closes.sent = Some(code.unwrap_or(1005));
            }
            self.close_sent(host, ms);
        }
        can
    }

    /// Our close frame is queued. If the peer's was found already, that is the end.
    pub fn close_sent(&mut self, host: &impl Host, ms: u64) {
        self.news |= News::OUTPUT;
        let until = host.now_ms().saturating_add(ms);
        let sent = Close::Sent { until, ms: ms.try_into().unwrap_or(u32::MAX) };
        if let Close::PeerClosed(farewell) = std::mem::replace(&mut self.close, sent) {
            self.drain(host, farewell.end);
        }
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
