//! The four parameters of permessage-deflate (RFC 7692 7.1), as a server answers them and as a client
//! offers them and reads the answer.

use crate::ext::error::Error;
use crate::ext::offer::Parameters;
use crate::Role;

pub(super) const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT: &str = "client_no_context_takeover";
const SERVER_BITS: &str = "server_max_window_bits";
const CLIENT_BITS: &str = "client_max_window_bits";

/// The window of a side that is not told to make it smaller.
pub(super) const MAX_BITS: u8 = 15;
/// The smallest window of raw DEFLATE in zlib and its kin. Sending by a window of 8 bits is
/// possible all the same: matches reach back no farther than the window less 262 bytes, which
/// leaves 250 of these 512.
pub(super) const MIN_BITS: u8 = 9;

/// End of every compressed message, which is not sent (RFC 7692 7.2.1).
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// Set on the first frame of a compressed message (RFC 7692 6).
pub const RSV1: u8 = 0x40;

/// What our side wants. Values outside their range count as the nearest inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// 1 (fast) to 9 (small).
    pub level: u8,
    /// Messages shorter than this are sent as they are.
    pub threshold: usize,
    /// The server compresses every message by itself. As a client: demand it.
    pub server_no_context_takeover: bool,
    /// The client compresses every message by itself. As a server: demand it.
    pub client_no_context_takeover: bool,
    /// Largest window of the server, 8 to 15 bits. As a client: demand it.
    pub server_max_window_bits: u8,
    /// Largest window of the client, 8 to 15 bits. As a server: ask for it where the client says
    /// that it can be asked, and never for less than 9 where it does not offer 8 by itself.
    pub client_max_window_bits: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            level: 6,
            threshold: 256,
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: MAX_BITS,
            client_max_window_bits: MAX_BITS,
        }
    }
}

/// What both sides agreed on for one connection, and how our side sends by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The server does not refer to its earlier messages.
    pub server_no_context_takeover: bool,
    /// The client does not refer to its earlier messages.
    pub client_no_context_takeover: bool,
    /// Window of the server's compressor, 8 to 15 bits.
    pub server_max_window_bits: u8,
    /// Window of the client's compressor, 8 to 15 bits.
    pub client_max_window_bits: u8,
    /// Our compressor's level, 1 to 9.
    pub level: u8,
    /// Shorter messages we send as they are.
    pub threshold: usize,
}

impl Agreed {
    /// Window bits and context takeover of what `sender` sends.
    pub(super) const fn direction(&self, sender: Role) -> (u8, bool) {
        match sender {
            Role::Server => (self.server_max_window_bits, !self.server_no_context_takeover),
            Role::Client => (self.client_max_window_bits, !self.client_no_context_takeover),
        }
    }
}

/// Parameters as they stand in an offer or an answer.
#[derive(Default)]
struct Asked {
    server_no_context: bool,
    client_no_context: bool,
    server_bits: Option<u8>,
    /// The inner `None`: without a value, which only an offer may be.
    client_bits: Option<Option<u8>>,
}

impl Asked {
    /// Refuses whatever RFC 7692 7.1 does not define (5.1: decline such an offer, give up the
    /// connection on such an answer).
    fn read(parameters: Parameters<'_>) -> Result<Asked, Error> {
        let mut asked = Asked::default();
        for parameter in parameters {
            let (name, value) = parameter?;
            let bare = |name| if value.is_none() { Ok(true) } else { Err(Error::BadValue(name)) };
            let bits = |name| value.as_deref().map(|text| window_bits(text, name)).transpose();
            let again = if name == SERVER_NO_CONTEXT.as_bytes() {
                std::mem::replace(&mut asked.server_no_context, bare(SERVER_NO_CONTEXT)?)
            } else if name == CLIENT_NO_CONTEXT.as_bytes() {
                std::mem::replace(&mut asked.client_no_context, bare(CLIENT_NO_CONTEXT)?)
            } else if name == SERVER_BITS.as_bytes() {
                let bits = bits(SERVER_BITS)?.ok_or(Error::BadValue(SERVER_BITS))?;
                asked.server_bits.replace(bits).is_some()
            } else if name == CLIENT_BITS.as_bytes() {
                asked.client_bits.replace(bits(CLIENT_BITS)?).is_some()
            } else {
                return Err(Error::UnknownParameter);
            };
            if again {
                return Err(Error::RepeatedParameter);
            }
        }
        Ok(asked)
    }
}

