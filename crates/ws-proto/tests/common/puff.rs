//! A second, slow reader of DEFLATE data (RFC 1951), to judge what the compressor makes: it
//! knows the window it is given, and refuses what reaches beyond it by a single byte.
#![allow(dead_code)]

/// Lengths and distances: base and extra bits (RFC 1951 3.2.5).
const LENGTHS: [(usize, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// Order in which the lengths of code-length codes stand (RFC 1951 3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// What one side has sent so far, and the farthest a match has reached back.
pub struct Puff {
    window: usize,
    pub out: Vec<u8>,
    pub farthest: usize,
    /// Matches may not reach before this.
    start: usize,
}

impl Puff {
    pub fn new(window_bits: u8) -> Puff {
        Puff { window: 1 << window_bits, out: Vec::new(), farthest: 0, start: 0 }
    }

    /// Forgets the context.
    pub fn forget(&mut self) {
        self.start = self.out.len();
    }

    /// Adds what was sent by another compressor to the window.
    pub fn sent(&mut self, plain: &[u8]) {
        self.out.extend_from_slice(plain);
    }

    /// One message's payload, without its tail. Returns the message.
    pub fn message(&mut self, payload: &[u8]) -> &[u8] {
        let start = self.out.len();
        let data = [payload, &[0x00, 0x00, 0xFF, 0xFF]].concat();
        let mut bits = Bits { data: &data, at: 0 };
        while bits.at < 8 * data.len() {
            assert_eq!(bits.take(1), 0, "a final block");
            match bits.take(2) {
                0 => self.stored(&mut bits),
                1 => {
                    let lit: Vec<u8> = (0..288)
                        .map(|i| {
                            if i < 144 {
                                8
                            } else {
                                9 - u8::from(i >= 256) * 2 + u8::from(i >= 280)
                            }
                        })
                        .collect();
                    self.block(&mut bits, &Codes::new(&lit), &Codes::new(&[5; 30]));
                }
                2 => {
                    let (lit, dist) = dynamic(&mut bits);
                    self.block(&mut bits, &lit, &dist);
                }
                _ => panic!("a block of the reserved type"),
            }
        }
        &self.out[start..]
    }

    fn stored(&mut self, bits: &mut Bits<'_>) {
        bits.at = bits.at.next_multiple_of(8);
        let (len, complement) = (bits.take(16), bits.take(16));
        assert_eq!(len ^ 0xFFFF, complement);
        let at = bits.at / 8;
        self.out.extend_from_slice(&bits.data[at..at + len]);
        bits.at += 8 * len;
    }

    fn block(&mut self, bits: &mut Bits<'_>, lit: &Codes, dist: &Codes) {
        loop {
            let symbol = lit.read(bits);
            match symbol {
                0..=255 => self.out.push(symbol as u8),
                256 => return,
                _ => {
                    let (base, extra) = LENGTHS[symbol - 257];
                    let len = base + bits.take(extra);
                    let code = dist.read(bits);
                    let extra = (code as u32 / 2).saturating_sub(1);
                    let base = if code < 4 { 1 + code } else { 1 + ((2 + code % 2) << extra) };
                    let distance = base + bits.take(extra);
                    assert!(distance <= self.window, "{distance} back");
                    assert!(distance <= self.out.len() - self.start, "back before the context");
                    self.farthest = self.farthest.max(distance);
                    for _ in 0..len {
                        self.out.push(self.out[self.out.len() - distance]);
                    }
                }
            }
        }
    }
}

fn dynamic(bits: &mut Bits<'_>) -> (Codes, Codes) {
    let (lit, dist, count) = (257 + bits.take(5), 1 + bits.take(5), 4 + bits.take(4));
    let mut lengths = [0; 19];
    for &at in &ORDER[..count] {
        lengths[at] = bits.take(3) as u8;
    }
    let codes = Codes::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < lit + dist {
        let (value, times) = match codes.read(bits) {
            16 => (*lengths.last().expect("a length to repeat"), 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            len => (len as u8, 1),
        };
        lengths.extend(std::iter::repeat_n(value, times));
    }
    (Codes::new(&lengths[..lit]), Codes::new(&lengths[lit..]))
}

struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, n: u32) -> usize {
        (0..n).fold(0, |value, i| {
            let bit = self.data[self.at / 8] >> (self.at % 8) & 1;
            self.at += 1;
            value | usize::from(bit) << i
        })
    }
}

/// A Huffman code by its lengths (RFC 1951 3.2.2).
struct Codes {
    /// Symbols by code length, in order.
    symbols: [Vec<usize>; 16],
}

impl Codes {
    fn new(lengths: &[u8]) -> Codes {
        let mut symbols: [Vec<usize>; 16] = Default::default();
        for (symbol, &len) in lengths.iter().enumerate().filter(|(_, &len)| len > 0) {
            symbols[usize::from(len)].push(symbol);
        }
        Codes { symbols }
    }

    fn read(&self, bits: &mut Bits<'_>) -> usize {
        let (mut code, mut first) = (0, 0);
        for symbols in &self.symbols[1..] {
            code = code << 1 | bits.take(1);
            first <<= 1;
            if code < first + symbols.len() {
                return symbols[code - first];
            }
            first += symbols.len();
        }
        panic!("no such code")
    }
}
