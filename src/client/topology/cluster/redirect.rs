//! What a server of a cluster says in place of an answer. The command was not executed.

use redis::Value;

use crate::client::Reply;
use crate::config::endpoint::Endpoint;

/// Why a command was not executed, and what to do instead.
#[derive(Debug, PartialEq)]
pub(super) enum Redirect {
    /// The slot is elsewhere from now on.
    Moved(u16, Endpoint),
    /// The slot is on its way: this key is there already, or is to be made there.
    Ask(Endpoint),
    /// The slot has no place, or not both of its places, for a moment.
    Wait,
}

impl Redirect {
    /// What the answer of the server at `from` says; None if it is an answer.
    pub(super) fn read(reply: &Reply, from: &Endpoint) -> Option<Self> {
        let Reply::Other(Value::ServerError(error)) = reply else {
            return None;
        };
        match error.code() {
            "MOVED" => place(error.details(), from).map(|(slot, at)| Self::Moved(slot, at)),
            "ASK" => place(error.details(), from).map(|(_, at)| Self::Ask(at)),
            "TRYAGAIN" | "CLUSTERDOWN" => Some(Self::Wait),
            _ => None,
        }
    }
}

/// `SLOT HOST:PORT`; an IPv6 address has colons too, and an unknown host is none.
fn place(details: Option<&str>, from: &Endpoint) -> Option<(u16, Endpoint)> {
    let (slot, address) = details?.split_once(' ')?;
    let (host, port) = address.trim_end().rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((
        slot.parse().ok()?,
        from.neighbour(host, port.parse().ok()?)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Option<Redirect> {
        let from = Endpoint::parse("redis://seed:1").unwrap();
        let value = redis::parse_redis_value(text.as_bytes()).unwrap();
        Redirect::read(&Reply::from(value), &from)
    }

    #[test]
    fn each_redirection_is_read_and_nothing_else() {
        let at = |url| Endpoint::parse(url).unwrap();
        for (text, expected) in [
            (
                "-MOVED 7 10.0.0.1:7001\r\n",
                Redirect::Moved(7, at("redis://10.0.0.1:7001")),
            ),
            (
                "-MOVED 7 :7001\r\n",
                Redirect::Moved(7, at("redis://seed:7001")),
            ),
            (
                "-ASK 7 ::1:7001\r\n",
                Redirect::Ask(at("redis://[::1]:7001")),
            ),
            ("-TRYAGAIN Multiple keys\r\n", Redirect::Wait),
            ("-CLUSTERDOWN Hash slot not served\r\n", Redirect::Wait),
        ] {
            assert_eq!(said(text), Some(expected), "{text}");
        }
        for text in [
            "+OK\r\n",
            "-WRONGTYPE no\r\n",
            "-MOVED\r\n",
            "-MOVED x h:1\r\n",
            "-ASK 1 h:x\r\n",
        ] {
            assert_eq!(said(text), None, "{text}");
        }
    }
}
