//! How connections end: who says what, in which order, and what is counted.

mod common;

use common::{bytes, close, config, masked, message, plain, server, text, with};
use ws_conn::{Config, Counted, End, IoError, News, NoIo, Phase, Role, SendError, Style};
use ws_proto::{opcode, Error};

fn closed(code: u16, reason: &[u8]) -> Option<End> {
    Some(End::Closed { code, reason: reason.to_vec() })
}

#[test]
fn a_close_frame_is_answered_with_its_own_code() {
    for (payload, code) in [(close(1001, b"bye"), 1001), (vec![], 1005)] {
        let (world, wire, mut conn) = server(Style::Messages);
        wire.bring(&masked(true, opcode::CLOSE, &payload));
        conn.handle_read(&world, &wire);
        assert!(conn.take_news().has(News::OVER) && conn.is_over());
        assert_eq!(conn.end().map(End::code), Some(code));
        conn.flush(&world, &wire);
        assert_eq!(wire.sent(), plain(true, opcode::CLOSE, &payload[..payload.len().min(2)]));
        assert_eq!(conn.send_message(&world, &wire, true, b"late"), Err(SendError::Closed));
        assert_eq!(message(&world, &wire, &mut conn), None);
    }
}

#[test]
fn an_end_waits_until_what_came_before_it_is_answered() {
    let (world, wire, mut conn) = server(Style::Messages);
    wire.bring(&[text(b"a"), text(b"b"), masked(true, opcode::CLOSE, &close(1000, b""))].concat());
    conn.handle_read(&world, &wire);
    assert_eq!((conn.phase(), conn.is_ending(), conn.is_over()), (Phase::Open, true, false));
    for word in [b"a", b"b"] {
        assert_eq!(message(&world, &wire, &mut conn), Some((opcode::TEXT, word.to_vec())));
        conn.send_message(&world, &wire, true, word).unwrap();
    }
    assert_eq!(message(&world, &wire, &mut conn), None);
    assert_eq!(conn.end().cloned(), closed(1000, b""));
    conn.flush(&world, &wire);
    let answer = plain(true, opcode::CLOSE, &close(1000, b""));
    let said = [plain(true, opcode::TEXT, b"a"), plain(true, opcode::TEXT, b"b"), answer];
    assert_eq!(wire.sent(), said.concat());
}

#[test]
fn closing_while_the_peers_close_frame_is_put_off_ends_it() {
    let (world, wire, mut conn) = server(Style::Messages);
    wire.bring(&[text(b"a"), masked(true, opcode::CLOSE, &close(1001, b""))].concat());
    conn.handle_read(&world, &wire);
    assert!(conn.close(&world, Some(1000), b"mine", 1000));
    assert_eq!(conn.end().cloned(), closed(1001, b""));
    conn.flush(&world, &wire);
    assert_eq!(wire.sent(), plain(true, opcode::CLOSE, &close(1000, b"mine")));
}

#[test]
fn nobody_holds_an_end_up_for_more_than_a_turn() {
    let (world, wire, mut conn) = server(Style::Messages);
    wire.bring(&[text(b"a"), masked(true, opcode::CLOSE, b"")].concat());
    conn.handle_read(&world, &wire);
    assert!(conn.take_news().has(News::AGAIN));
    conn.handle_flush(&world, &wire);
    assert!(!conn.is_over() && conn.take_news().has(News::AGAIN));
    conn.handle_flush(&world, &wire);
    assert!(conn.is_over());
    assert_eq!(wire.sent(), plain(true, opcode::CLOSE, b""));
    assert_eq!(message(&world, &wire, &mut conn), Some((opcode::TEXT, b"a".to_vec())));
}

