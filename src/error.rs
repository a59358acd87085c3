//! The crate's error, its kinds, and the one place that classifies what the `redis` crate reports.

use std::borrow::Cow;
use std::fmt;

use redis::{ErrorKind as RedisKind, RedisError, ServerErrorKind};

use crate::enumeration::enumeration;
use crate::printable::printable;

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

enumeration! {
    /// What kind of failure an [`Error`] is. Each kind is one exception class in Python.
    Kind {
        /// No server could be reached, or it could not serve (loading, cluster down).
        Unavailable: "unavailable",
        /// Refused at once: recent operations failed for want of a server.
        CircuitOpen: "circuit_open",
        /// No answer within the deadline. A write may or may not have been applied.
        Timeout: "timeout",
        /// The server answered with an error: wrong type, full, read-only, no permission.
        Operation: "operation",
        /// One side did not accept who the other is: refused credentials, an untrusted certificate.
        Auth: "auth",
        /// A value cannot be stored; nothing was written.
        Serialization: "serialization",
        /// Stored bytes cannot be read as a value.
        Corrupt: "corrupt",
        /// A JSON file of the host cannot be read or written.
        File: "file",
        /// A setting is wrong.
        Config: "config",
        /// Used after `close`.
        Closed: "closed",
        /// Writes are less safe than the settings ask.
        Durability: "durability",
        /// There is no memory for a value.
        Memory: "memory",
    }
}

/// A failure: its kind, a sentence that says what to do, and what it is about.
#[derive(Clone, Debug)]
pub struct Error(Box<Details>);

#[derive(Clone, Debug)]
struct Details {
    kind: Kind,
    message: String,
    namespace: Option<String>,
    id: Option<String>,
    unconfirmed: Option<Vec<String>>,
    levels: Option<(String, String)>,
    may_be_done: bool,
    refuses_writes: bool,
}

impl Error {
    /// An error of this kind. `message` says what happened and what to do, and holds no credential.
    /// It may hold what others wrote, a server's own words say: those are made visible.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Details {
            kind,
            message: match printable(&message) {
                Cow::Borrowed(_) => message,
                Cow::Owned(shown) => shown,
            },
            namespace: None,
            id: None,
            unconfirmed: None,
            levels: None,
            may_be_done: false,
            refuses_writes: false,
        }))
    }

    /// Names the namespace, unless one is named already.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.0.namespace.get_or_insert_with(|| namespace.to_owned());
        self
    }

    /// Names the id, unless one is named already.
    #[must_use]
    pub fn about(mut self, id: &str) -> Self {
        self.0.id.get_or_insert_with(|| id.to_owned());
        self
    }

    /// Lists the ids of a batch for which the server's confirmation was not received.
    #[must_use]
    pub fn with_unconfirmed(mut self, ids: Vec<String>) -> Self {
        self.0.unconfirmed = Some(ids);
        self
    }

    /// What is said in place of a list of unconfirmed ids, for which there is no memory.
    #[must_use]
    pub(crate) fn without_unconfirmed(mut self) -> Self {
        self.0.kind = Kind::Memory;
        self.0
            .message
            .push_str("; and no memory for the list of the ids that are not confirmed, which may be any of this call");
        self
    }

    /// Says which level of durability was asked for, and which one there is.
    #[must_use]
    pub(crate) fn with_levels(mut self, wanted: String, achieved: String) -> Self {
        self.0.levels = Some((wanted, achieved));
        self
    }

    /// Says whether what failed was sent at all, so that it may have been done.
    #[must_use]
    pub(crate) fn after_sending(mut self, sent: bool) -> Self {
        self.0.may_be_done = sent;
        self
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The namespace it happened in, where there is one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.0.namespace.as_deref()
    }

    /// The id it is about, where there is one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.0.id.as_deref()
    }

    /// For a batch that failed half-way: the ids that were not confirmed as written.
    #[must_use]
    pub fn unconfirmed(&self) -> Option<&[String]> {
        self.0.unconfirmed.as_deref()
    }

    /// Whether the server may have done it all the same: it was sent, and its answer was lost. The
    /// kind does not tell: an attempt may follow that is refused.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        self.0.may_be_done
    }

    /// Whether the server serves, and does not take this write: it is full, a replica, cannot persist, has too few
    /// replicas, or this user may not. What only reads may be had all the same.
    pub(crate) fn refuses_writes(&self) -> bool {
        self.0.refuses_writes
    }

    /// The level of durability that was asked for, and the one there is.
    #[must_use]
    pub fn levels(&self) -> Option<(&str, &str)> {
        let levels = self.0.levels.as_ref();
        levels.map(|(wanted, achieved)| (&**wanted, &**achieved))
    }

    /// Whether the server could not be reached or did not answer: what the breaker counts.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self.kind(), Kind::Unavailable | Kind::Timeout)
    }

    /// Whether there was no server, or none was asked because there had been none.
    pub(crate) fn found_no_server(&self) -> bool {
        self.is_outage() || self.kind() == Kind::CircuitOpen
    }

    /// Classifies what the `redis` crate reported; one of ours that it carried comes out as it went in.
    #[must_use]
    pub fn from_redis(error: &RedisError) -> Self {
        if let Some(own) = carried(error) {
            return own.clone();
        }
        let (kind, advice) = classify(error);
        let mut classified = Self::new(kind, format!("{}; {advice}", said(error)));
        classified.0.refuses_writes = matches!(
            error.code(),
            Some("OOM" | "READONLY" | "MISCONF" | "NOREPLICAS" | "NOPERM")
        );
        classified
    }
}

