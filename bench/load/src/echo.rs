//! Echo: each connection sends a burst of `depth` messages in one write, waits until all of them
//! are back, and sends the next. A sample of the answers is compared byte for byte; of the others
//! the length counts, so that the client stays cheap.

use std::time::{Duration, Instant};

use anyhow::{ensure, Result};
use clap::Args;
use serde_json::json;

use crate::cpu::Server;
use crate::frames::{self, Burst};
use crate::poll::Poll;
use crate::report::{round, Window};
use crate::stream::Stream;
use crate::{Common, Kind};

/// Different bursts in use: enough to notice answers to another's message.
const VARIANTS: usize = 4;
/// One burst in so many is compared.
const SAMPLE: u64 = 61;

/// Options of the mode.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Payload bytes.
    #[arg(long, default_value_t = 32)]
    size: usize,
    /// Connections.
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Messages in flight on each.
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// Text or binary.
    #[arg(long, value_enum, default_value = "binary")]
    kind: Kind,
    /// The server is no WebSocket server: no handshake, the very bytes come back.
    #[arg(long)]
    raw: bool,
}

struct Conn {
    stream: Stream,
    variant: usize,
    sent: usize,
    got: usize,
    /// Its own copy of the burst under way, if the answer is to be compared: the shared one gets
    /// other numbers meanwhile.
    own: Option<Burst>,
    waits_to_write: bool,
    began: Instant,
}

/// What the connections send: shared, because a client that reads other memory for each of a
/// thousand connections would not be fast.
struct Traffic {
    bursts: Vec<Burst>,
    begun: u64,
    stamp: u32,
}

impl Conn {
    /// Starts the next burst.
    fn begin(&mut self, traffic: &mut Traffic, now: Instant) -> Result<()> {
        self.variant = (self.variant + 1) % VARIANTS;
        self.sent = 0;
        self.got = 0;
        self.began = now;
        let burst = &mut traffic.bursts[self.variant];
        burst.stamp(&mut traffic.stamp);
        self.own = traffic.begun.is_multiple_of(SAMPLE).then(|| burst.clone());
        traffic.begun += 1;
        self.send(traffic)
    }

    fn burst<'a>(&'a self, traffic: &'a Traffic) -> &'a Burst {
        self.own.as_ref().unwrap_or(&traffic.bursts[self.variant])
    }

    /// Sends on.
    fn send(&mut self, traffic: &Traffic) -> Result<()> {
        let burst = self.own.as_ref().unwrap_or(&traffic.bursts[self.variant]);
        while self.sent < burst.out.len() {
            match self.stream.write(&burst.out[self.sent..])? {
                0 => break,
                n => self.sent += n,
            }
        }
        Ok(())
    }

    /// Watches for writing only while something is left to write.
    fn watch(&mut self, poll: &Poll, index: usize, traffic: &Traffic) -> Result<()> {
        let left = self.sent < self.burst(traffic).out.len() || !self.stream.flush()?;
        if left != self.waits_to_write {
            self.waits_to_write = left;
            poll.change(self.stream.fd(), index, left)?;
        }
        Ok(())
    }

    /// Whether the whole answer is there.
    fn receive(&mut self, traffic: &Traffic, scratch: &mut [u8]) -> Result<bool> {
        let len = traffic.bursts[self.variant].back.len();
        let room = &mut scratch[..len - self.got];
        let got = match self.own {
            Some(_) => self.stream.read(room)?,
            None => self.stream.skip(room)?,
        };
        let Some(n) = got else { return Ok(false) };
        if let Some(own) = &self.own {
            let same = room[..n] == own.back[self.got..self.got + n];
            ensure!(same, "wrong answer, at byte {} of a burst", self.got);
        }
        self.got += n;
        Ok(self.got == len)
    }
}

/// Runs the mode.
pub fn run(options: &Options) -> Result<serde_json::Value> {
    let common = &options.common;
    let server = Server::new(&common.pids)?;
    let bursts = frames::bursts(options.kind, options.size, options.depth, VARIANTS, options.raw);
    let mut scratch = vec![0; bursts[0].back.len()];
    let mut traffic = Traffic { bursts, begun: 0, stamp: 0 };
    let path = (!options.raw).then_some(common.path.as_str());
    let mut poll = Poll::new()?;
    let mut found = Vec::new();
    let mut conns = Vec::with_capacity(options.connections);
    for index in 0..options.connections {
        let stream = Stream::open(common.target, index, common.tls, path)?;
        poll.add(stream.fd(), index, false)?;
        conns.push(Conn {
            stream,
            variant: index % VARIANTS,
            sent: 0,
            got: 0,
            own: None,
            waits_to_write: false,
            began: Instant::now(),
        });
    }
    let records = |conns: &[Conn]| conns.iter().map(|conn| conn.stream.records()).sum::<u64>();
    let records_before = records(&conns);
    for (index, conn) in conns.iter_mut().enumerate() {
        conn.begin(&mut traffic, Instant::now())?;
        conn.watch(&poll, index, &traffic)?;
    }

    let depth = options.depth as u64;
    let (mut all, mut compared) = (0, 0);
    let mut window = Window::new(server, common.warmup(), common.window())?;
    while window.tick(Instant::now())? {
        poll.wait(Duration::from_secs(1), &mut found)?;
        for ready in &found {
            let conn = &mut conns[ready.index];
            if ready.writable {
                conn.send(&traffic)?;
            }
            if ready.readable && conn.receive(&traffic, &mut scratch)? {
                let now = Instant::now();
                window.done(depth, now - conn.began);
                all += depth;
                compared += if conn.own.is_some() { depth } else { 0 };
                conn.begin(&mut traffic, now)?;
            }
            conn.watch(&poll, ready.index, &traffic)?;
        }
    }

    let mut line = window.finish("messages")?;
    if common.tls {
        let came = records(&conns) - records_before;
        line.insert("records".into(), round(came as f64 / all.max(1) as f64));
    }
    line.insert("compared".into(), json!(compared));
    ensure!(compared > 0 || all < 4 * SAMPLE * depth, "no answer was compared");
    Ok(line.into())
}
