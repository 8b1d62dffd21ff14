//! A connection that agreed on permessage-deflate: what RFC 7692 shows, forbids and leaves open.

mod common;

use common::{feed_all, frame, messages, rsv_frame, run_conn, Outcome, Seen};
use ws_proto::ext::deflate::{compress_once, Agreed, Deflater};
use ws_proto::ext::{self, Encoder};
use ws_proto::Role;
use ws_proto::{header, opcode, Conn, Error, Event, Payload, Settings, Style};

const KEY: Option<[u8; 4]> = Some([0xDE, 0xAD, 0xBE, 0xEF]);
const RSV1: u8 = 0x40;

fn agreed() -> Agreed {
    Agreed {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
        level: 6,
        threshold: 0,
    }
}

fn server(settings: Settings) -> Conn {
    Conn::with_extension(settings, &ext::Agreed::Deflate(agreed()), Role::Server)
}

fn run(bytes: &[u8]) -> Outcome {
    let outcome = run_conn(&mut server(messages()), bytes, [], 0);
    // Byte by byte it is the same.
    let cut = run_conn(&mut server(messages()), bytes, std::iter::repeat(1), 0xFF);
    assert_eq!(outcome, cut);
    outcome
}

fn refused(settings: Settings, bytes: &[u8]) -> Error {
    let (seen, error) = run_conn(&mut server(settings), bytes, [], 0);
    assert_eq!(seen, []);
    error.expect("an error")
}

fn text(text: &str) -> Seen {
    Seen::Text(text.as_bytes().to_vec())
}

fn packed(payload: &[u8]) -> Vec<u8> {
    rsv_frame(true, RSV1, opcode::BINARY, &compress_once(9, 15, payload).unwrap(), KEY)
}

#[test]
fn examples_of_rfc_7692() {
    let hello = || (vec![text("Hello")], None);
    // 7.2.3.1: one frame, and two.
    assert_eq!(run(b"\xC1\x07\xF2\x48\xCD\xC9\xC9\x07\0"), hello());
    assert_eq!(run(b"\x41\x03\xF2\x48\xCD\x80\x04\xC9\xC9\x07\0"), hello());
    // 7.2.3.2: the second message refers to the first.
    let twice = b"\xC1\x07\xF2\x48\xCD\xC9\xC9\x07\0\xC1\x05\xF2\0\x11\0\0";
    assert_eq!(run(twice), (vec![text("Hello"), text("Hello")], None));
    // 7.2.3.3: a block without compression.
    assert_eq!(run(b"\xC1\x0B\0\x05\0\xFA\xFFHello\0"), hello());
    // 7.2.3.4: a final block, and the byte that makes the tail a block.
    assert_eq!(run(b"\xC1\x08\xF3\x48\xCD\xC9\xC9\x07\0\0"), hello());
    // 7.2.3.5: two blocks.
    assert_eq!(run(b"\xC1\x0D\xF2\x48\x05\0\0\0\xFF\xFF\xCA\xC9\xC9\x07\0"), hello());
    // 7.2.3.6: an empty message.
    assert_eq!(run(b"\xC1\x01\0"), (vec![text("")], None));
}

#[test]
fn a_final_block_ends_the_stream_but_not_the_connection() {
    let last = b"\xC1\x08\xF3\x48\xCD\xC9\xC9\x07\0\0";
    let next = b"\xC1\x07\xF2\x48\xCD\xC9\xC9\x07\0";
    let wire = [&last[..], last, next].concat();
    assert_eq!(run(&wire), (vec![text("Hello"), text("Hello"), text("Hello")], None));
    // Two streams in one message.
    let both_final = b"\xC1\x0F\xF3\x48\xCD\xC9\xC9\x07\0\xF3\x48\xCD\xC9\xC9\x07\0\0";
    let first_final = b"\xC1\x0E\xF3\x48\xCD\xC9\xC9\x07\0\xF2\x48\xCD\xC9\xC9\x07\0";
    for wire in [&both_final[..], first_final] {
        let expected = vec![text("HelloHello"), text("Hello")];
        assert_eq!(run(&[wire, next].concat()), (expected, None));
    }
    // Without the closing byte the message is over all the same, and the next one is not harmed.
    let wire = b"\xC1\x07\xF3\x48\xCD\xC9\xC9\x07\0";
    assert_eq!(run(&[&wire[..], next].concat()), (vec![text("Hello"), text("Hello")], None));
}

#[test]
fn a_message_without_a_byte_is_empty() {
    let next = b"\xC1\x07\xF2\x48\xCD\xC9\xC9\x07\0";
    let wire = [&b"\xC1\0\x41\0\0\0\x80\0"[..], next].concat();
    assert_eq!(run(&wire), (vec![text(""), text(""), text("Hello")], None));
}