/// So that it travels where the `redis` crate's errors do; see [`Error::from_redis`].
impl From<Error> for RedisError {
    fn from(error: Error) -> Self {
        std::io::Error::other(error).into()
    }
}

fn carried(error: &RedisError) -> Option<&Error> {
    // The crate keeps an I/O error behind an `Arc`, which is an error itself.
    type Kept = std::sync::Arc<dyn std::error::Error + Send + Sync>;
    let kept = std::error::Error::source(error)?.downcast_ref::<Kept>()?;
    kept.downcast_ref::<std::io::Error>()?
        .get_ref()?
        .downcast_ref()
}

/// What to do where a login was refused.
pub(crate) const CHECK_LOGIN: &str =
    "check redis_username and redis_password, or redis_password_file";

/// What the server or the system said, without a trailing full stop. No reply repeats a credential.
fn said(error: &RedisError) -> String {
    let text = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("the server answered {code} {detail}"),
        (Some(code), None) => format!("the server answered {code}"),
        _ => error.to_string(),
    };
    text.trim_end().trim_end_matches('.').to_owned()
}

/// Asks a few questions in order: refused credentials, no answer, no server, an error answered.
fn classify(error: &RedisError) -> (Kind, &'static str) {
    let code = error.code().unwrap_or_default();
    if error.kind() == RedisKind::AuthenticationFailed
        || matches!(code, "NOAUTH" | "WRONGPASS" | "DENIED")
    {
        return (Kind::Auth, CHECK_LOGIN);
    }
    if error
        .detail()
        .is_some_and(|detail| detail.contains("max number of clients"))
    {
        return (
            Kind::Unavailable,
            "raise the server's maxclients, or lower redis_max_connections",
        );
    }
    if error.is_timeout() {
        return (
            Kind::Timeout,
            "the outcome is unknown: a write may or may not have been applied",
        );
    }
    match error.kind() {
        RedisKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::MasterDown,
        ) => (Kind::Unavailable, "try again when the server is ready"),
        RedisKind::Io | RedisKind::Parse | RedisKind::ClusterConnectionNotFound => (
            Kind::Unavailable,
            "check that the server runs and that redis_url is right",
        ),
        _ if error.detail().is_some_and(is_unknown_command) => (
            Kind::Operation,
            "the server, or a proxy before it, does not have this command: it is an old one, or it was renamed",
        ),
        _ => (Kind::Operation, advice_for(code)),
    }
}

/// Whether an error says that the server has no such command, as where managed ones have renamed it.
pub(crate) fn is_unknown_command(details: &str) -> bool {
    details.starts_with("unknown command")
}

/// What an operator does about an error the server answered with.
fn advice_for(code: &str) -> &'static str {
    match code {
        "WRONGTYPE" => "another program keeps a value of another type under this key",
        "OOM" => "the server has reached maxmemory: give it more, or drop what is not needed",
        "NOREPLICAS" => "not enough of its replicas are connected: see min-replicas-to-write",
        "READONLY" => "this is a replica: redis_url must name the primary",
        "NOPERM" => "grant this user the command and the keys",
        "MISCONF" => "the server cannot persist its data: see its log",
        "BUSY" => "a script blocks the server: SCRIPT KILL, or wait",
        "MOVED" | "ASK" | "CROSSSLOT" => {
            "this server is part of a Redis Cluster: set redis_cluster"
        }
        _ => "see the server's log",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let namespace = self.0.namespace.as_deref().map(printable);
        match (namespace, &self.0.id) {
            (Some(namespace), Some(id)) => {
                write!(f, " (namespace '{namespace}', id '{}')", id.escape_debug())
            }
            (Some(namespace), None) => write!(f, " (namespace '{namespace}')"),
            (None, Some(id)) => write!(f, " (id '{}')", id.escape_debug()),
            (None, None) => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_and_what_ids_are_called_is_shown_with_escapes() {
        let said = RedisError::from((
            RedisKind::UnexpectedReturnType,
            "the server said",
            "\u{1b}[2J\r\nforged\u{9b}\u{202e}".to_owned(),
        ));
        for error in [
            Error::from_redis(&said),
            Error::new(Kind::Config, "\u{1b}]0;x\u{7}"),
            Error::new(Kind::Corrupt, "no JSON")
                .in_namespace("a\u{1b}")
                .about("b\u{85}\u{202e}"),
        ] {
            let said = error.to_string();
            assert!(
                !said.contains(|c: char| c.is_control() || c == '\u{202e}'),
                "{said:?}"
            );
        }
    }

    #[test]
    fn an_error_of_ours_comes_back_from_the_redis_crate_as_it_went() {
        let sent = Error::new(Kind::Auth, "who are you");
        let back = Error::from_redis(&RedisError::from(sent).clone());
        assert_eq!(
            (back.kind(), &*back.to_string()),
            (Kind::Auth, "who are you")
        );
    }
}
