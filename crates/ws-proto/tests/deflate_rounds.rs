//! What one side compresses the other reads, for all parameters, however messages are
//! fragmented and bytes are cut; and zlib reads and writes the same.

mod common;
#[path = "common/puff.rs"]
mod puff;

use common::{any_key, cuts, frame, messages, rsv_frame, run_conn, Seen};
use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;
use puff::Puff;
use ws_proto::ext::deflate::{compress_once, Agreed, Deflater};
use ws_proto::ext::{self, Encoder};
use ws_proto::Role;
use ws_proto::{opcode, Conn};

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

fn any_agreed() -> impl Strategy<Value = Agreed> {
    (any::<(bool, bool)>(), 8..16u8, 8..16u8, 1..10u8, prop_oneof![Just(0), 0..300usize]).prop_map(
        |(no_context, server, client, level, threshold)| Agreed {
            server_no_context_takeover: no_context.0,
            client_no_context_takeover: no_context.1,
            server_max_window_bits: server,
            client_max_window_bits: client,
            level,
            threshold,
        },
    )
}

/// Window bits and context takeover of a sender.
fn direction(agreed: &Agreed, sender: Role) -> (u8, bool) {
    match sender {
        Role::Server => (agreed.server_max_window_bits, !agreed.server_no_context_takeover),
        Role::Client => (agreed.client_max_window_bits, !agreed.client_no_context_takeover),
    }
}

fn other(role: Role) -> Role {
    match role {
        Role::Server => Role::Client,
        Role::Client => Role::Server,
    }
}

/// Words from a small set with noise between: matches at every distance.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        4 => prop::sample::select(vec!["{\"id\":", "\"text\":", "message", " der ", "€", "\n"])
            .prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..12),
        1 => (any::<u8>(), 1..600usize).prop_map(|(byte, n)| vec![byte; n]),
    ];
    let words = |n| prop::collection::vec(word.clone(), n).prop_map(|words| words.concat());
    prop_oneof![
        6 => words(0..40usize),
        2 => words(200..1500),
        1 => prop::collection::vec(any::<u8>(), 0..3000),
        1 => Just(Vec::new()),
    ]
}

/// How a message is sent.
#[derive(Clone, Debug)]
enum Way {
    Encoder,
    /// Compressed for many, by a window so many bits smaller than agreed.
    Broadcast(u8),
    Plain,
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![6 => Just(Way::Encoder), 1 => (0..8u8).prop_map(Way::Broadcast), 1 => Just(Way::Plain)]
}

type Message = (Way, Vec<u8>, Vec<(prop::sample::Index, bool)>);

fn any_messages() -> impl Strategy<Value = Vec<Message>> {
    let part = (any::<prop::sample::Index>(), prop::bool::weighted(0.2));
    prop::collection::vec((way(), content(), prop::collection::vec(part, 1..5)), 0..8)
}

/// The message's frames, with pings between them. `start` is the first one's RSV and opcode.
fn fragment(
    start: (u8, u8),
    payload: &[u8],
    parts: &[(prop::sample::Index, bool)],
    key: Option<[u8; 4]>,
    seen: &mut Vec<Seen>,
) -> Vec<u8> {
    let mut ends: Vec<_> = parts.iter().map(|p| p.0.index(payload.len() + 1)).collect();
    ends.sort_unstable();
    *ends.last_mut().unwrap() = payload.len();
    let (mut wire, mut from) = (Vec::new(), 0);
    for (i, (&end, (_, ping))) in ends.iter().zip(parts).enumerate() {
        if *ping {
            wire.extend(frame(true, opcode::PING, b"ping", key));
            seen.push(Seen::Ping(b"ping".to_vec()));
        }
        let (rsv, code) = if i == 0 { start } else { (0, opcode::CONTINUATION) };
        wire.extend(rsv_frame(i + 1 == ends.len(), rsv, code, &payload[from..end], key));
        from = end;
    }
    wire
}

