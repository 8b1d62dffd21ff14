//! A client's upgrade that asks an upstream first: the client gets its 101 once the upstream has sent
//! its own, and otherwise what the upstream has answered.

use std::cell::RefCell;
use std::rc::Rc;

use ws_conn::Config;
use ws_proto::ext;
use ws_proto::handshake::client::{Choice, Opening, Wishes};
use ws_proto::handshake::server::Policy;

use super::hops::{values, Headers};
use super::pair::{Limits, Pair};
use crate::ngx::request::Request;
use crate::ngx::upstream::{self, Asks};
use crate::ngx::upstream_conf::Conf;
use crate::session::{random, Options};
use crate::upgrade::{self, Rules, Wish};

/// What is wanted of a proxied connection.
pub struct Wanted<'w> {
    /// Where to connect.
    pub conf: Conf,
    /// What to ask for.
    pub target: Vec<u8>,
    /// The Host header.
    pub host: Vec<u8>,
    /// Which of the client's headers go on.
    pub headers: &'w Headers,
    /// Whether the client's subprotocols do.
    pub protocols: bool,
    /// Compression with the upstream.
    pub upstream_extensions: ext::Config,
    /// Heartbeat towards the upstream.
    pub heartbeat: Option<(u64, u64)>,
    /// What the client's session is opened with.
    pub options: Options,
    /// Compression with the client.
    pub extensions: ext::Config,
    /// What may end both.
    pub limits: Limits,
}

/// A request on its way to the upstream.
struct Dial {
    opening: RefCell<Opening>,
    options: Options,
    extensions: ext::Config,
    heartbeat: Option<(u64, u64)>,
    limits: Limits,
}

/// Any URI: nginx knows where to connect, and the request line has a target of its own.
const ANY: &[u8] = b"ws://upstream";

/// Asks the upstream for a client whose upgrade has been judged, and whose body has been read. Returns
/// what a content handler returns.
pub fn ask(r: Request, wanted: Wanted<'_>) -> isize {
    let headers = r.headers();
    let lines = wanted.headers.lines(r, &headers);
    let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    let protocols = values(&headers, b"sec-websocket-protocol").join(&b", "[..]);
    let key = random::handshake_key();
    let wishes = Wishes {
        host: Some(&wanted.host),
        key: key.as_bytes(),
        protocols: (wanted.protocols && !protocols.is_empty()).then_some(&protocols),
        origin: None,
        headers: &lines,
        choice: Choice::Offered(wanted.upstream_extensions),
    };
    let asked = Opening::with_target(ANY, &wanted.target)
        .and_then(|mut opening| Ok((opening.request(wishes)?, opening)));
    let (request, opening) = match asked {
        Ok(asked) => asked,
        Err(err) => {
            r.info(&format!("websocket_proxy refused: {err}"));
            return 400;
        }
    };
    let dial = Dial {
        opening: RefCell::new(opening),
        options: wanted.options,
        extensions: wanted.extensions,
        heartbeat: wanted.heartbeat,
        limits: wanted.limits,
    };
    upstream::ask(r, wanted.conf, request, &wanted.target, Rc::new(dial))
}

impl Asks for Dial {
    fn granted(&self, r: Request, head: &[u8]) -> Result<(), String> {
        let mut opening = self.opening.borrow_mut();
        let grant = opening.answer(head).map_err(|err| err.to_string())?;
        let protocol = grant.and_then(|grant| grant.protocol.clone());
        // The client's part was judged before; here it is only answered.
        let wish = Wish {
            rules: Rules::Strict(Policy::default()),
            options: self.options.clone(),
            extensions: &self.extensions,
            registered: true,
            topics: &[],
            alone: None,
        };
        upgrade::ready(r, wish, protocol.as_deref()).map_err(|err| err.to_string())
    }

    fn begin(&self, r: Request, first: &[u8]) -> isize {
        let Some(session) = upgrade::open(r) else { return 500 };
        let grant = self.opening.borrow().grant().cloned().unwrap_or_default();
        let config = Config {
            max_frame: self.options.max_frame,
            heartbeat: self.heartbeat,
            extension: grant.extension,
            ..Config::client(self.options.max_message, self.options.high_water)
        };
        let pair = Pair::new(session, &config, self.limits);
        if !upstream::take(r, &pair) {
            return 502;
        }
        pair.begin(first, u32::from_le_bytes(random::bytes()));
        r.hold()
    }
}
