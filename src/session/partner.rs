//! Who takes the messages of a session without a handler, and gives it others: see `passing`.

/// Who takes what a session brings. The session holds it until its request has ended.
pub trait Partner {
    /// Something has come, or has left. Nothing of the session is borrowed.
    fn tend(&self);
    /// Output has left. `quiet`: that was all, before and after.
    fn flushed(&self, quiet: bool);
    /// The request has ended: nothing will come, and nothing can be sent.
    fn ended(&self);
}
