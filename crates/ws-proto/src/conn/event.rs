//! What a connection hands to its owner. A payload borrows the input where it lay there in one
//! piece; otherwise the event owns the buffer, and dropping the event frees it.

/// Payload of an event, unmasked.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Lies in the input that was fed.
    Slice(&'a [u8]),
    /// Was assembled from several inputs or fragments.
    Owned(Vec<u8>),
}

impl Payload<'_> {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payload without its first `n` bytes.
    pub(super) fn skip(self, n: usize) -> Self {
        match self {
            Payload::Slice(slice) => Payload::Slice(&slice[n..]),
            Payload::Owned(mut buf) => {
                buf.drain(..n);
                Payload::Owned(buf)
            }
        }
    }
}

impl AsRef<[u8]> for Payload<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Payload::Slice(slice) => slice,
            Payload::Owned(buf) => buf,
        }
    }
}

/// One thing that the peer sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A frame, untouched but for the mask. The only event of frame style.
    Frame {
        /// Last fragment of its message.
        fin: bool,
        /// One of the numbers in [`crate::opcode`].
        opcode: u8,
        /// All of it; in a close frame the code is part of it.
        payload: Payload<'a>,
    },
    /// A whole message.
    Message {
        /// Text, and valid UTF-8; otherwise binary.
        text: bool,
        /// All fragments joined.
        payload: Payload<'a>,
    },
    /// A ping: the owner answers it.
    Ping(Payload<'a>),
    /// A pong.
    Pong(Payload<'a>),
    /// The close handshake's frame; nothing comes after it.
    Close {
        /// None when the frame was empty.
        code: Option<u16>,
        /// Valid UTF-8.
        reason: Payload<'a>,
    },
}
