//! Subscribing, and what topics say of themselves: their subscribers, their histories.

use ws_hub::history::{Batch, Cursor, From, Limit, Position, Record};
use ws_hub::json::{CursorText, State};
use ws_hub::presence::MAX_INFO;
use ws_hub::since::Since;
use ws_hub::topic::check_topic;
use ws_hub::{ConnId, TopicHash};

use super::error::Error;
use super::history::{cursor, Item};
use super::resume::Wanted;
use super::worker::with;

/// Subscribes a registered session, or a mailbox. Returns whether that is new, and where the
/// subscriber stands. To whom it is not new nothing changes.
pub fn subscribe(id: &ConnId, topic: &[u8], wanted: &Wanted<'_>) -> Result<(bool, State), Error> {
    check_topic(topic).map_err(Error::Topic)?;
    if wanted.json && std::str::from_utf8(topic).is_err() {
        return Err(Error::TopicUtf8);
    }
    let info = check_info(wanted.info)?;
    with(|hub| {
        let handle = hub.local.handle(id).ok_or(Error::Closed)?;
        let topics = &hub.local.topics;
        if topics.count_of(handle) >= wanted.most_topics && !topics.contains(topic, handle) {
            return Err(Error::TooManySubscriptions);
        }
        let is_first = hub.local.topics.count(topic) == 0;
        if is_first {
            if let Some(bus) = &mut hub.bus {
                bus.listen_to(topic);
            }
            // What was published before belongs to nobody here, see ws-hub.
            hub.drain(true);
        } else if matches!(wanted.since, Since::Cursor(_)) {
            hub.local.move_to_top(topic);
        }
        let fresh = hub.local.topics.subscribe(topic, handle);
        if is_first {
            hub.local.begin_topic(topic);
            hub.tell(&[topic]);
        }
        if let (true, Some(bus)) = (fresh, &mut hub.bus) {
            let now = hub.local.topics.count(topic);
            bus.counted(topic, now - 1, now);
        }
        hub.note_topics();
        if !fresh {
            return Ok((false, hub.local.stands(topic)));
        }
        if !info.is_empty() {
            hub.local.set_info(topic, handle, info);
        }
        hub.local.note_change(topic, handle, true);
        let state = hub.local.begin(handle, topic, wanted);
        hub.local.fill(handle);
        hub.ask_for_members();
        Ok((true, state))
    })
}

/// What a subscriber may say of itself.
pub fn check_info(info: &[u8]) -> Result<&str, Error> {
    if info.len() > MAX_INFO {
        return Err(Error::InfoTooLong);
    }
    std::str::from_utf8(info).map_err(|_| Error::InfoUtf8)
}

/// Ends one subscription, or all. Returns how many there were.
pub fn unsubscribe(id: &ConnId, topic: Option<&[u8]>) -> Result<usize, Error> {
    with(|hub| {
        let handle = hub.local.handle(id).ok_or(Error::Closed)?;
        let ended = match topic {
            Some(topic) => usize::from(hub.unsubscribe(topic, handle)),
            None => hub.unsubscribe_all(handle),
        };
        hub.note_topics();
        Ok(ended)
    })
}

/// The topics of a registered session.
pub fn topics(id: &ConnId) -> Result<Vec<Vec<u8>>, Error> {
    with(|hub| {
        let handle = hub.local.handle(id).ok_or(Error::Closed)?;
        Ok(hub.local.topics.topics(handle).map(<[u8]>::to_vec).collect())
    })
}

/// The oldest gap that a connection's handler has not been told of: topic and reason.
pub fn take_gap(id: &ConnId) -> Option<(Vec<u8>, &'static str)> {
    with(|hub| Ok(hub.local.take_gap(id))).ok().flatten()
}

/// Subscribers of a topic in all workers.
pub fn subscribers(topic: &[u8]) -> u64 {
    with(|hub| {
        if let Some(bus) = &mut hub.bus {
            bus.free_dead();
        }
        Ok(hub.subscribers(topic))
    })
    .unwrap_or(0)
}

/// A message of a history.
pub struct Found {
    /// Text, or binary.
    pub text: bool,
    /// The message.
    pub data: Vec<u8>,
    /// Its number.
    pub offset: u64,
    /// When it was stored, in milliseconds since 1970.
    pub time: u64,
    /// From where on newer ones follow.
    pub cursor: CursorText,
}

/// A part of a history.
pub struct History {
    /// The messages, oldest first.
    pub messages: Vec<Found>,
    /// Where the part ends: what came after it follows from here.
    pub cursor: CursorText,
}

/// At most so many messages and bytes of a history at once.
const MAX_READ: Limit = Limit { records: 1000, bytes: 4 * 1024 * 1024 };
/// Only to see whether they are there.
const NONE: Limit = Limit { records: 0, bytes: 0 };

/// What a topic remembers: after `since`, or the newest ones, at most `limit`, the oldest of them;
/// with `reverse` the newest of them.
pub fn history(
    topic: &[u8],
    since: &Since<'_>,
    limit: usize,
    reverse: bool,
) -> Result<History, Error> {
    check_topic(topic).map_err(Error::Topic)?;
    with(|hub| {
        let limit = Limit { records: limit.min(MAX_READ.records), ..MAX_READ };
        let mut batch = Batch::default();
        let mut from = match since {
            Since::Now => From::Newest(limit.records),
            Since::Newest(n) => From::Newest(*n),
            Since::Cursor(text) => match Cursor::decode(text) {
                Some(cursor) if cursor.topic == TopicHash::of(topic) => {
                    From::After(cursor.position)
                }
                _ => return Err(Error::Cursor),
            },
        };
        if let From::After(at) = from {
            let here = hub.local.position(topic);
            if here.is_some_and(|here| hub.local.is_ahead(topic, at, here)) {
                return Err(Error::BrokerUnavailable);
            }
        }
        if reverse {
            let newest = match from {
                From::Newest(n) => n,
                From::After(_) => hub.local.read_all(topic, from, NONE, &mut batch)?.all as usize,
            };
            from = From::Newest(newest.min(limit.records));
        }
        let page = hub.local.read_all(topic, from, limit, &mut batch)?;
        let cursor_of = |offset| cursor(topic, Position { epoch: page.top.epoch, offset });
        let found = |record: Record<'_>| -> Result<Found, Error> {
            let Item { text, data: bytes, .. } = Item::of(&record);
            let (offset, time) = (record.offset, record.time);
            let mut data = Vec::new();
            data.try_reserve_exact(bytes.len()).map_err(|_| Error::NoMemory)?;
            data.extend_from_slice(bytes);
            Ok(Found { text, data, offset, time, cursor: cursor_of(offset) })
        };
        let mut messages = Vec::new();
        messages.try_reserve_exact(batch.len()).map_err(|_| Error::NoMemory)?;
        for record in batch.iter() {
            messages.push(found(record)?);
        }
        let cursor = messages.last().map_or(cursor_of(page.top.offset), |last| last.cursor);
        Ok(History { messages, cursor })
    })
}

/// Drops what a topic remembers. Whether that was anything.
pub fn forget(topic: &[u8]) -> Result<bool, Error> {
    check_topic(topic).map_err(Error::Topic)?;
    with(|hub| hub.local.forget_history(topic))
}
