//! Why a connection to a broker is given up; and what a server says, as far as it may be shown.

use super::tally::Number;

/// Characters of what a server says that are shown.
const SHOWN: usize = 120;

/// What has ended a connection, or is to end it.
pub struct Lost {
    /// As what it is counted.
    pub kind: Number,
    /// Why, without secrets.
    pub why: String,
    /// It is still open on our side.
    pub open: bool,
}

impl Lost {
    /// The server does not want us, or is not the right one.
    pub fn refused(why: String) -> Self {
        Self { kind: Number::ErrorRefused, why, open: true }
    }

    /// What it sends is not what it should.
    pub fn garbage(why: &str) -> Self {
        Self { kind: Number::ErrorProtocol, why: why.to_string(), open: true }
    }
}

/// What a server says, as far as it may be shown: a line at most, and no secret of ours.
pub fn shown(text: &[u8], secret: &[u8]) -> String {
    if !secret.is_empty() && text.windows(secret.len()).any(|part| part == secret) {
        return "an error that is not shown, for it has the password in it".to_string();
    }
    let printable = |&byte: &u8| if (b' '..=b'~').contains(&byte) { byte as char } else { '?' };
    text.iter().take(SHOWN).map(printable).collect()
}
