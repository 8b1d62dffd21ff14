//! Lame ducks, line by line: who is asked first, who is heard until when.

use super::*;
use crate::broker::nats::tests::{message, stream, INFO};
use crate::broker::seam::Unkept;
use crate::broker::settings::Stream;
use crate::history::Limits;
use crate::id::NodeId;

const NEXT: Peer = Peer(1);

fn cluster(keeps: bool) -> Cluster {
    let driver = Driver { node: NodeId(7), max_message: 10_000, keeps, seed: 1 };
    let stream = Stream { name: "WS".to_string(), replicas: 1, count: 5, ttl: 1000 };
    let stream = keeps.then_some(stream);
    let settings = Settings { stream, ..Settings::default() };
    Cluster::new(&Server::parse("a,b", false).unwrap(), settings, driver)
}

/// What is sent, by peer, and the other actions.
fn told(broker: &mut Cluster) -> (Vec<(Peer, String)>, Vec<Action>) {
    let (mut lines, mut rest) = (Vec::new(), Vec::new());
    while let Some(action) = broker.poll() {
        match action {
            Action::Send { peer, bytes } => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let one = text.split("\r\n").filter(|line| !line.is_empty());
                lines.extend(one.map(|line| (peer, line.to_string())));
            }
            other => rest.push(other),
        }
    }
    (lines, rest)
}

fn comes(broker: &mut Cluster, peer: Peer, text: &str) -> (Vec<(Peer, String)>, Vec<Action>) {
    broker.received(peer, text.as_bytes(), 10);
    told(broker)
}

fn let_in(broker: &mut Cluster, peer: Peer) -> Vec<(Peer, String)> {
    broker.connected(peer, 1);
    comes(broker, peer, &format!("{INFO}\r\n"));
    comes(broker, peer, "PONG\r\n").0
}

/// Connected, with a topic, and the server says that it will end.
fn leaving(broker: &mut Cluster) -> Vec<(Peer, String)> {
    broker.start(0);
    told(broker);
    let lines = let_in(broker, PEER);
    broker.want(b"a", true);
    told(broker);
    comes(broker, PEER, "PONG\r\n");
    assert!(broker.is_level());
    let word = INFO.replace("headers\"", "ldm\":true,\"headers\"") + "\r\n";
    let (_, rest) = comes(broker, PEER, &word);
    assert!(matches!(rest[..], [Action::Connect { peer: NEXT, .. }]), "{rest:?}");
    lines
}

/// A message of a topic, as a number of another machine.
fn sent(number: u64) -> (String, Action) {
    let mut bytes = message(8, b"a", b"hi");
    let mut envelope = crate::Envelope::decode(&bytes).unwrap();
    envelope.sequence = number;
    let mut out = Vec::new();
    envelope.encode(&mut out).unwrap();
    bytes = out;
    // What is encoded is text here, for its numbers are small.
    let text = String::from_utf8(bytes.clone()).unwrap();
    (format!("MSG ws.t.a 5 {}\r\n{text}\r\n", bytes.len()), Action::Deliver(bytes.into()))
}

fn delivered(actions: &[Action]) -> Vec<&Action> {
    actions.iter().filter(|action| matches!(action, Action::Deliver(_))).collect()
}

