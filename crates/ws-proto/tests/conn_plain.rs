//! The plain frame that an owner may ask for by itself: what is one, and that whatever is not one
//! stays as it is, for `feed` to judge. conn_cuts.rs compares both ways on all kinds of frames.

mod common;

use common::{frame, frames, messages, rsv_frame};
use ws_proto::{Conn, Event, Masking, Plain, Settings, Style};

const KEY: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);

/// What `plain` says; where it says nothing, the input must be as it was.
fn plain(conn: &mut Conn, wire: &[u8]) -> Option<(u8, Vec<u8>)> {
    let mut input = wire.to_vec();
    match conn.plain(&mut input) {
        Some(Plain { opcode, payload }) => Some((opcode, input[payload].to_vec())),
        None => {
            assert_eq!(input, wire, "no plain frame, and yet the input was changed");
            None
        }
    }
}

#[test]
fn short_data_frames_are_plain() {
    for len in [0, 1, 7, 125, 126, 0xFFFF] {
        let payload = vec![b'x'; len];
        for (settings, opcode) in [(frames(), 1), (frames(), 2), (messages(), 1), (messages(), 2)] {
            let wire = [frame(true, opcode, &payload, KEY), b"rest".to_vec()].concat();
            let found = plain(&mut Conn::new(settings), &wire);
            assert_eq!(found, Some((opcode, payload.clone())), "{len} bytes");
        }
    }
}

#[test]
fn anything_else_is_not() {
    let whole = frame(true, 2, b"payload", KEY);
    for wire in [
        frame(false, 2, b"fragment", KEY),
        frame(true, 0, b"continuation", KEY),
        frame(true, 8, b"", KEY),
        frame(true, 9, b"ping", KEY),
        frame(true, 2, b"no mask", None),
        rsv_frame(true, 0x40, 2, b"compressed", KEY),
        frame(true, 2, &vec![0; 0x1_0000], KEY),
        b"\x82\xfe\x00\x01\0\0\0\0x".to_vec(),
    ]
    .into_iter()
    .chain((0..whole.len()).map(|cut| whole[..cut].to_vec()))
    {
        assert_eq!(
            plain(&mut Conn::new(frames()), &wire),
            None,
            "{:x?}",
            &wire[..wire.len().min(9)]
        );
    }
    // Text that is not UTF-8 is an error in message style alone.
    let wire = frame(true, 1, b"\xff", KEY);
    assert_eq!(plain(&mut Conn::new(messages()), &wire), None);
    assert_eq!(plain(&mut Conn::new(frames()), &wire), Some((1, b"\xff".to_vec())));
    let client = Settings { masking: Masking::Forbidden, ..frames() };
    assert_eq!(plain(&mut Conn::new(client), &whole), None);
}

#[test]
fn limits_follow_the_settings() {
    let wire = |len| frame(true, 2, &vec![0; len], KEY);
    let limits = Settings { max_frame: 10, max_message: 5, ..messages() };
    let mut conn = Conn::new(limits);
    assert!(plain(&mut conn, &wire(5)).is_some());
    assert!(plain(&mut conn, &wire(6)).is_none());
    assert!(conn.set_style(Style::Frames));
    assert!(plain(&mut conn, &wire(10)).is_some());
    assert!(plain(&mut conn, &wire(11)).is_none());
    conn.set_max_frame(11);
    assert!(plain(&mut conn, &wire(11)).is_some());
    conn.set_max_frame(u64::MAX);
    assert!(plain(&mut conn, &wire(0xFFFF)).is_some());
    let none = Settings { max_fragments: 0, ..messages() };
    assert!(plain(&mut Conn::new(none), &wire(1)).is_none());
}

#[test]
fn nothing_is_plain_in_the_middle_of_something() {
    let whole = frame(true, 2, b"whole", KEY);
    let mut conn = Conn::new(messages());
    let mut begin = frame(false, 2, b"fragment", KEY);
    assert_eq!(conn.feed(&mut &mut begin[..]), Ok(None));
    assert_eq!(plain(&mut conn, &whole), None);

    let mut conn = Conn::new(frames());
    assert_eq!(conn.feed(&mut &mut whole.clone()[..3]), Ok(None));
    assert_eq!(plain(&mut conn, &whole), None);

    let mut conn = Conn::new(messages());
    let mut close = frame(true, 8, b"", KEY);
    assert!(matches!(conn.feed(&mut &mut close[..]), Ok(Some(Event::Close { .. }))));
    assert_eq!(plain(&mut conn, &whole), None);
}
