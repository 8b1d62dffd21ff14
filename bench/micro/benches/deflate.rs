//! zlib-rs as `ext` uses it beside zlib, on JSON: a message compressed and inflated alone, which
//! is what a connection without context takeover pays. In bench/: `cargo bench --bench deflate`

#![allow(missing_docs)] // criterion_group! makes a public function

use criterion::{criterion_group, criterion_main, BenchmarkId, Criterion, Throughput};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::hint::black_box;
use ws_proto::ext::deflate::{compress_once, Agreed};
use ws_proto::ext;
use ws_proto::Role;
use ws_proto::{header, opcode, Conn, Event, Masking, Settings, Style};

const SIZES: [usize; 4] = [256, 1024, 16 * 1024, 256 * 1024];

/// Records with fields that change.
fn json(len: usize) -> Vec<u8> {
    let (mut text, mut state, mut id) = (String::from("["), 12345u64, 0);
    while text.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let name = ["alice", "bob", "carol", "dave"][(state % 4) as usize];
        let (x, n) = ((state % 100_000) as f64 / 1000.0, state % 977);
        text += &format!(r#"{{"id":{id},"user":"{name}","x":{x:.3},"text":"message {n} today"}},"#);
        id += 1;
    }
    text.truncate(len);
    text.into_bytes()
}

fn compress(c: &mut Criterion) {
    for level in [1, 6, 9] {
        let mut group = c.benchmark_group(format!("compress-level{level}"));
        for size in SIZES {
            let data = json(size);
            let mut zlib =
                Compress::new_with_window_bits(Compression::new(level.into()), false, 15);
            let mut out = Vec::with_capacity(2 * size);
            zlib.compress_vec(&data, &mut out, FlushCompress::Sync).unwrap();
            let ours = compress_once(level, 15, &data).unwrap().len();
            println!("level {level}, {size} bytes: zlib-rs {ours}, zlib {}", out.len() - 4);
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new("zlib-rs", size), |b| {
                b.iter(|| compress_once(level, 15, black_box(&data)).unwrap())
            });
            group.bench_function(BenchmarkId::new("zlib", size), |b| {
                b.iter(|| {
                    out.clear();
                    zlib.reset();
                    zlib.compress_vec(black_box(&data), &mut out, FlushCompress::Sync).unwrap();
                    out.to_vec()
                })
            });
        }
    }
}

fn inflate(c: &mut Criterion) {
    let mut group = c.benchmark_group("inflate");
    let settings = Settings {
        style: Style::Messages,
        masking: Masking::Forbidden,
        max_frame: 1 << 20,
        max_message: 1 << 20,
        max_fragments: 1,
    };
    let agreed = Agreed {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
        level: 6,
        threshold: 0,
    };
    let agreed = ext::Agreed::Deflate(agreed);
    for size in SIZES {
        let payload = compress_once(6, 15, &json(size)).unwrap();
        let head = header::encode(true, 0x40, opcode::BINARY, payload.len() as u64, None);
        let mut wire = [head.as_ref(), &payload].concat();
        let mut conn = Conn::with_extension(settings, &agreed, Role::Client);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("zlib-rs-and-connection", size), |b| {
            b.iter(|| {
                let event = conn.feed(&mut wire.as_mut_slice()).unwrap();
                let Some(Event::Message { payload, .. }) = event else { panic!("no message") };
                assert_eq!(payload.len(), size);
            })
        });
        let mut zlib = Decompress::new_with_window_bits(false, 15);
        let data = [&payload[..], b"\0\0\xFF\xFF"].concat();
        let mut out = vec![0; 1 << 20];
        group.bench_function(BenchmarkId::new("zlib", size), |b| {
            b.iter(|| {
                zlib.reset(false);
                zlib.decompress(black_box(&data), &mut out, FlushDecompress::Sync).unwrap();
                assert_eq!(zlib.total_out(), size as u64);
                out[..size].to_vec()
            })
        });
    }
}

criterion_group!(benches, compress, inflate);
criterion_main!(benches);
