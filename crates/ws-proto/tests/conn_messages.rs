//! Message style: RFC 6455 by the letter.

mod common;

use common::{feed_all, frame, messages, run, run_cut, Seen};
use ws_proto::{close, header, opcode, Conn, Error, Event, Masking, Payload, Settings};

const KEY: Option<[u8; 4]> = Some([0xDE, 0xAD, 0xBE, 0xEF]);

fn text(text: &str) -> Seen {
    Seen::Text(text.as_bytes().to_vec())
}

/// The error that ends this, and nothing before it.
fn refused(settings: Settings, bytes: &[u8]) -> Error {
    let (seen, error) = run(settings, bytes);
    assert_eq!(seen, []);
    error.expect("an error")
}

#[test]
fn whole_messages_and_empty_ones() {
    let wire = [
        frame(true, opcode::TEXT, "naïve".as_bytes(), KEY),
        frame(true, opcode::BINARY, b"\xFF\0", KEY),
        frame(true, opcode::TEXT, b"", KEY),
        frame(true, opcode::BINARY, b"", KEY),
    ]
    .concat();
    let expected =
        vec![text("naïve"), Seen::Binary(b"\xFF\0".to_vec()), text(""), Seen::Binary(vec![])];
    assert_eq!(run(messages(), &wire), (expected, None));
}

#[test]
fn fragments_are_joined_and_control_frames_stand_between() {
    // The euro sign is cut in three.
    let wire = [
        frame(false, opcode::TEXT, b"a\xE2", KEY),
        frame(true, opcode::PING, b"are you there", KEY),
        frame(false, opcode::CONTINUATION, b"\x82", KEY),
        frame(false, opcode::CONTINUATION, b"", KEY),
        frame(true, opcode::PONG, b"", KEY),
        frame(true, opcode::CONTINUATION, b"\xACb", KEY),
        frame(true, opcode::TEXT, b"next", KEY),
    ]
    .concat();
    let expected =
        vec![Seen::Ping(b"are you there".to_vec()), Seen::Pong(vec![]), text("a€b"), text("next")];
    assert_eq!(run(messages(), &wire), (expected.clone(), None));
    assert_eq!(run_cut(messages(), &wire, vec![1; wire.len()], 0), (expected.clone(), None));
    assert_eq!(run_cut(messages(), &wire, vec![1; wire.len()], 0xFF), (expected, None));
}

#[test]
fn a_message_in_one_piece_is_not_copied() {
    let mut wire = frame(true, opcode::TEXT, b"in place", KEY);
    let mut conn = Conn::new(messages());
    // Even when the header came before.
    let (head, body) = wire.split_at_mut(5);
    assert_eq!(conn.feed(&mut &mut *head), Ok(None));
    assert_eq!(
        conn.feed(&mut &mut *body),
        Ok(Some(Event::Message { text: true, payload: Payload::Slice(b"in place") }))
    );
}

#[test]
fn sequence_of_fragments() {
    assert_eq!(
        refused(messages(), &frame(true, opcode::CONTINUATION, b"", KEY)),
        Error::LoneContinuation
    );
    for code in [opcode::TEXT, opcode::BINARY] {
        let wire = [frame(false, opcode::TEXT, b"", KEY), frame(true, code, b"", KEY)].concat();
        assert_eq!(refused(messages(), &wire), Error::MessageInterleaved);
    }
    let wire =
        [frame(true, opcode::TEXT, b"whole", KEY), frame(true, opcode::CONTINUATION, b"", KEY)]
            .concat();
    assert_eq!(run(messages(), &wire), (vec![text("whole")], Some(Error::LoneContinuation)));
}

#[test]
fn masking_direction() {
    let server = Settings { masking: Masking::Required, ..messages() };
    let client = Settings { masking: Masking::Forbidden, ..messages() };
    assert_eq!(refused(server, &frame(true, opcode::TEXT, b"", None)), Error::Unmasked);
    assert_eq!(refused(client, &frame(true, opcode::TEXT, b"", KEY)), Error::Masked);
}

#[test]
fn header_rules() {
    for (bytes, error) in [
        (&b"\xC1\0"[..], Error::BadRsv),
        (b"\x84\0", Error::ReservedData),
        (b"\x8C\0", Error::ReservedControl),
        (b"\x89\x7E\0\x7E", Error::ControlTooLong),
        (b"\x08\0", Error::ControlFragmented),
        (b"\x81\x7E\0\x05", Error::LenNotMinimal),
        (b"\x81\x7F\0\0\0\0\0\0\xFF\xFF", Error::LenNotMinimal),
        (b"\x81\x7F\x80\0\0\0\0\0\0\0", Error::LenTopBit),
        (b"\x81\x7F\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", Error::FrameTooLarge),
    ] {
        assert_eq!(refused(messages(), bytes), error, "{bytes:02x?}");
    }
}

