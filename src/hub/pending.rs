//! An errand that the gateway has been asked to run, and whoever waits for its answer: a mailbox of
//! its own, to which the answer comes from whichever worker that is.

use std::convert::Infallible;
use std::rc::Rc;

use ws_hub::broker::{decode_outcome, Outcome, Unkept};
use ws_hub::envelope::{Errand, Kind, Origin, Type};
use ws_hub::topic::check_topic;
use ws_hub::{ConnId, Envelope};

use super::error::Error;
use super::mailbox::Mailbox;
use super::worker::{open_mailbox, with};
use crate::ngx::clock;
use crate::ngx::lua_wait::Wait;
use crate::ngx::request::Request;

/// So long the gateway may be silent; a broker's own deadlines are shorter.
const PATIENCE_MS: u64 = 6000;

/// Somebody who waits.
///
/// Owned by a Lua userdata, or by a request that nginx holds for us.
pub struct Pending {
    mailbox: Mailbox,
    pub(super) topic: Box<[u8]>,
    until: u64,
}

impl Pending {
    /// Nothing was asked yet.
    pub(super) fn new(topic: &[u8]) -> Result<Pending, Error> {
        check_topic(topic).map_err(Error::Topic)?;
        let until = clock::now_ms() + PATIENCE_MS;
        Ok(Pending { mailbox: open_mailbox()?, topic: topic.into(), until })
    }

    /// Who is to be answered.
    pub(super) fn id(&self) -> &ConnId {
        self.mailbox.id()
    }

    /// The answer, once it is there, or when it has not come in time.
    pub fn take(&self) -> Option<Outcome> {
        if let Some((_, answer)) = self.mailbox.take() {
            return Some(decode_outcome(&answer).unwrap_or(Err(Unkept::Timeout)));
        }
        (clock::now_ms() >= self.until).then_some(Err(Unkept::Timeout))
    }

    /// Waits no longer than so many milliseconds from now.
    pub fn within(mut self, ms: u64) -> Pending {
        self.until = self.until.min(clock::now_ms().saturating_add(ms));
        self
    }

    /// Milliseconds until it waits no longer.
    pub fn left(&self) -> u64 {
        self.until.saturating_sub(clock::now_ms()).max(1)
    }

    /// Parks the light thread that runs now in `r` until the answer is there, or late.
    pub fn park(&self, r: Request) -> Wait<Infallible> {
        self.mailbox.park(r, self.left())
    }

    /// Has `woken` called when the answer has come, within a call of the hub.
    pub fn on_answer(&self, woken: Rc<dyn Fn()>) {
        self.mailbox.on_message(woken);
    }
}

/// Asks for a topic's history to be up to date on this machine. Nothing: it is.
pub fn fetch(topic: &[u8]) -> Result<Option<Pending>, Error> {
    check_topic(topic).map_err(Error::Topic)?;
    let is_current = with(|hub| match hub.local.keeper(topic) {
        Some(_) if hub.local.is_current(topic) => Ok(true),
        Some(keeper) if hub.is_away(keeper) => Err(Error::BrokerUnavailable),
        keeper => Ok(keeper.is_none()),
    })?;
    if is_current {
        return Ok(None);
    }
    errand(topic, Errand::Fetch).map(Some)
}

/// Has a topic's history dropped by the broker that keeps it. Nothing: none does.
pub fn forget_afar(topic: &[u8]) -> Result<Option<Pending>, Error> {
    check_topic(topic).map_err(Error::Topic)?;
    match with(|hub| Ok(hub.local.keeper(topic)))? {
        Some(_) => errand(topic, Errand::Forget).map(Some),
        None => Ok(None),
    }
}

fn errand(topic: &[u8], errand: Errand) -> Result<Pending, Error> {
    let pending = Pending::new(topic)?;
    let kind = Kind::Errand { topic, errand, key: &[], id: *pending.id() };
    let message = Envelope {
        kind,
        typ: Type::Binary,
        origin: Origin::default(),
        sequence: 0,
        stored: None,
        except: None,
        far: false,
        payload: &[],
    };
    with(|hub| hub.send_by_gateway(&message))?;
    Ok(pending)
}
