//! Counters: of this worker, in its row of the hub's zone, and of one connection, for variables.

use std::cell::Cell;

use ws_hub::counters::Row;
pub use ws_hub::Counter;

use crate::ngx::per_worker::PerWorker;

static ROW: PerWorker<Cell<Option<Row<'static>>>> = PerWorker::new(Cell::new(None));
// Counted without a seat too, for the seat that may come.
static OPEN: PerWorker<Cell<u64>> = PerWorker::new(Cell::new(0));

/// Counting goes to `row` from now on: the hub has a seat.
pub fn attach(row: Row<'static>) {
    row.set(Counter::Open, OPEN.get());
    ROW.set(Some(row));
}

/// The seat is given back.
pub fn detach() {
    ROW.set(None);
}

/// Adds `n`.
pub fn add(counter: Counter, n: u64) {
    if let Some(row) = ROW.get() {
        row.add(counter, n);
    }
}

/// Sets a gauge.
pub fn set(counter: Counter, value: u64) {
    if let Some(row) = ROW.get() {
        row.set(counter, value);
    }
}

/// A connection was upgraded.
pub fn opened() {
    OPEN.set(OPEN.get() + 1);
    add(Counter::Open, 1);
    add(Counter::Accepted, 1);
}

/// The request of an upgraded connection ended; `code` describes how (RFC 6455 7.1.5).
pub fn closed(code: u16) {
    OPEN.set(OPEN.get().saturating_sub(1));
    if let Some(row) = ROW.get() {
        row.sub(Counter::Open, 1);
        row.add(Counter::closed(code), 1);
    }
}

/// What one connection has moved. Every call counts for the worker too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Messages received.
    pub messages_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
}

impl Tally {
    /// A message (or, in frame style, a data frame) came.
    pub fn message_in(&mut self, bytes: usize) {
        self.messages_in += 1;
        self.bytes_in += bytes as u64;
        if let Some(row) = ROW.get() {
            row.add(Counter::MessagesIn, 1);
            row.add(Counter::BytesIn, bytes as u64);
        }
    }

    /// A message (or, in frame style, a data frame) was queued.
    pub fn message_out(&mut self, bytes: usize) {
        self.messages_out += 1;
        self.bytes_out += bytes as u64;
        if let Some(row) = ROW.get() {
            row.add(Counter::MessagesOut, 1);
            row.add(Counter::BytesOut, bytes as u64);
        }
    }

    /// A message was compressed.
    pub fn compressed(&mut self, before: usize, after: usize) {
        add(Counter::CompressionBefore, before as u64);
        add(Counter::CompressionAfter, after as u64);
    }
}
