//! What the directives of one location say. Plain values in nginx's own types, because nginx's
//! setters write into the struct; `NGX_CONF_UNSET` marks what was not given until `merge`.

use std::rc::Rc;

use ws_conn::Rate;
use ws_conn::Style;
use ws_proto::ext::{self, deflate};
use ws_proto::handshake::server::Policy;

use super::proxied::Proxied;
use super::status::Form;
use super::time::{heartbeat, limit};
use crate::ngx::upstream_conf::ComplexValue;
use crate::session::{Options, ShutdownClose, SlowConsumer};
use crate::upgrade::Rules;

/// nginx's mark of a value that was not given: -1 in any integer type.
pub(super) const UNSET: usize = usize::MAX;

/// Directives of a location. Lives in the configuration's pool and is dropped by a cleanup of that
/// pool; what it shares with connections is counted.
#[repr(C)]
#[derive(Clone, Debug, Default)]
pub struct Location {
    /// `websocket_max_message_size`, bytes.
    pub max_message_size: usize,
    /// `websocket_send_buffer`, bytes.
    pub send_buffer: usize,
    /// `websocket_recv_timeout`, milliseconds.
    pub recv_timeout: usize,
    /// `websocket_send_timeout`, milliseconds.
    pub send_timeout: usize,
    /// `websocket_ping_interval`, milliseconds; 0 is off. Its default is not everybody's, so it stays
    /// unset where it was not given.
    pub ping_interval: usize,
    /// `websocket_ping_timeout`, milliseconds; 0 is no limit, as for the two above.
    pub ping_timeout: usize,
    /// `websocket_slow_consumer`: 0 is drop, 1 is close.
    pub slow_consumer: usize,
    /// `websocket_compression`: given and on, given and off, or not given.
    pub compression: Option<bool>,
    /// Its parameters.
    pub deflate: deflate::Config,
    /// `websocket_shutdown_close`: not given, off, or what to say.
    pub shutdown_close: Option<Option<Rc<ShutdownClose>>>,
    /// `websocket_handler_close`: 0 is off.
    pub handler_close: usize,
    /// `websocket_detach`: 0 is off.
    pub detach: usize,
    /// `websocket_publish_from_client`: 0 is off.
    pub publish_from_client: usize,
    /// `websocket_resume_limit`; 0 is none.
    pub resume_limit: usize,
    /// `websocket_max_subscriptions`; 0 is no limit.
    pub max_subscriptions: usize,
    /// `websocket_rate`: not given, none, or which.
    pub rate: Option<Option<Rate>>,
    /// `websocket_max_lifetime`: not given, none, or the time and over how long it is spread.
    pub lifetime: Option<Option<(u64, u64)>>,
    /// `websocket_origin`.
    pub origins: Option<Origins>,
    /// What the location answers by itself.
    pub content: Content,
}

/// The content directives of a location. `if` and `limit_except` have them from the location around
/// them, as a whole, unless they have one of their own; nested locations have not.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// `websocket_status`.
    pub status: Option<Form>,
    /// It answers 503 while a broker is away: `health=broker`.
    pub health: bool,
    /// `websocket_publish`: its topic, compiled.
    pub publish: Option<*mut Value>,
    /// Its `get`: a GET answers the history.
    pub gets: bool,
    /// Its `delete`: a DELETE closes the subscribers.
    pub deletes: bool,
    /// `websocket_subscribe`: its topics, compiled.
    pub subscribe: Vec<*mut Value>,
    /// Its `since`, compiled.
    pub since: Option<*mut Value>,
    /// Its `info`, compiled.
    pub info: Option<*mut Value>,
    /// Its `format`.
    pub format: Format,
    /// Its `gap=ignore`.
    pub ignores_gaps: bool,
    /// `websocket_proxy`.
    pub proxy: Option<Rc<Proxied>>,
}

/// How subscribers get their messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As they were published.
    #[default]
    Raw,
    /// As lines in JSON.
    Json,
    /// As lines in JSON to whom offers the subprotocol for them.
    Auto,
}

impl Content {
    /// Whether the location leaves its content to others.
    pub fn is_empty(&self) -> bool {
        self.status.is_none()
            && self.publish.is_none()
            && self.subscribe.is_empty()
            && self.proxy.is_none()
    }
}

/// The Origin headers that `websocket_origin` allows.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// Patterns; none: the directive is off.
    pub(super) patterns: Vec<Vec<u8>>,
    /// Whether an upgrade needs an Origin.
    pub required: bool,
}

impl Origins {
    /// The patterns, as the handshake takes them. None: every origin is allowed.
    pub fn patterns(&self) -> Option<Vec<&[u8]>> {
        (!self.patterns.is_empty()).then(|| self.patterns.iter().map(Vec::as_slice).collect())
    }
}

/// A value with variables, compiled into the configuration's pool; evaluated in `lookup`.
pub type Value = ComplexValue;

thread_local! {
    /// What `websocket_shutdown_close` says where it is not given.
    static GOODBYE: Rc<ShutdownClose> = Rc::new(ShutdownClose {
        code: 1001,
        reason: b"server is shutting down".to_vec(),
        over: 0,
    });
}

