//! Lines for the log, kept until someone who can write one comes by.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::mutex::Mutex;

/// What a line is about: one for each change of state, and none for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first answer came over a set of connections.
    Connected,
    /// Calls fail at once from now on.
    BreakerOpen,
    /// Calls pass again.
    BreakerClosed,
    /// Another server is the master now.
    Failover,
    /// A namespace goes on without its server.
    OutageBegan,
    /// It has it again.
    OutageEnded,
    /// A failure of another kind was taken for a miss.
    Forgiven,
    /// The server evicts or forgets what it holds.
    ServerAtRisk,
    /// Another working directory filled the keyspace.
    Origin,
    /// The server does not track what changes.
    NearCacheOff,
    /// Others keep a registry that this process does not keep.
    RegistryUnknown,
    /// The server does not take the registry of what is there.
    RegistryRefused,
    /// The host's files do not follow.
    DualWrite,
    /// This user is refused a command, without which something takes longer.
    PermissionMissing,
    /// Changes are not recorded.
    Changes,
    /// Keys of another program lie in a namespace.
    ForeignKeys,
}

impl Event {
    /// Its name in the log's `extra`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::BreakerOpen => "breaker_open",
            Self::BreakerClosed => "breaker_closed",
            Self::Failover => "failover",
            Self::OutageBegan => "outage_began",
            Self::OutageEnded => "outage_ended",
            Self::Forgiven => "forgiven",
            Self::ServerAtRisk => "server_at_risk",
            Self::Origin => "origin",
            Self::NearCacheOff => "near_cache_off",
            Self::RegistryUnknown => "registry_unknown",
            Self::RegistryRefused => "registry_refused",
            Self::DualWrite => "dual_write",
            Self::PermissionMissing => "permission_missing",
            Self::Changes => "changes",
            Self::ForeignKeys => "foreign_keys",
        }
    }

    /// Whether somebody should look.
    #[must_use]
    pub fn is_warning(self) -> bool {
        !matches!(self, Self::Connected | Self::BreakerClosed)
    }
}

/// A line.
#[derive(Clone, Debug)]
pub struct Notice {
    /// What it is about.
    pub event: Event,
    /// The sentence.
    pub line: String,
}

/// What was found and nobody has reported yet.
#[derive(Default)]
pub(crate) struct Notices {
    any: AtomicBool,
    kept: Mutex<Vec<Notice>>,
}

impl Notices {
    pub(crate) fn push(&self, event: Event, line: impl Into<String>) {
        let line = line.into();
        self.kept.lock().push(Notice { event, line });
        self.any.store(true, Relaxed);
    }

    /// Those since the last call.
    pub(crate) fn take(&self) -> Vec<Notice> {
        // Loaded first: the line stays shared between cores while there is nothing to tell.
        if !self.any.load(Relaxed) || !self.any.swap(false, Relaxed) {
            return Vec::new();
        }
        std::mem::take(&mut *self.kept.lock())
    }
}
