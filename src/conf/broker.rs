//! `websocket_broker`: the block's lines, and what they make together.

use std::path::{Path, PathBuf};

use ws_hub::broker::{Address, Secret, Server, Settings};

use super::arguments::{parse_time, ArgumentError};
use super::topics::parse_size;
use crate::hub;
use crate::ngx::client;

/// A block that is being read.
pub struct Block {
    name: String,
    /// Where the configuration lies: files are meant from there.
    folder: PathBuf,
    server: Option<Server>,
    settings: Settings,
    seen: Vec<Vec<u8>>,
    /// A file with a secret that everybody can read.
    pub exposed: Option<String>,
}

/// The longest prefix: names of topics and this fit a line of any log.
const MAX_PREFIX: usize = 64;

impl Block {
    /// Nothing read yet.
    pub fn new(name: &[u8], folder: &[u8]) -> Block {
        Block {
            name: shown(name),
            folder: Path::new(&shown(folder)).to_path_buf(),
            server: None,
            settings: Settings::default(),
            seen: Vec::new(),
            exposed: None,
        }
    }

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
            b"server" => self.server = Some(server(&shown(one()?))?),
            b"user" => self.settings.user = one()?.to_vec(),
            b"password_file" => self.settings.password = self.password_file(one()?)?,
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
                None => return Err(invalid(args[0])),
            },
            b"queue" => self.queue(args)?,
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
        self.settings.queue = bytes.ok_or_else(|| invalid(size))?;
        if let Some(retry) = retry {
            let value = retry.strip_prefix(b"retry=").ok_or_else(|| invalid(retry))?;
            self.settings.retry = time(value)?;
        }
        Ok(())
    }

    fn password_file(&mut self, name: &[u8]) -> Result<Secret, ArgumentError> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.join(shown(name));
        let cannot = |err: std::io::Error| {
            let why = err.to_string();
            let why = why.split(" (os error").next().unwrap_or_default();
            text(format!("cannot read \"password_file\" \"{}\": {why}", path.display()))
        };
        let bytes = std::fs::read(&path).map_err(cannot)?;
        let mode = std::fs::metadata(&path).map_err(cannot)?.permissions().mode();
        if mode & 0o004 != 0 {
            self.exposed = Some(path.display().to_string());
        }
        let line = bytes.split(|&byte| byte == b'\n' || byte == b'\r').next().unwrap_or_default();
        if line.is_empty() {
            return Err(text(format!("no password in \"{}\"", path.display())));
        }
        Ok(Secret(line.to_vec()))
    }

    /// What the block has said.
    pub fn finish(self) -> Result<hub::Broker, ArgumentError> {
        let both = self.seen.iter().filter(|name| name.starts_with(b"password_")).count() > 1;
        if both {
            return Err(text(
                "\"password_file\" and \"password_env\" exclude each other".to_string(),
            ));
        }
        let Some(server) = self.server else {
            return Err(text(format!("no \"server\" in broker \"{}\"", self.name)));
        };
        Ok(hub::Broker { name: self.name, server, settings: self.settings })
    }
}

fn server(address: &str) -> Result<Server, ArgumentError> {
    let server = Server::parse(address).map_err(|err| text(format!("{err} in \"{address}\"")))?;
    let known = match server.address() {
        Address::Tcp(host, port) => client::address(host, *port).is_some(),
        Address::Unix(path) => client::unix(path).is_some(),
    };
    if !known {
        let why = "a broker is named by its address: names are not looked up yet";
        return Err(text(format!("{why}, in \"{address}\"")));
    }
    Ok(server)
}

fn password_env(name: &str) -> Result<Secret, ArgumentError> {
    match std::env::var(name) {
        Ok(word) if !word.is_empty() => Ok(Secret(word.into_bytes())),
        _ => Err(text(format!("no password in the environment variable \"{name}\""))),
    }
}

fn time(value: &[u8]) -> Result<u64, ArgumentError> {
    parse_time(value).filter(|&ms| ms > 0).ok_or_else(|| invalid(value))
}

fn invalid(value: &[u8]) -> ArgumentError {
    text(format!("invalid value \"{}\"", shown(value)))
}

fn text(text: String) -> ArgumentError {
    ArgumentError::Text(text)
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
