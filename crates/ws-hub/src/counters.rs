//! Every number the module shows, in one table: a row of it is all that a new counter needs.
//! Each worker counts in its own row of the zone, so counting is a plain add to memory nobody
//! else writes; who shows the numbers sums the rows ([`crate::Zone::sum`]). Totals only grow: they
//! outlive their worker and its row's next owner goes on from them. Gauges are what the living hold
//! now, and are reset when a row changes hands.

use crate::memory::{Ordering, Word};

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Which counter.
    pub counter: Counter,
    /// Its name, without prefix and, for a total, without the suffix `_total`.
    pub name: &'static str,
    /// Name and value of the label that tells it from others of its name.
    pub label: Option<(&'static str, &'static str)>,
    /// Goes down as well as up.
    pub gauge: bool,
    /// What it counts; the same for all of one name.
    pub help: &'static str,
}

macro_rules! counters {
    ($($kind:ident $name:literal $help:literal {
        $($variant:ident $($label:literal = $value:literal)?),+ $(,)?
    })+) => {
        /// Names a counter. Its number is its place in the zone.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        #[allow(missing_docs)] // The table has each one's meaning.
        pub enum Counter {
            $($($variant),+),+
        }

        /// The table, in the order of the counters' numbers.
        pub const TABLE: &[Entry] = &[
            $($(Entry {
                counter: Counter::$variant,
                name: $name,
                label: counters!(@label $($label $value)?),
                gauge: counters!(@gauge $kind),
                help: $help,
            }),+),+
        ];
    };
    (@label) => { None };
    (@label $label:literal $value:literal) => { Some(($label, $value)) };
    (@gauge gauge) => { true };
    (@gauge total) => { false };
}

