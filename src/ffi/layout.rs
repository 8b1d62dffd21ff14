//! Compile-time proof that Rust and C mean the same structs, and that nginx is one we know.
//!
//! nginx compares versions when it loads a module, but not what bindgen understood: a wrong define
//! or another libclang would shift a field silently. `build.rs` therefore asks the C compiler, with
//! nginx's own flags, for the sizes and offsets of what `layout.txt` lists, and writes one assertion
//! for each; nothing of these is in the built module. Bit fields, which Rust has as methods that no
//! assertion can call, are compared when nginx reads its configuration.
#![allow(clippy::wildcard_imports)]

use core::mem::{offset_of, size_of};
use core::slice;

use nginx_sys::*;

const _: () = assert!(
    nginx_sys::nginx_version as u64 >= 1_022_000,
    "nginx-lua-websocket needs nginx 1.22 or newer"
);

include!(concat!(env!("OUT_DIR"), "/layout.rs"));

/// The first bit field, as "struct.field", that the methods of bindgen look for in other bits than the
/// C compiler does. Called while nginx reads its configuration.
pub fn misplaced_bit_field() -> Option<&'static str> {
    let fields = include!(concat!(env!("OUT_DIR"), "/bit_checks.rs"));
    fields.into_iter().find_map(|(name, agrees)| (!agrees).then_some(name))
}

/// Whether `set` sets, in a zeroed `T`, the bits of `masks` in the bytes from `first` on, no others.
fn is_at<T>(set: impl FnOnce(&mut T), first: usize, masks: &[u8]) -> bool {
    // u64: as far as any of nginx's structs is aligned.
    const { assert!(align_of::<T>() <= align_of::<u64>()) };
    let mut memory = vec![0_u64; size_of::<T>().div_ceil(size_of::<u64>())];
    // SAFETY: the memory is large and aligned enough, and zeros are a value of every C struct here.
    set(unsafe { &mut *memory.as_mut_ptr().cast::<T>() });
    // SAFETY: all of it has been initialised.
    let bytes = unsafe { slice::from_raw_parts(memory.as_ptr().cast::<u8>(), size_of::<T>()) };
    let (before, behind) = (&bytes[..first], &bytes[first + masks.len()..]);
    bytes[first..].starts_with(masks) && before.iter().chain(behind).all(|byte| *byte == 0)
}
