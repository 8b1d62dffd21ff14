//! Large blocks of a worker's Lua VM, kept from one large message to the next, and collected in time.
//! LuaJIT maps a block of 128 KiB or more by itself and unmaps it when it is freed: the string of a
//! 1 MiB message costs 256 page faults, each with a page to clear, more than all else that the
//! message needs. Installed by lib.rs in each worker; `entry` and fast.lua call `pace`.
//!
//! Everything comes from the VM's own allocator and goes back to it: each block is one of its, may
//! be freed by it at any time, and lies where the VM can address it.

use std::cell::Cell;
use std::ffi::{c_int, c_void, CStr};
use std::ptr;

use mlua::ffi as lua;

use super::no_request;
use crate::ngx::ngx_lua::main_vm;
use crate::ngx::timer::Timer;

/// A string of so many bytes is a large one.
pub const LARGE: usize = 128 * 1024;
/// Blocks for more than this, and for no more than `LARGEST`, are kept.
const SMALLEST: usize = LARGE / 2;
const LARGEST: usize = 4 * 1024 * 1024;
/// Bytes kept at most, of all sizes together.
const TOGETHER: usize = 2 * LARGEST;
/// So often, in milliseconds, what has not been needed since the last time is given back: a worker
/// without large messages keeps nothing.
const TICK: u64 = 100;
/// Sizes are rounded up to one of four for each power of two, so that blocks fit again. Each has
/// room for so much beside: the head of a string and its NUL.
const BESIDE: usize = 64;
const STEPS: usize = 4;
const CLASSES: usize = STEPS * (LARGEST.ilog2() - SMALLEST.ilog2()) as usize;
/// So much garbage in large blocks waits for the VM's collector to come by itself, or as much as
/// there is else: a cycle takes time for small things, not for large ones.
const ALLOWANCE: usize = 4 * 1024 * 1024;
/// LUA_GCISRUNNING of LuaJIT's lua.h, which mlua does not name.
const GC_IS_RUNNING: c_int = 9;

thread_local! {
    static KEEPER: Cell<*const Keeper> = const { Cell::new(ptr::null()) };
    static TIMER: Timer = const { Timer::new() };
}

/// A VM's own allocator, and the blocks that it would have back.
///
/// Made by `install`, once in a process. A userdata in the VM's registry is collected when the VM is
/// closed (the worker ends, or has been reloaded without a master process): its `release` gives the
/// blocks back and the VM its own allocator, so that closing ends as ever, and frees this. Where
/// somebody has put yet another allocator before this one, all stays as it is, for ever.
struct Keeper {
    allocate: lua::lua_Alloc,
    ud: *mut c_void,
    classes: [Class; CLASSES],
    /// Bytes of all blocks that are kept.
    held: Cell<usize>,
    /// Bytes of large blocks that the VM has, garbage included.
    used: Cell<usize>,
    /// What the last cycle of the collector has left of these, and of all else.
    left: Cell<(usize, usize)>,
    /// Bytes of large blocks that the VM has been given since the last `pace`.
    fresh: Cell<usize>,
    /// Large strings were made since the last tick.
    busy: Cell<bool>,
    /// Large strings were made since the collector was last started by `tick`.
    stirred: Cell<bool>,
    /// The VM's main state.
    state: *mut lua::lua_State,
}

/// Blocks of one size, the last freed first.
#[derive(Default)]
struct Class {
    first: Cell<*mut Block>,
    count: Cell<usize>,
    /// The least that `count` has been since the last tick: so many were not needed.
    idle: Cell<usize>,
}

/// How a block that is kept begins.
struct Block {
    next: *mut Block,
}