#[test]
fn plain_and_compressed_messages_and_control_frames_mix() {
    let mut encoder = Deflater::new(&agreed(), Role::Client);
    let mut pack = |payload: &[u8]| {
        let mut out = Vec::new();
        assert!(encoder.encode(payload, &mut out));
        out
    };
    let (one, two) = (pack("eins, zwei, drei €".as_bytes()), pack("eins, zwei, drei €".as_bytes()));
    let (left, right) = two.split_at(two.len() / 2);
    let wire = [
        rsv_frame(true, RSV1, opcode::TEXT, &one, KEY),
        frame(true, opcode::TEXT, "eins, zwei €".as_bytes(), KEY),
        rsv_frame(false, RSV1, opcode::TEXT, left, KEY),
        frame(true, opcode::PING, b"between", KEY),
        frame(false, opcode::CONTINUATION, b"", KEY),
        frame(true, opcode::CONTINUATION, right, KEY),
        frame(false, opcode::BINARY, b"plain", KEY),
        frame(true, opcode::CONTINUATION, b"ly", KEY),
        rsv_frame(true, RSV1, opcode::BINARY, &pack(b"plainly"), KEY),
    ]
    .concat();
    let expected = vec![
        text("eins, zwei, drei €"),
        text("eins, zwei €"),
        Seen::Ping(b"between".to_vec()),
        text("eins, zwei, drei €"),
        Seen::Binary(b"plainly".to_vec()),
        Seen::Binary(b"plainly".to_vec()),
    ];
    assert!(two.len() < one.len());
    assert_eq!(run(&wire), (expected, None));
}

#[test]
fn reserved_bits() {
    let part = || rsv_frame(false, RSV1, opcode::TEXT, b"", KEY);
    for (wire, error) in [
        (rsv_frame(true, 0x60, opcode::TEXT, b"", KEY), Error::BadRsv),
        (rsv_frame(true, 0x20, opcode::TEXT, b"", KEY), Error::BadRsv),
        (rsv_frame(true, 0x10, opcode::BINARY, b"", KEY), Error::BadRsv),
        (rsv_frame(true, RSV1, opcode::PING, b"", KEY), Error::BadRsv),
        (rsv_frame(true, RSV1, opcode::PONG, b"", KEY), Error::BadRsv),
        (rsv_frame(true, RSV1, opcode::CLOSE, b"", KEY), Error::BadRsv),
        (rsv_frame(true, RSV1, opcode::CONTINUATION, b"", KEY), Error::BadRsv),
        ([part(), rsv_frame(true, RSV1, opcode::CONTINUATION, b"", KEY)].concat(), Error::BadRsv),
        ([part(), part()].concat(), Error::MessageInterleaved),
        (rsv_frame(true, RSV1, 3, b"", KEY), Error::BadRsv),
    ] {
        assert_eq!(refused(messages(), &wire), error, "{wire:02x?}");
        assert_eq!(error.close_code(), 1002);
    }
    // Without the extension, and in frame style, the bit is nobody's.
    let wire = rsv_frame(true, RSV1, opcode::TEXT, b"\0", KEY);
    assert_eq!(common::run(messages(), &wire).1, Some(Error::BadRsv));
    let mut conn =
        Conn::with_extension(common::frames(), &ext::Agreed::Deflate(agreed()), Role::Server);
    assert_eq!(run_conn(&mut conn, &wire, [], 0).1, Some(Error::BadRsv));
}

#[test]
fn frame_style_is_refused_where_frames_may_be_compressed() {
    let mut conn = server(messages());
    assert!(!conn.set_style(Style::Frames) && conn.set_style(Style::Messages));
    let compressed = b"\xC1\x07\xF2\x48\xCD\xC9\xC9\x07\0";
    assert_eq!(run_conn(&mut conn, compressed, [], 0), (vec![text("Hello")], None));
    assert!(Conn::new(messages()).set_style(Style::Frames));
}

#[test]
fn bad_data() {
    for payload in [
        &b"\xFF\xFF"[..],
        // A block of the reserved type; lengths that do not match; a distance without a window.
        b"\x06",
        b"\0\x05\0\xFA\xFEHello\0",
        b"\xF2\0\x11\0\0",
    ] {
        let wire = rsv_frame(true, RSV1, opcode::BINARY, payload, KEY);
        assert_eq!(refused(messages(), &wire), Error::BadDeflate, "{payload:02x?}");
    }
    assert_eq!(Error::BadDeflate.close_code(), 1007);
    // It is found as soon as it comes.
    let head = header::encode(true, RSV1, opcode::BINARY, 1000, None);
    assert_eq!(refused(messages(), &[head.as_ref(), b"\x06"].concat()), Error::BadDeflate);
}

