//! From a request of nginx's to a session: the one way in, for accept(), serve(), server:new(),
//! websocket_subscribe and both proxies. `check` judges the request; `start` judges it, makes the
//! session, tells the hub and sends the 101 (`ready` leaves the 101 to nginx); `open` hands the connection over to the session once the 101 has left.
//! Between the two the 101 may have to wait: with Lua in a light thread (raw_stream.lua), without in
//! nginx's event handlers (`alone`). What was published since `start` waits in the session.

pub mod alone;
mod error;

use std::rc::Rc;

use ws_hub::ConnId;
use ws_proto::ext;
use ws_proto::handshake::server::{self, Policy, Refusal, Upgrade};

pub use self::error::Error;
use crate::hub::{self, Wanted};
use crate::ngx::request::Request;
use crate::ngx::response_headers::set_header;
use crate::ngx::switch::{dress, switch, Failed, Switch, Switched};
use crate::ngx::takeover;
use crate::session::stats::{self, Counter};
use crate::session::{Each, Options, Session};

/// By which rules a request is judged.
#[derive(Clone, Copy, Debug)]
pub enum Rules<'p> {
    /// lua-resty-websocket's. A refusal leaves the request as it was: its handler may answer what it
    /// likes, over and over on the same connection.
    Lenient,
    /// RFC 6455 4.2.1, and the server's policy.
    Strict(Policy<'p>),
}

/// What is wanted of an upgrade.
pub struct Wish<'p> {
    /// How the request is judged.
    pub rules: Rules<'p>,
    /// What the session is opened with, but for the compression.
    pub options: Options,
    /// Compression, where the client offers it too.
    pub extensions: &'p ext::Config,
    /// Whether the hub knows the connection from the beginning.
    pub registered: bool,
    /// What it is subscribed to from the beginning: whoever publishes after the client has seen the
    /// 101 reaches it.
    pub topics: &'p [(&'p [u8], Wanted<'p>)],
    /// Who is told of its messages, where no handler reads, by the id that it has then.
    pub alone: Option<&'p dyn Fn(ConnId) -> Rc<Each>>,
}

/// An upgrade whose 101 has been handed to nginx.
#[derive(Debug)]
pub struct Started {
    /// Whether it has left.
    pub switched: Switched,
    /// The subprotocol that was chosen.
    pub protocol: Option<Vec<u8>>,
    /// Sec-WebSocket-Extensions of the response.
    pub extensions: Option<String>,
}

/// Judges a request without touching it, but for what a refusal does to the response.
pub fn check(r: Request, rules: &Rules<'_>) -> Result<(), Error> {
    let headers = r.headers();
    judge(r, &r.handshake(&headers), rules).map(|_| ())
}

/// Judges the request, whose body has been read, and begins the 101. Headers that were set before
/// go with it.
pub fn start(r: Request, wish: Wish<'_>) -> Result<Started, Error> {
    with_session(r, &wish, None, |with| {
        let switched = switch(r, with)?;
        let protocol = with.protocol.map(<[u8]>::to_vec);
        Ok(Started { switched, protocol, extensions: with.extensions.map(str::to_owned) })
    })
}

/// As `start`, of a 101 that nginx sends by itself: it is readied. The subprotocol is chosen already.
pub fn ready(r: Request, wish: Wish<'_>, protocol: Option<&[u8]>) -> Result<(), Error> {
    with_session(r, &wish, Some(protocol), |with| dress(r, with))
}

fn with_session<T>(
    r: Request,
    wish: &Wish<'_>,
    chosen: Option<Option<&[u8]>>,
    go: impl FnOnce(&Switch<'_>) -> Result<T, Failed>,
) -> Result<T, Error> {
    let headers = r.headers();
    let request = r.handshake(&headers);
    let Upgrade { accept, protocol } = judge(r, &request, &wish.rules)?;
    let agreed = ext::negotiate_server(&request.extensions(), wish.extensions);
    let (extension, extensions) = agreed.unzip();
    let options = Options { extension, ..wish.options.clone() };
    let session = Session::prepare(r, options).ok_or(Error::NoMemory)?;
    let with = Switch {
        accept: &accept,
        protocol: chosen.unwrap_or(protocol),
        extensions: extensions.as_deref(),
        only: matches!(wish.rules, Rules::Strict(_)),
    };
    let gone =
        enrol(&session, wish).map_err(Error::Hub).and_then(|()| go(&with).map_err(Error::Begun));
    if gone.is_err() {
        session.give_up();
    }
    gone
}

/// Makes the session known to the hub.
fn enrol(session: &Rc<Session>, wish: &Wish<'_>) -> Result<(), hub::Error> {
    if !wish.registered {
        return Ok(());
    }
    let id = hub::register(session)?;
    if let Some(alone) = wish.alone {
        session.run_alone(alone(id));
    }
    for (topic, wanted) in wish.topics {
        hub::subscribe(&id, topic, wanted)?;
    }
    Ok(())
}

/// Hands the connection over to the session that `start` made, whose 101 has left. None: there is
/// none.
pub fn open(r: Request) -> Option<Rc<Session>> {
    let session = takeover::session_in::<Session>(r)?;
    session.begin(r);
    Some(session)
}

fn judge<'a>(
    r: Request,
    request: &server::ClientHandshake<'a>,
    rules: &Rules<'_>,
) -> Result<Upgrade<'a>, Error> {
    let policy = match rules {
        Rules::Strict(policy) => policy,
        // lua-resty-websocket looks at the headers first.
        Rules::Lenient => {
            let upgrade = server::check_lenient(request).map_err(counted)?;
            return if r.is_subrequest() { Err(Error::Subrequest) } else { Ok(upgrade) };
        }
    };
    if r.is_subrequest() {
        return Err(Error::Subrequest);
    }
    match server::check_strict(request, policy) {
        Ok(_) if r.discards_body() => Err(Error::Body),
        Ok(upgrade) => Ok(upgrade),
        Err(refusal) => {
            refuse(r, request, &refusal);
            Err(counted(refusal))
        }
    }
}

fn counted(refusal: Refusal) -> Error {
    stats::add(Counter::refused(refusal.rule()), 1);
    Error::Refused(refusal)
}

/// What a refusal does to the response. A client that wanted to speak WebSocket may have sent
/// frames already, which are no request: nothing behind this one is answered.
fn refuse(r: Request, request: &server::ClientHandshake<'_>, refusal: &Refusal) {
    if *refusal == Refusal::OtherVersion {
        // RFC 6455 4.4, RFC 9110 15.5.22 and 7.8. Without memory for them the status has to do.
        let _ = set_header(r, "Sec-WebSocket-Version", "sec-websocket-version", "13")
            && set_header(r, "Upgrade", "upgrade", "websocket")
            && set_header(r, "Connection", "connection", "Upgrade");
    }
    if request.asks_upgrade() {
        r.close_after();
    }
}
