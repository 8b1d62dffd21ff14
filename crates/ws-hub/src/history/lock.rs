//! The lock of a history zone: one word that holds its owner, and two that name the topics which
//! the owner is changing. An owner that died is robbed of it, and the robber told, who then
//! repairs (repair.rs). Nobody holds it for longer than one publish or one piece of a read.
//!
//! The wait is not bounded: an owner that is stopped and not dead (SIGSTOP, a debugger, a frozen
//! control group) keeps all others waiting until it goes on or is killed. It cannot be robbed, as it
//! would go on writing in the middle of its change.
//!
//! Ordering: acquire on taking and release on giving it back, as for any lock. A name is stored
//! before a release fence, and the changes after it; it is cleared with a release store after
//! them. So whoever sees a change without its end sees the name. A dead owner's stores are all
//! seen by whoever was told of its death: the system's news of it comes after them.

use super::cells::Cell;
use crate::memory::{fence, yield_now, Ordering, Word};

/// Left by an owner that panicked.
const ABANDONED: u64 = u64::MAX;
/// Looks at the word before the time slice is given away. The model checker has no use for it.
const SPINS: u32 = if cfg!(loom) { 0 } else { 64 };
/// Turns between two questions whether the owner lives.
const TURNS: u32 = if cfg!(loom) { 1 } else { 16 };

/// Words of a lock.
pub(crate) const LOCK_WORDS: usize = 3;

/// The lock. A copy is a second handle.
#[derive(Clone, Copy)]
pub(crate) struct Lock<'m> {
    owner: &'m Word,
    changing: &'m [Word],
}

/// Which of the two names.
#[derive(Clone, Copy)]
pub(crate) enum Slot {
    /// The topic that the call is about.
    Own = 0,
    /// One that makes room for it.
    Other = 1,
}

impl<'m> Lock<'m> {
    /// Over [`LOCK_WORDS`] words, zero at first.
    pub(crate) fn new(words: &'m [Word]) -> Self {
        Self { owner: &words[0], changing: &words[1..LOCK_WORDS] }
    }

    /// Takes the lock for `me`, which is not 0 and holds it not yet. Whether it was another's who
    /// died with it: then the caller repairs.
    pub(crate) fn take(&self, me: u64, is_alive: impl Fn(u64) -> bool) -> bool {
        let mut turn = 0u32;
        loop {
            let seen = self.owner.load(Ordering::Relaxed);
            // My own number without my doing: somebody had it before me, and died.
            let is_free = match seen {
                0 => true,
                ABANDONED => true,
                _ => seen == me || turn % TURNS == TURNS - 1 && !is_alive(seen),
            };
            if is_free {
                let taken =
                    self.owner.compare_exchange(seen, me, Ordering::Acquire, Ordering::Relaxed);
                if taken.is_ok() {
                    return seen != 0;
                }
            }
            turn = turn.wrapping_add(1);
            if turn < SPINS {
                std::hint::spin_loop();
            } else {
                yield_now();
            }
        }
    }

    /// Gives it back, with nothing half done.
    pub(crate) fn give(&self) {
        self.owner.store(0, Ordering::Release);
    }

    /// Gives it back with whatever is half done; the next one repairs.
    pub(crate) fn abandon(&self) {
        self.owner.store(ABANDONED, Ordering::Release);
    }

    /// From now on the topic is not what it should be.
    pub(crate) fn begin(&self, slot: Slot, topic: Cell) {
        self.changing[slot as usize].store(topic.into(), Ordering::Relaxed);
        fence(Ordering::Release);
    }

    /// It is again.
    pub(crate) fn end(&self, slot: Slot) {
        self.changing[slot as usize].store(0, Ordering::Release);
    }

    /// What a dead owner was changing.
    pub(crate) fn changing(&self, topic: Cell) -> bool {
        self.changing.iter().any(|word| word.load(Ordering::Relaxed) == u64::from(topic))
    }
}
