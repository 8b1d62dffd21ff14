//! The machine against a server of a few lines, with a stream: its words one by one, and what it makes of
//! streams that lose something.

use super::*;
use crate::broker::contact::PEER;
use crate::broker::seam::{Keep, Placed, State, Stored, Unkept};
use crate::broker::settings::Stream;
use crate::envelope::{Envelope, Kind, Origin, Type};
use crate::history::Limits;
use crate::id::NodeId;

const MISSING: &str = r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#;
pub(super) const INFO: &str = r#"INFO {"version":"2.15.1","headers":true,"max_payload":5000}"#;

fn nats() -> Nats {
    let stream = Stream { name: "WS".to_string(), replicas: 1, count: 5, ttl: 1000 };
    with(Settings { stream: Some(stream), ..Settings::default() })
}

fn with(settings: Settings) -> Nats {
    let keeps = settings.stream.is_some();
    let driver = Driver { node: NodeId(7), max_message: 10_000, keeps, seed: 1 };
    Nats::new(&Server::parse("a,b", settings.tls_first).unwrap(), settings, driver)
}

pub(super) fn message(node: u32, topic: &[u8], payload: &[u8]) -> Vec<u8> {
    let origin = Origin { node: NodeId(node), row: 0, generation: 1 };
    let (kind, typ) = (Kind::Publish { topic }, Type::Text);
    let (sequence, stored, except, far) = (1, None, None, false);
    let message = Envelope { kind, typ, origin, sequence, stored, except, far, payload };
    let mut out = Vec::new();
    message.encode(&mut out).unwrap();
    out
}

/// What is sent, as lines, and the other actions.
fn told(broker: &mut Nats) -> (Vec<String>, Vec<Action>) {
    let (mut lines, mut rest) = (Vec::new(), Vec::new());
    while let Some(action) = broker.poll() {
        match action {
            Action::Send { bytes, .. } => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                lines.extend(text.split("\r\n").filter(|line| !line.is_empty()).map(String::from));
            }
            other => rest.push(other),
        }
    }
    (lines, rest)
}

fn comes(broker: &mut Nats, text: &str) -> (Vec<String>, Vec<Action>) {
    broker.received(PEER, text.as_bytes(), 10);
    told(broker)
}

/// Where the answer to the last question about this goes.
fn reply(lines: &[String], subject: &str) -> String {
    let line = lines.iter().rev().find(|line| line.split(' ').nth(1) == Some(subject));
    let line = line.unwrap_or_else(|| panic!("nothing to {subject} in {lines:#?}"));
    line.split(' ').nth(2).expect("a reply").to_string()
}

fn msg(subject: &str, data: &str) -> String {
    format!("MSG {subject} 1 {}\r\n{data}\r\n", data.len())
}

fn hmsg(subject: &str, headers: &str, data: &[u8]) -> Vec<u8> {
    let head = format!("NATS/1.0{headers}\r\n\r\n");
    let line = format!("HMSG {subject} 1 {} {}\r\n", head.len(), head.len() + data.len());
    [line.as_bytes(), head.as_bytes(), data, b"\r\n"].concat()
}

/// A message that the stream sends on.
fn sent_on(sequence: u64, before: u64, payload: &[u8]) -> Vec<u8> {
    let headers = format!(
        "\r\nNats-Stream: WS\r\nNats-Sequence: {sequence}\r\nNats-Last-Sequence: {before}\r\n\
         Nats-Time-Stamp: 1970-01-01T00:00:01Z"
    );
    hmsg("ws.l.a", &headers, &message(8, b"a", payload))
}

pub(super) fn stream(created: &str, last: u64) -> String {
    let config = r#"{"name":"WS","subjects":["ws.p.>"],"allow_direct":true,
        "republish":{"src":"ws.p.>","dest":"ws.l.>"}}"#;
    format!(r#"{{"config":{config},"created":"{created}","state":{{"last_seq":{last}}}}}"#)
}