/// The class of blocks in which `bytes` fit, and their size. None: such blocks are not kept.
fn class_of(bytes: usize) -> Option<(usize, usize)> {
    let payload = bytes.saturating_sub(BESIDE);
    if payload <= SMALLEST || payload > LARGEST {
        return None;
    }
    let power = (payload - 1).ilog2();
    let step = (1 << power) / STEPS;
    let steps = (payload - (1 << power)).div_ceil(step);
    let index = STEPS * (power - SMALLEST.ilog2()) as usize + steps - 1;
    Some((index, (1 << power) + steps * step + BESIDE))
}

/// The size of a class's blocks.
fn block_size(index: usize) -> usize {
    let power = SMALLEST << (index / STEPS);
    power + (index % STEPS + 1) * (power / STEPS) + BESIDE
}

/// How much of `bytes` is a large block's.
fn large(bytes: usize) -> usize {
    if bytes > SMALLEST + BESIDE {
        bytes
    } else {
        0
    }
}

impl Keeper {
    /// A kept block of this class, or null.
    fn take(&self, index: usize) -> *mut c_void {
        let class = &self.classes[index];
        let block = class.first.get();
        if !block.is_null() {
            // SAFETY: a block that `put` has written to, and that nobody has had since.
            class.first.set(unsafe { (*block).next });
            class.count.set(class.count.get() - 1);
            class.idle.set(class.idle.get().min(class.count.get()));
            self.held.set(self.held.get() - block_size(index));
        }
        block.cast()
    }

    /// Keeps a block that the VM knows as one of `bytes` bytes, or frees it. Small ones make way for
    /// large ones, which cost more.
    ///
    /// # Safety
    /// `block` must be the VM's allocator's, and nobody may use it any more.
    unsafe fn put(&self, block: *mut c_void, bytes: usize, index: usize) {
        let size = block_size(index);
        for smaller in 0..index {
            let excess = (self.held.get() + size).saturating_sub(TOGETHER);
            self.free(smaller, excess.div_ceil(block_size(smaller)));
        }
        // SAFETY: by contract. To have it grow to its class costs nothing where it is so large
        // already, as all are that `allocate` has given out; the others are older than this keeper.
        unsafe {
            let fits = self.held.get() + size <= TOGETHER;
            let grown =
                if fits { (self.allocate)(self.ud, block, bytes, size) } else { ptr::null_mut() };
            if grown.is_null() {
                (self.allocate)(self.ud, block, bytes, 0);
                return;
            }
            let class = &self.classes[index];
            let grown = grown.cast::<Block>();
            grown.write(Block { next: class.first.get() });
            class.first.set(grown);
            class.count.set(class.count.get() + 1);
        }
        if self.held.replace(self.held.get() + size) == 0 {
            TIMER.with(|timer| timer.set(TICK, tick));
        }
    }

    /// Gives so many blocks of a class back to the VM's allocator, or as many as there are.
    fn free(&self, index: usize, count: usize) {
        for _ in 0..count {
            let block = self.take(index);
            if block.is_null() {
                break;
            }
            // SAFETY: it came from this allocator, and `take` has let go of it.
            unsafe { (self.allocate)(self.ud, block, block_size(index), 0) };
        }
    }
}

/// What the VM calls for all its memory (lua_Alloc).
unsafe extern "C" fn allocate(
    ud: *mut c_void,
    block: *mut c_void,
    old: usize,
    new: usize,
) -> *mut c_void {
    // SAFETY: the VM passes what `anchor` gave it, until `release` takes that back. Its calls are
    // passed on, but for those of large blocks.
    unsafe {
        let keeper = &*ud.cast::<Keeper>();
        // Nearly all there is: each small message comes by twice.
        if old.max(new) <= SMALLEST + BESIDE {
            return (keeper.allocate)(keeper.ud, block, old, new);
        }
        allocate_large(keeper, block, old, new)
    }
}

