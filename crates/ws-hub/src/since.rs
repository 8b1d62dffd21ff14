//! From where on a subscriber wants messages of before, as text: what stands in a URL.

use crate::history::Cursor;
use crate::target::TopicHash;

/// Messages of before that a subscriber wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since<'a> {
    /// None.
    Now,
    /// All after the position that this text stands for.
    Cursor(&'a [u8]),
    /// The newest so many.
    Newest(usize),
}

impl<'a> Since<'a> {
    /// What `text` wants of each topic: `last`, `-N`, cursors joined by `.` or `,` (which a URL may
    /// have as `%2C`), or nothing. There may be as many cursors as topics; a topic takes its own, and
    /// one without gets what is nobody's, to be told that it does not fit.
    pub fn parse(text: &'a [u8], topics: &[&[u8]]) -> Vec<Self> {
        if let Some(all) = Self::for_all(text) {
            return vec![all; topics.len()];
        }
        let pieces = pieces(text).take(topics.len());
        let cursors: Vec<_> = pieces.map(|text| (text, Cursor::decode(text))).collect();
        let hashes: Vec<TopicHash> = topics.iter().map(|topic| TopicHash::of(topic)).collect();
        let is_of = |cursor: &Option<Cursor>, hash| cursor.is_some_and(|c| c.topic == hash);
        let stray = cursors.iter().find(|(_, cursor)| !hashes.iter().any(|&h| is_of(cursor, h)));
        let of = |hash| cursors.iter().find(|(_, cursor)| is_of(cursor, hash)).or(stray);
        hashes.iter().map(|&h| of(h).map_or(Self::Now, |(text, _)| Self::Cursor(text))).collect()
    }

    fn for_all(text: &[u8]) -> Option<Self> {
        match text {
            b"" => Some(Self::Now),
            b"last" => Some(Self::Newest(1)),
            [b'-', digits @ ..] => {
                let digits = std::str::from_utf8(digits).ok()?;
                digits
                    .bytes()
                    .all(|c| c.is_ascii_digit())
                    .then(|| digits.parse().ok())?
                    .map(Self::Newest)
            }
            _ => None,
        }
    }
}

/// The text between separators.
fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let separator = |at: usize| match &text[at..] {
            [b'.' | b',', ..] => Some((at, 1)),
            [b'%', b'2', b'C' | b'c', ..] => Some((at, 3)),
            _ => None,
        };
        match (0..text.len()).find_map(separator) {
            Some((at, len)) => {
                rest = Some(&text[at + len..]);
                Some(&text[..at])
            }
            None => rest.take(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Position;

    fn cursor(topic: &[u8]) -> Vec<u8> {
        let position = Position { epoch: 1, offset: 2 };
        Cursor { topic: TopicHash::of(topic), position }.encode().to_vec()
    }

    #[test]
    fn each_topic_takes_its_own_cursor() {
        let (a, b) = (cursor(b"a"), cursor(b"b"));
        for join in [".", ",", "%2C", "%2c"] {
            let text = [&b[..], join.as_bytes(), &a].concat();
            let found = Since::parse(&text, &[b"a", b"b"]);
            assert_eq!(found, [Since::Cursor(&a), Since::Cursor(&b)], "{join}");
        }
        assert_eq!(Since::parse(&a, &[b"a", b"b"]), [Since::Cursor(&a), Since::Now]);
        // More than there are topics: ignored.
        let text = [&a[..], b".", &b].concat();
        assert_eq!(Since::parse(&text, &[b"a"]), [Since::Cursor(&a)]);
    }

    #[test]
    fn what_fits_no_topic_is_told_to_those_without() {
        let (a, c) = (cursor(b"a"), cursor(b"c"));
        let text = [&a[..], b".", &c].concat();
        assert_eq!(Since::parse(&text, &[b"a", b"b"]), [Since::Cursor(&a), Since::Cursor(&c)]);
        assert_eq!(Since::parse(b"junk", &[b"a"]), [Since::Cursor(b"junk")]);
        assert_eq!(Since::parse(b".", &[b"a"]), [Since::Cursor(b"")]);
    }

    #[test]
    fn some_words_are_for_all_topics() {
        for (text, since) in [
            (&b""[..], Since::Now),
            (b"last", Since::Newest(1)),
            (b"-10", Since::Newest(10)),
            (b"-0", Since::Newest(0)),
            (b"-", Since::Cursor(b"-")),
            (b"-1x", Since::Cursor(b"-1x")),
            (b"-99999999999999999999999", Since::Cursor(b"-99999999999999999999999")),
            (b"10", Since::Cursor(b"10")),
        ] {
            assert_eq!(Since::parse(text, &[b"a", b"b"]), [since; 2], "{text:?}");
        }
    }
}
