//! The machine against a server of a few lines: its words one by one. Several machines with faults at
//! random stand in `world`.

mod world;

use std::collections::{HashMap, HashSet};

use super::*;
use crate::broker::backoff::Backoff;
use crate::broker::contact::PEER;
use crate::broker::seam::{State, Unkept};
use crate::broker::settings::Secret;
use crate::envelope::{Envelope, Kind, Origin, Type};
use crate::history::Limits;
use crate::id::NodeId;
use crate::ConnId;

/// A server that is quick and has no faults of its own.
#[derive(Default)]
struct Redis7 {
    password: Option<&'static str>,
    denied: HashSet<Vec<u8>>,
    role: Option<&'static str>,
    clients: HashMap<usize, Client>,
}

#[derive(Default)]
struct Client {
    came: bytes::BytesMut,
    out: Vec<u8>,
    channels: HashSet<Vec<u8>>,
    commands: Vec<String>,
}

impl Redis7 {
    fn takes(&mut self, who: usize, bytes: &[u8]) {
        self.clients.entry(who).or_default().came.extend_from_slice(bytes);
        while let Some(words) = self.next_command(who) {
            let line: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
            self.clients.get_mut(&who).unwrap().commands.push(line.join(" "));
            let answer = self.runs(who, &words);
            self.clients.get_mut(&who).unwrap().out.extend(answer);
        }
    }

    fn next_command(&mut self, who: usize) -> Option<Vec<Vec<u8>>> {
        let client = self.clients.get_mut(&who)?;
        let (frame, rest) = resp_rs::resp3::parse_frame(client.came.clone().freeze()).ok()?;
        client.came = rest[..].into();
        let words = frame.as_array().expect("an array");
        Some(words.iter().map(|word| word.as_bytes().expect("a string").to_vec()).collect())
    }

