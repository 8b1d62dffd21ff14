//! Requests that need what a broker keeps of some topics: where this machine's copies are not up to date
//! they wait.

use std::rc::Rc;

use crate::hub::{self, Error, Pending};
use crate::ngx::later;
use crate::ngx::request::Request;

/// Goes on with a request once the histories of these topics are up to date here, which they mostly
/// are; or cannot be, and why. Returns what the content handler returns.
pub fn once_fetched(
    r: Request,
    topics: Vec<Vec<u8>>,
    mut go_on: impl FnMut(Request, Result<(), Error>) -> isize + 'static,
) -> isize {
    let (mut waits, mut failure) = (Vec::new(), None);
    for topic in topics {
        match hub::fetch(&topic) {
            Ok(None) => {}
            Ok(Some(pending)) => waits.push(pending),
            Err(err) => failure = Some(err),
        }
    }
    let Some(ms) = waits.iter().map(Pending::left).max() else {
        return go_on(r, failure.map_or(Ok(()), Err));
    };
    let waits = Rc::new(waits);
    let (pending, mut missing) = (waits.clone(), waits.len());
    let when_answered = Box::new(move |r: Request, is_over: bool| {
        for outcome in pending.iter().filter_map(Pending::take) {
            missing = missing.saturating_sub(1);
            failure = failure.or(outcome.err().map(|_| Error::BrokerUnavailable));
        }
        match missing {
            0 => Some(go_on(r, failure.map_or(Ok(()), Err))),
            _ if is_over => Some(go_on(r, Err(Error::BrokerUnavailable))),
            _ => None,
        }
    });
    later::wait(r, ms, when_answered, |waker| {
        for each in waits.iter() {
            let waker = waker.clone();
            each.on_answer(Rc::new(move || waker.wake()));
        }
    })
}
