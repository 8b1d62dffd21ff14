//! Frame headers: RFC 6455 5.7's examples, every length class, each refusal and its order.

use proptest::prelude::*;
use ws_proto::header::{append, encode, FrameHeader};
use ws_proto::{opcode, Error, Lengths, Masking};

const LENGTHS: [(u64, usize); 9] = [
    (0, 0),
    (125, 0),
    (126, 2),
    (127, 2),
    (65535, 2),
    (65536, 8),
    (1 << 20, 8),
    ((1 << 31) - 1, 8),
    (1 << 31, 8),
];

fn parse(first: u8, second: u8) -> Result<FrameHeader, Error> {
    FrameHeader::parse([first, second], 0, Masking::Optional)
}

#[test]
fn headers_of_rfc_6455_5_7() {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    assert_eq!(encode(true, 0, opcode::TEXT, 5, None).as_ref(), [0x81, 0x05]);
    assert_eq!(
        encode(true, 0, opcode::TEXT, 5, Some(key)).as_ref(),
        [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d]
    );
    assert_eq!(encode(false, 0, opcode::TEXT, 3, None).as_ref(), [0x01, 0x03]);
    assert_eq!(encode(true, 0, opcode::CONTINUATION, 2, None).as_ref(), [0x80, 0x02]);
    assert_eq!(encode(true, 0, opcode::PING, 5, None).as_ref(), [0x89, 0x05]);
    assert_eq!(encode(true, 0, opcode::BINARY, 256, None).as_ref(), [0x82, 0x7E, 0x01, 0x00]);
    assert_eq!(
        encode(true, 0, opcode::BINARY, 65536, None).as_ref(),
        [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]
    );
}

#[test]
fn raw_opcodes_and_reserved_bits_are_ored_in() {
    assert_eq!(encode(false, 0, 0x03, 0, None).as_ref(), [0x03, 0]);
    assert_eq!(encode(true, 0, 0x11, 0, None).as_ref(), [0x91, 0]);
    assert_eq!(encode(false, 0, 0xFF, 0, None).as_ref(), [0xFF, 0]);
    assert_eq!(encode(true, 0x40, opcode::TEXT, 0, None).as_ref(), [0xC1, 0]);
}

#[test]
fn length_classes() {
    for (len, ext) in LENGTHS {
        for key in [None, Some([1, 2, 3, 4])] {
            let wire = encode(true, 0, opcode::BINARY, len, key);
            let wire = wire.as_ref();
            assert_eq!(wire.len(), 2 + ext + if key.is_some() { 4 } else { 0 });
            let head = parse(wire[0], wire[1]).unwrap();
            assert_eq!(head.ext_len(), ext);
            assert_eq!(head.masked, key.is_some());
            assert_eq!(head.payload_len(&wire[2..2 + ext], Lengths::Minimal), Ok(len));
            let lenient = head.payload_len(&wire[2..2 + ext], Lengths::Lenient);
            assert_eq!(lenient, if len < 1 << 31 { Ok(len) } else { Err(Error::LenTooLarge) });
        }
    }
}

#[test]
fn longer_forms_than_needed() {
    let head = parse(0x82, 126).unwrap();
    assert_eq!(head.payload_len(&[0, 5], Lengths::Lenient), Ok(5));
    assert_eq!(head.payload_len(&[0, 125], Lengths::Minimal), Err(Error::LenNotMinimal));
    assert_eq!(head.payload_len(&[0, 126], Lengths::Minimal), Ok(126));
    let head = parse(0x82, 127).unwrap();
    assert_eq!(head.payload_len(&[0, 0, 0, 0, 0, 0, 0xFF, 0xFF], Lengths::Lenient), Ok(65535));
    assert_eq!(
        head.payload_len(&[0, 0, 0, 0, 0, 0, 0xFF, 0xFF], Lengths::Minimal),
        Err(Error::LenNotMinimal)
    );
    assert_eq!(
        head.payload_len(&[0x80, 0, 0, 0, 0, 1, 0, 0], Lengths::Minimal),
        Err(Error::LenTopBit)
    );
    assert_eq!(
        head.payload_len(&[0x7F, 0, 0, 0, 0, 1, 0, 0], Lengths::Minimal),
        Ok(0x7F00_0000_0001_0000)
    );
    assert_eq!(
        head.payload_len(&[0x80, 0, 0, 0, 0, 1, 0, 0], Lengths::Lenient),
        Err(Error::LenTooLarge)
    );
}

