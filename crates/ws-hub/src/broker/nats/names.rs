//! What things are called at the server: subjects, which all begin with the prefix, whose colons are
//! dots there (`ws:` is `ws.`). A topic is one token: bytes that would be structure in a subject, or
//! cannot be in one, are written as `=` and two digits.

use crate::broker::settings::Driver;
use crate::id::NodeId;

/// Before a topic's name among those that are wanted: a plain topic, and one with a history.
pub const PLAIN: &[u8] = b"t:";
pub const KEPT: &[u8] = b"h:";

/// What a subject is.
#[derive(Debug, PartialEq, Eq)]
pub enum Subject {
    /// A plain topic.
    Plain(Vec<u8>),
    /// What a stream has taken for a topic's history.
    Kept(Vec<u8>),
    /// This machine.
    Node,
    /// Every machine.
    All,
    /// This machine's own words.
    Probe,
    /// An answer to what was asked by this number.
    Answer(u64),
}

/// The names.
pub struct Names {
    prefix: String,
    node: NodeId,
    /// Where answers come to, before their number. No other connection has it.
    inbox: String,
}

impl Names {
    /// The names for this machine.
    pub fn new(prefix: &[u8], driver: &Driver) -> Self {
        let mut prefix: String = String::from_utf8_lossy(prefix).replace(':', ".");
        if !prefix.ends_with('.') {
            prefix.push('.');
        }
        let inbox = format!("{prefix}r.{:08x}.{:016x}.", driver.node.0, driver.seed);
        Self { prefix, node: driver.node, inbox }
    }

    /// What is subscribed before any topic.
    pub fn own(&self) -> [String; 4] {
        let probe = format!("{}probe.{:08x}", self.prefix, self.node.0);
        [self.of_node(self.node), self.all(), probe, format!("{}*", self.inbox)]
    }

    /// A machine's subject.
    pub fn of_node(&self, node: NodeId) -> String {
        format!("{}n.{:08x}", self.prefix, node.0)
    }

    /// Every machine's.
    pub fn all(&self) -> String {
        format!("{}all", self.prefix)
    }

    /// That of this machine's own words.
    pub fn probe(&self) -> String {
        format!("{}probe.{:08x}", self.prefix, self.node.0)
    }

    /// Where the answer to a question comes to.
    pub fn answer(&self, number: u64) -> String {
        format!("{}{number}", self.inbox)
    }

    /// A plain topic's.
    pub fn plain(&self, topic: &[u8]) -> String {
        format!("{}t.{}", self.prefix, token(topic))
    }

    /// Where a stream takes a topic's messages from.
    pub fn stored(&self, topic: &[u8]) -> String {
        format!("{}p.{}", self.prefix, token(topic))
    }

    /// All of those, and where the stream sends them on to.
    pub fn stream(&self) -> (String, String) {
        (format!("{}p.>", self.prefix), format!("{}l.>", self.prefix))
    }

    /// What is to be subscribed for one of the wanted names.
    pub fn wanted(&self, name: &[u8]) -> String {
        match name.strip_prefix(KEPT) {
            Some(topic) => format!("{}l.{}", self.prefix, token(topic)),
            None => self.plain(name.strip_prefix(PLAIN).unwrap_or(name)),
        }
    }

    /// The wanted name of a subject that somebody names.
    pub fn name_of(&self, subject: &[u8]) -> Option<Vec<u8>> {
        match self.read(subject)? {
            Subject::Plain(topic) => Some([PLAIN, &topic].concat()),
            Subject::Kept(topic) => Some([KEPT, &topic].concat()),
            _ => None,
        }
    }

    /// The topic of a subject from which a stream takes messages.
    pub fn topic_stored(&self, subject: &[u8]) -> Option<Vec<u8>> {
        untoken(subject.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b"p.")?)
    }

    /// What a subject is; nothing: none that was subscribed.
    pub fn read(&self, subject: &[u8]) -> Option<Subject> {
        if let Some(number) = subject.strip_prefix(self.inbox.as_bytes()) {
            return Some(Subject::Answer(std::str::from_utf8(number).ok()?.parse().ok()?));
        }
        let rest = subject.strip_prefix(self.prefix.as_bytes())?;
        if let Some(topic) = rest.strip_prefix(b"t.") {
            return untoken(topic).map(Subject::Plain);
        }
        if let Some(topic) = rest.strip_prefix(b"l.") {
            return untoken(topic).map(Subject::Kept);
        }
        match subject {
            _ if rest == b"all" => Some(Subject::All),
            _ if subject == self.of_node(self.node).as_bytes() => Some(Subject::Node),
            _ if subject == self.probe().as_bytes() => Some(Subject::Probe),
            _ => None,
        }
    }
}

/// Whether this can be the prefix of subjects.
pub fn is_prefix(prefix: &[u8]) -> bool {
    let word = |word: &[u8]| !word.is_empty() && word.iter().all(|&byte| is_plain(byte));
    let prefix = prefix.strip_suffix(b":").or(prefix.strip_suffix(b".")).unwrap_or(prefix);
    prefix.split(|&byte| byte == b':' || byte == b'.').all(word)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn token(topic: &[u8]) -> String {
    let mut out = String::with_capacity(topic.len());
    for &byte in topic {
        match is_plain(byte) {
            true => out.push(byte.into()),
            false => out.push_str(&format!("={byte:02X}")),
        }
    }
    out
}

fn untoken(token: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(token.len());
    let mut rest = token;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'=' => {
                let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &tail[2..];
            }
            &byte if is_plain(byte) => out.push(byte),
            _ => return None,
        }
    }
    // One way to write each, so that rights to a subject are rights to a topic.
    (self::token(&out).as_bytes() == token).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_topic_is_one_token() {
        let driver = Driver { node: NodeId(7), max_message: 1, keeps: true, seed: 3 };
        let names = Names::new(b"ws:", &driver);
        for topic in [&b"chat"[..], b"a.b *>\r\n", b"=", "\u{e4}/\0".as_bytes()] {
            let plain = names.plain(topic);
            assert!(plain.bytes().all(|byte| is_plain(byte) || b"=.".contains(&byte)), "{plain}");
            assert_eq!(plain.matches('.').count(), 2);
            assert_eq!(names.read(plain.as_bytes()), Some(Subject::Plain(topic.to_vec())));
            let kept = names.wanted(&[KEPT, topic].concat());
            assert_eq!(names.name_of(kept.as_bytes()), Some([KEPT, topic].concat()));
            let stored = names.stored(topic);
            assert_eq!(names.topic_stored(stored.as_bytes()).as_deref(), Some(topic));
        }
        for (subject, what) in names.own().iter().zip([Subject::Node, Subject::All, Subject::Probe])
        {
            assert_eq!(names.read(subject.as_bytes()), Some(what));
        }
        assert_eq!(names.read(names.answer(12).as_bytes()), Some(Subject::Answer(12)));
        for none in
            ["ws.t.=6", "ws.t.=61", "ws.t.=e4", "ws.t.a.b", "ws.n.00000008", "x.t.a", "ws.r.1"]
        {
            assert_eq!(names.read(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn prefixes() {
        for good in [&b"ws:"[..], b"ws", b"a.b.", b"a:b:"] {
            assert!(is_prefix(good));
        }
        for bad in [&b""[..], b":", b"a b:", b"*:", b"a::b:", b"a=:"] {
            assert!(!is_prefix(bad));
        }
    }
}
