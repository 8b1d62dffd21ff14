//! What a stream has received and nobody has taken yet, and what a reader may ask of it. Empty most
//! of the time, and then without memory of its own.

use ws_conn::NoMemory;

/// Longest line: what a remote peer may have us keep without an end in sight.
pub const MAX_LINE: usize = 64 * 1024;

/// What a read waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Whatever is there, at most so many bytes.
    Any(usize),
    /// So many bytes.
    Exactly(usize),
    /// A line; its end (LF, and CR before it) is not part of it.
    Line,
    /// Everything up to the end of the stream.
    All,
}

/// A queue of received bytes. Owned by one stream.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// What is taken of them.
    head: usize,
}

impl Inbox {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.head
    }

    /// Whether none do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes what the socket received.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), NoMemory> {
        // What a reader leaves of each read would otherwise keep all that it took before. Moving no
        // more than was taken costs each byte one move at most.
        if self.head >= self.len() {
            self.bytes.drain(..std::mem::take(&mut self.head));
        }
        self.bytes.try_reserve(bytes.len()).map_err(|_| NoMemory)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes all bytes received. An idle connection holds no buffer.
    pub fn take_all(&mut self) -> Vec<u8> {
        self.bytes.drain(..std::mem::take(&mut self.head));
        std::mem::take(&mut self.bytes)
    }

    /// Takes at most `n` of them.
    fn take(&mut self, n: usize) -> Result<Vec<u8>, NoMemory> {
        if n >= self.len() {
            return Ok(self.take_all());
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(n).map_err(|_| NoMemory)?;
        bytes.extend_from_slice(&self.bytes[self.head..self.head + n]);
        self.head += n;
        Ok(bytes)
    }

    /// What is wanted, if it has come.
    pub fn taken(&mut self, want: Want) -> Result<Option<Vec<u8>>, NoMemory> {
        let have = self.len();
        match want {
            Want::Any(n) if have > 0 => self.take(n).map(Some),
            Want::Exactly(n) if have >= n => self.take(n).map(Some),
            Want::Line => {
                let rest = &self.bytes[self.head..];
                let Some(end) = rest.iter().take(MAX_LINE + 1).position(|&b| b == b'\n') else {
                    return Ok(None);
                };
                let mut line = self.take(end + 1)?;
                line.retain(|&b| b != b'\n' && b != b'\r');
                Ok(Some(line))
            }
            _ => Ok(None),
        }
    }
}
