//! A word whose process may die: unit tests let the thread panic instead of its nth store from
//! now on, so that they can look at what every instant of a change leaves behind.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local!(static LEFT: Cell<Option<usize>> = const { Cell::new(None) });

/// What the thread panics with.
pub struct Died;

/// Lets the thread die instead of its `n`th store, counted from 0; nothing for never.
pub fn die_at(n: Option<usize>) {
    LEFT.set(n);
}

/// As the atomic of the standard library.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Word(AtomicU64);

macro_rules! changes {
    ($($name:ident($($arg:ident: $type:ty),+) -> $result:ty;)+) => { $(
        pub fn $name(&self, $($arg: $type),+) -> $result {
            step();
            self.0.$name($($arg),+)
        }
    )+ };
}

#[allow(missing_docs)]
impl Word {
    pub const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    pub fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    changes! {
        store(value: u64, order: Ordering) -> ();
        fetch_add(value: u64, order: Ordering) -> u64;
        fetch_or(value: u64, order: Ordering) -> u64;
        fetch_and(value: u64, order: Ordering) -> u64;
        fetch_xor(value: u64, order: Ordering) -> u64;
        compare_exchange(old: u64, new: u64, ok: Ordering, no: Ordering) -> Result<u64, u64>;
        compare_exchange_weak(old: u64, new: u64, ok: Ordering, no: Ordering) -> Result<u64, u64>;
    }
}

fn step() {
    match LEFT.get() {
        None => {}
        Some(0) => {
            LEFT.set(None);
            std::panic::resume_unwind(Box::new(Died));
        }
        Some(n) => LEFT.set(Some(n - 1)),
    }
}