/// Connected, and let in.
fn ready(broker: &mut Nats) -> Vec<String> {
    broker.start(0);
    assert!(matches!(broker.poll(), Some(Action::Connect { .. })));
    broker.connected(PEER, 1);
    let (lines, _) = comes(broker, &format!("{INFO}\r\n"));
    assert!(lines[0].starts_with("CONNECT {"), "{lines:?}");
    comes(broker, "PONG\r\n").0
}

/// The same, and the stream is there, and one topic is followed.
fn following(broker: &mut Nats) {
    let lines = ready(broker);
    comes(broker, &msg(&reply(&lines, "$JS.API.STREAM.INFO.WS"), &stream("t", 0)));
    broker.follow(b"a");
    let (lines, _) = told(broker);
    assert!(lines.iter().any(|line| line.starts_with("SUB ws.l.a ")), "{lines:?}");
    let (_, rest) = comes(broker, "PONG\r\n");
    assert!(rest.contains(&Action::Follows(b"a".to_vec())));
}

fn keep(broker: &mut Nats, key: Option<&[u8]>, ticket: u64) {
    let limits = Limits { count: 5, ttl: 1000, bytes: 0 };
    let message = &message(7, b"a", b"x");
    broker.keep(&Keep { topic: b"a", message, key, limits, ticket }, 10);
}

fn outcomes(actions: &[Action]) -> Vec<(u64, Result<u64, Unkept>)> {
    let told = actions.iter().filter_map(|action| match action {
        Action::Kept { ticket, outcome } => Some((*ticket, outcome.map(|kept| kept.at.offset))),
        _ => None,
    });
    told.collect()
}

fn stored(actions: &[Action]) -> Vec<(u64, u64)> {
    let told = actions.iter().filter_map(|action| match action {
        Action::Stored { message: Stored { offset, before, .. }, .. } => Some((*offset, *before)),
        _ => None,
    });
    told.collect()
}

fn page(actions: &[Action]) -> (Position, u64, Vec<u64>, bool) {
    let found = actions.iter().find_map(|action| match action {
        Action::Page { page: Some(page), .. } => Some(page),
        _ => None,
    });
    let page = found.unwrap_or_else(|| panic!("no page in {actions:?}"));
    (page.top, page.after, page.messages.iter().map(|m| m.offset).collect(), page.more)
}