#[test]
fn another_server_is_there_before_the_one_that_will_end_is_left() {
    let mut broker = cluster(false);
    leaving(&mut broker);
    let all: Vec<_> = (1..=4).map(sent).collect();
    // Both are heard, and messages leave by the old one.
    let lines = let_in(&mut broker, NEXT);
    assert!(lines.iter().any(|(peer, line)| *peer == NEXT && line.starts_with("SUB ws.t.a ")));
    assert_eq!(delivered(&comes(&mut broker, PEER, &all[0].0).1), [&all[0].1]);
    assert!(delivered(&comes(&mut broker, NEXT, &all[1].0).1).is_empty(), "not yet");
    broker.publish(To::All, &message(7, b"a", b""), 10).unwrap();
    assert!(told(&mut broker).0.iter().all(|(peer, _)| *peer == PEER));
    assert_eq!(delivered(&comes(&mut broker, PEER, &all[2].0).1), [&all[2].1]);
    // It has subscribed all, and some time later all know that: the old one gets nothing more.
    let (_, rest) = comes(&mut broker, NEXT, "PONG\r\n");
    assert!(delivered(&rest).is_empty());
    let settled = broker.due().unwrap();
    assert_eq!(settled, 10 + SETTLES);
    broker.timer(settled);
    assert!(told(&mut broker).1.is_empty(), "it has not answered");
    broker.publish(To::All, &message(7, b"a", b""), settled).unwrap();
    assert!(told(&mut broker).0.is_empty());
    // When it has answered, what only the new one has brought is told.
    broker.received(PEER, b"PONG\r\n", settled);
    let (lines, rest) = told(&mut broker);
    assert_eq!(delivered(&rest), [&all[1].1]);
    assert!(lines.iter().all(|(peer, _)| *peer == NEXT) && !lines.is_empty(), "{lines:?}");
    assert!(rest.iter().all(|a| !matches!(a, Action::State(_) | Action::Close { .. })));
    // Nothing twice, whoever is late.
    let (_, rest) = comes(&mut broker, NEXT, &[&all[0].0[..], &all[2].0, &all[3].0].concat());
    assert_eq!(delivered(&rest), [&all[3].1]);
    assert!(delivered(&comes(&mut broker, PEER, &all[3].0).1).is_empty());
    broker.timer(settled + PATIENCE);
    assert!(told(&mut broker).1.contains(&Action::Close { peer: PEER }));
    assert_eq!(broker.tally().get(Number::DroppedCut), 0);
    assert_eq!(broker.tally().get(Number::Published), 1, "the first of the two");
    assert_eq!((broker.tally().get(Number::Gaps), broker.is_level()), (0, true));
    assert_eq!(broker.tally().get(Number::Received), 2 + 1 + 3 + 1, "as they came, since then");
}

