//! What the fuzz targets do with their bytes, and what must hold whatever these are. The unit
//! tests of ws-proto include this file and replay the seeds through it. A target is a function
//! here, a row of `TARGETS`, a file in fuzz_targets/ and seeds in seeds/.

use ws_proto::ext::{self, deflate, Agreed, Encoder};
use ws_proto::handshake::head::{RequestHead, MAX_HEAD};
use ws_proto::handshake::{client, server};
use ws_proto::utf8::Validator;
use ws_proto::Role;
use ws_proto::{close, header, opcode, Conn, Error, Event, Masking, Settings, Style};

/// What is done with the bytes of one run.
pub type Target = fn(&[u8]);

/// Every target, by name.
pub const TARGETS: [(&str, Target); 5] = [
    ("connection", connection),
    ("handshake", handshake),
    ("offers", offers),
    ("inflate", inflate),
    ("utf8", utf8),
];

const MAX_FRAME: u64 = 1000;
const MAX_MESSAGE: u64 = 3000;

fn settings(style: Style) -> Settings {
    Settings {
        style,
        masking: Masking::Optional,
        max_frame: MAX_FRAME,
        max_message: MAX_MESSAGE,
        max_fragments: 20,
    }
}

fn agreed(takeover: bool) -> deflate::Agreed {
    deflate::Agreed {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: !takeover,
        server_max_window_bits: 15,
        client_max_window_bits: 9,
        level: 1,
        threshold: 0,
    }
}

fn compressed(settings: Settings, takeover: bool) -> Conn {
    Conn::with_extension(settings, &Agreed::Deflate(agreed(takeover)), Role::Server)
}

/// The first byte is a length of pieces, 0 for one piece; the rest is cut in such pieces.
fn pieces(data: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = data.split_first()?;
    Some((if first == 0 { rest.len().max(1) } else { first.into() }, rest))
}

/// An event, copied out: opcode, FIN, payload.
type Seen = (u8, bool, Vec<u8>);

fn seen(event: Event<'_>) -> Seen {
    match event {
        Event::Frame { fin, opcode, payload } => (opcode, fin, payload.as_ref().to_vec()),
        Event::Message { text, payload } => {
            let payload = payload.as_ref().to_vec();
            assert!(payload.len() as u64 <= MAX_MESSAGE);
            assert!(!text || std::str::from_utf8(&payload).is_ok());
            (if text { opcode::TEXT } else { opcode::BINARY }, true, payload)
        }
        Event::Ping(payload) => (opcode::PING, true, payload.as_ref().to_vec()),
        Event::Pong(payload) => (opcode::PONG, true, payload.as_ref().to_vec()),
        Event::Close { code, reason } => {
            assert!(std::str::from_utf8(reason.as_ref()).is_ok());
            assert!(code.is_none_or(close::may_send));
            (opcode::CLOSE, true, close::encode(code, reason.as_ref()))
        }
    }
}

/// Feeds the bytes in pieces; those of payloads through the connection's own buffer if `direct`.
fn run(mut conn: Conn, data: &[u8], piece: usize, direct: bool) -> (Vec<Seen>, Option<Error>) {
    let mut list = Vec::new();
    for piece in data.chunks(piece) {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        while !input.is_empty() {
            let result = match conn.body_room() {
                Some((room, missing)) if direct => {
                    let spare = room.capacity() - room.len();
                    let n = missing.min(spare).min(input.len());
                    assert!(n > 0 && room.capacity() as u64 <= MAX_MESSAGE);
                    let (front, rest) = std::mem::take(&mut input).split_at_mut(n);
                    room.extend_from_slice(front);
                    input = rest;
                    conn.body_filled(n)
                }
                None if direct => {
                    // A header byte by itself, so that no payload is fed.
                    let (front, rest) = std::mem::take(&mut input).split_at_mut(1);
                    input = rest;
                    let mut front = front;
                    match conn.feed(&mut front) {
                        Ok(event) => {
                            list.extend(event.map(seen));
                            continue;
                        }
                        Err(error) => return (list, Some(error)),
                    }
                }
                _ => match conn.feed(&mut input) {
                    Ok(event) => {
                        assert!(event.is_some() || input.is_empty());
                        list.extend(event.map(seen));
                        continue;
                    }
                    Err(error) => return (list, Some(error)),
                },
            };
            match result {
                Ok(event) => list.extend(event.map(seen)),
                Err(error) => return (list, Some(error)),
            }
        }
    }
    (list, None)
}