    fn runs(&mut self, who: usize, words: &[Vec<u8>]) -> Vec<u8> {
        match &words[0][..] {
            b"HELLO" if self.password.is_some_and(|p| !words.contains(&p.into())) => {
                b"-WRONGPASS invalid username-password pair\r\n".to_vec()
            }
            b"HELLO" => b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec(),
            b"SELECT" => b"+OK\r\n".to_vec(),
            b"ROLE" => format!("*1\r\n+{}\r\n", self.role.unwrap_or("master")).into_bytes(),
            b"PUBLISH" => {
                let message = [&b">3\r\n+message\r\n"[..], &bulk(&words[1]), &bulk(&words[2])];
                let message = message.concat();
                let mut heard = 0;
                for client in self.clients.values_mut() {
                    if client.channels.contains(&words[1]) {
                        client.out.extend(&message);
                        heard += 1;
                    }
                }
                format!(":{heard}\r\n").into_bytes()
            }
            verb => {
                if words[1..].iter().any(|name| self.denied.contains(name)) {
                    return b"-NOPERM no permissions\r\n".to_vec();
                }
                let (verb, client) = (verb.to_ascii_lowercase(), self.clients.get_mut(&who));
                let channels = &mut client.unwrap().channels;
                let mut out = Vec::new();
                for name in &words[1..] {
                    if verb == b"subscribe" {
                        channels.insert(name.clone());
                    } else {
                        channels.remove(name);
                    }
                    out.extend([&b">3\r\n"[..], &bulk(&verb), &bulk(name), b":1\r\n"].concat());
                }
                out
            }
        }
    }
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn machine(node: u32) -> Redis {
    with(node, Settings { password: Secret(b"s3cret".to_vec()), ..Settings::default() })
}

fn with(node: u32, settings: Settings) -> Redis {
    let server = Server::parse("redis://a:1").unwrap();
    let driver =
        Driver { node: NodeId(node), max_message: 10_000, keeps: false, seed: node.into() };
    Redis::new(server, settings, driver)
}

fn message(node: u32, kind: Kind<'_>, payload: &[u8]) -> Vec<u8> {
    let origin = Origin { node: NodeId(node), row: 0, generation: 1 };
    let typ = Type::Text;
    let message = Envelope {
        kind,
        typ,
        origin,
        sequence: 1,
        stored: None,
        except: None,
        far: false,
        payload,
    };
    let mut out = Vec::new();
    message.encode(&mut out).unwrap();
    out
}

fn publish(broker: &mut Redis, topic: &[u8], payload: &[u8], now: u64) -> Result<(), Refused> {
    let bytes = message(broker.driver.node.0, Kind::Publish { topic }, payload);
    broker.publish(To::Topic(topic), &bytes, now)
}

/// Does all that is asked for, at once. Returns what was delivered and said.
fn settle(broker: &mut Redis, server: &mut Redis7, who: usize, now: u64) -> Vec<Action> {
    let mut rest = Vec::new();
    loop {
        match broker.poll() {
            Some(Action::Connect { .. }) => broker.connected(PEER, now),
            Some(Action::Close { .. }) => {
                server.clients.remove(&who);
            }
            Some(Action::Send { bytes, .. }) => server.takes(who, &bytes),
            Some(other) => rest.push(other),
            None => {
                let out = server.clients.get_mut(&who).map(|c| std::mem::take(&mut c.out));
                match out {
                    Some(out) if !out.is_empty() => broker.received(PEER, &out, now),
                    _ => return rest,
                }
            }
        }
    }
}

fn states(actions: Vec<Action>) -> Vec<State> {
    let state = |action| match action {
        Action::State(state) => Some(state),
        _ => None,
    };
    actions.into_iter().filter_map(state).collect()
}

#[test]
fn it_says_who_it_is_and_subscribes_what_is_wanted() {
    let (mut broker, mut server) = (machine(7), Redis7::default());
    broker.want(b"news", true);
    broker.start(0);
    let said = states(settle(&mut broker, &mut server, 0, 0));
    assert_eq!(said, [State::Up { topics: 1, away: None }]);
    let commands = &server.clients[&0].commands;
    assert_eq!(
        commands[..4],
        [
            "HELLO 3 AUTH default s3cret SETNAME ws:00000007",
            "ROLE",
            "SUBSCRIBE ws:n:00000007 ws:all ws:p:00000007",
            commands[3].as_str(),
        ]
    );
    assert!(commands[3].starts_with("PUBLISH ws:p:00000007 "), "{commands:?}");
    assert!(commands.contains(&"SUBSCRIBE ws:t:news".to_string()));
    assert_eq!(broker.tally().get(Number::Connected), 1);
    assert_eq!(broker.tally().get(Number::TopicsSubscribed), 1);
    assert_eq!(broker.due(), Some(broker.contact.next_heartbeat), "the probe has come back");
}

#[test]
fn what_is_wanted_later_is_asked_for_at_once() {
    let (mut broker, mut server) = (machine(7), Redis7::default());
    broker.start(0);
    settle(&mut broker, &mut server, 0, 0);
    for (name, wanted) in [("news", true), ("more", true), ("news", false)] {
        broker.want(name.as_bytes(), wanted);
        assert!(broker.due().is_some_and(|due| due <= 900), "{name}");
        broker.timer(900);
        settle(&mut broker, &mut server, 0, 900);
        let command = if wanted { "SUBSCRIBE" } else { "UNSUBSCRIBE" };
        let last = server.clients[&0].commands.last().cloned();
        assert_eq!(last, Some(format!("{command} ws:t:{name}")));
        assert!(broker.due().is_some_and(|due| due > 900), "and that is all");
    }
    broker.follow(b"kept");
    assert!(broker.due().is_some_and(|due| due <= 950));
    broker.timer(950);
    settle(&mut broker, &mut server, 0, 950);
    broker.retain(&mut |_| false);
    assert!(broker.due().is_some_and(|due| due <= 960));
}

#[test]
fn messages_reach_other_machines_and_not_their_own() {
    let mut server = Redis7::default();
    let (mut here, mut there) = (machine(1), machine(2));
    for (who, broker) in [&mut here, &mut there].into_iter().enumerate() {
        broker.want(b"news", true);
        broker.start(0);
        settle(broker, &mut server, who, 0);
    }
    publish(&mut here, b"news", b"hello", 1).unwrap();
    let id = ConnId::new(NodeId(2), 1, 1, [9; 9]);
    let to_one = message(1, Kind::ToConnection { id }, b"you");
    here.publish(To::Node(NodeId(2)), &to_one, 1).unwrap();
    let not = |action: &Action| !matches!(action, Action::Heard(_));
    assert!(!settle(&mut here, &mut server, 0, 1).iter().any(not), "the echo is dropped");
    let got: Vec<Action> = settle(&mut there, &mut server, 1, 1).into_iter().filter(not).collect();
    let deliver = |bytes: Vec<u8>| Action::Deliver(bytes.into());
    let topic = message(1, Kind::Publish { topic: b"news" }, b"hello");
    assert_eq!(got, [deliver(topic), deliver(to_one)]);
    assert_eq!(here.tally().take(Number::Published), 2);
    assert_eq!(there.tally().take(Number::Received), 2);
}

#[test]
fn a_refusal_is_told_and_tried_again() {
    let mut server = Redis7 { password: Some("other"), ..Redis7::default() };
    let mut broker = machine(1);
    broker.start(0);
    let said = states(settle(&mut broker, &mut server, 0, 0));
    let [State::Down { why, again_in }] = &said[..] else { panic!("{said:?}") };
    assert_eq!(why, "WRONGPASS invalid username-password pair");
    assert!(*again_in <= 100);
    server.password = Some("s3cret");
    let due = broker.due().unwrap();
    broker.timer(due);
    assert!(matches!(states(settle(&mut broker, &mut server, 0, due))[..], [State::Up { .. }]));
    server.role = Some("slave");
    let due = broker.contact.next_probe;
    broker.timer(due);
    let said = states(settle(&mut broker, &mut server, 0, due));
    assert!(matches!(&said[..], [State::Down { why, .. }] if why == "not a master"), "{said:?}");
}

#[test]
fn a_secret_is_never_shown() {
    let mut broker = machine(1);
    broker.start(0);
    broker.poll();
    broker.connected(PEER, 0);
    broker.received(PEER, b"-ERR unknown command, with args: AUTH default s3cret\r\n", 0);
    let said = format!("{:?}", std::iter::from_fn(|| broker.poll()).skip(1).collect::<Vec<_>>());
    assert!(said.contains("not shown") && !said.contains("s3cret"), "{said}");
    assert_eq!(format!("{:?}", broker.settings.password), "Secret");
}

#[test]
fn denied_topics_leave_the_others_alone() {
    let mut server = Redis7::default();
    server.denied.insert(b"ws:t:7".to_vec());
    let mut broker = machine(1);
    for n in 0..20 {
        broker.want(n.to_string().as_bytes(), true);
    }
    broker.start(0);
    let said = states(settle(&mut broker, &mut server, 0, 0));
    let [State::Denied { topic, why }, State::Up { topics: 19, away: None }] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!((&topic[..], &why[..]), (&b"7"[..], "NOPERM no permissions"));
}

/// Topics whose histories are followed, and those that are not to be had, of `actions`.
fn followed(actions: Vec<Action>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut follows, mut refused) = (Vec::new(), Vec::new());
    for action in actions {
        match action {
            Action::Follows(topic) => follows.push(topic),
            Action::Page { topic, page: None } => refused.push(topic),
            _ => {}
        }
    }
    (follows, refused)
}

