//! What `websocket_proxy` says: its words, and what is made of them while the configuration is read.

use ws_proto::handshake::client::Uri;

use super::time::{limit, parse_time};
use crate::ngx::upstream_conf::{ComplexValue, Conf, Tls, Wanted};
use crate::proxy::Headers;
use crate::session::NEVER;

/// What the directive says, with what was made of it.
#[derive(Debug)]
pub struct Proxied {
    pub(super) conf: Conf,
    /// Path and query; None: the client's own.
    pub(super) target: Option<*mut ComplexValue>,
    pub(super) host: *mut ComplexValue,
    pub(super) given: Given,
}

/// What was read of the words of the directive.
#[derive(Clone, Debug)]
pub struct Given {
    pub(super) wanted: Wanted,
    pub(super) target: Option<Vec<u8>>,
    pub(super) host: Vec<u8>,
    pub(super) ssl_name: Option<Vec<u8>>,
    pub(super) headers: Headers,
    pub(super) protocols: bool,
    pub(super) compression: bool,
    pub(super) ping: (u64, u64),
    pub(super) idle: u64,
}

impl Given {
    /// Reads the words behind the directive's name.
    pub fn parse(words: &[&[u8]]) -> Result<Given, String> {
        let (url, options) = words.split_first().ok_or("no URL")?;
        let mut given = Given::of_url(url)?;
        let mut tls = Tls { verify: true, ..Tls::default() };
        let (mut certificate, mut key, mut any_tls) = (None, None, false);
        for word in options {
            let invalid = || format!("invalid parameter \"{}\"", String::from_utf8_lossy(word));
            let at = word.iter().position(|b| *b == b'=').ok_or_else(invalid)?;
            let (name, value) = (&word[..at], &word[at + 1..]);
            let time = || parse_time(value).ok_or_else(invalid);
            let flag = || match value {
                b"on" => Ok(true),
                b"off" => Ok(false),
                _ => Err(invalid()),
            };
            any_tls |= name.starts_with(b"ssl_");
            match name {
                b"connect_timeout" => given.wanted.connect_timeout = limit(time()?),
                b"answer_timeout" => given.wanted.answer_timeout = limit(time()?),
                b"idle_timeout" => given.idle = limit(time()?),
                b"ping_interval" => given.ping.0 = time()?,
                b"ping_timeout" => given.ping.1 = limit(time()?),
                b"host" if !value.is_empty() => given.host = value.to_vec(),
                b"headers" => given.headers = headers(value),
                b"protocols" if value == b"pass" => given.protocols = true,
                b"protocols" if value == b"none" => given.protocols = false,
                b"compression" => given.compression = flag()?,
                b"ssl_verify" => tls.verify = flag()?,
                b"ssl_trusted_certificate" if !value.is_empty() => {
                    tls.trusted = Some(value.to_vec())
                }
                b"ssl_name" if !value.is_empty() => given.ssl_name = Some(value.to_vec()),
                b"ssl_certificate" if !value.is_empty() => certificate = Some(value.to_vec()),
                b"ssl_certificate_key" if !value.is_empty() => key = Some(value.to_vec()),
                _ => return Err(invalid()),
            }
        }
        tls.pair = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("one of ssl_certificate and ssl_certificate_key".to_string()),
        };
        if given.wanted.tls.is_some() {
            if tls.verify && tls.trusted.is_none() {
                return Err("no ssl_trusted_certificate".to_string());
            }
            given.wanted.tls = Some(tls);
        } else if any_tls {
            return Err("ssl parameters without wss://".to_string());
        }
        Ok(given)
    }

    /// Reads the URL, of which only path and query may have variables.
    fn of_url(url: &[u8]) -> Result<Given, String> {
        let bad = || format!("invalid URL \"{}\"", String::from_utf8_lossy(url));
        let start = url.windows(3).position(|three| three == b"://").ok_or_else(bad)? + 3;
        let rest = &url[start..];
        let unix = rest.starts_with(b"unix:");
        // The socket's path ends with a colon, which nothing need follow.
        let (address, target) = if unix {
            let end = rest[5..].iter().position(|b| *b == b':').map(|at| at + 5);
            (&rest[..end.unwrap_or(rest.len())], end.map_or(&b""[..], |end| &rest[end + 1..]))
        } else {
            let end = rest.iter().position(|b| b"/?".contains(b)).unwrap_or(rest.len());
            rest.split_at(end)
        };
        if address.contains(&b'$') {
            return Err("variables before the path".to_string());
        }
        let base = [&url[..start], address, if unix { b":" } else { b"" }].concat();
        let uri = Uri::with_target(&base, target).map_err(|_| bad())?;
        let (host, default_port) = match (unix, uri.tls) {
            (true, _) => (b"localhost".to_vec(), 0),
            (false, true) => (address.to_vec(), 443),
            (false, false) => (address.to_vec(), 80),
        };
        Ok(Given {
            wanted: Wanted {
                address: address.to_vec(),
                default_port,
                connect_timeout: 60_000,
                answer_timeout: 60_000,
                tls: uri.tls.then(Tls::default),
            },
            target: (!target.is_empty()).then_some(uri.target),
            host,
            ssl_name: None,
            headers: Headers::All,
            protocols: true,
            compression: false,
            ping: (0, 10_000),
            idle: NEVER,
        })
    }
}

/// `all`, `none`, or names with commas between.
fn headers(value: &[u8]) -> Headers {
    match value {
        b"all" => Headers::All,
        b"none" => Headers::Named(Vec::new()),
        names => {
            let names = names.split(|b| *b == b',').map(<[u8]>::trim_ascii);
            Headers::Named(names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
        }
    }
}
