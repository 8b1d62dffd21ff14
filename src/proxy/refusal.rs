//! An upstream that answers in HTTP where a handler asks: what of its answer is the client's. Heads and
//! chunks are the codec's.

use ws_proto::handshake::client::{Chunked, ResponseHead};

/// Of a body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// Headers that are one hop's, that nginx writes itself, or that are said to an nginx.
const OURS: [&[u8]; 14] = [
    b"connection",
    b"keep-alive",
    b"transfer-encoding",
    b"te",
    b"trailer",
    b"upgrade",
    b"content-length",
    b"server",
    b"date",
    b"x-accel-redirect",
    b"x-accel-expires",
    b"x-accel-limit-rate",
    b"x-accel-buffering",
    b"x-accel-charset",
];

/// A body that is being read: as much of it as is handed on.
pub struct Refusal {
    chunks: Option<Chunked>,
    /// So much is handed on, if that much comes.
    most: usize,
    body: Vec<u8>,
}

impl Refusal {
    /// The body that follows `head`.
    pub fn of(head: &ResponseHead<'_>) -> Refusal {
        let value = |name: &[u8]| {
            let line = head.headers.iter().rfind(|line| line.0.eq_ignore_ascii_case(name));
            line.map(|line| line.1.trim_ascii())
        };
        let coding = value(b"transfer-encoding");
        let chunks = coding.is_some_and(|text| text.to_ascii_lowercase().ends_with(b"chunked"));
        let length = value(b"content-length").filter(|_| coding.is_none());
        let length = length.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        let most = match head.status {
            204 | 304 => 0,
            _ => length.unwrap_or(MAX_BODY).min(MAX_BODY),
        };
        Refusal { chunks: chunks.then(Chunked::default), most, body: Vec::new() }
    }

    /// Whether more is to be read.
    pub fn is_due(&self) -> bool {
        self.body.len() < self.most && !self.chunks.as_ref().is_some_and(Chunked::is_done)
    }

    /// Takes what came next. None: it is no body.
    pub fn take(&mut self, bytes: &[u8]) -> Option<()> {
        let start = self.body.len();
        self.body.extend_from_slice(bytes);
        if let Some(chunks) = &mut self.chunks {
            let data = chunks.decode(&mut self.body[start..]).ok()?;
            self.body.truncate(start + data);
        }
        self.body.truncate(self.most);
        Some(())
    }

    /// What has come of it, which it gives away.
    pub fn body(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.body)
    }
}

/// Whether a header of the answer is the client's.
pub fn is_theirs(name: &[u8]) -> bool {
    let handshake = name.get(..14).is_some_and(|s| s.eq_ignore_ascii_case(b"sec-websocket-"));
    !handshake && !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
}
