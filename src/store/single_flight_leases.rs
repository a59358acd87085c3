//! Single flight over the server: who takes the lease of an id, how it is kept, how its end is seen.
//!
//! A lease is a key beside the namespaces that holds a token and expires by itself, should its
//! process die. It only saves calls: two holders at once, after a process stood still for longer than
//! a lease lasts, cost a call and are never wrong. So plain commands are enough, one key each.
//!
//! One future flies an id for all callers of the process, on the runtime's threads: an event loop
//! that is busy must not let a lease run out.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::KvStore;
use crate::client::{Commands, Reply, Request, command};
use crate::config::{SingleFlight, StoreConfig};
use crate::error::Result;
use crate::local_single_flight::{Flights, Flown, Joined, Landing, Route, Seen};
use crate::metrics::Count;

/// How long the server keeps a lease that is not renewed: until then others wait for a process that
/// died.
const LEASE: Duration = Duration::from_secs(10);
const LEASE_MILLISECONDS: &[u8] = b"10000";
/// A third of it, so that two renewals may fail.
const RENEWAL: Duration = Duration::from_millis(3_300);
/// How long before its end a lease is taken for lost: longer than a request that is answered takes.
const MARGIN: Duration = Duration::from_secs(1);
/// How long a holder is believed to be calling: longer than a call of an LLM takes.
const LONGEST_CALL: Duration = Duration::from_secs(180);
/// Pauses between two questions for the value that another makes, by how long it has taken so far.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The single flight of one store.
pub(super) struct SingleFlights {
    flights: Arc<Flights>,
    /// None: it only observes.
    wait: Option<Duration>,
}

impl SingleFlights {
    /// None where it is off.
    pub(super) fn new(config: &StoreConfig, flights: Arc<Flights>) -> Option<Self> {
        let wait = match config.single_flight {
            SingleFlight::Off => return None,
            SingleFlight::Observe => None,
            SingleFlight::On(wait) => Some(wait),
        };
        Some(Self { flights, wait })
    }
}

/// What the server says of an id that was missed.
struct Look {
    /// Whether the lease is this flight's.
    ours: bool,
    value: Option<Bytes>,
}

/// What became of a lease that was held.
enum Held {
    /// It was given up.
    Released,
    /// It is another's by now, or nobody's.
    Lost,
    /// The server is away.
    Unknown,
}

impl KvStore {
    /// Whether misses of single ids wait for each other, or are counted as if they did.
    pub fn has_single_flight(&self) -> bool {
        self.single_flight.is_some()
    }

    /// A task is about to ask for an id: any lease of another that it held is over.
    pub fn asks(&self, task: u64, id: &str) {
        if let Some(single) = &self.single_flight
            && !single.flights.is_empty()
        {
            single.flights.asks(task, &self.route(id));
        }
    }

    /// A task will not make the value whose lease it holds: others need not wait for its end.
    pub fn gives_up(&self, task: u64) {
        if let Some(single) = &self.single_flight {
            single.flights.left(task);
        }
    }

    /// A task asked for an id, and the server said that there is none. Waits for whoever makes the
    /// value, and fails in no way.
    pub async fn join_flight(self: &Arc<Self>, id: &str, task: u64) -> Landing {
        let Some(single) = &self.single_flight else {
            return Landing::Alone;
        };
        let route = self.route(id);
        // Who holds a lease waits for nobody, or two could wait for each other.
        single.flights.asks(task, &route);
        let (landing, first, led) = match single.flights.join(&route, task, single.wait.is_some()) {
            Joined::Holder => return Landing::Alone,
            Joined::Led => {
                self.counters.count(Count::WouldWait, 1);
                return Landing::Alone;
            }
            Joined::Waiter {
                landing,
                first,
                led,
            } => (landing, first, led),
        };
        if let Some(flight) = first {
            let (store, id) = (Arc::clone(self), id.to_owned());
            tokio::spawn(async move { store.fly(flight, &id).await });
        }
        self.counters.count(Count::Waits, led.into());
        // One that only observes lands after a single question, whose time is limited elsewhere.
        let wait = single.wait.unwrap_or(self.config.server.operation_timeout);
        match timeout(wait, landing).await {
            Ok(Ok(landing)) => {
                self.count_landing(&landing);
                landing
            }
            Ok(Err(_)) => Landing::Alone,
            Err(_) => {
                self.counters.count(Count::TimedOut, 1);
                Landing::Alone
            }
        }
    }

