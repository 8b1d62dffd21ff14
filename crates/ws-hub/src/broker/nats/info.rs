//! What a server says of itself, and what we say to it: the JSON of INFO and CONNECT.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine as _;
use serde_json::{json, Value};

use crate::broker::settings::{Login, Settings};

/// What a server says of itself. It says so again when something changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Messages may have headers.
    pub headers: bool,
    /// The largest message, headers and all.
    pub max_payload: usize,
    /// It has to be sent something signed.
    pub nonce: String,
    /// It goes on in TLS only.
    pub tls_required: bool,
    /// Several messages can be read by one question.
    pub reads_many: bool,
    /// It is about to end.
    pub is_leaving: bool,
    /// Others of its cluster.
    pub others: Vec<String>,
}

/// The first version that has batches of DIRECT.GET.
const READS_MANY: (u32, u32) = (2, 11);

impl Info {
    /// From JSON; nothing: it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let info: Value = serde_json::from_slice(bytes).ok()?;
        let is = |name: &str| info[name].as_bool().unwrap_or(false);
        let mut version = info["version"].as_str()?.split('.').map(|n| n.parse().unwrap_or(0));
        let version = (version.next().unwrap_or(0), version.next().unwrap_or(0));
        let others = info["connect_urls"].as_array().into_iter().flatten();
        Some(Self {
            headers: is("headers"),
            max_payload: usize::try_from(info["max_payload"].as_u64()?).ok()?,
            nonce: info["nonce"].as_str().unwrap_or_default().to_string(),
            tls_required: is("tls_required"),
            reads_many: version >= READS_MANY,
            is_leaving: is("ldm"),
            others: others.filter_map(|url| Some(url.as_str()?.to_string())).collect(),
        })
    }

    /// CONNECT, by which we say who we are; nothing: what is to be signed could not be.
    pub fn connect(&self, settings: &Settings, name: &str, tls: bool) -> Option<Vec<u8>> {
        let mut words = json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true,
            "tls_required": tls, "protocol": 1, "lang": "rust", "name": name,
            "version": env!("CARGO_PKG_VERSION"),
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let signed = |signer: &crate::broker::Signer| {
            let signature = (signer.sign)(self.nonce.as_bytes())?;
            Some(URL_SAFE_NO_PAD.encode(signature))
        };
        match &settings.login {
            Login::Password if settings.password.0.is_empty() => {}
            Login::Password => {
                words["user"] = text(&settings.user).into();
                words["pass"] = text(&settings.password.0).into();
            }
            Login::Token(token) => words["auth_token"] = text(&token.0).into(),
            Login::Key(signer) => {
                words["nkey"] = signer.public.clone().into();
                words["sig"] = signed(signer)?.into();
            }
            Login::Credentials(jwt, signer) => {
                words["jwt"] = text(&jwt.0).into();
                words["sig"] = signed(signer)?.into();
            }
        }
        Some([b"CONNECT ", words.to_string().as_bytes(), b"\r\n"].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::settings::{Secret, Signer};

    #[test]
    fn what_a_server_says_is_read() {
        let text = br#"{"version":"2.15.1","max_payload":1048576,"headers":true,"nonce":"n",
            "tls_required":true,"connect_urls":["a:1",7],"ldm":true,"jetstream":true}"#;
        let info = Info::parse(text).unwrap();
        assert!(info.headers && info.tls_required && info.reads_many && info.is_leaving);
        assert_eq!((info.max_payload, info.others), (1_048_576, vec!["a:1".to_string()]));
        let old = Info::parse(br#"{"version":"2.9.10","max_payload":1}"#).unwrap();
        assert!(!old.reads_many && !old.tls_required && old.nonce.is_empty());
        for bad in [&b""[..], b"{}", b"[]", br#"{"version":"2","max_payload":-1}"#] {
            assert_eq!(Info::parse(bad), None);
        }
    }

    #[test]
    fn who_we_are_is_said_in_each_way() {
        let info = Info { nonce: "n".to_string(), ..Info::default() };
        let said = |settings: Settings| -> Value {
            let bytes = info.connect(&settings, "ws:1", false).unwrap();
            serde_json::from_slice(bytes.strip_prefix(b"CONNECT ").unwrap()).unwrap()
        };
        let with = |login| Settings { login, ..Settings::default() };
        let none = said(Settings::default());
        assert!(none.get("user").is_none() && none.get("sig").is_none());
        let (user, password) = (b"u\"".to_vec(), Secret(b"p\\".to_vec()));
        let user = said(Settings { user, password, ..Settings::default() });
        assert_eq!((&user["user"], &user["pass"]), (&json!("u\""), &json!("p\\")));
        let token = said(with(Login::Token(Secret(b"t".to_vec()))));
        assert_eq!(token["auth_token"], "t");
        let signer = Signer::new("UA".to_string(), |nonce| (nonce == b"n").then_some([0; 64]));
        let key = said(with(Login::Key(signer.clone())));
        assert_eq!(key["nkey"], "UA");
        assert_eq!(key["sig"].as_str().unwrap().len(), 86);
        let credentials = said(with(Login::Credentials(Secret(b"j".to_vec()), signer)));
        assert_eq!((&credentials["jwt"], &credentials["sig"]), (&json!("j"), &key["sig"]));
        let unsigned = Login::Key(Signer::new(String::new(), |_| None));
        assert_eq!(info.connect(&with(unsigned), "", false), None);
    }
}
