//! The check of the server's response head (RFC 6455 4.1, the client's numbered list).

use super::super::{accept_key, fields};
use super::Error;
use httparse::{ParserConfig, EMPTY_HEADER};

/// What the server chose. Owned: the head it came from may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Sec-WebSocket-Protocol, if the server sent one.
    pub protocol: Option<Vec<u8>>,
    /// Sec-WebSocket-Extensions, one value a line.
    pub extensions: Vec<Vec<u8>>,
}

/// A response head as it stands there, unjudged. The slices stay the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// HTTP/1.1; otherwise HTTP/1.0.
    pub http11: bool,
    /// The status code.
    pub status: u16,
    /// The words after it.
    pub reason: &'a [u8],
    /// Header lines in order.
    pub headers: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> ResponseHead<'a> {
    /// Parses a head, the empty line at its end included. None: it is none.
    pub fn parse(head: &'a [u8]) -> Option<ResponseHead<'a>> {
        // One place for each line end: there cannot be more headers than that.
        let mut lines = vec![EMPTY_HEADER; head.iter().filter(|&&b| b == b'\n').count()];
        let mut parsed = httparse::Response::new(&mut lines);
        // What curious servers do to other header lines is no reason to refuse them.
        let parser = ParserConfig::default()
            .allow_multiple_spaces_in_response_status_delimiters(true)
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .clone();
        parser.parse_response(&mut parsed, head).ok()?;
        Some(ResponseHead {
            http11: parsed.version == Some(1),
            status: parsed.code?,
            reason: parsed.reason.unwrap_or_default().as_bytes(),
            headers: parsed.headers.iter().map(|line| (line.name.as_bytes(), line.value)).collect(),
        })
    }
}

impl Response {
    /// Checks a response head, given without the empty line that ends it, against the key that
    /// was sent: status, Upgrade, Connection and Sec-WebSocket-Accept.
    pub fn check(head: &[u8], key: &[u8]) -> Result<Response, Error> {
        let status_line = || Error::StatusLine(head.to_vec());
        let mut text = head.trim_ascii_start().to_vec();
        if !text.starts_with(b"HTTP/1.1 ") {
            return Err(status_line());
        }
        text.extend_from_slice(b"\r\n\r\n");
        let parsed = ResponseHead::parse(&text).ok_or_else(status_line)?;
        if parsed.status != 101 {
            return Err(Error::Status(parsed.status));
        }

        let values =
            |name| fields::values(parsed.headers.iter().copied(), name).map(<[u8]>::trim_ascii);
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
        let accept = accept_key(key.trim_ascii());
        let answer = values("sec-websocket-accept").next();
        demand("sec-websocket-accept", answer == Some(accept.as_bytes()))?;
        // More than one line is a list (RFC 9110 5.3), and no list was offered.
        let protocols: Vec<&[u8]> = values("sec-websocket-protocol").collect();
        let protocol = (!protocols.is_empty()).then(|| protocols.join(&b", "[..]));
        let extensions = values("sec-websocket-extensions").map(<[u8]>::to_vec).collect();
        Ok(Response { protocol, extensions })
    }

    /// Checks that the server chose one of the `offered` subprotocols, or none.
    pub fn check_protocol(&self, offered: &[&[u8]]) -> Result<(), Error> {
        match &self.protocol {
            Some(chosen) if !offered.contains(&chosen.as_slice()) => {
                Err(Error::Header("sec-websocket-protocol", self.protocol.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Checks that the server chose no extension, for a client that offered none.
    pub fn check_unextended(&self) -> Result<(), Error> {
        match self.extensions.first() {
            Some(value) => Err(Error::Header("sec-websocket-extensions", Some(value.clone()))),
            None => Ok(()),
        }
    }
}