#[test]
fn checks_come_in_order() {
    for rsv in [0x40, 0x20, 0x10, 0x70] {
        // Everything is wrong with these two bytes: the reserved bits are named first.
        let result = FrameHeader::parse([rsv | 0x3, 0], 0, Masking::Required);
        assert_eq!(result, Err(Error::BadRsv));
    }
    for code in 0..16 {
        let result = FrameHeader::parse([0x80 | code, 0], 0, Masking::Required);
        assert_eq!(
            result,
            Err(match code {
                3..=7 => Error::ReservedData,
                11..=15 => Error::ReservedControl,
                _ => Error::Unmasked,
            })
        );
    }
    // Length before the limit, even for a control frame; then the control frame's own rules.
    let head = parse(0x09, 126).unwrap();
    assert_eq!(head.check(126, 10), Err(Error::ControlTooLong));
    assert_eq!(head.check(20, 10), Err(Error::ControlFragmented));
    let head = parse(0x89, 20).unwrap();
    assert_eq!(head.check(20, 10), Err(Error::FrameTooLarge));
    assert_eq!(head.check(20, 20), Ok(()));
}

#[test]
fn masking_rules() {
    let masked = [0x81, 0x80];
    let bare = [0x81, 0x00];
    assert!(FrameHeader::parse(masked, 0, Masking::Required).is_ok());
    assert_eq!(FrameHeader::parse(bare, 0, Masking::Required), Err(Error::Unmasked));
    assert!(FrameHeader::parse(masked, 0, Masking::Optional).is_ok());
    assert!(FrameHeader::parse(bare, 0, Masking::Optional).is_ok());
    assert_eq!(FrameHeader::parse(masked, 0, Masking::Forbidden), Err(Error::Masked));
    assert!(FrameHeader::parse(bare, 0, Masking::Forbidden).is_ok());
}

#[test]
fn an_extension_owns_only_its_bits() {
    let head = FrameHeader::parse([0xC1, 0], 0x40, Masking::Optional).unwrap();
    assert_eq!(head.rsv, 0x40);
    assert_eq!(FrameHeader::parse([0xE1, 0], 0x40, Masking::Optional), Err(Error::BadRsv));
}

#[test]
#[should_panic(expected = "wrong size")]
fn the_extended_length_must_have_its_size() {
    let _ = parse(0x82, 127).unwrap().payload_len(&[0, 0], Lengths::Lenient);
}

#[test]
fn texts_codes_and_names_of_errors() {
    let rows = [
        (Error::BadRsv, "bad RSV1, RSV2, or RSV3 bits", 1002, "rsv"),
        (Error::ReservedData, "reserved non-control frames", 1002, "opcode"),
        (Error::ReservedControl, "reserved control frames", 1002, "opcode"),
        (Error::Unmasked, "frame unmasked", 1002, "masking"),
        (Error::Masked, "frame masked", 1002, "masking"),
        (Error::LenTooLarge, "payload len too large", 1009, "frame_size"),
        (Error::LenNotMinimal, "payload len not in its shortest form", 1002, "length"),
        (Error::LenTopBit, "payload len with its top bit set", 1002, "length"),
        (Error::ControlTooLong, "too long payload for control frame", 1002, "control"),
        (Error::ControlFragmented, "fragmented control frame", 1002, "control"),
        (Error::FrameTooLarge, "exceeding max payload len", 1009, "frame_size"),
        (
            Error::CloseOneByte,
            "close frame with a body must carry a 2-byte status code",
            1002,
            "close",
        ),
        (Error::CloseBadCode, "bad close code", 1002, "close"),
        (Error::LoneContinuation, "continuation without a message", 1002, "sequence"),
        (Error::MessageInterleaved, "new message inside a fragmented one", 1002, "sequence"),
        (Error::MessageTooLarge, "exceeding max message len", 1009, "message_size"),
        (Error::TooManyFragments, "too many fragments", 1009, "fragments"),
        (Error::InvalidUtf8, "invalid utf-8", 1007, "utf8"),
    ];
    for (error, text, code, rule) in rows {
        assert_eq!(
            (error.to_string().as_str(), error.close_code(), error.rule()),
            (text, code, rule)
        );
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_parsed(
        fin: bool,
        opcode in prop::sample::select(vec![0u8, 1, 2, 8, 9, 10]),
        len in prop_oneof![0..200u64, 65000..66000u64, any::<u64>().prop_map(|n| n >> 1)],
        key: Option<[u8; 4]>,
    ) {
        let wire = encode(fin, 0, opcode, len, key);
        let wire = wire.as_ref();
        let head = parse(wire[0], wire[1]).unwrap();
        prop_assert_eq!((head.fin, head.rsv, head.opcode), (fin, 0, opcode));
        let (ext, rest) = wire[2..].split_at(head.ext_len());
        prop_assert_eq!(head.payload_len(ext, Lengths::Minimal), Ok(len));
        prop_assert_eq!(rest, key.as_ref().map_or(&[][..], |key| &key[..]));
        prop_assert_eq!(head.masked, key.is_some());
    }
}

#[test]
fn appended_as_encoded() {
    for len in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, 1 << 40] {
        for opcode in [1, 2] {
            let mut out = b"before".to_vec();
            append(&mut out, opcode, len);
            let encoded = encode(true, 0, opcode, len as u64, None);
            assert_eq!(out, [b"before", encoded.as_ref()].concat(), "{len}");
        }
    }
}
