//! The grammar of Sec-WebSocket-Extensions (RFC 6455 9.1): a list of extensions over several
//! lines, each with parameters, whose values may be quoted. Allocates for quoted values alone;
//! what is read of a hostile header is no more than its length.

use super::error::Error;
use std::borrow::Cow;

/// One extension of the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer<'a> {
    pub name: &'a [u8],
    /// What follows the name's semicolon.
    parameters: Option<&'a [u8]>,
}

impl<'a> Offer<'a> {
    fn parse(text: &'a [u8]) -> Result<Offer<'a>, Error> {
        let (name, parameters) = cut(text, b';');
        Ok(Offer { name: token(name)?, parameters })
    }

    pub fn parameters(&self) -> Parameters<'a> {
        Parameters { rest: self.parameters }
    }
}

/// Name and value of a parameter.
pub(super) type Parameter<'a> = (&'a [u8], Option<Cow<'a, [u8]>>);

/// Parameters of one extension, in order.
#[derive(Clone, Debug)]
pub(crate) struct Parameters<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Result<Parameter<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (first, rest) = cut(self.rest?, b';');
        self.rest = rest;
        Some(parameter(first))
    }
}

/// All extensions of all lines. An element that is not of the grammar does not hide the next.
pub(super) fn list<'a>(
    values: &'a [&'a [u8]],
) -> impl Iterator<Item = Result<Offer<'a>, Error>> + 'a {
    values.iter().flat_map(|value| {
        let mut rest = Some(*value);
        std::iter::from_fn(move || {
            let (first, after) = cut(rest?, b',');
            rest = after;
            Some(first.trim_ascii())
        })
        .filter(|element| !element.is_empty())
        .map(Offer::parse)
    })
}

fn parameter(text: &[u8]) -> Result<Parameter<'_>, Error> {
    let Some(at) = text.iter().position(|&b| b == b'=') else { return Ok((token(text)?, None)) };
    let (name, value) = (token(&text[..at])?, text[at + 1..].trim_ascii());
    let value = match value.strip_prefix(b"\"") {
        None => Cow::Borrowed(token(value)?),
        Some(quoted) => Cow::Owned(unquote(quoted)?),
    };
    Ok((name, Some(value)))
}

/// The text up to a separator that stands outside quotes, and what follows it.
fn cut(text: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => return (&text[..at], Some(&text[at + 1..])),
            _ => {}
        }
    }
    (text, None)
}

/// A token (RFC 9110 5.6.2), without the white space around it.
fn token(text: &[u8]) -> Result<&[u8], Error> {
    let text = text.trim_ascii();
    let is_tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    if text.is_empty() || !text.iter().all(is_tchar) {
        return Err(Error::Malformed);
    }
    Ok(text)
}

/// The rest of a quoted string, which must stand for a token.
fn unquote(text: &[u8]) -> Result<Vec<u8>, Error> {
    let inner = text.strip_suffix(b"\"").ok_or(Error::Malformed)?;
    let mut value = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        value.push(if byte == b'\\' { *bytes.next().ok_or(Error::Malformed)? } else { byte });
    }
    if token(&value)?.len() < value.len() {
        return Err(Error::Malformed);
    }
    Ok(value)
}
