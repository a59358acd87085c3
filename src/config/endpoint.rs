//! Where a server is: the URL's parts, without its credentials.

use std::fmt;
use std::path::PathBuf;

use redis::{ConnectionAddr, IntoConnectionInfo};

use crate::error::{Error, Kind, Result};

/// The address of one standalone server and the database on it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub(crate) address: Address,
    pub(crate) database: i64,
    /// Whether TLS is spoken there.
    pub(crate) secure: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Endpoint {
    /// Reads `redis://host:port/db`, `rediss://host:port/db` for TLS, or `unix:///path?db=n` (also
    /// spelled `redis+unix://`).
    ///
    /// Credentials travel in [`super::Credentials`], so a URL that carries some is refused
    /// here, and no message repeats the URL.
    pub fn parse(url: &str) -> Result<Self> {
        let refuse = |message: &str| Err(Error::new(Kind::Config, format!("redis_url {message}")));
        if url.contains('#') {
            return refuse("must not have a fragment ('#...'): nothing of it would be honoured");
        }
        // What TLS is to the address is ours: the crate would let a URL switch its checks off.
        let tail = url.strip_prefix("rediss://");
        let plain = tail.map_or_else(|| url.to_owned(), |tail| format!("redis://{tail}"));
        let Ok(info) = plain.into_connection_info() else {
            return refuse(
                "is not a URL of the form redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH?db=DB",
            );
        };
        let settings = info.redis_settings();
        if settings.password().is_some() || settings.username().is_some() {
            return refuse("carries credentials: pass them as redis_username and redis_password");
        }
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Address::Tcp(host.clone(), *port),
            ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
            _ => return refuse("names a kind of connection that is not supported yet"),
        };
        if settings.db() < 0 {
            return refuse("names a database below 0");
        }
        Ok(Self {
            address,
            database: settings.db(),
            secure: tail.is_some(),
        })
    }

    /// Another server, reached as this one is: on another port, and on another host unless that
    /// is not known. None for one that is not on a network.
    pub(crate) fn neighbour(&self, host: &str, port: u16) -> Option<Self> {
        let Address::Tcp(own, _) = &self.address else {
            return None;
        };
        let host = if matches!(host, "" | "?") { own } else { host };
        (port > 0).then(|| Self {
            address: Address::Tcp(host.to_owned(), port),
            ..self.clone()
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp(host, port) => {
                let scheme = if self.secure { "rediss" } else { "redis" };
                let (open, close) = if host.contains(':') {
                    ("[", "]")
                } else {
                    ("", "")
                };
                write!(f, "{scheme}://{open}{host}{close}:{port}/{}", self.database)
            }
            Address::Unix(path) => write!(f, "unix://{}?db={}", path.display(), self.database),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_and_unix_urls_give_address_and_database() {
        for (url, shown) in [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://10.0.0.1:7000/3", "redis://10.0.0.1:7000/3"),
            ("rediss://cache/3", "rediss://cache:6379/3"),
            ("redis://[::1]:7000/3", "redis://[::1]:7000/3"),
            ("redis+unix:///run/r.sock?db=2", "unix:///run/r.sock?db=2"),
            ("unix:///run/r.sock", "unix:///run/r.sock?db=0"),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_refused_url_is_not_repeated() {
        for url in [
            "redis://user:canary@h:1",
            "rediss://:canary@h",
            "rediss://h#canary",
            "valkeys://canary",
            "redis://h/canary",
            "canary",
            "redis://h:1#canary",
            "redis://:canary@",
        ] {
            let error = Endpoint::parse(url).unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{url}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }

    #[test]
    fn whatever_is_given_is_an_address_that_shows_itself_or_is_refused() {
        let words: [&[u8]; 8] = [
            b"redis://",
            b"unix://",
            b"rediss://",
            b":canary@",
            b"#",
            b"?db=",
            b"%00",
            b"/15",
        ];
        crate::fuzz::fuzz("urls", &words, |bytes, _| {
            let Ok(url) = std::str::from_utf8(bytes) else {
                return;
            };
            match Endpoint::parse(url) {
                Ok(endpoint) => {
                    assert!(endpoint.database >= 0 && !url.contains('#'));
                    assert_eq!(endpoint.secure, url.starts_with("rediss://"));
                }
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Config);
                    assert!(!error.to_string().contains("canary"), "{error}");
                }
            }
        });
    }
}
