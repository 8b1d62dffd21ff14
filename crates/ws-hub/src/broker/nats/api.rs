//! JetStream's questions and answers, in JSON: about the stream, about a message that was stored or is
//! read. What the stream is to be like is here, too.

use std::hash::Hasher;

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use bytes::Bytes;
use serde_json::{json, Value};
use twox_hash::XxHash64;

use super::names::Names;
use crate::broker::settings::Stream;
use crate::history::{KEY_MS, POSITION_MS};

/// In the headers of a message that stands for a history that was dropped.
pub const DROPPED: &str = "Ws-Dropped";
const NANOS: u64 = 1_000_000;

/// Errors that are answered by something else than giving up.
pub const NO_STREAM: u64 = 10059;
pub const NO_MESSAGE: u64 = 10037;
const NAME_TAKEN: u64 = 10058;

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// As of HTTP.
    pub code: u64,
    /// Which error.
    pub number: u64,
    pub why: String,
}

impl Fault {
    /// Whether the server can do nothing now, and has done nothing.
    pub fn is_unavailable(&self) -> bool {
        self.code == 503
    }

    /// Whether the stream has come into being meanwhile.
    pub fn is_taken(&self) -> bool {
        self.number == NAME_TAKEN
    }
}

/// What was asked, or a fault; nothing: it is no answer at all.
pub type Answer<T> = Option<Result<T, Fault>>;

fn parse(bytes: &[u8]) -> Answer<Value> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let error = &value["error"];
    if error.is_null() {
        return Some(Ok(value));
    }
    let why = error["description"].as_str().unwrap_or("refused").to_string();
    let number = |name: &str| error[name].as_u64().unwrap_or(0);
    Some(Err(Fault { code: number("code"), number: number("err_code"), why }))
}

/// A number, as far as anybody counts.
fn whole(value: &Value) -> Option<u64> {
    value.as_i64().and_then(|number| u64::try_from(number).ok())
}

/// A message that was stored.
#[derive(Debug, PartialEq, Eq)]
pub struct Ack {
    pub sequence: u64,
    pub repeated: bool,
}

/// What became of a message.
pub fn ack(bytes: &[u8]) -> Answer<Ack> {
    match parse(bytes)? {
        Ok(value) => {
            let sequence = whole(&value["seq"]).filter(|&sequence| sequence > 0)?;
            let repeated = value["duplicate"].as_bool().unwrap_or(false);
            Some(Ok(Ack { sequence, repeated }))
        }
        Err(fault) => Some(Err(fault)),
    }
}

/// A message that was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub sequence: u64,
    /// Milliseconds since 1970.
    pub time: u64,
    pub headers: Bytes,
    pub data: Bytes,
}

/// What a stream's leader has answered to a question for one message.
pub fn found(bytes: &[u8]) -> Answer<Found> {
    let value = match parse(bytes)? {
        Ok(value) => value,
        Err(fault) => return Some(Err(fault)),
    };
    let message = &value["message"];
    let part = |name: &str| match message[name].as_str() {
        Some(text) => STANDARD.decode(text).ok().map(Bytes::from),
        None => Some(Bytes::new()),
    };
    Some(Ok(Found {
        sequence: whole(&message["seq"]).filter(|&sequence| sequence > 0)?,
        time: millis(message["time"].as_str()?)?,
        headers: part("hdrs")?,
        data: part("data")?,
    }))
}

/// What a stream is.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// Its identity: when it was made, and a word in its description that is replaced when something
    /// of it was lost.
    pub epoch: u64,
    /// Its newest message, of all subjects.
    pub last: u64,
    /// Several messages can be read at once, from any of its servers.
    pub direct: bool,
    config: Value,
}

