//! Histories at the server: commands that run a script, so that storing and sending are one step, and
//! what is answered. Names are a topic's: `s:` its stream (an entry's id is its offset), `m:` its
//! epoch, its top and the server's replication id, `i:` an idempotency key, `h:` the channel.
//!
//! An epoch is over when the server may have lost something: it was restarted, or another took its
//! place. Both show in the replication id, which the scripts compare with the one that this
//! connection's INFO has told. A live server may change its own, when a replica comes or goes:
//! then a script changes nothing and says so, INFO is asked again, and the script is repeated: with
//! the new id and the old one, which this connection knows to be the same server's; or, where the id
//! that was sent is right after all, as certain.

use std::rc::Rc;

use bytes::Bytes;

use super::names::{Names, KEPT};
use super::wire::{command, Frame};
use crate::broker::incoming::check_stored;
use crate::broker::seam::{Outcome, Page, Placed, Stored};
use crate::history::{Limits, Position, KEY_MS, POSITION_MS};

/// The scripts, in the order of their digests. What publishes for them is `PUBLISH`.
const SCRIPTS: [&str; 3] =
    [include_str!("publish.lua"), include_str!("read.lua"), include_str!("forget.lua")];
/// Messages and bytes of one call at most.
const MESSAGES: usize = 64;
const BYTES: usize = 64 * 1024;
/// Bytes of a piece of a history, before its last message.
pub const PIECE: usize = 256 * 1024;
/// Before a message on a history's channel: epoch, offset, time. Before one in the stream: time.
const HEAD: usize = 24;
const TIME: usize = 8;

/// The scripts as they are loaded, with the command that publishes.
pub fn scripts(publish: &[u8]) -> [String; SCRIPTS.len()] {
    let publish = String::from_utf8_lossy(publish);
    SCRIPTS.map(|script| format!("local PUBLISH = '{publish}'\n{script}"))
}

/// What is to be done with a topic's history.
#[derive(Debug)]
pub struct Op {
    /// Whose.
    pub topic: Rc<[u8]>,
    /// What.
    pub todo: Todo,
    /// Bytes of it, as it is queued.
    pub len: usize,
    /// The replication id was asked for again, and is right.
    pub certain: bool,
    /// It waits until then at most.
    pub until: u64,
    /// In a Cluster: it is sent to a server that is about to have its keys' slot, and may have the
    /// keys by now; they come from the server with this replication id.
    pub asking: bool,
    /// See `asking`.
    pub kin: Option<Rc<[u8]>>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Todo {
    /// These are stored and sent, each with its ticket.
    Keep { messages: Vec<(Vec<u8>, u64)>, key: Option<Box<[u8]>>, limits: Limits },
    /// It is read.
    Read { since: Position, most: u32 },
    /// It is dropped.
    Forget { ticket: u64 },
}

/// The server's replication id, and the one it had before, on this connection.
#[derive(Debug, Default)]
pub struct Replication {
    pub now: Vec<u8>,
    pub before: Vec<u8>,
}

/// What a script has answered.
pub enum Answer {
    /// Done, and this is what is to be told.
    Kept(Outcome),
    /// A piece, and how many in it are no messages of ours.
    Page(Page, usize),
    /// Nothing was done: the history is another replication id's.
    Doubt,
}

impl Op {
    /// Something of so many bytes, when it is queued.
    pub fn new(topic: &[u8], todo: Todo, len: usize) -> Self {
        let (until, asking, kin) = (u64::MAX, false, None);
        Self { topic: topic.into(), todo, len, certain: false, until, asking, kin }
    }

    /// Takes another of the same kind and topic along, if that is allowed.
    pub fn takes(&self, other: &Op) -> bool {
        match (&self.todo, &other.todo) {
            (
                Todo::Keep { messages, key: None, limits },
                Todo::Keep { key: None, limits: other_limits, .. },
            ) => {
                self.topic == other.topic
                    && limits == other_limits
                    && messages.len() < MESSAGES
                    && self.len + other.len <= BYTES
            }
            _ => false,
        }
    }

