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
    /// How much before its time the first ping is due.
    early: u64,
}

/// A time-out that never passes.
pub const NEVER: u64 = u64::MAX;

impl Heartbeat {
    /// Pings after `interval` without a byte, gives up `timeout` after a ping.
    pub fn new(interval: u64, timeout: u64) -> Heartbeat {
        Heartbeat { interval, timeout, pinged: None, early: 0 }
    }

    /// Spreads the first ping over the interval, so that connections which came all at once are
    /// not pinged all at once. `random` is any number.
    pub fn spread(mut self, random: u64) -> Heartbeat {
        self.early = random % self.interval.max(1);
        self
    }

    /// When `beat` is to be asked first, after the beginning.
    pub fn first(&self) -> u64 {
        self.interval - self.early
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
        // Early only for who has been silent since the beginning.
        let early = std::mem::take(&mut self.early);
        let idle = now.saturating_sub(last_in);
        if idle < self.interval - early {
            return Beat::Wait(self.interval - idle);
        }
        // Where nobody is given up, silence is pinged on.
        self.pinged = (self.timeout != NEVER).then_some(now);
        // An answer is looked for no later than the next ping may be due.
        Beat::Ping(self.interval.min(self.timeout))
    }
}