#[test]
fn a_history_that_is_followed_again_before_it_was_given_up_is_told_again() {
    let (mut broker, mut server) = (machine(1), Redis7::default());
    broker.follow(b"a");
    broker.start(0);
    let told = (vec![b"a".to_vec()], Vec::new());
    assert_eq!(followed(settle(&mut broker, &mut server, 0, 0)), told);
    broker.follow(b"a");
    assert_eq!(followed(settle(&mut broker, &mut server, 0, 0)).0.len(), 0, "it is known");
    broker.retain(&mut |_| false);
    broker.follow(b"a");
    assert_eq!(followed(settle(&mut broker, &mut server, 0, 0)), told);
    // What nobody has asked for is nothing to follow.
    broker.received(PEER, b">3\r\n+subscribe\r\n+ws:h:b\r\n:1\r\n", 0);
    assert_eq!(followed(settle(&mut broker, &mut server, 0, 0)).0.len(), 0);
}

#[test]
fn what_a_server_says_of_a_history_is_not_believed_without_reason() {
    let todo = Todo::Read { since: Position::NOWHERE, most: 9 };
    let op = Op::new(b"a", todo, 0);
    let page = |rest: &str| {
        let bytes = format!("*5\r\n$8\r\nan epoch\r\n:7\r\n{rest}");
        let (frame, _) = resp_rs::resp3::parse_frame(bytes.into()).unwrap();
        match op.answer(&frame)? {
            history::Answer::Page(page, _) => Some(page),
            _ => panic!("a page"),
        }
    };
    let empty = page(":7\r\n*0\r\n:1\r\n").expect("a page");
    assert!(!empty.more, "after nothing");
    assert_eq!(page(":8\r\n*0\r\n:0\r\n"), None, "beyond its end");
    assert_eq!(page(":-1\r\n*0\r\n:0\r\n"), None);
    let pushed = |offset: u64| {
        let message = message(2, Kind::Publish { topic: b"a" }, b"x");
        let head = [5, offset, 1].map(u64::to_le_bytes);
        history::pushed(b"a", &[head.as_flattened(), &message].concat().into()).is_some()
    };
    assert_eq!([0, 1, i64::MAX as u64, u64::MAX].map(pushed), [false, true, true, false]);
}