    /// Counted by who landed: a process that ends with its answer has counted it.
    fn count_landing(&self, landing: &Landing) {
        match landing {
            Landing::Value(_) => self.counters.count(Count::Saved, 1),
            Landing::Alone => self.counters.count(Count::WouldWait, 1),
            Landing::Lead(lease) => {
                self.counters.count(Count::Leases, 1);
                self.counters.count(Count::Promoted, lease.promoted.into());
            }
        }
    }

    /// These ids were written: nobody needs to make their values.
    pub(super) fn note_written(&self, ids: &[String], outcomes: &[Result<()>]) {
        let Some(single) = &self.single_flight else {
            return;
        };
        if single.flights.is_empty() {
            return;
        }
        for (id, outcome) in ids.iter().zip(outcomes) {
            if outcome.is_ok() {
                single.flights.written(&self.route(id));
            }
        }
    }

    fn route(&self, id: &str) -> Route {
        Route {
            servers: Arc::as_ptr(&self.connections).addr(),
            lease: self.config.keyspace.lease_key(id).into(),
        }
    }

    /// Flies until nobody of this process waits or holds the lease.
    async fn fly(self: Arc<Self>, flight: Flown, id: &str) {
        let token = token();
        let began = Instant::now();
        let mut heard = began;
        loop {
            flight.begin();
            let asked = Instant::now();
            let deadline = heard + self.patience();
            let taking = self.take_lease(&flight, id, &token);
            let look = match timeout_at(deadline, taking).await {
                Ok(Ok(look)) => look,
                Ok(Err(error)) => {
                    let _ = self.forgive(error); // its callers go on, whatever the policy
                    return;
                }
                Err(_) => return,
            };
            heard = Instant::now();
            if let Some(value) = look.value {
                // Written between the miss and the lease.
                self.land(&flight, &value);
                self.release(&flight, look.ours.then_some(asked + LEASE))
                    .await;
            } else if look.ours {
                match self.hold(&flight, id, &token, asked + LEASE).await {
                    Held::Released | Held::Lost => heard = Instant::now(),
                    Held::Unknown => return,
                }
            } else if self.waits() {
                let now_waiting = flight.led();
                self.counters.count(Count::Waits, now_waiting as u64);
                if !flight.finish() {
                    sleep(pause(began.elapsed())).await;
                }
            } else {
                Self::send_away(&flight);
            }
            if flight.finish() {
                return;
            }
        }
    }

    /// Keeps the lease while tasks of this process make the value, one after the other.
    async fn hold(&self, flight: &Flown, id: &str, token: &[u8], mut until: Instant) -> Held {
        let mut renewal = until - LEASE + self.renewal();
        loop {
            let holder_until = match flight.seen() {
                Seen::Written => {
                    if flight.waiters() > 0 {
                        match self.fetch(&[id.to_owned()]).await {
                            Ok(mut found) => {
                                if let Some(Ok(Some(value))) = found.pop() {
                                    self.land(flight, &value);
                                }
                            }
                            Err(_) => return Held::Unknown,
                        }
                    }
                    self.release(flight, Some(until)).await;
                    return Held::Released;
                }
                Seen::Held(since) => since + LONGEST_CALL,
                Seen::Free => {
                    let Some(now_waiting) = flight.lead() else {
                        self.release(flight, Some(until)).await;
                        return Held::Released;
                    };
                    if self.waits() {
                        self.counters.count(Count::Waits, now_waiting as u64);
                    } else {
                        Self::send_away(flight);
                    }
                    continue;
                }
            };
            let next = renewal.min(holder_until);
            if timeout_at(next, flight.changed()).await.is_ok() {
                continue;
            }
            let asked = Instant::now();
            if asked >= holder_until {
                flight.dismiss();
                continue;
            }
            // Where this process stood still, another may have it by now.
            let ours = if asked + MARGIN < until {
                let deadline = until.min(until - LEASE + self.patience());
                match timeout_at(deadline, self.renew_lease(flight, id, token)).await {
                    Ok(Ok(look)) => {
                        if let Some(value) = look.value {
                            // Written by someone who did not wait, or no longer.
                            self.land(flight, &value);
                        }
                        look.ours
                    }
                    Ok(Err(_)) | Err(_) => return Held::Unknown,
                }
            } else {
                false
            };
            if !ours {
                flight.dismiss();
                return Held::Lost;
            }
            until = asked + LEASE;
            renewal = asked + self.renewal();
        }
    }

    /// How long after its last answer a server that gives none is waited for: those who wait for a value
    /// are to miss within the time that any call may take.
    fn patience(&self) -> Duration {
        self.config.server.operation_timeout.mul_f64(0.95)
    }

