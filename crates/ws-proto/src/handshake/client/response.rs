//! Response heads as a client reads them: whose status is provisional, and what the final one says.

use std::borrow::Cow;

use super::{Error, MAX_RESPONSE};
use httparse::{ParserConfig, EMPTY_HEADER};

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

    /// Whether another response follows: 1xx but for 101 (RFC 9110 15.2).
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// The final response at the beginning of what has come so far, and where its head ends;
    /// interim ones are passed over. None: it has not come yet.
    pub fn read(bytes: &'a [u8]) -> Result<Option<(ResponseHead<'a>, usize)>, Error> {
        let mut start = 0;
        while let Some(len) = bytes[start..].windows(4).position(|four| four == b"\r\n\r\n") {
            let text = &bytes[start..start + len + 4];
            let head = ResponseHead::parse(text).ok_or_else(|| Error::StatusLine(text.to_vec()))?;
            start += text.len();
            if start > MAX_RESPONSE {
                break;
            }
            if !head.is_interim() {
                return Ok(Some((head, start)));
            }
        }
        if bytes.len() > MAX_RESPONSE {
            return Err(Error::TooLarge);
        }
        Ok(None)
    }
}

/// A header's value for who hands it on: where it stands over several lines, these are joined by spaces
/// (RFC 9112 5.2).
pub fn unfolded(value: &[u8]) -> Cow<'_, [u8]> {
    let is_end = |b: &u8| matches!(b, b'\r' | b'\n');
    if !value.iter().any(is_end) {
        return Cow::Borrowed(value);
    }
    value.iter().map(|b| if is_end(b) { b' ' } else { *b }).collect()
}
