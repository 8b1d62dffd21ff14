//! `websocket_status`: the hub's numbers as JSON, as Prometheus text, or as a page that draws them. The
//! page's parts come from the same location, as files of their own: nothing is inline, so that a strict
//! Content-Security-Policy may stand.

use std::borrow::Cow;
use std::fmt::Write;

use ws_hub::counters::TABLE;
use ws_hub::samples::{EVERY_MS, KEPT, SAMPLES};

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
    let (kind, body): (&str, Cow<str>) = match (r.args(), form) {
        (b"format=icon", _) => ("image/svg+xml", ICON.into()),
        (b"format=css", _) => ("text/css; charset=utf-8", STYLE.into()),
        (b"format=js", _) => ("application/javascript; charset=utf-8", SCRIPT.into()),
        (b"format=recent", _) => (JSON, recent().into()),
        (b"format=json", _) => (JSON, json().into()),
        (b"format=prometheus", _) => (TEXT, prometheus().into()),
        (b"format=html", _) | (_, Form::Html) => ("text/html; charset=utf-8", PAGE.into()),
        (_, Form::Json) => (JSON, json().into()),
        (_, Form::Prometheus) => (TEXT, prometheus().into()),
    };
    respond(r, 200, kind, body.as_bytes())
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; version=0.0.4";
const PAGE: &str = include_str!("status.html");
const SCRIPT: &str = include_str!("status.js");
/// The demo's pages look the same.
const STYLE: &str =
    concat!(include_str!("../../nginx-conf/html/look.css"), include_str!("status.css"));
const ICON: &str = include_str!("../../nginx-conf/html/icon.svg");

/// What the page draws beside the numbers: the last minutes of some of them, the largest topics and
/// the slowest readers.
fn recent() -> String {
    let (samples, due) = hub::samples();
    let shown = hub::highlights();
    let names = KEPT.iter().map(|&counter| {
        let entry = &TABLE[counter as usize];
        match entry.label {
            Some((_, label)) => format!("\"{}_{label}\"", entry.name),
            None => format!("\"{}\"", entry.name),
        }
    });
    let samples = samples.iter().map(|sample| {
        let values = sample.values.map(|value| value.to_string());
        format!("[{},{}]", sample.number, values.join(","))
    });
    let topics = shown.topics.iter().map(|(name, n)| format!("[{},{n}]", json_text(name)));
    let readers = shown.readers.iter().map(|(id, n)| format!("[\"{id}\",{n}]"));
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(",");
    format!(
        "{{\"every\":{EVERY_MS},\"kept\":{SAMPLES},\"due\":{due},\"names\":[{}],\"samples\":[{}],\
         \"topics\":[{}],\"readers\":[{}]}}\n",
        list(&mut { names }),
        list(&mut { samples }),
        list(&mut { topics }),
        list(&mut { readers }),
    )
}

/// Bytes of somebody else's as a string of JSON (RFC 8259 7).
fn json_text(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Names and labels are our own and need no escapes.
fn json() -> String {
    let mut out = String::from("{");
    let mut open: Option<&str> = None;
    for entry in TABLE {
        let value = hub::sum(entry.counter);
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

fn prometheus() -> String {
    let mut out = String::new();
    let mut last = "";
    for entry in TABLE {
        let value = hub::sum(entry.counter);
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
