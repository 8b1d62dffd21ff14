//! The codec without a socket: what masking, headers, UTF-8 and a whole frame cost by themselves.
//! Each size is one that a frame class or a row of RESULTS.md has.

use std::hint::black_box;

use criterion::{criterion_group, criterion_main, BatchSize, BenchmarkId, Criterion, Throughput};
use ws_proto::header::{self, Head};
use ws_proto::utf8::Validator;
use ws_proto::{mask, opcode, Conn, Lengths, Masking, Settings, Style};

const SIZES: [usize; 4] = [32, 1024, 16 * 1024, 1024 * 1024];
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

fn masking(c: &mut Criterion) {
    let mut group = c.benchmark_group("mask");
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        let mut data = vec![0x55; size];
        group.bench_function(BenchmarkId::new("in place", size), |b| {
            b.iter(|| mask::apply(KEY, 0, black_box(&mut data)));
        });
        let mut out = Vec::with_capacity(size);
        group.bench_function(BenchmarkId::new("copying", size), |b| {
            b.iter(|| {
                out.clear();
                mask::extend(KEY, black_box(&data), &mut out);
            });
        });
    }
}

fn headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("header");
    for len in [32u64, 1024, 1024 * 1024] {
        group.bench_function(BenchmarkId::new("encode", len), |b| {
            b.iter(|| header::encode(true, 0, opcode::BINARY, black_box(len), None));
        });
        let bytes = header::encode(true, 0, opcode::BINARY, len, Some(KEY));
        let bytes = bytes.as_ref();
        group.bench_function(BenchmarkId::new("parse", len), |b| {
            b.iter(|| {
                let bytes = black_box(bytes);
                let head = Head::parse([bytes[0], bytes[1]], 0, Masking::Required)?;
                let len = head.payload_len(&bytes[2..2 + head.ext_len()], Lengths::Minimal)?;
                head.check(len, u64::MAX)?;
                Ok::<_, ws_proto::Error>(len)
            });
        });
    }
}

fn utf8(c: &mut Criterion) {
    let mut group = c.benchmark_group("utf8");
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        for (name, text) in [("ascii", "websocket frames"), ("mixed", "Füße naïve 日本語 ok")]
        {
            let text = text.repeat(size / text.len() + 1);
            let end = (0..=size).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let whole = &text.as_bytes()[..end];
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| {
                    let mut validator = Validator::new();
                    validator.push(black_box(whole))?;
                    validator.finish()
                });
            });
        }
    }
}

/// A masked frame from its bytes to its event, as it lies in a read buffer.
fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for (name, style) in [("frames", Style::Frames), ("messages", Style::Messages)] {
        for size in SIZES {
            let mut frame =
                header::encode(true, 0, opcode::BINARY, size as u64, Some(KEY)).as_ref().to_vec();
            mask::extend(KEY, &vec![0x55; size], &mut frame);
            let mut conn = Conn::new(Settings {
                style,
                masking: Masking::Required,
                max_frame: 16 << 20,
                max_message: 16 << 20,
                max_fragments: 1024,
            });
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter_batched_ref(
                    || frame.clone(),
                    |bytes| conn.feed(&mut bytes.as_mut_slice()).map(|event| event.is_some()),
                    BatchSize::LargeInput,
                );
            });
        }
    }
}

#[allow(missing_docs)]
mod group {
    use super::*;
    criterion_group!(benches, masking, headers, utf8, frames);
}
use group::benches;
criterion_main!(benches);
