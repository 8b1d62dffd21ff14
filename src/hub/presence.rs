//! Who is there: members live in their worker. A question goes to all workers, itself included, by
//! the ring; each notes whom it has then and answers in pieces, one in a turn of the event loop. Who
//! asks collects them in a mailbox; a worker that dies meanwhile, or is silent, holds nobody up. The
//! gateway passes the question on to other machines, whose gateways answer (relay.rs).

use ws_hub::envelope::Kind;
use ws_hub::presence::{put_member, Head, Then, MAX_INFO};
use ws_hub::roll_call::{Answered, RollCall};
use ws_hub::topic::check_topic;
use ws_hub::{ConnId, Envelope, NodeId, Target};

use super::error::Error;
use super::local::{Entry, Local, Member};
use super::mailbox::Mailbox;
use super::numbers::living_zone;
use super::publish::message;
use super::questions::{end, Due, SILENCE_MS};
use super::reach::PRESENCE;
use super::worker::{open_mailbox, with, Hub};
use crate::ngx::clock;
use crate::ngx::lua_wait::Wait;
use crate::ngx::request::Request;
use crate::session::random;

/// Members and bytes of one piece.
const PIECE_MEMBERS: usize = 256;
const PIECE_BYTES: usize = 32 * 1024;
/// So often is looked whether those who have yet to answer live, in milliseconds.
const LOOK_MS: u64 = 50;

/// A question that was asked.
///
/// Owned by a Lua userdata.
pub struct Roll {
    mailbox: Mailbox,
    roll: RollCall,
    /// Subscribers here, where only their number was asked for.
    here: u64,
}

/// What has come of a question.
pub enum Answer {
    /// Members of a machine, which `each` was called with.
    Members(NodeId),
    /// There is more to wait for.
    Wait,
    /// That was all: how many subscribe, where that was asked, and who has answered.
    Done(u64, Answered),
}

/// Asks who subscribes a topic.
pub fn ask(topic: &[u8]) -> Result<Roll, Error> {
    check_topic(topic).map_err(Error::Topic)?;
    with(|hub| match hub.local.flags(topic) & PRESENCE {
        0 => Err(Error::NoPresence),
        _ => Ok(()),
    })?;
    put(topic, u32::MAX)
}

/// Asks how many subscribe a topic.
pub fn ask_how_many(topic: &[u8]) -> Result<Roll, Error> {
    check_topic(topic).map_err(Error::Topic)?;
    put(topic, 0)
}

fn put(topic: &[u8], most: u32) -> Result<Roll, Error> {
    let mailbox = open_mailbox()?;
    let kind = Kind::Ask { topic, id: *mailbox.id(), most };
    let (roll, here) = with(|hub| {
        let here = if most == 0 { hub.subscribers(topic) } else { 0 };
        let question = hub.question(kind);
        Ok((hub.put_question(&question, SILENCE_MS)?, here))
    })?;
    Ok(Roll { mailbox, roll, here })
}

impl Roll {
    /// The next piece, if there is one: calls `each` with the number and the info of its members.
    pub fn take(&mut self, mut each: impl FnMut(u64, &str)) -> Answer {
        while let Some((node, piece)) = self.mailbox.take() {
            let node = NodeId(<[u8; 4]>::try_from(&*node).map_or(0, u32::from_le_bytes));
            let Some((_, members)) = self.roll.take(node, &piece, clock::now_ms()) else {
                continue;
            };
            let count = members.map(|(number, info)| each(number, info)).count();
            if count > 0 {
                return Answer::Members(node);
            }
        }
        let all = self.here.saturating_add(self.roll.numbers());
        end(&mut self.roll).map_or(Answer::Wait, |answered| Answer::Done(all, answered))
    }

    /// Parks the light thread that runs now in `r`: until a piece comes, or, after one, for a turn of
    /// the event loop.
    pub fn park(&self, r: Request, has_piece: bool) -> Wait<std::convert::Infallible> {
        self.mailbox.park(r, if has_piece { 1 } else { LOOK_MS })
    }
}

impl Local {
    /// What holds for a topic beside its history.
    pub(super) fn flags(&self, topic: &[u8]) -> u32 {
        self.histories.as_ref().map_or(0, |histories| histories.flags(topic))
    }

    /// Notes what a new subscriber says of itself.
    pub(super) fn set_info(&mut self, topic: &[u8], handle: u32, info: &str) {
        if let Some((_, extra)) = self.topics.get_mut(topic) {
            extra.get_or_insert_default().infos.insert(handle, info.into());
        }
    }

    /// Somebody asks who subscribes a topic.
    pub(super) fn asked(&mut self, topic: &[u8], to: ConnId, most: u32) {
        // How many there are on a machine its census knows.
        if most == 0 {
            return;
        }
        let subscribers = self.topics.subscribers(topic);
        let (all, mut handles) = (subscribers.len(), Vec::new());
        // Of more than were asked for their number is told, and where there is no memory for a list.
        if all <= most as usize && handles.try_reserve_exact(all).is_ok() {
            handles.extend_from_slice(subscribers);
        }
        self.presence.answers.push_back(Due {
            topic: topic.into(),
            to,
            all,
            handles,
            told: 0,
            pieces: 0,
        });
    }

