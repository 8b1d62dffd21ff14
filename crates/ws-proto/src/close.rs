//! The payload of a close frame (RFC 6455 5.5.1): an optional code and reason. The raw-frame API
//! reads it leniently, message style by the letter of RFC 6455 7.4.

use crate::Error;
use std::str;

/// Code and reason as they stand there, unjudged. Only a payload of one byte is an error.
pub fn parse(payload: &[u8]) -> Result<(Option<u16>, &[u8]), Error> {
    match payload {
        [] => Ok((None, &[])),
        [_] => Err(Error::CloseOneByte),
        [high, low, reason @ ..] => Ok((Some(u16::from_be_bytes([*high, *low])), reason)),
    }
}

/// Code and reason, where the code is one that may stand in a frame and the reason is UTF-8.
pub fn validate_strict(payload: &[u8]) -> Result<(Option<u16>, &str), Error> {
    let (code, reason) = parse(payload)?;
    if code.is_some_and(|code| !may_send(code)) {
        return Err(Error::CloseBadCode);
    }
    let reason = str::from_utf8(reason).map_err(|_| Error::InvalidUtf8)?;
    Ok((code, reason))
}

/// The payload for `code` and `reason`. Without a code it is empty, because a reason cannot
/// stand alone. Neither value nor length is checked.
pub fn encode(code: Option<u16>, reason: &[u8]) -> Vec<u8> {
    match code {
        None => Vec::new(),
        Some(code) => [&code.to_be_bytes(), reason].concat(),
    }
}

/// Whether the code may stand in a close frame: 1000 to 1003 and 1007 to 1014 (RFC 6455 7.4.1
/// and the IANA registry), 3000 to 4999 for libraries and applications. 1005, 1006 and 1015
/// are names for what no frame said.
pub const fn may_send(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
