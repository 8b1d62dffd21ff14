//! A push server from configuration alone: `websocket_subscribe` upgrades a client and subscribes it,
//! `websocket_publish` takes a message by HTTP.

use std::rc::Rc;

use ws_proto::ext;
use ws_proto::handshake::server::{self, Policy};
use ws_proto::Style;

use super::location_of;
use crate::hub::{self, Error, Scope};
use crate::ngx::request::Request;
use crate::ngx::respond::{body_of, discard_body, respond, set_header, switch, Switch, Switched};
use crate::session::{stats, Options, Session};

/// Whether the request may publish at all: POST, or PUT.
pub fn may_publish(r: Request) -> Result<(), isize> {
    match r.method() {
        b"POST" | b"PUT" => Ok(()),
        _ => Err(match discard_body(r) {
            // RFC 9110 15.5.6.
            0 if set_header(r, "Allow", "allow", "POST, PUT") => 405,
            0 => 500,
            rc => rc,
        }),
    }
}

/// The type of a body that is published as a binary message.
const BINARY: &[u8] = b"application/octet-stream";

/// Publishes the body that has been read, and answers.
pub fn publish(r: Request, topic: &[u8]) -> isize {
    let Some(body) = body_of(r) else { return 500 };
    let binary = r.headers().iter().any(|(name, value)| {
        // RFC 9110 8.3.1: in any case, parameters behind it or not.
        name.eq_ignore_ascii_case(b"content-type")
            && value.get(..BINARY.len()).is_some_and(|start| start.eq_ignore_ascii_case(BINARY))
    });
    if body.is_empty() {
        return answer(r, 400, "no message: the request has no body");
    }
    match hub::publish(topic, !binary, &body, None, Scope::Node) {
        Ok((subscribers, seq)) => {
            let body = format!("{{\"subscribers\":{subscribers},\"sequence\":{seq}}}\n");
            respond(r, 202, "application/json", body.as_bytes())
        }
        Err(err @ Error::TooLarge) => answer(r, 413, &err.to_string()),
        Err(err @ (Error::InvalidUtf8 | Error::Topic(_))) => answer(r, 400, &err.to_string()),
        Err(err) => answer(r, 503, &err.to_string()),
    }
}

fn answer(r: Request, status: u32, error: &str) -> isize {
    respond(r, status, "application/json", format!("{{\"error\":\"{error}\"}}\n").as_bytes())
}

/// Upgrades the request and subscribes the client. The connection then lives by itself; what the
/// client sends goes to its topics if `websocket_publish_from_client` is on, and is dropped
/// otherwise.
pub fn subscribe(r: Request, topics: Vec<Vec<u8>>) -> isize {
    let location = location_of(r);
    if let Some(err) = topics.iter().find_map(|t| ws_hub::topic::check_topic(t).err()) {
        return answer(r, 400, &err.to_string());
    }
    let headers = r.headers();
    let request = r.handshake(&headers);
    let accepted = match server::check_strict(&request, &Policy::default()) {
        Ok(accepted) => accepted,
        Err(refusal) => {
            stats::add(stats::Counter::refused(refusal.rule()), 1);
            let rc = discard_body(r);
            if rc != 0 {
                return rc;
            }
            // RFC 6455 4.4: a wrong version is told the right one.
            if refusal.status() == 426
                && !set_header(r, "Sec-WebSocket-Version", "sec-websocket-version", "13")
            {
                return 500;
            }
            return refusal.status() as isize;
        }
    };
    let offers: Vec<&[u8]> = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"sec-websocket-extensions"))
        .map(|(_, value)| *value)
        .collect();
    let agreed = location.deflate().and_then(|config| ext::negotiate_server(&offers, config));
    let (deflate, header) = agreed.unzip();
    let with = Switch {
        accept: &accepted.accept,
        protocol: None,
        extensions: header.as_deref(),
        only: true,
    };
    if switch(r, &with) != Switched::Sent {
        return 500;
    }
    let interval = location.ping_interval as u64;
    let session = Session::accept(
        r,
        Options {
            style: Style::Messages,
            max_frame: location.max_message_size as u64,
            max_message: location.max_message_size as u64,
            recv_timeout: Some(location.recv_timeout as u64),
            send_timeout: Some(location.send_timeout as u64),
            high_water: location.send_buffer,
            slow: location.slow(),
            heartbeat: (interval > 0).then_some((interval, location.ping_timeout as u64)),
            deflate,
            shutdown: location.goodbye(),
        },
    );
    let Some(session) = session else { return -1 };
    let Ok(id) = hub::register(&session) else { return -1 };
    for topic in &topics {
        if hub::subscribe(&id, topic).is_err() {
            return -1;
        }
    }
    let from_client = location.publish_from_client == 1;
    session.run_alone(Rc::new(move |text, data: &[u8]| {
        if from_client {
            hub::publish_from_client(&id, &topics, text, data);
        }
    }));
    r.hold()
}
