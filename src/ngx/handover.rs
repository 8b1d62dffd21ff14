//! Which ports the workers of the newest configuration have opened. A worker that is told to quit
//! because of a reload keeps its own open until its successors have them: nginx gives those a tenth
//! of a second, which a busy machine may need for less than reading a program.
//!
//! A few words shared by the master and all its workers, made once before the first fork. Kept by
//! listener.rs.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

/// Ports that can be told apart. What does not fit is closed without waiting.
const ROWS: usize = 128;

/// The shared words. Zero means unset everywhere.
#[repr(C)]
struct Table {
    /// Configurations loaded so far.
    generation: AtomicU64,
    /// A port's key, and the newest generation that opened it.
    rows: [(AtomicU64, AtomicU64); ROWS],
}

/// Stays mapped until the process ends: every generation of workers uses the same.
static TABLE: OnceLock<Option<&'static Table>> = OnceLock::new();
/// The generation of this process's configuration; inherited by the workers forked from it.
static MINE: AtomicU64 = AtomicU64::new(0);

/// A configuration has been loaded. To be called in the master before it forks. Without memory
/// nothing is handed over.
pub fn prepare() {
    let table = TABLE.get_or_init(|| {
        // SAFETY: asks for fresh memory, shared with later children. It is zeroed, which is valid
        // for atomics, larger than needed by at most a page, and never unmapped.
        unsafe {
            let memory = libc::mmap(
                ptr::null_mut(),
                size_of::<Table>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            (memory != libc::MAP_FAILED).then(|| &*memory.cast::<Table>())
        }
    });
    if let Some(table) = table {
        MINE.store(table.generation.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// This worker has opened a port.
pub fn opened(addr: SocketAddr) {
    if let Some(row) = row(addr) {
        row.fetch_max(MINE.load(Ordering::Relaxed), Ordering::Release);
    }
}

/// Whether a newer configuration is in force, and no worker of it has opened this port yet.
pub fn is_awaited(addr: SocketAddr) -> bool {
    let mine = MINE.load(Ordering::Relaxed);
    let Some(Some(table)) = TABLE.get() else { return false };
    table.generation.load(Ordering::Relaxed) > mine
        && row(addr).is_some_and(|row| row.load(Ordering::Acquire) <= mine)
}

/// The port's row, taken on first use.
fn row(addr: SocketAddr) -> Option<&'static AtomicU64> {
    let table = (*TABLE.get()?)?;
    let mut hasher = DefaultHasher::new();
    addr.hash(&mut hasher);
    let key = hasher.finish() | 1;
    table.rows.iter().find_map(|(taken, generation)| {
        match taken.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Some(generation),
            Err(other) if other == key => Some(generation),
            Err(_) => None,
        }
    })
}
