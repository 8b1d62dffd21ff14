//! The module's own pings (RFC 6455 5.5.2): when to send one and when to give a peer up. No
//! clock, no timer: the session asks what to do now and when to ask again.

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing; ask again in so many milliseconds.
    Wait(u64),
    /// Send a ping, and ask again in so many milliseconds.
    Ping(u64),
    /// Nothing came after the last ping: the peer is gone.
    Dead,
}

/// State of one connection's heartbeat. Times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    interval: u64,
    timeout: u64,
    /// When the ping went out that nothing has followed yet.
    pinged: Option<u64>,
}

impl Heartbeat {
    /// Pings after `interval` without a byte, gives up `timeout` after a ping.
    pub fn new(interval: u64, timeout: u64) -> Heartbeat {
        Heartbeat { interval, timeout, pinged: None }
    }

    /// The interval.
    pub fn interval(&self) -> u64 {
        self.interval
    }

    /// Decides at `now`; the last byte came at `last_in`. Any byte counts as a sign of life.
    pub fn beat(&mut self, now: u64, last_in: u64) -> Beat {
        if let Some(pinged) = self.pinged {
            if last_in < pinged {
                let waited = now.saturating_sub(pinged);
                if waited >= self.timeout {
                    return Beat::Dead;
                }
                return Beat::Wait(self.interval.min(self.timeout - waited));
            }
            self.pinged = None;
        }
        let idle = now.saturating_sub(last_in);
        if idle < self.interval {
            return Beat::Wait(self.interval - idle);
        }
        self.pinged = Some(now);
        // An answer is looked for no later than the next ping may be due.
        Beat::Ping(self.interval.min(self.timeout))
    }
}
