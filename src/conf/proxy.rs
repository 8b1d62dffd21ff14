//! `websocket_proxy`: a client is let in once an upstream has let the proxy in, without any Lua code.

use ws_proto::ext::{self, deflate};

use super::answers::refuse;
use super::lookup::{evaluate, location_of};
use super::proxied::Proxied;
use super::time::{heartbeat, limit};
use crate::ngx::request::Request;
use crate::ngx::respond::{with_body, GoOn};
use crate::proxy::{self, Limits};
use crate::upgrade::{self, alone};

/// Asks the upstream for a client. A body is read before and dropped; who is refused need not send it.
pub fn pass(r: Request) -> isize {
    match location_of(r).with_rules(&[], |rules| upgrade::check(r, &rules)) {
        Ok(()) if r.has_body() => with_body::<Pass>(r),
        Ok(()) => Pass::go_on(r),
        Err(fault) => refuse(r, alone::refused(r, &fault)),
    }
}

/// The request's body is here.
struct Pass;

impl GoOn for Pass {
    const WHAT: &'static str = "websocket_proxy";

    fn go_on(r: Request) -> isize {
        let location = location_of(r);
        let Some(proxy) = location.content.proxy.clone() else { return 500 };
        let Proxied { conf, target, host, given } = &*proxy;
        let target = match target {
            Some(target) => evaluate(r, *target),
            None => Some(r.target().to_vec()),
        };
        let (Some(target), Some(host)) = (target, evaluate(r, *host)) else { return 500 };
        let compression = given.compression.then(deflate::Config::default);
        let wanted = proxy::Wanted {
            conf: *conf,
            target,
            host,
            headers: &given.headers,
            protocols: given.protocols,
            upstream_extensions: compression.map_or_else(ext::Config::default, Into::into),
            heartbeat: heartbeat(given.ping.0, given.ping.1),
            options: location.options(),
            extensions: location.extensions(),
            limits: Limits { stuck: limit(location.send_timeout as u64), idle: given.idle },
        };
        proxy::ask(r, wanted)
    }
}
