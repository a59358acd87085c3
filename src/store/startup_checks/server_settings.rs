//! Whether the servers may lose documents: what they evict, what a crash takes, how old they are.

use std::sync::Arc;

use redis::Value;

use crate::client::{Connections, Reply, Request, command, info_field};
use crate::error::{Result, is_unknown_command};

/// The oldest version that is meant to work.
const OLDEST: (u32, u32) = (6, 2);

/// A line for each thing that is to be told about the servers. What they answer is taken as it
/// comes: what is not understood is not told of.
pub(super) async fn inspect(connections: &Arc<Connections>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for node in connections.primaries().await? {
        // One by one: several sections in one command want Redis 7.
        let sections = ["server", "memory", "persistence"];
        let info = sections.map(|section| command("INFO", [section.as_bytes()]));
        let replies = node.query_once(&Request::resendable(info)).await?;
        let endpoint = node.endpoint();
        lines.extend(
            replies
                .iter()
                .find_map(why_unknown)
                .map(|why| format!("{endpoint}: {why}")),
        );
        let said: String = replies.into_iter().filter_map(text).collect();
        lines.extend(findings(&said).map(|finding| format!("{endpoint}: {finding}")));
    }
    Ok(lines)
}

/// What is to be told where INFO was refused.
fn why_unknown(reply: &Reply) -> Option<&'static str> {
    let Reply::Other(Value::ServerError(error)) = reply else {
        return None;
    };
    if error.code() == "NOPERM" {
        return Some(
            "this user may not ask INFO, so whether the server evicts documents, or loses them in a crash, was not looked at: grant +info, or look as another user",
        );
    }
    let unknown = error.details().is_some_and(is_unknown_command);
    unknown.then_some(
        "the server does not have INFO, so whether it evicts documents, or loses them in a crash, is not known: look where it is managed",
    )
}

fn text(reply: Reply) -> Option<String> {
    redis::from_redis_value(reply.value().ok()?).ok()
}

/// What is to be told of a server that says this.
fn findings(info: &str) -> impl Iterator<Item = String> {
    let said = |name: &str| info_field(info, name);
    let policy = said("maxmemory_policy").filter(|policy| policy.starts_with("allkeys-"));
    let policy = policy.map(|policy| {
        format!(
            "maxmemory-policy is {policy}: a server that is full deletes documents and tells nobody; CONFIG SET maxmemory-policy volatile-lru, or noeviction"
        )
    });
    let file = (said("aof_enabled") == Some("0")).then(|| {
        "the append-only file is off: a crash loses what was written since the last snapshot; CONFIG SET appendonly yes".to_owned()
    });
    let version = said("redis_version").filter(|version| is_old(version));
    let version = version.map(|version| {
        format!(
            "its version is {version}, and nothing below {}.{} is tested: upgrade it",
            OLDEST.0, OLDEST.1
        )
    });
    [policy, file, version].into_iter().flatten()
}

fn is_old(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < OLDEST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(info: &str) -> Vec<String> {
        findings(info).collect()
    }

    #[test]
    fn an_old_server_that_evicts_and_forgets_is_told_of_in_three_lines() {
        let info =
            "# Server\r\nredis_version:6.0.16\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:0\r\n";
        let found = found(info);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("allkeys-lru") && found[0].contains("CONFIG SET"));
        assert!(found[1].contains("CONFIG SET appendonly yes"));
        assert!(found[2].contains("6.0.16") && found[2].contains("6.2"));
    }

    #[test]
    fn a_server_in_order_and_one_that_is_not_understood_are_not_told_of() {
        for info in [
            "redis_version:7.0.15\r\nmaxmemory_policy:volatile-lru\r\naof_enabled:1\r\n",
            "redis_version:10.0\r\nmaxmemory_policy:noeviction",
            "redis_version:unstable",
            "redis_version",
            ":::\n\r:",
            "",
        ] {
            assert_eq!(found(info), Vec::<String>::new(), "{info}");
        }
    }

    #[test]
    fn the_oldest_version_that_is_tested_is_not_old() {
        for (version, old) in [
            ("5.0.14", true),
            ("6.1.240", true),
            ("6.2.0", false),
            ("6.10.0", false),
            ("7.0.0", false),
        ] {
            assert_eq!(is_old(version), old, "{version}");
        }
    }

    #[test]
    fn a_server_that_does_not_answer_info_is_told_of_with_the_reason() {
        for (said, told) in [
            ("-NOPERM this user may not\r\n", "grant +info"),
            ("-ERR unknown command 'INFO'\r\n", "does not have INFO"),
            ("-LOADING a file\r\n", ""),
            ("+unknown command\r\n", ""),
        ] {
            let reply = Reply::from(redis::parse_redis_value(said.as_bytes()).unwrap());
            let why = why_unknown(&reply).unwrap_or_default();
            assert_eq!(why.is_empty(), told.is_empty(), "{said}: {why}");
            assert!(why.contains(told), "{said}: {why}");
        }
    }
}
