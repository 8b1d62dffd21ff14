//! NATS' protocol on the wire: lines, of which some announce bytes behind them. Bounded: a line, and
//! what one announces, is never larger than any that we accept, and what was announced gets memory
//! as it comes.

use bytes::{Buf, Bytes, BytesMut};

/// The longest line, save for INFO's.
const LINE: usize = 8 * 1024;
/// The first line of headers.
const VERSION: &[u8] = b"NATS/1.0";

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// About the server, in JSON.
    Info(Bytes),
    Message(Message),
    Ping,
    Pong,
    Ok,
    /// What is wrong, without its quotes.
    Error(Bytes),
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub subject: Bytes,
    /// With their first line; empty for none.
    pub headers: Bytes,
    pub payload: Bytes,
}

impl Message {
    /// The status in the first line of the headers: of what a server says in place of an answer.
    pub fn status(&self) -> Option<u16> {
        let line = self.headers.split(|&byte| byte == b'\r').next()?;
        let digits = line.strip_prefix(VERSION)?.strip_prefix(b" ")?.get(..3)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// A header's value. Names are as we or the server write them.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        header(&self.headers, name)
    }

    /// One that is a number, as far as anybody counts.
    pub fn number(&self, name: &str) -> Option<u64> {
        let number = std::str::from_utf8(self.header(name)?).ok()?.parse().ok();
        number.filter(|&number| number <= i64::MAX as u64)
    }
}

/// A header's value among headers.
pub fn header<'h>(headers: &'h [u8], name: &str) -> Option<&'h [u8]> {
    headers.split(|&byte| byte == b'\n').skip(1).find_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
        Some(value.trim_ascii())
    })
}

/// Not what a NATS server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage;

/// What has come and is no frame yet.
pub struct Incoming {
    bytes: BytesMut,
    most: usize,
}

impl Incoming {
    /// For frames of at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { bytes: BytesMut::new(), most }
    }

    /// Whether nothing waits to be taken.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes have come. Frames are to be taken before more come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// The next frame that has come whole.
    pub fn next(&mut self) -> Result<Option<Frame>, Garbage> {
        let longest = if self.bytes.first() == Some(&b'I') { self.most } else { LINE };
        let Some(end) = self.bytes.iter().take(longest).position(|&byte| byte == b'\n') else {
            return if self.bytes.len() > longest { Err(Garbage) } else { Ok(None) };
        };
        let line = self.bytes[..end].strip_suffix(b"\r").ok_or(Garbage)?;
        let (verb, rest) = match line.iter().position(|&byte| byte == b' ' || byte == b'\t') {
            Some(at) => (&line[..at], line[at + 1..].trim_ascii()),
            None => (line, &line[line.len()..]),
        };
        let frame = match verb {
            b"INFO" => Frame::Info(Bytes::copy_from_slice(rest)),
            b"PING" => Frame::Ping,
            b"PONG" => Frame::Pong,
            b"+OK" => Frame::Ok,
            b"-ERR" => {
                let text = rest.strip_prefix(b"'").unwrap_or(rest);
                Frame::Error(Bytes::copy_from_slice(text.strip_suffix(b"'").unwrap_or(text)))
            }
            b"MSG" => return self.message(end + 1, false),
            b"HMSG" => return self.message(end + 1, true),
            _ => return Err(Garbage),
        };
        self.bytes.advance(end + 1);
        Ok(Some(frame))
    }

    /// `MSG subject sid [reply] bytes`, or `HMSG subject sid [reply] bytes-of-headers bytes`; and then
    /// those, and a line's end.
    fn message(&mut self, line: usize, with_headers: bool) -> Result<Option<Frame>, Garbage> {
        let text = std::str::from_utf8(&self.bytes[..line]).map_err(|_| Garbage)?;
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let numbers = if with_headers { 2 } else { 1 };
        if words.len() != 3 + numbers && words.len() != 4 + numbers {
            return Err(Garbage);
        }
        let number = |word: &str| word.parse::<usize>().ok().filter(|&n| n <= self.most);
        let all = number(words[words.len() - 1]).ok_or(Garbage)?;
        let headers = match with_headers {
            true => number(words[words.len() - 2]).filter(|&n| n <= all).ok_or(Garbage)?,
            false => 0,
        };
        if self.bytes.len() < line + all + 2 {
            return Ok(None);
        }
        if &self.bytes[line + all..line + all + 2] != b"\r\n" {
            return Err(Garbage);
        }
        let at = words[1].as_ptr() as usize - text.as_ptr() as usize;
        let subject = at..at + words[1].len();
        let frame = self.bytes.split_to(line + all + 2).freeze();
        Ok(Some(Frame::Message(Message {
            subject: frame.slice(subject),
            headers: frame.slice(line..line + headers),
            payload: frame.slice(line + headers..line + all),
        })))
    }
}

