//! What nearly every message of a client is, taken in one step: an unfragmented, masked data frame
//! below 64 KiB that lies in the input as a whole. `Conn::feed` begins with it, and the owner of a
//! connection may ask for it by itself where each nanosecond counts.

use std::ops::Range;

use super::settings::{Settings, Style};
use crate::header::Masking;
use crate::{mask, opcode, utf8};

/// A whole data frame, in message style a whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// `opcode::TEXT` (in message style valid UTF-8) or `opcode::BINARY`.
    pub opcode: u8,
    /// Where its payload, unmasked by now, lies in the input. The frame ends where it ends.
    pub payload: Range<usize>,
}

/// One more than the longest payload of a plain frame; 0 where none can be.
pub(super) fn end(settings: &Settings) -> u32 {
    let Settings { style, masking, max_frame, max_message, max_fragments } = *settings;
    let max = match style {
        _ if masking == Masking::Forbidden => return 0,
        Style::Messages if max_fragments == 0 => return 0,
        Style::Messages => max_frame.min(max_message),
        Style::Frames => max_frame,
    };
    max.min(u16::MAX.into()) as u32 + 1
}

/// The plain frame that `input` begins with, if its payload is shorter than `end`. Whatever is not
/// quite that, or breaks a rule, changes nothing here.
#[inline(always)]
pub(super) fn find(input: &mut [u8], end: u32, style: Style) -> Option<Plain> {
    let &[first, second, a, b, c, d, ref rest @ ..] = &*input else { return None };
    let opcode = first & 0x0F;
    // FIN, no reserved bit, masked.
    if first & 0xF0 != 0x80 || !matches!(opcode, opcode::TEXT | opcode::BINARY) {
        return None;
    }
    let (start, key, len) = match second.wrapping_sub(0x80) {
        len @ 0..=125 => (6, [a, b, c, d], usize::from(len)),
        126 => {
            let len = usize::from(u16::from_be_bytes([a, b]));
            let &[e, f, ..] = rest else { return None };
            if len <= 125 {
                return None;
            }
            (8, [c, d, e, f], len)
        }
        _ => return None,
    };
    if len >= end as usize {
        return None;
    }
    let range = start..start + len;
    let payload = input.get_mut(range.clone())?;
    mask::apply(key, 0, payload);
    if opcode == opcode::TEXT && style == Style::Messages && !utf8::is_valid(payload) {
        mask::apply(key, 0, payload);
        return None;
    }
    Some(Plain { opcode, payload: range })
}
