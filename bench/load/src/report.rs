//! The measured window, and the line of JSON it becomes.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{json, Map, Value};

use crate::cpu::{self, Server};

/// Counts from the end of the warm-up on.
pub struct Window {
    server: Server,
    began: Instant,
    ends: Instant,
    measuring: bool,
    from: (Vec<u64>, u64),
    count: u64,
    latency: Histogram<u64>,
}

impl Window {
    /// A window that opens after `warmup` and closes after `length` more.
    pub fn new(server: Server, warmup: Duration, length: Duration) -> Result<Window> {
        let began = Instant::now() + warmup;
        let from = (server.cpu_each()?, cpu::own());
        // Three digits from a microsecond to a minute.
        let latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?;
        Ok(Window {
            server,
            began,
            ends: began + length,
            measuring: false,
            from,
            count: 0,
            latency,
        })
    }

    /// Notes the time. False: the window is over.
    pub fn tick(&mut self, now: Instant) -> Result<bool> {
        if !self.measuring && now >= self.began {
            self.ends = now + (self.ends - self.began);
            self.began = now;
            self.measuring = true;
            self.from = (self.server.cpu_each()?, cpu::own());
        }
        Ok(!self.measuring || now < self.ends)
    }

    /// `messages` were completed, each after `latency`.
    pub fn done(&mut self, messages: u64, latency: Duration) {
        if self.measuring {
            self.count += messages;
            self.latency.saturating_record_n(latency.as_nanos() as u64, messages);
        }
    }

    /// The measurement. `unit` names what was counted.
    pub fn finish(self, unit: &str) -> Result<Map<String, Value>> {
        let to = self.server.cpu_each()?;
        let each: Vec<u64> = to.iter().zip(&self.from.0).map(|(to, from)| to - from).collect();
        let spent = each.iter().sum::<u64>() as f64;
        let own = (cpu::own() - self.from.1) as f64;
        let wall = self.began.elapsed().as_nanos() as f64;
        let us = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        let mut line = Map::new();
        line.insert(unit.to_string(), json!(self.count));
        line.insert("cpu_us".into(), round(spent / 1e3 / self.count.max(1) as f64));
        line.insert("rate".into(), round(self.count as f64 / wall * 1e9));
        line.insert("p50_us".into(), round(us(0.5)));
        line.insert("p99_us".into(), round(us(0.99)));
        line.insert("max_us".into(), round(self.latency.max() as f64 / 1e3));
        line.insert("server_busy".into(), round(spent / wall));
        line.insert("client_busy".into(), round(own / wall));
        if each.len() > 1 {
            let shares = each.iter().map(|ns| round(*ns as f64 / spent)).collect();
            line.insert("cpu_shares".into(), Value::Array(shares));
        }
        Ok(line)
    }
}

/// Four significant digits are plenty.
pub fn round(value: f64) -> Value {
    if value == 0.0 || !value.is_finite() {
        return json!(value);
    }
    let scale = 10f64.powi(3 - value.abs().log10().floor() as i32);
    json!((value * scale).round() / scale)
}
