//! Reload: with many WebSocket connections open, new HTTP requests come at a steady rate; half way
//! the server's master process gets SIGHUP. Latency counts from when a request was due, so a
//! server that stops accepting for a while is charged for all who came meanwhile.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Result};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{json, Map, Value};

use crate::poll::Poll;
use crate::report::round;
use crate::stream::Stream;
use crate::Common;

/// Options of the mode.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Connections open meanwhile.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// The master process.
    #[arg(long)]
    master: i32,
    /// Request path of a plain GET.
    #[arg(long, default_value = "/ping")]
    ping: String,
    /// Requests a second.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
}

struct Probe {
    stream: Stream,
    due: Instant,
    sent: bool,
    reloaded: bool,
}

/// Runs the mode.
pub fn run(options: &Options) -> Result<Value> {
    let common = &options.common;
    let mut idle = Vec::with_capacity(options.connections);
    for index in 0..options.connections {
        idle.push(Stream::open(common.target, index, common.tls, Some(&common.path))?);
    }
    let request =
        format!("GET {} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n", options.ping);
    let mut poll = Poll::new()?;
    let mut found = Vec::new();
    let mut probes: Vec<Option<Probe>> = Vec::new();
    let empty = Histogram::<u64>::new_with_max(60_000_000, 3)?;
    let mut latency = [empty.clone(), empty];
    let mut scratch = [0; 4096];
    let began = Instant::now();
    let half = common.window() / 2;
    let (mut reloaded, mut finished, mut failed) = (false, 0, 0);
    loop {
        let elapsed = began.elapsed();
        if !reloaded && elapsed >= half {
            reloaded = true;
            // SAFETY: no pointers.
            ensure!(unsafe { libc::kill(options.master, libc::SIGHUP) } == 0, "no such master");
        }
        while (probes.len() as f64) < elapsed.min(common.window()).as_secs_f64() * options.rate {
            let due = began + Duration::from_secs_f64(probes.len() as f64 / options.rate);
            let stream = Stream::start(common.target, probes.len())?;
            poll.add(stream.fd(), probes.len(), true)?;
            probes.push(Some(Probe { stream, due, sent: false, reloaded }));
        }
        if elapsed >= common.window() && finished == probes.len() {
            break;
        }
        if elapsed > common.window() + Duration::from_secs(20) {
            bail!("{} of {} requests were never answered", probes.len() - finished, probes.len());
        }
        poll.wait(Duration::from_millis(1), &mut found)?;
        for ready in &found {
            let slot = &mut probes[ready.index];
            let Some(probe) = slot else { continue };
            if !probe.sent && ready.writable {
                probe.sent = true;
                poll.change(probe.stream.fd(), ready.index, false)?;
                if probe.stream.write(request.as_bytes()).is_ok() {
                    continue;
                }
            }
            match probe.stream.read(&mut scratch) {
                Ok(None) => continue,
                Ok(Some(n)) if scratch[..n].starts_with(b"HTTP/1.1 200") => {
                    let us = probe.due.elapsed().as_micros() as u64;
                    latency[usize::from(probe.reloaded)].saturating_record(us);
                }
                Ok(_) | Err(_) => failed += 1,
            }
            *slot = None;
            finished += 1;
        }
    }
    let mut line = Map::new();
    line.insert("connections".into(), json!(options.connections));
    for (name, histogram) in ["before", "after"].iter().zip(latency) {
        let quantile = |q| round(histogram.value_at_quantile(q) as f64 / 1e3);
        let max = round(histogram.max() as f64 / 1e3);
        let all = json!({ "requests": histogram.len(), "p50_ms": quantile(0.5),
                          "p99_ms": quantile(0.99), "max_ms": max });
        line.insert((*name).into(), all);
    }
    line.insert("failed".into(), json!(failed));
    Ok(line.into())
}