proptest! {
    // Slow in a debug build.
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_sent_is_received(
        agreed in any_agreed(),
        sender in any_role(),
        list in any_messages(),
        key in any_key(),
        cuts in cuts(),
        direct in any::<u8>(),
    ) {
        let (bits, takeover) = direction(&agreed, sender);
        let mut encoder = Deflater::new(&agreed, sender);
        prop_assert_eq!((encoder.window_bits(), encoder.takes_context_over()), (bits, takeover));
        // A second reader, which knows no mercy; and a second connection that shares the thread.
        let mut puff = Puff::new(bits);
        let mut neighbour = Deflater::new(&agreed, sender);
        let (mut wire, mut expected, mut counted) = (Vec::new(), Vec::new(), (0, 0));
        for (way, data, parts) in &list {
            let mut out = b"before".to_vec();
            let compressed = match way {
                Way::Encoder => encoder.encode(data, &mut out),
                Way::Broadcast(less) => {
                    let window = bits.saturating_sub(*less);
                    out.extend(compress_once(agreed.level, window, data).unwrap());
                    encoder.sent_elsewhere();
                    true
                }
                Way::Plain => false,
            };
            neighbour.encode(b"something else that is long enough to be compressed", &mut vec![]);
            prop_assert_eq!(&out[..6], b"before");
            let payload = &out[6..];
            if compressed {
                if matches!(way, Way::Encoder) {
                    prop_assert!(!data.is_empty() && data.len() >= agreed.threshold);
                    counted.0 += data.len() as u64;
                    counted.1 += payload.len() as u64;
                }
                if !takeover || matches!(way, Way::Broadcast(_)) {
                    puff.forget();
                }
                prop_assert_eq!(puff.message(payload), &data[..]);
                wire.extend(fragment((0x40, opcode::BINARY), payload, parts, key, &mut expected));
            } else {
                prop_assert!(payload.is_empty());
                wire.extend(fragment((0, opcode::BINARY), data, parts, key, &mut expected));
            }
            expected.push(Seen::Binary(data.clone()));
        }
        prop_assert_eq!(encoder.compressed_bytes(), counted);
        let mut conn = Conn::with_extension(messages(), &ext::Agreed::Deflate(agreed.clone()), other(sender));
        prop_assert_eq!(run_conn(&mut conn, &wire, cuts, direct), (expected, None));
    }

    /// zlib's own compressor, in its own context.
    #[test]
    fn messages_of_zlib_are_read(
        agreed in any_agreed(),
        sender in any_role(),
        list in any_messages(),
        key in any_key(),
        cuts in cuts(),
    ) {
        let (bits, takeover) = direction(&agreed, sender);
        let level = Compression::new(agreed.level.into());
        let mut zlib = Compress::new_with_window_bits(level, false, bits.max(9));
        let (mut wire, mut expected) = (Vec::new(), Vec::new());
        for (_, data, parts) in &list {
            let mut out = Vec::with_capacity(2 * data.len() + 100);
            zlib.compress_vec(data, &mut out, FlushCompress::Sync).unwrap();
            if !takeover {
                zlib.reset();
            }
            // An empty message after another yields nothing at all.
            let payload = out.strip_suffix(b"\0\0\xFF\xFF").unwrap_or(b"");
            wire.extend(fragment((0x40, opcode::BINARY), payload, parts, key, &mut expected));
            expected.push(Seen::Binary(data.clone()));
        }
        let mut conn = Conn::with_extension(messages(), &ext::Agreed::Deflate(agreed.clone()), other(sender));
        prop_assert_eq!(run_conn(&mut conn, &wire, cuts, 0), (expected, None));
    }

    /// However bad the data, the verdict does not depend on how it is cut, and what comes out
    /// stays within the limit.
    #[test]
    fn noise_is_judged_alike(
        data in content(),
        kind in prop_oneof![Just(opcode::TEXT), Just(opcode::BINARY)],
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        parts in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..5),
        cuts in cuts(),
    ) {
        let agreed = Agreed {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
            level: 6,
            threshold: 0,
        };
        let mut payload = compress_once(6, 15, &data).unwrap();
        let at = at.index(payload.len());
        payload[at] = byte;
        let wire = [
            fragment((0x40, kind), &payload, &parts, None, &mut vec![]),
            fragment((0x40, opcode::BINARY), &compress_once(6, 15, b"and another one").unwrap(), &parts, None, &mut vec![]),
        ]
        .concat();
        let limits = ws_proto::Settings { max_message: 2000, ..messages() };
        let run = |cuts: Vec<usize>| {
            run_conn(&mut Conn::with_extension(limits, &ext::Agreed::Deflate(agreed.clone()), Role::Server), &wire, cuts, 0)
        };
        let whole = run(vec![]);
        for seen in &whole.0 {
            if let Seen::Binary(data) = seen {
                prop_assert!(data.len() <= 2000);
            }
        }
        prop_assert_eq!(run(cuts), whole);
    }
}

