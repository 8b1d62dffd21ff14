//! What the directives of one location say. Plain values in nginx's own types, because nginx's
//! setters write into the struct; `NGX_CONF_UNSET` marks what was not given until `merge`.

use std::ffi::CStr;
use std::rc::Rc;

use ws_conn::Rate;
use ws_conn::{Style, MAX_REASON};
use ws_hub::history::Rule;
use ws_proto::close;
use ws_proto::ext::{self, deflate};
use ws_proto::handshake::server;

use super::status::Form;
use crate::session::{Options, ShutdownClose, SlowConsumer, NEVER};

/// nginx's mark of a value that was not given: -1 in any integer type.
const UNSET: usize = usize::MAX;

/// Directives of a location. Lives in the configuration's pool and is dropped by a cleanup of that
/// pool; what it shares with connections is counted.
#[repr(C)]
#[derive(Clone, Debug)]
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
    /// Its `format`.
    pub format: Format,
    /// Its `gap=ignore`.
    pub ignores_gaps: bool,
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
        self.status.is_none() && self.publish.is_none() && self.subscribe.is_empty()
    }
}

/// The Origin headers that `websocket_origin` allows.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// Patterns; none: the directive is off.
    patterns: Vec<Vec<u8>>,
    /// Whether an upgrade needs an Origin.
    pub required: bool,
}

impl Origins {
    /// The patterns, as the handshake takes them. None: every origin is allowed.
    pub fn patterns(&self) -> Option<Vec<&[u8]>> {
        (!self.patterns.is_empty()).then(|| self.patterns.iter().map(Vec::as_slice).collect())
    }
}

/// A value with variables, compiled into the configuration's pool; evaluated in `handlers`.
pub type Value = ngx::ffi::ngx_http_complex_value_t;

thread_local! {
    /// What `websocket_shutdown_close` says where it is not given.
    static GOODBYE: Rc<ShutdownClose> = Rc::new(ShutdownClose {
        code: 1001,
        reason: b"server is shutting down".to_vec(),
        over: 0,
    });
}

impl Location {
    /// Nothing given.
    pub fn unset() -> Location {
        Location {
            max_message_size: UNSET,
            send_buffer: UNSET,
            recv_timeout: UNSET,
            send_timeout: UNSET,
            ping_interval: UNSET,
            ping_timeout: UNSET,
            slow_consumer: UNSET,
            compression: None,
            deflate: deflate::Config::default(),
            shutdown_close: None,
            publish_from_client: UNSET,
            resume_limit: UNSET,
            max_subscriptions: UNSET,
            rate: None,
            lifetime: None,
            origins: None,
            content: Content::default(),
        }
    }

