//! What compression costs in memory: nothing beyond the limit for any message, and nothing
//! between messages where they do not refer to each other.

mod common;
#[path = "common/counting.rs"]
mod counting;

use common::{feed_all, messages, rsv_frame, run_conn};
use counting::HELD;
use std::thread;
use ws_proto::ext::deflate::{compress_once, Agreed, Deflater};
use ws_proto::ext::{self, Encoder};
use ws_proto::Role;
use ws_proto::{opcode, Conn, Error, Settings};

/// Bytes that the work left allocated, and the most it had at a time. A thread of its own: it has
/// no spare compressor yet.
fn measure<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> (isize, isize) {
    let work = move || {
        let before = HELD.get().0;
        HELD.set((before, before));
        let kept = work();
        let (now, most) = HELD.get();
        drop(kept);
        (now - before, most - before)
    };
    thread::spawn(work).join().expect("a panic while measuring")
}

fn agreed(takeover: bool, bits: u8) -> Agreed {
    Agreed {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: !takeover,
        server_max_window_bits: bits,
        client_max_window_bits: bits,
        level: 6,
        threshold: 0,
    }
}

/// What the thread keeps for all connections, at most.
const SPARES: isize = 350_000;

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    const LIMIT: u64 = 1 << 20;
    let bomb = compress_once(9, 15, &vec![0; 16 << 20]).unwrap();
    assert!(bomb.len() < 17_000, "{}", bomb.len());
    for cut in [usize::MAX, 1000] {
        let limits = Settings { max_message: LIMIT, ..messages() };
        let payload = bomb.clone();
        let (_, most) = measure(move || {
            let mut conn =
                Conn::with_extension(limits, &ext::Agreed::Deflate(agreed(true, 15)), Role::Server);
            let mut wire = rsv_frame(true, 0x40, opcode::BINARY, &payload, None);
            // The wire itself is not the connection's.
            HELD.set((0, 0));
            let mut error = None;
            for piece in wire.chunks_mut(cut) {
                if let Err(e) = feed_all(&mut conn, piece, &mut vec![]) {
                    error = Some(e);
                    break;
                }
            }
            assert_eq!(error, Some(Error::MessageTooLarge));
        });
        // Twice, because the buffer is copied when it grows.
        assert!(most < 2 * LIMIT as isize + SPARES, "{most}");
    }
}

#[test]
fn a_fragment_holds_little_until_the_message_ends() {
    const SIZE: usize = 2 << 20;
    let packed = compress_once(9, 15, &vec![0; SIZE]).unwrap();
    assert!(packed.len() < 2200, "{}", packed.len());
    let limits = Settings { max_message: SIZE as u64, ..messages() };
    // A fragment whose successors never come, and a frame whose last byte does not.
    let (fragment, rest) = packed.split_at(packed.len() - 1);
    let part = rsv_frame(false, 0x40, opcode::BINARY, fragment, None);
    let whole = rsv_frame(true, 0x40, opcode::BINARY, &packed, None);
    let last = rsv_frame(true, 0, opcode::CONTINUATION, rest, None);
    for (first, rest) in [(&part[..], &last[..]), whole.split_at(whole.len() - 1)] {
        for cut in [usize::MAX, 100, 1] {
            let mut conn = Conn::with_extension(
                limits,
                &ext::Agreed::Deflate(agreed(false, 15)),
                Role::Server,
            );
            let mut wire = first.to_vec();
            HELD.set((0, 0));
            for piece in wire.chunks_mut(cut) {
                assert_eq!(feed_all(&mut conn, piece, &mut vec![]), Ok(()));
            }
            let held = HELD.get().0;
            assert!(held < 80_000 + SPARES, "{held}");
            let mut seen = Vec::new();
            feed_all(&mut conn, &mut rest.to_vec(), &mut seen).unwrap();
            assert_eq!(seen.len(), 1);
        }
    }
}

/// One message each way.
fn exchange(bits: u8, takeover: bool) -> (Conn, Deflater) {
    let agreed = agreed(takeover, bits);
    let mut conn =
        Conn::with_extension(messages(), &ext::Agreed::Deflate(agreed.clone()), Role::Server);
    let mut encoder = Deflater::new(&agreed, Role::Server);
    let mut out = Vec::new();
    assert!(encoder.encode(&[b'x'; 5000], &mut out));
    let wire = rsv_frame(true, 0x40, opcode::BINARY, &out, None);
    assert_eq!(run_conn(&mut conn, &wire, [], 0).1, None);
    (conn, encoder)
}

#[test]
fn an_idle_connection_without_context_takeover_holds_nothing() {
    // The first one fills the thread's spares; what the others leave is theirs.
    let (held, _) = measure(|| {
        drop(exchange(15, false));
        let before = HELD.get().0;
        let list: Vec<_> = (0..100).map(|_| exchange(15, false)).collect();
        let own = (HELD.get().0 - before) / 100;
        assert!(own < 1000, "{own} bytes a connection");
        drop(list);
    });
    assert!(held < SPARES, "{held} bytes of spares");
}

#[test]
fn a_context_that_is_taken_over_is_as_small_as_its_window_allows() {
    for (bits, most) in [(9, 155_000), (10, 160_000), (12, 170_000), (15, 285_000)] {
        let (held, _) = measure(move || {
            let agreed = agreed(true, bits);
            let mut encoder = Deflater::new(&agreed, Role::Server);
            assert!(encoder.encode(&[b'x'; 5000], &mut Vec::with_capacity(100)));
            encoder
        });
        let scratch = 16 * 1024;
        println!("compressor, {bits} bits: {} bytes", held - scratch);
        assert!((100_000..most).contains(&(held - scratch)), "{bits} bits: {held} bytes");
        let (both, _) = measure(move || exchange(bits, true));
        println!("inflater, {bits} bits: {} bytes", both - held);
        assert!((32_768..50_000).contains(&(both - held)), "{bits} bits: {}", both - held);
    }
    // A broadcast takes its place, and frees it for others.
    measure(|| {
        let (conn, mut encoder) = exchange(15, true);
        let before = HELD.get().0;
        encoder.sent_elsewhere();
        drop(compress_once(6, 15, b"to all").unwrap());
        assert!((HELD.get().0 - before).abs() < 1000);
        (conn, encoder)
    });
}
