//! A connection with what its owner does for it, whatever carries its bytes: acts on what the
//! connection reports, lets output leave at the end of the turn, ends our side of the stream, wakes
//! who waits, keeps count. The protocol is the connection's; events, requests and Lua are the
//! owner's, who calls with its `Transport`.

use ws_conn::{Config, Connection, News, Role};

use super::output::{note_left, send};
use super::stats;
use super::waiting::Waiting;
use super::worker::{self, Worker};
use crate::ngx::transport::Transport;

/// How far our side of the stream is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutputEnd {
    /// Output goes on.
    Open,
    /// It ends when the outbox is empty.
    Asked,
    /// All has left. The stream ends with this turn of the event loop, unless the owner closes the
    /// transport before.
    Due,
}

/// See the module. Owned by a session, or by whatever else has a connection.
#[derive(Debug)]
pub struct Driver {
    /// The connection. After calls that may bring news `react` is due.
    pub conn: Connection,
    role: Role,
    output_end: OutputEnd,
    begun: bool,
    /// It counts as an open connection.
    counted: bool,
    /// It has a compressor and an inflater.
    packs: bool,
}

impl Driver {
    /// A connection that has not begun: what is queued waits.
    pub fn new(config: &Config) -> Driver {
        Driver {
            conn: Connection::new(&Worker, config),
            role: config.role,
            output_end: OutputEnd::Open,
            begun: false,
            counted: false,
            packs: config.extension.is_some(),
        }
    }

    /// The opening handshake is done. A server's connection counts as open from now on.
    pub fn begin(&mut self) {
        self.begun = true;
        self.counted = self.role == Role::Server;
        if self.counted {
            stats::opened();
        }
    }

    /// Which end we are.
    pub fn role(&self) -> Role {
        self.role
    }

    /// It is gone, and counts no more.
    pub fn uncount(&mut self) {
        if std::mem::take(&mut self.counted) {
            stats::closed(self.conn.outcome().map_or(1006, |end| end.code()));
        }
    }

    /// Acts on what the last calls of the connection have brought. Whether output may have left.
    #[inline]
    pub fn react(&mut self, on: &impl Transport, waiting: Option<&Waiting>) -> bool {
        let news = self.conn.take_news();
        if news.is_none() {
            return false;
        }
        // What a message brings, as a rule.
        if news == News::OUTPUT && self.conn.has_room() {
            self.queued(on, waiting);
            return false;
        }
        self.act(on, waiting, news);
        true
    }

    #[inline(never)]
    fn act(&mut self, on: &impl Transport, waiting: Option<&Waiting>, news: News) {
        if news.has(News::BROKEN) {
            if let Some(err) = self.conn.fault() {
                on.info(&broken_rule(err));
            }
        }
        if news.has(News::CUT) {
            on.note_output(false);
            on.cut();
        }
        if news.has(News::OVER) {
            // RFC 6455 7.1.1: the server ends TCP first, once its close frame is out, which nothing
            // can follow and which therefore leaves at once. Frames are their handler's to end.
            if self.conn.end().is_some() {
                self.output_end = OutputEnd::Asked;
            }
            self.flush(on, waiting);
            if let Some(waiting) = waiting {
                waiting.wake_all();
            }
        } else {
            if news.has(News::OUTPUT) {
                self.queued(on, waiting);
            }
            if news.has(News::LEFT) {
                note_left(&self.conn, on, waiting);
            }
            if news.has(News::ITEMS) {
                if let Some(waiting) = waiting {
                    waiting.wake_reader();
                }
            }
        }
        let more = self.conn.take_news();
        if news.has(News::AGAIN) || news.has(News::OVER) || !more.is_none() {
            on.post_flush();
        }
    }

    /// After frames were queued: they leave at the end of this turn, or now where much waits.
    #[inline(never)]
    fn queued(&mut self, on: &impl Transport, waiting: Option<&Waiting>) {
        if self.conn.has_room() {
            on.note_output(true);
            on.post_flush();
        } else {
            self.flush(on, waiting);
            if let Some(waiting) = waiting.filter(|_| !self.conn.has_room()) {
                waiting.note_full();
            }
        }
    }

    /// Sends as much as the kernel takes.
    pub fn flush(&mut self, on: &impl Transport, waiting: Option<&Waiting>) {
        if self.begun {
            send(&mut self.conn, on, waiting);
        }
    }

    /// The end of a turn of the event loop. With `reads` what there is is read, where the protocol is
    /// kept. Then output leaves, and at last our side of the stream ends.
    #[inline]
    pub fn turn(&mut self, on: &impl Transport, waiting: Option<&Waiting>, reads: bool) {
        if reads {
            self.conn.handle_turn(&Worker, on.io());
            self.react(on, waiting);
        }
        self.flush(on, waiting);
        self.end_stream(on);
        self.conn.end_turn(&Worker);
    }

    /// Ends our side of the stream once all has left. A handler that was told of the end before
    /// runs first: the connection is closed when it returns, and that ends the stream too.
    fn end_stream(&mut self, on: &impl Transport) {
        let ended = self.output_end == OutputEnd::Open || self.conn.write_end().is_some();
        if ended || self.conn.has_pending(on.io()) {
            return;
        }
        if self.output_end == OutputEnd::Asked {
            self.output_end = OutputEnd::Due;
            on.post_flush();
        } else {
            self.output_end = OutputEnd::Open;
            on.end_output();
        }
    }

    /// Does what the connection's deadlines want now, and has the owner called when they may want
    /// something again. False: they never will.
    pub fn timer(&mut self, on: &impl Transport, must_run: bool) -> bool {
        let unread = self.conn.has_bytes(on.io());
        let next = self.conn.handle_timeout(&Worker, unread);
        if let Some(ms) = next {
            on.set_timer(ms, must_run);
        }
        next.is_some()
    }

    /// Gives back what compressing took, once nothing more will be sent or received.
    pub fn free_codecs(&mut self) {
        self.conn.free_codecs();
        if std::mem::take(&mut self.packs) {
            worker::codecs_freed();
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.uncount();
        self.conn.free_lent(&Worker);
        self.free_codecs();
    }
}

/// The log line for a peer's fault.
fn broken_rule(err: ws_proto::Error) -> String {
    match err {
        ws_proto::Error::NoMemory => "websocket connection closed: no memory".to_string(),
        err => format!("websocket peer broke a rule: {err} ({})", err.rule()),
    }
}
