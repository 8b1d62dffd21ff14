//! Messages that come twice while one worker takes the brokers over from another: by its own connection,
//! and by the ring, where the other has put them. What has come by the connection alone is kept. So it
//! is with two connections of one machine (nats/cluster.rs): the one that is told of is "the ring" then.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use crate::envelope::{Envelope, Origin};
use crate::id::NodeId;

/// Bytes that are kept at most, and names of messages that have come by the ring alone.
const MOST: usize = 8 << 20;
const MOST_NAMES: usize = 64 * 1024;

/// By which a message is known: its worker, and its number among that one's.
type Name = (Origin, u64);

/// What has come by one of the two ways.
#[derive(Debug)]
pub struct HeardTwice {
    own: NodeId,
    /// By the connection, in order, each with its broker; and where each is.
    kept: BTreeMap<u64, (Name, usize, Bytes)>,
    places: HashMap<Name, u64>,
    next: u64,
    bytes: usize,
    /// By the ring.
    passed: HashSet<Name>,
    /// There were too many: something is missing, and nothing more is kept, lest it come twice.
    has_lost: bool,
}

impl HeardTwice {
    /// On this machine.
    pub fn new(own: NodeId) -> HeardTwice {
        HeardTwice {
            own,
            kept: BTreeMap::new(),
            places: HashMap::new(),
            next: 0,
            bytes: 0,
            passed: HashSet::new(),
            has_lost: false,
        }
    }

    /// A message has come by the connection to a broker.
    pub fn keep(&mut self, broker: usize, bytes: Bytes) {
        let Ok(message) = Envelope::decode(&bytes) else { return };
        let name = (message.origin, message.sequence);
        if self.passed.remove(&name) || self.has_lost {
            return;
        }
        if self.bytes + bytes.len() > MOST {
            self.has_lost = true;
            return;
        }
        self.bytes += bytes.len();
        self.places.insert(name, self.next);
        self.kept.insert(self.next, (name, broker, bytes));
        self.next += 1;
    }

    /// A message is in the ring. This machine's own come from no broker.
    pub fn pass(&mut self, message: &Envelope<'_>) {
        if message.origin.node == self.own {
            return;
        }
        let name = (message.origin, message.sequence);
        match self.places.remove(&name).and_then(|place| self.kept.remove(&place)) {
            Some((_, _, bytes)) => self.bytes -= bytes.len(),
            None if self.passed.len() == MOST_NAMES => {
                (self.has_lost, self.passed) = (true, HashSet::new());
            }
            None => _ = self.passed.insert(name),
        }
    }

    /// The same of an encoded message.
    pub fn pass_bytes(&mut self, bytes: &[u8]) {
        if let Ok(message) = Envelope::decode(bytes) {
            self.pass(&message);
        }
    }

    /// Some of the ring was missed: what is kept may have been there, and so may what comes.
    pub fn lose(&mut self) {
        (self.kept, self.places, self.bytes) = (BTreeMap::new(), HashMap::new(), 0);
        self.has_lost = true;
    }

    /// What is not in the ring, and whether something is missing.
    pub fn take(&mut self) -> (Vec<(usize, Bytes)>, bool) {
        (self.places, self.bytes) = (HashMap::new(), 0);
        let kept = std::mem::take(&mut self.kept).into_values();
        (kept.map(|(_, broker, bytes)| (broker, bytes)).collect(), self.has_lost)
    }

    /// After that: whether a message that comes by the connection was in the ring before it.
    pub fn came_before(&mut self, bytes: &[u8]) -> bool {
        let message = Envelope::decode(bytes);
        message.is_ok_and(|message| self.passed.remove(&(message.origin, message.sequence)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Kind, Type};

    const OWN: NodeId = NodeId(1);

    fn bytes(node: u32, sequence: u64, len: usize) -> Bytes {
        let (origin, payload) =
            (Origin { node: NodeId(node), row: 0, generation: 1 }, vec![0; len]);
        let message = Envelope {
            kind: Kind::Publish { topic: b"a" },
            typ: Type::Binary,
            origin,
            sequence,
            stored: None,
            except: None,
            far: false,
            payload: &payload,
        };
        let mut out = Vec::new();
        message.encode(&mut out).unwrap();
        out.into()
    }

    fn pass(heard: &mut HeardTwice, bytes: &Bytes) {
        heard.pass(&Envelope::decode(bytes).unwrap());
    }

    #[test]
    fn what_has_come_by_both_ways_is_not_kept() {
        let mut heard = HeardTwice::new(OWN);
        let all: Vec<Bytes> = (0..5).map(|n| bytes(2, n, 1)).collect();
        pass(&mut heard, &all[0]);
        all.iter().for_each(|message| heard.keep(0, message.clone()));
        pass(&mut heard, &all[3]);
        pass(&mut heard, &bytes(3, 1, 1));
        assert_eq!(heard.passed.len(), 1, "the other machine's");
        let rest = [1, 2, 4].map(|n: usize| (0, all[n].clone()));
        assert_eq!(heard.take(), (rest.to_vec(), false));
        // By the connection after that.
        assert!(heard.came_before(&bytes(3, 1, 1)) && !heard.came_before(&bytes(3, 1, 1)));
        assert!(!heard.came_before(&bytes(3, 2, 1)));
    }

    #[test]
    fn who_has_missed_a_part_of_the_ring_hears_nothing_twice() {
        let mut heard = HeardTwice::new(OWN);
        pass(&mut heard, &bytes(2, 0, 1));
        heard.keep(0, bytes(2, 1, 1));
        heard.lose();
        heard.keep(0, bytes(2, 2, 1));
        pass(&mut heard, &bytes(2, 3, 1));
        assert_eq!(heard.take(), (vec![], true));
        assert!([0, 3].iter().all(|&n| heard.came_before(&bytes(2, n, 1))));
    }

    #[test]
    fn it_is_bounded_however_long_it_takes() {
        let mut heard = HeardTwice::new(OWN);
        for n in 0..3 * MOST_NAMES as u64 {
            pass(&mut heard, &bytes(1, n, 1));
            let message = bytes(2, n, 100);
            heard.keep(0, message.clone());
            pass(&mut heard, &message);
        }
        assert_eq!((heard.passed.len(), heard.bytes, heard.kept.len()), (0, 0, 0));
        assert!(!heard.has_lost);
        // By the ring alone: the connection is far behind, and must not bring them again.
        (0..2 * MOST_NAMES as u64).for_each(|n| pass(&mut heard, &bytes(3, n, 1)));
        assert!(heard.has_lost && heard.passed.len() <= MOST_NAMES);
        heard.keep(0, bytes(3, 1, 1));
        assert_eq!(heard.take(), (vec![], true));
        // By the connection alone: the first are kept.
        let mut heard = HeardTwice::new(OWN);
        (0..20).for_each(|n| heard.keep(0, bytes(2, n, 1 << 20)));
        let (kept, has_lost) = heard.take();
        assert_eq!((kept.len(), has_lost), (7, true));
    }
}
