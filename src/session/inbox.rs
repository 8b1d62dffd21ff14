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
        if self.head > 0 && self.head == self.bytes.len() {
            self.bytes.clear();
            self.head = 0;
        }
        self.bytes.try_reserve(bytes.len()).map_err(|_| NoMemory)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes at most `n` of the bytes received.
    pub fn take(&mut self, n: usize) -> Vec<u8> {
        let n = n.min(self.bytes.len() - self.head);
        let bytes = if self.head == 0 && n == self.bytes.len() {
            std::mem::take(&mut self.bytes)
        } else {
            self.bytes[self.head..self.head + n].to_vec()
        };
        self.head += n;
        if self.head >= self.bytes.len() {
            // An idle connection holds no buffer.
            self.bytes = Vec::new();
            self.head = 0;
        }
        bytes
    }

    /// What is wanted, if it has come.
    pub fn taken(&mut self, want: Want) -> Option<Vec<u8>> {
        let have = self.len();
        match want {
            Want::Any(n) if have > 0 => Some(self.take(n)),
            Want::Exactly(n) if have >= n => Some(self.take(n)),
            Want::Line => {
                let rest = &self.bytes[self.head..];
                let end = rest.iter().take(MAX_LINE + 1).position(|&b| b == b'\n')?;
                let mut line = self.take(end + 1);
                line.retain(|&b| b != b'\n' && b != b'\r');
                Some(line)
            }
            _ => None,
        }
    }
}