#[test]
fn a_broken_rule_is_told_and_counted_once() {
    let (world, wire, mut conn) = server(Style::Messages);
    wire.bring(&[plain(true, opcode::TEXT, b"unmasked"), text(b"more")].concat());
    conn.handle_read(&world, &wire);
    conn.handle_read(&world, &wire);
    assert!(conn.take_news().has(News::BROKEN));
    assert_eq!(conn.fault(), Some(Error::Unmasked));
    assert_eq!(world.has_counted(Counted::Broken(Error::Unmasked)), 1);
    conn.flush(&world, &wire);
    assert_eq!(wire.sent(), plain(true, opcode::CLOSE, &close(1002, b"frame unmasked")));
    assert_eq!(conn.end(), Some(&End::Broken(Error::Unmasked)));
}

#[test]
fn closing_first_awaits_the_answer_until_its_deadline() {
    let (world, wire, mut conn) = server(Style::Messages);
    assert!(conn.close(&world, Some(1000), b"done", 3000));
    assert!(!conn.close(&world, Some(1001), b"again", 3000));
    assert_eq!(conn.phase(), Phase::Closing);
    assert_eq!(conn.send_message(&world, &wire, true, b"x"), Err(SendError::Closed));
    conn.flush(&world, &wire);
    assert_eq!(wire.sent(), plain(true, opcode::CLOSE, &close(1000, b"done")));
    // What still comes is dropped, and pings are not answered.
    wire.bring(&[text(b"late"), masked(true, opcode::PING, b"p")].concat());
    conn.handle_flush(&world, &wire);
    assert_eq!((wire.sent().len(), conn.has_items()), (0, false));
    world.now.set(2999);
    assert_eq!(conn.handle_timeout(&world, false), Some(1));
    world.now.set(3000);
    assert_eq!(conn.handle_timeout(&world, false), None);
    assert_eq!(conn.end(), Some(&End::Unanswered));
    assert!(conn.take_news().has(News::CUT));
}

#[test]
fn who_holds_close_frames_awaits_the_answer_as_long_as_something_leaves() {
    let (world, wire, mut conn) = server(Style::Messages);
    conn.hold_close();
    wire.room.set(0);
    conn.send_message(&world, &wire, true, b"slow").unwrap();
    conn.close(&world, Some(1000), b"", 3000);
    for now in [2000, 4000] {
        wire.room.set(3);
        world.now.set(now);
        conn.flush(&world, &wire);
        world.now.set(now + 2999);
        assert_eq!(conn.handle_timeout(&world, false), Some(1));
    }
    world.now.set(7000);
    assert_eq!(conn.handle_timeout(&world, false), None);
    assert_eq!(conn.end(), Some(&End::Unanswered));
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let (world, wire, mut conn) = server(Style::Messages);
    conn.close(&world, Some(1000), "é".repeat(70).as_bytes(), 3000);
    conn.flush(&world, &wire);
    assert_eq!(wire.sent(), plain(true, opcode::CLOSE, &close(1000, "é".repeat(61).as_bytes())));
}

#[test]
fn an_unanswered_close_is_no_failure_and_reads_as_closed() {
    let (world, _, mut conn) = server(Style::Messages);
    conn.close(&world, Some(1000), b"", 0);
    assert_eq!(conn.handle_timeout(&world, false), None);
    let end = conn.end().expect("an end");
    assert_eq!((end.text().as_str(), end.code(), end.is_failure()), ("closed", 1006, false));
}

#[test]
fn a_transport_that_ends_ends_the_lingering() {
    let (world, wire, mut conn) = server(Style::Messages);
    wire.bring(&masked(true, opcode::CLOSE, &close(1000, b"")));
    conn.handle_read(&world, &wire);
    assert!(conn.linger_ms(&world).is_some());
    conn.lost(IoError::Closed);
    assert_eq!(conn.linger_ms(&world), None);
    assert_eq!(conn.end().cloned(), closed(1000, b""));
}