/// The part of `allocate` that has to do with large blocks.
///
/// # Safety
/// As for the VM's allocator, which `keeper` must hold.
#[inline(never)]
unsafe fn allocate_large(
    keeper: &Keeper,
    block: *mut c_void,
    old: usize,
    new: usize,
) -> *mut c_void {
    // SAFETY: calls are passed on, save that blocks are larger than the VM knows, and that those it
    // frees may be kept for the next call. Nothing in here panics, or calls back.
    unsafe {
        keeper.used.set((keeper.used.get() + large(new)).saturating_sub(large(old)));
        keeper.fresh.set(keeper.fresh.get() + large(new).saturating_sub(large(old)));
        if new == 0 {
            if let Some((index, _)) = class_of(old).filter(|_| !block.is_null()) {
                keeper.put(block, old, index);
                return ptr::null_mut();
            }
        } else if let Some((index, size)) = class_of(new) {
            let kept = if block.is_null() { keeper.take(index) } else { ptr::null_mut() };
            if !kept.is_null() {
                return kept;
            }
            return (keeper.allocate)(keeper.ud, block, old, size);
        }
        (keeper.allocate)(keeper.ud, block, old, new)
    }
}

/// Gives back what has not been needed since the last tick, and has the collector begin a cycle
/// once no more large strings come.
fn tick() {
    // SAFETY: `release` sets this to null before it frees the keeper.
    let Some(keeper) = (unsafe { KEEPER.get().as_ref() }) else { return };
    for (index, class) in keeper.classes.iter().enumerate() {
        keeper.free(index, class.idle.get());
        class.idle.set(class.count.get());
    }
    if !keeper.busy.take() && keeper.stirred.take() {
        // SAFETY: the VM lives as long as its keeper, and runs nothing while a timer does.
        unsafe { protected(keeper.state, begin_cycle) };
    }
    // A finalizer may have freed it.
    // SAFETY: as above.
    let Some(keeper) = (unsafe { KEEPER.get().as_ref() }) else { return };
    if keeper.held.get() > 0 || keeper.stirred.get() {
        TIMER.with(|timer| timer.set(TICK, tick));
    }
}

/// Calls `function`, without a request. What it, or a finalizer, raises is dropped.
///
/// # Safety
/// `state` must be the main state of a VM that runs nothing.
unsafe fn protected(state: *mut lua::lua_State, function: lua::lua_CFunction) {
    // SAFETY: by contract; an error leaves its value on the stack.
    unsafe {
        no_request::forget(state);
        if lua::lua_cpcall(state, function, ptr::null_mut()) != lua::LUA_OK {
            lua::lua_settop(state, -2);
        }
    }
}

/// The collector's first step, after which small things made drive it on. By itself it would begin
/// when there is twice as much as its last cycle has left: after a hundred connections with a large
/// string each, 200 MB of small garbage.
unsafe extern "C-unwind" fn begin_cycle(state: *mut lua::lua_State) -> c_int {
    // SAFETY: lua_cpcall calls this. Where the program has stopped its collector, it stays so.
    unsafe {
        if lua::lua_gc(state, GC_IS_RUNNING, 0) != 0 {
            lua::lua_gc(state, lua::LUA_GCSTEP, 0);
        }
    }
    0
}

/// Begins to keep the large blocks of this worker's Lua VM. (Under `lua_code_cache off` each request
/// has a VM of its own, and those are left as they are.) Without memory nothing changes.
pub fn install() {
    let state = main_vm();
    if !state.is_null() {
        // SAFETY: this worker's VM, which runs nothing yet.
        unsafe { protected(state, anchor) };
    }
}

