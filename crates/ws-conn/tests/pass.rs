//! Messages that go from one connection on to another, as a proxy has it: each once, in order, with no
//! more waiting than there is room for.

mod common;

use common::{close, config, masked, plain, server, text, with, Wire, World};
use ws_conn::{Connection, Passing, Role, Style};
use ws_proto::opcode;

/// Passes on what is there while the other side has room.
fn pass(world: &World, from: (&mut Connection, &Wire), to: (&mut Connection, &Wire)) {
    from.0.pass(world, from.1, |message| {
        to.0.pass_on(world, to.1, message).expect("an open connection");
        to.0.has_room()
    });
}

#[test]
fn messages_go_on_as_they_came_however_they_were_cut() {
    let big = vec![b'y'; 100_000];
    let came = [
        text(b"a"),
        masked(false, opcode::BINARY, b"b"),
        masked(true, opcode::PING, b"p"),
        masked(true, 0, b"c"),
        text(&big),
    ];
    for piece in [3, 1000, usize::MAX] {
        let (world, client_wire, mut client) = server(Style::Messages);
        let (_, wire, mut upstream) = with(config(Role::Client, Style::Messages));
        client_wire.piece.set(piece);
        client_wire.bring(&came.concat());
        while !client_wire.input.borrow().is_empty() || client.has_items() {
            pass(&world, (&mut client, &client_wire), (&mut upstream, &wire));
            upstream.flush(&world, &wire);
        }
        let (_, peer_wire, mut peer) = server(Style::Messages);
        peer_wire.bring(&wire.sent());
        let mut seen = Vec::new();
        peer.pass(&world, &peer_wire, |Passing { text, data, .. }| {
            seen.push((text, data.to_vec()));
            true
        });
        let all = [(true, b"a".to_vec()), (false, b"bc".to_vec()), (true, big.clone())];
        assert_eq!(seen, all);
        client.flush(&world, &client_wire);
        assert_eq!(client_wire.sent(), plain(true, opcode::PONG, b"p"));
        assert_eq!(client.tally().messages_in, 3);
        assert_eq!(upstream.tally().messages_out, 3);
    }
}

#[test]
fn a_side_that_takes_nothing_stops_the_other() {
    let (world, client_wire, mut client) = server(Style::Messages);
    let (_, wire, mut upstream) = with(config(Role::Client, Style::Messages));
    wire.room.set(0);
    for _ in 0..1000 {
        client_wire.bring(&text(&[b'x'; 100]));
    }
    for _ in 0..5 {
        if upstream.has_room() {
            pass(&world, (&mut client, &client_wire), (&mut upstream, &wire));
        }
        upstream.flush(&world, &wire);
        client.handle_flush(&world, &client_wire);
    }
    assert!(upstream.buffered() <= upstream.mark() + 110, "{}", upstream.buffered());
    assert!(client.is_full());
    wire.room.set(usize::MAX);
    for _ in 0..1000 {
        upstream.flush(&world, &wire);
        pass(&world, (&mut client, &client_wire), (&mut upstream, &wire));
    }
    assert_eq!(upstream.tally().messages_out, 1000);
}

#[test]
fn an_end_comes_after_what_was_sent_before_it() {
    let (world, client_wire, mut client) = server(Style::Messages);
    let (_, wire, mut upstream) = with(config(Role::Client, Style::Messages));
    client_wire.bring(&[text(b"last"), masked(true, opcode::CLOSE, &close(4000, b"bye"))].concat());
    client.handle_flush(&world, &client_wire);
    assert!(!client.is_over());
    pass(&world, (&mut client, &client_wire), (&mut upstream, &wire));
    assert_eq!(upstream.tally().messages_out, 1);
    assert!(client.is_over());
    assert_eq!(client.end().map(|end| end.code()), Some(4000));
}

#[test]
fn a_broken_rule_ends_the_side_that_broke_it() {
    let (world, client_wire, mut client) = server(Style::Messages);
    client_wire.bring(&[text(b"fine"), text(b"\xff")].concat());
    let mut seen = 0;
    client.pass(&world, &client_wire, |_| {
        seen += 1;
        true
    });
    assert_eq!((seen, client.end().map(|end| end.code())), (1, Some(1007)));
}

#[test]
fn a_close_frame_that_is_held_waits_for_the_answer_from_elsewhere() {
    let (world, wire, mut conn) = server(Style::Messages);
    conn.hold_close();
    wire.bring(&[text(b"last"), masked(true, opcode::CLOSE, &close(4000, b"bye"))].concat());
    conn.handle_flush(&world, &wire);
    assert!(conn.held_close().is_none(), "a message waits before it");
    conn.pass(&world, &wire, |_| true);
    for _ in 0..3 {
        conn.handle_flush(&world, &wire);
        assert_eq!(conn.held_close().map(|end| end.code()), Some(4000));
        assert!(!conn.is_over());
    }
    assert!(conn.send_message(&world, &wire, true, b"still").is_ok());
    assert!(conn.close(&world, Some(4001), b"", 0));
    conn.handle_flush(&world, &wire);
    assert!(conn.is_over());
    assert_eq!(conn.end().map(|end| end.code()), Some(4000));
    let sent = [plain(true, opcode::TEXT, b"still"), plain(true, opcode::CLOSE, &close(4001, b""))];
    assert_eq!(wire.sent(), sent.concat());
}

#[test]
fn what_is_passed_on_waits_for_the_end_of_a_stream() {
    let (world, _, mut conn) = server(Style::Messages);
    assert!(conn.may_pass());
    conn.open_stream(true).unwrap();
    assert!(conn.has_room() && !conn.may_pass());
    conn.finish_stream(&world).unwrap();
    assert!(conn.may_pass());
}

#[test]
fn a_broken_rule_is_told_once_what_is_on_its_way_has_come() {
    let (world, wire, mut conn) = server(Style::Messages);
    conn.hold_close();
    wire.bring(&[text(b"asks"), text(b"\xff"), text(b"unheard")].concat());
    let mut seen = 0;
    conn.pass(&world, &wire, |_| {
        seen += 1;
        true
    });
    conn.handle_flush(&world, &wire);
    assert_eq!((seen, conn.held_close().map(|end| end.code())), (1, Some(1007)));
    assert!(conn.send_message(&world, &wire, true, b"answer").is_ok());
    assert!(conn.close(&world, Some(1001), b"gone", 0));
    conn.handle_flush(&world, &wire);
    assert_eq!(conn.end().map(|end| end.code()), Some(1007));
    let fault = plain(true, opcode::CLOSE, &close(1007, b"invalid utf-8"));
    assert_eq!(wire.sent(), [plain(true, opcode::TEXT, b"answer"), fault].concat());
}
