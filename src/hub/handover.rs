//! How one worker takes the brokers over from another without a gap, when a reload replaces the one
//! that talks to them: the heir, of the newer configuration, connects and subscribes all that the
//! holder has, while that goes on. Once the heir is level, the holder puts a last message into the
//! ring, after which the heir is the gateway. What the brokers have sent both of them by then the
//! heir has kept; what of that the holder has put into the ring before its last message, the heir has
//! seen there, and the rest is the heir's to put there. In the other direction the ring is one
//! order for both: what comes before that message the holder passes on, what comes after it the heir.
//!
//! If the holder dies meanwhile, it is as if it had put its last message there.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use ws_hub::envelope::Origin;
use ws_hub::Envelope;

/// Bytes that an heir keeps. What more comes is lost, and counted as a gap.
const MOST: usize = 8 << 20;
/// So long a holder that is to quit waits for its heir, in milliseconds, and then for answers.
pub const PATIENCE: u64 = 5000;

/// What a worker is to the brokers.
pub enum Role {
    /// Nothing.
    None,
    /// It is about to take over.
    Heir(Heir),
    /// It talks to them.
    Holder,
    /// It has handed over, and waits until so and so long for what it has sent to be answered.
    Leaving(u64),
}

/// What an heir has heard.
#[derive(Default)]
pub struct Heir {
    kept: VecDeque<(usize, Bytes)>,
    bytes: usize,
    lost: bool,
    /// Messages that the holder has put into the ring.
    passed: HashSet<Name>,
    /// Topics of brokers' histories that are followed.
    pub follows: Vec<(usize, Vec<u8>)>,
    /// How many topics were wanted when this was looked at last.
    pub wanted: Option<u64>,
}

/// By which a message is known: its worker, and its number among that one's.
type Name = (u32, u16, u16, u64);

fn name(message: &Envelope<'_>) -> Name {
    let Origin { node, row, generation } = message.origin;
    (node.0, row, generation, message.sequence)
}

impl Heir {
    /// Keeps a message of a broker's.
    pub fn keep(&mut self, broker: usize, message: Bytes) {
        self.bytes += message.len();
        self.lost |= self.bytes > MOST;
        if self.bytes <= MOST {
            self.kept.push_back((broker, message));
        }
    }

    /// A message in the ring.
    pub fn hear(&mut self, message: &Envelope<'_>) {
        self.passed.insert(name(message));
    }

    /// What the holder has not put into the ring, and whether something is missing.
    pub fn take(self) -> (Vec<(usize, Bytes)>, bool) {
        let Heir { kept, passed, lost, .. } = self;
        let is_new = |(_, bytes): &(usize, Bytes)| {
            Envelope::decode(bytes).is_ok_and(|message| !passed.contains(&name(&message)))
        };
        (kept.into_iter().filter(is_new).collect(), lost)
    }
}
