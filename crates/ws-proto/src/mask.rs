//! Masking (RFC 6455 5.3), eight bytes at a time. The compiler turns these loops into vector
//! code, and they run at memory speed; masking and unmasking are the same operation.

/// The key as it lies over payload bytes that start at `offset`, twice in a row.
#[inline]
fn wide(key: [u8; 4], offset: usize) -> [u8; 8] {
    std::array::from_fn(|i| key[(offset + i) & 3])
}

/// Masks `data` in place; `offset` is the index of `data[0]` in the frame's payload.
#[inline]
pub fn apply(key: [u8; 4], offset: usize, data: &mut [u8]) {
    // Only the offset's last two bits matter, and this keeps the sum below from overflowing.
    let key = wide(key, offset & 3);
    let word = u64::from_ne_bytes(key);
    let mut words = data.chunks_exact_mut(8);
    for chunk in &mut words {
        let bytes: &mut [u8; 8] = chunk.try_into().expect("chunks of eight");
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// Appends `src`, masked from the start of the key, to `dst`.
#[inline]
pub fn extend(key: [u8; 4], src: &[u8], dst: &mut Vec<u8>) {
    /// A block stays in the first-level cache between copy and masking, so that memory is
    /// passed over once. A multiple of four: every block starts at the key's first byte.
    const BLOCK: usize = 4096;
    dst.reserve(src.len());
    for block in src.chunks(BLOCK) {
        let start = dst.len();
        dst.extend_from_slice(block);
        apply(key, 0, &mut dst[start..]);
    }
}
