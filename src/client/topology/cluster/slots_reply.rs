//! The answer to CLUSTER SLOTS: which slots are where, and at which address each server is to be reached.

use std::collections::HashSet;

use redis::Value;

use crate::config::endpoint::Endpoint;

/// A run of slots: first, last, their primary and its replicas.
pub(super) type Range = (u16, u16, Endpoint, Vec<Endpoint>);

/// Reads the answer to CLUSTER SLOTS that `asked` gave; None if it is of another form.
pub(super) fn read(reply: Value, asked: &Endpoint) -> Option<Vec<Range>> {
    let Value::Array(ranges) = reply else {
        return None;
    };
    ranges
        .into_iter()
        .map(|range| read_range(range, asked))
        .collect()
}

/// The names of the servers in the answer to CLUSTER SLOTS.
pub(super) fn names(reply: &Value) -> HashSet<Vec<u8>> {
    let parts = |value: &Value| match value {
        Value::Array(parts) => parts.clone(),
        _ => Vec::new(),
    };
    let ranges = parts(reply).into_iter();
    let servers = ranges.flat_map(|range| parts(&range).into_iter().skip(2));
    let names = servers.filter_map(|server| match parts(&server).into_iter().nth(2) {
        Some(Value::BulkString(name)) => Some(name),
        _ => None,
    });
    names.collect()
}

fn read_range(range: Value, asked: &Endpoint) -> Option<Range> {
    let Value::Array(range) = range else {
        return None;
    };
    let mut parts = range.into_iter();
    let (Some(Value::Int(first)), Some(Value::Int(last))) = (parts.next(), parts.next()) else {
        return None;
    };
    let mut servers = parts.map(|server| read_server(server, asked));
    let primary = servers.next()??;
    let slots = (u16::try_from(first).ok()?, u16::try_from(last).ok()?);
    Some((slots.0, slots.1, primary, servers.collect::<Option<_>>()?))
}

fn read_server(server: Value, asked: &Endpoint) -> Option<Endpoint> {
    let Value::Array(server) = server else {
        return None;
    };
    let mut parts = server.into_iter();
    let host = match parts.next()? {
        Value::BulkString(host) => String::from_utf8(host).ok()?,
        // It does not know how it is reached: as it was.
        Value::Nil => String::new(),
        _ => return None,
    };
    let Value::Int(port) = parts.next()? else {
        return None;
    };
    asked.neighbour(&host, u16::try_from(port).ok()?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::client::topology::cluster) fn server(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port)])
    }

    pub(in crate::client::topology::cluster) fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn what_is_no_map_is_none() {
        let asked = Endpoint::parse("redis://seed:1").unwrap();
        for reply in [
            Value::Nil,
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![Value::Array(vec![Value::Int(0)])]),
            Value::Array(vec![Value::Array(vec![
                Value::Int(0),
                Value::Int(70_000),
                server(text("h"), 1),
            ])]),
            Value::Array(vec![Value::Array(vec![
                Value::Int(0),
                Value::Int(1),
                server(text("h"), -1),
            ])]),
        ] {
            assert!(read(reply, &asked).is_none());
        }
    }
}
