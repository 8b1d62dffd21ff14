//! Which worker talks to the brokers for its machine (the gateway), how it stands with each, and which
//! other machines have been heard of: words that all workers read, and the gateway writes.
//!
//! A gateway that is killed leaves its row in the word. A row that is free, or has another owner
//! by now, is nobody's: whoever looks next takes the word by one compare-and-swap.

use crate::directory::{Directory, Seat};
use crate::id::NodeId;
use crate::memory::{Ordering, Word};

/// Machines that are remembered at a time.
const NODES: usize = 512;
/// Brokers at most.
pub const BROKERS: usize = 8;
/// So long a machine counts as alive after it was heard, in seconds: three heartbeats.
const ALIVE: u32 = 15;

/// The words in a zone. A copy is a second handle on the same memory.
#[derive(Clone, Copy)]
pub struct Gateway<'m> {
    directory: Directory<'m>,
    /// The row counted from 1, and its generation; 0: nobody.
    holder: &'m Word,
    /// The worker of a newer configuration that is about to take over, likewise; with `READY` once it
    /// hears all that the holder hears.
    heir: &'m Word,
    /// How many configurations there were, and one more than that of the holder.
    loaded: &'m Word,
    held_by: &'m Word,
    /// How many brokers the newest configuration has.
    count: &'m Word,
    /// Of each broker its term, and in the high half since when it is away, in tenths of a second
    /// and never 0; 0: it is there.
    brokers: &'m [Word],
    /// A machine, and when it was heard last, in seconds; 0: free.
    nodes: &'m [Word],
}

impl<'m> Gateway<'m> {
    /// Words of the part.
    pub(crate) const WORDS: usize = 5 + BROKERS + NODES;

    pub(crate) fn new(directory: Directory<'m>, words: &'m [Word]) -> Self {
        let (brokers, nodes) = words[5..].split_at(BROKERS);
        let [holder, heir, loaded, held_by, count] = [0, 1, 2, 3, 4].map(|n| &words[n]);
        Self { directory, holder, heir, loaded, held_by, count, brokers, nodes }
    }

    /// Another configuration has been loaded.
    pub fn load(&self) {
        self.loaded.fetch_add(1, Ordering::Relaxed);
    }

    /// The newest configuration has so many brokers.
    pub fn set_brokers(&self, count: usize) {
        self.count.store(count as u64, Ordering::Relaxed);
    }

    /// How many brokers it has: workers of older ones follow it, as they follow its topics' rules.
    pub fn brokers(&self) -> usize {
        self.count.load(Ordering::Relaxed) as usize
    }

    /// The number of the newest configuration.
    pub fn loaded(&self) -> u64 {
        self.loaded.load(Ordering::Relaxed)
    }

    /// The row of the worker that talks to the brokers.
    pub fn holder(&self) -> Option<u16> {
        self.row_in(self.holder.load(Ordering::Acquire))
    }

    /// Whether there has ever been one.
    pub fn was_held(&self) -> bool {
        self.held_by.load(Ordering::Relaxed) > 0
    }

    /// The row of the worker that is about to.
    pub fn heir(&self) -> Option<u16> {
        self.row_in(self.heir.load(Ordering::Acquire) & !READY)
    }

    /// The row of a worker that lives.
    fn row_in(&self, word: u64) -> Option<u16> {
        let row = ((word as u32 & 0xffff) as u16).checked_sub(1)?;
        (self.directory.generation(row) == Some((word >> 16) as u16)).then_some(row)
    }

    /// Makes this worker of that configuration the heir, if there is a holder of an older one, and no
    /// heir. Whether it is one now.
    pub fn inherit(&self, seat: &Seat, configuration: u64) -> bool {
        let before = self.heir.load(Ordering::Acquire);
        if before & !READY == name(seat) {
            return true;
        }
        let (set, get) = (Ordering::AcqRel, Ordering::Relaxed);
        self.holder().is_some()
            && self.held_by.load(Ordering::Relaxed) <= configuration
            && self.heir().is_none()
            && self.heir.compare_exchange(before, name(seat), set, get).is_ok()
    }

    /// The heir hears all that the holder hears.
    pub fn be_ready(&self, seat: &Seat) {
        let (set, get) = (Ordering::AcqRel, Ordering::Relaxed);
        let _ = self.heir.compare_exchange(name(seat), name(seat) | READY, set, get);
    }

