//! Counters of this worker, in its row of the hub's zone.

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

/// A message (or, in frame style, a data frame) came.
#[inline]
pub fn message_in(bytes: usize) {
    if let Some(row) = ROW.get() {
        row.add(Counter::MessagesIn, 1);
        row.add(Counter::BytesIn, bytes as u64);
    }
}

/// A message (or, in frame style, a data frame) was queued.
#[inline]
pub fn message_out(bytes: usize) {
    if let Some(row) = ROW.get() {
        row.add(Counter::MessagesOut, 1);
        row.add(Counter::BytesOut, bytes as u64);
    }
}
