//! The frame header (RFC 6455 5.2): reading it in the three steps in which it arrives, and
//! writing it. No state is kept; `Conn` uses it for whole connections, the raw `protocol` API
//! calls it step by step around its own reads.

use crate::{opcode, Error};

/// Which incoming frames must be masked (RFC 6455 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masking {
    /// Every frame must be: the rule of a server.
    Required,
    /// Either is taken: lua-resty-websocket's client.
    Optional,
    /// No frame may be: the rule of a client.
    Forbidden,
}

/// How strictly the extended length is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// lua-resty-websocket's rule: any form will do, but 2^31 and more is refused.
    Lenient,
    /// RFC 6455 5.2: the shortest form only, and the top bit of a 64-bit length is zero.
    Minimal,
}

/// The first two bytes of a frame, checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameHeader {
    /// The last (or only) fragment of a message.
    pub fin: bool,
    /// RSV1 to RSV3 as they stand in the byte: 0x40, 0x20, 0x10.
    pub rsv: u8,
    /// One of the numbers in [`opcode`].
    pub opcode: u8,
    /// A masking key follows the length.
    pub masked: bool,
    /// The 7-bit length field: 126 and 127 announce an extended length.
    pub len7: u8,
}

impl FrameHeader {
    /// Reads the first two bytes, and judges nothing.
    #[inline]
    pub const fn read(b: [u8; 2]) -> FrameHeader {
        FrameHeader {
            fin: b[0] & 0x80 != 0,
            rsv: b[0] & 0x70,
            opcode: b[0] & 0x0F,
            masked: b[1] & 0x80 != 0,
            len7: b[1] & 0x7F,
        }
    }

    /// Reads the first two bytes. Checks reserved bits, opcode and masking, in this order;
    /// `rsv_allowed` are the bits that negotiated extensions own.
    #[inline]
    pub fn parse(b: [u8; 2], rsv_allowed: u8, masking: Masking) -> Result<FrameHeader, Error> {
        let head = FrameHeader::read(b);
        if head.rsv & !rsv_allowed != 0 {
            return Err(Error::BadRsv);
        }
        match head.opcode {
            0x3..=0x7 => return Err(Error::ReservedData),
            0xB..=0xF => return Err(Error::ReservedControl),
            _ => {}
        }
        match masking {
            Masking::Required if !head.masked => Err(Error::Unmasked),
            Masking::Forbidden if head.masked => Err(Error::Masked),
            _ => Ok(head),
        }
    }

    /// How many bytes of extended length follow: 0, 2 or 8.
    #[inline]
    pub const fn ext_len(&self) -> usize {
        match self.len7 {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    /// The payload length, given the `ext_len()` bytes that follow the first two.
    ///
    /// # Panics
    /// When `ext` has another length than [`FrameHeader::ext_len`] says.
    #[inline]
    pub fn payload_len(&self, ext: &[u8], lengths: Lengths) -> Result<u64, Error> {
        assert_eq!(ext.len(), self.ext_len(), "extended length of the wrong size");
        if ext.is_empty() {
            return Ok(u64::from(self.len7));
        }
        let len = ext.iter().fold(0, |len, &b| (len << 8) | u64::from(b));
        match lengths {
            Lengths::Lenient if len >= 1 << 31 => Err(Error::LenTooLarge),
            Lengths::Minimal if len >= 1 << 63 => Err(Error::LenTopBit),
            Lengths::Minimal if len <= if ext.len() == 2 { 125 } else { 0xFFFF } => {
                Err(Error::LenNotMinimal)
            }
            _ => Ok(len),
        }
    }

    /// What can be said once the length is known: the rules of control frames, then `max`.
    #[inline]
    pub fn check(&self, len: u64, max: u64) -> Result<(), Error> {
        if opcode::is_control(self.opcode) {
            if len > 125 {
                return Err(Error::ControlTooLong);
            }
            if !self.fin {
                return Err(Error::ControlFragmented);
            }
        }
        if len > max {
            return Err(Error::FrameTooLarge);
        }
        Ok(())
    }
}

/// Bytes of the longest header.
pub const LONGEST: usize = 14;

/// A header ready to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    buf: [u8; LONGEST],
    len: u8,
}

impl Encoded {
    fn push(&mut self, bytes: &[u8]) {
        let at = usize::from(self.len);
        self.buf[at..at + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }
}

impl AsRef<[u8]> for Encoded {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.buf[..usize::from(self.len)]
    }
}

/// Writes a header, masking key included, with the length in its shortest form. Nothing is
/// validated: the first byte is FIN, `rsv` and `opcode` or-ed together whatever they are, as the
/// raw-frame API promises.
#[inline]
pub fn encode(fin: bool, rsv: u8, opcode: u8, len: u64, mask: Option<[u8; 4]>) -> Encoded {
    let mut out = Encoded { buf: [0; LONGEST], len: 0 };
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    let first = u8::from(fin) << 7 | rsv | opcode;
    if len <= 125 {
        out.push(&[first, mask_bit | len as u8]);
    } else if let Ok(len) = u16::try_from(len) {
        out.push(&[first, mask_bit | 126]);
        out.push(&len.to_be_bytes());
    } else {
        out.push(&[first, mask_bit | 127]);
        out.push(&len.to_be_bytes());
    }
    if let Some(key) = mask {
        out.push(&key);
    }
    out
}

/// Appends the header of an unfragmented, unmasked frame: what [`encode`] writes, in fewer steps.
#[inline]
pub fn append(out: &mut Vec<u8>, opcode: u8, len: usize) {
    let first = 0x80 | opcode;
    if len <= 125 {
        out.extend_from_slice(&[first, len as u8]);
    } else if let Ok(len) = u16::try_from(len) {
        let [high, low] = len.to_be_bytes();
        out.extend_from_slice(&[first, 126, high, low]);
    } else {
        out.extend_from_slice(&[first, 127]);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
}
