//! How a connection ends, and where it is on the way there (RFC 6455 5.5.1, 7.1).

use std::fmt;

use ws_proto::{close, Error};

use crate::IoError;

/// Longest reason of a close frame: a control frame has 125 bytes, the code takes 2.
pub const MAX_REASON: usize = 123;

/// Code and reason for a peer that does not keep up. 1013 is "try again later" (RFC 6455 11.7's registry).
pub const SLOW_CONSUMER: (u16, &str) = (1013, "slow consumer");

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer sent its close frame.
    Closed {
        /// 1005 where the frame had none (RFC 6455 7.4.1).
        code: u16,
        /// The peer's words.
        reason: Vec<u8>,
    },
    /// The peer broke a rule, or there was no memory for what it sent; the close frame says so.
    Broken(Error),
    /// The transport ended without a close frame.
    Lost(IoError),
    /// Nothing came after a ping.
    PingTimeout,
    /// Too much was waiting for a peer that does not read; the close frame was queued.
    SlowConsumer,
    /// This side closed, without waiting for the peer's answer: its worker is going away, its handler
    /// has ended, or somebody elsewhere closed the connection by its id.
    Ended {
        /// The code sent.
        code: u16,
        /// The reason sent.
        reason: Vec<u8>,
    },
    /// This side closed, and the peer's close frame did not come in the time it had.
    Unanswered,
    /// Dropped by this side.
    Dropped,
}

impl End {
    /// The text `recv` returns.
    pub fn text(&self) -> String {
        match self {
            End::Closed { .. } | End::Ended { .. } | End::Unanswered | End::Dropped => {
                "closed".to_string()
            }
            End::SlowConsumer => SLOW_CONSUMER.1.to_string(),
            End::Broken(err) => err.to_string(),
            End::Lost(IoError::Closed) => "connection lost".to_string(),
            End::Lost(err) => format!("connection lost: {err}"),
            End::PingTimeout => "ping timeout".to_string(),
        }
    }

    /// The close code that describes the end (RFC 6455 7.1.5).
    pub fn code(&self) -> u16 {
        match self {
            End::Closed { code, .. } | End::Ended { code, .. } => *code,
            End::SlowConsumer => SLOW_CONSUMER.0,
            End::Broken(err) => err.close_code(),
            End::Lost(_) | End::PingTimeout | End::Unanswered | End::Dropped => 1006,
        }
    }

    /// The reason that goes with it.
    pub fn reason(&self) -> Vec<u8> {
        match self {
            End::Closed { reason, .. } | End::Ended { reason, .. } => reason.clone(),
            other => other.text().into_bytes(),
        }
    }

    /// Whether it was somebody's fault: a broken rule, a failed transport.
    pub fn is_failure(&self) -> bool {
        !matches!(
            self,
            End::Closed { .. }
                | End::Ended { .. }
                | End::Unanswered
                | End::Dropped
                | End::Lost(IoError::Closed)
        )
    }
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The connection is closed or closing.
    Closed,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// A `send_stream` is open: messages cannot interleave.
    StreamOpen,
    /// The stream was finished, or never opened.
    NoStream,
    /// The transport failed.
    Io(IoError),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Closed => f.write_str("closed"),
            SendError::InvalidUtf8 => f.write_str("invalid utf-8"),
            SendError::StreamOpen => f.write_str("a stream is being sent"),
            SendError::NoStream => f.write_str("stream finished"),
            SendError::Io(err) => err.fmt(f),
        }
    }
}

impl std::error::Error for SendError {}

impl From<crate::NoMemory> for SendError {
    fn from(_: crate::NoMemory) -> Self {
        SendError::Io(IoError::NoMemory)
    }
}

/// Where a connection stands. What ends it is boxed: it is not there while the connection lives.
#[derive(Debug, Default)]
pub(crate) enum Close {
    /// Both sides may send.
    #[default]
    Open,
    /// Our close frame is queued or sent. The peer's is awaited until then, which is so many milliseconds.
    Sent { until: u64, ms: u32 },
    /// The peer's close frame, or its fault, was found behind items that nobody has taken. It is put
    /// off, so that what came before it can be answered before our close frame: the peer sent it in
    /// that order.
    PeerClosed(Box<Farewell>),
    /// It is over. What is queued still leaves, and the peer may finish what it is sending until then
    /// (RFC 6455 7.1.1).
    Draining(Box<(End, u64)>),
    /// It is over, and nothing moves any more.
    Done(Box<End>),
}

/// An end, and the close frame that answers it.
#[derive(Debug)]
pub(crate) struct Farewell {
    pub end: End,
    pub answer: Vec<u8>,
    /// It has been held up for one flush.
    pub waited: bool,
}

impl Farewell {
    /// Answers the peer's close frame with its own code (RFC 6455 5.5.1), or with `with`.
    pub fn closed(code: Option<u16>, reason: &[u8], with: Option<u16>) -> Farewell {
        let end = End::Closed { code: code.unwrap_or(1005), reason: reason.to_vec() };
        Farewell { end, answer: close::encode(with.or(code), &[]), waited: false }
    }

    /// Tells the peer which rule it broke.
    pub fn broken(err: Error, words: &str) -> Farewell {
        let answer = close::encode(Some(err.close_code()), cut(words.as_bytes()));
        Farewell { end: End::Broken(err), answer, waited: false }
    }
}

/// As much of a reason as a close frame has room for, in whole characters.
pub(crate) fn cut(reason: &[u8]) -> &[u8] {
    let mut end = reason.len().min(MAX_REASON);
    while end < reason.len() && end > 0 && reason[end] & 0xC0 == 0x80 {
        end -= 1;
    }
    &reason[..end]
}
