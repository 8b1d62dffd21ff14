//! One rule for pongs: while much waits for the peer, only its latest ping is answered, later.

mod common;

use common::{close, config, masked, plain, server, with};
use ws_conn::{Config, Counted, End, NoIo, Role, Style};
use ws_proto::opcode;

#[test]
fn pings_are_answered_at_once_below_the_mark() {
    let (world, wire, mut conn) = server(Style::Messages);
    wire.bring(&[masked(true, opcode::PING, b"1"), masked(true, opcode::PING, b"2")].concat());
    conn.handle_flush(&world, &wire);
    let pongs = [plain(true, opcode::PONG, b"1"), plain(true, opcode::PONG, b"2")];
    assert_eq!(wire.sent(), pongs.concat());
}

#[test]
fn above_the_mark_the_latest_ping_waits_and_older_ones_are_dropped() {
    for style in [Style::Messages, Style::Fragments] {
        let (world, wire, mut conn) = server(style);
        wire.room.set(0);
        let first = [0; 2000];
        conn.send_frame(&world, &wire, true, opcode::BINARY, &first, false).unwrap();
        conn.flush(&world, &wire);
        let waiting = conn.buffered();
        for n in 0..10_000u32 {
            wire.bring(&masked(true, opcode::PING, &n.to_be_bytes()));
            conn.handle_read(&world, &wire);
        }
        assert_eq!(conn.buffered(), waiting);
        wire.room.set(usize::MAX);
        conn.flush(&world, &wire);
        let pong = plain(true, opcode::PONG, &9999u32.to_be_bytes());
        assert_eq!(wire.sent(), [plain(true, opcode::BINARY, &first), pong].concat());
    }
}

#[test]
fn it_holds_for_a_client_whose_bytes_somebody_else_sends() {
    let (world, _, mut conn) = with(config(Role::Client, Style::Messages));
    conn.send_message(&world, &NoIo, false, &[0; 2000]).unwrap();
    let ping = |n: u32| plain(true, opcode::PING, &n.to_be_bytes());
    for n in 0..1000 {
        conn.feed(&world, &ping(n));
    }
    assert!(conn.buffered() < 2100, "{}", conn.buffered());
    assert!(conn.take_output(&world).is_some());
    assert_eq!(conn.take_output(&world).map(|pong| pong.len()), Some(10));
    assert_eq!(conn.take_output(&world), None);
}

#[test]
fn nothing_follows_a_close_frame() {
    let (world, wire, mut conn) = server(Style::Messages);
    wire.room.set(0);
    conn.send_message(&world, &wire, false, &[0; 2000]).unwrap();
    wire.bring(&masked(true, opcode::PING, b"waits"));
    conn.handle_read(&world, &wire);
    conn.close(&world, Some(1000), b"", 1000);
    wire.room.set(usize::MAX);
    conn.flush(&world, &wire);
    conn.flush(&world, &wire);
    assert!(wire.sent().ends_with(&plain(true, opcode::CLOSE, &close(1000, b""))));
}

#[test]
fn a_silent_peer_is_pinged_and_given_up() {
    let beats = Config { heartbeat: Some((100, 30)), ..config(Role::Server, Style::Messages) };
    let (world, wire, mut conn) = with(beats);
    assert_eq!(conn.first_timeout(&world, 0), Some(100));
    world.now.set(100);
    assert_eq!(conn.handle_timeout(&world, false), Some(30));
    conn.flush(&world, &wire);
    assert_eq!(wire.sent(), plain(true, opcode::PING, b""));
    assert_eq!(world.has_counted(Counted::Ping), 1);
    // A pong is a sign of life, as any byte is.
    world.now.set(120);
    wire.bring(&masked(true, opcode::PONG, b""));
    conn.handle_read(&world, &wire);
    world.now.set(130);
    assert_eq!(conn.handle_timeout(&world, false), Some(90));
    world.now.set(220);
    assert_eq!(conn.handle_timeout(&world, false), Some(30));
    world.now.set(250);
    assert_eq!(conn.handle_timeout(&world, false), None);
    assert_eq!(conn.end(), Some(&End::PingTimeout));
    assert_eq!(world.has_counted(Counted::PingTimeout), 1);
}

#[test]
fn silence_says_nothing_while_reading_has_stopped() {
    let beats = Config { heartbeat: Some((100, 30)), ..config(Role::Server, Style::Messages) };
    let (world, wire, mut conn) = with(beats);
    for _ in 0..64 {
        wire.bring(&masked(true, opcode::TEXT, b"x"));
    }
    conn.handle_read(&world, &wire);
    assert!(conn.is_full());
    world.now.set(10_000);
    assert_eq!(conn.handle_timeout(&world, false), Some(100));
    assert_eq!((conn.buffered(), conn.end()), (0, None));
}

#[test]
fn silence_says_nothing_where_the_owner_lets_nothing_be_read() {
    let beats = Config { heartbeat: Some((100, 30)), ..config(Role::Server, Style::Messages) };
    let (world, wire, mut conn) = with(beats);
    world.now.set(100);
    assert_eq!(conn.handle_timeout(&world, false), Some(30));
    wire.bring(&masked(true, opcode::PONG, b""));
    world.now.set(10_000);
    assert_eq!((conn.handle_timeout(&world, true), conn.end()), (Some(30), None));
    conn.handle_read(&world, &wire);
    assert_eq!((conn.handle_timeout(&world, false), conn.end()), (Some(100), None));
}
