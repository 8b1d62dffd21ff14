//! A push server from configuration alone: `websocket_subscribe` upgrades a client and subscribes it,
//! `websocket_publish` takes a message by HTTP. Where a location has both, a GET subscribes.

use std::rc::Rc;

use ws_hub::topic::check_topic;
use ws_hub::ConnId;
use ws_proto::handshake::server::{self, Policy};

use super::handlers::evaluate;
use super::location::{Location, Value};
use super::location_of;
use crate::hub::{self, Error};
use crate::ngx::request::Request;
use crate::ngx::respond::{body_of, discard_body, respond, set_header, with_body, GoOn};
use crate::session::Each;
use crate::upgrade::{self, alone, Rules, Wish};

/// Answers a request of a location with `websocket_subscribe`, `websocket_publish` or both. Returns
/// what a content handler returns.
pub fn handle(r: Request) -> isize {
    let content = &location_of(r).content;
    let subscribes = !content.subscribe.is_empty();
    if subscribes && (content.publish.is_none() || r.method() == b"GET") {
        return subscribe(r);
    }
    if !is_welcome(r) {
        r.info("websocket_publish refused: origin not allowed");
        return refuse(r, 403);
    }
    match r.method() {
        b"POST" | b"PUT" => with_body::<Publish>(r),
        // RFC 9110 15.5.6.
        _ if set_header(
            r,
            "Allow",
            "allow",
            if subscribes { "GET, POST, PUT" } else { "POST, PUT" },
        ) =>
        {
            refuse(r, 405)
        }
        _ => 500,
    }
}

/// Answers a request without its body.
fn refuse(r: Request, status: isize) -> isize {
    match discard_body(r) {
        0 => status,
        rc => rc,
    }
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
        let value = location_of(r).content.publish;
        let Some(topic) = value.and_then(|value| evaluate(r, value)) else { return 500 };
        let Some(body) = body_of(r) else { return 500 };
        let binary = r.headers().iter().any(|(name, value)| {
            // RFC 9110 8.3.1: in any case, parameters behind it or not.
            name.eq_ignore_ascii_case(b"content-type")
                && value.get(..BINARY.len()).is_some_and(|start| start.eq_ignore_ascii_case(BINARY))
        });
        if body.is_empty() {
            return answer(r, 400, "no message: the request has no body");
        }
        match hub::publish(&topic, &hub::Publish::new(!binary, &body)) {
            Ok(receipt) => respond(r, 202, "application/json", receipt.json().as_bytes()),
            Err(err) if err.is_too_large() => answer(r, 413, &err.to_string()),
            Err(err @ Error::Topic(_)) => {
                // The client may not know the topic, which variables make.
                r.info(&format!("websocket_publish refused: {err}"));
                answer(r, 400, &err.to_string())
            }
            Err(err @ Error::InvalidUtf8) => answer(r, 400, &err.to_string()),
            Err(err) => answer(r, 503, &err.to_string()),
        }
    }
}

fn answer(r: Request, status: u32, error: &str) -> isize {
    respond(r, status, "application/json", format!("{{\"error\":\"{error}\"}}\n").as_bytes())
}

/// Upgrades a request. A body is read before and dropped, since what follows the head would be taken
/// for frames; who is refused need not send it.
fn subscribe(r: Request) -> isize {
    if !r.has_body() {
        return Subscribe::go_on(r);
    }
    match with_rules(location_of(r), |rules| upgrade::check(r, &rules)) {
        Ok(()) => with_body::<Subscribe>(r),
        Err(fault) => refuse(r, alone::refused(r, &fault)),
    }
}

/// Calls `work` with the rules by which this location judges an upgrade.
fn with_rules<R>(location: &Location, work: impl FnOnce(Rules<'_>) -> R) -> R {
    let patterns = location.origins.as_ref().and_then(|origins| origins.patterns());
    work(Rules::Strict(Policy {
        origins: patterns.as_deref(),
        require_origin: location.origins.as_ref().is_some_and(|origins| origins.required),
        ..Policy::default()
    }))
}

/// Upgrades the request, whose body has been read, and subscribes the client. The connection then
/// lives by itself; what the client sends goes to its topics if `websocket_publish_from_client` is
/// on, and is dropped otherwise.
struct Subscribe;

impl GoOn for Subscribe {
    const WHAT: &'static str = "websocket_subscribe";

    fn go_on(r: Request) -> isize {
        let location = location_of(r);
        let evaluated = |value: &*mut Value| evaluate(r, *value);
        let topics: Option<Vec<_>> = location.content.subscribe.iter().map(evaluated).collect();
        let Some(topics) = topics else { return 500 };
        if let Some(err) = topics.iter().find_map(|topic| check_topic(topic).err()) {
            r.info(&format!("websocket_subscribe refused: {err}"));
            return answer(r, 400, &err.to_string());
        }
        with_rules(location, |rules| {
            let wish = Wish {
                rules,
                options: location.options(),
                deflate: location.deflate(),
                registered: true,
                topics: &topics,
                alone: Some(&|id| listener(location, &topics, id)),
            };
            alone::run(r, wish)
        })
    }
}

/// What becomes of a client's messages.
fn listener(location: &Location, topics: &[Vec<u8>], id: ConnId) -> Rc<Each> {
    if location.publish_from_client != 1 {
        return Rc::new(|_, _: &[u8]| {});
    }
    let topics = topics.to_vec();
    Rc::new(move |text, data: &[u8]| {
        hub::publish_from_client(&id, &topics, text, data);
    })
}
