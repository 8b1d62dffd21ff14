//! Who subscribes a topic, as workers tell each other: a list, when one is asked, in pieces that are
//! each good for one turn of the event loop; and who has come and gone, now and then. Decoding checks
//! every bound and never panics.
//!
//! Formats, little-endian. A member is its number (8), the length of its info (2) and that. A piece
//! begins with the answering row (2; another machine answers as a whole, and this is 0), the number
//! of the piece (4) and what follows (1), see [`Then`]. Changes begin with how many subscribe now (8)
//! and 1 where too much has happened for telling; then of each member 1 if it has come, 0 if it has
//! gone.

use std::collections::hash_map::Entry;
use std::collections::HashMap;

/// The longest info, in bytes.
pub const MAX_INFO: usize = 1024;
/// More changes at once, in bytes, are only told as a number.
pub const MAX_CHANGES: usize = 64 * 1024;

const HEAD: usize = 7;
const CHANGES_HEAD: usize = 9;
/// What a change takes beside its info.
const MEMBER: usize = 11;

/// The head of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Who answers.
    pub row: u16,
    /// How many pieces came before.
    pub piece: u32,
    /// What follows on it.
    pub then: Then,
}

/// What follows on a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Another one.
    More,
    /// Nothing: that was all.
    End,
    /// Nothing, though there may be members that are not among them.
    Cut,
    /// Nothing. There are no members in it, for so many are more than were asked for.
    Number(u64),
}

impl Head {
    /// Begins a piece.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.row.to_le_bytes());
        out.extend(self.piece.to_le_bytes());
        match self.then {
            Then::More => out.push(0),
            Then::End => out.push(1),
            Then::Cut => out.push(2),
            Then::Number(n) => {
                out.push(3);
                out.extend(n.to_le_bytes());
            }
        }
    }

    /// The head of a piece, and its members. None: it is no piece.
    pub fn decode(bytes: &[u8]) -> Option<(Head, Members<'_>)> {
        let (&[r0, r1, p0, p1, p2, p3, then], rest) = bytes.split_first_chunk::<HEAD>()?;
        let row = u16::from_le_bytes([r0, r1]);
        let piece = u32::from_le_bytes([p0, p1, p2, p3]);
        let (then, members) = match then {
            0 => (Then::More, rest),
            1 => (Then::End, rest),
            2 => (Then::Cut, rest),
            3 => (Then::Number(u64::from_le_bytes(rest.try_into().ok()?)), &[][..]),
            _ => return None,
        };
        Some((Head { row, piece, then }, Members(members)))
    }
}

/// Appends a member. Of an info that is too long nothing is told.
pub fn put_member(out: &mut Vec<u8>, number: u64, info: &str) {
    let info = if info.len() > MAX_INFO { "" } else { info };
    out.extend(number.to_le_bytes());
    out.extend((info.len() as u16).to_le_bytes());
    out.extend(info.as_bytes());
}

/// The members of a piece, from its bytes, behind another head. None: there is no memory for it.
pub fn with_head(head: &Head, piece: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    out.try_reserve_exact(piece.len().max(HEAD)).ok()?;
    head.encode(&mut out);
    out.extend(piece.get(HEAD..).unwrap_or_default());
    Some(out)
}

/// The members of a piece: numbers and infos. What is cut off or not UTF-8 ends it.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a>(&'a [u8]);

