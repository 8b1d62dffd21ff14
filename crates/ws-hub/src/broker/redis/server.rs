//! Which Redis: its address as it stands in a configuration.

use crate::broker::address::{Address, ServerError};

/// One Redis 7 or Valkey server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub address: Address,
    /// The number of its database.
    pub database: u32,
}

impl Server {
    /// `redis://host[:port][/database]` or `unix:path`.
    pub fn parse(text: &str) -> Result<Self, ServerError> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(ServerError::NoHost);
            }
            return Ok(Self { address: Address::Unix(path.to_string()), database: 0 });
        }
        let Some(rest) = text.strip_prefix("redis://") else {
            let scheme = text.split_once(':').map_or(text, |(scheme, _)| scheme);
            return Err(ServerError::Scheme(scheme.to_string()));
        };
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        if place.contains('@') {
            return Err(ServerError::Secret);
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or(ServerError::NoHost)?,
            None => place.split_at(place.find(':').unwrap_or(place.len())),
        };
        if host.is_empty() {
            return Err(ServerError::NoHost);
        }
        let port = match port.strip_prefix(':') {
            Some(digits) => match digits.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(ServerError::Port),
            },
            None if port.is_empty() => 6379,
            None => return Err(ServerError::Port),
        };
        let database = match database {
            "" => 0,
            digits => digits.parse().map_err(|_| ServerError::Database)?,
        };
        Ok(Self { address: Address::Tcp(host.to_string(), port), database })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let tcp = |host: &str, port, database| {
            Ok(Server { address: Address::Tcp(host.to_string(), port), database })
        };
        assert_eq!(Server::parse("redis://10.0.0.5:6380/2"), tcp("10.0.0.5", 6380, 2));
        assert_eq!(Server::parse("redis://redis.internal"), tcp("redis.internal", 6379, 0));
        assert_eq!(Server::parse("redis://[::1]:6379/"), tcp("::1", 6379, 0));
        assert_eq!(Server::parse("redis://[::1]"), tcp("::1", 6379, 0));
        let unix = Address::Unix("/run/redis.sock".to_string());
        assert_eq!(
            Server::parse("unix:/run/redis.sock"),
            Ok(Server { address: unix, database: 0 })
        );
    }

    #[test]
    fn what_is_none_is_refused_by_its_fault() {
        for (text, fault) in [
            ("http://a", ServerError::Scheme("http".to_string())),
            ("redis", ServerError::Scheme("redis".to_string())),
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
