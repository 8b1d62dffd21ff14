//! What is handed out: a message or frame where it lies, to be copied once, by its taker, or by the
//! connection that it goes on to.

use ws_proto::{close, opcode, Payload};

/// A message or frame that lies in memory which stays as it is until the connection is used again, or,
/// where it lies in the buffer that all connections read into, any connection.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The last fragment of its message; of a message, true.
    pub fin: bool,
    /// One of `ws_proto::opcode`: of a message, text or binary.
    pub opcode: u8,
    /// A close frame's code.
    pub code: Option<u16>,
    /// Start of the payload; of a close frame's reason.
    pub data: *const u8,
    /// Its length in bytes.
    pub len: usize,
}

/// A message on its way from one connection to another.
#[derive(Clone, Copy, Debug)]
pub struct Passing<'a> {
    /// Text, or binary.
    pub text: bool,
    /// Its bytes.
    pub data: &'a [u8],
    /// More has come behind it: they had better leave together.
    pub more: bool,
}

impl View {
    pub(super) fn new(fin: bool, opcode: u8, payload: &[u8]) -> View {
        // The codec has refused a close frame of one byte, the only one that does not parse.
        let (code, rest) = match opcode {
            opcode::CLOSE => close::parse(payload).unwrap_or((None, payload)),
            _ => (None, payload),
        };
        View { fin, opcode, code, data: rest.as_ptr(), len: rest.len() }
    }
}

/// Notes where the payload lies, so that it is copied once, by its taker.
pub(super) fn lend_out(lent: &mut Vec<u8>, fin: bool, opcode: u8, payload: Payload<'_>) -> View {
    let view = View::new(fin, opcode, payload.as_ref());
    if let Payload::Owned(bytes) = payload {
        *lent = bytes;
    }
    view
}