    /// Takes it.
    pub fn take(&mut self, other: Op) {
        if let (Todo::Keep { messages, .. }, Todo::Keep { messages: more, .. }) =
            (&mut self.todo, other.todo)
        {
            messages.extend(more);
            self.len += other.len;
        }
    }

    /// Whether it may be sent again though nobody knows what became of it.
    pub fn is_repeatable(&self) -> bool {
        matches!(self.todo, Todo::Keep { key: Some(_), .. })
    }

    /// Tickets, with what becomes of each if `first` becomes of the last message.
    pub fn outcomes(&self, last: Outcome) -> Vec<(u64, Outcome)> {
        match &self.todo {
            Todo::Keep { messages, .. } => {
                let count = messages.len() as u64;
                let each = messages.iter().zip(1..).map(|((_, ticket), n)| {
                    let at = |placed: Placed| {
                        let offset = placed.at.offset + n - count;
                        Placed { at: Position { offset, ..placed.at }, ..placed }
                    };
                    (*ticket, last.map(at))
                });
                each.collect()
            }
            Todo::Forget { ticket } => vec![(*ticket, last)],
            Todo::Read { .. } => Vec::new(),
        }
    }

    /// How many messages.
    pub fn messages(&self) -> usize {
        match &self.todo {
            Todo::Keep { messages, .. } => messages.len(),
            _ => 0,
        }
    }

    /// The command, by the scripts' digests, for a server with this replication id; those with the
    /// one before are its own, too. No message that is read has more bytes than `largest`.
    pub fn command(
        &self,
        names: &Names,
        digests: &[Bytes],
        id: &[u8],
        id_before: &[u8],
        epoch: u64,
        largest: usize,
    ) -> Vec<u8> {
        let (prefix, mark) = (&names.prefix[..], names.mark(&self.topic));
        let name = |kind: &[u8]| [prefix, kind, &mark, &self.topic].concat();
        let (stream, meta, channel) = (name(b"s:"), name(b"m:"), name(KEPT));
        let digest = |n: usize| -> &[u8] { digests.get(n).map_or(b"", |digest| digest) };
        let certain: &[u8] = if self.certain { b"1" } else { b"0" };
        let text = |n: u64| n.to_string().into_bytes();
        match &self.todo {
            Todo::Keep { messages, key, limits } => {
                let key = key.as_ref().map(|key| {
                    let len = format!("{}:", self.topic.len());
                    [prefix, b"i:", &mark, len.as_bytes(), &self.topic, b":", key].concat()
                });
                let (epoch, count, ttl) =
                    (epoch.to_le_bytes(), text(limits.count.into()), text(limits.ttl));
                let (meta_ttl, key_ttl) = (text(POSITION_MS.max(limits.ttl)), text(KEY_MS));
                let keys: &[u8] = if key.is_some() { b"3" } else { b"2" };
                let mut words: Vec<&[u8]> = vec![b"EVALSHA", digest(0), keys, &stream, &meta];
                words.extend(key.as_deref());
                words.extend([id, id_before, certain, &epoch, &count, &ttl]);
                words.extend([&meta_ttl[..], &key_ttl, &channel]);
                words.extend(messages.iter().map(|(message, _)| &message[..]));
                command(&words)
            }
            Todo::Read { since, most } => {
                let (epoch, offset) = (since.epoch.to_le_bytes(), text(since.offset));
                let (most, piece) = (text((*most).into()), text(PIECE as u64));
                let largest = text((TIME + largest) as u64);
                let head = [&b"EVALSHA"[..], digest(1), b"2", &stream, &meta, id, id_before];
                command(&[&head[..], &[certain, &epoch, &offset, &most, &piece, &largest]].concat())
            }
            Todo::Forget { .. } => {
                command(&[b"EVALSHA", digest(2), b"2", &stream, &meta, &channel])
            }
        }
    }

