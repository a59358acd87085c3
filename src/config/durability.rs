//! What `index_done_callback` waits for: the levels, and what an unmet one is told as.

use std::fmt;

use crate::error::{Error, Kind, Result};

/// How safe the writes before a barrier are once it has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// The server has acknowledged them.
    #[default]
    Ack,
    /// So many replicas have them too.
    Replicas(u32),
    /// The server has them in its append-only file, on the disk.
    Fsync {
        /// And so many replicas in theirs.
        replicas: u32,
    },
    /// The server has them in a snapshot that has ended.
    Snapshot,
}

impl Durability {
    /// Reads `ack`, `replicas:N`, `fsync`, `fsync+replicas:N` or `snapshot`.
    pub fn parse(text: &str) -> Result<Self> {
        let replicas = |number: &str| number.parse().ok().filter(|number| *number > 0);
        let level = match text.split_once(':') {
            None if text == "ack" => Some(Self::Ack),
            None if text == "fsync" => Some(Self::Fsync { replicas: 0 }),
            None if text == "snapshot" => Some(Self::Snapshot),
            Some(("replicas", number)) => replicas(number).map(Self::Replicas),
            Some(("fsync+replicas", number)) => {
                replicas(number).map(|replicas| Self::Fsync { replicas })
            }
            _ => None,
        };
        level.ok_or_else(|| {
            let message = format!(
                "redis_durability {text:?} must be ack, replicas:N, fsync, fsync+replicas:N or snapshot"
            );
            Error::new(Kind::Config, message)
        })
    }

    /// The error of a barrier that found only `achieved`; `why` says where, and what to do.
    pub(crate) fn unmet(self, achieved: Self, why: impl fmt::Display) -> Error {
        let message = format!(
            "redis_durability={self} is not met, only {achieved}: {why}; the writes before it were acknowledged and may yet be lost"
        );
        Error::new(Kind::Durability, message).with_levels(self.to_string(), achieved.to_string())
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ack | Self::Replicas(0) => f.write_str("ack"),
            Self::Replicas(number) => write!(f, "replicas:{number}"),
            Self::Fsync { replicas: 0 } => f.write_str("fsync"),
            Self::Fsync { replicas } => write!(f, "fsync+replicas:{replicas}"),
            Self::Snapshot => f.write_str("snapshot"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_read_as_it_is_shown_and_anything_else_is_refused() {
        for text in ["ack", "replicas:2", "fsync", "fsync+replicas:1", "snapshot"] {
            assert_eq!(Durability::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "replicas",
            "replicas:0",
            "fsync:1",
            "ack:1",
            "replicas:-1",
        ] {
            let error = Durability::parse(text).unwrap_err();
            assert!(error.to_string().starts_with("redis_durability"), "{error}");
        }
    }
}
