//! The natives behind `websocket.proxy` while the upstream is asked: which headers go on, whether the client
//! stays meanwhile, whom an `upstream` block chooses, and what variables tell of those that were asked.

use crate::lua::vm::entry::{Args, Object, Outcome, Value, NOT_OURS, NO_REQUEST};
use crate::lua::vm::{native, Native};
use crate::ngx::leaving::Lookout;
use crate::ngx::peers::Peers;
use crate::ngx::tries;
use crate::proxy::Headers;

/// The natives of this file.
pub const NATIVES: &[Native] = &[
    native!(c"begin_try", begin_try),
    native!(c"choose", choose),
    native!(c"end_try", end_try),
    native!(c"hops", hops),
    native!(c"left", left),
    native!(c"let_go", let_go),
    native!(c"look_away", look_away),
    native!(c"look_out", look_out),
    native!(c"note_peer", note_peer),
    native!(c"peers", peers),
];

/// `hops(names or nil)` → lines of the client's headers for the upstream: of all, or of these names.
pub fn hops(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let headers = match args.list(1) {
        None => Headers::All,
        Some(Ok(names)) => Headers::Named(names),
        Some(Err(_)) => return Outcome::Raise("bad \"pass_headers\" option".into()),
    };
    Outcome::one(Value::List(headers.lines(r, &r.headers())))
}

/// `look_out()` → look-out for a client that leaves; nil where that is seen to.
pub fn look_out(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::none() };
    let lookout = Lookout::begin(r);
    Outcome::one(lookout.map_or(Value::Nil, |lookout| Value::Object(Object::Lookout(lookout))))
}

/// `left(look-out, again)` → nothing once the client has left; or yields: see wait.lua.
pub fn left(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let Some(lookout) = args.lookout(1) else { return Outcome::Raise(NOT_OURS.into()) };
    Outcome::waited(lookout.wait(r), |()| Outcome::none())
}

/// `look_away(look-out)`: ends it.
pub fn look_away(args: &Args) -> Outcome {
    if let Some(lookout) = args.lookout(1) {
        lookout.end();
    }
    Outcome::none()
}

/// `peers(name)` → peers of the `upstream` block of this name | nil, err | nothing: there is none.
pub fn peers(args: &Args) -> Outcome {
    let (Some(r), Some(name)) = (args.request(), args.bytes(1)) else {
        return Outcome::Raise(NO_REQUEST.into());
    };
    match Peers::of(r, name) {
        None => Outcome::none(),
        Some(Ok(peers)) => Outcome::one(Value::Object(Object::Peers(peers))),
        Some(Err(err)) => Outcome::nil_err(err.to_string()),
    }
}

/// `choose(peers)` → host, port or nil | nil, err. Not for another request than that of `peers`.
pub fn choose(args: &Args) -> Outcome {
    let Some(peers) = args.peers(1) else { return Outcome::Raise(NOT_OURS.into()) };
    match peers.choose() {
        Ok(at) => {
            let port = at.port.map_or(Value::Nil, |port| Value::Int(port.into()));
            Outcome::two(Value::Bytes(at.host), port)
        }
        Err(err) => Outcome::nil_err(err.to_string()),
    }
}

/// `let_go(peers, failed)` → whether another may be tried. The one that was chosen is not used any more.
pub fn let_go(args: &Args) -> Outcome {
    let Some(peers) = args.peers(1) else { return Outcome::Raise(NOT_OURS.into()) };
    Outcome::one(Value::Bool(peers.done(args.truth(2))))
}

/// `begin_try(again)`: somebody is about to be asked, again where that has failed before.
pub fn begin_try(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    match tries::begin(r, args.truth(1)) {
        true => Outcome::one(Value::Bool(true)),
        false => Outcome::nil_err("no memory"),
    }
}

/// `note_peer(cosocket or name)` → its address, or the name: this is who is asked.
pub fn note_peer(args: &Args) -> Outcome {
    let Some(r) = args.request() else { return Outcome::Raise(NO_REQUEST.into()) };
    let address = args.cosocket(1).and_then(|socket| socket.address());
    let name = address.or_else(|| args.bytes(1).map(<[u8]>::to_vec));
    let Some(name) = name else { return Outcome::none() };
    tries::note_peer(r, &name);
    Outcome::one(Value::Bytes(name))
}

/// `end_try(status)`: what was answered, or fits.
pub fn end_try(args: &Args) -> Outcome {
    if let (Some(r), Some(status)) = (args.request(), args.number(1)) {
        tries::note_status(r, status as u16);
    }
    Outcome::none()
}
