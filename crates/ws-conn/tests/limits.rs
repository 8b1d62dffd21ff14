//! What a connection may take: messages in a time, and time.

mod common;

use common::{close, config, masked, message, plain, text, with};
use ws_conn::{Config, Counted, End, News, Phase, Rate, Role, Style};
use ws_proto::{opcode, Error};

const RATE: Rate = Rate { messages: 10, period: 1000, burst: 2 };

fn limited(style: Style) -> Config {
    Config { rate: Some(RATE), ..config(Role::Server, style) }
}

#[test]
fn who_sends_faster_than_the_rate_is_closed_with_1008() {
    // Read ahead, and by whoever waits: in place, and where a message has several pieces.
    for pieces in 1..=2 {
        for ahead in [true, false] {
            let (world, wire, mut conn) = with(limited(Style::Messages));
            let one = match pieces {
                1 => text(b"x"),
                _ => [masked(false, opcode::TEXT, b""), masked(true, 0, b"x")].concat(),
            };
            wire.bring(&[&one[..], &masked(true, opcode::PING, b""), &one, &one].concat());
            if ahead {
                conn.handle_read(&world, &wire);
            }
            for _ in 0..3 {
                assert_eq!(message(&world, &wire, &mut conn), Some((opcode::TEXT, b"x".to_vec())));
            }
            world.now.set(100);
            wire.bring(&one);
            assert!(message(&world, &wire, &mut conn).is_some(), "as fast as the rate");
            wire.bring(&one);
            if ahead {
                conn.handle_read(&world, &wire);
            }
            assert_eq!(message(&world, &wire, &mut conn), None);
            assert!(conn.take_news().has(News::BROKEN));
            assert_eq!(conn.end(), Some(&End::Broken(Error::TooManyMessages)));
            assert_eq!(world.has_counted(Counted::Broken(Error::TooManyMessages)), 1);
            conn.flush(&world, &wire);
            let bye = plain(true, opcode::CLOSE, &close(1008, b"too many messages"));
            assert!(wire.sent().ends_with(&bye));
        }
    }
}

#[test]
fn frames_are_not_counted_by_the_rate() {
    let (world, wire, mut conn) = with(limited(Style::Frames));
    for _ in 0..100 {
        wire.bring(&text(b"x"));
        assert!(matches!(conn.poll_frame(&world, &wire, 100), Some(Ok(_))));
    }
}

#[test]
fn a_lifetime_ends_with_1001_whatever_else_is_due() {
    for (heartbeat, first, next) in [(None, 250, Some(50)), (Some((100, 30)), 100, Some(30))] {
        for style in [Style::Messages, Style::Frames] {
            let lifetime = Some(250);
            let (world, wire, mut conn) =
                with(Config { heartbeat, lifetime, ..config(Role::Server, style) });
            assert_eq!(conn.first_timeout(&world, 0), Some(first));
            world.now.set(200);
            assert_eq!(conn.handle_timeout(&world, false), next);
            wire.bring(&text(b"alive"));
            conn.handle_read(&world, &wire);
            world.now.set(249);
            assert_eq!((conn.handle_timeout(&world, false), conn.phase()), (Some(1), Phase::Open));
            world.now.set(250);
            assert_eq!((conn.handle_timeout(&world, false), conn.phase()), (None, Phase::Closed));
            assert_eq!(conn.end().map(End::code), Some(1001));
            conn.flush(&world, &wire);
            let bye = plain(true, opcode::CLOSE, &close(1001, b"lifetime is over"));
            assert!(wire.sent().ends_with(&bye));
        }
    }
}
