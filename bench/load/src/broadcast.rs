//! Broadcast: one publisher sends frames, every subscriber must get every one of them, in order.
//! A sample of the subscribers is compared byte for byte; of the others the length counts.

use std::time::{Duration, Instant};

use anyhow::{ensure, Result};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cpu::Server;
use crate::frames::{self, Burst};
use crate::poll::Poll;
use crate::report::Window;
use crate::stream::Stream;
use crate::{Common, Kind};

/// Different messages in use: a lost or a swapped one is noticed.
const VARIANTS: usize = 16;
/// One subscriber in so many is compared.
const SAMPLE: usize = 50;
/// How long everything outstanding may take at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// When the next messages are published.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Pattern {
    /// One, when all subscribers have the last.
    Lockstep,
    /// So many in one write, when all subscribers have all.
    Burst,
    /// At a steady rate, whatever has arrived.
    Rate,
}

/// Options of the mode.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Request path of the publisher's handshake; what it is answered is ignored.
    #[arg(long)]
    publish: String,
    /// Subscribers.
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Payload bytes.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// When to publish.
    #[arg(long, value_enum, default_value = "lockstep")]
    pattern: Pattern,
    /// Messages of a burst.
    #[arg(long, default_value_t = 16)]
    burst: usize,
    /// Messages a second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
}

struct Subscriber {
    stream: Stream,
    bytes: u64,
    /// The opcode that the server chose for messages (nchan has its own idea).
    first_byte: Option<u8>,
}

struct Published {
    /// When message number i was sent, from the first one not yet with everybody on.
    at: Vec<Instant>,
    count: u64,
}

/// Runs the mode.
pub fn run(options: &Options) -> Result<serde_json::Value> {
    let common = &options.common;
    let server = Server::new(&common.pids)?;
    let messages = frames::bursts(Kind::Text, options.size, 1, VARIANTS, false);
    let frame = messages[0].back.len() as u64;
    let mut poll = Poll::new()?;
    let mut found = Vec::new();
    let mut subscribers = Vec::with_capacity(options.subscribers);
    for index in 0..options.subscribers {
        let stream = Stream::open(common.target, index, common.tls, Some(&common.path))?;
        poll.add(stream.fd(), index, false)?;
        subscribers.push(Subscriber { stream, bytes: 0, first_byte: None });
    }
    let publisher = subscribers.len();
    let mut control = Stream::open(common.target, publisher, common.tls, Some(&options.publish))?;
    poll.add(control.fd(), publisher, false)?;

    let mut scratch = vec![0; 64 * 1024];
    let mut published = Published { at: Vec::new(), count: 0 };
    let mut delivered = 0u64;
    let mut window = Window::new(server, common.warmup(), common.window())?;
    let began = Instant::now();
    let mut progress = began;
    let mut publishing = true;
    loop {
        let now = Instant::now();
        publishing = publishing && window.tick(now)?;
        let due = if publishing { due(options, &published, delivered, now - began) } else { 0 };
        if due > 0 {
            publish(&mut control, &messages, &mut published, due)?;
        }
        let all = published.count * subscribers.len() as u64;
        if !publishing && delivered == all {
            break;
        }
        let wait = match options.pattern {
            Pattern::Rate => Duration::from_millis(1),
            _ => Duration::from_secs(1),
        };
        poll.wait(wait, &mut found)?;
        for ready in &found {
            if ready.index == publisher {
                control.read(&mut scratch)?;
                continue;
            }
            let subscriber = &mut subscribers[ready.index];
            let before = subscriber.bytes / frame;
            let compare = ready.index % SAMPLE == 0;
            receive(subscriber, compare, &messages, &mut scratch)?;
            let after = subscriber.bytes / frame;
            let now = Instant::now();
            progress = now;
            for number in before..after {
                ensure!(number < published.count, "a message that was never published");
                window.done(1, now - published.at[number as usize]);
            }
            delivered += after - before;
        }
        ensure!(progress.elapsed() < PATIENCE, "{delivered} of {all} deliveries came");
    }
    let mut line = window.finish("deliveries")?;
    line.insert("published".into(), json!(published.count));
    Ok(line.into())
}

/// How many messages to publish now.
fn due(options: &Options, published: &Published, delivered: u64, elapsed: Duration) -> usize {
    let idle = delivered == published.count * options.subscribers as u64;
    match options.pattern {
        Pattern::Lockstep => usize::from(idle),
        Pattern::Burst if idle => options.burst,
        Pattern::Burst => 0,
        Pattern::Rate => {
            let should = (elapsed.as_secs_f64() * options.rate) as u64;
            should.saturating_sub(published.count) as usize
        }
    }
}

fn publish(
    control: &mut Stream,
    messages: &[Burst],
    published: &mut Published,
    count: usize,
) -> Result<()> {
    let mut bytes = Vec::new();
    let now = Instant::now();
    for _ in 0..count {
        bytes.extend_from_slice(&messages[published.count as usize % VARIANTS].out);
        published.at.push(now);
        published.count += 1;
    }
    let sent = control.write(&bytes)?;
    ensure!(sent == bytes.len() && control.flush()?, "the server does not read its publisher");
    Ok(())
}

fn receive(
    subscriber: &mut Subscriber,
    compare: bool,
    messages: &[Burst],
    scratch: &mut [u8],
) -> Result<()> {
    if !compare {
        subscriber.bytes += subscriber.stream.skip(scratch)?.unwrap_or(0) as u64;
        return Ok(());
    }
    let Some(n) = subscriber.stream.read(scratch)? else { return Ok(()) };
    let frame = messages[0].back.len() as u64;
    for byte in &scratch[..n] {
        let (number, at) = (subscriber.bytes / frame, (subscriber.bytes % frame) as usize);
        let mut expected = messages[number as usize % VARIANTS].back[at];
        if at == 0 {
            expected = *subscriber.first_byte.get_or_insert(*byte);
            ensure!(matches!(expected, 0x81 | 0x82), "not a message: {expected:#x}");
        }
        ensure!(*byte == expected, "message {number} came wrong, at byte {at}");
        subscriber.bytes += 1;
    }
    Ok(())
}
