//! `websocket_broker`: the block's lines, and what they make together.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use ws_hub::broker::{nats, Login, Secret, Server, Settings, Signer, Stream};

use super::arguments::ArgumentError;
use super::main::Main;
use super::time::{number, parse_time};
use super::topics::{no_history, parse_size};
use crate::hub::{self, MOST_BROKERS};
use crate::ngx::ed25519::PrivateKey;
use crate::ngx::tls_client::{TlsClient, TlsClientOptions};

/// A block that is being read.
pub struct Block {
    name: String,
    /// Where the configuration lies: files are meant from there.
    folder: PathBuf,
    server: Option<Server>,
    settings: Settings,
    tls: TlsClientOptions,
    seen: Vec<Vec<u8>>,
    /// What is allowed and should not be.
    warnings: Vec<String>,
}

/// The longest prefix: names of topics and this fit a line of any log.
const MAX_PREFIX: usize = 64;

impl Main {
    /// Begins a block.
    pub fn begin_broker(&mut self, args: &[&[u8]], folder: &[u8]) -> Result<Block, ArgumentError> {
        let name = shown(args.first().copied().unwrap_or_default());
        if self.brokers.iter().any(|broker| broker.name == name) {
            return Err(text(format!("duplicate broker \"{name}\"")));
        }
        if self.brokers.len() == MOST_BROKERS {
            return Err(text(format!("more than {MOST_BROKERS} brokers")));
        }
        Ok(Block {
            name,
            folder: Path::new(&shown(folder)).to_path_buf(),
            server: None,
            settings: Settings::default(),
            tls: TlsClientOptions::default(),
            seen: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// Ends it. Returns what nginx is to warn of.
    pub fn end_broker(&mut self, block: Block) -> Result<Vec<String>, ArgumentError> {
        let (broker, warnings) = block.finish()?;
        if self.lacks_history(&broker) {
            return Err(text(no_history(&broker.name)));
        }
        self.brokers.push(Rc::new(broker));
        Ok(warnings)
    }
}

impl Block {
    /// Reads one line of it.
    pub fn line(&mut self, words: &[&[u8]]) -> Result<(), ArgumentError> {
        let [name, args @ ..] = words else { return Ok(()) };
        if self.seen.iter().any(|seen| seen == name) {
            return Err(text(format!("\"{}\" is duplicate", shown(name))));
        }
        self.seen.push(name.to_vec());
        let one = || match args {
            [one] => Ok(*one),
            _ => Err(text(format!("invalid number of arguments in \"{}\"", shown(name)))),
        };
        match *name {
            b"server" => {
                let address = shown(one()?);
                let wrong = |err| text(format!("{err} in \"{address}\""));
                self.server = Some(Server::parse(&address).map_err(wrong)?);
            }
            b"user" => self.settings.user = one()?.to_vec(),
            b"password_file" => {
                self.settings.password = self.password_file("password_file", one()?)?;
            }
            b"sentinel_user" => self.settings.sentinel_user = one()?.to_vec(),
            b"sentinel_password_file" => {
                let name = "sentinel_password_file";
                self.settings.sentinel_password = self.password_file(name, one()?)?;
            }
            b"token_file" => {
                self.settings.login = Login::Token(self.password_file("token_file", one()?)?);
            }
            b"nkey_file" => {
                let Secret(seed) = self.password_file("nkey_file", one()?)?;
                let signer = signer(&shown(&seed)).ok_or_else(|| self.no_key("nkey_file", args))?;
                self.settings.login = Login::Key(signer);
            }
            b"creds_file" => {
                let file = self.secret_file("creds_file", one()?)?;
                let (file, no_key) = (shown(&file), || self.no_key("creds_file", args));
                let (jwt, seed) = nats::nkey::credentials(&file).ok_or_else(no_key)?;
                let signer = signer(seed).ok_or_else(no_key)?;
                let jwt = Secret(jwt.as_bytes().to_vec());
                self.settings.login = Login::Credentials(jwt, signer);
            }
            b"jetstream" => self.jetstream(args)?,
            b"password_env" => self.settings.password = password_env(&shown(one()?))?,
            b"prefix" => {
                let prefix = one()?;
                if prefix.is_empty() || prefix.len() > MAX_PREFIX {
                    return Err(text("invalid prefix".to_string()));
                }
                self.settings.prefix = prefix.to_vec();
            }
            b"connect_timeout" => self.settings.connect_timeout = time(one()?)?,
            b"command_timeout" => self.settings.command_timeout = time(one()?)?,
            b"probe" => self.settings.probe = time(one()?)?,
            b"reconnect" => match one()?.strip_prefix(b"max=") {
                Some(most) => self.settings.reconnect = time(most)?,
                None => return Err(ArgumentError::value(args[0])),
            },
            b"queue" => self.queue(args)?,
            b"tls_trusted_certificate" => self.tls.ca = Some(self.file(one()?)),
            b"tls_certificate" => match args {
                [certificate, key] => {
                    self.tls.pair = Some((self.file(certificate), self.file(key)));
                }
                _ => return Err(text("invalid number of arguments in \"tls_certificate\"".into())),
            },
            b"tls_name" => self.tls.name = Some(shown(one()?)),
            b"tls_first" => match one()? {
                b"on" => self.settings.tls_first = true,
                b"off" => {}
                other => return Err(ArgumentError::value(other)),
            },
            b"tls_verify" => match one()? {
                b"on" => {}
                b"off" => {
                    self.tls.unverified = true;
                    let what = "its server's certificate is not verified";
                    self.warnings.push(format!("broker \"{}\": {what}", self.name));
                }
                other => return Err(ArgumentError::value(other)),
            },
            _ => return Err(text(format!("unknown directive \"{}\"", shown(name)))),
        }
        Ok(())
    }

    fn queue(&mut self, args: &[&[u8]]) -> Result<(), ArgumentError> {
        let (size, retry) = match args {
            [size] => (*size, None),
            [size, retry] => (*size, Some(*retry)),
            _ => return Err(text("invalid number of arguments in \"queue\"".to_string())),
        };
        let bytes = parse_size(size).and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
        self.settings.queue = bytes.ok_or_else(|| ArgumentError::value(size))?;
        if let Some(retry) = retry {
            let value = retry.strip_prefix(b"retry=").ok_or_else(|| ArgumentError::value(retry))?;
            self.settings.retry = time(value)?;
        }
        Ok(())
    }

    /// `jetstream name [replicas=n]`
    fn jetstream(&mut self, args: &[&[u8]]) -> Result<(), ArgumentError> {
        let (name, replicas) = match args {
            [name] => (*name, 1),
            [name, option] => {
                let value = option.strip_prefix(b"replicas=").and_then(number);
                let few = value.filter(|n| (1..=5).contains(n));
                (*name, few.ok_or_else(|| ArgumentError::value(option))? as u32)
            }
            _ => return Err(text("invalid number of arguments in \"jetstream\"".to_string())),
        };
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        if name.is_empty() || name.len() > MAX_PREFIX || !name.iter().all(is_plain) {
            return Err(ArgumentError::of("invalid name of a stream", name));
        }
        let name = shown(name);
        self.settings.stream = Some(Stream { name, replicas, count: 1, ttl: 0 });
        Ok(())
    }

    fn no_key(&self, name: &str, args: &[&[u8]]) -> ArgumentError {
        let path = self.folder.join(shown(args.first().copied().unwrap_or_default()));
        text(format!("no key of a user in \"{name}\" \"{}\"", path.display()))
    }

    /// The first line of a file.
    fn password_file(&mut self, name: &str, file: &[u8]) -> Result<Secret, ArgumentError> {
        let bytes = self.secret_file(name, file)?;
        let line = bytes.split(|&byte| byte == b'\n' || byte == b'\r').next().unwrap_or_default();
        if line.is_empty() {
            let path = self.folder.join(shown(file));
            return Err(text(format!("no password in \"{}\"", path.display())));
        }
        Ok(Secret(line.to_vec()))
    }

    fn secret_file(&mut self, name: &str, file: &[u8]) -> Result<Vec<u8>, ArgumentError> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.join(shown(file));
        let cannot = |err: std::io::Error| {
            let why = err.to_string();
            let why = why.split(" (os error").next().unwrap_or_default();
            text(format!("cannot read \"{name}\" \"{}\": {why}", path.display()))
        };
        let bytes = std::fs::read(&path).map_err(cannot)?;
        let mode = std::fs::metadata(&path).map_err(cannot)?.permissions().mode();
        if mode & 0o004 != 0 {
            self.warnings
                .push(format!("everybody can read the password in \"{}\"", path.display()));
        }
        Ok(bytes)
    }

    fn file(&self, name: &[u8]) -> Vec<u8> {
        self.folder.join(shown(name)).into_os_string().into_encoded_bytes()
    }

    /// What the block has said.
    fn finish(self) -> Result<(hub::Broker, Vec<String>), ArgumentError> {
        let begin_with = |start: &[u8]| self.seen.iter().filter(|n| n.starts_with(start)).count();
        if begin_with(b"password_") > 1 {
            return Err(text(
                "\"password_file\" and \"password_env\" exclude each other".to_string(),
            ));
        }
        let Some(server) = self.server else {
            return Err(text(format!("no \"server\" in broker \"{}\"", self.name)));
        };
        if matches!(server, Server::Cluster(_)) && self.settings.prefix.contains(&b'{') {
            // It would decide about the slots of all names (Redis Cluster, "Hash tags").
            return Err(text(format!("a brace in the prefix of broker \"{}\"", self.name)));
        }
        let logins =
            ["token_file", "nkey_file", "creds_file"].map(|name| begin_with(name.as_bytes()));
        if logins.iter().sum::<usize>() + begin_with(b"password_") > 1 {
            let why =
                "of \"token_file\", \"nkey_file\", \"creds_file\" and a password only one is taken";
            return Err(text(why.to_string()));
        }
        if let Some(why) = server.fault(&self.settings) {
            return Err(text(format!("{why} in broker \"{}\"", self.name)));
        }
        let tls = match server.uses_tls() {
            true => {
                let tls = TlsClient::new(&self.tls).map_err(|err| text(err.to_string()))?;
                Some(Rc::new(tls))
            }
            false if begin_with(b"tls_") > 0 => {
                let why = "lines that begin with \"tls_\" for a server without tls";
                return Err(text(format!("{why} in broker \"{}\"", self.name)));
            }
            false => None,
        };
        let (name, settings) = (self.name, self.settings);
        Ok((hub::Broker { name, server, settings, tls }, self.warnings))
    }
}

/// What signs with a seed; nothing: it is none of a user.
fn signer(seed: &str) -> Option<Signer> {
    let key = PrivateKey::new(&nats::nkey::seed(seed.trim())?)?;
    let public = nats::nkey::public(&key.public()?);
    Some(Signer::new(public, move |text| key.sign(text)))
}

fn password_env(name: &str) -> Result<Secret, ArgumentError> {
    match std::env::var(name) {
        Ok(word) if !word.is_empty() => Ok(Secret(word.into_bytes())),
        _ => Err(text(format!("no password in the environment variable \"{name}\""))),
    }
}

fn time(value: &[u8]) -> Result<u64, ArgumentError> {
    parse_time(value).filter(|&ms| ms > 0).ok_or_else(|| ArgumentError::value(value))
}

fn text(text: String) -> ArgumentError {
    ArgumentError::Text(text)
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
