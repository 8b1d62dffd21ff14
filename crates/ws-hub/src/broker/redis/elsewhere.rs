//! What a Cluster's server says of slots that are another's, and what is given back to the router then.

use std::rc::Rc;

use super::item::Item;
use super::wire::Frame;
use crate::broker::address::{split_host, Address};

/// What a server says that does not do what it was asked for. Nothing was done.
#[derive(Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// The slot is another's.
    Moved,
    /// It is about to be this server's, which has the keys by now.
    Ask(Address),
    /// It is on its way, with some of the keys.
    Later,
    /// The Cluster is not whole.
    Down,
}

impl Elsewhere {
    /// What an error says; nothing: it is another one.
    pub fn parse(error: &[u8]) -> Option<Self> {
        let mut words = error.split(|&byte| byte == b' ');
        match words.next()? {
            b"MOVED" => Some(Self::Moved),
            b"TRYAGAIN" => Some(Self::Later),
            b"CLUSTERDOWN" => Some(Self::Down),
            b"ASK" => {
                let place = std::str::from_utf8(words.nth(1)?).ok()?;
                // Addresses of IPv6 stand without brackets here.
                let (host, port) = place.rsplit_once(':')?;
                split_host(&format!("[{host}]:{port}"), 0).ok().map(Self::Ask)
            }
            _ => None,
        }
    }
}

/// What is another server's, and what the router is to know.
#[derive(Default)]
pub struct Returned {
    /// What was not done; with an address what that server is to be asked for.
    pub items: Vec<(Item, Option<Address>)>,
    /// Names of topics that are wanted, and are not to be subscribed here.
    pub names: Vec<Rc<[u8]>>,
    /// Slots may have moved.
    pub doubts: bool,
    /// An answer to CLUSTER SLOTS.
    pub map: Option<Frame>,
}

impl Returned {
    /// Whether there is nothing to be taken.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.names.is_empty() && !self.doubts && self.map.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        let ask = |host: &str| Some(Elsewhere::Ask(Address::Tcp(host.to_string(), 7)));
        for (error, place) in [
            ("MOVED 1 a:7", Some(Elsewhere::Moved)),
            ("ASK 1 a:7", ask("a")),
            ("ASK 1 ::1:7", ask("::1")),
            ("ASK 1 :7", None),
            ("ASK 1 a", None),
            ("ASK", None),
            ("TRYAGAIN Multiple keys request", Some(Elsewhere::Later)),
            ("CLUSTERDOWN Hash slot not served", Some(Elsewhere::Down)),
            ("NOPERM MOVED", None),
            ("", None),
        ] {
            assert_eq!(Elsewhere::parse(error.as_bytes()), place, "{error}");
        }
    }
}
