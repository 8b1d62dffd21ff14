//! How often a peer may send messages: nginx's leaky bucket (ngx_http_limit_req_module), kept as the
//! time by which the bucket is empty.

/// So many messages in a second or a minute, and so many more at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Messages in `period`; not 0.
    pub messages: u32,
    /// In milliseconds.
    pub period: u32,
    /// Messages that may come before their time.
    pub burst: u32,
}

/// What one peer has used of its rate.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    /// When it is empty. In milliseconds times `rate.messages`, so that a message costs a whole number.
    empty: u128,
}

impl Bucket {
    pub fn new(rate: Rate) -> Bucket {
        Bucket { rate, empty: 0 }
    }

    /// Takes a message that comes at `now`, in milliseconds. False: it is over the burst.
    pub fn take(&mut self, now: u64) -> bool {
        let Rate { messages, period, burst } = self.rate;
        let now = u128::from(now) * u128::from(messages);
        let empty = self.empty.max(now);
        let fits = empty - now <= u128::from(burst) * u128::from(period);
        if fits {
            self.empty = empty + u128::from(period);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `n` messages at `now` are taken.
    fn taken(bucket: &mut Bucket, now: u64, n: usize) -> usize {
        (0..n).filter(|_| bucket.take(now)).count()
    }

    #[test]
    fn one_and_the_burst_at_once_then_as_fast_as_the_rate() {
        let mut bucket = Bucket::new(Rate { messages: 10, period: 1000, burst: 3 });
        assert_eq!(taken(&mut bucket, 5000, 9), 4);
        assert_eq!(taken(&mut bucket, 5099, 9), 0);
        assert_eq!(taken(&mut bucket, 5100, 9), 1);
        assert_eq!(taken(&mut bucket, 5350, 9), 2);
        assert_eq!(taken(&mut bucket, 90_000, 9), 4);
    }

    #[test]
    fn without_a_burst_each_waits_for_its_time() {
        let mut bucket = Bucket::new(Rate { messages: 3, period: 1000, burst: 0 });
        let times = [0, 333, 334, 667, 668, 1001, 1002];
        assert_eq!(
            times.map(|now| bucket.take(now)),
            [true, false, true, false, true, false, true]
        );
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut bucket = Bucket::new(Rate { messages: u32::MAX, period: 60_000, burst: u32::MAX });
        assert_eq!(taken(&mut bucket, u64::MAX, 1000), 1000);
    }
}