#[test]
fn what_is_no_message_of_ours_is_passed_over_in_a_history() {
    let op = Op::new(b"a", Todo::Read { since: Position::NOWHERE, most: 9 }, 0);
    let good = [&[0; 8][..], &message(2, Kind::Publish { topic: b"a" }, b"x")].concat();
    let page = |top: u64, records: &[&[u8]], more: u8| {
        let head = format!("*5\r\n$8\r\nan epoch\r\n:{top}\r\n:3\r\n*{}\r\n", records.len());
        let records: Vec<_> = records.iter().map(|record| bulk(record)).collect();
        let bytes =
            [head.as_bytes(), &records.concat(), format!(":{more}\r\n").as_bytes()].concat();
        let (frame, _) = resp_rs::resp3::parse_frame(bytes.into()).unwrap();
        match op.answer(&frame) {
            Some(history::Answer::Page(page, unfit)) => {
                let places = page.messages.iter().map(|m| (m.before, m.offset));
                (page.after, places.collect::<Vec<_>>(), page.more, unfit)
            }
            _ => panic!("a page"),
        }
    };
    let records = [&good[..], b"", b"of another version", &good];
    assert_eq!(page(7, &records, 0), (3, vec![(3, 4), (4, 7)], false, 2));
    assert_eq!(page(7, &records[1..3], 1), (5, vec![], true, 2), "it goes on behind them");
    assert_eq!(page(5, &records[1..3], 0), (3, vec![], false, 2), "nothing of ours was missed");
}

#[test]
fn who_waits_for_a_history_that_is_denied_is_told_each_time() {
    let (mut broker, mut server) = (machine(1), Redis7::default());
    server.denied.insert(b"ws:h:a".to_vec());
    broker.start(0);
    for _ in 0..2 {
        broker.follow(b"a");
        let told = (Vec::new(), vec![b"a".to_vec()]);
        assert_eq!(followed(settle(&mut broker, &mut server, 0, 0)), told);
    }
}

