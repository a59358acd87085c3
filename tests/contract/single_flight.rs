//! Who misses what another is making waits for it.

use std::sync::Arc;
use std::time::Duration;

use nano_graphrag_redis::config::SingleFlight;
use nano_graphrag_redis::local_single_flight::Landing;
use nano_graphrag_redis::metrics::Count;
use nano_graphrag_redis::store::KvStore;
use tokio::task::JoinHandle;

use super::support::{
    PATIENCE, Server, binaries, calls, config, get, ids, on_a_still_clock, open, pass, put,
    runtime, wait_for, wait_still,
};

#[test]
fn a_lease_is_renewed_as_long_as_the_value_is_being_made() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.single_flight = SingleFlight::On(PATIENCE);
    settings.server.operation_timeout = Duration::from_millis(300);
    let store = open(settings);
    on_a_still_clock(async || {
        lead(&store, "a", 1).await;
        for renewals in 1..9 {
            // At least two thirds of a third of the time that a call may take lie between two.
            pass(Duration::from_millis(69)).await;
            get(&store, "none").await;
            assert_eq!(calls(&server, "set"), renewals);
            server.say(&format!("PEXPIRE {LEASE} 5000"));
            pass(Duration::from_millis(32)).await;
            wait_still("it is renewed", || {
                let said = server.say(&format!("PTTL {LEASE}"));
                said[1..].trim().parse::<i64>().unwrap() > 5_000
            })
            .await;
        }
    });
}

#[test]
fn one_of_those_who_miss_the_same_makes_it_and_the_others_get_it() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.single_flight = SingleFlight::On(PATIENCE);
    let stores = [open(settings.clone()), open(settings.clone())];
    settings.single_flight = SingleFlight::Observe;
    let observer = open(settings);
    runtime().block_on(async {
        let Landing::Lead(lease) = stores[0].join_flight("a", 1).await else {
            panic!("the first one leads");
        };
        assert!(stores[0].has_single_flight());
        let waiting = [(0, 2), (1, 3)].map(|(at, task)| {
            let store = Arc::clone(&stores[at]);
            tokio::spawn(async move { store.join_flight("a", task).await })
        });
        wait_for("both wait", async || {
            let waits = stores.each_ref().map(|s| s.counters().get(Count::Waits));
            waits == [1, 1]
        })
        .await;
        assert!(matches!(observer.join_flight("a", 9).await, Landing::Alone));
        put(&stores[0], &[("a", "1")]).await;
        for waiting in waiting {
            let landing = tokio::time::timeout(PATIENCE, waiting).await;
            let Landing::Value(value) = landing.unwrap().unwrap() else {
                panic!("the value was made");
            };
            assert_eq!(value, &b"1"[..]);
        }
        drop(lease);
        // Who has landed may end at once: all is counted by then.
        let of = |store: &KvStore, what| store.counters().get(what);
        let counted = [&stores[0], &stores[1]]
            .map(|store| (of(store, Count::Leases), of(store, Count::Saved)));
        assert_eq!(counted, [(1, 1), (0, 1)]);
        assert_eq!(of(&observer, Count::WouldWait), 1);
        wait_for("the lease is given back", async || {
            server.say("KEYS *lease*") == "*0\r\n"
        })
        .await;
        let said = server.say("INFO commandstats");
        assert!(said.contains("cmdstat_unlink"), "it ran out: {said}");
        // Who gives up lets the next one lead.
        let Landing::Lead(lease) = stores[0].join_flight("b", 4).await else {
            panic!("the first one leads");
        };
        let next = tokio::spawn({
            let store = Arc::clone(&stores[1]);
            async move { store.join_flight("b", 5).await }
        });
        wait_for("it waits", async || {
            stores[1].counters().get(Count::Waits) == 2
        })
        .await;
        drop(lease);
        let next = tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap();
        assert!(matches!(next, Landing::Lead(_)));
    });
}

/// Two settings over one server: with single flight, and without.
fn flying(server: &Server) -> (Arc<KvStore>, Arc<KvStore>) {
    let mut settings = config(server.config());
    let plain = open(settings.clone());
    settings.single_flight = SingleFlight::On(PATIENCE);
    (open(settings), plain)
}

/// A task of this number misses the id, and holds the lease of it.
async fn lead(store: &Arc<KvStore>, id: &str, task: u64) {
    let Landing::Lead(lease) = store.join_flight(id, task).await else {
        panic!("it leads");
    };
    let _ = lease.keep(task);
}

/// A task of this number misses the id, and waits for another that makes the value.
async fn wait(store: &Arc<KvStore>, id: &'static str, task: u64) -> JoinHandle<Landing> {
    let (waits, store) = (store.counters().get(Count::Waits), Arc::clone(store));
    let counters = store.counters().clone();
    let waiting = tokio::spawn(async move { store.join_flight(id, task).await });
    wait_still("it waits", || counters.get(Count::Waits) > waits).await;
    waiting
}

async fn value(waiting: JoinHandle<Landing>) -> String {
    wait_still("it lands", || waiting.is_finished()).await;
    let Landing::Value(value) = waiting.await.unwrap() else {
        panic!("there is a value");
    };
    String::from_utf8(value.to_vec()).unwrap()
}

const LEASE: &str = "nano_graphrag:@lease:{nano_graphrag:docs:a}";

