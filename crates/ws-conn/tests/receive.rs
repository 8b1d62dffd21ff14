//! Taking what came: without a copy where it lies whole, bounded where nobody takes it.

mod common;

use common::{bytes, masked, message, server, text};
use ws_conn::{Counted, News, Style};
use ws_proto::{opcode, Error};

#[test]
fn messages_come_in_order_however_they_are_cut() {
    let big = vec![b'y'; 40_000];
    let came = [text(b"a"), masked(false, opcode::BINARY, b"b"), masked(true, 0, b"c"), text(&big)];
    for piece in [3, 1000, usize::MAX] {
        let (world, wire, mut conn) = server(Style::Messages);
        wire.piece.set(piece);
        wire.bring(&came.concat());
        let mut seen = Vec::new();
        while let Some(item) = message(&world, &wire, &mut conn) {
            seen.push(item);
        }
        let all = [(1, b"a".to_vec()), (2, b"bc".to_vec()), (1, big.clone())];
        assert_eq!(seen, all);
        assert_eq!((conn.tally().messages_in, conn.tally().bytes_in), (3, 40_003));
    }
}

#[test]
fn a_full_inbox_stops_the_reading_and_loses_nothing() {
    let (world, wire, mut conn) = server(Style::Messages);
    for n in 0..200u8 {
        wire.bring(&masked(true, opcode::BINARY, &[n]));
    }
    conn.handle_flush(&world, &wire);
    assert!(conn.is_full());
    conn.take_news();
    // What waits for room asks for no turn of its own: it would be the next one's, over and over.
    conn.handle_flush(&world, &wire);
    assert!(!conn.take_news().has(News::AGAIN));
    for n in 0..200u8 {
        assert_eq!(message(&world, &wire, &mut conn), Some((opcode::BINARY, vec![n])));
        conn.handle_flush(&world, &wire);
    }
    assert_eq!(message(&world, &wire, &mut conn), None);
}

#[test]
fn one_large_message_is_kept_whatever_its_size_and_nothing_behind_it() {
    let (world, wire, mut conn) = server(Style::Messages);
    wire.bring(&[text(&vec![b'x'; 500_000]), text(b"behind")].concat());
    conn.handle_flush(&world, &wire);
    assert_eq!(conn.take_item(&world).map(|item| item.data.len()), Some(500_000));
    assert!(!conn.has_items());
    conn.handle_flush(&world, &wire);
    assert_eq!(conn.take_item(&world).map(|item| item.data), Some(b"behind".to_vec()));
}

#[test]
fn frames_are_handed_out_as_they_are() {
    let (world, wire, mut conn) = server(Style::Frames);
    let came = [masked(false, opcode::TEXT, b"\xff"), masked(true, opcode::PING, b"p"), text(b"")];
    wire.bring(&came.concat());
    // Nothing is read or answered while nobody asks.
    conn.handle_flush(&world, &wire);
    assert_eq!((wire.sent(), conn.has_items()), (vec![], false));
    let mut next = || {
        let view = conn.poll_frame(&world, &wire, 100)?.ok()?;
        Some((view.fin, view.opcode, bytes(&view)))
    };
    assert_eq!(next(), Some((false, opcode::TEXT, b"\xff".to_vec())));
    assert_eq!(next(), Some((true, opcode::PING, b"p".to_vec())));
    assert_eq!(next(), Some((true, opcode::TEXT, vec![])));
    assert_eq!(next(), None);
}

#[test]
fn a_frame_that_has_begun_is_read_on_for_its_reader() {
    let (world, wire, mut conn) = server(Style::Frames);
    let frame = text(b"in two halves");
    assert!(conn.read_frame(&world, &wire), "the reader looks for a frame's beginning itself");
    wire.bring(&frame[..5]);
    assert!(conn.poll_frame(&world, &wire, 100).is_none());
    wire.bring(&frame[5..8]);
    assert!(!conn.read_frame(&world, &wire));
    wire.bring(&frame[8..]);
    assert!(conn.read_frame(&world, &wire));
    let view = conn.poll_frame(&world, &wire, 100).unwrap().unwrap();
    assert_eq!(bytes(&view), b"in two halves");
}

#[test]
fn an_end_that_a_reader_of_frames_meets_is_told_once() {
    for (rest, counted) in [(&b""[..], 0), (b"\xf1\x80aaaa", 1)] {
        let (world, wire, mut conn) = server(Style::Frames);
        wire.bring(rest);
        wire.eof.set(true);
        assert!(conn.poll_frame(&world, &wire, 100).unwrap().is_err());
        assert!(conn.is_over() && conn.take_news().has(News::OVER));
        assert!(conn.poll_frame(&world, &wire, 100).unwrap().is_err());
        assert!(!conn.take_news().has(News::OVER));
        assert_eq!(world.has_counted(Counted::Broken(Error::BadRsv)), counted);
    }
}

#[test]
fn styles_change_between_messages_only() {
    let (world, wire, mut conn) = server(Style::Messages);
    wire.bring(&[text(b"kept"), masked(false, opcode::TEXT, b"ha")].concat());
    conn.handle_read(&world, &wire);
    assert!(!conn.begin(Style::Frames));
    wire.bring(&masked(true, 0, b"lf"));
    conn.handle_read(&world, &wire);
    assert!(conn.begin(Style::Frames));
    for word in [b"kept", b"half"] {
        let view = conn.poll_frame(&world, &wire, 100).unwrap().unwrap();
        assert_eq!((view.fin, bytes(&view)), (true, word.to_vec()));
    }
    wire.bring(&masked(false, opcode::TEXT, b"ha"));
    assert!(conn.poll_frame(&world, &wire, 100).unwrap().is_ok());
    assert!(conn.is_half_read() && !conn.begin(Style::Messages));
}

#[test]
fn what_nobody_asked_for_is_kept_in_little_memory() {
    let (world, wire, mut conn) = server(Style::Frames);
    wire.bring(&[text(b"a"), text(b"b")].concat());
    assert!(conn.poll_frame(&world, &wire, 100).unwrap().is_ok());
    assert!(conn.take_news().has(News::AGAIN), "the buffer of all is owed");
    conn.handle_flush(&world, &wire);
    let view = conn.poll_frame(&world, &wire, 100).unwrap().unwrap();
    assert_eq!(bytes(&view), b"b");
    assert!(conn.take_news().has(News::AGAIN));
    conn.handle_flush(&world, &wire);
    assert!(conn.take_news().is_none());
}

#[test]
fn an_idle_connection_is_small() {
    let size = std::mem::size_of::<ws_conn::Connection>();
    assert!(size <= 560, "{size}");
}