    /// Hands a piece of an answer to who asked. Whether that one is still there.
    pub(super) fn hand_answer(&mut self, to: &ConnId, from: NodeId, piece: &[u8]) -> bool {
        if self.presence.calls.contains_key(to) {
            self.called_back(to, from, piece);
            return true;
        }
        if self.presence.relays.contains_key(to) {
            self.relay(to, from, piece);
            return self.presence.relays.contains_key(to);
        }
        let Some(handle) = self.handle(to) else { return false };
        match self.members.get(handle as usize) {
            Some(Some(Entry { member: Member::Mailbox(queue), .. })) => {
                queue.deliver(&from.0.to_le_bytes(), piece);
                true
            }
            _ => false,
        }
    }

    /// The number of a member.
    pub(super) fn number(&mut self, handle: u32) -> Option<u64> {
        self.members.get_mut(handle as usize)?.as_mut()?.number()
    }

    /// A piece of an answer: who has not been told of and still subscribes.
    fn piece(&mut self, due: &mut Due, row: u16, bytes: usize) -> Vec<u8> {
        let (mut members, mut out) = (Vec::new(), Vec::new());
        let all = due.all;
        // The last of a piece may be longer than what is left of it. Without memory their number has to do.
        let room = bytes.min(all * (MAX_INFO + 16)) + 2 * MAX_INFO;
        let has_room = members.try_reserve(room).and(out.try_reserve(room)).is_ok();
        let are_many = due.handles.len() < all || !has_room;
        if are_many {
            due.told = all;
        }
        let is_there = self.topics.subscribes(&due.topic);
        let extra = self.topics.get(&due.topic).and_then(|(_, extra)| extra.as_ref());
        let piece = due.handles.get(due.told..).unwrap_or_default();
        for &handle in &piece[..piece.len().min(PIECE_MEMBERS)] {
            if members.len() >= bytes {
                break;
            }
            due.told += 1;
            if !is_there(handle) {
                continue;
            }
            let Some(Some(entry)) = self.members.get_mut(handle as usize) else { continue };
            if let Some(number) = entry.number() {
                put_member(&mut members, number, extra.map_or("", |extra| extra.info(handle)));
            }
        }
        let then = match due.told == all {
            _ if are_many => Then::Number(all as u64),
            true => Then::End,
            false => Then::More,
        };
        Head { row, piece: due.pieces, then }.encode(&mut out);
        out.append(&mut members);
        due.pieces += 1;
        out
    }
}

impl Entry {
    /// What others know a member by, which is the same in all its topics and grants nothing. A mailbox
    /// is none.
    fn number(&mut self) -> Option<u64> {
        match self.member {
            Member::Session(_) => {
                Some(*self.number.get_or_insert_with(|| u64::from_le_bytes(random::bytes())))
            }
            Member::Mailbox(_) => None,
        }
    }
}

impl Hub {
    /// A question of this worker's; it goes as far as its topic does.
    pub(super) fn question<'a>(&self, kind: Kind<'a>) -> Envelope<'a> {
        let far = matches!(kind, Kind::Ask { topic, .. } if self.goes_far(topic));
        Envelope { far, ..message(kind, false, &[], None) }
    }

    /// Puts a question to all workers, and to other machines if it goes there. Who is silent for
    /// `patience` milliseconds is not waited for.
    pub(super) fn put_question(
        &mut self,
        question: &Envelope<'_>,
        patience: u64,
    ) -> Result<RollCall, Error> {
        let bus = self.bus.as_mut().ok_or(Error::NoRow)?;
        let directory = living_zone().ok_or(Error::NoRow)?.directory();
        let (now, own, place) = (clock::now_ms(), bus.origin().node, bus.place());
        let are_told = !matches!(question.kind, Kind::Ask { most: 0, .. });
        // Whoever joins later has nobody yet.
        let workers = directory
            .joined()
            .filter(|_| are_told)
            .filter_map(|row| Some((row, directory.worker(row)?.1)));
        let machines = place.alive(now).filter(|_| question.far);
        let mut roll = RollCall::new(own, workers, machines, patience, now);
        let is_reachable = place.holder().is_some() && place.away(0, now).is_none();
        if !is_reachable {
            roll = roll.cut_off();
        }
        if are_told || question.far && is_reachable {
            bus.put(Target::All, question)?;
            bus.wake_self();
        }
        Ok(roll)
    }

    /// Gives one piece of one answer. Whether there is more to say.
    pub(super) fn answer_rolls(&mut self) -> bool {
        let Hub { local, bus: Some(bus), .. } = self else { return false };
        let Some(mut due) = local.presence.answers.pop_front() else { return false };
        // A member may be a whole info longer.
        let room = PIECE_BYTES.min(bus.max_payload() / 2);
        let piece = local.piece(&mut due, bus.row(), room);
        let mut goes_on = due.told < due.all;
        if due.to.row() == bus.row() {
            goes_on &= local.hand_answer(&due.to, bus.origin().node, &piece);
        } else {
            let answer = message(Kind::Answer { id: due.to }, false, &piece, None);
            let asker = bus.owner_here(&due.to);
            goes_on &= asker.is_some_and(|row| bus.put(row, &answer).is_ok());
        }
        if goes_on {
            local.presence.answers.push_back(due);
        }
        !local.presence.answers.is_empty()
    }
}
