//! Extensions (RFC 6455 9). An extension is a file in `ext/` that implements `Extension`, declared
//! here, and its line in the registry. Nothing else names one but whoever fills in [`Config`], and, of
//! permessage-deflate, who compresses one message for many.

pub mod deflate;
mod error;
mod extension;
mod offer;

use offer::{Offer, Parameters};

use crate::Role;
pub use error::Error;
pub use extension::Encoder;
use extension::Extension;
pub(crate) use extension::{Ahead, Decoder};

/// From a line for each extension (file, type) what the handshake and connections know of all.
macro_rules! registry {
    ($($(#[$doc:meta])* $file:ident: $Type:ident;)+) => {
        /// What our side wants of each extension. `None`: it is neither offered nor taken.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Config {
            $($(#[$doc])* pub $file: Option<$file::Config>),+
        }

        $(impl From<$file::Config> for Config {
            /// This one and no other.
            #[allow(clippy::needless_update)] // There may be others.
            fn from(config: $file::Config) -> Config {
                Config { $file: Some(config), ..Config::default() }
            }
        })+

        /// The extension that both sides agreed on for one connection, and how our side sends by it.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Agreed {
            $($(#[$doc])* $Type($file::Agreed)),+
        }

        impl Agreed {
            /// The receiving half of the side `role`, ours.
            pub(crate) fn decoder(&self, role: Role) -> Box<dyn Decoder> {
                match self {
                    $(Self::$Type(agreed) => $file::$Type::decoder(agreed, role)),+
                }
            }

            /// The sending half of the side `role`, ours.
            pub fn encoder(&self, role: Role) -> Box<dyn Encoder> {
                match self {
                    $(Self::$Type(agreed) => $file::$Type::encoder(agreed, role)),+
                }
            }
        }

        const KNOWN: &[Known] = &[$(Known {
            name: $file::$Type::NAME,
            offer: |config| config.$file.as_ref().map($file::$Type::offer),
            answer: |parameters, config| {
                let (agreed, text) = $file::$Type::answer(parameters, config.$file.as_ref()?)?;
                Some((Agreed::$Type(agreed), text))
            },
            accept: |parameters, config| {
                let config = config.$file.as_ref().ok_or(Error::NotOffered)?;
                $file::$Type::accept(parameters, config).map(Agreed::$Type)
            },
        }),+];
    };
}

// In the order in which a client offers them.
registry! {
    /// permessage-deflate (RFC 7692).
    deflate: Deflate;
}

/// An extension as the handshake meets it.
struct Known {
    name: &'static str,
    offer: fn(&Config) -> Option<String>,
    answer: fn(Parameters<'_>, &Config) -> Option<(Agreed, String)>,
    accept: fn(Parameters<'_>, &Config) -> Result<Agreed, Error>,
}

fn known(offer: &Offer<'_>) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name.as_bytes() == offer.name)
}

/// Server: whether the values of all Sec-WebSocket-Extensions lines are of the header's grammar.
pub fn is_well_formed(offers: &[&[u8]]) -> bool {
    offer::list(offers)
        .all(|offer| offer.is_ok_and(|offer| offer.parameters().all(|parameter| parameter.is_ok())))
}

/// Server: chooses from the values of all Sec-WebSocket-Extensions lines of the request. The
/// first offer in the client's order that is well-formed and that we can keep is taken; the
/// others are passed over. Returns the agreement and the header value for the response; `None`:
/// no extension, and no header.
pub fn negotiate_server(offers: &[&[u8]], config: &Config) -> Option<(Agreed, String)> {
    offer::list(offers)
        .filter_map(Result::ok)
        .find_map(|offer| (known(&offer)?.answer)(offer.parameters(), config))
}

/// Client: the value of the request's Sec-WebSocket-Extensions, if any is wanted.
pub fn client_offer(config: &Config) -> Option<String> {
    let offers: Vec<_> = KNOWN.iter().filter_map(|known| (known.offer)(config)).collect();
    (!offers.is_empty()).then(|| offers.join(", "))
}

/// Client: checks the values of the response's Sec-WebSocket-Extensions lines against what
/// [`client_offer`] said with the same `config`. `None`: the server wants no extension.
pub fn accept_response(values: &[&[u8]], config: &Config) -> Result<Option<Agreed>, Error> {
    let mut agreed = None;
    for answer in offer::list(values) {
        let answer = answer?;
        let known = known(&answer).ok_or(Error::NotOffered)?;
        if agreed.is_some() {
            return Err(Error::Several);
        }
        agreed = Some((known.accept)(answer.parameters(), config)?);
    }
    Ok(agreed)
}
