//! What a broker counts. The driver adds totals to its own and shows gauges as they are.

use crate::counters::Counter;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs)] // What each means is said where it is shown.
pub enum Number {
    /// Totals.
    Reconnects,
    Published,
    Received,
    ErrorConnect,
    ErrorTimeout,
    ErrorProtocol,
    ErrorRefused,
    DroppedFull,
    DroppedExpired,
    DroppedCut,
    DroppedRefused,
    DroppedTooLarge,
    Gaps,
    BadMessages,
    /// Gauges.
    Connected,
    QueueBytes,
    TopicsWanted,
    TopicsSubscribed,
    RttMs,
}

impl Number {
    /// Each, and the counter that shows it.
    pub const SHOWN: [(Number, Counter); NUMBERS] = [
        (Number::Reconnects, Counter::BrokerReconnects),
        (Number::Published, Counter::BrokerPublished),
        (Number::Received, Counter::BrokerReceived),
        (Number::ErrorConnect, Counter::BrokerErrorConnect),
        (Number::ErrorTimeout, Counter::BrokerErrorTimeout),
        (Number::ErrorProtocol, Counter::BrokerErrorProtocol),
        (Number::ErrorRefused, Counter::BrokerErrorRefused),
        (Number::DroppedFull, Counter::BrokerDroppedFull),
        (Number::DroppedExpired, Counter::BrokerDroppedExpired),
        (Number::DroppedCut, Counter::BrokerDroppedCut),
        (Number::DroppedRefused, Counter::BrokerDroppedRefused),
        (Number::DroppedTooLarge, Counter::BrokerDroppedTooLarge),
        (Number::Gaps, Counter::BrokerGaps),
        (Number::BadMessages, Counter::BrokerBadMessages),
        (Number::Connected, Counter::BrokerConnected),
        (Number::QueueBytes, Counter::BrokerQueueBytes),
        (Number::TopicsWanted, Counter::BrokerTopicsWanted),
        (Number::TopicsSubscribed, Counter::BrokerTopicsSubscribed),
        (Number::RttMs, Counter::BrokerRttMs),
    ];

    /// Whether it goes down as well as up.
    pub fn is_gauge(self) -> bool {
        self as usize >= FIRST_GAUGE
    }
}

const NUMBERS: usize = Number::RttMs as usize + 1;
const FIRST_GAUGE: usize = Number::Connected as usize;

/// The numbers.
#[derive(Clone, Debug, Default)]
pub struct Tally([u64; NUMBERS]);

impl Tally {
    /// Counts.
    pub fn add(&mut self, what: Number, n: usize) {
        self.0[what as usize] += n as u64;
    }

    /// Sets a gauge.
    pub fn set(&mut self, what: Number, n: u64) {
        self.0[what as usize] = n;
    }

    /// A gauge, or a total since it was taken last.
    pub fn get(&self, what: Number) -> u64 {
        self.0[what as usize]
    }

    /// A gauge as it is; a total, which begins again.
    pub fn take(&mut self, what: Number) -> u64 {
        let n = &mut self.0[what as usize];
        if what.is_gauge() {
            *n
        } else {
            std::mem::take(n)
        }
    }
}
