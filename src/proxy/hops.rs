//! Which of a client's request headers an upstream gets, and what it is told of the client.

use crate::ngx::request::Request;

/// A request header: name and value.
pub type Hop<'a> = (&'a [u8], &'a [u8]);

/// Which headers of the client's go on.
#[derive(Clone, Debug, Default)]
pub enum Headers {
    /// All but those of one hop and those that are the proxy's own to say.
    #[default]
    All,
    /// Of these only the ones with these names.
    Named(Vec<Vec<u8>>),
}

/// Headers that end here: one hop's (RFC 9110 7.6.1), a body's, the handshake's, and what `said` says.
const OURS: [&[u8]; 15] = [
    b"host",
    b"upgrade",
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"content-length",
    b"expect",
    b"http2-settings",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
];

impl Headers {
    fn takes(&self, name: &[u8]) -> bool {
        let handshake = b"sec-websocket-";
        let is_handshake =
            name.get(..handshake.len()).is_some_and(|start| start.eq_ignore_ascii_case(handshake));
        if is_handshake || OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            return false;
        }
        match self {
            Headers::All => true,
            Headers::Named(names) => names.iter().any(|known| name.eq_ignore_ascii_case(known)),
        }
    }

    /// The lines for the upstream.
    pub fn lines(&self, r: Request, headers: &[Hop<'_>]) -> Vec<Vec<u8>> {
        let line = |name: &[u8], value: &[u8]| [name, b": ", value].concat();
        let mut lines: Vec<Vec<u8>> = headers
            .iter()
            .filter(|(name, _)| self.takes(name))
            .map(|(name, value)| line(name, value))
            .collect();
        let mut path = values(headers, b"x-forwarded-for");
        path.push(r.client());
        lines.push(line(b"X-Forwarded-For", &path.join(&b", "[..])));
        let scheme: &[u8] = if r.is_tls() { b"https" } else { b"http" };
        lines.push(line(b"X-Forwarded-Proto", scheme));
        if let Some(host) = values(headers, b"host").first() {
            lines.push(line(b"X-Forwarded-Host", host));
        }
        lines
    }
}

/// The values of all headers of this name.
pub(super) fn values<'h>(headers: &[Hop<'h>], name: &[u8]) -> Vec<&'h [u8]> {
    let same = headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    same.map(|(_, value)| *value).collect()
}
