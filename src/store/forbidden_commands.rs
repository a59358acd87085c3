//! What this user may not do: each command in a form that changes nothing, under a key where nothing is.

use std::hash::{BuildHasher, RandomState};

use redis::Value;

use super::KvStore;
use crate::client::{Reply, Request, command};
use crate::error::{Result, is_unknown_command};

/// The commands, named as rules of an ACL name them, each with arguments that find nothing to do.
/// `@` stands for the key.
const FORMS: [(&str, &[&str]); 28] = [
    ("client|tracking", &["CLIENT", "TRACKING", "OFF"]),
    ("cluster|info", &["CLUSTER", "INFO"]),
    ("cluster|nodes", &["CLUSTER", "NODES"]),
    ("config|get", &["CONFIG", "GET", "appendonly"]),
    ("exists", &["EXISTS", "@"]),
    ("get", &["GET", "@"]),
    ("getex", &["GETEX", "@"]),
    ("info", &["INFO", "server"]),
    ("memory|usage", &["MEMORY", "USAGE", "@"]),
    ("persist", &["PERSIST", "@"]),
    ("pexpire", &["PEXPIRE", "@", "1"]),
    ("ping", &["PING"]),
    ("pttl", &["PTTL", "@"]),
    ("scan", &["SCAN", "0", "COUNT", "1"]),
    ("set", &["SET", "@", "", "XX"]),
    ("type", &["TYPE", "@"]),
    ("unlink", &["UNLINK", "@"]),
    ("wait", &["WAIT", "0", "1"]),
    ("waitaof", &["WAITAOF", "0", "0", "1"]),
    ("xadd", &["XADD", "@", "NOMKSTREAM", "*", "", ""]),
    ("xrange", &["XRANGE", "@", "0", "0"]),
    ("xrevrange", &["XREVRANGE", "@", "0", "0"]),
    ("zadd", &["ZADD", "@", "XX", "0", ""]),
    ("zcount", &["ZCOUNT", "@", "0", "0"]),
    ("zrangebyscore", &["ZRANGEBYSCORE", "@", "0", "0"]),
    ("zremrangebyscore", &["ZREMRANGEBYSCORE", "@", "0", "0"]),
    ("zscan", &["ZSCAN", "@", "0"]),
    ("zscore", &["ZSCORE", "@", ""]),
];

/// Those of a transaction, which are tried together.
const TRANSACTION: [&str; 3] = ["watch", "multi", "exec"];

fn is_refused(rule: &str, reply: &Reply) -> bool {
    let Reply::Other(Value::ServerError(error)) = reply else {
        return false;
    };
    // Servers before Redis 7.2 have no WAITAOF; that it is missing is known from the version.
    let unknown = rule != "waitaof" && error.details().is_some_and(is_unknown_command);
    // An EXEC that is refused aborts its transaction, and says that first.
    let aborted = error.code() == "EXECABORT";
    let aborted_so = aborted && error.details().is_some_and(|why| why.contains("NOPERM"));
    error.code() == "NOPERM" || aborted_so || unknown
}

impl KvStore {
    /// The commands that this user is refused, or that were taken from the server by another name, of
    /// those that are ever sent. Tries each.
    pub async fn forbidden(&self) -> Result<Vec<&'static str>> {
        // Where nothing is, of anybody's: some of them delete what is there.
        let chance = RandomState::new().hash_one(());
        let key = self
            .config
            .keyspace
            .key_beside(&format!("doctor:{chance:016x}"));
        let mut forbidden = Vec::new();
        for (rule, form) in FORMS {
            let words = form.iter().map(|word| match *word {
                "@" => &*key,
                word => word.as_bytes(),
            });
            let mut words = words.collect::<Vec<_>>().into_iter();
            let name = words.next().unwrap_or_default();
            let form = command(&String::from_utf8_lossy(name), words);
            let replies = self.send(&Request::resendable([form])).await?;
            if replies.iter().any(|reply| is_refused(rule, reply)) {
                forbidden.push(rule);
            }
        }
        if self.connections.has_one_server() {
            let replies = self.asked(self.connections.try_transaction(&key)).await?;
            let refused = TRANSACTION.iter().zip(&replies);
            let refused = refused.filter(|(rule, reply)| is_refused(rule, reply));
            forbidden.extend(refused.map(|(rule, _)| rule));
        }
        Ok(forbidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_forbidden_that_is_refused_by_name_or_is_not_there() {
        for (rule, reply, refused) in [
            (
                "get",
                "-NOPERM this user has no permissions to run it",
                true,
            ),
            (
                "waitaof",
                "-NOPERM this user has no permissions to run it",
                true,
            ),
            (
                "exec",
                "-EXECABORT Transaction discarded because of: NOPERM",
                true,
            ),
            (
                "exec",
                "-EXECABORT Transaction discarded because of: OOM command not allowed",
                false,
            ),
            (
                "exec",
                "-EXECABORT Transaction discarded because of previous errors.",
                false,
            ),
            ("get", "-ERR unknown command 'GET', with args", true),
            (
                "waitaof",
                "-ERR unknown command 'WAITAOF', with args",
                false,
            ),
            ("get", "-WRONGTYPE Operation against a key", false),
            ("get", "-ERR wrong number of arguments", false),
            ("get", "+OK", false),
        ] {
            let value = redis::parse_redis_value(format!("{reply}\r\n").as_bytes()).unwrap();
            assert_eq!(is_refused(rule, &Reply::from(value)), refused, "{reply}");
        }
    }
}
