//! tungstenite and this crate judge the same bytes alike, and read what the other writes.
//! Frames without extensions: tungstenite has none.

mod common;

use common::{any_key, cuts, frame, messages, payload, run, run_cut, Outcome, Seen};
use proptest::prelude::*;
use std::io::{self, Cursor, Read, Write};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};
use ws_proto::{close, opcode, Masking, Settings};

/// Gives bytes, and keeps what is written.
struct Pipe {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.input.read(buf)
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.output.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn socket(role: Role, input: Vec<u8>, settings: &Settings) -> WebSocket<Pipe> {
    let pipe = Pipe { input: Cursor::new(input), output: Vec::new() };
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(settings.max_message as usize))
        .max_frame_size(Some(settings.max_frame as usize));
    WebSocket::from_raw_socket(pipe, role, Some(config))
}

fn seen(message: Message) -> Seen {
    match message {
        Message::Text(text) => Seen::Text(text.as_bytes().to_vec()),
        Message::Binary(data) => Seen::Binary(data.to_vec()),
        Message::Ping(data) => Seen::Ping(data.to_vec()),
        Message::Pong(data) => Seen::Pong(data.to_vec()),
        Message::Close(None) => Seen::Close(None, vec![]),
        Message::Close(Some(frame)) => {
            Seen::Close(Some(frame.code.into()), frame.reason.as_bytes().to_vec())
        }
        Message::Frame(frame) => panic!("a raw frame: {frame}"),
    }
}

/// What tungstenite makes of the bytes, and whether it refused them.
fn theirs(role: Role, settings: &Settings, bytes: &[u8]) -> (Vec<Seen>, bool) {
    let mut socket = socket(role, bytes.to_vec(), settings);
    let mut list = Vec::new();
    loop {
        match socket.read() {
            // A close code that may not be sent is told as 1002, in its own words.
            Ok(Message::Close(Some(frame))) if frame.reason == "Protocol violation" => {
                return (list, true)
            }
            Ok(message @ Message::Close(_)) => {
                list.push(seen(message));
                return (list, false);
            }
            Ok(message) => list.push(seen(message)),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (list, false)
            }
            Err(_) => return (list, true),
        }
    }
}

fn ours(settings: Settings, bytes: &[u8]) -> (Vec<Seen>, bool) {
    let (list, error): Outcome = run(settings, bytes);
    (list, error.is_some())
}

/// Whole frames, of which a few break a rule.
fn frames(masked: bool) -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        6 => "[a-zé€😀]{0,30}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..6),
        1 => Just("€".as_bytes()[..2].to_vec()),
    ];
    let data = prop_oneof![
        4 => (Just(opcode::TEXT), text.clone()),
        2 => (Just(opcode::BINARY), payload()),
        5 => (Just(opcode::CONTINUATION), text),
    ];
    let control = (prop::sample::select(vec![opcode::PING, opcode::PONG]), payload());
    let codes = vec![999, 1000, 1001, 1005, 1006, 1011, 1015, 2999, 3000, 4999, 5000];
    let closing = (prop::sample::select(codes), prop::collection::vec(0x60..0x7Fu8, 0..20))
        .prop_map(|(code, reason)| (opcode::CLOSE, close::encode(Some(code), &reason)));
    let one = prop_oneof![
        30 => data,
        8 => control.prop_map(|(code, data)| (code, data[..data.len().min(126)].to_vec())),
        1 => closing,
        1 => (prop::sample::select(vec![3, 7, 8, 11, 15]), prop::collection::vec(any::<u8>(), 0..4)),
    ];
    let one = (one, any::<[u8; 4]>(), prop::bool::weighted(0.6), prop::bool::weighted(0.02));
    prop::collection::vec(one, 0..12).prop_map(move |list| {
        list.into_iter()
            .flat_map(|((code, data), key, fin, odd)| {
                let key = (masked != odd).then_some(key);
                frame(fin || opcode::is_control(code), code, &data, key)
            })
            .collect()
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let control = || prop::collection::vec(any::<u8>(), 0..126);
    prop_oneof![
        ".{0,80}".prop_map(Message::text),
        payload().prop_map(Message::binary),
        control().prop_map(|data| Message::Ping(data.into())),
        control().prop_map(|data| Message::Pong(data.into())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn frames_of_a_client_are_judged_alike(wire in frames(true)) {
        let settings = Settings { masking: Masking::Required, ..messages() };
        prop_assert_eq!(ours(settings, &wire), theirs(Role::Server, &settings, &wire));
    }

    #[test]
    fn frames_of_a_server_are_judged_alike(wire in frames(false)) {
        let settings = Settings { masking: Masking::Forbidden, ..messages() };
        prop_assert_eq!(ours(settings, &wire), theirs(Role::Client, &settings, &wire));
    }

    #[test]
    fn limits_are_judged_alike(wire in frames(true)) {
        let settings = Settings {
            masking: Masking::Required,
            max_frame: 126,
            max_message: 130,
            ..messages()
        };
        prop_assert_eq!(ours(settings, &wire), theirs(Role::Server, &settings, &wire));
    }

    #[test]
    fn what_tungstenite_writes_is_read(
        list in prop::collection::vec(any_message(), 0..6),
        role in prop_oneof![Just(Role::Server), Just(Role::Client)],
        cuts in cuts(),
        direct in any::<u8>(),
    ) {
        let masking =
            if role == Role::Client { Masking::Required } else { Masking::Forbidden };
        let settings = Settings { masking, ..messages() };
        let mut socket = socket(role, vec![], &settings);
        let mut expected: Vec<_> = list.iter().cloned().map(seen).collect();
        for message in list {
            socket.send(message).unwrap();
        }
        let bye = CloseFrame { code: 1000.into(), reason: "done".into() };
        socket.close(Some(bye)).unwrap();
        expected.push(Seen::Close(Some(1000), b"done".to_vec()));
        let wire = &socket.get_ref().output;
        prop_assert_eq!(run_cut(settings, wire, cuts, direct), (expected, None));
    }

    #[test]
    fn what_we_write_tungstenite_reads(
        list in prop::collection::vec((any::<bool>(), payload()), 0..6),
        key in any_key(),
    ) {
        let (mut wire, mut expected) = (Vec::new(), Vec::new());
        for (fin, data) in list {
            if fin {
                wire.extend(frame(true, opcode::BINARY, &data, key));
            } else {
                wire.extend(frame(false, opcode::BINARY, &data[..data.len() / 2], key));
                wire.extend(frame(true, opcode::CONTINUATION, &data[data.len() / 2..], key));
            }
            expected.push(Seen::Binary(data));
        }
        let role = if key.is_some() { Role::Server } else { Role::Client };
        prop_assert_eq!(theirs(role, &messages(), &wire), (expected, false));
    }
}
