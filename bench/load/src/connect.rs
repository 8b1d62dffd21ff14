//! Connect: opening handshake, close handshake, end of TCP, over and over on some connections at a
//! time. The cost is that of a connection's whole life without a message.

use std::time::{Duration, Instant};

use anyhow::{ensure, Result};
use clap::Args;

use crate::cpu::Server;
use crate::frames;
use crate::poll::Poll;
use crate::report::Window;
use crate::stream::{self, Stream};
use crate::Common;

/// Options of the mode.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Connections at a time.
    #[arg(long, default_value_t = 32)]
    connections: usize,
}

#[derive(PartialEq)]
enum Step {
    Connecting,
    Opening,
    Closing,
}

struct Conn {
    stream: Stream,
    step: Step,
    head: Vec<u8>,
    began: Instant,
}

impl Conn {
    fn start(options: &Options, poll: &Poll, slot: usize, number: usize) -> Result<Conn> {
        let stream = Stream::start(options.common.target, number)?;
        poll.add(stream.fd(), slot, true)?;
        Ok(Conn { stream, step: Step::Connecting, head: Vec::new(), began: Instant::now() })
    }
}

/// Runs the mode.
pub fn run(options: &Options) -> Result<serde_json::Value> {
    let common = &options.common;
    ensure!(!common.tls, "this mode has no TLS");
    let server = Server::new(&common.pids)?;
    let (request, close) = (stream::request(&common.path), frames::close());
    let mut poll = Poll::new()?;
    let mut found = Vec::new();
    let mut number = 0;
    let mut conns = Vec::new();
    for slot in 0..options.connections {
        conns.push(Conn::start(options, &poll, slot, number)?);
        number += 1;
    }
    let mut scratch = [0; 4096];
    let mut window = Window::new(server, common.warmup(), common.window())?;
    while window.tick(Instant::now())? {
        poll.wait(Duration::from_secs(1), &mut found)?;
        for ready in &found {
            let conn = &mut conns[ready.index];
            if conn.step == Step::Connecting {
                if ready.writable {
                    ensure!(conn.stream.write(&request)? == request.len(), "request cut");
                    poll.change(conn.stream.fd(), ready.index, false)?;
                    conn.step = Step::Opening;
                }
                continue;
            }
            let got = conn.stream.read(&mut scratch);
            if conn.step == Step::Opening {
                let Some(n) = got? else { continue };
                conn.head.extend_from_slice(&scratch[..n]);
                if let Some(len) = stream::response(&conn.head)? {
                    ensure!(len == conn.head.len(), "bytes behind the response head");
                    ensure!(conn.stream.write(&close)? == close.len(), "close frame cut");
                    conn.head.clear();
                    conn.step = Step::Closing;
                }
                continue;
            }
            match got {
                Ok(None) => {}
                Ok(Some(n)) => conn.head.extend_from_slice(&scratch[..n]),
                Err(_) => {
                    // The server ends TCP (RFC 6455 7.1.1), after its own close frame.
                    let answered = conn.head.starts_with(&[0x88, 2, 3, 0xE8]);
                    ensure!(answered, "the close frame was answered with {:x?}", conn.head);
                    let now = Instant::now();
                    window.done(1, now - conn.began);
                    *conn = Conn::start(options, &poll, ready.index, number)?;
                    number += 1;
                }
            }
        }
    }
    Ok(window.finish("connections")?.into())
}
