//! Which topics have a history, and what of it is kept: set by the newest configuration, in the
//! zone, so that workers of older generations follow it too. Each has a copy ([`Rules`]), and
//! looks at the zone's generation, one load, before it uses that.

use hashbrown::HashMap;

use super::{Limits, Topic};

/// What a topic whose name fits the pattern is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// A name, or a prefix and `*`.
    pub pattern: Box<[u8]>,
    /// What is kept; nothing for no history.
    pub limits: Option<Limits>,
    /// The caller's.
    pub flags: u32,
}

/// A copy of the rules in a zone.
#[derive(Default)]
pub struct Rules {
    pub(super) generation: u64,
    exact: HashMap<Box<[u8]>, Rule>,
    /// By the prefix without its `*`.
    prefixes: HashMap<Box<[u8]>, Rule>,
    /// Of the prefixes, the longest first.
    lengths: Vec<usize>,
}

impl Rules {
    pub(super) fn new(generation: u64, rules: Vec<Rule>) -> Self {
        let mut new = Self { generation, ..Self::default() };
        for rule in rules {
            match rule.pattern.strip_suffix(b"*") {
                Some(prefix) => {
                    new.lengths.push(prefix.len());
                    new.prefixes.insert(prefix.into(), rule);
                }
                None => {
                    new.exact.insert(rule.pattern.clone(), rule);
                }
            }
        }
        new.lengths.sort_unstable_by(|a, b| b.cmp(a));
        new.lengths.dedup();
        new
    }

    /// The rule for a topic: an exact one before any prefix, a longer prefix before a shorter.
    pub fn find(&self, name: &[u8]) -> Option<&Rule> {
        let by_prefix = |&length: &usize| self.prefixes.get(name.get(..length)?);
        self.exact.get(name).or_else(|| self.lengths.iter().find_map(by_prefix))
    }

    /// Whether a rule is like this.
    pub fn any(&self, like: impl FnMut(&Rule) -> bool) -> bool {
        self.exact.values().chain(self.prefixes.values()).any(like)
    }

    /// A topic for use with the zone; nothing if it has no history.
    pub fn topic<'a>(&self, name: &'a [u8]) -> Option<Topic<'a>> {
        let limits = self.find(name)?.limits?;
        Some(Topic { name, limits, generation: self.generation })
    }

    /// Whether no topic has a rule.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    /// How often the zone's rules had been set.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Rules as bytes. Patterns have 255 at most, as topics have.
pub(super) fn encode(rules: &[Rule]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for rule in rules {
        out.push(u8::try_from(rule.pattern.len()).ok()?);
        out.extend_from_slice(&rule.pattern);
        let limits = rule.limits.unwrap_or(Limits { count: 0, ttl: 0, bytes: 0 });
        out.extend_from_slice(&limits.count.to_le_bytes());
        out.extend_from_slice(&limits.ttl.to_le_bytes());
        out.extend_from_slice(&limits.bytes.to_le_bytes());
        out.extend_from_slice(&rule.flags.to_le_bytes());
    }
    Some(out)
}

/// What `encode` made.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<Rule>> {
    let mut rules = Vec::new();
    while let Some((&len, rest)) = bytes.split_first() {
        let (pattern, rest) = rest.split_at_checked(len.into())?;
        let (count, rest) = rest.split_first_chunk()?;
        let (ttl, rest) = rest.split_first_chunk()?;
        let (kept, rest) = rest.split_first_chunk()?;
        let (flags, rest) = rest.split_first_chunk()?;
        let limits = Limits {
            count: u32::from_le_bytes(*count),
            ttl: u64::from_le_bytes(*ttl),
            bytes: u64::from_le_bytes(*kept),
        };
        rules.push(Rule {
            pattern: pattern.into(),
            limits: (limits.count > 0).then_some(limits),
            flags: u32::from_le_bytes(*flags),
        });
        bytes = rest;
    }
    Some(rules)
}
