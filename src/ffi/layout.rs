//! Compile-time proof that Rust and C mean the same structs, and that nginx is one we know.
//!
//! nginx compares versions when it loads a module, but not what bindgen understood: a wrong define
//! or another libclang would shift a field silently. `build.rs` therefore asks the C compiler, with
//! nginx's own flags, for the sizes and offsets of what `layout.txt` lists, and writes one assertion
//! for each. Nothing of this is in the built module, and nobody calls it.
#![allow(clippy::wildcard_imports)]

use core::mem::{offset_of, size_of};

use nginx_sys::*;

const _: () = assert!(
    nginx_sys::nginx_version as u64 >= 1_022_000,
    "nginx-lua-websocket needs nginx 1.22 or newer"
);

include!(concat!(env!("OUT_DIR"), "/layout.rs"));
