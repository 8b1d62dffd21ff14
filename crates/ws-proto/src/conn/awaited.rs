//! The payload of a large frame, for an owner who receives it straight into the buffer that the
//! message is made of: how much is missing, where it goes, and that it has come.

use super::progress::State;
use super::Conn;
use crate::{Error, Event};

impl Conn {
    /// Of the payload that is awaited: how many bytes are missing, how many are assembled, and for
    /// how many more there is room. `None` as for [`Conn::body_room`].
    pub fn body_awaited(&mut self) -> Option<(usize, usize, usize)> {
        if self.state != State::Body || self.is_coded() {
            return None;
        }
        let missing = self.frame.missing;
        let assembly = self.assembly();
        Some((missing, assembly.len(), assembly.spare()))
    }

    /// Has the payload that is awaited assembled in `memory`, which is empty and has room for what
    /// came already. Returns the memory used before, to be dropped or used elsewhere.
    pub fn assemble_in(&mut self, memory: Vec<u8>) -> Vec<u8> {
        self.assembly().move_to(memory)
    }

    /// For large frames: the buffer that the payload is assembled in, with room made in it, and
    /// how many bytes of this frame are missing. The owner may append at most that many bytes
    /// from the socket, within the buffer's spare capacity, and then must call
    /// [`Conn::body_filled`]. `None` when no payload is awaited, or one that an extension takes
    /// piece by piece, or when there is no memory for it; then use [`Conn::feed`].
    pub fn body_room(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        if self.state != State::Body || self.is_coded() {
            return None;
        }
        let (missing, limit) = (self.frame.missing, self.limit());
        Some((self.assembly().room(missing, limit).ok()?, missing))
    }

    /// The owner appended `n` bytes to the buffer of [`Conn::body_room`]: unmasks and validates
    /// them there. Returns the event if that completes one.
    ///
    /// # Panics
    /// When `body_room` gave none, or `n` is more than the frame misses or the buffer holds.
    pub fn body_filled(&mut self, n: usize) -> Result<Option<Event<'static>>, Error> {
        assert!(self.state == State::Body && !self.is_coded(), "no payload is awaited");
        assert!(n <= self.frame.missing, "more bytes than the frame has");
        let mut frame = self.frame;
        let fresh = self.assembly().tail(n);
        frame.take(fresh);
        self.frame = frame;
        let valid = if self.is_data() { self.sequence.bytes(self.data.tail(n)) } else { Ok(()) };
        let result = valid.and_then(|()| match frame.missing {
            0 => self.complete(None),
            _ => Ok(None),
        });
        if result.is_err() {
            self.stop();
        }
        result
    }
}