#[test]
fn bad_text_is_refused_before_its_frame_ends() {
    let data =
        compress_once(6, 15, b"good, then bad: \xC3(, and much more that never comes").unwrap();
    let head = header::encode(true, RSV1, opcode::TEXT, 1 << 16, None);
    assert_eq!(refused(messages(), &[head.as_ref(), &data].concat()), Error::InvalidUtf8);
    let half = compress_once(6, 15, b"half a character: \xE2\x82").unwrap();
    let wire = rsv_frame(true, RSV1, opcode::TEXT, &half, KEY);
    assert_eq!(refused(messages(), &wire), Error::InvalidUtf8);
}

#[test]
fn context_may_not_be_taken_over_where_that_was_agreed() {
    let first = b"\xC1\x07\xF2\x48\xCD\xC9\xC9\x07\0";
    let wire = [&first[..], first, b"\xC1\x05\xF2\0\x11\0\0"].concat();
    let alone = Agreed { client_no_context_takeover: true, ..agreed() };
    let mut conn =
        Conn::with_extension(messages(), &ext::Agreed::Deflate(alone.clone()), Role::Server);
    let outcome = run_conn(&mut conn, &wire, [], 0);
    assert_eq!(outcome, (vec![text("Hello"), text("Hello")], Some(Error::BadDeflate)));
    // It is the other direction's business at the other end.
    let mut conn =
        Conn::with_extension(messages(), &ext::Agreed::Deflate(alone.clone()), Role::Client);
    assert_eq!(run_conn(&mut conn, &wire, [], 0).1, None);
}

#[test]
fn limits_count_what_comes_and_what_comes_out() {
    let limits = Settings { max_frame: 100, max_message: 5000, max_fragments: 3, ..messages() };
    let exact = packed(&[7; 5000]);
    let (seen, error) = run_conn(&mut server(limits), &exact, [], 0);
    assert_eq!((seen, error), (vec![Seen::Binary(vec![7; 5000])], None));
    assert_eq!(refused(limits, &packed(&[7; 5001])), Error::MessageTooLarge);
    // The frame is measured as it comes.
    let head = header::encode(true, RSV1, opcode::BINARY, 101, KEY);
    assert_eq!(refused(limits, head.as_ref()), Error::FrameTooLarge);
    // Payloads that are together longer than the message they stand for are no fault.
    let narrow = Settings { max_message: 5, ..limits };
    let wire = b"\x41\x06\xF2\x48\x05\0\0\0\x80\x07\xFF\xFF\xCA\xC9\xC9\x07\0";
    assert_eq!(run_conn(&mut server(narrow), wire, [], 0), (vec![text("Hello")], None));
    let part = rsv_frame(false, 0, opcode::CONTINUATION, b"", KEY);
    let first = rsv_frame(false, RSV1, opcode::TEXT, b"\0", KEY);
    let wire = [&first[..], &part, &part, &part].concat();
    assert_eq!(refused(limits, &wire), Error::TooManyFragments);
}

#[test]
fn bytes_are_counted() {
    let mut conn = server(messages());
    let data = compress_once(6, 15, &[b'x'; 4000]).unwrap();
    let wire = [
        rsv_frame(true, RSV1, opcode::BINARY, &data, KEY),
        frame(true, opcode::TEXT, b"plain", KEY),
        frame(true, opcode::CLOSE, b"", KEY),
    ];
    run_conn(&mut conn, &wire.concat(), [], 0);
    assert_eq!(conn.compressed_bytes(), (4000, data.len() as u64));
    assert_eq!(Conn::new(messages()).compressed_bytes(), (0, 0));
}

#[test]
fn a_payload_under_inflation_is_not_read_into() {
    let mut conn = server(messages());
    let head = header::encode(true, RSV1, opcode::BINARY, 100, None);
    feed_all(&mut conn, &mut head.as_ref().to_vec(), &mut vec![]).unwrap();
    assert!(conn.body_room().is_none());
    // A plain one is, between compressed ones too.
    let mut conn = server(messages());
    let head = header::encode(true, 0, opcode::BINARY, 100, None);
    feed_all(&mut conn, &mut packed(b"one"), &mut vec![]).unwrap();
    feed_all(&mut conn, &mut head.as_ref().to_vec(), &mut vec![]).unwrap();
    assert!(conn.body_room().is_some());
}

#[test]
fn a_small_message_owns_no_more_than_its_length() {
    let mut wire = packed(b"a short one");
    let mut conn = server(messages());
    let Some(Event::Message { payload: Payload::Owned(buf), .. }) =
        conn.feed(&mut wire.as_mut_slice()).unwrap()
    else {
        panic!("no message")
    };
    assert_eq!((&buf[..], buf.capacity()), (&b"a short one"[..], 11));
}