#[test]
fn what_waits_for_a_history_goes_on_at_the_new_one() {
    let mut broker = cluster(true);
    let reply = |lines: &[(Peer, String)], subject: &str| {
        let line = lines.iter().find(|(_, line)| line.split(' ').nth(1) == Some(subject));
        line.unwrap_or_else(|| panic!("{lines:?}")).1.split(' ').nth(2).unwrap().to_string()
    };
    let msg = |to: &str, data: &str| format!("MSG {to} 1 {}\r\n{data}\r\n", data.len());
    let lines = leaving(&mut broker);
    let about = msg(&reply(&lines, "$JS.API.STREAM.INFO.WS"), &stream("t", 0));
    comes(&mut broker, PEER, &about);
    let bytes = message(7, b"a", b"x");
    let limits = Limits { count: 5, ttl: 1000, bytes: 0 };
    let one = |key, ticket| Keep { topic: b"a", message: &bytes, key, limits, ticket };
    broker.keep(&one(None, 1), 10);
    broker.keep(&one(Some(b"k"), 2), 10);
    broker.keep(&one(None, 3), 10);
    let (asked, _) = told(&mut broker);
    let lines = let_in(&mut broker, NEXT);
    let about = msg(&reply(&lines, "$JS.API.STREAM.INFO.WS"), &stream("t", 0));
    comes(&mut broker, NEXT, &about);
    comes(&mut broker, NEXT, "PONG\r\n");
    // It is answered for a while still.
    broker.timer(10 + SETTLES);
    told(&mut broker);
    broker.timer(10 + SETTLES + PATIENCE);
    told(&mut broker);
    let answer = msg(&reply(&asked, "ws.p.a"), r#"{"stream":"WS","seq":9}"#);
    let (_, rest) = comes(&mut broker, PEER, &answer);
    assert!(matches!(rest[..], [Action::Kept { ticket: 1, outcome: Ok(_) }]), "{rest:?}");
    // It ends: what has a key is sent again, and nobody knows of the other.
    broker.closed(PEER, "closed", 2100);
    let (lines, rest) = told(&mut broker);
    let timeout = Action::Kept { ticket: 3, outcome: Err(Unkept::Timeout) };
    assert!(rest.contains(&timeout), "{rest:?}");
    let (lines, of_next) = (&lines, |(peer, _): &&(Peer, String)| *peer == NEXT);
    let subjects = lines.iter().filter(of_next).filter(|(_, l)| l.starts_with("HPUB ws.p.a "));
    assert_eq!(subjects.count(), 1);
    assert!(!rest.iter().any(|action| matches!(action, Action::State(_))), "{rest:?}");
}

#[test]
fn one_that_was_to_take_the_place_and_is_lost_is_tried_again_while_the_old_one_goes_on() {
    let mut broker = cluster(false);
    leaving(&mut broker);
    let_in(&mut broker, NEXT);
    comes(&mut broker, NEXT, "PONG\r\n");
    broker.closed(NEXT, "closed", 11);
    let (_, rest) = told(&mut broker);
    assert!(
        matches!(&rest[..], [Action::State(State::Faulty { why })] if why.ends_with(": closed"))
    );
    let counted = [Number::ErrorConnect, Number::Gaps].map(|number| broker.tally().get(number));
    assert_eq!(counted, [1, 0], "nothing is missing");
    broker.timer(10 + SETTLES);
    assert!(matches!(told(&mut broker).1[..], [Action::Connect { peer: NEXT, .. }]));
    broker.publish(To::All, &message(7, b"a", b""), 10 + SETTLES).unwrap();
    let (lines, _) = told(&mut broker);
    assert!(lines.iter().any(|(peer, line)| *peer == PEER && line.starts_with("PUB ws.all ")));
    // It is said once.
    broker.closed(NEXT, "closed", 10 + SETTLES);
    assert!(told(&mut broker).1.is_empty());
    assert_eq!(broker.tally().get(Number::ErrorConnect), 2);
}

#[test]
fn topics_that_are_wanted_meanwhile_do_not_keep_the_new_one_from_the_place() {
    let mut broker = cluster(false);
    leaving(&mut broker);
    let_in(&mut broker, NEXT);
    comes(&mut broker, NEXT, "PONG\r\n");
    // Asked for before all had settled: that is waited for.
    broker.want(b"b", true);
    broker.timer(10 + SETTLES - 1);
    told(&mut broker);
    broker.received(PEER, b"PONG\r\n", 10 + SETTLES - 1);
    told(&mut broker);
    broker.timer(10 + SETTLES);
    told(&mut broker);
    assert_eq!(broker.now.peer, PEER);
    // After that: not for this.
    broker.want(b"c", true);
    broker.timer(11 + SETTLES);
    told(&mut broker);
    broker.received(PEER, b"PONG\r\n", 11 + SETTLES);
    told(&mut broker);
    broker.received(NEXT, b"PONG\r\n", 12 + SETTLES);
    told(&mut broker);
    assert_eq!(broker.now.peer, NEXT);
}

#[test]
fn a_server_that_ends_before_another_is_there_is_lost_as_any_other() {
    let mut broker = cluster(false);
    leaving(&mut broker);
    broker.closed(PEER, "closed", 11);
    let (_, rest) = told(&mut broker);
    assert!(rest.contains(&Action::Close { peer: NEXT }), "{rest:?}");
    let again = broker.due().unwrap();
    broker.timer(again);
    assert!(matches!(told(&mut broker).1[..], [Action::Connect { peer: PEER, .. }]));
}

/// The same, with a history that is followed; the other one is let in.
fn following(broker: &mut Cluster) {
    leaving(broker);
    broker.follow(b"a");
    told(broker);
    let (_, rest) = comes(broker, PEER, "PONG\r\n");
    assert!(rest.contains(&Action::Follows(b"a".to_vec())));
    let lines = let_in(broker, NEXT);
    assert!(lines.iter().any(|(peer, line)| *peer == NEXT && line.starts_with("SUB ws.l.a ")));
}

/// The other one takes the place. What is told then.
fn turned(broker: &mut Cluster) -> Vec<Action> {
    broker.timer(10 + SETTLES);
    let (_, mut rest) = told(broker);
    broker.timer(10 + SETTLES + PATIENCE);
    rest.extend(told(broker).1);
    assert_eq!(broker.now.peer, NEXT);
    rest
}

#[test]
fn a_history_is_followed_at_the_new_one_where_that_has_subscribed_it() {
    let follows = Action::Follows(b"a".to_vec());
    let mut broker = cluster(true);
    following(&mut broker);
    comes(&mut broker, NEXT, "PONG\r\n");
    assert_eq!(turned(&mut broker).iter().filter(|action| **action == follows).count(), 1);
    // It was given up meanwhile: who wants it next asks for it again.
    let mut broker = cluster(true);
    following(&mut broker);
    comes(&mut broker, NEXT, "PONG\r\n");
    broker.retain(&mut |_| false);
    told(&mut broker);
    comes(&mut broker, NEXT, "PONG\r\n");
    assert!(!turned(&mut broker).contains(&follows));
    broker.follow(b"a");
    assert!(told(&mut broker).0.iter().any(|(_, line)| line.starts_with("SUB ws.l.a ")));
    assert!(comes(&mut broker, NEXT, "PONG\r\n").1.contains(&follows));
}

#[test]
fn what_the_new_one_denies_is_told_when_it_takes_the_place() {
    let mut broker = cluster(true);
    following(&mut broker);
    let denied = "-ERR 'Permissions Violation for Subscription to \"ws.l.a\"'\r\nPONG\r\n";
    let (_, rest) = comes(&mut broker, NEXT, denied);
    assert!(rest.is_empty(), "the old one goes on: {rest:?}");
    let rest = turned(&mut broker);
    let lapsed = rest.iter().position(|action| *action == Action::Lapsed(b"a".to_vec()));
    let refused = Action::Page { topic: b"a".to_vec(), page: None };
    let refused = rest.iter().position(|action| *action == refused);
    assert!(lapsed.is_some() && lapsed < refused, "{rest:?}");
    let is_denied =
        |a: &Action| matches!(a, Action::State(State::Denied { topic, .. }) if topic == b"a");
    assert!(rest.iter().any(is_denied), "{rest:?}");
    assert!(!rest.contains(&Action::Follows(b"a".to_vec())));
}

#[test]
fn what_the_old_one_brings_while_no_other_is_there_is_not_waited_for_from_that() {
    let mut broker = cluster(false);
    leaving(&mut broker);
    let all: Vec<_> = (1..=4).map(sent).collect();
    // As many as could be remembered, and more.
    let mut many = Vec::new();
    for number in 0..70_000 {
        let mut bytes = message(9, b"a", b"hi");
        let mut envelope = crate::Envelope::decode(&bytes).unwrap();
        envelope.sequence = number;
        let mut out = Vec::new();
        envelope.encode(&mut out).unwrap();
        bytes = out;
        many.extend(format!("MSG ws.t.a 5 {}\r\n", bytes.len()).bytes());
        many.extend(bytes);
        many.extend(b"\r\n");
    }
    broker.received(PEER, &many, 10);
    assert_eq!(delivered(&told(&mut broker).1).len(), 70_000);
    // One is let in, brings something, and is lost: the old one brings that, too.
    let_in(&mut broker, NEXT);
    comes(&mut broker, NEXT, &all[0].0);
    broker.closed(NEXT, "closed", 11);
    told(&mut broker);
    assert_eq!(delivered(&comes(&mut broker, PEER, &all[0].0).1), [&all[0].1]);
    broker.timer(10 + SETTLES);
    assert!(told(&mut broker).1.iter().any(|a| matches!(a, Action::Connect { peer: NEXT, .. })));
    // What both bring before the new one is let in comes once, too.
    broker.connected(NEXT, 1);
    comes(&mut broker, NEXT, &format!("{INFO}\r\n"));
    assert_eq!(delivered(&comes(&mut broker, PEER, &all[1].0).1), [&all[1].1]);
    comes(&mut broker, NEXT, "PONG\r\n");
    comes(&mut broker, NEXT, &all[1].0);
    comes(&mut broker, NEXT, &format!("PONG\r\n{}", all[2].0));
    assert_eq!(delivered(&turned(&mut broker)), [&all[2].1]);
    assert_eq!(broker.tally().get(Number::Gaps), 0);
}

#[test]
fn what_waited_is_sent_to_the_new_one_now() {
    let mut broker = cluster(false);
    leaving(&mut broker);
    let_in(&mut broker, NEXT);
    comes(&mut broker, NEXT, "PONG\r\n");
    broker.publish(To::All, &message(7, b"a", b""), 10).unwrap();
    told(&mut broker);
    broker.timer(10 + SETTLES);
    told(&mut broker);
    broker.publish(To::All, &message(7, b"a", b""), 10 + SETTLES).unwrap();
    assert!(told(&mut broker).0.is_empty());
    turned(&mut broker);
    assert_eq!(broker.now.nats.first_asked(), Some(10 + SETTLES + PATIENCE));
}

#[test]
fn the_new_one_knows_how_far_the_stream_was() {
    let mut broker = cluster(true);
    leaving(&mut broker);
    // The old one comes to know it later, and hears more than the new one.
    (broker.now.nats.standing.epoch, broker.now.nats.standing.newest) = (5, 9);
    let_in(&mut broker, NEXT);
    comes(&mut broker, NEXT, "PONG\r\n");
    turned(&mut broker);
    assert_eq!((broker.now.nats.standing.epoch, broker.now.nats.standing.newest), (5, 9));
    let mut one = broker.now.nats.heir();
    assert_eq!((one.standing.epoch, one.standing.newest), (5, 9));
    broker.now.nats.standing.newest = 11;
    broker.now.nats.retire(&mut one, 0);
    assert_eq!(one.standing.newest, 11);
    // It has found that it is another one.
    (one.standing.epoch, one.standing.newest) = (6, 2);
    broker.now.nats.retire(&mut one, 0);
    assert_eq!((one.standing.epoch, one.standing.newest), (6, 2));
}