counters! {
    gauge "connections_open" "Connections that are open now." { Open }
    total "connections_accepted" "Upgrades answered with 101." { Accepted }
    total "connections_refused" "Upgrades refused, by reason." {
        RefusedMethod "reason" = "method",
        RefusedHttpVersion "reason" = "http_version",
        RefusedHost "reason" = "host",
        RefusedUpgrade "reason" = "upgrade",
        RefusedConnection "reason" = "connection",
        RefusedKey "reason" = "key",
        RefusedVersion "reason" = "version",
        RefusedOrigin "reason" = "origin",
        RefusedExtensions "reason" = "extensions",
        RefusedOther "reason" = "other",
    }
    total "connections_closed" "Connections that ended, by close code." {
        Closed1000 "code" = "1000",
        Closed1001 "code" = "1001",
        Closed1002 "code" = "1002",
        Closed1003 "code" = "1003",
        Closed1005 "code" = "1005",
        Closed1006 "code" = "1006",
        Closed1007 "code" = "1007",
        Closed1008 "code" = "1008",
        Closed1009 "code" = "1009",
        Closed1010 "code" = "1010",
        Closed1011 "code" = "1011",
        Closed1012 "code" = "1012",
        Closed1013 "code" = "1013",
        Closed1014 "code" = "1014",
        Closed3xxx "code" = "3xxx",
        Closed4xxx "code" = "4xxx",
        ClosedOther "code" = "other",
    }
    total "messages" "Messages, by direction." {
        MessagesIn "direction" = "in",
        MessagesOut "direction" = "out",
    }
    total "bytes" "Bytes of frames, by direction." {
        BytesIn "direction" = "in",
        BytesOut "direction" = "out",
    }
    total "compression_bytes" "Bytes of compressed messages sent, before and after." {
        CompressionBefore "stage" = "before",
        CompressionAfter "stage" = "after",
    }
    total "pings_sent" "Pings sent by the module." { PingsSent }
    total "ping_timeouts" "Connections dropped for want of any byte after a ping." { PingTimeouts }
    total "protocol_errors" "Rules and limits that peers broke." {
        ErrorRsv "rule" = "rsv",
        ErrorOpcode "rule" = "opcode",
        ErrorMasking "rule" = "masking",
        ErrorLength "rule" = "length",
        ErrorControl "rule" = "control",
        ErrorClose "rule" = "close",
        ErrorSequence "rule" = "sequence",
        ErrorUtf8 "rule" = "utf8",
        ErrorFrameSize "rule" = "frame_size",
        ErrorMessageSize "rule" = "message_size",
        ErrorFragments "rule" = "fragments",
        ErrorRate "rule" = "rate",
        ErrorCompression "rule" = "compression",
        ErrorMemory "rule" = "memory",
        ErrorOther "rule" = "other",
    }
    total "slow_consumers" "Subscribers over their send buffer: messages dropped, connections closed." {
        SlowDropped "action" = "dropped",
        SlowClosed "action" = "closed",
    }
    gauge "topics" "Topics with subscribers, summed over workers." { Topics }
    gauge "topics_uncounted" "Topics of a worker that the others cannot count: the zone's table is full." { TopicsUncounted }
    gauge "subscriptions" "Pairs of topic and connection." { Subscriptions }
    total "published" "Messages published." { Published }
    total "delivered" "Messages handed to subscribers' connections." { Delivered }
    total "ring_overruns" "Times a worker was overrun by the ring." { RingOverruns }
    total "ring_lost" "Messages a worker missed by that." { RingLost }
    total "publish_failed" "Messages that could not be published." { PublishFailed }
    total "wakeups" "Wake-ups between workers, sent and received." {
        WakeupsSent "direction" = "sent",
        WakeupsReceived "direction" = "received",
    }
    gauge "history_topics" "Topics with a history." { HistoryTopics }
    gauge "history_bytes" "Bytes of the history zone in use." { HistoryBytes }
    gauge "history_zone_bytes" "Bytes of the history zone in all." { HistoryZoneBytes }
    total "history_evicted" "Histories that ended early, to make room for others." { HistoryEvicted }
    total "history_epochs_ended" "Histories that ended, so that who comes back to them is told, by reason." {
        HistoryEndedEvicted "reason" = "evicted",
        HistoryEndedForgotten "reason" = "forgotten",
        HistoryEndedKilled "reason" = "killed",
    }
    total "history_reads" "Times something was read from a history, by where that is." {
        HistoryReadsStore "source" = "store",
    }
    total "resumes" "Subscriptions that asked for messages of before, by result." {
        ResumeRecovered "result" = "recovered",
        ResumeEpoch "result" = "epoch",
        ResumeTrimmed "result" = "trimmed",
        ResumeTooMany "result" = "too many",
        ResumeCursor "result" = "cursor",
    }
    total "history_gaps" "Subscribers who lost messages of a history later on, by whether they were told." {
        GapsTold "told" = "yes",
        GapsIgnored "told" = "no",
    }
    gauge "broker_connected" "Workers with a broker connection." { BrokerConnected }
    total "broker_reconnects" "Times the broker was there again." { BrokerReconnects }
    total "broker_published" "Messages that the broker has taken." { BrokerPublished }
    total "broker_received" "Messages of other machines." { BrokerReceived }
    total "broker_errors" "What went wrong with the broker, by kind." {
        BrokerErrorConnect "kind" = "connect",
        BrokerErrorTimeout "kind" = "timeout",
        BrokerErrorProtocol "kind" = "protocol",
        BrokerErrorRefused "kind" = "refused",
    }
    total "broker_dropped" "Messages that other machines did not get, by reason." {
        BrokerDroppedFull "reason" = "full",
        BrokerDroppedExpired "reason" = "expired",
        BrokerDroppedCut "reason" = "cut",
        BrokerDroppedRefused "reason" = "refused",
        BrokerDroppedTooLarge "reason" = "too large",
    }
    total "broker_gaps" "Times subscribers may have missed messages of other machines." { BrokerGaps }
    total "broker_bad_messages" "Payloads from the broker that are none of ours." { BrokerBadMessages }
    gauge "broker_queue_bytes" "Bytes that wait for the broker." { BrokerQueueBytes }
    gauge "broker_topics" "Topics with subscribers on this machine, and those of them that the broker has acknowledged." {
        BrokerTopicsWanted "state" = "wanted",
        BrokerTopicsSubscribed "state" = "subscribed",
    }
    gauge "broker_rtt_ms" "Milliseconds that the last probe took, through the broker and back." { BrokerRttMs }
    gauge "nodes_known" "Other machines that were heard of in the last 15 seconds." { NodesKnown }
}

impl Counter {
    /// The counter of a close code; 0 is a connection that was never closed by a frame (1006).
    pub fn closed(code: u16) -> Self {
        match code {
            1000 => Self::Closed1000,
            1001 => Self::Closed1001,
            1002 => Self::Closed1002,
            1003 => Self::Closed1003,
            1005 => Self::Closed1005,
            0 | 1006 => Self::Closed1006,
            1007 => Self::Closed1007,
            1008 => Self::Closed1008,
            1009 => Self::Closed1009,
            1010 => Self::Closed1010,
            1011 => Self::Closed1011,
            1012 => Self::Closed1012,
            1013 => Self::Closed1013,
            1014 => Self::Closed1014,
            3000..=3999 => Self::Closed3xxx,
            4000..=4999 => Self::Closed4xxx,
            _ => Self::ClosedOther,
        }
    }

