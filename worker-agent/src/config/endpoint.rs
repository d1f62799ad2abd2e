//! One of several servers of which one takes writes, in an agent's configuration: `db1.example.com:5432`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// Its host; an IPv6 address without brackets.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no endpoint like db1.example.com:5432")]
pub struct NoEndpoint(String);

impl FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(text: &str) -> Result<Self, NoEndpoint> {
        let no_endpoint = || NoEndpoint(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(no_endpoint)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(no_endpoint)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_name = |host: &str| !host.is_empty() && !host.contains([':', '/', '@', '[', ']', ' ']);
        match bare {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                Ok(Self { host: address.to_owned(), port })
            }
            None if is_name(host) => Ok(Self { host: host.to_owned(), port }),
            Some(_) | None => Err(no_endpoint()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = NoEndpoint;

    fn try_from(text: String) -> Result<Self, NoEndpoint> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_endpoint_comes_back_as_it_was_written() {
        for (text, host, port) in [
            ("db1.example.com:5432", "db1.example.com", 5432),
            ("10.0.0.7:1", "10.0.0.7", 1),
            ("[::1]:5433", "::1", 5433),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port));
            assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_endpoint_is_told() {
        for text in ["", "db1", "db1:", "db1:0", "db1:65536", ":5432", "::1:5432", "[db1]:1", "/run/pg:1", "a@b:1"] {
            let told = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(told.contains("like db1.example.com:5432"), "{told}");
        }
    }
}
