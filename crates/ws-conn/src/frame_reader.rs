//! One frame after the other, read in exact pieces from a stream that others may read in between, as
//! lua-resty-websocket reads a cosocket: the header in its steps, then masking key and payload. It says
//! how many bytes may be asked for, and keeps what came while the rest has yet to come.

use ws_proto::header::FrameHeader;
use ws_proto::{mask, Error, Lengths, Masking, Stage};

use crate::host::{Host, Io, Recv};
use crate::{pool, IoError, NoMemory, RecvError};

/// Room that is made ahead of what came, at least: what a header announces may never come.
const ROOM: usize = 16 * 1024;
/// A longer body may use memory that is kept for large payloads.
const LARGE: usize = 64 * 1024;

/// What a frame is allowed to be.
#[derive(Clone, Copy, Debug)]
pub struct FrameRules {
    /// Whether it must be masked.
    pub masking: Masking,
    /// Longest payload.
    pub max: u64,
}

impl FrameRules {
    /// How many bytes masking key and payload are, if the length is allowed: given by `ext`, what
    /// follows the first two bytes.
    pub fn body_len(self, head: FrameHeader, ext: &[u8]) -> Result<usize, Error> {
        let len = head.payload_len(ext, Lengths::Lenient)?;
        head.check(len, self.max)?;
        Ok(len as usize + if head.masked { 4 } else { 0 })
    }

    /// The first two bytes.
    pub fn head(self, first: [u8; 2]) -> Result<FrameHeader, Error> {
        FrameHeader::parse(first, 0, self.masking)
    }
}

/// What a piece has brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// More is missing.
    More,
    /// A whole frame, unmasked.
    Frame(FrameHeader, Vec<u8>),
    /// A whole frame, whose payload is the piece itself.
    Itself(FrameHeader),
}

/// See the module. Owned by whoever reads; between frames it holds no memory.
#[derive(Debug)]
pub struct FrameReader {
    stage: Stage,
    head: FrameHeader,
    /// Bytes of what is awaited now.
    size: usize,
    /// What has come of it.
    bytes: Vec<u8>,
}

impl Default for FrameReader {
    fn default() -> FrameReader {
        FrameReader {
            stage: Stage::First2,
            head: FrameHeader::default(),
            size: 2,
            bytes: Vec::new(),
        }
    }
}

impl FrameReader {
    /// What is awaited.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// How many bytes of it are to be read next.
    pub fn missing(&self) -> usize {
        self.size - self.bytes.len()
    }

    /// How many bytes are awaited altogether.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The header, once two bytes of it came.
    pub fn head(&self) -> FrameHeader {
        self.head
    }

    /// Whether anything of a frame has come.
    pub fn has_begun(&self) -> bool {
        self.stage != Stage::First2 || !self.bytes.is_empty()
    }

    /// Begins with the body of a frame, masking key and payload.
    pub fn begin_body(&mut self, head: FrameHeader, size: usize) {
        *self = FrameReader { stage: Stage::Body, head, size, bytes: Vec::new() };
    }

    /// Keeps a piece, of which nothing is said yet. What is more than is missing is not taken.
    pub fn keep(&mut self, host: &impl Host, piece: &[u8]) -> Result<(), NoMemory> {
        let piece = &piece[..piece.len().min(self.missing())];
        self.make_room(host, piece.len())?;
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Takes a piece. After a frame, or an error, the next one begins.
    pub fn push(
        &mut self,
        host: &impl Host,
        piece: &[u8],
        rules: FrameRules,
    ) -> Result<Piece, RecvError> {
        let step = match piece.get(..self.size).filter(|_| self.bytes.is_empty()) {
            Some(whole) if self.stage != Stage::Body => self.step(whole, rules),
            Some(body) => {
                self.split_off(body).map_err(|err| RecvError::Io(Stage::Body, err.into()))
            }
            None => match self.keep(host, piece) {
                Ok(()) => self.finish(rules),
                Err(err) => Err(RecvError::Io(self.stage, err.into())),
            },
        };
        step.inspect_err(|_| *self = FrameReader::default())
    }

    /// Reads what is there of a body. The end of the stream is left to its next read; an error makes
    /// that fail as well.
    pub fn fill(&mut self, host: &impl Host, io: &impl Io) -> Result<(), IoError> {
        while self.missing() > 0 && io.read_ready() {
            self.make_room(host, 0)?;
            let missing = self.missing();
            match io.recv_into(&mut self.bytes, missing) {
                Recv::Data(_) => {}
                Recv::Again | Recv::Eof => break,
                Recv::Failed(errno) => return Err(IoError::from_errno(errno)),
            }
        }
        Ok(())
    }

    /// What has become of what `keep` and `fill` brought.
    pub fn finish(&mut self, rules: FrameRules) -> Result<Piece, RecvError> {
        if self.missing() > 0 {
            return Ok(Piece::More);
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        if self.stage != Stage::Body {
            return self.step(&bytes, rules);
        }
        let head = self.end();
        if let (true, Some(key)) = (head.masked, bytes.first_chunk().copied()) {
            // A frame with a masking key in front is rare enough here to move its bytes.
            bytes.drain(..key.len());
            mask::apply(key, 0, &mut bytes);
        }
        Ok(Piece::Frame(head, bytes))
    }

    /// The whole body in one piece.
    fn split_off(&mut self, body: &[u8]) -> Result<Piece, NoMemory> {
        let head = self.end();
        Ok(match body.split_first_chunk() {
            Some((key, masked)) if head.masked => {
                let mut payload = pool::copy(masked)?;
                mask::apply(*key, 0, &mut payload);
                Piece::Frame(head, payload)
            }
            _ => Piece::Itself(head),
        })
    }

    /// A whole field of the header: what comes next.
    fn step(&mut self, field: &[u8], rules: FrameRules) -> Result<Piece, RecvError> {
        let body = match (self.stage, field.first_chunk()) {
            (Stage::First2, Some(first)) => {
                self.head = rules.head(*first).map_err(RecvError::Protocol)?;
                match self.head.ext_len() {
                    0 => rules.body_len(self.head, &[]),
                    ext => {
                        self.stage = if ext == 2 { Stage::Len16 } else { Stage::Len64 };
                        self.size = ext;
                        return Ok(Piece::More);
                    }
                }
            }
            _ => rules.body_len(self.head, field),
        };
        self.begin_body(self.head, body.map_err(RecvError::Protocol)?);
        // Nothing is read for an empty body.
        if self.size == 0 {
            return Ok(Piece::Frame(self.end(), Vec::new()));
        }
        Ok(Piece::More)
    }

    /// The frame has been read.
    fn end(&mut self) -> FrameHeader {
        std::mem::take(self).head
    }

    /// Room for `least` bytes, and for as much more as is sensible.
    fn make_room(&mut self, host: &impl Host, least: usize) -> Result<(), NoMemory> {
        let have = self.bytes.len();
        if self.bytes.capacity() - have >= self.missing().min(least.max(ROOM)) {
            return Ok(());
        }
        let more = self.missing().min(have.max(least).max(ROOM));
        let spare = match have + more > LARGE {
            true => host.pool().take_body(have + more, self.size),
            false => None,
        };
        match spare {
            Some(mut spare) => {
                spare.extend_from_slice(&self.bytes);
                host.recycle(std::mem::replace(&mut self.bytes, spare));
            }
            None => self.bytes.try_reserve(more).map_err(|_| NoMemory)?,
        }
        Ok(())
    }
}
