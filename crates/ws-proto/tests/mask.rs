//! Masking: the RFC's formula, any offset, any split.

use proptest::prelude::*;
use ws_proto::mask;

/// RFC 6455 5.3, word by word.
fn formula(key: [u8; 4], offset: usize, data: &[u8]) -> Vec<u8> {
    data.iter().enumerate().map(|(i, b)| b ^ key[(offset % 4 + i) % 4]).collect()
}

#[test]
fn hello_of_rfc_6455_5_7() {
    let mut data = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
    mask::apply([0x37, 0xfa, 0x21, 0x3d], 0, &mut data);
    assert_eq!(&data, b"Hello");
}

#[test]
fn the_largest_offset_does_not_overflow() {
    let mut data = *b"0123456789abcdef";
    mask::apply([1, 2, 3, 4], usize::MAX, &mut data);
    assert_eq!(data[..], formula([1, 2, 3, 4], usize::MAX, b"0123456789abcdef"));
}

#[test]
fn extend_appends_across_its_blocks_and_copy_agrees() {
    let key = [0xA1, 0xB2, 0xC3, 0xD4];
    for len in [0, 1, 7, 8, 4095, 4096, 4097, 8193, 1 << 20] {
        let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let mut out = b"head".to_vec();
        mask::extend(key, &data, &mut out);
        assert_eq!(&out[..4], b"head");
        assert_eq!(out[4..], formula(key, 0, &data), "{len} bytes");
        let mut over = vec![0xFF; len];
        mask::copy(key, &data, &mut over);
        assert_eq!(over, out[4..], "{len} bytes");
    }
}

proptest! {
    #[test]
    fn any_offset_is_the_formula_and_undoes_itself(
        key: [u8; 4],
        offset: usize,
        data in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut masked = data.clone();
        mask::apply(key, offset, &mut masked);
        prop_assert_eq!(&masked, &formula(key, offset, &data));
        mask::apply(key, offset, &mut masked);
        prop_assert_eq!(masked, data);
    }

    #[test]
    fn any_split_is_the_whole(
        key: [u8; 4],
        data in prop::collection::vec(any::<u8>(), 0..300),
        at: prop::sample::Index,
    ) {
        let at = at.index(data.len() + 1);
        let mut parts = data.clone();
        let (first, second) = parts.split_at_mut(at);
        mask::apply(key, 0, first);
        mask::apply(key, at, second);
        prop_assert_eq!(parts, formula(key, 0, &data));
    }
}