impl Location {
    /// The directives that are one number, each with its default.
    fn numbers(&mut self) -> Vec<(&mut usize, usize)> {
        vec![
            (&mut self.max_message_size, 1024 * 1024),
            (&mut self.send_buffer, 256 * 1024),
            (&mut self.recv_timeout, 60_000),
            (&mut self.send_timeout, 60_000),
            (&mut self.ping_interval, UNSET),
            (&mut self.ping_timeout, 10_000),
            (&mut self.slow_consumer, 1),
            (&mut self.handler_close, 1),
            (&mut self.detach, 1),
            (&mut self.publish_from_client, 0),
            (&mut self.resume_limit, 300),
            (&mut self.max_subscriptions, 0),
        ]
    }

    /// Nothing given.
    pub fn unset() -> Location {
        let mut unset = Location::default();
        for (number, _) in unset.numbers() {
            *number = UNSET;
        }
        unset
    }

    /// Takes over from the level above what was not given here, and defaults where nothing was
    /// given at all.
    pub fn merge(&mut self, prev: &Location) {
        let mut above = prev.clone();
        for ((own, default), (above, _)) in self.numbers().into_iter().zip(above.numbers()) {
            if *own == UNSET {
                *own = if *above == UNSET { default } else { *above };
            }
        }
        self.rate = self.rate.or(prev.rate);
        self.lifetime = self.lifetime.or(prev.lifetime);
        if self.compression.is_none() {
            self.compression = prev.compression;
            self.deflate = prev.deflate.clone();
        }
        if self.shutdown_close.is_none() {
            self.shutdown_close.clone_from(&prev.shutdown_close);
        }
        if self.origins.is_none() {
            self.origins.clone_from(&prev.origins);
        }
    }

    /// What a connection in message style is opened with here.
    pub fn options(&self) -> Options {
        Options {
            style: Style::Messages,
            max_frame: self.max_message_size as u64,
            max_message: self.max_message_size as u64,
            recv_timeout: Some(limit(self.recv_timeout as u64)),
            send_timeout: Some(limit(self.send_timeout as u64)),
            high_water: self.send_buffer,
            slow: self.slow(),
            heartbeat: heartbeat(self.ping_interval(), self.ping_timeout()),
            extension: None,
            rate: self.rate.flatten(),
            lifetime: self.lifetime.flatten(),
            shutdown: self.goodbye(),
            handler_close: self.handler_close != 0,
            detach: self.detach != 0,
        }
    }

    /// What a drop-in object is opened with here, of which nothing happens by itself: frames of
    /// at most `max_frame` bytes, waiting `timeout` (None: ngx_lua's directives).
    pub fn frame_options(&self, max_frame: u64, timeout: Option<u64>) -> Options {
        Options {
            style: Style::Frames,
            max_frame,
            max_message: max_frame,
            recv_timeout: timeout,
            send_timeout: timeout,
            heartbeat: None,
            rate: None,
            shutdown: self.given_goodbye(),
            handler_close: false,
            ..self.options()
        }
    }

    /// `websocket_ping_interval` of a server's connection in message style; 0 is off.
    pub fn ping_interval(&self) -> u64 {
        if self.ping_interval == UNSET {
            30_000
        } else {
            self.ping_interval as u64
        }
    }

    /// The same for what has no heartbeat unless it was asked for.
    pub fn given_ping_interval(&self) -> u64 {
        if self.ping_interval == UNSET {
            0
        } else {
            self.ping_interval as u64
        }
    }

    /// `websocket_ping_timeout`, `NEVER` where it is 0.
    pub fn ping_timeout(&self) -> u64 {
        limit(self.ping_timeout as u64)
    }

    /// What a connection in message style is told when its worker quits.
    pub fn goodbye(&self) -> Option<Rc<ShutdownClose>> {
        match &self.shutdown_close {
            Some(given) => given.clone(),
            None => Some(GOODBYE.with(Rc::clone)),
        }
    }

    /// The same for a drop-in object: only where the directive was given, because nothing happens
    /// to those by itself.
    pub fn given_goodbye(&self) -> Option<Rc<ShutdownClose>> {
        self.shutdown_close.clone().flatten()
    }

    /// The extensions this location asks for.
    pub fn extensions(&self) -> ext::Config {
        match self.compression {
            Some(true) => self.deflate.clone().into(),
            _ => ext::Config::default(),
        }
    }

    /// How many messages of before a subscriber gets at most.
    pub fn most_resumed(&self) -> usize {
        at_most(self.resume_limit)
    }

    /// How many topics a connection may subscribe.
    pub fn most_topics(&self) -> usize {
        at_most(self.max_subscriptions)
    }

    /// Calls `work` with the rules by which this location judges an upgrade.
    pub fn with_rules<R>(&self, protocols: &[&[u8]], work: impl FnOnce(Rules<'_>) -> R) -> R {
        let patterns = self.origins.as_ref().and_then(|origins| origins.patterns());
        work(Rules::Strict(Policy {
            protocols,
            origins: patterns.as_deref(),
            require_origin: self.origins.as_ref().is_some_and(|origins| origins.required),
        }))
    }

    /// What happens to a subscriber over its send buffer.
    pub fn slow(&self) -> SlowConsumer {
        match self.slow_consumer {
            0 => SlowConsumer::Drop,
            _ => SlowConsumer::Close,
        }
    }
}

/// A number's limit of which 0 means none.
fn at_most(n: usize) -> usize {
    match n {
        0 => usize::MAX,
        n => n,
    }
}
