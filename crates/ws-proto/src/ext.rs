//! Extensions (RFC 6455 9): their negotiation by either side, and the trait through which a
//! connection receives by one. An extension is a file in `ext/` and a row of `KNOWN`; nothing
//! else names it but what its own settings need. The handshake's owner calls the three functions
//! below, and gives the result to [`Conn::with_deflate`](crate::Conn::with_deflate) and
//! [`Encoder::new`].

mod deflate;
mod offer;

use offer::{Offer, Parameters};
use std::fmt;

pub(crate) use deflate::Inflater;
pub use deflate::{compress_once, Agreed, DeflateConfig, Encoder};

/// Which side of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Accepted the connection.
    Server,
    /// Opened it.
    Client,
}

/// Takes what a message's payload became, piece by piece; with `true` comes its last piece.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8], bool) -> Result<(), crate::Error>;

/// What a connection asks of the extension by which it receives.
pub(crate) trait Extension: fmt::Debug + Send {
    /// The reserved bit that marks the first frame of a message as the extension's.
    fn rsv(&self) -> u8;

    /// Takes unmasked payload bytes of a marked message, and hands on what they stand for. Without
    /// `ahead` the message ends with them, and all of it is handed on. An error is final.
    fn decode(
        &mut self,
        bytes: &[u8],
        ahead: Option<Ahead>,
        sink: Sink<'_>,
    ) -> Result<(), crate::Error>;
}

/// How far a message is decoded before its end has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    /// At most so many bytes are handed on now; the extension keeps what stands for more.
    pub decoded: usize,
    /// Of which it keeps at most so many: a message too large otherwise.
    pub coded: usize,
}

/// What the handshake asks of an extension.
struct Known {
    /// Its token in the header.
    name: &'static str,
    /// Client: what to offer.
    offer: fn(&DeflateConfig) -> String,
    /// Server: the answer to an offer, or `None` to decline it.
    answer: fn(Parameters<'_>, &DeflateConfig) -> Option<(Agreed, String)>,
    /// Client: what a server's answer agrees to.
    accept: fn(Parameters<'_>, &DeflateConfig) -> Result<Agreed, Error>,
}

const KNOWN: &[Known] = &[deflate::KNOWN];

fn known(offer: &Offer<'_>) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name.as_bytes() == offer.name)
}

/// Why a server's answer is not one to our offer (RFC 6455 4.1, RFC 7692 5.1): the connection
/// has to be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not of the header's grammar.
    Malformed,
    /// An extension that was not offered.
    NotOffered,
    /// More than one extension for the same bit.
    Several,
    /// A parameter that the extension does not have, or has only in offers.
    UnknownParameter,
    /// The same parameter twice.
    RepeatedParameter,
    /// A value that the named parameter cannot have, or that exceeds the offered one.
    BadValue(&'static str),
    /// What was asked for by the named parameter is not granted.
    NotGranted(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("malformed extensions"),
            Self::NotOffered => f.write_str("extension was not offered"),
            Self::Several => f.write_str("more than one extension"),
            Self::UnknownParameter => f.write_str("unknown extension parameter"),
            Self::RepeatedParameter => f.write_str("repeated extension parameter"),
            Self::BadValue(name) => write!(f, "bad value of extension parameter {name}"),
            Self::NotGranted(name) => write!(f, "extension parameter {name} not granted"),
        }
    }
}

impl std::error::Error for Error {}

/// Server: whether the values of all Sec-WebSocket-Extensions lines are of the header's grammar.
pub fn is_well_formed(offers: &[&[u8]]) -> bool {
    offer::list(offers)
        .all(|offer| offer.is_ok_and(|offer| offer.parameters().all(|parameter| parameter.is_ok())))
}

/// Server: chooses from the values of all Sec-WebSocket-Extensions lines of the request. The
/// first offer in the client's order that is well-formed and that we can keep is taken; the
/// others are passed over. Returns the agreement and the header value for the response; `None`:
/// no extension, and no header.
pub fn negotiate_server(offers: &[&[u8]], config: &DeflateConfig) -> Option<(Agreed, String)> {
    offer::list(offers)
        .filter_map(Result::ok)
        .find_map(|offer| (known(&offer)?.answer)(offer.parameters(), config))
}

/// Client: the value of the request's Sec-WebSocket-Extensions.
pub fn client_offer(config: &DeflateConfig) -> String {
    let offers: Vec<_> = KNOWN.iter().map(|known| (known.offer)(config)).collect();
    offers.join(", ")
}

/// Client: checks the values of the response's Sec-WebSocket-Extensions lines against what
/// [`client_offer`] said with the same `config`. `None`: the server wants no extension.
pub fn accept_response(values: &[&[u8]], config: &DeflateConfig) -> Result<Option<Agreed>, Error> {
    let mut agreed = None;
    for answer in offer::list(values) {
        let answer = answer?;
        let known = known(&answer).ok_or(Error::NotOffered)?;
        if agreed.is_some() {
            return Err(Error::Several);
        }
        agreed = Some((known.accept)(answer.parameters(), config)?);
    }
    Ok(agreed)
}
