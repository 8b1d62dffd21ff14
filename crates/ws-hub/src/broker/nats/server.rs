//! Which NATS servers: as they stand in a configuration, and those that a server tells of.

use crate::broker::address::{split_host, Address, ServerError};

/// A server's port.
const PORT: u16 = 4222;
/// Servers of a cluster that are remembered.
const MOST: usize = 64;

/// The servers of a configuration, of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where they are.
    pub addresses: Vec<Address>,
    /// Connections are in TLS.
    pub tls: bool,
}

impl Server {
    /// What follows `nats://` or `tls+nats://`: `host[:port][,host[:port]...]`.
    pub fn parse(rest: &str, tls: bool) -> Result<Self, ServerError> {
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(ServerError::Secret);
        }
        if rest.contains('/') {
            return Err(ServerError::Port);
        }
        let addresses: Result<_, _> =
            rest.split(',').map(|place| split_host(place, PORT)).collect();
        Ok(Self { addresses: addresses?, tls })
    }
}

/// The servers that are tried, one after the other.
#[derive(Clone)]
pub struct Servers {
    all: Vec<Address>,
    configured: usize,
    at: usize,
}

impl Servers {
    /// Those of a configuration, beginning with any one of them.
    pub fn new(server: &Server, seed: u64) -> Self {
        let all = server.addresses.clone();
        Self { configured: all.len(), at: seed as usize % all.len(), all }
    }

    /// The next one to be tried.
    pub fn next(&mut self) -> Address {
        self.at = (self.at + 1) % self.all.len();
        self.all[self.at].clone()
    }

    /// What a server tells of its cluster: takes the place of what was told before.
    pub fn learn(&mut self, urls: &[String]) {
        let now = self.all[self.at].clone();
        self.all.truncate(self.configured);
        for url in urls {
            let Ok(address) = split_host(url, PORT) else { continue };
            if !self.all.contains(&address) && self.all.len() < self.configured + MOST {
                self.all.push(address);
            }
        }
        // The one that is connected is the one that the next is next to.
        let at = self.all.iter().position(|address| *address == now);
        self.at = at.unwrap_or(self.at % self.all.len());
    }

    /// Whether there is another one.
    pub fn has_others(&self) -> bool {
        self.all.len() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let at = |host: &str, port| Address::Tcp(host.to_string(), port);
        let server = Server::parse("a,b:7,[::1]:8/", true).unwrap();
        assert_eq!(server.addresses, [at("a", 4222), at("b", 7), at("::1", 8)]);
        for (text, fault) in [
            ("", ServerError::NoHost),
            ("a,", ServerError::NoHost),
            ("u:p@a", ServerError::Secret),
            ("a:0", ServerError::Port),
            ("a/b", ServerError::Port),
        ] {
            assert_eq!(Server::parse(text, false), Err(fault), "{text}");
        }
    }

    #[test]
    fn one_after_the_other_and_those_that_are_told_of() {
        let server = Server::parse("a,b", false).unwrap();
        let mut servers = Servers::new(&server, 0);
        let mut names = |n| -> Vec<String> { (0..n).map(|_| servers.next().to_string()).collect() };
        assert_eq!(names(3), ["b:4222", "a:4222", "b:4222"]);
        servers.learn(&["c:1".to_string(), "a:4222".to_string(), "".to_string()]);
        let mut names = |n| -> Vec<String> { (0..n).map(|_| servers.next().to_string()).collect() };
        assert_eq!(names(3), ["c:1", "a:4222", "b:4222"]);
        servers.next();
        servers.learn(&[]);
        assert!(servers.has_others());
        servers.next();
    }
}
