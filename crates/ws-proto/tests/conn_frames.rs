//! Frame style: lua-resty-websocket's rules, nothing joined and nothing automatic.

mod common;

use common::{frame, frames, run, Seen};
use ws_proto::{opcode, Conn, Error, Event, Masking, Payload, Settings, Stage};

const KEY: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);

#[test]
fn examples_of_rfc_6455_5_7() {
    let hello = b"Hello".to_vec();
    for (bytes, expected) in [
        (&b"\x81\x05Hello"[..], Seen::Frame(true, opcode::TEXT, hello.clone())),
        (
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
            Seen::Frame(true, opcode::TEXT, hello.clone()),
        ),
        (b"\x01\x03Hel", Seen::Frame(false, opcode::TEXT, b"Hel".to_vec())),
        (b"\x80\x02lo", Seen::Frame(true, opcode::CONTINUATION, b"lo".to_vec())),
        (b"\x89\x05Hello", Seen::Frame(true, opcode::PING, hello.clone())),
        (b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", Seen::Frame(true, opcode::PONG, hello)),
    ] {
        assert_eq!(run(frames(), bytes), (vec![expected], None));
    }
}

#[test]
fn every_length_class() {
    for len in [0, 1, 125, 126, 127, 65535, 65536, 1 << 20] {
        let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        for key in [None, KEY] {
            let wire = frame(true, opcode::BINARY, &payload, key);
            let expected = Seen::Frame(true, opcode::BINARY, payload.clone());
            assert_eq!(run(frames(), &wire), (vec![expected], None), "{len} bytes");
        }
    }
}

#[test]
fn frames_are_taken_one_at_a_time() {
    let mut wire = [frame(true, 1, b"one", KEY), frame(true, 2, b"two", KEY)].concat();
    let second = wire.len() / 2;
    let mut input = &mut wire[..];
    let mut conn = Conn::new(frames());
    assert_eq!(
        conn.feed(&mut input),
        Ok(Some(Event::Frame { fin: true, opcode: 1, payload: Payload::Slice(b"one") }))
    );
    assert_eq!(input.len(), second);
    assert_eq!(
        conn.feed(&mut input),
        Ok(Some(Event::Frame { fin: true, opcode: 2, payload: Payload::Slice(b"two") }))
    );
    assert_eq!(conn.feed(&mut input), Ok(None));
}

#[test]
fn no_sequence_and_no_utf8_check() {
    let wire = [
        frame(true, opcode::CONTINUATION, b"alone", None),
        frame(false, opcode::TEXT, b"\xFF", None),
        frame(true, opcode::TEXT, b"inside", None),
        frame(true, opcode::CLOSE, b"\x03\xED\xFF", None),
        frame(true, opcode::TEXT, b"after close", None),
    ]
    .concat();
    let expected = vec![
        Seen::Frame(true, opcode::CONTINUATION, b"alone".to_vec()),
        Seen::Frame(false, opcode::TEXT, b"\xFF".to_vec()),
        Seen::Frame(true, opcode::TEXT, b"inside".to_vec()),
        Seen::Frame(true, opcode::CLOSE, b"\x03\xED\xFF".to_vec()),
        Seen::Frame(true, opcode::TEXT, b"after close".to_vec()),
    ];
    assert_eq!(run(frames(), &wire), (expected, None));
}

#[test]
fn lengths_in_a_longer_form_are_taken() {
    let expected = (vec![Seen::Frame(true, opcode::TEXT, b"abc".to_vec())], None);
    assert_eq!(run(frames(), b"\x81\x7E\0\x03abc"), expected);
    assert_eq!(run(frames(), b"\x81\x7F\0\0\0\0\0\0\0\x03abc"), expected);
}

/// Feeds bytes one by one; the error must come with the last and not before.
fn staged(settings: Settings, bytes: &[u8]) -> Error {
    let mut conn = Conn::new(settings);
    for (i, &byte) in bytes.iter().enumerate() {
        match conn.feed(&mut &mut [byte][..]) {
            Ok(None) => assert!(i + 1 < bytes.len(), "no error"),
            Ok(Some(event)) => panic!("{event:?}"),
            Err(error) => {
                assert_eq!(i + 1, bytes.len(), "{error} came too early");
                return error;
            }
        }
    }
    unreachable!()
}

#[test]
fn each_error_comes_as_soon_as_it_can() {
    let server = Settings { masking: Masking::Required, max_frame: 200, ..frames() };
    for (bytes, text) in [
        (&b"\xC1\x80"[..], "bad RSV1, RSV2, or RSV3 bits"),
        (b"\xA1\x80", "bad RSV1, RSV2, or RSV3 bits"),
        (b"\x91\x80", "bad RSV1, RSV2, or RSV3 bits"),
        (b"\x83\x80", "reserved non-control frames"),
        (b"\x8F\x80", "reserved control frames"),
        (b"\x81\x01", "frame unmasked"),
        (b"\x81\xFF\0\0\0\0\x80\0\0\0", "payload len too large"),
        (b"\x81\xFF\xFF\0\0\0\0\0\0\0", "payload len too large"),
        (b"\x89\xFE\0\x7E", "too long payload for control frame"),
        (b"\x09\x81", "fragmented control frame"),
        (b"\x81\xFE\0\xC9", "exceeding max payload len"),
        (b"\x88\x81\0\0\0\0x", "close frame with a body must carry a 2-byte status code"),
    ] {
        assert_eq!(staged(server, bytes).to_string(), text, "{bytes:02x?}");
    }
}

#[test]
fn limit_is_inclusive_per_frame_and_adjustable() {
    let server = Settings { max_frame: 200, ..frames() };
    let (seen, error) = run(server, &frame(true, opcode::TEXT, &[b'x'; 200], KEY));
    assert_eq!((seen.len(), error), (1, None));
    let mut conn = Conn::new(server);
    conn.set_max_frame(199);
    let mut wire = frame(true, opcode::TEXT, &[b'x'; 200], KEY);
    assert_eq!(conn.feed(&mut &mut wire[..]), Err(Error::FrameTooLarge));
}

#[test]
fn stages() {
    let mut conn = Conn::new(frames());
    let mut step = |bytes: &[u8]| {
        let event = conn.feed(&mut bytes.to_vec().as_mut_slice()).unwrap().is_some();
        (conn.stage(), conn.is_mid_frame(), event)
    };
    assert_eq!(step(b""), (Stage::First2, false, false));
    assert_eq!(step(b"\x82"), (Stage::First2, true, false));
    assert_eq!(step(b"\xFE"), (Stage::Len16, true, false));
    assert_eq!(step(b"\x00"), (Stage::Len16, true, false));
    assert_eq!(step(b"\x02"), (Stage::Body, true, false));
    assert_eq!(step(b"\0\0\0\0"), (Stage::Body, true, false));
    assert_eq!(step(b"a"), (Stage::Body, true, false));
    assert_eq!(step(b"b"), (Stage::First2, false, true));
    assert_eq!(step(b"\x82\x7F\0\0"), (Stage::Len64, true, false));
    assert_eq!(step(b"\0\0\0\0\0\x01"), (Stage::Body, true, false));
    assert_eq!(step(b"x"), (Stage::First2, false, true));
    // Masked and empty: the key belongs to the body.
    assert_eq!(step(b"\x82\x80"), (Stage::Body, true, false));
    assert_eq!(step(b"\0\0\0\0"), (Stage::First2, false, true));
}

#[test]
fn nothing_is_read_after_an_error() {
    let mut conn = Conn::new(frames());
    let mut wire = [&b"\x83\x00"[..], &frame(true, 1, b"late", None)].concat();
    let mut input = &mut wire[..];
    assert_eq!(conn.feed(&mut input), Err(Error::ReservedData));
    assert_eq!(conn.feed(&mut input), Ok(None));
    assert!(input.is_empty());
    assert!(!conn.is_mid_frame());
    assert!(conn.body_room().is_none());
}
