//! Idle: connections that say nothing. What each costs the server in resident memory right after
//! its handshake, and what is left of it after it has echoed one message of each given size.

use std::time::{Duration, Instant};

use anyhow::{ensure, Result};
use clap::Args;
use serde_json::{json, Map, Value};

use crate::cpu::Server;
use crate::frames::{self, Burst};
use crate::report::round;
use crate::stream::Stream;
use crate::{Common, Kind};

/// Options of the mode.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Connections.
    #[arg(long, default_value_t = 5000)]
    connections: usize,
    /// Sizes of the messages that each sends, one after another.
    #[arg(long = "message")]
    messages: Vec<usize>,
    /// Compress them (permessage-deflate); then none is longer than 65535 bytes.
    #[arg(long)]
    deflate: bool,
}

/// Runs the mode.
pub fn run(options: &Options) -> Result<Value> {
    let common = &options.common;
    let server = Server::new(&common.pids)?;
    // What the first connections make the server load or allocate for all is not theirs. Few of
    // them talk where a connection keeps its compressors: megabytes that the server has not given
    // back yet would be there for those that are measured, which would seem to need less.
    let talkers = if options.deflate { 2 } else { 50 };
    for index in 0..50 {
        let mut stream = open(options, index)?;
        for size in options.messages.iter().filter(|_| index < talkers) {
            talk(&mut stream, options, *size)?;
        }
    }
    settle(&server)?;
    let before = server.memory()?;

    let mut streams = Vec::with_capacity(options.connections);
    for index in 0..options.connections {
        streams.push(open(options, index)?);
    }
    settle(&server)?;
    let each =
        |memory: u64| round((memory as f64 - before as f64) / 1024.0 / options.connections as f64);
    let mut line = Map::new();
    line.insert("connections".into(), json!(options.connections));
    line.insert("fresh_kb".into(), each(server.memory()?));
    for size in &options.messages {
        for stream in &mut streams {
            talk(stream, options, *size)?;
        }
        settle(&server)?;
        line.insert(format!("after_{size}_kb"), each(server.memory()?));
    }
    // Idle means idle: what open connections cost in CPU time over a second.
    let cpu = server.cpu()?;
    std::thread::sleep(common.window());
    let spent = (server.cpu()? - cpu) as f64 / common.window().as_nanos() as f64;
    line.insert("idle_busy".into(), round(spent));
    Ok(line.into())
}

fn open(options: &Options, index: usize) -> Result<Stream> {
    let common = &options.common;
    let offer = if options.deflate { "permessage-deflate" } else { "" };
    Stream::offering(common.target, index, common.tls, Some(&common.path), offer)
}

fn talk(stream: &mut Stream, options: &Options, size: usize) -> Result<()> {
    if options.deflate {
        exchange_deflated(stream, &frames::deflated(size.try_into()?))
    } else {
        exchange(stream, &frames::bursts(Kind::Binary, size, 1, 1, false).remove(0))
    }
}

/// One compressed message there, and one back.
fn exchange_deflated(stream: &mut Stream, out: &[u8]) -> Result<()> {
    let (mut sent, mut back, mut buf) = (0, Vec::new(), [0; 4096]);
    let limit = Instant::now() + Duration::from_secs(10);
    while frames::length(&back).is_none_or(|len| back.len() < len) {
        if sent < out.len() {
            sent += stream.write(&out[sent..])?;
        }
        stream.flush()?;
        if let Some(n) = stream.read(&mut buf)? {
            back.extend_from_slice(&buf[..n]);
        }
        ensure!(Instant::now() < limit, "no answer for 10 seconds");
    }
    ensure!(back[0] & frames::RSV1 != 0, "the answer is not compressed");
    Ok(())
}

/// One message there and back.
fn exchange(stream: &mut Stream, burst: &Burst) -> Result<()> {
    let (mut sent, mut got) = (0, 0);
    let mut back = vec![0; burst.back.len()];
    let limit = Instant::now() + Duration::from_secs(10);
    while got < back.len() {
        if sent < burst.out.len() {
            sent += stream.write(&burst.out[sent..])?;
        }
        stream.flush()?;
        got += stream.read(&mut back[got..])?.unwrap_or(0);
        ensure!(Instant::now() < limit, "no answer for 10 seconds");
    }
    ensure!(back == burst.back, "wrong answer");
    Ok(())
}

/// Waits until the server has had nothing to do for half a second: what it does not need any more it
/// may give back by and by.
fn settle(server: &Server) -> Result<()> {
    let step = Duration::from_millis(100);
    let (mut last, mut quiet) = (server.cpu()?, 0);
    for _ in 0..100 {
        std::thread::sleep(step);
        let now = server.cpu()?;
        quiet = if now - last < 1_000_000 { quiet + 1 } else { 0 };
        if quiet == 5 {
            break;
        }
        last = now;
    }
    Ok(())
}