#[test]
fn the_answer_ends_it_and_the_peer_may_finish() {
    let (world, wire, mut conn) = server(Style::Messages);
    conn.close(&world, None, b"", 3000);
    wire.bring(&masked(true, opcode::CLOSE, &close(1000, b"ok")));
    conn.handle_read(&world, &wire);
    assert_eq!(conn.end().cloned(), closed(1000, b"ok"));
    conn.flush(&world, &wire);
    assert_eq!(wire.sent(), plain(true, opcode::CLOSE, b""));
    let linger = conn.linger_ms(&world).expect("a while to linger");
    world.now.set(linger);
    assert_eq!(conn.linger_ms(&world), None);
}

#[test]
fn what_comes_late_is_handed_out_where_that_is_asked_for() {
    let late = Config { late: true, ..config(Role::Server, Style::Messages) };
    let (world, wire, mut conn) = with(late);
    conn.close(&world, Some(1000), b"", 3000);
    wire.bring(&[text(b"late"), masked(true, opcode::CLOSE, b"")].concat());
    conn.handle_read(&world, &wire);
    assert_eq!(conn.take_item(&world).map(|item| item.data), Some(b"late".to_vec()));
    assert_eq!(conn.take_item(&world), None);
    assert!(conn.is_over());
}

#[test]
fn the_transport_may_end_first() {
    let (world, wire, mut conn) = server(Style::Messages);
    wire.bring(&text(b"half")[..4]);
    wire.eof.set(true);
    conn.handle_read(&world, &wire);
    assert_eq!(conn.end(), Some(&End::Lost(IoError::Closed)));
    assert_eq!(conn.outcome().map(|end| end.code()), Some(1006));
    assert_eq!(conn.linger_ms(&world), None);
}

#[test]
fn a_slow_consumer_has_output_waiting_and_no_room_for_more() {
    let (world, _, mut conn) = with(Config { mark: 100, ..config(Role::Server, Style::Messages) });
    assert!(!conn.is_slow_for(1000, 0), "nothing waits: any size goes");
    assert!(
        !conn.is_slow_for(60, 40) && conn.is_slow_for(61, 40),
        "what its carrier holds waits too"
    );
    conn.send_message(&world, &NoIo, false, &[0; 18]).unwrap();
    assert!(!conn.is_slow_for(60, 20) && conn.is_slow_for(61, 20));
}

#[test]
fn a_slow_consumer_is_sent_the_frame_that_has_begun_and_1013() {
    let (world, wire, mut conn) = server(Style::Messages);
    conn.send_message(&world, &wire, true, b"begun").unwrap();
    wire.room.set(3);
    conn.flush(&world, &wire);
    conn.send_message(&world, &wire, false, &[0; 40_000]).unwrap();
    conn.close_slow(&world);
    wire.room.set(usize::MAX);
    conn.flush(&world, &wire);
    let bye = plain(true, opcode::CLOSE, &close(1013, b"slow consumer"));
    assert_eq!(wire.sent(), [plain(true, opcode::TEXT, b"begun"), bye].concat());
    assert_eq!(conn.end(), Some(&End::SlowConsumer));
}

#[test]
fn ending_from_elsewhere_sends_what_was_queued_and_reads_no_more() {
    let (world, wire, mut conn) = server(Style::Messages);
    conn.send_message(&world, &wire, true, b"first").unwrap();
    conn.end_with(&world, 1001, b"away");
    wire.bring(&text(b"unheard"));
    conn.handle_flush(&world, &wire);
    let bye = plain(true, opcode::CLOSE, &close(1001, b"away"));
    assert_eq!(wire.sent(), [plain(true, opcode::TEXT, b"first"), bye].concat());
    assert_eq!(message(&world, &wire, &mut conn), None);
    assert_eq!(conn.outcome().map(|end| end.code()), Some(1001));
}

#[test]
fn ending_from_elsewhere_answers_a_peer_that_came_first() {
    let bye = masked(true, opcode::CLOSE, &close(4001, b"bye"));
    let fault = masked(true, opcode::CLOSE, &close(1005, b""));
    for (bytes, said) in [(bye, 4001), (fault, 1002)] {
        let (world, wire, mut conn) = server(Style::Messages);
        wire.bring(&[text(b"not taken"), bytes].concat());
        conn.handle_read(&world, &wire);
        conn.end_with(&world, 1000, b"");
        conn.flush(&world, &wire);
        assert_eq!(wire.sent()[2..4], close(said, b""));
        assert_eq!(conn.end().map(End::code), Some(said));
    }
}

