//! What the tests of `Conn` share: making frames, and running bytes through a connection cut in
//! pieces. Each test binary uses a part of it.
#![allow(dead_code)]

use proptest::prelude::*;
use ws_proto::{header, mask, Conn, Error, Event, Masking, Settings, Style};

/// An event with its payload copied out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Frame(bool, u8, Vec<u8>),
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Frame { fin, opcode, payload } => {
                Seen::Frame(fin, opcode, payload.as_ref().to_vec())
            }
            Event::Message { text: true, payload } => Seen::Text(payload.as_ref().to_vec()),
            Event::Message { text: false, payload } => Seen::Binary(payload.as_ref().to_vec()),
            Event::Ping(payload) => Seen::Ping(payload.as_ref().to_vec()),
            Event::Pong(payload) => Seen::Pong(payload.as_ref().to_vec()),
            Event::Close { code, reason } => Seen::Close(code, reason.as_ref().to_vec()),
        }
    }
}

/// Everything that came out, and the error that ended it.
pub type Outcome = (Vec<Seen>, Option<Error>);

pub fn settings(style: Style) -> Settings {
    Settings {
        style,
        masking: Masking::Optional,
        max_frame: 1 << 20,
        max_message: 1 << 20,
        max_fragments: 1000,
    }
}

pub fn frames() -> Settings {
    settings(Style::Frames)
}

pub fn messages() -> Settings {
    settings(Style::Messages)
}

/// A frame on the wire.
pub fn frame(fin: bool, opcode: u8, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    rsv_frame(fin, 0, opcode, payload, key)
}

/// A frame with reserved bits.
pub fn rsv_frame(fin: bool, rsv: u8, opcode: u8, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let len = payload.len() as u64;
    let mut wire = header::encode(fin, rsv, opcode, len, key).as_ref().to_vec();
    mask::extend(key.unwrap_or_default(), payload, &mut wire);
    wire
}

/// Feeds the bytes in one piece.
pub fn run(settings: Settings, bytes: &[u8]) -> Outcome {
    run_cut(settings, bytes, std::iter::empty(), 0)
}

/// Feeds the bytes in pieces of the given sizes, the rest in one. The bits of `direct`, taken in
/// turn, say for each piece whether payloads go through `body_room` and `body_filled`.
pub fn run_cut(
    settings: Settings,
    bytes: &[u8],
    sizes: impl IntoIterator<Item = usize>,
    direct: u8,
) -> Outcome {
    run_conn(&mut Conn::new(settings), bytes, sizes, direct)
}

/// The same with a connection made by the caller.
pub fn run_conn(
    conn: &mut Conn,
    bytes: &[u8],
    sizes: impl IntoIterator<Item = usize>,
    direct: u8,
) -> Outcome {
    let mut seen = Vec::new();
    let mut rest = bytes.to_vec();
    let mut sizes = sizes.into_iter();
    for turn in 0.. {
        if rest.is_empty() {
            break;
        }
        let size = sizes.next().unwrap_or(rest.len()).clamp(1, rest.len());
        let mut piece: Vec<u8> = rest.drain(..size).collect();
        let result = if direct >> (turn % 8) & 1 == 1 {
            feed_direct(conn, &piece, &mut seen)
        } else {
            feed_all(conn, &mut piece, &mut seen)
        };
        if let Err(error) = result {
            return (seen, Some(error));
        }
    }
    (seen, None)
}

/// Feeds one piece until the connection has taken it all.
pub fn feed_all(conn: &mut Conn, piece: &mut [u8], seen: &mut Vec<Seen>) -> Result<(), Error> {
    let mut input = piece;
    while let Some(event) = conn.feed(&mut input)? {
        seen.push(event.into());
    }
    assert!(input.is_empty(), "None although bytes were left");
    Ok(())
}

/// The same, with payload bytes appended to the connection's own buffer as a socket would.
fn feed_direct(conn: &mut Conn, piece: &[u8], seen: &mut Vec<Seen>) -> Result<(), Error> {
    let mut at = 0;
    while at < piece.len() {
        let event = match conn.body_room() {
            Some((buf, missing)) => {
                let (capacity, spare) = (buf.capacity(), buf.capacity() - buf.len());
                assert!(missing > 0 && spare > 0, "no room for {missing} bytes");
                let n = missing.min(spare).min(piece.len() - at);
                buf.extend_from_slice(&piece[at..at + n]);
                assert_eq!(buf.capacity(), capacity, "reading into the room must not grow it");
                at += n;
                conn.body_filled(n)?
            }
            // Headers, a byte at a time: what is fed must not reach into the payload.
            None => {
                let mut byte = [piece[at]];
                at += 1;
                feed_all(conn, &mut byte, seen)?;
                None
            }
        };
        seen.extend(event.map(Seen::from));
    }
    Ok(())
}

/// Piece sizes: mostly a few bytes, at times many.
pub fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![4 => 1..8usize, 1 => 1..5000usize], 0..400)
}

/// A masking key or none.
pub fn any_key() -> impl Strategy<Value = Option<[u8; 4]>> {
    prop::option::of(any::<[u8; 4]>())
}

/// Payloads around every length class, mostly short.
pub fn payload() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![
        8 => 0..40usize,
        2 => 120..135usize,
        1 => 4000..9000usize,
        1 => 65530..65542usize,
    ];
    (len, any::<u8>()).prop_map(|(len, seed)| {
        (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
    })
}
