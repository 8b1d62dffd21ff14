//! UTF-8 checked while it arrives (RFC 3629; RFC 6455 8.1). The bulk goes through a vectorised
//! validator; what is kept between two pushes is only the character cut in half, if any. Fails
//! at the first byte after which the text cannot become valid any more.

use std::{fmt, str};

/// The bytes cannot be, or become, UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid utf-8")
    }
}

impl std::error::Error for Invalid {}

/// Whether a whole text is UTF-8.
#[inline]
pub fn is_valid(text: &[u8]) -> bool {
    is_short_ascii(text) || simdutf8::basic::from_utf8(text).is_ok()
}

/// Most short texts, in a few steps: the vectorised validator leaves what is below its block of 64 bytes to the
/// standard library's, which goes byte by byte where a text is not aligned.
#[inline]
fn is_short_ascii(text: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    if text.len() >= 64 {
        return false;
    }
    let (words, rest) = text.as_chunks::<8>();
    let all = words.iter().fold(0, |all, word| all | u64::from_ne_bytes(*word));
    let last = rest.iter().fold(0, |all, byte| all | byte);
    (all & HIGH) == 0 && last < 0x80
}

/// State of one text: the incomplete character at its end.
#[derive(Clone, Debug, Default)]
pub struct Validator {
    /// The first `len` bytes are the start of a character, valid so far.
    cut: [u8; 4],
    len: u8,
}

impl Validator {
    /// A validator at the start of a text.
    pub const fn new() -> Self {
        Self { cut: [0; 4], len: 0 }
    }

    /// Takes the next bytes of the text. After an error the validator is of no further use.
    pub fn push(&mut self, mut data: &[u8]) -> Result<(), Invalid> {
        while self.len > 0 {
            let Some((&byte, rest)) = data.split_first() else { return Ok(()) };
            data = rest;
            let len = usize::from(self.len) + 1;
            self.cut[len - 1] = byte;
            self.len = match str::from_utf8(&self.cut[..len]) {
                Ok(_) => 0,
                // No error length means: the start of a character, which may still be ended.
                Err(e) if e.error_len().is_none() => self.len + 1,
                Err(_) => return Err(Invalid),
            };
        }
        let Err(e) = simdutf8::compat::from_utf8(data) else { return Ok(()) };
        if e.error_len().is_some() {
            return Err(Invalid);
        }
        let tail = &data[e.valid_up_to()..];
        self.cut[..tail.len()].copy_from_slice(tail);
        self.len = tail.len() as u8;
        Ok(())
    }

    /// The text is over: an error if its last character is incomplete.
    pub const fn finish(&self) -> Result<(), Invalid> {
        if self.len == 0 {
            Ok(())
        } else {
            Err(Invalid)
        }
    }
}
