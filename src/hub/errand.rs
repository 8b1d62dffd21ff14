//! What a call may wait for that the gateway does.

use super::pending::Pending;
use super::publish::Confirm;

/// What is waited for.
///
/// Owned by a Lua userdata.
pub enum Errand {
    /// A history is up to date.
    Fetch(Pending),
    /// One was dropped.
    Forget(Pending),
    /// A message is stored.
    Publish(Confirm),
}

impl Errand {
    /// Who waits.
    pub fn pending(&self) -> &Pending {
        match self {
            Errand::Fetch(pending) | Errand::Forget(pending) => pending,
            Errand::Publish(confirm) => confirm.pending(),
        }
    }
}