/// 8 to 15, without leading zeros.
fn window_bits(text: &[u8], name: &'static str) -> Result<u8, Error> {
    match text {
        [digit @ b'8'..=b'9'] => Ok(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Ok(10 + digit - b'0'),
        _ => Err(Error::BadValue(name)),
    }
}

fn clamp_bits(bits: u8) -> u8 {
    bits.clamp(8, MAX_BITS)
}

pub(super) fn answer(parameters: Parameters<'_>, config: &Config) -> Option<(Agreed, String)> {
    let asked = Asked::read(parameters).ok()?;
    let ours = clamp_bits(config.server_max_window_bits);
    let wanted = clamp_bits(config.client_max_window_bits).max(MIN_BITS);
    let agreed = Agreed {
        server_no_context_takeover: config.server_no_context_takeover || asked.server_no_context,
        // A client that offers it will do so: told back, it lets us drop its context.
        client_no_context_takeover: config.client_no_context_takeover || asked.client_no_context,
        server_max_window_bits: ours.min(asked.server_bits.unwrap_or(MAX_BITS)),
        client_max_window_bits: match asked.client_bits {
            // It does not understand the parameter, and must not be sent it.
            None => MAX_BITS,
            Some(most) => wanted.min(most.unwrap_or(MAX_BITS)),
        },
        level: config.level.clamp(1, 9),
        threshold: config.threshold,
    };
    let mut text = NAME.to_string();
    if agreed.server_no_context_takeover {
        push(&mut text, SERVER_NO_CONTEXT, None);
    }
    if agreed.client_no_context_takeover {
        push(&mut text, CLIENT_NO_CONTEXT, None);
    }
    if asked.server_bits.is_some() || agreed.server_max_window_bits < MAX_BITS {
        push(&mut text, SERVER_BITS, Some(agreed.server_max_window_bits));
    }
    if agreed.client_max_window_bits < MAX_BITS {
        push(&mut text, CLIENT_BITS, Some(agreed.client_max_window_bits));
    }
    Some((agreed, text))
}

pub(super) fn offer(config: &Config) -> String {
    let (server, client) =
        (clamp_bits(config.server_max_window_bits), clamp_bits(config.client_max_window_bits));
    let mut text = NAME.to_string();
    if config.server_no_context_takeover {
        push(&mut text, SERVER_NO_CONTEXT, None);
    }
    if config.client_no_context_takeover {
        push(&mut text, CLIENT_NO_CONTEXT, None);
    }
    if server < MAX_BITS {
        push(&mut text, SERVER_BITS, Some(server));
    }
    // Always, because without it the server may not ask for a smaller window.
    push(&mut text, CLIENT_BITS, (client < MAX_BITS).then_some(client));
    text
}

pub(super) fn accept(parameters: Parameters<'_>, config: &Config) -> Result<Agreed, Error> {
    let answer = Asked::read(parameters)?;
    if config.server_no_context_takeover && !answer.server_no_context {
        return Err(Error::NotGranted(SERVER_NO_CONTEXT));
    }
    let most = clamp_bits(config.server_max_window_bits);
    let server = match answer.server_bits {
        None if most < MAX_BITS => return Err(Error::NotGranted(SERVER_BITS)),
        Some(bits) if bits > most => return Err(Error::BadValue(SERVER_BITS)),
        bits => bits.unwrap_or(MAX_BITS),
    };
    let most = clamp_bits(config.client_max_window_bits);
    let client = match answer.client_bits {
        None => most,
        Some(Some(bits)) if bits <= most => bits,
        Some(_) => return Err(Error::BadValue(CLIENT_BITS)),
    };
    Ok(Agreed {
        server_no_context_takeover: answer.server_no_context,
        client_no_context_takeover: answer.client_no_context || config.client_no_context_takeover,
        server_max_window_bits: server,
        client_max_window_bits: client,
        level: config.level.clamp(1, 9),
        threshold: config.threshold,
    })
}

fn push(text: &mut String, name: &str, bits: Option<u8>) {
    text.push_str("; ");
    text.push_str(name);
    if let Some(bits) = bits {
        text.push('=');
        text.push_str(&bits.to_string());
    }
}
