//! Slots of a Redis Cluster, and the tags that spread topics over them. What is between the braces of
//! a name alone decides about its slot (Redis Cluster specification, "Hash tags"), so a topic's
//! channel, its history's and its keys are together by one tag.
//!
//! A tag of its own for each topic would make every topic a slot's of its own, and no two could be
//! subscribed by one command. There are `TAGS` of them, made so that each is in another sixteen
//! slots: numbers as they come would leave whole servers without any. A topic's tag is the same on
//! every machine, for ever: it is a part of the names at the server.

use crate::target::TopicHash;

/// How many slots there are.
pub const SLOTS: usize = 16384;
/// How many tags.
pub const TAGS: usize = 1024;
/// A tag's part of the slots.
const PART: usize = SLOTS / TAGS;

/// A tag, by its number.
pub type Tag = u16;

/// The tags: of each its text, which is the smallest number that is in its part, and its slot.
pub struct Tags(Vec<(Box<[u8]>, u16)>);

impl Tags {
    /// Makes them.
    pub fn new() -> Self {
        let mut tags = vec![None; TAGS];
        let mut missing = TAGS;
        for n in 0u32.. {
            let text = n.to_string().into_bytes();
            let slot = slot(&text);
            let tag = &mut tags[usize::from(slot) / PART];
            if tag.is_none() {
                *tag = Some((text.into(), slot));
                missing -= 1;
            }
            if missing == 0 {
                break;
            }
        }
        Self(tags.into_iter().flatten().collect())
    }

    /// The text of a tag.
    pub fn text(&self, tag: Tag) -> &[u8] {
        &self.0[usize::from(tag)].0
    }

    /// The slot that a tag is in.
    pub fn slot(&self, tag: Tag) -> u16 {
        self.0[usize::from(tag)].1
    }
}

/// A topic's tag.
pub fn tag_of(topic: &[u8]) -> Tag {
    (TopicHash::of(topic).0 % TAGS as u64) as Tag
}

/// The slot of a name, or of its tag: CRC-16/XMODEM.
fn slot(name: &[u8]) -> u16 {
    let crc = name.iter().fold(0u16, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    });
    crc % SLOTS as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_the_servers() {
        // Redis Cluster specification: 0x31C3; CLUSTER KEYSLOT a, foo.
        assert_eq!(slot(b"123456789"), 0x31c3 % SLOTS as u16);
        assert_eq!((slot(b"a"), slot(b"foo")), (15495, 12182));
    }

    #[test]
    fn each_tag_is_in_its_part_of_the_slots() {
        let tags = Tags::new();
        for tag in 0..TAGS {
            let text = tags.text(tag as Tag);
            assert_eq!(usize::from(tags.slot(tag as Tag)) / PART, tag);
            assert_eq!(tags.slot(tag as Tag), slot(text));
            assert!(text.len() < 6);
        }
        // They are names at servers that are older than this program: they stay.
        let texts = [0, 1, 1023].map(|tag| tags.text(tag));
        assert_eq!(texts, [b"460", b"491", b"430"]);
        assert_eq!((tag_of(b"news"), tag_of(b"")), (494, 409));
    }
}
