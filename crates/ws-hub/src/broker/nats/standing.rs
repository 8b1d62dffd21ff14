//! How it stands with the stream that keeps histories.

use super::api::About;

/// How it stands with the stream.
#[derive(Default)]
pub struct Standing {
    /// What it is, while it can be used.
    pub about: Option<About>,
    /// Its identity when it was asked about last; 0: it never was.
    pub epoch: u64,
    /// The newest sequence that has been seen of it.
    pub newest: u64,
    /// Since when it seems to have lost something.
    pub suspected: Option<u64>,
    /// There was none: when it is made, if there is none then.
    pub make_at: Option<u64>,
    /// When it is asked about; None: it was, or need not be.
    pub ask_at: Option<u64>,
    /// What of it has been said, and when.
    pub said: Vec<(String, u64)>,
}

impl Standing {
    /// What another one has seen of the stream, if it is the same.
    pub fn go_on(&mut self, before: &Self) {
        if self.epoch == 0 {
            self.epoch = before.epoch;
        }
        if self.epoch == before.epoch {
            self.newest = self.newest.max(before.newest);
        }
    }
}
