//! Which Redis: its address as it stands in a configuration.

use crate::broker::address::{split_host, Address, ServerError};

/// A server's port.
const PORT: u16 = 6379;

/// One Redis 7 or Valkey server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub address: Address,
    /// The number of its database.
    pub database: u32,
    /// Its connections are in TLS.
    pub tls: bool,
}

impl Server {
    /// `redis://host[:port][/database]`, `rediss://` alike in TLS, or `unix:path`.
    pub fn parse(text: &str) -> Result<Self, ServerError> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(ServerError::NoHost);
            }
            let address = Address::Unix(path.to_string());
            return Ok(Self { address, database: 0, tls: false });
        }
        let (scheme, rest) = text.split_once("://").unwrap_or((text, ""));
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => {
                let scheme = scheme.split_once(':').map_or(scheme, |(scheme, _)| scheme);
                return Err(ServerError::Scheme(scheme.to_string()));
            }
        };
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        if place.contains('@') {
            return Err(ServerError::Secret);
        }
        let address = split_host(place, PORT)?;
        let database = match database {
            "" => 0,
            digits => digits.parse().map_err(|_| ServerError::Database)?,
        };
        Ok(Self { address, database, tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let tcp = |host: &str, port, database| {
            Ok(Server { address: Address::Tcp(host.to_string(), port), database, tls: false })
        };
        let tls = Server::parse("rediss://a").map(|server| (server.tls, server.address));
        assert_eq!(tls, Ok((true, Address::Tcp("a".to_string(), 6379))));
        assert_eq!(Server::parse("redis://10.0.0.5:6380/2"), tcp("10.0.0.5", 6380, 2));
        assert_eq!(Server::parse("redis://redis.internal"), tcp("redis.internal", 6379, 0));
        assert_eq!(Server::parse("redis://[::1]:6379/"), tcp("::1", 6379, 0));
        assert_eq!(Server::parse("redis://[::1]"), tcp("::1", 6379, 0));
        let unix = Address::Unix("/run/redis.sock".to_string());
        assert_eq!(
            Server::parse("unix:/run/redis.sock"),
            Ok(Server { address: unix, database: 0, tls: false })
        );
    }

    #[test]
    fn what_is_none_is_refused_by_its_fault() {
        for (text, fault) in [
            ("http://a", ServerError::Scheme("http".to_string())),
            ("redis", ServerError::NoHost),
            ("redis:a", ServerError::Scheme("redis".to_string())),
            ("unix:", ServerError::NoHost),
            ("redis://", ServerError::NoHost),
            ("redis://:6379", ServerError::NoHost),
            ("redis://[::1", ServerError::NoHost),
            ("redis://user:word@a", ServerError::Secret),
            ("redis://a:0", ServerError::Port),
            ("redis://a:70000", ServerError::Port),
            ("redis://[::1]6379", ServerError::Port),
            ("redis://a/x", ServerError::Database),
        ] {
            assert_eq!(Server::parse(text), Err(fault), "{text}");
        }
    }
}
