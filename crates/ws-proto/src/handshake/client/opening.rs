//! The opening handshake of one client connection: makes the request and judges what is answered,
//! each once.

use super::{Error, ResponseHead, Uri, MAX_RESPONSE};
use crate::ext::{self, Agreed, Config};
use crate::handshake::{accept_key, fields, AcceptKey};

/// What a request says beyond its URI. All is sent as it is.
#[derive(Clone, Debug, Default)]
pub struct Wishes<'a> {
    /// Host header in place of the URI's own.
    pub host: Option<&'a [u8]>,
    /// Sec-WebSocket-Key: 16 bytes from a random generator, in base64.
    pub key: &'a [u8],
    /// Sec-WebSocket-Protocol.
    pub protocols: Option<&'a [u8]>,
    /// Origin.
    pub origin: Option<&'a [u8]>,
    /// Further header lines, without line ends.
    pub headers: &'a [&'a [u8]],
    /// What the server may choose.
    pub choice: Choice,
}

/// What a server may choose of subprotocols and extensions.
#[derive(Clone, Debug, Default)]
pub enum Choice {
    /// Whatever it likes: the caller judges, as with lua-resty-websocket.
    #[default]
    Free,
    /// What was offered: one of the subprotocols, and one of these extensions.
    Offered(Config),
}

/// What a server has granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Sec-WebSocket-Protocol, if the server sent one.
    pub protocol: Option<Vec<u8>>,
    /// Sec-WebSocket-Extensions, lines joined.
    pub extensions: Option<Vec<u8>>,
    /// The extension that was agreed on.
    pub extension: Option<Agreed>,
}

/// One opening handshake. Owns what it needs: the network takes its time.
#[derive(Clone, Debug)]
pub struct Opening {
    uri: Uri,
    asked: Option<Asked>,
    /// Bytes of the responses so far.
    seen: usize,
    grant: Option<Grant>,
}

/// What a request said that its answer is judged by.
#[derive(Clone, Debug)]
struct Asked {
    accept: AcceptKey,
    protocols: Vec<u8>,
    choice: Choice,
}

impl Opening {
    /// Begins with the URI.
    pub fn new(uri: &[u8]) -> Result<Opening, Error> {
        Uri::parse(uri).map(Opening::of)
    }

    /// Begins with a URI whose path and query stand by themselves.
    pub fn with_target(uri: &[u8], target: &[u8]) -> Result<Opening, Error> {
        Uri::with_target(uri, target).map(Opening::of)
    }

    fn of(uri: Uri) -> Opening {
        Opening { uri, asked: None, seen: 0, grant: None }
    }

    /// Where to connect.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The request's bytes, its headers in lua-resty-websocket's order. Refuses the bytes with
    /// which a part could forge another line or end the header.
    pub fn request(&mut self, wishes: Wishes<'_>) -> Result<Vec<u8>, Error> {
        let own_host = self.uri.host_header();
        let host = wishes.host.unwrap_or(&own_host);
        check_text("host", host)?;
        check_text("key", wishes.key)?;
        check_text("protocols", wishes.protocols.unwrap_or_default())?;
        check_text("origin", wishes.origin.unwrap_or_default())?;
        for line in wishes.headers {
            check_text("headers", line)?;
            if line.is_empty() {
                return Err(Error::EmptyHeader);
            }
        }
        let mut out = Vec::with_capacity(256);
        let mut put = |name: &str, value: &[u8]| {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
        };
        put("GET ", &self.uri.target);
        put(" HTTP/1.1\r\nUpgrade: websocket\r\nHost: ", host);
        put("\r\nSec-WebSocket-Key: ", wishes.key);
        if let Some(protocols) = wishes.protocols {
            put("\r\nSec-WebSocket-Protocol: ", protocols);
        }
        put("\r\nSec-WebSocket-Version: 13", b"");
        if let Some(origin) = wishes.origin {
            put("\r\nOrigin: ", origin);
        }
        put("\r\nConnection: Upgrade", b"");
        for line in wishes.headers {
            put("\r\n", line);
        }
        if let Choice::Offered(config) = &wishes.choice {
            if let Some(offer) = ext::client_offer(config) {
                put("\r\nSec-WebSocket-Extensions: ", offer.as_bytes());
            }
        }
        put("\r\n\r\n", b"");
        self.asked = Some(Asked {
            accept: accept_key(wishes.key.trim_ascii()),
            protocols: wishes.protocols.unwrap_or_default().to_vec(),
            choice: wishes.choice,
        });
        Ok(out)
    }

