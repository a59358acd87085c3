//! Ids <-> Redis keys. [`Keyspace`] is the only road between them.

use crate::error::{Error, Kind, Result};

/// The keys of one namespace: `{prefix}:{namespace}:{id}`, or `{prefix}@{workspace}:{namespace}:{id}`.
///
/// Prefix, workspace and namespace hold neither `:` nor `@`, so no two different triples, with any
/// ids, make one key: everything up to the first `:` is prefix and workspace, up to the next one
/// the namespace, and all the rest, whatever it holds, is the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyspace {
    root: String,
    prefix: String,
    pattern: String,
}

impl Keyspace {
    /// The keyspace of `namespace`. An empty `workspace` means none.
    pub fn new(key_prefix: &str, workspace: &str, namespace: &str) -> Result<Self> {
        part("redis_key_prefix", key_prefix)?;
        part("namespace", namespace)?;
        let root = if workspace.is_empty() {
            key_prefix.to_owned()
        } else {
            part("redis_workspace", workspace)?;
            format!("{key_prefix}@{workspace}")
        };
        let prefix = format!("{root}:{namespace}:");
        let pattern = pattern_of(&prefix);
        Ok(Self {
            root,
            prefix,
            pattern,
        })
    }

    /// What every key of the namespace starts with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The glob pattern for SCAN's MATCH. A key it returns must still pass [`Keyspace::id_of`].
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// A key beside the namespaces: none may be called `@name`, so no id has it.
    #[must_use]
    pub fn key_beside(&self, name: &str) -> Vec<u8> {
        format!("{}:@{name}", self.root).into_bytes()
    }

    /// The key of the lease of an id, beside the namespaces. Its hash tag is the key of the value, so
    /// that a cluster keeps both on one server, unless there are braces in that.
    #[must_use]
    pub fn lease_key(&self, id: &str) -> String {
        format!("{}:@lease:{{{}{id}}}", self.root, self.prefix)
    }

    /// The Redis key of an id.
    #[must_use]
    pub fn key(&self, id: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), id.as_bytes()].concat()
    }

    /// The id of a key, or None for a key that is not of this namespace or not UTF-8.
    #[must_use]
    pub fn id_of<'key>(&self, key: &'key [u8]) -> Option<&'key str> {
        std::str::from_utf8(key.strip_prefix(self.prefix.as_bytes())?).ok()
    }
}

fn part(setting: &str, text: &str) -> Result<()> {
    if text.is_empty() || text.contains([':', '@']) {
        let message = format!("{setting} {text:?} must be text without ':' and '@', and not empty");
        return Err(Error::new(Kind::Config, message));
    }
    Ok(())
}

/// The glob pattern for SCAN's MATCH of the keys that start so.
pub(crate) fn pattern_of(prefix: &str) -> String {
    format!("{}*", escape_glob(prefix))
}

/// Escapes what MATCH gives a meaning to: <https://redis.io/docs/latest/commands/keys/>.
fn escape_glob(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_python_backend_and_a_workspace_is_set_apart() {
        let plain = Keyspace::new("nano_graphrag", "", "full_docs").unwrap();
        assert_eq!(plain.key("doc-1"), b"nano_graphrag:full_docs:doc-1");
        let apart = Keyspace::new("nano_graphrag", "acme", "full_docs").unwrap();
        assert_eq!(apart.key(""), b"nano_graphrag@acme:full_docs:");
        let lease = apart.lease_key("x");
        assert_eq!(
            lease,
            "nano_graphrag@acme:@lease:{nano_graphrag@acme:full_docs:x}"
        );
        assert_eq!(apart.id_of(lease.as_bytes()), None);
        assert_eq!(plain.id_of(&apart.key("x")), None);
    }

    #[test]
    fn glob_characters_of_a_namespace_are_escaped_in_its_pattern() {
        let keyspace = Keyspace::new("p", "", r"t*[a-z]\?").unwrap();
        assert_eq!(keyspace.pattern(), r"p:t\*\[a\-z\]\\\?:*");
    }

    #[test]
    fn a_separator_in_a_part_is_refused_by_name() {
        for (prefix, workspace, namespace, named) in [
            ("a:b", "", "n", "redis_key_prefix"),
            ("", "", "n", "redis_key_prefix"),
            ("p", "w@x", "n", "redis_workspace"),
            ("p", "", "n:m", "namespace"),
            ("p", "", "", "namespace"),
        ] {
            let error = Keyspace::new(prefix, workspace, namespace).unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            assert!(error.to_string().starts_with(named), "{error}");
        }
    }

    #[test]
    fn a_key_of_another_namespace_or_no_utf8_has_no_id() {
        let keyspace = Keyspace::new("p", "", "t").unwrap();
        assert_eq!(keyspace.id_of(b"p:tt:x"), None);
        assert_eq!(keyspace.id_of(b"p:t:\xff"), None);
        assert_eq!(keyspace.id_of("p:t:a:b{c}".as_bytes()), Some("a:b{c}"));
    }
}
