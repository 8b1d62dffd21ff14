//! `websocket_publish`: a topic by HTTP. POST and PUT publish the body; a GET reads what the topic
//! remembers, and a DELETE closes its subscribers, where the directive says so. Where the location has
//! `websocket_subscribe` too, a GET that asks for an upgrade subscribes (subscribe.rs).

use std::rc::Rc;

use ws_hub::history::HistoryError;
use ws_hub::json;
use ws_hub::since::Since;
use ws_proto::handshake::server::{self, Policy};

use super::answers::{answer, refuse, JSON};
use super::fetch::once_fetched;
use super::lookup::{evaluate, location_of};
use super::subscribe::subscribe;
use crate::hub::{self, Error};
use crate::ngx::later;
use crate::ngx::request::Request;
use crate::ngx::respond::{body_of, discard_body, respond, with_body, GoOn};
use crate::ngx::response_headers::set_header;

/// Answers a request of a location with `websocket_subscribe`, `websocket_publish` or both. Returns
/// what a content handler returns.
pub fn handle(r: Request) -> isize {
    let content = &location_of(r).content;
    let subscribes = !content.subscribe.is_empty();
    let upgrade = subscribes && r.method() == b"GET" && (!content.gets || asks_upgrade(r));
    if subscribes && (content.publish.is_none() || upgrade) {
        return subscribe(r);
    }
    if !is_welcome(r) {
        r.info("websocket_publish refused: origin not allowed");
        return refuse(r, 403);
    }
    match r.method() {
        b"POST" | b"PUT" => with_body::<Publish>(r),
        b"GET" if content.gets => without_body(r, fetch_and_read),
        b"DELETE" if content.deletes => without_body(r, close),
        // RFC 9110 15.5.6.
        _ => match set_header(
            r,
            "Allow",
            "allow",
            allowed(subscribes || content.gets, content.deletes),
        ) {
            true => refuse(r, 405),
            false => 500,
        },
    }
}

/// The methods of a location, beside those that publish.
fn allowed(gets: bool, deletes: bool) -> &'static str {
    match (gets, deletes) {
        (false, false) => "POST, PUT",
        (true, false) => "GET, POST, PUT",
        (false, true) => "POST, PUT, DELETE",
        (true, true) => "GET, POST, PUT, DELETE",
    }
}

fn asks_upgrade(r: Request) -> bool {
    let headers = r.headers();
    r.handshake(&headers).asks_upgrade()
}

/// Answers a request whose body nobody needs, for the topic of its location.
fn without_body(r: Request, answer: fn(Request, &[u8]) -> isize) -> isize {
    match (discard_body(r), topic_of(r)) {
        (0, Some(topic)) => answer(r, &topic),
        (0, None) => 500,
        (rc, _) => rc,
    }
}

fn topic_of(r: Request) -> Option<Vec<u8>> {
    evaluate(r, location_of(r).content.publish?)
}

/// Whether a request that publishes comes from a page that may (`websocket_origin`); without an
/// Origin it is no page's.
fn is_welcome(r: Request) -> bool {
    let Some(origins) = &location_of(r).origins else { return true };
    let (headers, patterns) = (r.headers(), origins.patterns());
    let policy = Policy { origins: patterns.as_deref(), ..Policy::default() };
    server::check_origin(&r.handshake(&headers), &policy).is_ok()
}

/// The type of a body that is published as a binary message.
const BINARY: &[u8] = b"application/octet-stream";

/// Publishes the body that has been read, and answers.
struct Publish;

impl GoOn for Publish {
    const WHAT: &'static str = "websocket_publish";

    fn go_on(r: Request) -> isize {
        let Some(topic) = topic_of(r) else { return 500 };
        let Some(body) = body_of(r) else { return 500 };
        let headers = r.headers();
        let header = |name: &str| {
            let is_it = |(given, _): &&(&[u8], &[u8])| given.eq_ignore_ascii_case(name.as_bytes());
            headers.iter().find(is_it).map(|(_, value)| *value)
        };
        // RFC 9110 8.3.1: in any case, parameters behind it or not.
        let binary = header("content-type")
            .and_then(|value| value.get(..BINARY.len()))
            .is_some_and(|start| start.eq_ignore_ascii_case(BINARY));
        if body.is_empty() {
            return answer(r, 400, "no message: the request has no body");
        }
        let key = header("idempotency-key");
        let what = hub::Publish { key, ..hub::Publish::new(!binary, &body) };
        match hub::publish_confirmed(&topic, &what) {
            Ok(Err(receipt)) => published(r, Ok(receipt)),
            Ok(Ok(confirm)) => {
                let confirm = Rc::new(confirm);
                let waits = confirm.clone();
                let go_on = Box::new(move |r: Request, _| Some(published(r, confirm.take()?)));
                later::wait(r, waits.pending().left() + 1, go_on, |waker| {
                    waits.pending().on_answer(Rc::new(move || waker.wake()));
                })
            }
            Err(err) => fail(r, err),
        }
    }
}

