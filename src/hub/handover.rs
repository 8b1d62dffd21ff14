//! How one worker takes the brokers over from another without a gap, when a reload replaces the one
//! that talks to them: the heir, of the newer configuration, connects and subscribes all that the
//! holder has, while that goes on. Once the heir is level, the holder puts a last message into the
//! ring, after which the heir is the gateway. What the brokers have sent both of them by then the
//! heir has kept; what of that the holder has put into the ring before its last message, the heir has
//! seen there, and the rest is the heir's to put there. What its connections bring only later, and it
//! has seen there, it passes over. In the other direction the ring is one
//! order for both: what comes before that message the holder passes on, what comes after it the heir.
//!
//! If the holder dies meanwhile, it is as if it had put its last message there.

use ws_hub::broker::HeardTwice;
use ws_hub::NodeId;

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
pub struct Heir {
    /// Messages of brokers that the holder may have passed on, or not.
    pub heard: HeardTwice,
    /// Topics of brokers' histories that are followed.
    pub follows: Vec<(usize, Vec<u8>)>,
    /// How many topics were wanted when this was looked at last.
    pub wanted: Option<u64>,
}

impl Heir {
    /// Nothing yet.
    pub fn new(own: NodeId) -> Heir {
        Heir { heard: HeardTwice::new(own), follows: Vec::new(), wanted: None }
    }
}
