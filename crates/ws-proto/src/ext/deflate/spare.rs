//! What compressors and inflaters of one thread share: a spare one of each, for messages that
//! start from an empty window, and a block to work in. So a connection without context takeover
//! holds none of their memory (280 KB and 48 KB) between messages, and a message costs a reset
//! and not an allocation with 256 KB to clear. They live as long as the thread. zlib-rs panics where
//! it gets no memory; so that is asked for here first, where failing is an answer.

use super::parameters::{MAX_BITS, MIN_BITS};
use crate::Error;
use std::cell::RefCell;
use std::mem;
use zlib_rs::{Deflate, DeflateConfig, Inflate};

/// Large enough that its turns do not show beside DEFLATE, small enough for the processor's
/// cache.
const SCRATCH: usize = 16 * 1024;

/// What an inflater and a compressor allocate, at most.
const INFLATE: usize = 64 * 1024;
const DEFLATE: usize = 384 * 1024;

/// zlib's measure of the buffer for symbols: 2048 of them to a block instead of 16384 take 100 KB
/// less a compressor, start faster, and lengthen JSON by 0.2 %.
const MEM_LEVEL: i32 = 5;

#[derive(Default)]
struct Spare {
    /// With its level and window.
    deflate: Option<(u8, u8, Deflate)>,
    inflate: Option<Inflate>,
    scratch: Vec<u8>,
}

thread_local! {
    static SPARE: RefCell<Spare> = RefCell::default();
}

fn probe(bytes: usize) -> Result<(), Error> {
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| Error::NoMemory)
}

/// A compressor with an empty window. Level 1 to 9; window bits 8 (meant as 9) to 15.
pub(super) fn deflate(level: u8, window_bits: u8) -> Result<Deflate, Error> {
    let spare = SPARE.with_borrow_mut(|spare| spare.deflate.take());
    if let Some((_, _, mut deflate)) = spare.filter(|s| (s.0, s.1) == (level, window_bits)) {
        deflate.reset();
        return Ok(deflate);
    }
    probe(DEFLATE)?;
    Ok(Deflate::new_with_config(DeflateConfig {
        level: level.into(),
        // Negative: raw DEFLATE, without zlib's header.
        window_bits: -i32::from(window_bits.max(MIN_BITS)),
        mem_level: MEM_LEVEL,
        ..DeflateConfig::default()
    }))
}

/// Takes a compressor back that was made with these values.
pub(super) fn keep_deflate(level: u8, window_bits: u8, deflate: Deflate) {
    SPARE.with_borrow_mut(|spare| spare.deflate = Some((level, window_bits, deflate)));
}

/// An inflater with an empty window.
pub(super) fn inflate() -> Result<Inflate, Error> {
    match SPARE.with_borrow_mut(|spare| spare.inflate.take()) {
        Some(mut inflate) => {
            inflate.reset(false);
            Ok(inflate)
        }
        None => probe(INFLATE).map(|()| Inflate::new(false, MAX_BITS)),
    }
}

/// Takes an inflater back.
pub(super) fn keep_inflate(inflate: Inflate) {
    SPARE.with_borrow_mut(|spare| spare.inflate = Some(inflate));
}

/// Lends the block. What it holds is of no meaning.
pub(super) fn with_scratch<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut scratch = SPARE.with_borrow_mut(|spare| mem::take(&mut spare.scratch));
    scratch.resize(SCRATCH, 0);
    let result = work(&mut scratch);
    SPARE.with_borrow_mut(|spare| spare.scratch = scratch);
    result
}
