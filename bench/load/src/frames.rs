//! Frames built beforehand, and the bytes that must come back for them. Written from RFC 6455
//! alone, not with the codec under test.

use crate::Kind;

/// A burst to send in one write, and its whole answer.
#[derive(Clone)]
pub struct Burst {
    /// Masked frames.
    pub out: Vec<u8>,
    /// The same messages as a server frames them (or, from a raw echo, the very bytes).
    pub back: Vec<u8>,
    stamps: Vec<Stamp>,
}

/// Where a message's first bytes lie.
#[derive(Clone, Copy)]
struct Stamp {
    out: usize,
    back: usize,
    key: [u8; 4],
}

/// Length of a stamp: a number in hexadecimal, which is valid text too.
const STAMP: usize = 8;

impl Burst {
    /// Gives each message a number of its own, counting on from `number`: a server must not meet
    /// the same payload twice, or one that keeps a table of its strings (Lua) finds it there.
    pub fn stamp(&mut self, number: &mut u32) {
        for stamp in &self.stamps {
            *number = number.wrapping_add(1);
            for i in 0..STAMP {
                let digit = b"0123456789abcdef"[(*number >> (4 * i)) as usize & 15];
                self.out[stamp.out + i] = digit ^ stamp.key[i % 4];
                // A raw echo's answer is masked, too.
                let mask = if self.back.len() == self.out.len() { stamp.key[i % 4] } else { 0 };
                self.back[stamp.back + i] = digit ^ mask;
            }
        }
    }
}

/// `count` bursts of `depth` messages of `size` bytes.
pub fn bursts(kind: Kind, size: usize, depth: usize, count: usize, raw: bool) -> Vec<Burst> {
    let mut seed = 0x9E37_79B9_7F4A_7C15;
    let mut burst = || {
        let mut burst = Burst { out: Vec::new(), back: Vec::new(), stamps: Vec::new() };
        for _ in 0..depth {
            let payload = payload(kind, size, &mut seed);
            let key = (next(&mut seed) as u32 | 1).to_le_bytes();
            let from = burst.out.len();
            masked(opcode(kind), &payload, key, &mut burst.out);
            if raw {
                burst.back.extend_from_slice(&burst.out[from..]);
            } else {
                header(opcode(kind), payload.len(), 0, &mut burst.back);
                burst.back.extend_from_slice(&payload);
            }
            if size >= STAMP {
                let (out, back) = (burst.out.len() - size, burst.back.len() - size);
                burst.stamps.push(Stamp { out, back, key });
            }
        }
        burst
    };
    (0..count).map(|_| burst()).collect()
}

/// A close frame with code 1000, masked.
pub fn close() -> Vec<u8> {
    let mut out = Vec::new();
    masked(8, &1000u16.to_be_bytes(), [1, 2, 3, 4], &mut out);
    out
}

/// A message of `size` bytes (at most 65535) that compresses well, as permessage-deflate sends it
/// (RFC 7692 7.2.3.3, a block without compression), masked: the server has to inflate it, and to
/// compress the answer.
pub fn deflated(size: u16) -> Vec<u8> {
    let mut payload = vec![0];
    payload.extend_from_slice(&size.to_le_bytes());
    payload.extend_from_slice(&(!size).to_le_bytes());
    payload.extend((0..size).map(|i| b"websocket frames"[usize::from(i % 16)]));
    payload.push(0);
    let mut out = Vec::new();
    masked(RSV1 | 2, &payload, [1, 2, 3, 4], &mut out);
    out
}

/// Marks a compressed message.
pub const RSV1: u8 = 0x40;

/// Length of the unmasked frame that `bytes` begins with, once its header is there.
pub fn length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        127 => Some(10 + u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
        126 => Some(4 + usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        len => Some(2 + usize::from(*len)),
    }
}

/// Appends one masked frame.
fn masked(opcode: u8, payload: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
    header(opcode, payload.len(), 0x80, out);
    out.extend_from_slice(&key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
}

fn header(opcode: u8, len: usize, mask_bit: u8, out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match len {
        0..=125 => out.push(mask_bit | len as u8),
        126..=0xFFFF => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

fn opcode(kind: Kind) -> u8 {
    match kind {
        Kind::Text => 1,
        Kind::Binary => 2,
    }
}

fn payload(kind: Kind, size: usize, seed: &mut u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..size).map(|_| (next(seed) >> 32) as u8).collect();
    if let Kind::Text = kind {
        bytes.iter_mut().for_each(|byte| *byte = b' ' + *byte % 95);
        // One two-byte character in each 64 bytes, as in most European languages.
        for pair in bytes.chunks_exact_mut(64) {
            pair[..2].copy_from_slice("é".as_bytes());
        }
    }
    bytes
}

/// xorshift64*: payloads need to differ, not to be unpredictable.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    seed.wrapping_mul(0x2545_F491_4F6C_DD1D)
}
