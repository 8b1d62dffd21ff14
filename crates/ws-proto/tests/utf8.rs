//! The UTF-8 validator agrees with the standard library over any split, and fails at once.

use proptest::prelude::*;
use ws_proto::utf8::{is_valid, Invalid, Validator};

/// Pushes the pieces, then finishes.
fn check<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Invalid> {
    let mut validator = Validator::new();
    for piece in pieces {
        validator.push(piece)?;
    }
    validator.finish()
}

/// How many bytes the validator takes, one by one, before it fails.
fn taken(text: &[u8]) -> usize {
    let mut validator = Validator::new();
    text.iter().take_while(|&&b| validator.push(&[b]).is_ok()).count()
}

/// Whether some continuation makes `prefix` valid: tried with all characters' tails.
fn can_become_valid(prefix: &[u8]) -> bool {
    match std::str::from_utf8(prefix) {
        Ok(_) => true,
        Err(e) => {
            let start = &prefix[e.valid_up_to()..];
            // Every first byte with every second and any further bytes, by brute force.
            start.len() < 4
                && (0x80..0xC0u8).any(|a| {
                    [&[][..], &[0x80], &[0x80, 0x80]].iter().any(|tail| {
                        let text = [start, &[a], tail].concat();
                        std::str::from_utf8(&text).is_ok()
                    })
                })
        }
    }
}

#[test]
fn every_sequence_of_two_bytes_fails_when_it_must() {
    for first in 0..=255u8 {
        for second in 0..=255u8 {
            let text = [first, second];
            let expected = (1..=2).take_while(|&n| can_become_valid(&text[..n])).count();
            assert_eq!(taken(&text), expected, "{text:02x?}");
        }
    }
}

#[test]
fn surrogates_overlong_forms_and_the_end_of_the_range() {
    for (text, good) in [
        (&b"\xED\x9F\xBF"[..], true),
        (b"\xED\xA0\x80", false),
        (b"\xED\xBF\xBF", false),
        (b"\xEE\x80\x80", true),
        (b"\xC0\x80", false),
        (b"\xC1\xBF", false),
        (b"\xE0\x80\x80", false),
        (b"\xE0\xA0\x80", true),
        (b"\xF0\x80\x80\x80", false),
        (b"\xF0\x90\x80\x80", true),
        (b"\xF4\x8F\xBF\xBF", true),
        (b"\xF4\x90\x80\x80", false),
        (b"\xF5\x80\x80\x80", false),
        (b"\xFF", false),
        (b"\x80", false),
    ] {
        assert_eq!(check([text]).is_ok(), good, "{text:02x?}");
        assert_eq!(check(text.chunks(1)).is_ok(), good, "{text:02x?} byte by byte");
    }
}

#[test]
fn whole_texts_of_any_length_and_place() {
    for mut page in ["x".repeat(80), "é".repeat(40)].map(String::into_bytes) {
        for (at, len) in (0..8).flat_map(|at| (0..72).map(move |len| (at, len))) {
            let text = &mut page[at..at + len];
            assert_eq!(is_valid(text), std::str::from_utf8(text).is_ok(), "{text:?}");
            for odd in 0..len {
                let byte = std::mem::replace(&mut text[odd], 0xff);
                assert!(!is_valid(text), "{text:?}");
                text[odd] = byte;
            }
        }
    }
}

#[test]
fn an_incomplete_end_is_found_by_finish() {
    for text in [&b"\xC3"[..], b"a\xE2\x82", b"\xF0\x9F\x98"] {
        let mut validator = Validator::new();
        assert_eq!(validator.push(text), Ok(()));
        assert_eq!(validator.finish(), Err(Invalid));
    }
    assert_eq!(Invalid.to_string(), "invalid utf-8");
}

/// Bytes that are often nearly text.
fn nearly_text() -> impl Strategy<Value = Vec<u8>> {
    let text = any::<String>().prop_map(String::into_bytes);
    let long = "[a-zé€😀]{0,200}".prop_map(String::into_bytes);
    let broken = (long.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut text, at, byte)| {
            if !text.is_empty() {
                let at = at.index(text.len());
                text[at] = byte;
            }
            text
        },
    );
    prop_oneof![text, long, broken, prop::collection::vec(any::<u8>(), 0..12)]
}

proptest! {
    #[test]
    fn agrees_with_the_standard_library(
        text in nearly_text(),
        sizes in prop::collection::vec(0..9usize, 0..300),
    ) {
        let mut rest = &text[..];
        let mut pieces = Vec::new();
        for size in sizes {
            let (piece, after) = rest.split_at(size.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        prop_assert_eq!(check(pieces).is_ok(), std::str::from_utf8(&text).is_ok());
    }

    #[test]
    fn fails_at_the_first_hopeless_byte(text in nearly_text()) {
        let expected = match std::str::from_utf8(&text) {
            Ok(_) => text.len(),
            Err(e) => (e.valid_up_to()..text.len())
                .take_while(|&n| can_become_valid(&text[..=n]))
                .last()
                .map_or(e.valid_up_to(), |n| n + 1),
        };
        prop_assert_eq!(taken(&text), expected);
        // In one piece the error comes with the piece that holds the hopeless byte.
        prop_assert_eq!(Validator::new().push(&text).is_err(), expected < text.len());
    }
}