/// What a server has answered to a question about the stream.
pub fn about(bytes: &[u8]) -> Answer<About> {
    let mut value = match parse(bytes)? {
        Ok(value) => value,
        Err(fault) => return Some(Err(fault)),
    };
    let mut hasher = XxHash64::with_seed(0);
    hasher.write(value["created"].as_str()?.as_bytes());
    hasher.write(value["config"]["description"].as_str().unwrap_or_default().as_bytes());
    Some(Ok(About {
        epoch: hasher.finish().max(1),
        last: whole(&value["state"]["last_seq"])?,
        direct: value["config"]["allow_direct"].as_bool().unwrap_or(false),
        config: value["config"].take(),
    }))
}

/// What the description of a stream of ours says, with a word that no other has.
fn description(word: u64) -> String {
    format!("histories of nginx-lua-websocket, {word:016x}")
}

impl About {
    /// What makes it useless for us; nothing: it is good.
    pub fn fault(&self, names: &Names) -> Option<String> {
        let (stored, sent) = names.stream();
        let has = |list: &Value| {
            list.as_array().is_some_and(|list| list.iter().any(|one| *one == *stored))
        };
        let republish = &self.config["republish"];
        if !has(&self.config["subjects"]) {
            return Some(format!("the stream does not take {stored}"));
        }
        let source = republish["src"].as_str().unwrap_or_default();
        if !["", ">", &stored].contains(&source) || republish["dest"] != *sent {
            return Some(format!("the stream does not republish {stored} to {sent}"));
        }
        let is_headers_only = republish["headers_only"].as_bool().unwrap_or(false);
        is_headers_only.then(|| "the stream republishes headers only".to_string())
    }

    /// What it keeps less of than the topics need; nothing: it keeps enough.
    pub fn narrower(&self, stream: &Stream) -> Option<String> {
        let less = |name: &str, least: u64| match self.config[name].as_i64() {
            Some(has) if has > 0 => (has as u64) < least,
            _ => false,
        };
        let (count, age) = (most_messages(stream), max_age(stream));
        if less("max_msgs_per_subject", count) {
            return Some(format!("max_msgs_per_subject is less than {count}"));
        }
        if less("max_age", stream.ttl * NANOS) {
            return Some(format!("max_age is less than {} s", stream.ttl / 1000));
        }
        if less("max_age", age) {
            let hours = age / NANOS / 3_600_000;
            return Some(format!("max_age is less than {hours} h, so positions end before"));
        }
        None
    }

    /// The question that gives it another identity.
    pub fn renewed(&self, word: u64) -> Vec<u8> {
        let mut config = self.config.clone();
        config["description"] = description(word).into();
        config.to_string().into_bytes()
    }
}

/// One more than any topic keeps: the message before shows that nothing is missing behind it.
fn most_messages(stream: &Stream) -> u64 {
    u64::from(stream.count) + 1
}

/// A topic's position outlives its last message, as the last message itself.
fn max_age(stream: &Stream) -> u64 {
    (stream.ttl + POSITION_MS) * NANOS
}

/// The question that makes a stream.
pub fn create(stream: &Stream, names: &Names, word: u64) -> Vec<u8> {
    let (stored, sent) = names.stream();
    let config = json!({
        "name": stream.name, "description": description(word), "subjects": [stored],
        "retention": "limits", "storage": "file", "discard": "old", "num_replicas": stream.replicas,
        "max_consumers": -1, "max_msgs": -1, "max_bytes": -1,
        "max_msgs_per_subject": most_messages(stream), "max_age": max_age(stream),
        "duplicate_window": KEY_MS * NANOS, "allow_direct": true, "allow_rollup_hdrs": true,
        "republish": { "src": stored, "dest": sent },
    });
    config.to_string().into_bytes()
}