    /// What the answer means; nothing: it is none to this.
    pub fn answer(&self, frame: &Frame) -> Option<Answer> {
        if let Todo::Forget { .. } = self.todo {
            let placed = Placed { at: Position::NOWHERE, repeated: frame.as_integer()? == 0 };
            return Some(Answer::Kept(Ok(placed)));
        }
        match (frame.as_array()?, &self.todo) {
            ([id], _) if id.as_bytes().is_some() => Some(Answer::Doubt),
            ([epoch, top, repeated], Todo::Keep { messages, .. }) => {
                // It is the last one's place.
                let offset = offset_of(top).filter(|&top| top >= messages.len() as u64)?;
                let at = Position { epoch: epoch_of(epoch)?, offset };
                let repeated = repeated.as_integer()? == 1;
                Some(Answer::Kept(Ok(Placed { at, repeated })))
            }
            (page, Todo::Read { .. }) => {
                let (page, unfit) = self.page(page)?;
                Some(Answer::Page(page, unfit))
            }
            _ => None,
        }
    }

    /// A piece of the history, without what is no message of ours: that one is passed over, or it would be
    /// in the way for as long as it lasts.
    fn page(&self, frames: &[Frame]) -> Option<(Page, usize)> {
        let mut page = Page { top: Position::NOWHERE, after: 0, messages: Vec::new(), more: false };
        let mut unfit = 0;
        let [epoch, top, rest @ ..] = frames else {
            return frames.is_empty().then_some((page, unfit));
        };
        page.top = Position { epoch: epoch_of(epoch)?, offset: offset_of(top)? };
        page.after = page.top.offset;
        if let [after, messages, more] = rest {
            page.after = offset_of(after).filter(|&after| after <= page.top.offset)?;
            let (mut before, mut offset) = (page.after, page.after);
            for record in messages.as_array()? {
                offset = Some(offset + 1).filter(|&offset| offset <= page.top.offset)?;
                let Some((time, bytes)) = self.record(record.as_bytes()?) else {
                    unfit += 1;
                    continue;
                };
                page.messages.push(Stored { offset, before, time, bytes });
                before = offset;
            }
            // After nothing there is nothing more.
            page.more = more.as_integer()? == 1 && offset > page.after;
            if page.more && page.messages.is_empty() {
                page.after = offset;
            }
        }
        Some((page, unfit))
    }

    /// The time and the message of an entry in the stream; nothing: it is none of ours.
    fn record(&self, record: &Bytes) -> Option<(u64, Bytes)> {
        let time = number(record.get(..TIME)?)?;
        let bytes = record.slice(TIME..);
        check_stored(&self.topic, &bytes).ok()?;
        Some((time, bytes))
    }
}

/// What came on a history's channel.
pub enum Pushed {
    /// A message, its place and its time.
    Message(Position, u64, Bytes),
    /// The history was dropped.
    Dropped,
}

/// What `bytes` are, on the channel of this topic's history; nothing: none of ours.
pub fn pushed(topic: &[u8], bytes: &Bytes) -> Option<Pushed> {
    let (epoch, offset, time) =
        (number(bytes.get(..8)?)?, number(bytes.get(8..16)?)?, number(bytes.get(16..HEAD)?)?);
    if epoch == 0 {
        return (bytes.len() == HEAD).then_some(Pushed::Dropped);
    }
    let message = bytes.slice(HEAD..);
    check_stored(topic, &message).ok()?;
    // As far as the server counts.
    (1..=i64::MAX as u64).contains(&offset).then_some(Pushed::Message(
        Position { epoch, offset },
        time,
        message,
    ))
}

/// The replication id in an answer of INFO. Some services hide it: the run id says less, but sees
/// another server.
pub fn replication_id(frame: &Frame) -> Option<Vec<u8>> {
    let text = match frame.as_verbatim_string() {
        Some((_, text)) => text,
        None => frame.as_bytes()?,
    };
    let find = |name: &[u8]| {
        let mut lines = text.split(|&byte| byte == b'\n');
        let line = lines.find_map(|line| line.strip_prefix(name))?;
        Some(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
    };
    find(b"master_replid:").or_else(|| find(b"run_id:")).filter(|id| !id.is_empty())
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Never 0, which means something else.
fn epoch_of(frame: &Frame) -> Option<u64> {
    number(frame.as_bytes()?).filter(|&epoch| epoch != 0)
}

fn offset_of(frame: &Frame) -> Option<u64> {
    u64::try_from(frame.as_integer()?).ok()
}
