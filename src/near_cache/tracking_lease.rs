//! What is known of the tracking connections: whether they live, and which prefixes they cover.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::mutex::Mutex;

/// What every key of a namespace starts with, and whether the server tells what changes there.
pub(crate) struct Prefix {
    text: Vec<u8>,
    tracked: AtomicBool,
}

impl Prefix {
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }
}

/// The tracking connections, one to each server that has values, as the copies see them.
pub(crate) struct Tracking {
    born: Instant,
    /// Nanoseconds after `born` at which what was heard last is too old to be relied on.
    lease: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// Connections made so far: news of an old one do not concern the present ones.
    last: u64,
    sessions: Vec<Session>,
    /// The numbers of the servers, each of which has to be heard; none while that is not known.
    servers: Vec<u32>,
    /// What was known when they were told.
    generation: u32,
    prefixes: Vec<Arc<Prefix>>,
}

/// A connection that lives.
struct Session {
    number: u64,
    server: u32,
    /// As `Tracking::lease`.
    until: u64,
    tracked: Vec<Arc<Prefix>>,
}

impl Session {
    fn tracks(&self, prefix: &Arc<Prefix>) -> bool {
        self.tracked.iter().any(|known| Arc::ptr_eq(known, prefix))
    }
}

impl State {
    fn session(&mut self, number: u64) -> Option<&mut Session> {
        self.sessions
            .iter_mut()
            .find(|session| session.number == number)
    }
}

/// The number of the server where there is only one.
pub(crate) const ONE_SERVER: u32 = 0;

impl Tracking {
    pub(super) fn new() -> Self {
        Self {
            born: Instant::now(),
            lease: AtomicU64::new(0),
            state: Mutex::new(State {
                last: 0,
                sessions: Vec::new(),
                servers: vec![ONE_SERVER],
                generation: 0,
                prefixes: Vec::new(),
            }),
        }
    }

    /// The prefix of a namespace, one for all its stores.
    pub(super) fn prefix(&self, text: &[u8]) -> Arc<Prefix> {
        let mut state = self.state.lock();
        if let Some(known) = state.prefixes.iter().find(|known| known.text == text) {
            return Arc::clone(known);
        }
        let prefix = Arc::new(Prefix {
            text: text.to_owned(),
            tracked: AtomicBool::new(false),
        });
        state.prefixes.push(Arc::clone(&prefix));
        prefix
    }

    /// What the keys of some namespace start with, if any store keeps copies.
    pub(crate) fn any_prefix(&self) -> Option<Arc<Prefix>> {
        self.state.lock().prefixes.first().cloned()
    }

    /// Whether any store keeps copies under this prefix.
    pub(crate) fn covers(&self, text: &[u8]) -> bool {
        self.state
            .lock()
            .prefixes
            .iter()
            .any(|known| known.text == text)
    }

    /// Whether copies under this prefix are kept right at `now`.
    pub(super) fn vouches(&self, prefix: &Prefix, now: Instant) -> bool {
        prefix.tracked.load(Relaxed) && self.nanoseconds(now) < self.lease.load(Relaxed)
    }

    /// A connection to this server is being made: its number.
    pub(crate) fn begin(&self, server: u32) -> u64 {
        let mut state = self.state.lock();
        state.last += 1;
        let number = state.last;
        state.sessions.push(Session {
            number,
            server,
            until: 0,
            tracked: Vec::new(),
        });
        number
    }

    /// The prefixes that the server was not asked to track yet for the connection of this number.
    pub(crate) fn untracked(&self, session: u64) -> Vec<Arc<Prefix>> {
        let mut state = self.state.lock();
        let mut prefixes = state.prefixes.clone();
        if let Some(session) = state.session(session) {
            prefixes.retain(|prefix| !session.tracks(prefix));
        }
        prefixes
    }

    /// The server tracks these prefixes for the connection of this number.
    pub(crate) fn tracks(&self, session: u64, prefixes: &[Arc<Prefix>]) {
        let mut state = self.state.lock();
        if let Some(session) = state.session(session) {
            session.tracked.extend_from_slice(prefixes);
        }
        self.settle(&state);
    }

    /// The connection of this number was heard of: what it says is relied on until `until`.
    pub(crate) fn renew(&self, session: u64, until: Instant) {
        let until = self.nanoseconds(until);
        let mut state = self.state.lock();
        if let Some(session) = state.session(session) {
            session.until = until;
        }
        self.settle(&state);
    }

    /// The connection of this number is lost. True if it was one of the present ones.
    pub(super) fn end(&self, session: u64) -> bool {
        let mut state = self.state.lock();
        let before = state.sessions.len();
        state.sessions.retain(|known| known.number != session);
        self.settle(&state);
        state.sessions.len() < before
    }

    /// There is a server more than `expect` was last told of: it is not heard yet.
    pub(super) fn suspend(&self, generation: u32) {
        let mut state = self.state.lock();
        state.generation = generation;
        state.servers.clear();
        self.settle(&state);
    }

    /// Each of these servers has to be heard, as of this generation.
    pub(super) fn expect(&self, generation: u32, servers: Vec<u32>) {
        let mut state = self.state.lock();
        if generation >= state.generation {
            state.generation = generation;
            state.servers = servers;
            self.settle(&state);
        }
    }

    /// What is relied on, by the connection that was heard least lately.
    fn settle(&self, state: &State) {
        let heard = |server: &u32| state.sessions.iter().find(|known| known.server == *server);
        let heard = state.servers.iter().map(heard).collect::<Option<Vec<_>>>();
        let heard = heard.unwrap_or_default();
        let lease = heard.iter().map(|session| session.until).min();
        self.lease.store(lease.unwrap_or(0), Relaxed);
        for prefix in &state.prefixes {
            let tracked = !heard.is_empty() && heard.iter().all(|session| session.tracks(prefix));
            prefix.tracked.store(tracked, Relaxed);
        }
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        // 2^64 nanoseconds are 584 years.
        u64::try_from(at.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }
}