/// Bytes in which nothing comes twice but by chance.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
    .collect()
}

#[test]
fn matches_reach_as_far_as_the_window_lets_them_and_no_farther() {
    let noise = noise(70_000);
    for level in 1..=9 {
        // Downwards: a spare compressor of a larger window would be found out.
        for bits in (8..=15u8).rev() {
            let size = 1usize << bits;
            let mut farthest = 0;
            // A piece that comes again after a gap, around every bound the window may have.
            for bound in [size / 2, size - 6, size, size + 1, size + 6, 2 * size] {
                for gap in [bound.saturating_sub(256), bound] {
                    let gap = gap.max(150);
                    let data = [&noise[..gap], &noise[..gap.min(300)]].concat();
                    let mut puff = Puff::new(bits);
                    assert_eq!(puff.message(&compress_once(level, bits, &data).unwrap()), data);
                    farthest = farthest.max(puff.farthest);
                }
            }
            let least = if bits < 9 { 150 } else { size - 262 };
            assert!(farthest >= least, "level {level}, {bits} bits: {farthest} only");
        }
    }
}

#[test]
fn the_window_is_shared_by_messages_where_that_was_agreed() {
    let agreed = |no_context| Agreed {
        server_no_context_takeover: no_context,
        client_no_context_takeover: false,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
        level: 6,
        threshold: 20,
    };
    let message =
        b"{\"event\":\"moved\",\"who\":\"alice\",\"x\":1720,\"y\":33,\"moved\":\"alice\"}";
    let len = |encoder: &mut Deflater| {
        let mut out = Vec::new();
        assert!(encoder.encode(message, &mut out));
        out.len()
    };
    let mut shared = Deflater::new(&agreed(false), Role::Server);
    let (first, second) = (len(&mut shared), len(&mut shared));
    assert!(second < 10 && first > 30, "{first}, {second}");
    shared.sent_elsewhere();
    assert_eq!((len(&mut shared), len(&mut shared)), (first, second));
    let mut alone = Deflater::new(&agreed(true), Role::Server);
    assert_eq!((len(&mut alone), len(&mut alone)), (first, first));
    // The other role sends by the other parameters.
    let mut client = Deflater::new(&agreed(true), Role::Client);
    assert_eq!((len(&mut client), len(&mut client)), (first, second));
}

#[test]
fn what_is_not_worth_it_is_left_alone() {
    let agreed = Agreed {
        server_no_context_takeover: false,
        client_no_context_takeover: true,
        server_max_window_bits: 10,
        client_max_window_bits: 10,
        level: 6,
        threshold: 20,
    };
    let noise = noise(2000);
    for role in [Role::Server, Role::Client] {
        let mut encoder = Deflater::new(&agreed, role);
        let mut out = Vec::new();
        assert!(!encoder.encode(b"", &mut out));
        assert!(!encoder.encode(&[b'x'; 19], &mut out));
        assert!(encoder.encode(&[b'x'; 20], &mut out));
        out.clear();
        assert!(!encoder.encode(&noise, &mut out) && out.is_empty());
        // With a context to keep, a short one is sent a few bytes longer.
        let kept = encoder.encode(&noise[..500], &mut out);
        assert_eq!(kept, role == Role::Server);
        assert!(out.len() < 520);
    }
    // A threshold of nothing does not make something of an empty message.
    let mut encoder = Deflater::new(&Agreed { threshold: 0, ..agreed }, Role::Server);
    assert!(!encoder.encode(b"", &mut vec![]));
}
