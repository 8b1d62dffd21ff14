//! The natives behind the TLS handshake of a client's cosocket: whether it goes to an address, and
//! whether the certificate shown is for that address.

use std::net::IpAddr;

use super::entry::{Args, Outcome, Value};
use super::preload::{native, Native};

/// The natives of this file.
pub const NATIVES: &[Native] =
    &[native!(c"certificate_is_for", certificate_is_for), native!(c"is_address", is_address)];

/// `is_address(name, sock)` → whether the name is an IP address whose certificate
/// `certificate_is_for` can look at: `sock` is a connected cosocket.
pub fn is_address(args: &Args) -> Outcome {
    Outcome::one(Value::Bool(address(args).is_some() && args.cosocket(2).is_some()))
}

/// `certificate_is_for(address, sock)` → boolean. To be asked after the handshake, at once.
pub fn certificate_is_for(args: &Args) -> Outcome {
    let (Some(address), Some(socket)) = (address(args), args.cosocket(2)) else {
        return Outcome::one(Value::Bool(false));
    };
    Outcome::one(Value::Bool(socket.certificate_is_for(address)))
}

fn address(args: &Args) -> Option<IpAddr> {
    std::str::from_utf8(args.bytes(1)?).ok()?.parse().ok()
}
