//! The module's own pings (RFC 6455 5.5.2): when to send one and when to give a peer up.

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Nothing; ask again in so many milliseconds.
    Wait(u64),
    /// Send a ping, and ask again in so many milliseconds.
    Ping(u64),
    /// Nothing came after the last ping: the peer is gone.
    Dead,
}

/// State of one connection's heartbeat. Times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heartbeat {
    interval: u32,
    /// `u32::MAX`: nobody is given up.
    timeout: u32,
    /// How much before its time the first ping is due.
    early: u32,
    /// When the ping went out that nothing has followed yet.
    pinged: Option<u64>,
}

impl Heartbeat {
    /// Pings after `interval` without a byte, gives up `timeout` after a ping.
    pub fn new((interval, timeout): (u64, u64)) -> Heartbeat {
        let ms = |ms: u64| ms.min(u32::MAX.into()) as u32;
        Heartbeat { interval: ms(interval).max(1), timeout: ms(timeout), early: 0, pinged: None }
    }

    /// Spreads the first ping over the interval, so that connections which came all at once are
    /// not pinged all at once. `random` is any number.
    pub fn spread(&mut self, random: u32) {
        self.early = random % self.interval;
    }

    /// When `beat` is to be asked first, after the beginning.
    pub fn first(&self) -> u64 {
        (self.interval - self.early).into()
    }

    /// The interval.
    pub fn interval(&self) -> u64 {
        self.interval.into()
    }

    /// Decides at `now`; the last byte came at `last_in`. Any byte counts as a sign of life, and `unread`
    /// ones may be one.
    pub fn beat(&mut self, now: u64, last_in: u64, unread: bool) -> Beat {
        let (interval, timeout) = (u64::from(self.interval), u64::from(self.timeout));
        if let Some(pinged) = self.pinged {
            if last_in < pinged {
                let waited = now.saturating_sub(pinged);
                if waited >= timeout {
                    return if unread { Beat::Wait(interval.min(timeout)) } else { Beat::Dead };
                }
                return Beat::Wait(interval.min(timeout - waited));
            }
            self.pinged = None;
        }
        // Early only for who has been silent since the beginning.
        let early = u64::from(std::mem::take(&mut self.early));
        let idle = now.saturating_sub(last_in);
        if idle < interval - early {
            return Beat::Wait(interval - idle);
        }
        // Where nobody is given up, silence is pinged on.
        self.pinged = (self.timeout != u32::MAX).then_some(now);
        // An answer is looked for no later than the next ping may be due.
        Beat::Ping(interval.min(timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_pinged_and_given_up() {
        let mut heart = Heartbeat::new((100, 30));
        assert_eq!(heart.beat(1000, 1000, false), Beat::Wait(100));
        assert_eq!(heart.beat(1060, 1000, false), Beat::Wait(40));
        assert_eq!(heart.beat(1100, 1000, false), Beat::Ping(30));
        assert_eq!(heart.beat(1110, 1000, false), Beat::Wait(20));
        assert_eq!(heart.beat(1130, 1000, true), Beat::Wait(30));
        assert_eq!(heart.beat(1130, 1000, false), Beat::Dead);
    }

    #[test]
    fn the_first_ping_may_be_early_and_the_last_never_come() {
        let mut heart = Heartbeat::new((100, u64::MAX));
        heart.spread(130);
        assert_eq!(heart.first(), 70);
        assert_eq!(heart.beat(1070, 1000, false), Beat::Ping(100));
        assert_eq!(heart.beat(1170, 1000, false), Beat::Ping(100));
        assert_eq!(heart.beat(1180, 1171, false), Beat::Wait(91));
    }

    #[test]
    fn any_byte_after_the_ping_is_a_sign_of_life() {
        let mut heart = Heartbeat::new((100, 300));
        assert_eq!(heart.beat(1100, 1000, false), Beat::Ping(100));
        assert_eq!(heart.beat(1200, 1150, false), Beat::Wait(50));
        assert_eq!(heart.beat(1250, 1150, false), Beat::Ping(100));
    }
}
