//! The body of a refusal that comes in chunks (RFC 9112 7.1), for who hands it on: decoded where it
//! lies. Chunk extensions and trailers are passed over.

/// Longest line of a chunk's size with its extensions, and of a trailer.
const LINE: usize = 4096;

/// Where in the body the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a chunk's size.
    Size,
    /// Behind it, up to the line's end.
    Extension,
    /// In its data, of which so much is missing.
    Data,
    /// In the line end behind the data.
    DataEnd,
    /// In a trailer, or the empty line that ends the body.
    Trailer,
    /// Behind the body.
    Done,
}

/// One body, as it comes.
#[derive(Clone, Debug)]
pub struct Chunked {
    at: At,
    size: u64,
    /// Bytes of the line so far, line ends excluded.
    line: usize,
}

/// Bytes that are no chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotChunked;

impl Default for Chunked {
    fn default() -> Chunked {
        Chunked { at: At::Size, size: 0, line: 0 }
    }
}

impl Chunked {
    /// Whether the body is whole.
    pub fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// Takes what came next, and moves the data in it to its beginning. Returns how much data that is.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<usize, NotChunked> {
        let (mut from, mut to) = (0, 0);
        while from < bytes.len() && self.at != At::Done {
            if self.at == At::Data {
                let n = (bytes.len() - from).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                bytes.copy_within(from..from + n, to);
                (from, to, self.size) = (from + n, to + n, self.size - n as u64);
                if self.size == 0 {
                    self.enter(At::DataEnd);
                }
                continue;
            }
            self.step(bytes[from])?;
            from += 1;
        }
        Ok(to)
    }

    fn enter(&mut self, at: At) {
        (self.at, self.line) = (at, 0);
    }

    /// A byte that is no data.
    fn step(&mut self, byte: u8) -> Result<(), NotChunked> {
        if byte == b'\n' {
            return self.line_ended();
        }
        if byte == b'\r' {
            return Ok(());
        }
        self.line += 1;
        if self.line > LINE {
            return Err(NotChunked);
        }
        match self.at {
            At::Size => match char::from(byte).to_digit(16) {
                Some(digit) if self.size >> 59 == 0 => {
                    self.size = self.size << 4 | u64::from(digit);
                    Ok(())
                }
                None if self.line > 1 && b"; \t".contains(&byte) => {
                    self.at = At::Extension;
                    Ok(())
                }
                _ => Err(NotChunked),
            },
            At::DataEnd => Err(NotChunked),
            _ => Ok(()),
        }
    }

    fn line_ended(&mut self) -> Result<(), NotChunked> {
        match self.at {
            At::Size if self.line == 0 => return Err(NotChunked),
            At::Size | At::Extension if self.size > 0 => self.enter(At::Data),
            At::Trailer if self.line == 0 => self.enter(At::Done),
            At::DataEnd => self.enter(At::Size),
            _ => self.enter(At::Trailer),
        }
        Ok(())
    }
}
