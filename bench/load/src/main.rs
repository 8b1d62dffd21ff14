//! Load generator for WebSocket servers. One thread and raw epoll, frames and the answers they
//! must bring are built beforehand: a server is slower than this client in every mode. Prints one
//! line of JSON: what a message (connection, delivery) cost the server's processes in CPU time,
//! how many there were, and how long each took. A wrong answer ends it with an error.

mod broadcast;
mod connect;
mod cpu;
mod echo;
mod frames;
mod idle;
mod poll;
mod reload;
mod report;
mod stream;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Load generator for WebSocket servers.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Every message comes back: cost of a message.
    Echo(echo::Options),
    /// One publisher, many subscribers: cost of a delivery.
    Broadcast(broadcast::Options),
    /// Connections that say nothing: memory of each, fresh and after a message.
    Idle(idle::Options),
    /// Opening handshake, close handshake, end: cost of a connection.
    Connect(connect::Options),
    /// Latency of new HTTP requests before and after a SIGHUP with many connections open.
    Reload(reload::Options),
}

/// What every mode needs to know.
#[derive(Args, Clone, Debug)]
struct Common {
    /// Address of the server.
    #[arg(long)]
    target: SocketAddr,
    /// Request path of the handshake.
    #[arg(long, default_value = "/")]
    path: String,
    /// Processes that count as the server.
    #[arg(long = "pid")]
    pids: Vec<i32>,
    /// TLS (certificates are not verified).
    #[arg(long)]
    tls: bool,
    /// Seconds before measuring begins.
    #[arg(long, default_value_t = 0.2)]
    warmup: f64,
    /// Seconds of measuring.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

impl Common {
    fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }
    fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// Opcode of data frames.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Valid UTF-8 with a multi-byte character here and there.
    Text,
    /// Any bytes.
    Binary,
}

fn main() -> Result<()> {
    let line = match Cli::parse().mode {
        Mode::Echo(options) => echo::run(&options)?,
        Mode::Broadcast(options) => broadcast::run(&options)?,
        Mode::Idle(options) => idle::run(&options)?,
        Mode::Connect(options) => connect::run(&options)?,
        Mode::Reload(options) => reload::run(&options)?,
    };
    println!("{line}");
    Ok(())
}
