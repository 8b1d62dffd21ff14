//! The opening handshake (RFC 6455 4): the server's checks and the client's request and checks.
//! Works on byte slices that the caller took from its HTTP parser; reads and writes nothing.

pub mod client;
mod fields;
pub mod head;
pub mod server;

use base64::{engine::general_purpose::STANDARD, Engine as _};
use sha1::{Digest, Sha1};

/// Appended to the key before hashing (RFC 6455 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A Sec-WebSocket-Accept value: ASCII.
pub type AcceptKey = [u8; 28];

/// The Sec-WebSocket-Accept value for a Sec-WebSocket-Key value.
pub fn accept_key(key: &[u8]) -> AcceptKey {
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut text = [0; 28];
    // 20 bytes are 28 characters: it fits.
    let _ = STANDARD.encode_slice(hash, &mut text);
    text
}