impl<'a> Iterator for Members<'a> {
    type Item = (u64, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (number, rest) = self.0.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (info, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
        self.0 = rest;
        Some((u64::from_le_bytes(*number), std::str::from_utf8(info).ok()?))
    }
}

/// Who has come and gone since this was last told. A member that has come and gone again is none.
#[derive(Debug, Default)]
pub struct Changes {
    /// By number: whether it has come, and its info.
    members: HashMap<u64, (bool, Box<str>)>,
    bytes: usize,
    /// Too much for telling.
    are_many: bool,
}

impl Changes {
    /// A member has come, or gone.
    pub fn note(&mut self, number: u64, has_come: bool, info: &str) {
        if self.are_many {
            return;
        }
        match self.members.entry(number) {
            Entry::Occupied(entry) if entry.get().0 != has_come => {
                self.bytes -= MEMBER + entry.remove().1.len();
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(entry) => {
                self.bytes += MEMBER + info.len();
                entry.insert((has_come, info.into()));
            }
        }
        if self.bytes > MAX_CHANGES {
            *self = Changes { are_many: true, ..Changes::default() };
        }
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && !self.are_many
    }

    /// As bytes of at most so many, beside how many subscribe now.
    pub fn encode(&self, subscribers: u64, most: usize) -> Vec<u8> {
        let len = CHANGES_HEAD + self.bytes;
        let mut out = Vec::new();
        // Without memory for all of them their number has to do.
        let are_many = self.are_many || len > most || out.try_reserve_exact(len).is_err();
        out.extend(subscribers.to_le_bytes());
        out.push(u8::from(are_many));
        if !are_many {
            for (number, (has_come, info)) in &self.members {
                out.push(u8::from(*has_come));
                put_member(&mut out, *number, info);
            }
        }
        out
    }
}

/// Changes as another worker tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told<'a> {
    /// How many subscribe.
    pub subscribers: u64,
    /// Too much has happened for telling.
    pub are_many: bool,
    /// Numbers and infos of who has come.
    pub joins: Vec<(u64, &'a str)>,
    /// And of who has gone.
    pub leaves: Vec<(u64, &'a str)>,
}

impl<'a> Told<'a> {
    /// What bytes say. None: they are no changes.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (subscribers, rest) = bytes.split_first_chunk()?;
        let (&many, mut rest) = rest.split_first()?;
        let subscribers = u64::from_le_bytes(*subscribers);
        let (mut joins, mut leaves) = (Vec::new(), Vec::new());
        while let Some((&has_come, member)) = rest.split_first() {
            let mut members = Members(member);
            let Some(member) = members.next() else { break };
            let list = if has_come == 1 { &mut joins } else { &mut leaves };
            if list.try_reserve(1).is_err() {
                return Some(Told {
                    subscribers,
                    are_many: true,
                    joins: Vec::new(),
                    leaves: Vec::new(),
                });
            }
            list.push(member);
            rest = members.0;
        }
        Some(Told { subscribers, are_many: many == 1, joins, leaves })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_comes_back() {
        let head = Head { row: 513, piece: 70_000, then: Then::End };
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        let long = "x".repeat(MAX_INFO);
        let members = [(1, "é"), (u64::MAX, ""), (3, long.as_str())];
        members.iter().for_each(|(number, info)| put_member(&mut bytes, *number, info));
        let (got, found) = Head::decode(&bytes).unwrap();
        assert_eq!(got, head);
        assert_eq!(found.collect::<Vec<_>>(), members);
        // Cut anywhere it is whole members, or nothing.
        for cut in 0..bytes.len() {
            if let Some((_, found)) = Head::decode(&bytes[..cut]) {
                let found: Vec<_> = found.collect();
                assert_eq!(found, members[..found.len()]);
                assert!(found.len() < members.len());
            }
        }
    }

    #[test]
    fn what_follows_comes_back() {
        for then in [Then::More, Then::End, Then::Cut, Then::Number(1 << 40)] {
            let head = Head { row: 1, piece: 2, then };
            let mut bytes = Vec::new();
            head.encode(&mut bytes);
            assert_eq!(Head::decode(&bytes).unwrap().0, head);
            bytes[6] = 4;
            assert!(Head::decode(&bytes).is_none());
        }
        let (mut piece, head) = (Vec::new(), Head { row: 0, piece: 9, then: Then::More });
        Head { row: 5, piece: 1, then: Then::End }.encode(&mut piece);
        put_member(&mut piece, 7, "x");
        let again = with_head(&head, &piece).unwrap();
        let (got, mut members) = Head::decode(&again).unwrap();
        assert_eq!((got, members.next(), members.next()), (head, Some((7, "x")), None));
    }

    #[test]
    fn changes_come_back() {
        let mut changes = Changes::default();
        assert!(changes.is_empty());
        changes.note(1, true, "é");
        changes.note(2, false, "gone");
        // Here and gone again; gone and here again: nobody need know.
        changes.note(3, true, "x");
        changes.note(3, false, "x");
        changes.note(2, true, "gone");
        changes.note(4, false, "");
        let bytes = changes.encode(7, MAX_CHANGES);
        let told = Told::decode(&bytes).unwrap();
        assert_eq!((told.subscribers, told.are_many), (7, false));
        assert_eq!((&*told.joins, &*told.leaves), (&[(1, "é")][..], &[(4, "")][..]));
        for cut in 0..bytes.len() {
            let told = Told::decode(&bytes[..cut]);
            assert!(told.is_none_or(|told| told.joins.len() + told.leaves.len() < 2));
        }
        // Less room than they take: a number.
        let told_of = |bytes: &[u8]| Told::decode(bytes).map(|t| (t.are_many, t.joins.len()));
        assert_eq!(told_of(&changes.encode(7, bytes.len() - 1)), Some((true, 0)));
    }

    #[test]
    fn too_many_changes_are_a_number() {
        let mut changes = Changes::default();
        let info = "i".repeat(MAX_INFO);
        (0..63).for_each(|number| changes.note(number, true, &info));
        assert!(!changes.are_many);
        (63..70_000).for_each(|number| changes.note(number, true, &info));
        assert!(changes.are_many && changes.members.is_empty() && !changes.is_empty());
        let told = changes.encode(70_000, MAX_CHANGES);
        let told = Told::decode(&told).unwrap();
        assert_eq!((told.subscribers, told.are_many), (70_000, true));
    }
}