    /// Whether there is an heir that does.
    pub fn is_heir_ready(&self) -> bool {
        self.heir().is_some() && self.heir.load(Ordering::Acquire) & READY != 0
    }

    /// The holder makes its heir the holder.
    pub fn hand_over(&self, seat: &Seat) {
        let heir = self.heir.load(Ordering::Acquire) & !READY;
        if heir != 0 && self.is(seat) {
            self.holder.store(heir, Ordering::Release);
        }
    }

    /// Whether that is this worker.
    pub fn is(&self, seat: &Seat) -> bool {
        self.holder.load(Ordering::Acquire) == name(seat)
    }

    /// Makes this worker of that configuration the gateway, if there is none. Whether it is one now.
    pub fn take(&self, seat: &Seat, configuration: u64) -> bool {
        let before = self.holder.load(Ordering::Acquire);
        let (set, get) = (Ordering::AcqRel, Ordering::Relaxed);
        let is_ours = before == name(seat)
            || self.holder().is_none()
                && self.holder.compare_exchange(before, name(seat), set, get).is_ok();
        if is_ours {
            self.held_by.store(configuration + 1, Ordering::Relaxed);
            let heir = self.heir.load(Ordering::Acquire);
            if heir & !READY == name(seat) {
                let _ = self.heir.compare_exchange(heir, 0, set, get);
            }
        }
        is_ours
    }

    /// There is none any more, if it was this worker.
    pub fn give_up(&self, seat: &Seat) {
        let (set, get) = (Ordering::AcqRel, Ordering::Relaxed);
        let _ = self.holder.compare_exchange(name(seat), 0, set, get);
    }

    /// The gateway says how it stands with a broker: the term of copies that are up to date, and
    /// since when it is away, if it is.
    pub fn set_broker(&self, n: usize, term: u32, away_since_ms: Option<u64>) {
        let away = away_since_ms.map_or(0, tenths);
        if let Some(word) = self.brokers.get(n) {
            word.store(u64::from(away) << 32 | u64::from(term), Ordering::Release);
        }
    }

    /// The term of a broker: a copy of one of its histories with this mark is up to date. 0: none is.
    pub fn term(&self, n: usize) -> u32 {
        self.brokers.get(n).map_or(0, |word| word.load(Ordering::Acquire) as u32)
    }

    /// For how many milliseconds a broker has been away; nothing: it is there.
    pub fn away(&self, n: usize, now_ms: u64) -> Option<u64> {
        let since = (self.brokers.get(n)?.load(Ordering::Relaxed) >> 32) as u32;
        (since != 0).then(|| u64::from(tenths(now_ms).saturating_sub(since)) * 100)
    }

    /// The gateway has heard another machine. With more machines than there is room for the one
    /// that was heard longest ago is forgotten.
    pub fn heard(&self, node: NodeId, now_ms: u64) {
        let of = |word: &&Word| word.load(Ordering::Relaxed);
        let same = self.nodes.iter().find(|word| of(word) >> 32 == u64::from(node.0));
        if let Some(word) = same.or_else(|| self.nodes.iter().min_by_key(|word| of(word) as u32)) {
            word.store(u64::from(node.0) << 32 | u64::from(seconds(now_ms)), Ordering::Relaxed);
        }
    }

    /// Whether a machine was heard lately.
    pub fn is_alive(&self, node: NodeId, now_ms: u64) -> bool {
        self.alive(now_ms).any(|one| one == node)
    }

    /// How many other machines were heard lately.
    pub fn known(&self, now_ms: u64) -> usize {
        self.alive(now_ms).count()
    }

    /// Those.
    pub fn alive(&self, now_ms: u64) -> impl Iterator<Item = NodeId> + 'm {
        let since = seconds(now_ms).saturating_sub(ALIVE).max(1);
        let words = self.nodes.iter().map(|word| word.load(Ordering::Relaxed));
        words.filter(move |&word| word as u32 >= since).map(|word| NodeId((word >> 32) as u32))
    }
}

/// In the heir's word, above its name.
const READY: u64 = 1 << 63;

/// A worker as the word has it.
fn name(seat: &Seat) -> u64 {
    u64::from(seat.generation()) << 16 | (u64::from(seat.row()) + 1)
}

