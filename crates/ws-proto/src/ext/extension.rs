//! What an extension is: its part in the handshake, and the two halves by which a connection receives
//! and sends once both sides have agreed on it.

use super::error::Error;
use super::offer::Parameters;
use crate::Role;
use std::fmt;

/// An extension's part in the handshake. It is a type without values.
pub(crate) trait Extension {
    /// Its token in the header.
    const NAME: &'static str;
    /// What our side wants of it.
    type Config;
    /// What both sides agreed on for one connection, and how our side sends by it.
    type Agreed;

    /// Client: what to offer.
    fn offer(config: &Self::Config) -> String;
    /// Server: the answer to an offer, or `None` to decline it.
    fn answer(parameters: Parameters<'_>, config: &Self::Config) -> Option<(Self::Agreed, String)>;
    /// Client: what a server's answer agrees to.
    fn accept(parameters: Parameters<'_>, config: &Self::Config) -> Result<Self::Agreed, Error>;

    /// The receiving half of the side `role`, ours.
    fn decoder(agreed: &Self::Agreed, role: Role) -> Box<dyn Decoder>;
    /// The sending half of the side `role`, ours.
    fn encoder(agreed: &Self::Agreed, role: Role) -> Box<dyn Encoder>;
}

/// Takes what a message's payload became, piece by piece; with `true` comes its last piece.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8], bool) -> Result<(), crate::Error>;

/// How a connection receives.
pub(crate) trait Decoder: fmt::Debug + Send {
    /// The reserved bit that marks the first frame of a message as the extension's.
    fn rsv(&self) -> u8;

    /// Takes unmasked payload bytes of a marked message, and hands on what they stand for. Without
    /// `ahead` the message ends with them, and all of it is handed on. An error is final.
    fn decode(
        &mut self,
        bytes: &[u8],
        ahead: Option<Ahead>,
        sink: Sink<'_>,
    ) -> Result<(), crate::Error>;
}

/// How far a message is decoded before its end has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    /// At most so many bytes are handed on now; the extension keeps what stands for more.
    pub decoded: usize,
    /// Of which it keeps at most so many: a message too large otherwise.
    pub coded: usize,
}

/// How a connection sends.
pub trait Encoder: fmt::Debug + Send {
    /// The reserved bit that marks the first frame of a message as the extension's.
    fn rsv(&self) -> u8;

    /// Appends the coded message to `out`, to be sent with the bit. Returns `false`, and appends
    /// nothing, when the message is to be sent as it is, without the bit.
    fn encode(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool;

    /// Whether a message of so many bytes, by `deflate::compress_once` with this window, can and is to be
    /// sent, marked with the same bit.
    fn takes_deflated(&self, _window_bits: u8, _len: usize) -> bool {
        false
    }

    /// To be called when such a message was sent.
    fn sent_elsewhere(&mut self) {}
}
