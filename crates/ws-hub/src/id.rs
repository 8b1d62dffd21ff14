//! The id of a connection: 128 bits, shown to users as 32 hex digits. The caller draws the random
//! parts from the operating system's generator; this file only knows where each part stands.

use std::fmt;
use std::str::FromStr;

use hashbrown::HashMap;

/// One zone: a machine's nginx, from its start to its end. Drawn at random when the zone is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeId(
    /// The number itself.
    pub u32,
);

/// Bits of a row in an id: as many as rows there can be.
const ROW_BITS: u32 = 10;
/// Bits of a row's generation in an id, which goes round after that.
pub(crate) const GENERATION_BITS: u32 = 14;

/// Names one connection for ever. Big-endian parts, in this order: the node (32 bits), the row of
/// the owning worker in that node's directory (10 bits), the generation of that row (14 bits), 72
/// random bits. The first three tell a sender whose connection it is; the random bits make the id
/// unguessable, and unique over reuse of a row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId([u8; 16]);

/// What is kept by ids that were made here: nobody chooses them, so they need no SipHash.
pub type IdMap<T> = HashMap<ConnId, T>;

impl ConnId {
    /// No connection's.
    pub const NOBODY: ConnId = ConnId([0; 16]);

    /// An id of `node`, owned by `row` in its `generation`, which keep their lower bits;
    /// `random` from the system's generator.
    pub const fn new(node: NodeId, row: u16, generation: u16, random: [u8; 9]) -> Self {
        let row = row as u32 & ((1 << ROW_BITS) - 1);
        let generation = generation as u32 & ((1 << GENERATION_BITS) - 1);
        let owner = (row << GENERATION_BITS | generation).to_be_bytes();
        let (n, o, x) = (node.0.to_be_bytes(), owner, random);
        Self([
            n[0], n[1], n[2], n[3], o[1], o[2], o[3], x[0], x[1], x[2], x[3], x[4], x[5], x[6],
            x[7], x[8],
        ])
    }

    /// From its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The node whose connection it is.
    pub const fn node(&self) -> NodeId {
        NodeId(u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]]))
    }

    /// The directory row of the worker that owns the connection.
    pub const fn row(&self) -> u16 {
        (self.owner() >> GENERATION_BITS) as u16
    }

    /// The generation of that row when the connection was accepted.
    pub const fn generation(&self) -> u16 {
        (self.owner() & ((1 << GENERATION_BITS) - 1)) as u16
    }

    const fn owner(&self) -> u32 {
        u32::from_be_bytes([0, self.0[4], self.0[5], self.0[6]])
    }

    /// As 32 hex digits, in lower case.
    pub fn text(&self) -> [u8; 32] {
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        text
    }

    /// From 32 hex digits of either case.
    pub fn parse(text: &[u8]) -> Result<Self, BadId> {
        let mut bytes = [0; 16];
        if text.len() != 32 {
            return Err(BadId);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn digit(c: u8) -> Result<u8, BadId> {
    match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        b'A'..=b'F' => Ok(c - b'A' + 10),
        _ => Err(BadId),
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnId({self})")
    }
}

impl FromStr for ConnId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        Self::parse(text.as_bytes())
    }
}

/// Not 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadId;

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid connection id")
    }
}

impl std::error::Error for BadId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_stand_where_documented() {
        let id = ConnId::new(NodeId(0x0102_0304), 0x0255, 0x1234, [0xab; 9]);
        assert_eq!(id.to_string(), format!("01020304955234{}", "ab".repeat(9)));
        assert_eq!((id.node(), id.row(), id.generation()), (NodeId(0x0102_0304), 0x0255, 0x1234));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(ConnId::parse(id.to_string().to_uppercase().as_bytes()), Ok(id));
        assert_eq!(ConnId::from_bytes(*id.as_bytes()), id);
    }

    #[test]
    fn anything_but_32_hex_digits_is_refused() {
        for bad in ["", "0", &"0".repeat(31), &"0".repeat(33), &"g".repeat(32), &"é".repeat(16)] {
            assert_eq!(bad.parse::<ConnId>(), Err(BadId), "{bad}");
        }
        let mut text = [b'0'; 32];
        text[31] = 0;
        assert_eq!(ConnId::parse(&text), Err(BadId));
    }
}
