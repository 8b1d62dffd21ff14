//! Large blocks of a worker's Lua VM, kept from one large message to the next, and collected in time.
//! LuaJIT maps a block of 128 KiB or more by itself and unmaps it when it is freed: the string of a
//! 1 MiB message costs 256 page faults, each with a page to clear, more than all else that the
//! message needs. Installed by lib.rs in each worker; `entry` and fast.lua call `pace`. And for a
//! worker that makes many strings of medium size: a cycle over all that it has alive comes less often.
//!
//! Everything comes from the VM's own allocator and goes back to it: each block is one of its, may
//! be freed by it at any time, and lies where the VM can address it.

use std::cell::Cell;
use std::ffi::{c_int, c_void, CStr};
use std::ptr;

use mlua::ffi as lua;

use super::blocks::{class_of, Blocks, BESIDE, SMALLEST};
use super::no_request;
use crate::ngx::ngx_lua::main_vm;
use crate::ngx::posted::Posted;
use crate::ngx::timer::Timer;

/// A string of so many bytes is a large one.
pub const LARGE: usize = 128 * 1024;
/// So often, in milliseconds, what has not been needed since the last time is given back: a worker
/// without large messages keeps nothing.
const TICK: u64 = 100;
/// So much garbage in large blocks waits for the VM's collector to come by itself, or as much as
/// there is else: a cycle takes time for small things, not for large ones.
const ALLOWANCE: usize = 4 * 1024 * 1024;
/// A block for more than this, and no large one, is a medium one. (Coroutines and tables of short-lived
/// requests have fewer bytes, and as garbage more beside them than their own.)
const MEDIUM: usize = 4 * 1024;
/// Once so many bytes of medium blocks have been made ...
const MANY: usize = 512 * 1024;
/// ... the next cycle of the collector waits until the VM has so much more, if it has less than that:
/// a cycle goes over all that is alive, whatever it frees.
const WAIT: usize = 4 * 1024 * 1024;
/// KiB of garbage for which a slice of `tick` makes up: a millisecond or so.
const SLICE: c_int = 512;
/// LuaJIT's own pause: a cycle begins when there is twice as much as the last has left.
const PAUSE: c_int = 200;
/// LUA_GCISRUNNING of LuaJIT's lua.h, which mlua does not name.
const GC_IS_RUNNING: c_int = 9;

thread_local! {
    static KEEPER: Cell<*const Keeper> = const { Cell::new(ptr::null()) };
    static TIMER: Timer = const { Timer::new() };
    static DUE: Posted = const { Posted::new() };
}

/// A VM's own allocator, and the blocks that it would have back.
///
/// Made by `install`, once in a process. A userdata in the VM's registry is collected when the VM is
/// closed (the worker ends, or has been reloaded without a master process): its `release` gives the
/// blocks back and the VM its own allocator, so that closing ends as ever, and frees this. Where
/// somebody has put yet another allocator before this one, all stays as it is, for ever.
struct Keeper {
    blocks: Blocks,
    /// Bytes of large blocks that the VM has, garbage included.
    used: Cell<usize>,
    /// What the last cycle of the collector has left of these, and of all else.
    left: Cell<(usize, usize)>,
    /// Bytes of large blocks that the VM has been given since the last `pace`.
    fresh: Cell<usize>,
    /// Bytes of medium blocks that the VM has been given since the last `wait`.
    medium: Cell<usize>,
    /// `wait` has been done, or is due, for this cycle of the collector.
    waits: Cell<bool>,
    /// Large or medium strings were made since the last tick.
    busy: Cell<bool>,
    /// Large strings were made, or a cycle put off, since `tick` last came to the end of one.
    stirred: Cell<bool>,
    /// `tick` is due.
    ticking: Cell<bool>,
    /// The VM's main state.
    state: *mut lua::lua_State,
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
    /// A medium block has been asked for (or, with 0, freed).
    fn count_medium(&self, bytes: usize) {
        self.busy.set(self.busy.get() || bytes > 0);
        self.medium.set(self.medium.get() + bytes);
        if self.medium.get() >= MANY && !self.waits.replace(true) {
            DUE.with(|due| due.post(wait));
        }
    }

    /// Has `tick` come.
    fn look_after(&self) {
        if !self.ticking.replace(true) {
            TIMER.with(|timer| timer.set(TICK, tick));
        }
    }

    /// Has `tick` look after the collector, once no more strings come.
    fn stir(&self) {
        self.stirred.set(true);
        self.look_after();
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
        // Small ones are nearly all there is: each small message comes by twice.
        if old.max(new) > MEDIUM {
            if old.max(new) > SMALLEST + BESIDE {
                return allocate_large(keeper, block, old, new);
            }
            keeper.count_medium(new);
        }
        keeper.blocks.own(block, old, new)
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
                keeper.blocks.put(block, old, index);
                keeper.look_after();
                return ptr::null_mut();
            }
        } else if let Some((index, size)) = class_of(new) {
            let kept = if block.is_null() { keeper.blocks.take(index) } else { ptr::null_mut() };
            if !kept.is_null() {
                return kept;
            }
            return keeper.blocks.own(block, old, size);
        }
        keeper.blocks.own(block, old, new)
    }
}

