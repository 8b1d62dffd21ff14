//! Sending: whole messages, fragments, what many share, and what the kernel does not take.

mod common;

use common::{config, masked, plain, server, text, with};
use ws_conn::{Config, IoError, NoIo, Role, SendError, Shared, Style};
use ws_proto::ext::{deflate, Agreed};
use ws_proto::{opcode, Conn, Event, Masking, Settings};

#[test]
fn messages_leave_in_order_whatever_the_kernel_takes() {
    for room in [0, 1, 3, 5000, 9000] {
        let (world, wire, mut conn) = server(Style::Messages);
        wire.room.set(room);
        let mut expected = Vec::new();
        for size in [3, 9000, 70_000, 10, 20_000] {
            let data = vec![b'x'; size];
            let sent = conn.send_message(&world, &wire, true, &data).unwrap();
            let frame = plain(true, opcode::TEXT, &data);
            assert_eq!(sent, frame.len());
            expected.extend(frame);
        }
        wire.room.set(usize::MAX);
        conn.flush(&world, &wire);
        assert!(wire.sent() == expected && !conn.has_pending(&wire));
        assert_eq!((conn.tally().messages_out, conn.tally().bytes_out), (5, 99_013));
    }
}

#[test]
fn the_quick_way_says_the_same_or_nothing() {
    let (world, wire, mut conn) = server(Style::Messages);
    assert_eq!(conn.send_message_now(&world, &wire, true, false, b"quick"), Some(7));
    assert_eq!(conn.send_message_now(&world, &wire, true, false, b"\xff"), None);
    assert_eq!(conn.send_message_now(&world, &wire, false, false, &[0; 1001]), None);
    conn.flush(&world, &wire);
    assert_eq!(wire.sent(), plain(true, opcode::TEXT, b"quick"));
}

#[test]
fn what_must_not_be_sent_is_refused() {
    let (world, wire, mut conn) = server(Style::Messages);
    let send = conn.send_message(&world, &wire, true, b"\xc3(");
    assert_eq!(send, Err(SendError::InvalidUtf8));
    assert_eq!(conn.write_stream(&world, b"x"), Err(SendError::NoStream));
    conn.lost(IoError::Closed);
    let send = conn.send_message(&world, &wire, true, b"x");
    assert_eq!(send, Err(SendError::Io(IoError::Closed)));
    assert_eq!(conn.buffered(), 0);
}

#[test]
fn nothing_interleaves_with_a_stream_but_control_frames() {
    let (world, wire, mut conn) = server(Style::Messages);
    conn.open_stream(true).unwrap();
    assert_eq!(conn.open_stream(true), Err(SendError::StreamOpen));
    conn.write_stream(&world, b"\xc3").unwrap();
    let many = Shared::new(true, b"to many");
    assert_eq!(conn.share(&world, &wire, &many), Some(true));
    let send = conn.send_message(&world, &wire, true, b"x");
    assert_eq!(send, Err(SendError::StreamOpen));
    conn.send_control(&world, opcode::PING, b"p").unwrap();
    assert_eq!(conn.finish_stream(&world), Err(SendError::InvalidUtf8));
    conn.write_stream(&world, b"\xa4").unwrap();
    conn.finish_stream(&world).unwrap();
    conn.flush(&world, &wire);
    let said = [
        plain(false, opcode::TEXT, b"\xc3"),
        plain(true, opcode::PING, b"p"),
        plain(false, 0, b"\xa4"),
        plain(true, 0, b""),
        plain(true, opcode::TEXT, b"to many"),
    ];
    assert_eq!(wire.sent(), said.concat());
}

#[test]
fn a_shared_message_is_refused_above_the_mark_unless_it_waits_alone() {
    let (world, wire, mut conn) = server(Style::Messages);
    wire.room.set(0);
    let (large, small) = (vec![0; 5000], [0; 10]);
    let (large, small) = (Shared::new(false, &large), Shared::new(false, &small));
    assert_eq!(conn.share(&world, &wire, &large), Some(true));
    assert_eq!(conn.share(&world, &wire, &small), Some(false));
    assert_eq!(conn.buffered(), 5004);
    // What this turn has queued makes no slow reader.
    wire.room.set(usize::MAX);
    assert_eq!(conn.share(&world, &wire, &small), Some(true));
}

#[test]
fn compressed_and_shared_messages_are_understood() {
    let agreed = deflate::Agreed {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
        level: 6,
        threshold: 10,
    };
    let agreed = Agreed::Deflate(agreed);
    let packs = Config { extension: Some(agreed.clone()), ..config(Role::Server, Style::Messages) };
    let (world, wire, mut conn) = with(packs);
    let data = b"the same again and again, the same again and again".repeat(5);
    for _ in 0..3 {
        conn.send_message(&world, &wire, true, &data).unwrap();
        assert_eq!(conn.share(&world, &wire, &Shared::new(true, &data)), Some(true));
    }
    conn.flush(&world, &wire);
    let settings = Settings {
        style: ws_proto::Style::Messages,
        masking: Masking::Forbidden,
        max_frame: 1 << 20,
        max_message: 1 << 20,
        max_fragments: 1,
    };
    let mut peer = Conn::with_extension(settings, &agreed, Role::Client);
    let (mut sent, mut seen) = (wire.sent(), 0);
    assert!(sent.len() < 4 * data.len());
    let mut input = &mut sent[..];
    while let Some(Event::Message { payload, .. }) = peer.feed(&mut input).unwrap() {
        assert_eq!(payload.as_ref(), data);
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn a_client_masks() {
    let (world, _, mut conn) = with(config(Role::Client, Style::Messages));
    conn.send_message(&world, &NoIo, true, b"masked").unwrap();
    let out = conn.take_output(&world).unwrap();
    assert_eq!(out.len(), text(b"masked").len());
    assert_ne!(out[6..], *b"masked");
    assert_eq!(conn.take_output(&world), None);
}

#[test]
fn answers_to_several_leave_together() {
    let (world, wire, mut conn) =
        with(Config { mark: 1 << 20, ..config(Role::Server, Style::Messages) });
    let data = vec![0; 10_000];
    for _ in 0..3 {
        wire.bring(&masked(true, opcode::BINARY, &data));
    }
    let view = conn.poll_message(&world, &wire).unwrap();
    assert_eq!(view.len, data.len());
    conn.send_message(&world, &wire, false, &data).unwrap();
    assert!(wire.sent().is_empty(), "others wait to be answered");
    conn.flush(&world, &wire);
    assert_eq!(wire.sent(), plain(true, opcode::BINARY, &data));
}