/// `PUB`, or with headers `HPUB`, to a subject, to be answered at another.
pub fn publish(out: &mut Vec<u8>, to: &str, reply: &str, headers: &[(&str, &str)], data: &[u8]) {
    let mut head = Vec::new();
    if !headers.is_empty() {
        head.extend(VERSION);
        head.extend(b"\r\n");
        for (name, value) in headers {
            head.extend(format!("{name}: {value}\r\n").bytes());
        }
        head.extend(b"\r\n");
    }
    let (verb, all) = (if head.is_empty() { "PUB" } else { "HPUB" }, head.len() + data.len());
    out.extend(format!("{verb} {to} ").bytes());
    if !reply.is_empty() {
        out.extend(format!("{reply} ").bytes());
    }
    if !head.is_empty() {
        out.extend(format!("{} ", head.len()).bytes());
    }
    out.extend(format!("{all}\r\n").bytes());
    out.extend(head);
    out.extend(data);
    out.extend(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_in_any_pieces() {
        let bytes = b"INFO {\"a\":1} \r\n+OK\r\nPING\r\nMSG a.b 1 2\r\nhi\r\nMSG a 1 r.1 0\r\n\r\n\
            HMSG a 1 r 35 37\r\nNATS/1.0 404 Gone\r\nX: y\r\nZ:  7 \r\n\r\nhi\r\n-ERR 'bad'\r\nPONG\r\n";
        let mut incoming = Incoming::new(64);
        let mut found = Vec::new();
        for byte in bytes {
            incoming.feed(&[*byte]);
            while let Some(frame) = incoming.next().unwrap() {
                found.push(frame);
            }
        }
        let [info, ok, ping, first, second, third, error, pong] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(info, &Frame::Info(Bytes::from_static(b"{\"a\":1}")));
        assert_eq!([ok, ping, pong], [&Frame::Ok, &Frame::Ping, &Frame::Pong]);
        assert_eq!(error, &Frame::Error(Bytes::from_static(b"bad")));
        let (Frame::Message(first), Frame::Message(second), Frame::Message(third)) =
            (first, second, third)
        else {
            panic!("{found:?}")
        };
        assert_eq!((&first.subject[..], &first.payload[..]), (&b"a.b"[..], &b"hi"[..]));
        assert_eq!((first.status(), second.payload.len()), (None, 0));
        assert_eq!(
            (third.status(), third.header("X"), third.number("Z")),
            (Some(404), Some(&b"y"[..]), Some(7))
        );
        assert_eq!((third.header("NATS/1.0 404 Gone"), &third.payload[..]), (None, &b"hi"[..]));
    }

    #[test]
    fn what_is_none_or_too_large_is_refused() {
        for bad in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"PING\n",
            b"MSG a 1 65\r\n",
            b"MSG a 1\r\n",
            b"MSG a 1 x\r\n",
            b"MSG a 1 r x 1\r\n",
            b"MSG a 1 2\r\nhi!\r\n",
            b"HMSG a 1 3 2\r\nhi\r\n",
            &[b'I'; 65],
            &[b'M'; LINE + 1],
        ] {
            let mut incoming = Incoming::new(64);
            incoming.feed(bad);
            assert_eq!(incoming.next(), Err(Garbage), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn what_is_written() {
        let mut out = Vec::new();
        publish(&mut out, "a", "", &[], b"x");
        publish(&mut out, "a", "r", &[("N", "v")], b"");
        assert_eq!(out, b"PUB a 1\r\nx\r\nHPUB a r 18 18\r\nNATS/1.0\r\nN: v\r\n\r\n\r\n");
    }
}