/// However the bytes come, the events and the verdict are the same.
pub fn connection(data: &[u8]) {
    let Some((piece, wire)) = pieces(data) else { return };
    let deflate = |takeover| compressed(settings(Style::Messages), takeover);
    let kinds: [&dyn Fn() -> Conn; 4] = [
        &|| Conn::new(settings(Style::Frames)),
        &|| Conn::new(settings(Style::Messages)),
        &|| deflate(true),
        &|| deflate(false),
    ];
    for new in kinds {
        let whole = run(new(), wire, wire.len().max(1), false);
        assert_eq!(run(new(), wire, piece, false), whole);
        assert_eq!(run(new(), wire, piece, true), whole);
    }
}

/// Both sides of the opening handshake. The lines of the data are a request's first line and
/// headers, the whole is a response and a URI.
pub fn handshake(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|&b| b == b'\n').map(<[u8]>::trim_ascii_end).collect();
    let (first, rest) = lines.split_first().expect("split yields at least one");
    let headers: Vec<(&[u8], &[u8])> = rest
        .iter()
        .filter_map(|line| {
            let at = line.iter().position(|&b| b == b':')?;
            Some((&line[..at], line[at + 1..].trim_ascii()))
        })
        .collect();
    let request = server::ClientHandshake {
        method: first.split(|&b| b == b' ').next().unwrap_or_default(),
        http11: first.ends_with(b"HTTP/1.1"),
        host: headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"host")),
        headers: &headers,
    };
    let policy = server::Policy {
        protocols: &[b"chat", b"b"],
        origins: Some(&[b"https://example.com", b"*.example.org"]),
        require_origin: false,
    };
    match server::check_strict(&request, &policy) {
        Ok(upgrade) => {
            assert!(upgrade.accept.is_ascii());
            assert!(upgrade.protocol.is_none_or(|name| name == b"chat" || name == b"b"));
        }
        Err(refusal) => {
            assert!(matches!(refusal.status(), 400 | 403 | 426));
            refusal.to_bytes();
        }
    }
    if let Err(refusal) = server::check_lenient(&request) {
        refusal.to_bytes();
    }

    // As bytes, in two parts: what the whole says, the beginning must not have denied.
    let (begun, whole) = (RequestHead::parse(&data[..data.len() / 2]), RequestHead::parse(data));
    match (&begun, &whole) {
        (Ok(Some(early)), late) => assert_eq!(late.as_ref(), Ok(&Some(early.clone()))),
        (Err(_), late) => assert!(late.is_err()),
        (Ok(None), _) => {}
    }
    if let Ok(Some(head)) = whole {
        assert!(head.len <= data.len() && head.len <= MAX_HEAD);
        let _ = server::check_strict(&head.request(), &policy);
    }

    let key = b"dGhlIHNhbXBsZSBub25jZQ==";
    if let Ok(mut opening) = client::Opening::new(b"ws://h") {
        let wishes = client::Wishes {
            key,
            choice: client::Choice::Offered(ext::Config::default()),
            ..Default::default()
        };
        assert!(opening.request(wishes).is_ok());
        let granted = opening.answer(data).map(|grant| grant.is_some());
        assert_eq!(granted.as_ref().is_ok_and(|is_final| *is_final), opening.grant().is_some());
        if let Err(error) = granted {
            error.to_bytes();
        }
    }
    if let Ok(Some((_, len))) = client::ResponseHead::read(data) {
        assert!(len <= data.len() && len <= client::MAX_RESPONSE);
    }
    if let Ok(mut opening) = client::Opening::new(data) {
        let wishes =
            client::Wishes { key, origin: Some(first), headers: rest, ..Default::default() };
        if let Ok(bytes) = opening.request(wishes) {
            // Nothing in it could end the head before its end, or forge a line.
            let ends = bytes.windows(4).filter(|w| w == b"\r\n\r\n").count();
            assert!(ends == 1 && bytes.ends_with(b"\r\n\r\n"));
            let lines = bytes.iter().filter(|&&b| b == b'\n').count();
            assert_eq!(lines, 8 + rest.len());
            let line = bytes.split(|&b| b == b'\r').next().unwrap_or_default();
            assert_eq!(line.iter().filter(|&&b| b == b' ').count(), 2);
        }
    }
}

