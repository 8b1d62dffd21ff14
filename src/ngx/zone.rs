//! Memory shared by all workers: nginx's shared memory zones, of each of which we take one piece as
//! large as it has. nginx keeps a zone over reloads while its size stays the same.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use ws_hub::memory::{words, Word};

use crate::ffi;

/// What nginx's own bookkeeping in a zone takes at most: its header, and our piece's description.
pub const OVERHEAD: usize = 16 * 4096;

/// A zone, and where our piece of it lies. That is set when a configuration has been loaded, and read
/// by the workers forked after; a configuration that fails leaves it alone, because workers that die
/// are then replaced by ones of the configuration before.
pub struct SharedMemory {
    name: &'static [u8],
    start: AtomicPtr<u8>,
    len: AtomicUsize,
}

/// The hub's.
pub static HUB: SharedMemory = SharedMemory::new(b"nginx-lua-websocket");
/// What topics remember.
pub static HISTORY: SharedMemory = SharedMemory::new(b"nginx-lua-websocket-history");

/// Describes our piece; lies in the zone, so that the next configuration finds it.
#[repr(C)]
struct Piece {
    start: *mut u8,
    len: usize,
}

impl SharedMemory {
    const fn new(name: &'static [u8]) -> SharedMemory {
        SharedMemory { name, start: AtomicPtr::new(ptr::null_mut()), len: AtomicUsize::new(0) }
    }

    /// Asks nginx for the zone. To be called when the configuration has been read. False: nginx has
    /// logged why not.
    ///
    /// # Safety
    /// `cf` must be the configuration being read.
    pub unsafe fn request(&self, cf: *mut ffi::ngx_conf_t, size: usize) -> bool {
        let (len, data) = (self.name.len(), self.name.as_ptr().cast_mut());
        let mut name = ffi::ngx_str_t { len, data };
        // SAFETY: by contract; the name is static, nginx copies the struct.
        unsafe {
            let tag = ptr::addr_of_mut!(ffi::ngx_http_lua_websocket_module).cast::<c_void>();
            let zone = ffi::ngx_shared_memory_add(cf, &mut name, size, tag);
            if zone.is_null() {
                return false;
            }
            (*zone).init = Some(init);
            (*zone).data = ptr::null_mut();
        }
        true
    }

    /// The piece as words: zeroes, or what an earlier configuration left there. None before the
    /// first configuration was loaded.
    pub fn memory(&self) -> Option<&'static [Word]> {
        let start = self.start.load(Ordering::Relaxed);
        // SAFETY: the mapping lives as long as the process's configuration, which for a worker is as
        // long as the process; all access is through ws-hub's atomics.
        unsafe { words(start, self.len.load(Ordering::Relaxed)) }
    }

    fn set(&self, start: *mut u8, len: usize) {
        self.start.store(start, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
    }
}

/// nginx has mapped the zone. `data` is what the previous configuration left in `zone->data`, if
/// the memory is still the same.
unsafe extern "C" fn init(zone: *mut ffi::ngx_shm_zone_t, data: *mut c_void) -> ffi::ngx_int_t {
    // SAFETY: nginx calls this with its zone; the slab pool at its start is nginx's, and the
    // master alone runs now.
    unsafe {
        let pool = (*zone).shm.addr.cast::<ffi::ngx_slab_pool_t>();
        let mut piece = data.cast::<Piece>();
        if piece.is_null() && (*zone).shm.exists != 0 {
            piece = (*pool).data.cast();
        }
        if piece.is_null() {
            piece = ffi::ngx_slab_alloc(pool, size_of::<Piece>()).cast();
            if piece.is_null() {
                return ffi::NGX_ERROR as _;
            }
            let len = (*pool).pfree * ffi::ngx_pagesize;
            let start = ffi::ngx_slab_alloc(pool, len).cast::<u8>();
            if start.is_null() {
                return ffi::NGX_ERROR as _;
            }
            // A fresh mapping is zero, and is not touched here: what nobody uses takes no memory.
            piece.write(Piece { start, len });
            (*pool).data = piece.cast();
        }
        (*zone).data = piece.cast();
    }
    ffi::NGX_OK as _
}

/// Finds our pieces in a configuration that has been loaded; without an http block there are none.
///
/// # Safety
/// `cycle` must be what nginx passes to init_module.
pub unsafe fn adopt(cycle: *mut ffi::ngx_cycle_t) {
    // SAFETY: by contract; `init` has run for our zones and left their pieces there. The list is
    // nginx's: parts of `nelts` zones each.
    unsafe {
        let tag = ptr::addr_of_mut!(ffi::ngx_http_lua_websocket_module).cast::<c_void>();
        [&HUB, &HISTORY].iter().for_each(|ours| ours.set(ptr::null_mut(), 0));
        let mut part: *const ffi::ngx_list_part_t = &(*cycle).shared_memory.part;
        while !part.is_null() {
            let zones = (*part).elts.cast::<ffi::ngx_shm_zone_t>();
            for zone in (0..(*part).nelts).map(|n| zones.add(n)) {
                let piece = (*zone).data.cast::<Piece>();
                let name = (*zone).shm.name.as_bytes();
                let ours = [&HUB, &HISTORY].into_iter().find(|ours| ours.name == name);
                if let (true, false, Some(ours)) = ((*zone).tag == tag, piece.is_null(), ours) {
                    ours.set((*piece).start, (*piece).len);
                }
            }
            part = (*part).next;
        }
    }
}