/// Never 0.
fn tenths(ms: u64) -> u32 {
    (ms / 100) as u32 + 1
}

/// Never 0.
fn seconds(ms: u64) -> u32 {
    (ms / 1000) as u32 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Word;
    use crate::zone::Zone;

    fn zone(words: &[Word]) -> Zone<'_> {
        Zone::init(words, 64, NodeId(1)).unwrap()
    }

    fn memory() -> Vec<Word> {
        (0..Zone::min_len(64).unwrap() / 8).map(|_| Word::new(0)).collect()
    }

    #[test]
    fn there_is_one_and_another_after_it() {
        let words = memory();
        let zone = zone(&words);
        let place = zone.gateway();
        let (one, two) = (zone.join(0, 10, |_| true).unwrap(), zone.join(1, 11, |_| true).unwrap());
        assert_eq!(place.holder(), None);
        assert!(place.take(&one, 1) && place.take(&one, 1) && !place.take(&two, 1));
        assert_eq!(
            (place.holder(), place.is(&one), place.is(&two)),
            (Some(one.row()), true, false)
        );
        place.give_up(&two);
        assert!(place.is(&one), "only its own");
        place.give_up(&one);
        assert!(place.take(&two, 1));
        // Killed: its row is free, or another's.
        zone.directory().free_dead(|pid| pid != 11);
        assert_eq!(place.holder(), None);
        let three = zone.join(1, 12, |_| true).unwrap();
        assert_eq!((place.holder(), place.take(&three, 1)), (None, true));
    }

    #[test]
    fn an_heir_takes_over_when_it_is_ready_or_the_holder_dies() {
        let words = memory();
        let zone = zone(&words);
        let place = zone.gateway();
        let (one, two) = (zone.join(0, 10, |_| true).unwrap(), zone.join(1, 11, |_| true).unwrap());
        assert!(!place.inherit(&two, 2), "of nobody");
        assert!(place.take(&one, 1));
        assert!(!place.inherit(&two, 1), "of the same configuration");
        assert!(place.inherit(&two, 2) && place.inherit(&two, 2));
        assert_eq!((place.heir(), place.is_heir_ready()), (Some(two.row()), false));
        place.be_ready(&two);
        assert!(place.is_heir_ready() && place.is(&one));
        place.hand_over(&two);
        assert!(place.is(&one), "not the heir's to do");
        place.hand_over(&one);
        assert!(place.is(&two) && place.take(&two, 2));
        assert_eq!((place.heir(), place.is_heir_ready()), (None, false));
        let three = zone.join(2, 12, |_| true).unwrap();
        assert!(place.inherit(&three, 3));
        zone.directory().free_dead(|pid| pid != 11);
        assert!(place.take(&three, 3), "its holder died");
    }

    #[test]
    fn how_it_stands_with_a_broker() {
        let words = memory();
        let place = zone(&words).gateway();
        assert_eq!((place.term(1), place.away(1, 5000)), (0, None));
        place.set_broker(1, 7, Some(3000));
        assert_eq!((place.term(1), place.away(1, 5000)), (7, Some(2000)));
        place.set_broker(1, 7, None);
        assert_eq!((place.term(1), place.away(1, 5000)), (7, None));
        place.set_broker(BROKERS, 7, None);
        assert_eq!((place.term(BROKERS), place.term(0)), (0, 0));
        place.set_brokers(2);
        assert_eq!((place.brokers(), place.loaded(), place.holder()), (2, 0, None));
    }

    #[test]
    fn machines_are_forgotten_when_they_are_silent() {
        let words = memory();
        let place = zone(&words).gateway();
        assert_eq!((place.known(0), place.is_alive(NodeId(0), 0)), (0, false));
        place.heard(NodeId(5), 1000);
        place.heard(NodeId(6), 9000);
        place.heard(NodeId(5), 2000);
        assert_eq!((place.known(9000), place.is_alive(NodeId(5), 9000)), (2, true));
        assert_eq!((place.known(20_000), place.is_alive(NodeId(6), 20_000)), (1, true));
        (0..1000).for_each(|n| place.heard(NodeId(100 + n), 30_000));
        assert_eq!(place.known(30_000), NODES);
    }
}
