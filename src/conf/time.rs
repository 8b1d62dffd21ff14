//! Numbers and times as directives have them.

use crate::session::NEVER;

/// A number of digits and nothing else.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// nginx's time with one unit (`30s`, `500ms`, `2m`, `1d`; bare numbers are seconds), in milliseconds.
pub fn parse_time(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number(digits.as_bytes())?.checked_mul(unit)
}

/// A time limit of which 0 means none.
pub fn limit(ms: u64) -> u64 {
    if ms == 0 {
        NEVER
    } else {
        ms
    }
}

/// The heartbeat of these times, if there is one.
pub fn heartbeat(interval: u64, timeout: u64) -> Option<(u64, u64)> {
    (interval > 0).then_some((interval, timeout))
}
