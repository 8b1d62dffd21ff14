//! `websocket_status`: the hub's numbers as JSON, as Prometheus text, or as a page that draws them.

use std::fmt::Write;

use ws_hub::counters::Entry;

use crate::hub;
use crate::ngx::request::Request;
use crate::ngx::respond::{discard_body, respond, set_header};

/// The forms of `websocket_status`, in the order of the directive's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One object: numbers by name, or by name and label.
    Json,
    /// Prometheus text exposition format 0.0.4.
    Prometheus,
    /// A page; it asks the same location for `?format=json`.
    Html,
}

/// Answers a request for the numbers. Returns what a content handler returns.
pub fn handle(r: Request, form: Form) -> isize {
    let rc = discard_body(r);
    if rc != 0 {
        return rc;
    }
    if r.method() != b"GET" && r.method() != b"HEAD" {
        return if set_header(r, "Allow", "allow", "GET, HEAD") { 405 } else { 500 };
    }
    let form = match r.args() {
        b"format=json" => Form::Json,
        b"format=prometheus" => Form::Prometheus,
        b"format=html" => Form::Html,
        _ => form,
    };
    let metrics = hub::metrics();
    match form {
        Form::Json => respond(r, 200, "application/json", json(&metrics).as_bytes()),
        Form::Prometheus => {
            respond(r, 200, "text/plain; version=0.0.4", prometheus(&metrics).as_bytes())
        }
        Form::Html => respond(r, 200, "text/html; charset=utf-8", PAGE.as_bytes()),
    }
}

const PAGE: &str = include_str!("status.html");

/// Names and labels are our own and need no escapes.
fn json(metrics: &[(&Entry, u64)]) -> String {
    let mut out = String::from("{");
    let mut open: Option<&str> = None;
    for (entry, value) in metrics {
        match entry.label {
            Some((_, label)) if open == Some(entry.name) => {
                let _ = write!(out, ",\"{label}\":{value}");
            }
            label => {
                if open.take().is_some() {
                    out.push('}');
                }
                if out.len() > 1 {
                    out.push(',');
                }
                let _ = write!(out, "\"{}\":", entry.name);
                match label {
                    Some((_, label)) => {
                        open = Some(entry.name);
                        let _ = write!(out, "{{\"{label}\":{value}");
                    }
                    None => {
                        let _ = write!(out, "{value}");
                    }
                }
            }
        }
    }
    if open.is_some() {
        out.push('}');
    }
    let workers = hub::workers();
    let _ = write!(out, ",\"workers\":[");
    for (i, worker) in workers.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let _ = write!(
            out,
            "{comma}{{\"pid\":{},\"slot\":{},\"open\":{},\"messages_in\":{},\"messages_out\":{},\
             \"bytes_in\":{},\"bytes_out\":{}}}",
            worker.pid,
            worker.slot,
            worker.open,
            worker.messages_in,
            worker.messages_out,
            worker.bytes_in,
            worker.bytes_out,
        );
    }
    out.push_str("]}\n");
    out
}

fn prometheus(metrics: &[(&Entry, u64)]) -> String {
    let mut out = String::new();
    let mut last = "";
    for (entry, value) in metrics {
        let suffix = if entry.gauge { "" } else { "_total" };
        if entry.name != last {
            last = entry.name;
            let kind = if entry.gauge { "gauge" } else { "counter" };
            let _ = write!(
                out,
                "# HELP websocket_{}{suffix} {}\n# TYPE websocket_{}{suffix} {kind}\n",
                entry.name, entry.help, entry.name
            );
        }
        let _ = match entry.label {
            Some((key, label)) => {
                writeln!(out, "websocket_{}{suffix}{{{key}=\"{label}\"}} {value}", entry.name)
            }
            None => writeln!(out, "websocket_{}{suffix} {value}", entry.name),
        };
    }
    out
}
