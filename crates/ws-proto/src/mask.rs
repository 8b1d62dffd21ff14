//! Masking (RFC 6455 5.3), eight bytes at a time. The compiler turns these loops into vector
//! code, and they run at memory speed; masking and unmasking are the same operation.

/// Masks `data` in place; `offset` is the index of `data[0]` in the frame's payload.
#[inline]
pub fn apply(key: [u8; 4], offset: usize, data: &mut [u8]) {
    // Read as little-endian on any machine, so that the first key byte is the lowest.
    let key = u32::from_le_bytes(key).rotate_right(8 * (offset & 3) as u32);
    let word = u64::from(key) << 32 | u64::from(key);
    let (words, rest) = data.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_le_bytes(*bytes) ^ word).to_le_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(word.to_le_bytes()) {
        *byte ^= key;
    }
}

/// A block stays in the first-level cache between copy and masking, so that memory is passed over
/// once; and it is short enough that memcpy moves it by vector registers, which some processors do
/// ten times faster than by `rep movsb`. A multiple of four: every block starts at the key's first
/// byte.
const BLOCK: usize = 1024;

/// Appends `src`, masked from the start of the key, to `dst`.
#[inline]
pub fn extend(key: [u8; 4], src: &[u8], dst: &mut Vec<u8>) {
    dst.reserve(src.len());
    for block in src.chunks(BLOCK) {
        let start = dst.len();
        dst.extend_from_slice(block);
        apply(key, 0, &mut dst[start..]);
    }
}

/// Writes `src`, masked from the start of the key, over `dst`, which is as long.
#[inline]
pub fn copy(key: [u8; 4], src: &[u8], dst: &mut [u8]) {
    let key = u32::from_le_bytes(key);
    let word = u64::from(key) << 32 | u64::from(key);
    let ((from, from_rest), (to, to_rest)) = (src.as_chunks::<8>(), dst.as_chunks_mut::<8>());
    for (from, to) in from.iter().zip(to) {
        *to = (u64::from_le_bytes(*from) ^ word).to_le_bytes();
    }
    for ((from, to), key) in from_rest.iter().zip(to_rest).zip(word.to_le_bytes()) {
        *to = from ^ key;
    }
}
