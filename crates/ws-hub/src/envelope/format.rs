//! A message between workers as bytes. Decoding borrows, checks every bound and never panics: the
//! bytes may come from another version of this crate, or from a machine that nobody trusts.
//!
//! Little-endian: version, kind, flags, length of the topic (one byte each); the origin's
//! node (4), row (2) and generation (2); close code (2), sequence (8); if flagged a position (epoch
//! 8, offset 8, time 8); if flagged `except` (16); then the topic or the id (16); the rest is the
//! payload, or the reason of a close. Of several topics the head has their number, and each has its
//! length before it.

use super::topics::checked_len;
use super::{Envelope, EnvelopeError, Errand, Kind, Origin, Stored, Topics, Type};
use crate::id::{ConnId, NodeId};
use crate::topic::check_topic;

const VERSION: u8 = 2;
const FIXED: usize = 22;
const BINARY: u8 = 1;
const EXCEPT: u8 = 2;
const POSITION: u8 = 4;
const FAR: u8 = 8;
const PUBLISH: u8 = 0;
const TO_CONNECTION: u8 = 1;
const CLOSE_CONNECTION: u8 = 2;
const DOORBELL: u8 = 3;
const PUBLISH_MANY: u8 = 4;
const CLOSE_TOPIC: u8 = 5;
const LISTENS: u8 = 6;
const WHO_LISTENS: u8 = 7;
const ASK: u8 = 8;
const ANSWER: u8 = 9;
const CHANGES: u8 = 10;
const ERRAND: u8 = 11;
const HANDS_OVER: u8 = 12;
const UNTOLD: u8 = 13;
/// What a close frame has room for beside its code (RFC 6455 5.5).
const MAX_REASON: usize = 123;

impl<'a> Envelope<'a> {
    /// Appends everything before the payload to `out`. A close has no payload of its own: its
    /// reason is part of the head.
    pub fn encode_head(&self, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        let (kind, topic_len, code) = match self.kind {
            Kind::Publish { topic } => (PUBLISH, checked_len(topic)?, 0),
            Kind::ToConnection { .. } => (TO_CONNECTION, 0, 0),
            Kind::CloseConnection { code, reason, .. } => {
                self.check_close(reason)?;
                (CLOSE_CONNECTION, 0, code)
            }
            Kind::Doorbell { topic } if self.payload.is_empty() => {
                (DOORBELL, checked_len(topic)?, 0)
            }
            Kind::Doorbell { .. } => return Err(EnvelopeError::Payload),
            Kind::PublishMany { topics } => (PUBLISH_MANY, topics.count, 0),
            Kind::Listens { topics } if self.payload.is_empty() => (LISTENS, topics.count, 0),
            Kind::WhoListens if self.payload.is_empty() => (WHO_LISTENS, 0, 0),
            Kind::HandsOver if self.payload.is_empty() => (HANDS_OVER, 0, 0),
            Kind::Untold if self.payload.is_empty() => (UNTOLD, 0, 0),
            Kind::Listens { .. } | Kind::WhoListens | Kind::HandsOver | Kind::Untold => {
                return Err(EnvelopeError::Payload);
            }
            Kind::Errand { topic, key, .. } => {
                u8::try_from(key.len()).map_err(|_| EnvelopeError::Topics)?;
                (ERRAND, checked_len(topic)?, 0)
            }
            Kind::CloseTopic { topic, code, reason } => {
                self.check_close(reason)?;
                (CLOSE_TOPIC, checked_len(topic)?, code)
            }
            Kind::Ask { topic, .. } if self.payload.is_empty() => (ASK, checked_len(topic)?, 0),
            Kind::Ask { .. } => return Err(EnvelopeError::Payload),
            Kind::Answer { .. } => (ANSWER, 0, 0),
            Kind::Changes { topic } => (CHANGES, checked_len(topic)?, 0),
        };
        let binary = if self.typ == Type::Binary { BINARY } else { 0 };
        let except = if self.except.is_some() { EXCEPT } else { 0 };
        let position = if self.stored.is_some() { POSITION } else { 0 };
        let far = if self.far { FAR } else { 0 };
        out.extend([VERSION, kind, binary | except | position | far, topic_len]);
        out.extend(self.origin.node.0.to_le_bytes());
        out.extend(self.origin.row.to_le_bytes());
        out.extend(self.origin.generation.to_le_bytes());
        out.extend(code.to_le_bytes());
        out.extend(self.sequence.to_le_bytes());
        if let Some(Stored { epoch, offset, time }) = self.stored {
            out.extend([epoch, offset, time].map(u64::to_le_bytes).as_flattened());
        }
        if let Some(id) = &self.except {
            out.extend(id.as_bytes());
        }
        match &self.kind {
            Kind::Publish { topic } | Kind::Doorbell { topic } | Kind::Changes { topic } => {
                out.extend(*topic);
            }
            Kind::PublishMany { topics } | Kind::Listens { topics } => out.extend(topics.bytes),
            Kind::WhoListens | Kind::HandsOver | Kind::Untold => {}
            Kind::Errand { topic, errand, key, id } => {
                out.extend([*errand as u8, key.len() as u8]);
                out.extend(*key);
                out.extend(id.as_bytes());
                out.extend(*topic);
            }
            Kind::ToConnection { id } | Kind::Answer { id } => out.extend(id.as_bytes()),
            Kind::Ask { topic, id, most } => {
                out.extend(*topic);
                out.extend(id.as_bytes());
                out.extend(most.to_le_bytes());
            }
            Kind::CloseConnection { id, reason, .. } => {
                out.extend(id.as_bytes());
                out.extend(reason.as_bytes());
            }
            Kind::CloseTopic { topic, reason, .. } => {
                out.extend(*topic);
                out.extend(reason.as_bytes());
            }
        }
        Ok(())
    }

