//! `websocket_subscribe`: a client is upgraded and subscribed without any Lua code.

use std::rc::Rc;

use ws_hub::since::Since;
use ws_hub::topic::check_topic;
use ws_hub::ConnId;

use super::answers::{answer, refuse};
use super::fetch::once_fetched;
use super::location::{Format, Location, Value};
use super::lookup::{evaluate, location_of};
use crate::hub::{self, OnGap, Wanted};
use crate::ngx::request::Request;
use crate::ngx::respond::{with_body, GoOn};
use crate::session::Each;
use crate::upgrade::{self, alone, Wish};

/// The subprotocol of clients that take lines in JSON.
const CURSOR_JSON: &[u8] = b"cursor.json";

/// Upgrades a request. A body is read before and dropped, since what follows the head would be taken
/// for frames; who is refused need not send it.
pub fn subscribe(r: Request) -> isize {
    if !r.has_body() {
        return Subscribe::go_on(r);
    }
    let location = location_of(r);
    match location.with_rules(protocols(location), |rules| upgrade::check(r, &rules)) {
        Ok(()) => with_body::<Subscribe>(r),
        Err(fault) => refuse(r, alone::refused(r, &fault)),
    }
}

/// The subprotocols that a location chooses from.
fn protocols(location: &Location) -> &'static [&'static [u8]] {
    match location.content.format {
        Format::Raw => &[],
        Format::Json | Format::Auto => &[CURSOR_JSON],
    }
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
        let json = match location.content.format {
            Format::Raw => false,
            Format::Json => true,
            Format::Auto => offers_json(r),
        };
        if json && topics.iter().any(|topic| std::str::from_utf8(topic).is_err()) {
            let err = hub::Error::TopicUtf8.to_string();
            r.info(&format!("websocket_subscribe refused: {err}"));
            return answer(r, 400, &err);
        }
        let optional = |value: Option<*mut Value>| match value {
            None => Some(Vec::new()),
            Some(value) => evaluate(r, value),
        };
        let (since, info) = (optional(location.content.since), optional(location.content.info));
        let (Some(since), Some(info)) = (since, info) else { return 500 };
        if let Err(err) = hub::check_info(&info) {
            let err = err.to_string();
            r.info(&format!("websocket_subscribe refused: {err}"));
            return answer(r, 400, &err);
        }
        // A subscriber whose topic's broker is away is told so, and live all the same.
        once_fetched(r, topics.clone(), move |r, _| upgrade(r, &topics, json, &since, &info))
    }
}

/// Upgrades a request whose topics' histories are up to date here, or cannot be.
fn upgrade(r: Request, topics: &[Vec<u8>], json: bool, since: &[u8], info: &[u8]) -> isize {
    let location = location_of(r);
    let names: Vec<&[u8]> = topics.iter().map(Vec::as_slice).collect();
    let ignores = location.content.ignores_gaps;
    let wanted = |since| Wanted {
        since,
        limit: location.most_resumed(),
        most_topics: location.most_topics(),
        json,
        on_gap: if ignores { OnGap::Ignore } else { OnGap::Close },
        info,
    };
    let since = Since::parse(since, &names).into_iter().map(wanted);
    let wished: Vec<_> = names.iter().copied().zip(since).collect();
    let each = |id| listener(location, topics, id);
    location.with_rules(protocols(location), |rules| {
        let wish = Wish {
            rules,
            options: location.options(),
            extensions: &location.extensions(),
            registered: true,
            topics: &wished,
            alone: Some(&each),
        };
        alone::run(r, wish)
    })
}

fn offers_json(r: Request) -> bool {
    let headers = r.headers();
    let offers = r.handshake(&headers).offered_protocols().any(|name| name == CURSOR_JSON);
    offers
}

thread_local! {
    /// Drops them, for all who do not publish.
    static NOTHING: Rc<Each> = Rc::new(|_, _: &[u8]| {});
}

/// What becomes of a client's messages.
fn listener(location: &Location, topics: &[Vec<u8>], id: ConnId) -> Rc<Each> {
    if location.publish_from_client != 1 {
        return NOTHING.with(Rc::clone);
    }
    let topics = topics.to_vec();
    Rc::new(move |text, data: &[u8]| {
        hub::publish_from_client(&id, &topics, text, data);
    })
}