    /// Judges a response head, given without the empty line that ends it (RFC 6455 4.1, the
    /// client's numbered list): status, Upgrade, Connection, Sec-WebSocket-Accept, and what the
    /// server chose. None: it was an interim response, and the next one counts.
    pub fn answer(&mut self, head: &[u8]) -> Result<Option<&Grant>, Error> {
        let asked = self.asked.as_ref().ok_or(Error::NotAsked)?;
        self.seen += head.len();
        if self.seen > MAX_RESPONSE {
            return Err(Error::TooLarge);
        }
        let status_line = || Error::StatusLine(head.to_vec());
        let mut text = head.trim_ascii_start().to_vec();
        if !text.starts_with(b"HTTP/1.1 ") {
            return Err(status_line());
        }
        text.extend_from_slice(b"\r\n\r\n");
        let parsed = ResponseHead::parse(&text).ok_or_else(status_line)?;
        if parsed.is_interim() {
            return Ok(None);
        }
        if parsed.status != 101 {
            return Err(Error::Status(parsed.status));
        }
        Ok(Some(self.grant.insert(asked.judge(&parsed)?)))
    }

    /// What the last answer has granted.
    pub fn grant(&self) -> Option<&Grant> {
        self.grant.as_ref()
    }
}

impl Asked {
    fn judge(&self, head: &ResponseHead<'_>) -> Result<Grant, Error> {
        let values =
            |name| fields::values(head.headers.iter().copied(), name).map(<[u8]>::trim_ascii);
        let demand = |name, fulfilled: bool| {
            if fulfilled {
                return Ok(());
            }
            Err(Error::Header(name, values(name).next().map(<[u8]>::to_vec)))
        };
        let upgrade = values("upgrade").next();
        demand("upgrade", upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")))?;
        let mut options = values("connection").flat_map(fields::elements);
        demand("connection", options.any(|option| option.eq_ignore_ascii_case(b"upgrade")))?;
        let accept = values("sec-websocket-accept").next();
        demand("sec-websocket-accept", accept == Some(&self.accept[..]))?;

        // More than one line is a list (RFC 9110 5.3), and no list was offered.
        let joined = |values: &[&[u8]]| (!values.is_empty()).then(|| values.join(&b", "[..]));
        let protocol = joined(&values("sec-websocket-protocol").collect::<Vec<_>>());
        let extensions: Vec<&[u8]> = values("sec-websocket-extensions").collect();
        let extension = match &self.choice {
            Choice::Free => None,
            Choice::Offered(config) => {
                self.judge_protocol(protocol.as_deref())?;
                judge_extensions(&extensions, config)?
            }
        };
        Ok(Grant { protocol, extensions: joined(&extensions), extension })
    }

    fn judge_protocol(&self, chosen: Option<&[u8]>) -> Result<(), Error> {
        match chosen {
            Some(name) if !fields::elements(&self.protocols).any(|offered| offered == name) => {
                Err(Error::Header("sec-websocket-protocol", Some(name.to_vec())))
            }
            _ => Ok(()),
        }
    }
}

fn judge_extensions(chosen: &[&[u8]], config: &Config) -> Result<Option<Agreed>, Error> {
    match chosen.first() {
        Some(value) if *config == Config::default() => {
            Err(Error::Header("sec-websocket-extensions", Some(value.to_vec())))
        }
        _ => ext::accept_response(chosen, config).map_err(Error::Extensions),
    }
}

fn check_text(part: &'static str, text: &[u8]) -> Result<(), Error> {
    if text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err(Error::ControlCharacter(part));
    }
    Ok(())
}