    /// The time to the next renewal: short enough for one that fails to end in time for those who wait.
    fn renewal(&self) -> Duration {
        let third = self.config.server.operation_timeout / 3;
        third.clamp(SHORTEST_PAUSE, RENEWAL).mul_f64(jitter())
    }

    fn waits(&self) -> bool {
        let single = self.single_flight.as_ref();
        single.is_some_and(|single| single.wait.is_some())
    }

    /// Sends all who wait away: it only observes.
    fn send_away(flight: &Flown) {
        flight.led();
        flight.land(|| Landing::Alone);
    }

    fn land(&self, flight: &Flown, value: &Bytes) {
        if self.waits() {
            flight.land(|| Landing::Value(value.clone()));
        } else {
            Self::send_away(flight);
        }
    }

    /// Takes the lease unless somebody has it, and then looks for the value: who had it may have
    /// written that since it was missed.
    async fn take_lease(&self, flight: &Flown, id: &str, token: &[u8]) -> Result<Look> {
        let taking: &[&[u8]] = &[token, b"NX", b"PX", LEASE_MILLISECONDS];
        self.look_at_lease(flight, taking, Some(id), token).await
    }

    /// Has the lease last for longer, and looks for the value if anybody wants it.
    async fn renew_lease(&self, flight: &Flown, id: &str, token: &[u8]) -> Result<Look> {
        let renewing: &[&[u8]] = &[token, b"XX", b"PX", LEASE_MILLISECONDS];
        let id = (flight.waiters() > 0).then_some(id);
        self.look_at_lease(flight, renewing, id, token).await
    }

    async fn look_at_lease(
        &self,
        flight: &Flown,
        setting: &[&[u8]],
        id: Option<&str>,
        token: &[u8],
    ) -> Result<Look> {
        let lease = (&*flight.route.lease, "");
        let mut commands = Commands::default();
        commands.add("SET", lease, setting);
        // Whose it is now, for when the answer to SET was lost and it was sent again.
        commands.add("GET", lease, &[]);
        let values = self.commands("GET", id.into_iter());
        let request = Commands::in_order([commands, values]);
        let mut replies = self.send(&request).await?.into_iter();
        let mut next = || replies.next().unwrap_or_default();
        self.reply(next())?;
        let ours = match next().checked()? {
            Reply::Text(holder) => holder == token,
            Reply::Other(_) | Reply::Lost(_) => false,
        };
        let value = match id {
            Some(id) => self.found(id, next())?,
            None => None,
        };
        Ok(Look { ours, value })
    }

    /// Gives up the lease that surely lasts until then; one that may be another's runs out by itself.
    async fn release(&self, flight: &Flown, until: Option<Instant>) {
        if until.is_some_and(|until| Instant::now() + MARGIN < until) {
            // Sent once: sent again, it could find another's.
            let delete_batch = command("UNLINK", [flight.route.lease.as_bytes()]);
            let _ = self.send(&Request::once(&delete_batch)).await; // or it runs out
        }
    }
}

/// How long to wait before the next question: an eighth of the time that it has taken.
fn pause(waited: Duration) -> Duration {
    let pause = (waited / 8).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    pause.mul_f64(jitter()).max(SHORTEST_PAUSE)
}

/// A factor between 0.7 and 1.
fn jitter() -> f64 {
    let random = u32::try_from(random() >> 32).unwrap_or(0);
    0.7 + 0.3 * f64::from(random) / f64::from(u32::MAX)
}

/// What no other flight of any process has.
fn token() -> Vec<u8> {
    let process = std::process::id();
    format!("{process}-{:016x}{:016x}", random(), random()).into_bytes()
}

fn random() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_the_time_that_it_has_taken_and_differ() {
        for (waited, most) in [(0, 100), (1_600, 200), (60_000, 500)] {
            let most = Duration::from_millis(most);
            let pause = pause(Duration::from_millis(waited));
            let least = most.mul_f64(0.69).max(SHORTEST_PAUSE);
            assert!((least..=most).contains(&pause), "{pause:?} of {most:?}");
        }
        let jitters: Vec<f64> = (0..64).map(|_| jitter()).collect();
        assert!(jitters.iter().all(|jitter| (0.7..=1.0).contains(jitter)));
        assert!(jitters.iter().any(|jitter| *jitter < 0.8));
        assert!(jitters.iter().any(|jitter| *jitter > 0.9));
    }

    #[test]
    fn no_two_flights_have_one_token() {
        let (one, other) = (token(), token());
        assert_ne!(one, other);
        assert!(one.starts_with(std::process::id().to_string().as_bytes()));
    }
}