/// Puts `allocate` before the VM's allocator, with a userdata that will undo it.
unsafe extern "C-unwind" fn anchor(state: *mut lua::lua_State) -> c_int {
    const KEY: &CStr = c"nginx-lua-websocket.memory";
    // SAFETY: lua_cpcall calls this. What may raise comes before the keeper is made.
    unsafe {
        lua::lua_newuserdata(state, 1);
        lua::lua_createtable(state, 0, 2);
        lua::lua_pushcclosure(state, release, 0);
        lua::lua_setfield(state, -2, c"__gc".as_ptr());
        lua::lua_pushboolean(state, 0);
        lua::lua_setfield(state, -2, c"__metatable".as_ptr());
        lua::lua_setmetatable(state, -2);
        lua::lua_setfield(state, lua::LUA_REGISTRYINDEX, KEY.as_ptr());

        let mut ud = ptr::null_mut();
        let own = lua::lua_getallocf(state, &mut ud);
        let keeper = Box::into_raw(Box::new(Keeper {
            allocate: own,
            ud,
            classes: std::array::from_fn(|_| Class::default()),
            held: Cell::new(0),
            used: Cell::new(0),
            left: Cell::new((0, 0)),
            fresh: Cell::new(0),
            busy: Cell::new(false),
            stirred: Cell::new(false),
            state,
        }));
        KEEPER.set(keeper);
        lua::lua_setallocf(state, allocate, keeper.cast());
    }
    0
}

/// The keeper, if it is that of this state's VM.
///
/// # Safety
/// `state` must be valid.
unsafe fn keeper_of(state: *mut lua::lua_State) -> Option<*const Keeper> {
    let mut ud = ptr::null_mut();
    // SAFETY: by contract.
    unsafe { lua::lua_getallocf(state, &mut ud) };
    Some(KEEPER.get()).filter(|keeper| !keeper.is_null() && ptr::eq(keeper.cast(), ud))
}

/// `__gc` of that userdata.
unsafe extern "C-unwind" fn release(state: *mut lua::lua_State) -> c_int {
    // SAFETY: Lua calls this with its own state. The keeper is freed when nobody knows it any more.
    unsafe {
        if let Some(keeper) = keeper_of(state) {
            lua::lua_setallocf(state, (*keeper).allocate, (*keeper).ud);
            KEEPER.set(ptr::null());
            TIMER.with(Timer::cancel);
            for index in 0..CLASSES {
                (*keeper).free(index, usize::MAX);
            }
            drop(Box::from_raw(keeper.cast_mut()));
        }
    }
    0
}

/// After a large string was made: lets the VM's collector keep up. By itself it takes one small step
/// whenever something is made, however large that is, and does not end a cycle within compiled code;
/// a program that makes little else than large strings would have hundreds of them wait for it.
///
/// # Safety
/// `state` must be the state a C function was called with, which has nothing left to drop: finalizers
/// run, and may raise.
pub unsafe fn pace(state: *mut lua::lua_State) {
    // SAFETY: by contract. While finalizers run nothing of the keeper is borrowed, which they may
    // free, if they take it out of the registry; hence the second look.
    unsafe {
        let Some(keeper) = keeper_of(state) else { return };
        (*keeper).busy.set(true);
        if !(*keeper).stirred.replace(true) {
            TIMER.with(|timer| timer.set(TICK, tick));
        }
        let fresh = (*keeper).fresh.take();
        let (large, rest) = (*keeper).left.get();
        let garbage = (*keeper).used.get().saturating_sub(large);
        // Where the program has stopped its collector, it stays so.
        if garbage < rest.max(ALLOWANCE) || lua::lua_gc(state, GC_IS_RUNNING, 0) == 0 {
            return;
        }
        // What the collector would do for as many bytes of small things.
        let kb = (fresh >> 10).min(1 << 20) as c_int;
        if lua::lua_gc(state, lua::LUA_GCSTEP, kb) == 1 {
            let Some(keeper) = keeper_of(state) else { return };
            let all = lua::lua_gc(state, lua::LUA_GCCOUNT, 0) as usize * 1024;
            let large = (*keeper).used.get();
            (*keeper).left.set((large, all.saturating_sub(large)));
        }
    }
}

/// `pace()`, for the shims.
pub unsafe extern "C-unwind" fn raw_pace(state: *mut lua::lua_State) -> c_int {
    // SAFETY: Lua calls this with its own state.
    unsafe { pace(state) };
    0
}
