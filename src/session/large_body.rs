//! The body of a large frame (masking key, if any, and payload) while it is received past the
//! cosocket that carries it. Made by a native for one frame; where the rest has yet to come, the
//! Lua shim keeps it until then.

use ws_conn::NoMemory;

use super::worker;
use crate::ngx::cosocket::Cosocket;
use crate::ngx::wire::Recv;

/// Room that is made ahead of what came, at least: what a header announces may never come.
const ROOM: usize = 16 * 1024;
/// A longer body may use the memory that the worker keeps for large payloads.
const LARGE: usize = 64 * 1024;

/// What came of a body. Its memory goes with it: to Lua's string, or with the userdata.
#[derive(Debug)]
pub struct LargeBody {
    size: usize,
    bytes: Vec<u8>,
}

impl LargeBody {
    /// Nothing yet of `size` bytes.
    pub fn new(size: usize) -> LargeBody {
        LargeBody { size, bytes: Vec::new() }
    }

    /// How many bytes are still to come.
    pub fn missing(&self) -> usize {
        self.size.saturating_sub(self.bytes.len())
    }

    /// Takes a piece that the cosocket received; what is more than the body misses is not its.
    pub fn add(&mut self, piece: &[u8]) -> Result<(), NoMemory> {
        let piece = &piece[..piece.len().min(self.missing())];
        self.make_room(piece.len())?;
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Reads what is there and belongs to the body. After an error, returned as errno, the
    /// cosocket's next read fails as well; the end of the stream is left to that altogether.
    pub fn fill(&mut self, socket: &Cosocket) -> Result<(), i32> {
        let mut result = Ok(());
        while self.missing() > 0 && socket.read_ready() {
            if self.make_room(0).is_err() {
                result = Err(libc::ENOMEM);
                break;
            }
            let missing = self.missing();
            match socket.recv_into(&mut self.bytes, missing) {
                Recv::Data(_) => {}
                Recv::Again | Recv::Eof => break,
                Recv::Failed(errno) => {
                    result = Err(errno);
                    break;
                }
            }
        }
        socket.done_reading();
        result
    }

    /// The size of the whole body.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The whole body.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Room for `least` bytes, and for as much more as is sensible.
    fn make_room(&mut self, least: usize) -> Result<(), NoMemory> {
        let have = self.bytes.len();
        if self.bytes.capacity() - have >= self.missing().min(least.max(ROOM)) {
            return Ok(());
        }
        let more = self.missing().min(have.max(least).max(ROOM));
        let spare =
            if have + more > LARGE { worker::spare_body(have + more, self.size) } else { None };
        match spare {
            Some(mut spare) => {
                spare.extend_from_slice(&self.bytes);
                worker::recycle(std::mem::replace(&mut self.bytes, spare));
            }
            None => self.bytes.try_reserve(more).map_err(|_| NoMemory)?,
        }
        Ok(())
    }
}