#[test]
fn limits_are_inclusive_and_checked_at_the_header() {
    let limits = Settings { max_frame: 100, max_message: 150, max_fragments: 3, ..messages() };
    let header = |fin, opcode, len| header::encode(fin, 0, opcode, len, KEY).as_ref().to_vec();

    assert_eq!(run(limits, &frame(true, opcode::BINARY, &[0; 100], KEY)).1, None);
    assert_eq!(refused(limits, &header(true, opcode::BINARY, 101)), Error::FrameTooLarge);

    let first = frame(false, opcode::BINARY, &[0; 100], KEY);
    let wire = [first.clone(), frame(true, opcode::CONTINUATION, &[0; 50], KEY)].concat();
    assert_eq!(run(limits, &wire), (vec![Seen::Binary(vec![0; 150])], None));
    let wire = [first, header(true, opcode::CONTINUATION, 51)].concat();
    assert_eq!(refused(limits, &wire), Error::MessageTooLarge);

    let part = frame(false, opcode::CONTINUATION, b"", KEY);
    let last = frame(true, opcode::CONTINUATION, b"", KEY);
    let first = frame(false, opcode::BINARY, b"", KEY);
    let wire = [&first[..], &part, &last, &first, &part, &last].concat();
    let empty = Seen::Binary(vec![]);
    assert_eq!(run(limits, &wire), (vec![empty.clone(), empty], None));
    let wire = [&first[..], &part, &part, &header(true, opcode::CONTINUATION, 0)].concat();
    assert_eq!(refused(limits, &wire), Error::TooManyFragments);

    // Control frames have their own limit.
    let narrow = Settings { max_frame: 10, ..limits };
    let (seen, error) = run(narrow, &frame(true, opcode::PING, &[0; 125], KEY));
    assert_eq!((seen, error), (vec![Seen::Ping(vec![0; 125])], None));
}

#[test]
fn bad_text_is_refused_at_the_first_hopeless_byte() {
    // The frame announces more than ever comes.
    let header = header::encode(true, 0, opcode::TEXT, 1000, None);
    for (bytes, bad_at) in
        [(&b"ok\xFFx"[..], 2), (b"\xED\xA0\x80", 1), (b"\xF4\x90", 1), (b"\xC3\xA9\xC3(", 3)]
    {
        let mut conn = Conn::new(messages());
        assert_eq!(conn.feed(&mut header.as_ref().to_vec().as_mut_slice()), Ok(None));
        for (i, &byte) in bytes.iter().enumerate().take(bad_at + 1) {
            let expected = if i == bad_at { Err(Error::InvalidUtf8) } else { Ok(None) };
            assert_eq!(conn.feed(&mut &mut [byte][..]), expected, "byte {i} of {bytes:02x?}");
        }
        // The same in one piece, and through the connection's own buffer.
        let mut conn = Conn::new(messages());
        assert_eq!(conn.feed(&mut header.as_ref().to_vec().as_mut_slice()), Ok(None));
        conn.body_room().unwrap().0.extend_from_slice(bytes);
        assert_eq!(conn.body_filled(bytes.len()), Err(Error::InvalidUtf8));
        assert!(conn.body_room().is_none());
    }
}

#[test]
fn bad_text_across_fragments_and_at_the_end() {
    let wire = [
        frame(false, opcode::TEXT, b"\xE2\x82", KEY),
        frame(false, opcode::CONTINUATION, b"(", KEY),
    ]
    .concat();
    assert_eq!(refused(messages(), &wire), Error::InvalidUtf8);
    assert_eq!(
        refused(messages(), &frame(true, opcode::TEXT, b"\xE2\x82", KEY)),
        Error::InvalidUtf8
    );
    let wire =
        [frame(false, opcode::TEXT, b"\xE2\x82", KEY), frame(true, opcode::CONTINUATION, b"", KEY)]
            .concat();
    assert_eq!(refused(messages(), &wire), Error::InvalidUtf8);
    // A binary message may hold anything, also right after text.
    let wire = [frame(true, opcode::TEXT, b"t", KEY), frame(true, opcode::BINARY, b"\xFF", KEY)];
    assert_eq!(run(messages(), &wire.concat()).1, None);
}

#[test]
fn close_frames() {
    for (payload, expected) in [
        (&b""[..], Ok((None, &b""[..]))),
        (b"\x03\xE8", Ok((Some(1000), b""))),
        (b"\x03\xE9bye", Ok((Some(1001), b"bye"))),
        (b"\x03", Err(Error::CloseOneByte)),
        (b"\x03\xED", Err(Error::CloseBadCode)),
        (b"\x03\xE8\xFF", Err(Error::InvalidUtf8)),
    ] {
        let wire = frame(true, opcode::CLOSE, payload, KEY);
        for cut in [wire.len(), 1] {
            let outcome = run_cut(messages(), &wire, vec![cut; wire.len()], 0);
            let wanted = match expected {
                Ok((code, reason)) => (vec![Seen::Close(code, reason.to_vec())], None),
                Err(error) => (vec![], Some(error)),
            };
            assert_eq!(outcome, wanted, "{payload:02x?}");
        }
    }
}

#[test]
fn nothing_is_read_after_close() {
    let mut wire = [
        frame(false, opcode::TEXT, b"half", KEY),
        frame(true, opcode::CLOSE, &close::encode(Some(1000), b""), KEY),
        frame(true, opcode::CONTINUATION, b"late", KEY),
        b"\xFF\xFF".to_vec(),
    ]
    .concat();
    let mut conn = Conn::new(messages());
    let mut seen = Vec::new();
    feed_all(&mut conn, &mut wire, &mut seen).unwrap();
    feed_all(&mut conn, &mut b"and this".to_vec(), &mut seen).unwrap();
    assert_eq!(seen, [Seen::Close(Some(1000), vec![])]);
    assert!(!conn.is_mid_frame());
}
