//! The only unsafe code of this crate: shared memory seen as a slice of 64-bit atomics. Every
//! other file works on that slice, so no mixture of reads and writes between processes is a data
//! race, whatever the bytes turn out to be. Under `--cfg loom` the words are the model checker's,
//! which is how loom_tests.rs runs the very code that runs in a worker.
//!
//! The memory belongs to the caller (nginx's shared zone) and outlives every [`crate::Zone`].
#![allow(unsafe_code)]

#[cfg(loom)]
pub use loom::sync::atomic::{fence, AtomicU64 as Word, Ordering};
#[cfg(loom)]
pub(crate) use loom::thread::yield_now;
#[cfg(all(test, not(loom)))]
pub mod mortal;
#[cfg(all(test, not(loom)))]
pub use mortal::Word;
#[cfg(not(any(test, loom)))]
pub use std::sync::atomic::AtomicU64 as Word;
#[cfg(not(loom))]
pub use std::sync::atomic::{fence, Ordering};
#[cfg(not(loom))]
pub(crate) use std::thread::yield_now;

/// Bytes in a word.
pub const WORD: usize = 8;

/// The words that lie wholly within `len` bytes at `mem`, or nothing if `mem` is null or not on
/// a word's boundary.
///
/// # Safety
/// `len` bytes at `mem` are mapped readable and writable, and initialised (a fresh mapping's
/// zeroes are), for all of `'m`; in that time they are touched through this crate alone, in this
/// process and in any other.
#[cfg(not(loom))]
pub unsafe fn words<'m>(mem: *mut u8, len: usize) -> Option<&'m [Word]> {
    if mem.is_null() || !(mem as usize).is_multiple_of(WORD) || len > isize::MAX as usize {
        return None;
    }
    // SAFETY: non-null, aligned and in bounds by the checks above and the caller's promise. All
    // access is atomic, so other threads and processes may write meanwhile; AtomicU64 has u64's
    // size and every bit pattern is valid.
    Some(unsafe { std::slice::from_raw_parts(mem.cast::<Word>(), len / WORD) })
}