#[test]
fn who_waits_hears_at_once_that_an_answer_is_garbage() {
    for key in [None, Some(&b"k"[..])] {
        let (mut broker, mut server) = (machine(7), Redis7::default());
        broker.start(0);
        settle(&mut broker, &mut server, 0, 0);
        let limits = Limits { count: 5, ttl: 1000, bytes: 0 };
        let message = message(7, Kind::Publish { topic: b"a" }, b"x");
        broker.keep(&Keep { topic: b"a", message: &message, key, limits, ticket: 3 }, 1);
        assert!(matches!(broker.poll(), Some(Action::Send { .. })));
        broker.received(PEER, b"+OK\r\n", 1);
        let told = settle(&mut broker, &mut server, 0, 1);
        let timeout = Action::Kept { ticket: 3, outcome: Err(Unkept::Timeout) };
        // With a key, too: it would be sent again and again.
        assert!(told.contains(&timeout) && broker.queue.is_empty(), "{told:?}");
        assert_eq!(broker.contact.tally.get(Number::DroppedCut), 1);
    }
}

#[test]
fn silence_is_found_by_the_probe_and_by_deadlines() {
    let (mut broker, mut server) = (machine(1), Redis7::default());
    broker.start(0);
    broker.timer(2000);
    let said: Vec<_> = std::iter::from_fn(|| broker.poll()).collect();
    assert!(said.contains(&Action::Close { peer: PEER }), "no connection in time");
    let now = broker.due().unwrap();
    broker.timer(now);
    settle(&mut broker, &mut server, 0, now);
    // The server is stopped: the connection stays, and nothing comes.
    let mut due = now;
    loop {
        due = broker.due().unwrap().max(due);
        broker.timer(due);
        let said = states(std::iter::from_fn(|| broker.poll()).collect());
        if let [State::Down { why, .. }] = &said[..] {
            assert_eq!(why, "no answer in time");
            break;
        }
        assert!(due < now + 15_000, "{due}");
    }
}

#[test]
fn what_waits_is_bounded_in_bytes_and_time() {
    let (mut broker, mut server) =
        (with(1, Settings { queue: 1000, ..Settings::default() }), Redis7::default());
    broker.start(0);
    assert_eq!(publish(&mut broker, b"a", &[b'x'; 1000], 0), Err(Refused::TooLarge));
    publish(&mut broker, b"a", &[b'x'; 400], 0).unwrap();
    publish(&mut broker, b"a", &[b'y'; 300], 1500).unwrap();
    assert_eq!(publish(&mut broker, b"a", &[b'z'; 400], 1500), Err(Refused::Full));
    broker.timer(2000);
    settle(&mut broker, &mut server, 0, 2000);
    let due = broker.due().unwrap();
    broker.timer(due);
    settle(&mut broker, &mut server, 0, due);
    let commands = &server.clients[&0].commands;
    let sent: Vec<_> = commands.iter().filter(|line| line.contains("ws:t:a")).collect();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].ends_with("yy"));
    for (number, n) in
        [(Number::DroppedExpired, 1), (Number::DroppedFull, 1), (Number::DroppedTooLarge, 1)]
    {
        assert_eq!(broker.tally().take(number), n, "{number:?}");
    }
}

#[test]
fn garbage_ends_the_connection() {
    for garbage in [
        &b"HTTP/1.1 400 Bad Request\r\n"[..],
        b"$536870913\r\n",
        b"+OK\r\n+OK\r\n",
        b":1\r\n",
        b"\r\n",
        &[b'*', b'1', b'\r', b'\n'].repeat(1000),
    ] {
        let mut broker = machine(1);
        broker.start(0);
        broker.poll();
        broker.connected(PEER, 0);
        broker.received(PEER, garbage, 0);
        let said = states(std::iter::from_fn(|| broker.poll()).collect());
        assert!(matches!(said[..], [State::Down { .. }]), "{:?}", String::from_utf8_lossy(garbage));
    }
}
