//! Whose the slots are: an answer to CLUSTER SLOTS, as one server sees it. Of the slots only those of
//! tags count, and of the servers only masters: the others have no topic.

use crate::broker::address::Address;
use crate::broker::redis::slots::{Tag, Tags, SLOTS, TAGS};
use crate::broker::redis::wire::Frame;

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub struct View {
    /// The masters that have slots of tags.
    pub masters: Vec<Address>,
    /// Of each tag which of them has its slot.
    pub owners: Vec<Option<u16>>,
}

impl View {
    /// Reads an answer of the server at `asked`. Nothing: it is none, or there are more than `most`
    /// masters.
    pub fn read(frame: &Frame, asked: &Address, tags: &Tags, most: usize) -> Option<Self> {
        let mut view = Self { masters: Vec::new(), owners: vec![None; TAGS] };
        for range in frame.as_array()? {
            let [from, to, master, ..] = range.as_array()? else { return None };
            let slot = |frame: &Frame| {
                let slot = usize::try_from(frame.as_integer()?).ok()?;
                (slot < SLOTS).then_some(slot)
            };
            let (from, to) = (slot(from)?, slot(to)?);
            // A tag is in each sixteenth of the slots, so most of a range of one have none.
            let part = SLOTS / TAGS;
            let in_range = |tag: &Tag| (from..=to).contains(&tags.slot(*tag).into());
            let own: Vec<Tag> =
                (from / part..=to / part).map(|tag| tag as Tag).filter(in_range).collect();
            if own.is_empty() {
                continue;
            }
            let address = address(master.as_array()?, asked)?;
            let known = view.masters.iter().position(|one| *one == address);
            let n = known.unwrap_or_else(|| {
                view.masters.push(address);
                view.masters.len() - 1
            });
            // Not only at the end: each of them is looked for among all before it.
            if view.masters.len() > most {
                return None;
            }
            for tag in own {
                view.owners[usize::from(tag)] = Some(n as u16);
            }
        }
        Some(view)
    }
}

/// A server's address: as the Cluster wants it to be known (`cluster-preferred-endpoint-type`). Where
/// it does not know its own, it is the one that was asked.
fn address(server: &[Frame], asked: &Address) -> Option<Address> {
    let [host, port, ..] = server else { return None };
    let port = u16::try_from(port.as_integer()?).ok().filter(|&port| port > 0)?;
    match (host.as_str().filter(|host| !host.is_empty() && *host != "?"), asked) {
        (Some(host), _) => Some(Address::Tcp(host.to_string(), port)),
        (None, Address::Tcp(host, _)) => Some(Address::Tcp(host.clone(), port)),
        (None, Address::Unix(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Frame {
        let bytes = text.replace(' ', "\r\n").into_bytes();
        resp_rs::resp3::parse_frame(bytes.into()).expect("a frame").0
    }

    fn at(host: &str, port: u16) -> Address {
        Address::Tcp(host.to_string(), port)
    }

    #[test]
    fn a_map_is_read() {
        let tags = Tags::new();
        let asked = at("seed", 1);
        let text = "*3 *4 :0 :8191 *4 +a :7 +id *0 *3 +r :9 +id *3 :8192 :16000 *3 _ :8 +id \
                    *3 :16001 :16383 *3 +a :7 +id ";
        let view = View::read(&frame(text), &asked, &tags, 9).unwrap();
        assert_eq!(view.masters, [at("a", 7), at("seed", 8)]);
        let owners = |n| view.owners.iter().filter(|owner| **owner == n).count();
        assert_eq!((owners(None), view.owners[0], view.owners[511]), (0, Some(0), Some(0)));
        assert_eq!((view.owners[512], view.owners[1023]), (Some(1), Some(0)));
        assert!((485..=490).contains(&owners(Some(1))), "{}", owners(Some(1)));
        assert_eq!(View::read(&frame(text), &asked, &tags, 1), None, "too many");
    }

    #[test]
    fn slots_that_nobody_has_have_nobody_and_what_is_none_is_refused() {
        let (tags, asked) = (Tags::new(), at("seed", 1));
        let read = |text: &str| View::read(&frame(text), &asked, &tags, 9);
        let view = read("*0 ").unwrap();
        assert!(view.masters.is_empty() && view.owners.iter().all(Option::is_none));
        // A range without a tag's slot: its server is not needed.
        let slot = (0..16).find(|&n| n != tags.slot(0)).unwrap();
        let view = read(&format!("*1 *3 :{slot} :{slot} *3 +a :7 +id ")).unwrap();
        assert!(view.masters.is_empty());
        for bad in [
            "+OK ",
            "*1 :1 ",
            "*1 *3 :0 :16384 *3 +a :7 +id ",
            "*1 *3 :0 :100 *3 +a :0 +id ",
            "*1 *3 :0 :100 *3 +a :70000 +id ",
            "*1 *3 :-1 :100 *3 +a :7 +id ",
            "*1 *2 :0 :100 ",
            "*1 *3 :0 :100 +a ",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