    /// Takes over from the level above what was not given here, and defaults where nothing was
    /// given at all.
    pub fn merge(&mut self, prev: &Location) {
        let pick = |own: &mut usize, above: usize, default: usize| {
            if *own == UNSET {
                *own = if above == UNSET { default } else { above };
            }
        };
        pick(&mut self.max_message_size, prev.max_message_size, 1024 * 1024);
        pick(&mut self.send_buffer, prev.send_buffer, 256 * 1024);
        pick(&mut self.recv_timeout, prev.recv_timeout, 60_000);
        pick(&mut self.send_timeout, prev.send_timeout, 60_000);
        pick(&mut self.ping_interval, prev.ping_interval, UNSET);
        pick(&mut self.ping_timeout, prev.ping_timeout, 10_000);
        pick(&mut self.slow_consumer, prev.slow_consumer, 1);
        pick(&mut self.publish_from_client, prev.publish_from_client, 0);
        pick(&mut self.resume_limit, prev.resume_limit, 300);
        pick(&mut self.max_subscriptions, prev.max_subscriptions, 0);
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

    /// Reads the arguments of `websocket_origin`.
    pub fn set_origin(&mut self, args: &[&[u8]]) -> Result<(), Fault> {
        if self.origins.is_some() {
            return Err(Fault::Duplicate);
        }
        let (required, patterns) = match args {
            [b"off"] => (false, args[1..].as_ref()),
            [patterns @ .., b"required"] => (true, patterns),
            patterns => (false, patterns),
        };
        let invalid = |pattern: &&&[u8]| {
            **pattern == b"off" || **pattern == b"required" || !server::is_origin_pattern(pattern)
        };
        if let Some(pattern) = patterns.iter().find(invalid) {
            let pattern = String::from_utf8_lossy(pattern);
            return Err(Fault::Text(format!("invalid origin \"{pattern}\"")));
        }
        if patterns.is_empty() && required {
            return Err(Fault::Text("no origins".to_string()));
        }
        let patterns = patterns.iter().map(|pattern| pattern.to_vec()).collect();
        self.origins = Some(Origins { patterns, required });
        Ok(())
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

    /// Reads the arguments of `websocket_shutdown_close`.
    pub fn set_shutdown_close(&mut self, args: &[&[u8]]) -> Result<(), Fault> {
        if self.shutdown_close.is_some() {
            return Err(Fault::Duplicate);
        }
        let text = |arg: &[u8]| String::from_utf8_lossy(arg).into_owned();
        let [first, rest @ ..] = args else {
            return Err(Fault::Text("no arguments".to_string()));
        };
        if *first == b"off" && rest.is_empty() {
            self.shutdown_close = Some(None);
            return Ok(());
        }
        let code = text(first).parse().ok().filter(|code| close::may_send(*code));
        let Some(code) = code else {
            return Err(Fault::Text(format!("invalid close code \"{}\"", text(first))));
        };
        let mut goodbye = ShutdownClose { code, reason: Vec::new(), over: 0 };
        for (i, arg) in rest.iter().enumerate() {
            match arg.strip_prefix(b"over=") {
                Some(time) => {
                    goodbye.over = parse_time(time).ok_or_else(|| {
                        Fault::Text(format!("invalid parameter \"{}\"", text(arg)))
                    })?;
                }
                None if i == 0 && arg.len() <= MAX_REASON && std::str::from_utf8(arg).is_ok() => {
                    goodbye.reason = arg.to_vec();
                }
                None => {
                    return Err(Fault::Text(format!("invalid parameter \"{}\"", text(arg))));
                }
            }
        }
        self.shutdown_close = Some(Some(Rc::new(goodbye)));
        Ok(())
    }

    /// The extensions this location asks for.
    pub fn extensions(&self) -> ext::Config {
        ext::Config { deflate: (self.compression == Some(true)).then(|| self.deflate.clone()) }
    }

    /// How many messages of before a subscriber gets at most.
    pub fn most_resumed(&self) -> usize {
        at_most(self.resume_limit)
    }

    /// How many topics a connection may subscribe.
    pub fn most_topics(&self) -> usize {
        at_most(self.max_subscriptions)
    }

    /// What happens to a subscriber over its send buffer.
    pub fn slow(&self) -> SlowConsumer {
        match self.slow_consumer {
            0 => SlowConsumer::Drop,
            _ => SlowConsumer::Close,
        }
    }

    /// Reads the arguments of `websocket_compression`. The error is a text for nginx's log, or
    /// nginx's own "is duplicate".
    pub fn set_compression(&mut self, args: &[&[u8]]) -> Result<(), Fault> {
        if self.compression.is_some() {
            return Err(Fault::Duplicate);
        }
        let invalid =
            |arg: &[u8]| Fault::Text(format!("invalid value \"{}\"", String::from_utf8_lossy(arg)));
        self.compression = match args.first().copied() {
            Some(b"on") => Some(true),
            Some(b"off") => Some(false),
            Some(other) => return Err(invalid(other)),
            None => return Err(invalid(b"")),
        };
        let mut deflate = deflate::Config::default();
        for arg in &args[1..] {
            set_deflate(&mut deflate, arg).ok_or_else(|| {
                Fault::Text(format!("invalid parameter \"{}\"", String::from_utf8_lossy(arg)))
            })?;
        }
        self.deflate = deflate;
        Ok(())
    }
}

/// A number's limit of which 0 means none.
fn at_most(n: usize) -> usize {
    match n {
        0 => usize::MAX,
        n => n,
    }
}

/// A time limit of which 0 means none.
pub fn limit(ms: u64) -> u64 {
    if ms == 0 {
        NEVER
    } else {
        ms
    }
}

/// The heartbeat of these times, if there is one.
pub fn heartbeat(interval: u64, timeout: u64) -> Option<(u64, u64)> {
    (interval > 0).then_some((interval, timeout))
}

/// Directives of the whole http block. In the configuration's pool, and dropped with it, as above.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Main {
    /// `websocket_zone`, bytes.
    pub zone: usize,
    /// `websocket_history_zone`, bytes.
    pub history_zone: usize,
    /// `websocket_topic`, each.
    pub topics: Vec<Rule>,
    /// `websocket_lua_modules`: a bit for each `LuaModules`.
    pub lua_modules: usize,
    /// What stands in the http block itself, once all has been read; null before. For what runs
    /// outside of any server: init_worker_by_lua and its timers.
    pub top: *const Location,
}

/// A family of Lua modules, named after the library that brought these names up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LuaModules {
    /// lua-resty-websocket's three.
    Resty,
    /// tarantool/websocket's `websocket` and what is below it.
    Tarantool,
    /// lua-websockets' `websockets`, the binding of libwebsockets.
    LuaWebsockets,
}