/// Milliseconds since 1970 of a time like `2026-11-26T12:44:11.873927765Z` (RFC 3339), in UTC.
pub fn millis(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|n| n.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':');
    let (hours, minutes) = (time.next()?.parse::<u64>().ok()?, time.next()?.parse::<u64>().ok()?);
    let seconds = time.next()?.parse::<f64>().ok().filter(|s| (0.0..61.0).contains(s))?;
    let is_date = (1970..10_000).contains(&year) && (1..=12).contains(&month);
    if !is_date || !(1..=31).contains(&day) || hours > 23 || minutes > 59 {
        return None;
    }
    // Days of a year that begins in March, whose leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    const TO_1970: u64 = 719_468;
    let whole = ((days - TO_1970) * 24 + hours) * 60 + minutes;
    Some(whole * 60_000 + (seconds * 1000.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::settings::Driver;
    use crate::id::NodeId;

    fn names() -> Names {
        let driver = Driver { node: NodeId(7), max_message: 1, keeps: true, seed: 3 };
        Names::new(b"ws:", &driver)
    }

    fn stream() -> Stream {
        Stream { name: "WS".to_string(), replicas: 1, count: 5, ttl: 1000 }
    }

    #[test]
    fn answers_are_read() {
        let ok = |sequence, repeated| Some(Ok(Ack { sequence, repeated }));
        assert_eq!(ack(br#"{"stream":"WS", "seq":3}"#), ok(3, false));
        assert_eq!(ack(br#"{"stream":"WS","seq":3,"duplicate": true}"#), ok(3, true));
        let fault = ack(br#"{"error":{"code":503,"err_code":10077,"description":"full"},"seq":0}"#);
        let fault = fault.unwrap().unwrap_err();
        assert!(fault.is_unavailable() && fault.why == "full");
        for bad in [&b""[..], b"{}", br#"{"seq":0}"#, br#"{"seq":-1}"#] {
            assert_eq!(ack(bad), None);
        }
        let read = found(
            br#"{"message":{"subject":"p.a","seq":5,"hdrs":"TkE=","data":"bTQ=","time":"1970-01-02T00:00:01.5Z"}}"#,
        );
        let (headers, data) = (Bytes::from_static(b"NA"), Bytes::from_static(b"m4"));
        assert_eq!(read, Some(Ok(Found { sequence: 5, time: 86_401_500, headers, data })));
        assert_eq!(
            found(br#"{"message":{"seq":5,"data":"%","time":"1970-01-02T00:00:01Z"}}"#),
            None
        );
    }

    #[test]
    fn a_stream_of_ours_is_good_and_has_another_identity_when_it_is_renewed() {
        let answer = |config: Vec<u8>, created: &str| {
            let config: Value = serde_json::from_slice(&config).unwrap();
            let answer =
                json!({ "config": config, "created": created, "state": { "last_seq": 9 } });
            about(answer.to_string().as_bytes()).unwrap().unwrap()
        };
        let config = create(&stream(), &names(), 1);
        let one = answer(config.clone(), "t");
        assert_eq!((one.fault(&names()), one.narrower(&stream()), one.last), (None, None, 9));
        assert!(one.direct);
        let renewed = answer(one.renewed(2), "t");
        let other = answer(config, "u");
        assert!(one.epoch != renewed.epoch && one.epoch != other.epoch);
        let wider = Stream { count: 6, ..stream() };
        assert!(one.narrower(&wider).unwrap().contains("less than 7"));
        assert!(one.narrower(&Stream { ttl: 2000, ..stream() }).unwrap().contains("24 h"));
        let foreign = answer(br#"{"subjects":["x"]}"#.to_vec(), "t");
        assert!(foreign.fault(&names()).unwrap().contains("does not take ws.p.>"));
        let deaf = answer(br#"{"subjects":["ws.p.>"]}"#.to_vec(), "t");
        assert!(deaf.fault(&names()).unwrap().contains("does not republish"));
    }

    #[test]
    fn times() {
        assert_eq!(millis("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(millis("2026-11-26T12:44:11.873927765Z"), Some(1_795_697_051_873));
        assert_eq!(millis("2024-02-29T23:59:59.999Z"), Some(1_709_251_199_999));
        for bad in ["", "2026-11-26", "2026-13-01T00:00:00Z", "1969-01-01T00:00:00Z", "xT::Z"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }
}