    /// The counter of a broken rule, by the codec's short name for it.
    pub fn protocol_error(rule: &str) -> Self {
        Self::labelled("protocol_errors", rule).unwrap_or(Self::ErrorOther)
    }

    /// The counter of a refused upgrade, by the reason's short name in the table.
    pub fn refused(reason: &str) -> Self {
        Self::labelled("connections_refused", reason).unwrap_or(Self::RefusedOther)
    }

    /// The counter of what became of a wish for messages of before: the reason why not, if any.
    pub fn resumed(reason: Option<&str>) -> Self {
        let result = reason.unwrap_or("recovered");
        Self::labelled("resumes", result).unwrap_or(Self::ResumeCursor)
    }

    /// Whether it goes down as well as up.
    pub fn is_gauge(self) -> bool {
        TABLE[self as usize].gauge
    }

    fn labelled(name: &str, value: &str) -> Option<Self> {
        let is = |entry: &&Entry| entry.name == name && entry.label.is_some_and(|l| l.1 == value);
        TABLE.iter().find(is).map(|entry| entry.counter)
    }

    /// Differs between versions with different tables, which cannot share a zone.
    pub(crate) const FINGERPRINT: u64 = fingerprint();
}

/// FNV-1a over names and labels, because that can be made while compiling: who looks at a zone
/// compares it each time.
const fn fingerprint() -> u64 {
    let (mut hash, mut at) = (0xcbf2_9ce4_8422_2325, 0);
    while at < TABLE.len() {
        hash = fnv(hash, TABLE[at].name.as_bytes());
        if let Some((_, value)) = TABLE[at].label {
            hash = fnv(hash, value.as_bytes());
        }
        at += 1;
    }
    hash
}

const fn fnv(mut hash: u64, text: &[u8]) -> u64 {
    let mut at = 0;
    // One step more than there are bytes: a text's end counts.
    while at <= text.len() {
        let byte = if at < text.len() { text[at] } else { 0 };
        hash = (hash ^ byte as u64).wrapping_mul(0x100_0000_01b3);
        at += 1;
    }
    hash
}

/// The counters in a zone. A copy is a second handle on the same memory.
#[derive(Clone, Copy)]
pub struct Counters<'m> {
    words: &'m [Word],
}

impl<'m> Counters<'m> {
    /// Words of a row: whole cache lines, so that workers do not slow each other.
    pub(crate) const STRIDE: usize = TABLE.len().next_multiple_of(8);

    pub(crate) fn new(words: &'m [Word]) -> Self {
        Self { words }
    }

    /// The row of a worker, for counting: only the process that holds the seat may count there.
    pub fn row(&self, row: u16) -> Row<'m> {
        let start = usize::from(row) * Self::STRIDE;
        Row { words: &self.words[start..start + Self::STRIDE] }
    }
}

/// One worker's counters.
#[derive(Clone, Copy)]
pub struct Row<'m> {
    words: &'m [Word],
}

impl Row<'_> {
    /// Counts `n` more. Not an atomic addition: one writer.
    pub fn add(&self, counter: Counter, n: u64) {
        let word = &self.words[counter as usize];
        word.store(word.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Counts `n` less: gauges.
    pub fn sub(&self, counter: Counter, n: u64) {
        self.add(counter, n.wrapping_neg());
    }

    /// Sets a gauge.
    pub fn set(&self, counter: Counter, value: u64) {
        self.words[counter as usize].store(value, Ordering::Relaxed);
    }

    /// The counter's value in this row.
    pub fn get(&self, counter: Counter) -> u64 {
        self.words[counter as usize].load(Ordering::Relaxed)
    }

    /// Gauges to 0: the row has a new owner, who owns nothing yet, or none.
    pub fn reset_gauges(&self) {
        for entry in TABLE.iter().filter(|entry| entry.gauge) {
            self.set(entry.counter, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_differ_have_other_fingerprints() {
        assert_ne!(fnv(1, b"a"), fnv(1, b"b"));
        assert_ne!(fnv(fnv(1, b"ab"), b"c"), fnv(fnv(1, b"a"), b"bc"), "where a text ends counts");
        assert_ne!(fnv(1, b""), 1);
    }
}
