//! When a broker that is away is tried again: after a random time from the first try on, so that
//! the machines that have lost it together do not come back together ("full jitter").

/// The upper bound of the first pause, in milliseconds; it doubles with each try.
const FIRST: u64 = 100;

/// How often it was tried, and the random numbers.
#[derive(Clone, Debug)]
pub struct Backoff {
    most: u64,
    tries: u32,
    state: u64,
}

impl Backoff {
    /// Pauses of at most `most` milliseconds; `seed` from the system's generator.
    pub fn new(most: u64, seed: u64) -> Self {
        Self { most, tries: 0, state: seed }
    }

    /// Milliseconds until the next try.
    pub fn pause(&mut self) -> u64 {
        let bound = FIRST.checked_shl(self.tries.min(32)).unwrap_or(u64::MAX).min(self.most);
        self.tries = self.tries.saturating_add(1);
        self.random() % (bound + 1)
    }

    /// All is well: the next pause is a first one.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// Some number (SplitMix64), for what need not be secret.
    pub fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_random_from_the_first_on_and_bounded() {
        let mut firsts: Vec<u64> =
            (0..100).map(|seed| Backoff::new(10_000, seed).pause()).collect();
        assert!(firsts.iter().all(|&pause| pause <= FIRST));
        firsts.sort_unstable();
        firsts.dedup();
        assert!(firsts.len() > 40, "spread over the whole range: {firsts:?}");
        let mut one = Backoff::new(10_000, 1);
        let pauses: Vec<u64> = (0..1000).map(|_| one.pause()).collect();
        assert!(pauses.iter().all(|&pause| pause <= 10_000));
        assert!(pauses[100..].iter().any(|&pause| pause > 8_000));
        one.reset();
        assert!(one.pause() <= FIRST);
    }
}