/// Gives back what has not been needed since the last tick, and takes the collector through the rest
/// of its cycle, a slice in each tick, once no more strings come.
fn tick() {
    // SAFETY: `release` sets this to null before it frees the keeper.
    let Some(keeper) = (unsafe { KEEPER.get().as_ref() }) else { return };
    keeper.blocks.free_idle();
    if !keeper.busy.take() && keeper.stirred.get() {
        // SAFETY: the VM lives as long as its keeper, and runs nothing while a timer does.
        unsafe { protected(keeper.state, collect_slice) };
    }
    // A finalizer may have freed it.
    // SAFETY: as above.
    let Some(keeper) = (unsafe { KEEPER.get().as_ref() }) else { return };
    keeper.ticking.set(false);
    if keeper.blocks.has_any() || keeper.stirred.get() {
        keeper.look_after();
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

/// A slice of the collector's work. By itself it would begin when there is twice as much as its last
/// cycle has left (after a hundred connections with a large string each, 200 MB of small garbage), and
/// go on only as something is made.
unsafe extern "C-unwind" fn collect_slice(state: *mut lua::lua_State) -> c_int {
    // SAFETY: lua_cpcall calls this. Where the program has stopped its collector, it stays so.
    // Finalizers run, hence the look for the keeper.
    unsafe {
        let running = lua::lua_gc(state, GC_IS_RUNNING, 0) != 0;
        if !running || lua::lua_gc(state, lua::LUA_GCSTEP, SLICE) == 1 {
            if let Some(keeper) = keeper_of(state) {
                (*keeper).stirred.set(false);
            }
        }
    }
    0
}

/// Has the collector wait for `WAIT` bytes more before it begins its next cycle, or goes on with one.
fn wait() {
    // SAFETY: `release` sets this to null before it frees the keeper. The VM lives as long, and runs
    // nothing while an event does.
    unsafe {
        let Some(keeper) = KEEPER.get().as_ref() else { return };
        keeper.medium.set(0);
        protected(keeper.state, put_off);
    }
}

/// Sets the collector's threshold, which is done by way of its pause; the program never sees that
/// changed. Where it has stopped its collector, or set a pause of its own, all stays so. A userdata
/// that nobody holds tells when the next cycle has ended.
unsafe extern "C-unwind" fn put_off(state: *mut lua::lua_State) -> c_int {
    // SAFETY: lua_cpcall calls this. Whatever may run a finalizer comes before the keeper is looked for.
    unsafe {
        lua::lua_newuserdata(state, 1);
        lua::lua_createtable(state, 0, 1);
        lua::lua_pushcclosure(state, cycle_ended, 0);
        lua::lua_setfield(state, -2, c"__gc".as_ptr());
        lua::lua_setmetatable(state, -2);

        let kb = lua::lua_gc(state, lua::LUA_GCCOUNT, 0);
        let Some(keeper) = keeper_of(state) else { return 0 };
        let more = (WAIT / 1024) as c_int;
        if kb == 0 || kb >= more || lua::lua_gc(state, GC_IS_RUNNING, 0) == 0 {
            return 0;
        }
        let pause = lua::lua_gc(state, lua::LUA_GCSETPAUSE, 100 + more * 100 / kb);
        if pause == PAUSE {
            // -1: from now on as the pause says, as luajit.c has it.
            lua::lua_gc(state, lua::LUA_GCRESTART, -1);
            (*keeper).stir();
        }
        lua::lua_gc(state, lua::LUA_GCSETPAUSE, pause);
    }
    0
}

/// `__gc` of that userdata: the collector's cycle ends with its finalizers.
unsafe extern "C-unwind" fn cycle_ended(state: *mut lua::lua_State) -> c_int {
    // SAFETY: Lua calls this with its own state.
    unsafe {
        if let Some(keeper) = keeper_of(state) {
            (*keeper).waits.set(false);
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
            blocks: Blocks::new(own, ud),
            used: Cell::new(0),
            left: Cell::new((0, 0)),
            fresh: Cell::new(0),
            medium: Cell::new(0),
            waits: Cell::new(false),
            busy: Cell::new(false),
            stirred: Cell::new(false),
            ticking: Cell::new(false),
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
            let (allocate, ud) = (*keeper).blocks.allocator();
            lua::lua_setallocf(state, allocate, ud);
            KEEPER.set(ptr::null());
            TIMER.with(Timer::cancel);
            (*keeper).blocks.free_all();
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
        (*keeper).stir();
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
