//! RESP3 on the wire: commands as bytes, and the frames that a server sends, by the crate resp-rs,
//! which is bounded in depth and lines, and here in bytes: a frame that is announced as larger than
//! any we accept never gets more memory than that.

use std::rc::Rc;

use bytes::Bytes;
pub use resp_rs::resp3::Frame;
use resp_rs::resp3::Parser;

/// What stands around a word at most: its length and two line ends.
const AROUND_WORD: usize = 1 + DIGITS + 4;
/// Digits of the largest number.
const DIGITS: usize = 20;

/// A command.
pub fn command(parts: &[&[u8]]) -> Vec<u8> {
    let words: usize = parts.iter().map(|part| part.len() + AROUND_WORD).sum();
    let mut out = Vec::with_capacity(AROUND_WORD + words);
    head(&mut out, parts.len());
    for part in parts {
        word(&mut out, &[part]);
    }
    out
}

/// A command about channels, whose names all begin with `prefix`.
pub fn about(verb: &[u8], prefix: &[u8], names: &[Rc<[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    head(&mut out, 1 + names.len());
    word(&mut out, &[verb]);
    for name in names {
        word(&mut out, &[prefix, name]);
    }
    out
}

fn head(out: &mut Vec<u8>, words: usize) {
    line(out, b'*', words);
}

/// A line of a number. There are four in each message that leaves, so it is not formatted.
fn line(out: &mut Vec<u8>, sign: u8, mut number: usize) {
    let (mut digits, mut at) = ([0; DIGITS], DIGITS);
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.push(sign);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

fn word(out: &mut Vec<u8>, parts: &[&[u8]]) {
    line(out, b'$', parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

/// What has come and is no frame yet.
pub struct Incoming {
    parser: Parser,
    most: usize,
}

/// Not what a server of ours sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage;

impl Incoming {
    /// For frames of at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { parser: Parser::new(), most }
    }

    /// Bytes have come. Frames are to be taken before more come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.parser.feed(Bytes::copy_from_slice(bytes));
    }

    /// The next frame that has come whole.
    pub fn next(&mut self) -> Result<Option<Frame>, Garbage> {
        match self.parser.next_frame() {
            Ok(Some(frame)) => Ok(Some(frame)),
            Ok(None) if self.parser.buffered_bytes() > self.most => Err(Garbage),
            Ok(None) => Ok(None),
            Err(_) => Err(Garbage),
        }
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.parser.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_strings() {
        let bytes = command(&[b"PUBLISH", b"a\r\nb", b""]);
        assert_eq!(bytes, b"*3\r\n$7\r\nPUBLISH\r\n$4\r\na\r\nb\r\n$0\r\n\r\n");
        for len in [9, 10, 99, 100, 12_345] {
            let bytes = command(&[&vec![b'x'; len]]);
            let head = format!("*1\r\n${len}\r\nx");
            assert!(bytes.starts_with(head.as_bytes()), "{len}");
        }
        let mut largest = Vec::new();
        line(&mut largest, b':', usize::MAX);
        assert_eq!(largest, format!(":{}\r\n", usize::MAX).as_bytes());
        let bytes = about(b"SUBSCRIBE", b"ws:", &[b"a"[..].into(), b""[..].into()]);
        assert_eq!(bytes, b"*3\r\n$9\r\nSUBSCRIBE\r\n$4\r\nws:a\r\n$3\r\nws:\r\n");
    }

    #[test]
    fn frames_come_in_any_pieces_and_none_is_larger_than_allowed() {
        let mut incoming = Incoming::new(64);
        let bytes = b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n:1\r\n";
        let mut found = 0;
        for byte in bytes {
            incoming.feed(&[*byte]);
            while incoming.next().unwrap().is_some() {
                found += 1;
            }
        }
        assert_eq!(found, 2);
        incoming.feed(b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$536870912\r\n");
        assert_eq!(incoming.next(), Ok(None));
        incoming.feed(&[b'x'; 64]);
        assert_eq!(incoming.next(), Err(Garbage));
        incoming.clear();
        incoming.feed(b"HTTP/1.1 400 Bad Request\r\n");
        assert_eq!(incoming.next(), Err(Garbage));
    }
}