    fn check_close(&self, reason: &str) -> Result<(), EnvelopeError> {
        if reason.len() > MAX_REASON {
            return Err(EnvelopeError::BadReason);
        }
        if !self.payload.is_empty() {
            return Err(EnvelopeError::Payload);
        }
        Ok(())
    }

    /// Appends the whole message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        // At once for most messages: a head of a topic of usual length.
        let most = 2 * FIXED + 64 + self.payload.len();
        out.try_reserve(most).map_err(|_| EnvelopeError::NoMemory)?;
        self.encode_head(out)?;
        out.try_reserve(self.payload.len()).map_err(|_| EnvelopeError::NoMemory)?;
        out.extend_from_slice(self.payload);
        Ok(())
    }

    /// The message that `bytes` hold.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let (fixed, rest) = bytes.split_first_chunk::<FIXED>().ok_or(EnvelopeError::Short)?;
        let [version, kind, flags, topic_len, n0, n1, n2, n3, r0, r1, g0, g1, c0, c1, sequence @ ..] =
            *fixed;
        if version != VERSION {
            return Err(EnvelopeError::Version);
        }
        if flags & !(BINARY | EXCEPT | POSITION | FAR) != 0 {
            return Err(EnvelopeError::Flags);
        }
        let typ = if flags & BINARY != 0 { Type::Binary } else { Type::Text };
        let code = u16::from_le_bytes([c0, c1]);
        let (stored, rest) = if flags & POSITION != 0 {
            let (epoch, rest) = take_number(rest)?;
            let (offset, rest) = take_number(rest)?;
            let (time, rest) = take_number(rest)?;
            (Some(Stored { epoch, offset, time }), rest)
        } else {
            (None, rest)
        };
        let (except, rest) = if flags & EXCEPT != 0 {
            let (id, rest) = take_id(rest)?;
            (Some(id), rest)
        } else {
            (None, rest)
        };
        let (kind, payload) = match kind {
            PUBLISH => {
                let (topic, rest) = take_topic(topic_len, rest)?;
                (Kind::Publish { topic }, rest)
            }
            TO_CONNECTION => {
                let (id, rest) = take_id(rest)?;
                (Kind::ToConnection { id }, rest)
            }
            CLOSE_CONNECTION => {
                let (id, rest) = take_id(rest)?;
                (Kind::CloseConnection { id, code, reason: reason(rest)? }, &[][..])
            }
            DOORBELL => match take_topic(topic_len, rest)? {
                (topic, []) => (Kind::Doorbell { topic }, &[][..]),
                _ => return Err(EnvelopeError::Payload),
            },
            PUBLISH_MANY => {
                let (topics, rest) = Topics::take(topic_len, rest)?;
                (Kind::PublishMany { topics }, rest)
            }
            LISTENS => match Topics::take(topic_len, rest)? {
                (topics, []) => (Kind::Listens { topics }, &[][..]),
                _ => return Err(EnvelopeError::Payload),
            },
            WHO_LISTENS if rest.is_empty() => (Kind::WhoListens, rest),
            HANDS_OVER if rest.is_empty() => (Kind::HandsOver, rest),
            UNTOLD if rest.is_empty() => (Kind::Untold, rest),
            WHO_LISTENS | HANDS_OVER | UNTOLD => return Err(EnvelopeError::Payload),
            CLOSE_TOPIC => {
                let (topic, rest) = take_topic(topic_len, rest)?;
                (Kind::CloseTopic { topic, code, reason: reason(rest)? }, &[][..])
            }
            ASK => {
                let (topic, rest) = take_topic(topic_len, rest)?;
                let (id, rest) = take_id(rest)?;
                match rest.split_first_chunk().ok_or(EnvelopeError::Short)? {
                    (most, []) => {
                        let most = u32::from_le_bytes(*most);
                        (Kind::Ask { topic, id, most }, &[][..])
                    }
                    _ => return Err(EnvelopeError::Payload),
                }
            }
            CHANGES => {
                let (topic, rest) = take_topic(topic_len, rest)?;
                (Kind::Changes { topic }, rest)
            }
            ERRAND => {
                let ([errand, key], rest) = rest.split_first_chunk().ok_or(EnvelopeError::Short)?;
                let errand = *Errand::ALL.get(usize::from(*errand)).ok_or(EnvelopeError::Kind)?;
                let (key, rest) =
                    rest.split_at_checked((*key).into()).ok_or(EnvelopeError::Short)?;
                let (id, rest) = take_id(rest)?;
                let (topic, rest) = take_topic(topic_len, rest)?;
                (Kind::Errand { topic, errand, key, id }, rest)
            }
            ANSWER => {
                let (id, rest) = take_id(rest)?;
                (Kind::Answer { id }, rest)
            }
            _ => return Err(EnvelopeError::Kind),
        };
        let origin = Origin {
            node: NodeId(u32::from_le_bytes([n0, n1, n2, n3])),
            row: u16::from_le_bytes([r0, r1]),
            generation: u16::from_le_bytes([g0, g1]),
        };
        let sequence = u64::from_le_bytes(sequence);
        let far = flags & FAR != 0;
        Ok(Self { kind, typ, origin, sequence, stored, except, far, payload })
    }
}

fn reason(bytes: &[u8]) -> Result<&str, EnvelopeError> {
    let reason = std::str::from_utf8(bytes).map_err(|_| EnvelopeError::BadReason)?;
    if reason.len() > MAX_REASON {
        return Err(EnvelopeError::BadReason);
    }
    Ok(reason)
}

fn take_topic(len: u8, bytes: &[u8]) -> Result<(&[u8], &[u8]), EnvelopeError> {
    let (topic, rest) = bytes.split_at_checked(len.into()).ok_or(EnvelopeError::Short)?;
    check_topic(topic)?;
    Ok((topic, rest))
}

fn take_number(bytes: &[u8]) -> Result<(u64, &[u8]), EnvelopeError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(EnvelopeError::Short)?;
    Ok((u64::from_le_bytes(*number), rest))
}

fn take_id(bytes: &[u8]) -> Result<(ConnId, &[u8]), EnvelopeError> {
    let (id, rest) = bytes.split_first_chunk().ok_or(EnvelopeError::Short)?;
    Ok((ConnId::from_bytes(*id), rest))
}
