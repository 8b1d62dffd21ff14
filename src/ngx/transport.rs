//! What carries a connection's bytes: a request that was taken over, its upstream's, one that a port of
//! ours accepted, a cosocket between two of its own calls. A `Driver` of the session layer knows them by
//! one trait, so a new way of bytes is one more implementation, and whoever owns it calls the driver when
//! it is told of something.

use ws_conn::Io;

use super::wire::Wire;

/// The way of the bytes, its place in the events, its end and its log.
///
/// All of it only notes or does what it says: none calls back into who calls it. After the transport
/// has gone every call is a no-op, and reads and writes fail.
pub trait Transport {
    /// What reads and writes.
    type Io: Io;
    /// Reading and writing.
    fn io(&self) -> &Self::Io;
    /// nginx's connection, where there is one: what is said of it below holds then.
    fn wire(&self) -> Option<&Wire>;
    /// Has the owner's `flush` called once, after the events at hand: everything sent in one turn of
    /// the event loop leaves together.
    fn post_flush(&self);
    /// Has the owner's `timer` called in `ms` milliseconds, instead of when it was due before. A worker
    /// that quits does not wait for it, unless `must_run`.
    fn set_timer(&self, ms: u64, must_run: bool);
    /// Output waits to leave, or does not any more: whoever would end the transport by itself is to
    /// know that, and what sending took is given back.
    #[inline]
    fn note_output(&self, waits: bool) {
        if let Some(wire) = self.wire().filter(|_| !waits) {
            wire.shrink();
            wire.want_write();
        }
    }
    /// Ends our side of the stream, once all has left: the peer reads to its end.
    fn end_output(&self) {
        if let Some(wire) = self.wire() {
            wire.end_output();
        }
    }
    /// Ends both sides at once.
    fn cut(&self) {
        if let Some(wire) = self.wire() {
            wire.hang_up();
        }
    }
    /// A line in the connection's log, at level info: no remote peer logs above it.
    fn info(&self, text: &str) {
        if let Some(wire) = self.wire() {
            wire.info(text);
        }
    }
}
