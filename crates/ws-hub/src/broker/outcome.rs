//! What became of a message for a history, as bytes: what the gateway answers the worker that waits.

use super::seam::{Outcome, Placed, Unkept};
use crate::history::Position;

const UNKEPT: [Unkept; 4] = [Unkept::Unavailable, Unkept::Timeout, Unkept::Refused, Unkept::Full];
const KEPT: u8 = 8;
const REPEATED: u8 = 9;

/// As bytes.
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    match outcome {
        Ok(Placed { at, repeated }) => {
            let mut out = vec![if *repeated { REPEATED } else { KEPT }];
            out.extend([at.epoch, at.offset].map(u64::to_le_bytes).as_flattened());
            out
        }
        Err(why) => vec![UNKEPT.iter().position(|one| one == why).unwrap_or_default() as u8],
    }
}

/// From bytes; nothing: they are none.
pub fn decode_outcome(bytes: &[u8]) -> Option<Outcome> {
    let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
    match *bytes {
        [kind @ (KEPT | REPEATED), ref place @ ..] if place.len() == 16 => {
            let at = Position { epoch: number(&place[..8])?, offset: number(&place[8..])? };
            Some(Ok(Placed { at, repeated: kind == REPEATED }))
        }
        [kind] => UNKEPT.get(usize::from(kind)).map(|why| Err(*why)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let at = Position { epoch: 5, offset: 6 };
        let kept = [true, false].map(|repeated| Ok(Placed { at, repeated }));
        for outcome in kept.into_iter().chain(UNKEPT.map(Err)) {
            assert_eq!(decode_outcome(&encode_outcome(&outcome)), Some(outcome));
        }
        for bad in [&b""[..], b"\x04", b"\x08", b"\x00\x00", &[8; 18]] {
            assert_eq!(decode_outcome(bad), None);
        }
    }
}