#[test]
fn frames_are_over_with_the_second_close_frame() {
    for ours_first in [true, false] {
        let (world, wire, mut conn) = server(Style::Frames);
        assert_eq!(conn.outcome(), None);
        let bye = close(1000, b"bye");
        wire.bring(&masked(true, opcode::CLOSE, &bye));
        for ours in [ours_first, !ours_first] {
            assert!(!conn.is_over());
            if ours {
                conn.send_frame(&world, &wire, true, opcode::CLOSE, &close(1001, b""), false)
                    .unwrap();
            } else {
                let view = conn.poll_frame(&world, &wire, 1000).unwrap().unwrap();
                assert_eq!((view.code, bytes(&view)), (Some(1000), b"bye".to_vec()));
            }
        }
        assert!(conn.is_over() && conn.take_news().has(News::OVER));
        // The peer's code is the one that counts, and the handler may say what it likes.
        assert_eq!(conn.outcome().map(|end| end.code()), Some(1000));
        assert_eq!(conn.end(), None);
        assert!(conn.send_frame(&world, &wire, true, opcode::TEXT, b"x", false).is_ok());
    }
}

#[test]
fn frames_count_a_broken_rule_and_a_lonely_close() {
    let (world, wire, mut conn) = server(Style::Frames);
    wire.bring(b"\xf1\x80aaaa");
    assert!(conn.poll_frame(&world, &wire, 1000).unwrap().is_err());
    assert!(conn.poll_frame(&world, &wire, 1000).unwrap().is_err());
    assert_eq!(conn.outcome(), Some(End::Broken(Error::BadRsv)));
    assert_eq!(world.has_counted(Counted::Broken(Error::BadRsv)), 1);

    let (world, wire, mut conn) = server(Style::Frames);
    conn.send_frame(&world, &wire, true, opcode::CLOSE, &close(1001, b""), false).unwrap();
    assert_eq!(conn.outcome().map(|end| end.code()), Some(1001));
}

#[test]
fn fragments_keep_the_protocol_in_their_owners_words() {
    let fragments = Config {
        answer: Some(1000),
        words: Some(|err, head, len| format!("{err}, opcode {}, {len}", head.opcode)),
        ..config(Role::Server, Style::Fragments)
    };
    let (world, wire, mut conn) = with(fragments.clone());
    let came = [
        masked(false, opcode::TEXT, b"one"),
        masked(true, opcode::PONG, b""),
        masked(true, opcode::CONTINUATION, b"two"),
        masked(true, opcode::CLOSE, &close(4000, b"")),
    ];
    conn.feed(&world, &came.concat());
    for (fin, op, word) in [(false, opcode::TEXT, b"one"), (true, opcode::CONTINUATION, b"two")] {
        let item = conn.take_fed(&world).unwrap();
        assert_eq!((item.fin, item.opcode, &item.data[..]), (fin, op, &word[..]));
    }
    assert_eq!((conn.take_fed(&world), conn.pongs()), (None, 1));
    assert_eq!(conn.end().cloned(), closed(4000, b""));
    assert_eq!(conn.take_output(&world), Some(plain(true, opcode::CLOSE, &close(1000, b""))));

    let (world, _, mut conn) = with(fragments);
    conn.feed(&world, &masked(true, opcode::CONTINUATION, b"lone"));
    assert_eq!(conn.take_fed(&world), None);
    let words = b"continuation without a message, opcode 0, 4";
    assert_eq!(conn.take_output(&world), Some(plain(true, opcode::CLOSE, &close(1002, words))));
    assert!(!conn.has_pending(&NoIo) && wire.sent().is_empty());
}