impl LuaModules {
    const ALL: [(&'static [u8], LuaModules); 3] = [
        (b"resty", LuaModules::Resty),
        (b"tarantool", LuaModules::Tarantool),
        (b"lua-websockets", LuaModules::LuaWebsockets),
    ];

    const fn bit(self) -> usize {
        1 << self as usize
    }
}

impl Main {
    /// Nothing given.
    pub fn unset() -> Main {
        Main {
            zone: UNSET,
            history_zone: UNSET,
            topics: Vec::new(),
            lua_modules: UNSET,
            top: std::ptr::null(),
        }
    }

    /// Whether `require` is to find the modules of this family; all where nothing was given.
    pub fn provides(&self, family: LuaModules) -> bool {
        self.lua_modules & family.bit() != 0
    }

    /// Reads the arguments of `websocket_lua_modules`.
    pub fn set_lua_modules(&mut self, args: &[&[u8]]) -> Result<(), Fault> {
        if self.lua_modules != UNSET {
            return Err(Fault::Duplicate);
        }
        let fault = |what: &str, arg: &[u8]| {
            Fault::Text(format!("{what} value \"{}\"", String::from_utf8_lossy(arg)))
        };
        let mut chosen = 0;
        for arg in args {
            let known = LuaModules::ALL.iter().find(|(name, _)| name == arg);
            chosen |= match known {
                Some((_, family)) if chosen & family.bit() != 0 => {
                    return Err(fault("duplicate", arg));
                }
                Some((_, family)) => family.bit(),
                None if *arg == b"none" && args.len() == 1 => 0,
                None => return Err(fault("invalid", arg)),
            };
        }
        self.lua_modules = chosen;
        Ok(())
    }

    /// The history zone's size, the default where none was given.
    pub fn history_zone_size(&self) -> usize {
        match self.history_zone {
            UNSET => 16 * 1024 * 1024,
            size => size,
        }
    }

    /// The zone's size, the default where none was given.
    pub fn zone_size(&self) -> usize {
        if self.zone == UNSET {
            8 * 1024 * 1024
        } else {
            self.zone
        }
    }
}

/// What is wrong with a directive's arguments.
#[derive(Debug)]
pub enum Fault {
    /// Given twice at the same level.
    Duplicate,
    /// Anything else, in words.
    Text(String),
}

/// nginx's own words for a directive that stands twice.
pub const DUPLICATE: &CStr = c"is duplicate";

/// nginx's time with one unit (`30s`, `500ms`, `2m`, `1d`; bare numbers are seconds), in milliseconds.
pub fn parse_time(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// One `key=value` (or bare flag) of `websocket_compression`. None: unknown or out of range.
fn set_deflate(deflate: &mut deflate::Config, arg: &[u8]) -> Option<()> {
    let text = std::str::from_utf8(arg).ok()?;
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (text, None),
    };
    let number = |low: usize, high: usize| {
        let n: usize = value?.parse().ok()?;
        (low..=high).contains(&n).then_some(n)
    };
    let flag = || match value {
        None | Some("on") => Some(true),
        Some("off") => Some(false),
        Some(_) => None,
    };
    match key {
        "level" => deflate.level = number(1, 9)? as u8,
        "threshold" => deflate.threshold = number(0, 1 << 30)?,
        "server_max_window_bits" => deflate.server_max_window_bits = number(8, 15)? as u8,
        "client_max_window_bits" => deflate.client_max_window_bits = number(8, 15)? as u8,
        "server_no_context_takeover" => deflate.server_no_context_takeover = flag()?,
        "client_no_context_takeover" => deflate.client_no_context_takeover = flag()?,
        _ => return None,
    }
    Some(())
}
