//! Reads the arguments of those directives of a location that are more than a number, a size or a
//! switch, which nginx's own setters read.

use std::ffi::CStr;
use std::rc::Rc;

use ws_conn::MAX_REASON;
use ws_proto::close;
use ws_proto::ext::deflate;
use ws_proto::handshake::server;

use super::location::{Location, Origins};
use super::time::parse_time;
use crate::session::ShutdownClose;

/// What is wrong with a directive's arguments.
#[derive(Debug)]
pub enum ArgumentError {
    /// Given twice at the same level.
    Duplicate,
    /// Anything else, in words.
    Text(String),
}

impl ArgumentError {
    /// `what "arg"`, as nginx names what it refuses.
    pub fn of(what: &str, arg: &[u8]) -> ArgumentError {
        ArgumentError::Text(format!("{what} \"{}\"", String::from_utf8_lossy(arg)))
    }

    /// The directive's first argument makes no sense.
    pub fn value(arg: &[u8]) -> ArgumentError {
        ArgumentError::of("invalid value", arg)
    }

    /// One of those behind it does not.
    pub fn parameter(arg: &[u8]) -> ArgumentError {
        ArgumentError::of("invalid parameter", arg)
    }
}

/// nginx's own words for a directive that stands twice.
pub const DUPLICATE: &CStr = c"is duplicate";

impl Location {
    /// Reads the arguments of `websocket_origin`.
    pub fn set_origin(&mut self, args: &[&[u8]]) -> Result<(), ArgumentError> {
        if self.origins.is_some() {
            return Err(ArgumentError::Duplicate);
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
            return Err(ArgumentError::of("invalid origin", pattern));
        }
        if patterns.is_empty() && required {
            return Err(ArgumentError::Text("no origins".to_string()));
        }
        let patterns = patterns.iter().map(|pattern| pattern.to_vec()).collect();
        self.origins = Some(Origins { patterns, required });
        Ok(())
    }

    /// Reads the arguments of `websocket_shutdown_close`.
    pub fn set_shutdown_close(&mut self, args: &[&[u8]]) -> Result<(), ArgumentError> {
        if self.shutdown_close.is_some() {
            return Err(ArgumentError::Duplicate);
        }
        let [first, rest @ ..] = args else {
            return Err(ArgumentError::Text("no arguments".to_string()));
        };
        if *first == b"off" && rest.is_empty() {
            self.shutdown_close = Some(None);
            return Ok(());
        }
        let code = std::str::from_utf8(first).ok().and_then(|code| code.parse().ok());
        let Some(code) = code.filter(|code| close::may_send(*code)) else {
            return Err(ArgumentError::of("invalid close code", first));
        };
        let mut goodbye = ShutdownClose { code, reason: Vec::new(), over: 0 };
        for (i, arg) in rest.iter().enumerate() {
            match arg.strip_prefix(b"over=") {
                Some(time) => {
                    goodbye.over = parse_time(time).ok_or_else(|| ArgumentError::parameter(arg))?;
                }
                None if i == 0 && arg.len() <= MAX_REASON && std::str::from_utf8(arg).is_ok() => {
                    goodbye.reason = arg.to_vec();
                }
                None => return Err(ArgumentError::parameter(arg)),
            }
        }
        self.shutdown_close = Some(Some(Rc::new(goodbye)));
        Ok(())
    }

    /// Reads the arguments of `websocket_compression`. The error is a text for nginx's log, or
    /// nginx's own "is duplicate".
    pub fn set_compression(&mut self, args: &[&[u8]]) -> Result<(), ArgumentError> {
        if self.compression.is_some() {
            return Err(ArgumentError::Duplicate);
        }
        self.compression = match args.first().copied() {
            Some(b"on") => Some(true),
            Some(b"off") => Some(false),
            Some(other) => return Err(ArgumentError::value(other)),
            None => return Err(ArgumentError::value(b"")),
        };
        let mut deflate = deflate::Config::default();
        for arg in &args[1..] {
            set_deflate(&mut deflate, arg).ok_or_else(|| ArgumentError::parameter(arg))?;
        }
        self.deflate = deflate;
        Ok(())
    }
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