/// Extension headers, seen by either side. The first two bytes are the settings.
pub fn offers(data: &[u8]) {
    let [flags, bits, rest @ ..] = data else { return };
    let deflate = deflate::Config {
        level: flags >> 4,
        server_no_context_takeover: flags & 1 != 0,
        client_no_context_takeover: flags & 2 != 0,
        server_max_window_bits: bits & 0x0F,
        client_max_window_bits: bits >> 4,
        ..deflate::Config::default()
    };
    let config = ext::Config::from(deflate.clone());
    let lines: Vec<&[u8]> = rest.split(|&b| b == b'\n').collect();
    if let Some((agreed, answer)) = ext::negotiate_server(&lines, &config) {
        // A client that demands nothing takes every answer of ours, for what we hold it to be.
        let Agreed::Deflate(deflate::Agreed { level, .. }) = agreed else { panic!("{agreed:?}") };
        let client = deflate::Config { level, ..deflate::Config::default() };
        let client = ext::Config::from(client);
        assert_eq!(ext::accept_response(&[answer.as_bytes()], &client), Ok(Some(agreed)));
    }
    match ext::accept_response(&lines, &config) {
        Ok(Some(Agreed::Deflate(agreed))) => {
            let (most, least) = (|bits: u8| bits.clamp(8, 15), 8);
            assert!((least..=most(deflate.server_max_window_bits))
                .contains(&agreed.server_max_window_bits));
            assert!((least..=most(deflate.client_max_window_bits))
                .contains(&agreed.client_max_window_bits));
            assert!(agreed.server_no_context_takeover || !deflate.server_no_context_takeover);
        }
        Ok(Some(other)) => panic!("{other:?} was not wanted"),
        Ok(None) => {}
        Err(error) => drop(error.to_string()),
    }
    // Our own offer is always one that we would answer.
    let offer = ext::client_offer(&config).unwrap();
    assert!(ext::negotiate_server(&[offer.as_bytes()], &config).is_some());
}

/// The bytes as compressed messages, and as messages to compress.
pub fn inflate(data: &[u8]) {
    // More would only be slower: byte by byte, each is a call of the inflater.
    let Some((piece, payload)) = pieces(&data[..data.len().min(500)]) else { return };
    let limits = Settings { max_frame: 1 << 20, ..settings(Style::Messages) };
    let frame = |payload: &[u8]| {
        let len = payload.len() as u64;
        [header::encode(true, 0x40, opcode::BINARY, len, None).as_ref(), payload].concat()
    };
    for takeover in [true, false] {
        let new = || compressed(limits, takeover);
        // Twice, and then a good one: what a bad message leaves behind must not matter.
        let good = deflate::compress_once(1, 9, b"a good one").unwrap();
        let wire = [frame(payload), frame(payload), frame(&good)].concat();
        let whole = run(new(), &wire, wire.len(), false);
        assert_eq!(run(new(), &wire, piece, false), whole);

        let mut encoder = deflate::Deflater::new(&agreed(takeover), Role::Client);
        let mut wire = Vec::new();
        let mut expected = Vec::new();
        for message in payload.chunks(piece.max(payload.len() / 8 + 1)) {
            let mut out = Vec::new();
            if !encoder.encode(message, &mut out) {
                out = deflate::compress_once(1, 8, message).unwrap();
                encoder.sent_elsewhere();
            }
            wire.extend(frame(&out));
            expected.push((opcode::BINARY, true, message.to_vec()));
        }
        assert_eq!(run(new(), &wire, piece, false), (expected, None));
    }
}

/// The validator agrees with the standard library, however the text is cut.
pub fn utf8(data: &[u8]) {
    let Some((piece, text)) = pieces(data) else { return };
    let mut validator = Validator::new();
    let mut taken = 0;
    let mut result = Ok(());
    for piece in text.chunks(piece) {
        result = validator.push(piece);
        if result.is_err() {
            break;
        }
        taken += piece.len();
    }
    match std::str::from_utf8(text) {
        Ok(_) => assert!(result.and(validator.finish()).is_ok()),
        Err(error) if error.error_len().is_none() => {
            assert!(result.is_ok() && validator.finish().is_err());
        }
        // Found in the piece that holds the first hopeless byte: at most three on.
        Err(error) => {
            assert!(result.is_err() && taken <= error.valid_up_to() + 3);
        }
    }
}