#[test]
fn a_value_lands_when_it_is_written_and_is_asked_for_only_where_somebody_waits() {
    let server = Server::start(&binaries()[0]);
    let (store, plain) = flying(&server);
    on_a_still_clock(async || {
        for (waits, asked) in [(true, 3), (false, 2)] {
            let (sets, gets) = (calls(&server, "set"), calls(&server, "get"));
            lead(&store, "a", 1).await;
            let waiting = if waits {
                Some(wait(&store, "a", 2).await)
            } else {
                None
            };
            for _ in 0..5 {
                plain.ping().await.unwrap();
            }
            put(&store, &[("a", "1")]).await;
            if let Some(waiting) = waiting {
                assert_eq!(value(waiting).await, "1");
            }
            let given_back = || server.say(&format!("EXISTS {LEASE}")) == ":0\r\n";
            wait_still("it is given back", given_back).await;
            // The lease was taken, and the value set.
            assert_eq!(calls(&server, "set") - sets, 2);
            assert_eq!(calls(&server, "get") - gets, asked);
            assert_eq!(plain.delete(ids(&["a"])).await.unwrap(), 1);
        }
    });
}

#[test]
fn a_value_that_another_process_writes_lands_when_the_lease_is_renewed() {
    let server = Server::start(&binaries()[0]);
    let (store, plain) = flying(&server);
    on_a_still_clock(async || {
        lead(&store, "a", 1).await;
        let renewed = async |gets: u64| {
            let (sets, before) = (calls(&server, "set"), calls(&server, "get"));
            pass(Duration::from_secs(4)).await;
            wait_still("it is renewed", || calls(&server, "set") > sets).await;
            get(&plain, "none").await;
            assert_eq!(calls(&server, "get") - before, gets + 1);
        };
        renewed(1).await; // nobody wants the value
        let waiting = wait(&store, "a", 2).await;
        renewed(2).await;
        assert!(!waiting.is_finished());
        put(&plain, &[("a", "1")]).await;
        renewed(2).await;
        assert_eq!(value(waiting).await, "1");
    });
}

#[test]
fn a_value_that_was_written_between_the_miss_and_the_lease_lands_and_ends_it() {
    let server = Server::start(&binaries()[0]);
    let (store, plain) = flying(&server);
    on_a_still_clock(async || {
        put(&plain, &[("a", "1")]).await;
        let Landing::Value(value) = store.join_flight("a", 1).await else {
            panic!("there is a value");
        };
        assert_eq!(value, &b"1"[..]);
        let given_back = || calls(&server, "unlink") == 1;
        wait_still("it is given back", given_back).await;
    });
}

#[test]
fn whoever_waits_for_another_process_asks_now_and_then() {
    let server = Server::start(&binaries()[0]);
    let (store, plain) = flying(&server);
    on_a_still_clock(async || {
        server.say(&format!("SET {LEASE} another"));
        let waiting = wait(&store, "a", 1).await;
        for asked in 2..5 {
            for _ in 0..5 {
                plain.ping().await.unwrap();
            }
            assert_eq!(calls(&server, "set"), asked);
            pass(Duration::from_millis(501)).await;
            wait_still("it asks", || calls(&server, "set") > asked).await;
        }
        put(&plain, &[("a", "1")]).await;
        pass(Duration::from_millis(501)).await;
        assert_eq!(value(waiting).await, "1");
    });
}

#[test]
fn a_process_that_stood_still_for_nearly_as_long_as_a_lease_lasts_has_lost_it() {
    let server = Server::start(&binaries()[0]);
    let (store, plain) = flying(&server);
    on_a_still_clock(async || {
        lead(&store, "a", 1).await;
        let next = wait(&store, "a", 2).await;
        pass(Duration::from_secs(9)).await;
        wait_still("the next one leads", || next.is_finished()).await;
        let Landing::Lead(lease) = next.await.unwrap() else {
            panic!("it leads");
        };
        // Nor is it given back: by the time that this arrives, it may be another's.
        drop(lease);
        tokio::time::advance(Duration::from_secs(9)).await;
        for _ in 0..5 {
            get(&store, "none").await;
            get(&plain, "none").await;
        }
        assert_eq!(server.say(&format!("EXISTS {LEASE}")), ":1\r\n");
    });
}

#[test]
fn a_server_that_does_not_answer_a_renewal_is_waited_for_as_long_as_a_call_may_take() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.single_flight = SingleFlight::On(PATIENCE);
    settings.server.operation_timeout = Duration::from_millis(300);
    let store = open(settings);
    on_a_still_clock(async || {
        lead(&store, "a", 1).await;
        let waiting = wait(&store, "a", 2).await;
        assert_eq!(server.say("CLIENT PAUSE 60000"), "+OK\r\n");
        pass(Duration::from_millis(101)).await; // it is renewed
        pass(Duration::from_millis(186)).await;
        wait_still("it goes on alone", || waiting.is_finished()).await;
        assert!(matches!(waiting.await.unwrap(), Landing::Alone));
    });
}

#[test]
fn a_task_that_asks_for_another_id_has_given_up_the_first() {
    let server = Server::start(&binaries()[0]);
    let (store, plain) = flying(&server);
    assert!(store.has_single_flight() && !plain.has_single_flight());
    on_a_still_clock(async || {
        lead(&store, "a", 1).await;
        let next = wait(&store, "a", 2).await;
        store.asks(1, "a"); // it tries again
        plain.asks(1, "b");
        for _ in 0..5 {
            get(&store, "none").await;
        }
        assert!(!next.is_finished());
        store.asks(1, "b");
        wait_still("the next one leads", || next.is_finished()).await;
        assert!(matches!(next.await.unwrap(), Landing::Lead(_)));
    });
}
