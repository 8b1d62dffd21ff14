//! The topics of one message.

use super::EnvelopeError;
use crate::topic::{check_topic, TopicError};

/// Several topics, as bytes: of each its length and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topics<'a> {
    pub(super) count: u8,
    pub(super) bytes: &'a [u8],
}

impl<'a> Topics<'a> {
    /// The most topics of one message.
    pub const MOST: usize = u8::MAX as usize;

    /// These topics, which `bytes` are made to hold.
    pub fn new(topics: &[&[u8]], bytes: &'a mut Vec<u8>) -> Result<Self, EnvelopeError> {
        let count = u8::try_from(topics.len()).map_err(|_| EnvelopeError::Topics)?;
        bytes.clear();
        let len = topics.iter().map(|topic| 1 + topic.len()).sum();
        bytes.try_reserve(len).map_err(|_| EnvelopeError::NoMemory)?;
        for topic in topics {
            bytes.push(checked_len(topic)?);
            bytes.extend_from_slice(topic);
        }
        Ok(Self { count, bytes })
    }

    /// Takes so many topics off the beginning.
    pub(super) fn take(count: u8, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), EnvelopeError> {
        let mut rest = bytes;
        for _ in 0..count {
            let (&len, after) = rest.split_first().ok_or(EnvelopeError::Short)?;
            let (topic, after) = after.split_at_checked(len.into()).ok_or(EnvelopeError::Short)?;
            check_topic(topic)?;
            rest = after;
        }
        Ok((Self { count, bytes: &bytes[..bytes.len() - rest.len()] }, rest))
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (&len, after) = rest.split_first()?;
            let (topic, after) = after.split_at_checked(len.into())?;
            rest = after;
            Some(topic)
        })
    }
}

/// The length of a topic that is one.
pub(super) fn checked_len(topic: &[u8]) -> Result<u8, TopicError> {
    check_topic(topic)?;
    // Topics have 255 bytes at most.
    Ok(topic.len() as u8)
}
