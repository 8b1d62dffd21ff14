//! What holds whatever a broker's server sends: see `common/broker.rs`.

#[path = "common/broker.rs"]
mod broker;

use proptest::collection::vec;
use proptest::prelude::{any, prop_oneof, proptest, Just, ProptestConfig, Strategy};

#[test]
fn seeds_hold() {
    for (run, name) in [(broker::run as fn(&[u8]), "broker"), (broker::run_at_nats, "nats")] {
        let seeds = format!("{}/../../fuzz/seeds/{name}", env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(seeds).expect("seeds") {
            run(&std::fs::read(entry.expect("a readable folder").path()).expect("a seed"));
        }
    }
}

/// What a server says: Redis, and NATS.
const WORDS: [&[&[u8]]; 2] = [
    &[
        b">3\r\n$7\r\nmessage\r\n$6\r\nws:t:a\r\n$1\r\nx\r\n",
        b">3\r\n$11\r\nunsubscribe\r\n$6\r\nws:t:a\r\n:0\r\n",
        b">3\r\n$9\r\nsubscribe\r\n$6\r\nws:t:a\r\n:0\r\n",
        b"-NOPERM no\r\n",
        b"-NOSCRIPT no\r\n",
        b"*0\r\n",
        b"*1\r\n$6\r\nabcdef\r\n",
        b"*3\r\n$8\r\nepoch...\r\n:5\r\n:0\r\n",
        b"$21\r\nmaster_replid:ghijkl\n\r\n",
        b">3\r\n$9\r\nsubscribe\r\n$6\r\nws:h:a\r\n:0\r\n",
        b">3\r\n$7\r\nmessage\r\n$6\r\nws:h:a\r\n$24\r\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\r\n",
        b">3\r\n$12\r\nsunsubscribe\r\n$11\r\nws:t:{460}:a\r\n:0\r\n",
        b"-MOVED 1 b:7\r\n",
        b"-ASK 1 b:7\r\n",
        b"-TRYAGAIN no\r\n",
        b"-CLUSTERDOWN no\r\n",
        b"+PONG\r\n",
        // The map: one server has it all.
        b"*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$1\r\nb\r\n:7\r\n$1\r\ny\r\n",
        b"$16\r\ncluster_state:ok\r\n",
        b"$18\r\ncluster_state:fail\r\n",
        b":1\r\n",
        b"$536870912\r\n",
        b">3\r\n$7\r\nmessage\r\n$6\r\nws:all\r\n$5\r\n\x01\x08\0\0\0\r\n",
    ],
    &[
        b"PONG\r\n",
        b"-ERR 'Permissions Violation for Subscription to \"ws.l.a\"'\r\n",
        b"-ERR 'Permissions Violation for Publish to \"ws.p.a\"'\r\n",
        b"-ERR 'Slow Consumer'\r\n",
        b"INFO {\"version\":\"2.9.1\",\"max_payload\":10,\"ldm\":true,\"connect_urls\":[\"a:4222\"]}\r\n",
        b"MSG ws.t.a 1 1\r\nx\r\n",
        b"MSG ws.all 1 5\r\n\x01\x08\0\0\0\r\n",
        b"HMSG ws.l.a 1 71 71\r\nNATS/1.0\r\nNats-Stream: WS\r\nNats-Sequence: 5\r\nNats-Last-Sequence: 0\r\n\r\n\r\n",
        b"HMSG ws.l.a 1 86 86\r\nNATS/1.0\r\nNats-Stream: WS\r\nNats-Sequence: 3\r\nNats-Last-Sequence: 0\r\nWs-Dropped: 1\r\n\r\n\r\n",
        b"HMSG ws.r.00000007.0000000000000005.2 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
        b"HMSG ws.r.00000007.0000000000000005.3 1 16 16\r\nNATS/1.0 204\r\n\r\n\r\n",
        b"MSG ws.r.00000007.0000000000000005.2 1 9\r\n{\"seq\":4}\r\n",
        b"MSG ws.r.00000007.0000000000000005.3 1 9\r\n{\"seq\":4}\r\n",
        b"MSG ws.r.00000007.0000000000000005.2 1 51\r\n{\"message\":{\"seq\":4,\"time\":\"2026-11-26T12:44:11Z\"}}\r\n",
        b"MSG ws.r.00000007.0000000000000005.3 1 51\r\n{\"message\":{\"seq\":4,\"time\":\"2026-11-26T12:44:11Z\"}}\r\n",
        b"MSG ws.r.00000007.0000000000000005.4 1 51\r\n{\"message\":{\"seq\":4,\"time\":\"2026-11-26T12:44:11Z\"}}\r\n",
        b"MSG ws.r.00000007.0000000000000005.2 1 28\r\n{\"error\":{\"err_code\":10037}}\r\n",
        b"MSG ws.t.a 1 99999999\r\n",
    ],
];

/// Pieces of it, so that some is understood.
fn piece(kind: usize) -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<Vec<u8>> = WORDS[kind].iter().map(|word| word.to_vec()).collect();
    let said = (0..3u8, 0..words.len()).prop_map(move |(who, n)| {
        let mut step = vec![7 + 8 * who, words[n].len() as u8];
        step.extend(&words[n]);
        step
    });
    let keep = prop_oneof![
        Just(vec![5, 4, b'a', b'b', b'c', b'd']),
        Just(vec![5, 5, b'a', b'b', b'c', b'd', b'e']),
        Just(vec![5, 3, b'a', b'b', b'c']),
        Just(vec![5, 2, b'a', b'b']),
    ];
    let want = Just(vec![3, 2, b'a', b'b']);
    prop_oneof![
        said,
        keep,
        want,
        Just(vec![0, 0]),
        Just(vec![2, 0]),
        Just(vec![6, 0]),
        Just(vec![14, 0]),
        vec(any::<u8>(), 2..40)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_redis_does_harm(pieces in vec(piece(0), 0..60)) {
        broker::run(&[vec![0, 0, 6, 0, 0, 0, 0, 0, 6, 0, 14, 0], pieces.concat()].concat());
    }

    #[test]
    fn no_nats_does_harm(pieces in vec(piece(1), 0..60)) {
        broker::run_at_nats(&[vec![0, 0, 6, 0], pieces.concat()].concat());
    }
}