/// Answers what became of a message.
fn published(r: Request, receipt: Result<hub::Receipt, Error>) -> isize {
    match receipt {
        Ok(receipt) => respond(r, 202, JSON, receipt.json().as_bytes()),
        Err(err) => fail(r, err),
    }
}

/// Says why not.
fn fail(r: Request, err: Error) -> isize {
    let status = match err {
        _ if err.is_too_large() => 413,
        Error::Topic(_) => {
            // The client may not know the topic, which variables make.
            r.info(&format!("websocket_publish refused: {err}"));
            400
        }
        Error::InvalidUtf8 | Error::Cursor | Error::History(HistoryError::Key) => 400,
        Error::NoHistory => 404,
        Error::Gap(_) => 410,
        Error::BrokerTimeout => 504,
        _ if err.is_misuse() => 400,
        _ => 503,
    };
    answer(r, status, &err.to_string())
}

/// At most so many messages of a history, where the client does not say.
const LIMIT: usize = 100;

/// Answers with what the topic remembers, once this machine knows it.
fn fetch_and_read(r: Request, topic: &[u8]) -> isize {
    let topic = topic.to_vec();
    once_fetched(r, vec![topic.clone()], move |r, fetched| match fetched {
        Ok(()) => read(r, &topic),
        Err(err) => fail(r, err),
    })
}

/// Answers with what the topic remembers.
fn read(r: Request, topic: &[u8]) -> isize {
    let (mut since, mut limit, mut reverse) = (Since::Now, LIMIT, false);
    for pair in r.args().split(|&c| c == b'&') {
        let at = pair.iter().position(|&c| c == b'=').unwrap_or(pair.len());
        let (name, value) = (&pair[..at], pair.get(at + 1..).unwrap_or_default());
        match name {
            b"since" => since = Since::parse(value, &[topic])[0],
            b"limit" => match std::str::from_utf8(value).ok().and_then(|n| n.parse().ok()) {
                Some(n) => limit = n,
                None => return answer(r, 400, "bad limit"),
            },
            b"reverse" => reverse = !matches!(value, b"0" | b"false"),
            _ => {}
        }
    }
    match hub::history(topic, &since, limit, reverse) {
        Ok(history) => show(r, &history, reverse),
        Err(err) => fail(r, err),
    }
}

fn show(r: Request, history: &hub::History, reverse: bool) -> isize {
    match listed(history, reverse) {
        Some(body) => respond(r, 200, JSON, &body),
        None => fail(r, hub::Error::NoMemory),
    }
}

/// The messages as JSON, as many as the client has asked for. None: there is no memory for them.
fn listed(history: &hub::History, reverse: bool) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    put(&mut out, b"{\"messages\":[")?;
    let messages = &history.messages;
    for n in 0..messages.len() {
        let message = &messages[if reverse { messages.len() - 1 - n } else { n }];
        let (typ, cursor) = (if message.text { "text" } else { "binary" }, &message.cursor);
        let head = format!(
            "{}{{\"offset\":{},\"cursor\":\"{}\",\"time\":{},\"type\":\"{typ}\",\"data\":",
            if n > 0 { "," } else { "" },
            message.offset,
            String::from_utf8_lossy(cursor),
            message.time,
        );
        put(&mut out, head.as_bytes())?;
        if !json::payload(&mut out, message.text, &message.data) {
            return None;
        }
        put(&mut out, b"}")?;
    }
    put(&mut out, b"],\"cursor\":\"")?;
    put(&mut out, &history.cursor)?;
    put(&mut out, b"\"}\n")?;
    Some(out)
}

/// None: there is no memory for more.
fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    out.try_reserve(bytes.len()).ok()?;
    out.extend_from_slice(bytes);
    Some(())
}

/// Closes the topic's subscribers, and says how many there were.
fn close(r: Request, topic: &[u8]) -> isize {
    // RFC 6455 7.4.1: an endpoint is going away.
    match hub::close_topic(topic, 1001, "topic closed") {
        Ok(n) => respond(r, 200, JSON, format!("{{\"subscribers\":{n}}}\n").as_bytes()),
        Err(err) => fail(r, err),
    }
}