#[test]
fn plain_topics_are_subscribed_and_their_messages_pass() {
    let mut broker = with(Settings::default());
    let lines = ready(&mut broker);
    assert!(lines.iter().any(|line| line.starts_with("PUB ws.all ")), "a heartbeat: {lines:?}");
    broker.want(b"a b", true);
    let (lines, _) = told(&mut broker);
    assert_eq!(lines, ["SUB ws.t.a=20b 5", "PING"]);
    assert!(!broker.is_level());
    comes(&mut broker, "PONG\r\n");
    assert!(broker.is_level());
    let bytes = message(8, b"a b", b"hi");
    let text =
        [format!("MSG ws.t.a=20b 5 {}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
    broker.received(PEER, &text, 10);
    assert!(matches!(told(&mut broker).1[..], [Action::Deliver(_)]));
    // Over a channel that is another topic's.
    let text = String::from_utf8_lossy(&text).replace("a=20b", "other");
    broker.received(PEER, text.as_bytes(), 10);
    assert!(told(&mut broker).1.is_empty());
    assert_eq!(broker.contact.tally.get(Number::BadMessages), 1);
    broker.publish(To::Topic(b"a b"), &message(7, b"a b", b"x"), 11).unwrap();
    assert!(told(&mut broker).0[0].starts_with("PUB ws.t.a=20b "));
    assert_eq!((broker.contact.tally.get(Number::Published), broker.is_idle()), (0, false));
    comes(&mut broker, "PONG\r\n");
    assert_eq!((broker.contact.tally.get(Number::Published), broker.is_idle()), (1, true));
    let large = broker.publish(To::All, &message(7, b"a b", &[0; 6000]), 11);
    assert_eq!(large, Err(Refused::TooLarge));
    broker.want(b"a b", false);
    assert_eq!(told(&mut broker).0, ["UNSUB 5", "PING"]);
    assert_eq!(comes(&mut broker, "PING\r\n").0, ["PONG"]);
}

#[test]
fn what_is_denied_is_told_and_the_others_go_on() {
    let mut broker = with(Settings::default());
    ready(&mut broker);
    broker.want(b"a", true);
    broker.want(b"b", true);
    told(&mut broker);
    let text =
        "-ERR 'Permissions Violation for Subscription to \"ws.t.b\" using queue \"\"'\r\nPONG\r\n";
    let (_, rest) = comes(&mut broker, text);
    assert!(matches!(&rest[0], Action::State(State::Denied { topic, .. }) if topic == b"b"));
    assert_eq!(broker.contact.tally.get(Number::TopicsSubscribed), 1);
    broker.publish(To::Topic(b"b"), &message(7, b"b", b""), 11).unwrap();
    told(&mut broker);
    comes(&mut broker, "-ERR 'Permissions Violation for Publish to \"ws.t.b\"'\r\nPONG\r\n");
    assert_eq!(broker.contact.tally.get(Number::DroppedRefused), 1);
    assert_eq!(broker.contact.tally.get(Number::Published), 0);
    // Anything else ends it.
    let (_, rest) = comes(&mut broker, "-ERR 'Slow Consumer'\r\n");
    assert_eq!(rest[0], Action::Close { peer: PEER });
    assert!(matches!(&rest[1], Action::State(State::Down { why, .. }) if why == "Slow Consumer"));
}

#[test]
fn a_server_that_is_none_of_ours_is_left() {
    for (text, why) in [
        ("HTTP/1.1 400 Bad Request\r\n", "not the protocol of a NATS server"),
        ("INFO {}\r\n", "not what a NATS server says of itself"),
        ("INFO {\"version\":\"2.1\",\"max_payload\":1}\r\n", "the server takes no headers"),
        (
            "INFO {\"version\":\"2.1\",\"max_payload\":1,\"headers\":true,\"tls_required\":true}\r\n",
            "the server asks for tls",
        ),
    ] {
        let mut broker = nats();
        broker.start(0);
        broker.connected(PEER, 1);
        told(&mut broker);
        let (_, rest) = comes(&mut broker, text);
        let said = |action: &Action| matches!(action, Action::State(State::Down { why: said, .. }) if said == why);
        assert!(rest.iter().any(said), "{rest:?}");
    }
}

#[test]
fn tls_begins_behind_the_first_word() {
    let server = Server::parse("a", true).unwrap();
    let driver = Driver { node: NodeId(7), max_message: 10_000, keeps: false, seed: 1 };
    let mut broker = Nats::new(&server, Settings::default(), driver);
    broker.start(0);
    broker.connected(PEER, 1);
    told(&mut broker);
    let (lines, rest) = comes(&mut broker, &format!("{INFO}\r\n"));
    assert_eq!((lines.len(), &rest[..]), (0, &[Action::Secure { peer: PEER }][..]));
    broker.connected(PEER, 2);
    assert!(told(&mut broker).0[0].contains("\"tls_required\":true"));
}

/// Whoever finds no stream looks again a time later. When, and what it asks then.
fn looks_again(broker: &mut Nats, lines: &[String]) -> (u64, Vec<String>) {
    let (lines, _) = comes(broker, &msg(&reply(lines, "$JS.API.STREAM.INFO.WS"), MISSING));
    assert!(lines.is_empty(), "{lines:?}");
    let at = broker.due().expect("a time to look again");
    broker.timer(at - 1);
    assert!(told(broker).0.is_empty(), "not before");
    broker.timer(at);
    (at, told(broker).0)
}

#[test]
fn a_stream_that_is_missing_is_made() {
    let mut broker = nats();
    let lines = ready(&mut broker);
    let (at, lines) = looks_again(&mut broker, &lines);
    let missing = msg(&reply(&lines, "$JS.API.STREAM.INFO.WS"), MISSING);
    broker.received(PEER, missing.as_bytes(), at + 1);
    let (lines, _) = told(&mut broker);
    let (lines, _) =
        comes(&mut broker, &msg(&reply(&lines, "$JS.API.STREAM.CREATE.WS"), &stream("t", 0)));
    keep(&mut broker, None, 3);
    assert!(told(&mut broker).0.is_empty(), "not before it is known");
    let (lines, _) =
        comes(&mut broker, &msg(&reply(&lines, "$JS.API.STREAM.INFO.WS"), &stream("t", 0)));
    let (_, rest) =
        comes(&mut broker, &msg(&reply(&lines, "ws.p.a"), r#"{"stream":"WS","seq":9}"#));
    assert_eq!(outcomes(&rest), [(3, Ok(9))]);
}

#[test]
fn machines_do_not_make_a_stream_at_once() {
    let mut times: Vec<u64> = (0..20)
        .map(|seed| {
            let mut broker = nats();
            broker.contact.backoff = crate::broker::backoff::Backoff::new(100, seed);
            let lines = ready(&mut broker);
            let (at, lines) = looks_again(&mut broker, &lines);
            // Another one has made it meanwhile.
            let about = msg(&reply(&lines, "$JS.API.STREAM.INFO.WS"), &stream("t", 0));
            let (lines, _) = comes(&mut broker, &about);
            assert!(broker.is_stream_good() && lines.is_empty(), "{lines:?}");
            at
        })
        .collect();
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 15 && times.iter().all(|at| (500..1100).contains(at)), "{times:?}");
}

#[test]
fn what_becomes_of_a_message_is_told() {
    let mut broker = nats();
    following(&mut broker);
    keep(&mut broker, Some(b"k"), 1);
    let (lines, _) = told(&mut broker);
    assert!(lines.iter().any(|line| line.starts_with("Nats-Msg-Id: ")), "{lines:?}");
    assert!(lines.contains(&"Nats-Expected-Stream: WS".to_string()));
    let answer = r#"{"stream":"WS","seq":4,"duplicate":true}"#;
    let (_, rest) = comes(&mut broker, &msg(&reply(&lines, "ws.p.a"), answer));
    let repeated = |action: &Action| {
        matches!(action, Action::Kept { ticket: 1, outcome: Ok(Placed { repeated: true, .. }) })
    };
    assert!(rest.iter().any(repeated));
    keep(&mut broker, None, 2);
    let (lines, _) = told(&mut broker);
    let full = r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}"#;
    let (_, rest) = comes(&mut broker, &msg(&reply(&lines, "ws.p.a"), full));
    assert_eq!(outcomes(&rest), [(2, Err(Unkept::Refused))]);
    // Nobody is there who could take it: it was surely not stored, and waits until somebody is.
    keep(&mut broker, None, 3);
    let (lines, _) = told(&mut broker);
    broker.received(PEER, &hmsg(&reply(&lines, "ws.p.a"), " 503", b""), 10);
    assert!(told(&mut broker).1.is_empty());
    let due = broker.due().unwrap();
    broker.timer(due);
    let (lines, _) = told(&mut broker);
    let (lines, _) =
        comes(&mut broker, &msg(&reply(&lines, "$JS.API.STREAM.INFO.WS"), &stream("t", 4)));
    reply(&lines, "ws.p.a");
    // The connection ends before the answer: with a key it waits again, without nobody knows.
    keep(&mut broker, Some(b"k"), 4);
    told(&mut broker);
    broker.closed(PEER, "gone", 20);
    assert_eq!(outcomes(&told(&mut broker).1), [(3, Err(Unkept::Timeout))]);
    broker.timer(20 + 3000);
    assert_eq!(outcomes(&told(&mut broker).1), [(4, Err(Unkept::Timeout))]);
}

#[test]
fn a_history_is_read_from_where_the_caller_is() {
    let mut broker = nats();
    following(&mut broker);
    let epoch = broker.standing.epoch;
    let newest = |sequence| {
        format!(r#"{{"message":{{"seq":{sequence},"data":"","time":"1970-01-01T00:00:01Z"}}}}"#)
    };
    let at = |n: u64| {
        let headers = format!("\r\nNats-Sequence: {n}\r\nNats-Time-Stamp: 1970-01-01T00:00:01Z");
        (headers, message(8, b"a", b"x"))
    };
    let read = |broker: &mut Nats, since, top: u64, numbers: &[u64]| {
        broker.read(b"a", since, 5);
        let (lines, _) = told(broker);
        let (lines, mut rest) =
            comes(broker, &msg(&reply(&lines, "$JS.API.STREAM.MSG.GET.WS"), &newest(top)));
        if !numbers.is_empty() {
            let to = reply(&lines, "$JS.API.DIRECT.GET.WS");
            for n in numbers {
                let (headers, data) = at(*n);
                broker.received(PEER, &hmsg(&to, &headers, &data), 10);
            }
            broker.received(PEER, &hmsg(&to, " 204 EOB", b""), 10);
            rest.extend(told(broker).1);
        }
        rest
    };
    let from = |offset| Position { epoch, offset };
    // From nowhere: what is before the first is not known.
    let rest = read(&mut broker, Position::NOWHERE, 9, &[3, 7, 9]);
    assert_eq!(page(&rest), (from(9), 2, vec![3, 7, 9], false));
    // From a message that is still there.
    let rest = read(&mut broker, from(3), 9, &[3, 7, 9]);
    assert_eq!(page(&rest), (from(9), 3, vec![7, 9], false));
    // From one that is gone, of another epoch, and from the end.
    assert_eq!(page(&read(&mut broker, from(3), 9, &[7, 9])).1, 6);
    let other = Position { epoch: epoch + 1, offset: 3 };
    assert_eq!(page(&read(&mut broker, other, 9, &[3, 7, 9])).1, 2);
    assert_eq!(page(&read(&mut broker, from(9), 9, &[])), (from(9), 9, vec![], false));
    // What comes live meanwhile is told behind it.
    broker.read(b"a", from(9), 5);
    let (lines, _) = told(&mut broker);
    broker.received(PEER, &sent_on(12, 9, b"y"), 10);
    assert!(told(&mut broker).1.is_empty());
    let (_, rest) =
        comes(&mut broker, &msg(&reply(&lines, "$JS.API.STREAM.MSG.GET.WS"), &newest(9)));
    assert_eq!((page(&rest).2, stored(&rest)), (vec![], vec![(12, 9)]));
    // Of a history without messages nothing is known.
    broker.read(b"a", from(12), 5);
    let (lines, _) = told(&mut broker);
    let none = r#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#;
    let (_, rest) = comes(&mut broker, &msg(&reply(&lines, "$JS.API.STREAM.MSG.GET.WS"), none));
    assert_eq!(page(&rest), (Position::NOWHERE, 0, vec![], false));
}

#[test]
fn a_stream_that_is_another_or_has_lost_its_end_is_read_anew() {
    let mut broker = nats();
    following(&mut broker);
    broker.received(PEER, &sent_on(5, 0, b"x"), 10);
    broker.received(PEER, &sent_on(6, 5, b"y"), 10);
    let (lines, rest) = told(&mut broker);
    assert_eq!((lines.len(), stored(&rest)), (0, vec![(5, 0), (6, 5)]));
    // A sequence that does not grow: the stream is asked about.
    broker.received(PEER, &sent_on(2, 0, b"z"), 10);
    let (lines, _) = told(&mut broker);
    let question = reply(&lines, "$JS.API.STREAM.INFO.WS");
    let before = broker.standing.epoch;
    let (_, rest) = comes(&mut broker, &msg(&question, &stream("u", 2)));
    assert!(rest.contains(&Action::Follows(b"a".to_vec())), "{rest:?}");
    assert_ne!(broker.standing.epoch, before);
    // The same stream, and shorter than it was: it gets another identity.
    broker.received(PEER, &sent_on(9, 2, b"z"), 10);
    broker.received(PEER, &sent_on(3, 2, b"z"), 10);
    let (lines, _) = told(&mut broker);
    let question = reply(&lines, "$JS.API.STREAM.INFO.WS");
    let (_, rest) = comes(&mut broker, &msg(&question, &stream("u", 3)));
    assert!(rest.is_empty(), "it may be a new leader that is not ready: {rest:?}");
    broker.timer(broker.due().unwrap().max(1500));
    let (lines, _) = told(&mut broker);
    let question = reply(&lines, "$JS.API.STREAM.INFO.WS");
    broker.received(PEER, msg(&question, &stream("u", 3)).as_bytes(), 1500);
    let (lines, rest) = told(&mut broker);
    assert!(rest.contains(&Action::Follows(b"a".to_vec())));
    reply(&lines, "$JS.API.STREAM.UPDATE.WS");
    assert!(lines.iter().any(|line| line.contains("histories of nginx-lua-websocket, ")));
}

#[test]
fn what_is_asked_is_answered_at_once_where_the_answer_is_garbage() {
    let mut broker = nats();
    following(&mut broker);
    keep(&mut broker, None, 1);
    let (lines, _) = told(&mut broker);
    let (_, rest) = comes(&mut broker, &msg(&reply(&lines, "ws.p.a"), "{}"));
    assert_eq!(outcomes(&rest), [(1, Err(Unkept::Timeout))]);
    // With a key it waits for the next connection.
    let mut broker = nats();
    following(&mut broker);
    keep(&mut broker, Some(b"k"), 2);
    let (lines, _) = told(&mut broker);
    let until = 10 + broker.settings.retry;
    broker.received(PEER, msg(&reply(&lines, "ws.p.a"), "{}").as_bytes(), 500);
    let (_, rest) = told(&mut broker);
    let held: Vec<u64> = broker.held.iter().map(|kept| kept.until).collect();
    // No longer than it would have: the next answer may be garbage, too.
    assert_eq!((outcomes(&rest), held), (vec![], vec![until]));
    // A history that is to be dropped: both of its questions.
    let newest = r#"{"message":{"seq":4,"data":"","time":"1970-01-01T00:00:01Z"}}"#;
    for answers in [&["{}"][..], &[newest, "{}"]] {
        let mut broker = nats();
        following(&mut broker);
        broker.forget(b"a", 3, 10);
        let subjects = ["$JS.API.STREAM.MSG.GET.WS", "ws.p.a"];
        let mut all = Vec::new();
        let (mut lines, _) = told(&mut broker);
        for (answer, subject) in answers.iter().zip(subjects) {
            let (more, rest) = comes(&mut broker, &msg(&reply(&lines, subject), answer));
            lines = more;
            all.extend(rest);
        }
        assert_eq!(outcomes(&all), [(3, Err(Unkept::Timeout))]);
    }
}

#[test]
fn a_server_that_sends_more_of_a_history_than_was_asked_for_is_left() {
    let newest = r#"{"message":{"seq":99999,"data":"","time":"1970-01-01T00:00:01Z"}}"#;
    let is_left = |rest: &[Action]| rest.contains(&Action::Close { peer: PEER });
    let one = |sequence: usize| {
        let headers =
            format!("\r\nNats-Sequence: {sequence}\r\nNats-Time-Stamp: 1970-01-01T00:00:01Z");
        (headers, message(8, b"a", b"x"))
    };
    let begin = |broker: &mut Nats, direct: bool| {
        following(broker);
        broker.info.reads_many = direct;
        broker.read(b"a", Position::NOWHERE, 5);
        let (lines, _) = told(broker);
        comes(broker, &msg(&reply(&lines, "$JS.API.STREAM.MSG.GET.WS"), newest)).0
    };
    let mut broker = nats();
    let to = reply(&begin(&mut broker, true), "$JS.API.DIRECT.GET.WS");
    for n in 1..=read::MESSAGES + 1 {
        let (headers, data) = one(n);
        broker.received(PEER, &hmsg(&to, &headers, &data), 10);
        assert_eq!(is_left(&told(&mut broker).1), n > read::MESSAGES, "{n}");
    }
    // The same one again and again: those that are of no use count, too.
    let mut broker = nats();
    let to = reply(&begin(&mut broker, true), "$JS.API.DIRECT.GET.WS");
    for n in 1..=read::MESSAGES + 1 {
        let (headers, data) = one(7);
        broker.received(PEER, &hmsg(&to, &headers, &data), 10);
        assert_eq!(is_left(&told(&mut broker).1), n > read::MESSAGES, "{n}");
    }
    // One by one, and none that is newer than the last.
    let mut broker = nats();
    let mut lines = begin(&mut broker, false);
    let same = r#"{"message":{"seq":7,"data":"","time":"1970-01-01T00:00:01Z"}}"#;
    for left in [false, true] {
        let (more, rest) =
            comes(&mut broker, &msg(&reply(&lines, "$JS.API.STREAM.MSG.GET.WS"), same));
        assert_eq!(is_left(&rest), left);
        lines = more;
    }
    // One by one, and never an end: what cannot be used is no more than what can.
    let mut broker = nats();
    let mut lines = begin(&mut broker, false);
    for n in 1..=read::MESSAGES {
        let bad = same.replace(":7", &format!(":{n}"));
        let (more, rest) =
            comes(&mut broker, &msg(&reply(&lines, "$JS.API.STREAM.MSG.GET.WS"), &bad));
        let pages = rest.iter().filter(|action| matches!(action, Action::Page { .. })).count();
        assert_eq!(pages, usize::from(n == read::MESSAGES), "{n}");
        lines = more;
    }
}

#[test]
fn a_topic_that_is_taken_back_is_told_and_is_not_taken_for_subscribed() {
    let mut broker = nats();
    following(&mut broker);
    broker.want(b"p", true);
    told(&mut broker);
    comes(&mut broker, "PONG\r\n");
    assert_eq!(broker.contact.tally.get(Number::TopicsSubscribed), 2);
    let revoked = |subject| {
        format!("-ERR 'Permissions Violation for Subscription to \"{subject}\" (sid \"5\")'\r\n")
    };
    let (_, rest) = comes(&mut broker, &revoked("ws.t.p"));
    assert!(matches!(&rest[..], [Action::State(State::Denied { topic, .. })] if topic == b"p"));
    let (_, rest) = comes(&mut broker, &revoked("ws.l.a"));
    let topic = b"a".to_vec();
    let told = [Action::Lapsed(topic.clone()), Action::Page { topic, page: None }];
    assert_eq!(rest[..2], told);
    assert_eq!(broker.contact.tally.get(Number::TopicsSubscribed), 0);
    // Who asks for it later hears it at once.
    broker.follow(b"a");
    assert!(matches!(broker.poll(), Some(Action::Page { page: None, .. })));
}

#[test]
fn other_servers_are_believed_in_tls_alone_where_there_is_to_be_tls() {
    let server = Server::parse("a", true).unwrap();
    let driver = Driver { node: NodeId(7), max_message: 10_000, keeps: false, seed: 1 };
    let mut broker = Nats::new(&server, Settings::default(), driver);
    broker.start(0);
    broker.connected(PEER, 1);
    told(&mut broker);
    let info = INFO.replace("headers\"", "connect_urls\":[\"evil:1\"],\"headers\"") + "\r\n";
    comes(&mut broker, &info);
    assert!(!broker.servers.has_others());
    broker.connected(PEER, 2);
    told(&mut broker);
    comes(&mut broker, "PONG\r\n");
    comes(&mut broker, &info.replace("evil", "good"));
    assert!(broker.servers.has_others());
}

#[test]
fn what_is_wanted_of_an_idle_machine_is_asked_for_at_that_time() {
    let mut broker = nats();
    following(&mut broker);
    told(&mut broker);
    broker.want(b"b", true);
    assert_eq!(broker.due(), Some(0), "the time is not known");
    broker.timer(1000);
    assert_eq!(broker.first_asked(), Some(1000));
    assert!(told(&mut broker).0.iter().any(|line| line.starts_with("SUB ws.t.b ")));
    assert!(broker.due().is_some_and(|due| due > 0));
    broker.retain(&mut |_| true);
    assert_eq!(broker.due(), Some(0));
}
