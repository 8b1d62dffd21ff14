//! `websocket_status`: the hub's numbers as JSON, as Prometheus text, or as a page that draws them. The
//! page's parts come from the same location, as files of their own: nothing is inline, so that a strict
//! Content-Security-Policy may stand.

use std::borrow::Cow;
use std::fmt::Write;

use ws_hub::broker::Number;
use ws_hub::counters::{Entry, TABLE};
use ws_hub::json;
use ws_hub::samples::{EVERY_MS, KEPT, SAMPLES};
use ws_hub::standing::Stands;

use crate::hub::{self, Reached};
use crate::ngx::request::Request;
use crate::ngx::respond::{discard_body, respond};
use crate::ngx::response_headers::set_header;

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

/// With `health=broker` a broker may be away for so many milliseconds.
const MAY_BE_AWAY: u64 = 10_000;

/// Answers a request for the numbers. With `health` the location answers 503 while a broker is away,
/// but not to who asks it for a form. Returns what a content handler returns.
pub fn handle(r: Request, form: Form, health: bool) -> isize {
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
    let asks = r.args().starts_with(b"format=");
    let is_ill = || hub::brokers().iter().any(|broker| broker.away > MAY_BE_AWAY);
    let status = if health && !asks && is_ill() { 503 } else { 200 };
    respond(r, status, kind, body.as_bytes())
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
    let mut out = Vec::new();
    json::string(&mut out, bytes);
    String::from_utf8(out).unwrap_or_default()
}

/// Names and labels of numbers are our own and need no escapes.
fn json() -> String {
    let mut out = String::from("{");
    numbers(&mut out, TABLE.iter().map(|entry| (entry, entry.name, hub::sum(entry.counter))));
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
    out.push_str("],\"brokers\":[");
    for (i, broker) in hub::brokers().iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let _ = write!(
            out,
            "{comma}{{\"name\":{},\"state\":\"{}\",\"seconds\":{},\"worker\":{},",
            json_text(broker.name.as_bytes()),
            word(broker.stands),
            broker.lasts as f64 / 1000.0,
            broker.worker.map_or("null".to_string(), |pid| pid.to_string()),
        );
        numbers(&mut out, of_broker().map(|(entry, name, n)| (entry, name, broker.get(n))));
        out.push('}');
    }
    out.push_str("]}\n");
    out
}

/// Members of an object: numbers by name, or by name and label.
fn numbers<'t>(out: &mut String, all: impl Iterator<Item = (&'t Entry, &'t str, u64)>) {
    let (mut open, mut comma) = (None, "");
    for (entry, name, value) in all {
        match entry.label {
            Some((_, label)) if open == Some(name) => {
                let _ = write!(out, ",\"{label}\":{value}");
                continue;
            }
            _ if open.take().is_some() => out.push('}'),
            _ => {}
        }
        let _ = match entry.label {
            Some((_, label)) => {
                open = Some(name);
                write!(out, "{comma}\"{name}\":{{\"{label}\":{value}")
            }
            None => write!(out, "{comma}\"{name}\":{value}"),
        };
        comma = ",";
    }
    if open.is_some() {
        out.push('}');
    }
}

/// The numbers that there are of each broker, in the table's order: what its row says of their sum,
/// and the name without that of the sum.
fn of_broker() -> impl Iterator<Item = (&'static Entry, &'static str, Number)> {
    TABLE.iter().filter_map(|entry| {
        let shown = Number::SHOWN.iter().find(|(_, counter)| *counter == entry.counter);
        Some((entry, entry.name.strip_prefix("broker_")?, shown?.0))
    })
}

fn word(stands: Stands) -> &'static str {
    match stands {
        Stands::Connecting => "connecting",
        Stands::Connected => "connected",
        Stands::Away => "away",
    }
}

fn prometheus() -> String {
    let mut out = String::new();
    let mut last = "";
    for entry in TABLE {
        if entry.name != last {
            last = entry.name;
            family(&mut out, entry.name, entry.help, entry.gauge);
        }
        let label = entry.label.map(|(key, label)| format!("{key}=\"{label}\""));
        sample(&mut out, entry.name, entry.gauge, label.as_deref(), hub::sum(entry.counter));
    }
    let brokers = hub::brokers();
    if !brokers.is_empty() {
        of_each(&mut out, &brokers);
    }
    out
}

/// The numbers of each broker. Their names are other than those of the sums, which would count twice.
fn of_each(out: &mut String, brokers: &[Reached]) {
    let label = |broker: &Reached| format!("broker=\"{}\"", label_text(&broker.name));
    let away = "link_away_seconds";
    family(out, away, "For how long the broker has not been there; 0: it is.", true);
    for broker in brokers {
        sample(out, away, true, Some(&label(broker)), broker.away.div_ceil(1000));
    }
    let mut last = "";
    for (entry, name, number) in of_broker() {
        let link = format!("link_{name}");
        if name != last {
            last = name;
            family(out, &link, &format!("Of each broker: {}", entry.help), entry.gauge);
        }
        for broker in brokers {
            let more = entry.label.map(|(key, label)| format!(",{key}=\"{label}\""));
            let labels = label(broker) + &more.unwrap_or_default();
            sample(out, &link, entry.gauge, Some(&labels), broker.get(number));
        }
    }
}

fn family(out: &mut String, name: &str, help: &str, gauge: bool) {
    let (suffix, kind) = if gauge { ("", "gauge") } else { ("_total", "counter") };
    let _ = write!(
        out,
        "# HELP websocket_{name}{suffix} {help}\n# TYPE websocket_{name}{suffix} {kind}\n"
    );
}

fn sample(out: &mut String, name: &str, gauge: bool, labels: Option<&str>, value: u64) {
    let suffix = if gauge { "" } else { "_total" };
    let _ = match labels {
        Some(labels) => writeln!(out, "websocket_{name}{suffix}{{{labels}}} {value}"),
        None => writeln!(out, "websocket_{name}{suffix} {value}"),
    };
}

/// A name of the configuration's as a label's value, which has three escapes.
fn label_text(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
