//! A whole set that is replaced by another, by one after another.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nano_graphrag_redis::client::SharedConnections;
use nano_graphrag_redis::config::StoreConfig;
use nano_graphrag_redis::config::endpoint::Endpoint;
use nano_graphrag_redis::error::Kind;
use nano_graphrag_redis::files::Paths;
use nano_graphrag_redis::metrics::Count;
use nano_graphrag_redis::store::KvStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::{
    PATIENCE, Server, batch, binaries, calls, config, get, ids, listed, on_a_still_clock, open,
    pass, put, runtime, wait_still,
};

#[test]
fn a_set_is_replaced_at_once_by_one_after_another() {
    let server = Server::start(&binaries()[0]);
    for registry in [false, true] {
        let mut config = config(server.config());
        config.registry = registry;
        config.deferred_drop = true;
        let store = open(config);
        runtime().block_on(async {
            put(&store, &[("old", "1"), ("both", "2")]).await;
            let written = || HashSet::from_iter(ids(&["both", "new"]));
            let swap = store.begin_swap(written(), Some(20)).await.unwrap();
            assert!(swap.is_whole());
            swap.check().unwrap();
            let lease = "EXISTS nano_graphrag:@swap:docs:lease";
            let other = tokio::spawn({
                let (store, written) = (Arc::clone(&store), written());
                async move { store.begin_swap(written, None).await }
            });
            let parts = vec![
                batch(&store, &[("both", "3")]),
                batch(&store, &[("new", "4")]),
            ];
            assert_eq!(get(&store, "old").await.unwrap(), "1");
            let (replaced, outcomes) = swap.replace(parts).await;
            assert_eq!(replaced, ids(&["both", "new"]));
            assert!(outcomes.unwrap().iter().all(Result::is_ok));
            assert_eq!(listed(&store).await, ids(&["both", "new"]));
            assert_eq!(get(&store, "both").await.unwrap(), "3");
            assert_eq!(store.counters().get(Count::Swaps), 1);
            // Whoever waited has its turn now, and writes value by value under a mark.
            let swap = other.await.unwrap().unwrap();
            assert!(!swap.is_whole());
            assert_eq!(server.say(lease), ":1\r\n");
            put(&store, &[("both", "5")]).await;
            swap.end().await.unwrap();
            assert_eq!(server.say(lease), ":0\r\n");
            assert_eq!(store.counters().get(Count::Swaps), 2);
            assert_eq!(listed(&store).await, ids(&["both", "new"]));
            // Somebody else has taken over meanwhile: nothing is written.
            let swap = store.begin_swap(written(), Some(20)).await.unwrap();
            server.say("SET nano_graphrag:@swap:docs:turn another");
            let (_, outcomes) = swap.replace(vec![batch(&store, &[("both", "6")])]).await;
            let error = outcomes.unwrap_err();
            assert_eq!(error.kind(), Kind::Timeout);
            assert!(error.to_string().contains("nothing was written"), "{error}");
            assert!(!error.may_be_done());
            assert_eq!(get(&store, "both").await.unwrap(), "5");
            store.drop_all().await.unwrap();
        });
    }
}

#[test]
fn a_replacement_whose_server_is_gone_is_an_outage_once_its_attempts_are_used_up() {
    let server = Server::start(&binaries()[0]);
    let store = open(config(server.config()));
    runtime().block_on(async {
        put(&store, &[("old", "1")]).await;
        let swap = store.begin_swap(HashSet::from_iter(ids(&["new"])), Some(20));
        let swap = swap.await.unwrap();
        assert!(swap.is_whole());
        drop(server);
        let replaced = swap.replace(vec![batch(&store, &[("new", "2")])]);
        let (_, outcomes) = tokio::time::timeout(PATIENCE, replaced).await.unwrap();
        assert!(outcomes.unwrap_err().is_outage());
    });
}

#[test]
fn a_replacement_ends_at_once_where_calls_have_found_no_server() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.server.breaker_failures = 1;
    settings.server.breaker_recovery = PATIENCE;
    settings.server.max_retries = 1;
    let store = open(settings);
    runtime().block_on(async {
        let swap = store.begin_swap(HashSet::from_iter(ids(&["new"])), Some(20));
        let swap = swap.await.unwrap();
        drop(server);
        assert!(store.get("a").await.unwrap_err().is_outage());
        let (_, outcomes) = swap.replace(vec![batch(&store, &[("new", "2")])]).await;
        assert_eq!(outcomes.unwrap_err().kind(), Kind::CircuitOpen);
    });
}

#[test]
fn without_transactions_values_are_replaced_one_by_one_and_the_user_is_told() {
    for words in [&[][..], &["--rename-command", "MULTI", ""]] {
        let server = Server::start_with(&binaries()[0], words);
        let mut settings = config(server.config());
        if words.is_empty() {
            server.say("ACL SETUSER writer on nopass ~* +@all -multi -exec");
            settings.server.credentials.username = Some("writer".to_owned());
            settings.server.credentials.password = Some("any".to_owned());
        }
        settings.deferred_drop = true;
        let store = open(settings);
        runtime().block_on(async {
            let swap = store.begin_swap(HashSet::new(), Some(20)).await.unwrap();
            assert!(!swap.is_whole());
            swap.end().await.unwrap();
            let told = store.notices();
            let told = told.iter().filter(|said| said.line.contains("MULTI"));
            assert_eq!(told.count(), 1);
            let forbidden = store.forbidden().await.unwrap();
            assert!(forbidden.contains(&"multi") && !forbidden.contains(&"watch"));
        });
    }
}

#[test]
fn a_replacement_that_the_server_has_no_memory_for_says_so_and_changes_nothing() {
    let server = Server::start(&binaries()[0]);
    let store = open(config(server.config()));
    runtime().block_on(async {
        put(&store, &[("old", "1")]).await;
        let swap = store.begin_swap(HashSet::from_iter(ids(&["new"])), Some(20));
        let swap = swap.await.unwrap();
        server.say("CONFIG SET maxmemory 1");
        let (_, outcomes) = swap.replace(vec![batch(&store, &[("new", "2")])]).await;
        let error = outcomes.unwrap_err();
        assert!(error.to_string().contains("OOM"), "{error}");
        assert!(!error.is_outage() && !error.may_be_done(), "{error}");
        server.say("CONFIG SET maxmemory 0");
        assert_eq!(listed(&store).await, ids(&["old"]));
    });
}

/// What is lost of a transaction on its way.
#[derive(Clone, Copy)]
enum Lost {
    Request,
    Answer,
    /// The request, and somebody else takes over before it is sent again.
    Turn,
}

/// A port that leads to the server, and over which so much is lost.
async fn losing(server: u16, losses: Vec<Lost>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let losses = Arc::new(Mutex::new(losses));
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            tokio::spawn(carry(client, server, Arc::clone(&losses)));
        }
    });
    port
}

async fn carry(mut client: TcpStream, mut server: TcpStream, losses: Arc<Mutex<Vec<Lost>>>) {
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            asking = client.read(&mut asked) => {
                let Ok(count @ 1..) = asking else { return };
                let asked = &asked[..count];
                let executes = asked.windows(4).any(|word| word == b"EXEC");
                let lost = executes.then(|| losses.lock().unwrap().pop()).flatten();
                match lost {
                    Some(Lost::Request) => return,
                    Some(Lost::Turn) => {
                        let mut other = TcpStream::connect(server.peer_addr().unwrap()).await.unwrap();
                        let taken = b"SET nano_graphrag:@swap:docs:turn another\r\n";
                        other.write_all(taken).await.unwrap();
                        assert_eq!(other.read(&mut answered).await.unwrap(), 5);
                        return;
                    }
                    Some(Lost::Answer) | None => server.write_all(asked).await.unwrap(),
                }
                if lost.is_some() {
                    assert_ne!(server.read(&mut answered).await.unwrap(), 0);
                    return;
                }
            }
            answering = server.read(&mut answered) => {
                let Ok(count @ 1..) = answering else { return };
                if client.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[test]
fn what_became_of_a_replacement_whose_answer_was_lost_is_looked_up() {
    let server = Server::start(&binaries()[0]);
    for (max_retries, losses, done, retries) in [
        (0, &[][..], Some(true), 0),
        (3, &[], Some(true), 0),
        // One look is no retry: it sends nothing again.
        (0, &[Lost::Answer], Some(true), 0),
        (3, &[Lost::Answer], Some(true), 1),
        (0, &[Lost::Request], None, 0),
        (3, &[Lost::Request], Some(true), 1),
        (3, &[Lost::Answer, Lost::Request], Some(true), 2),
        (0, &[Lost::Turn], None, 0),
        (3, &[Lost::Turn], None, 1),
    ] {
        runtime().block_on(async {
            let mut settings = config(server.config());
            settings.server.max_retries = max_retries;
            let port = losing(server.port(), losses.to_vec()).await;
            let url = format!("redis://127.0.0.1:{port}");
            settings.server.endpoint = Endpoint::parse(&url).unwrap();
            let (shared, plain) = (SharedConnections::default(), server.store("docs"));
            plain.drop_all().await.unwrap();
            put(&plain, &[("old", "1")]).await;
            let store = KvStore::new(settings, &shared);
            let swap = store.begin_swap(HashSet::from_iter(ids(&["new"])), Some(20));
            let swap = swap.await.unwrap();
            let (_, outcomes) = swap.replace(vec![batch(&store, &[("new", "2")])]).await;
            let what = format!("{max_retries} {} {outcomes:?}", losses.len());
            match &outcomes {
                Ok(_) => assert_eq!(done, Some(true), "{what}"),
                Err(error) => {
                    assert!(done.is_none() && error.may_be_done(), "{what}");
                    assert!(error.to_string().contains("is unknown"), "{what}");
                }
            }
            let there = if done.is_some() { "new" } else { "old" };
            assert_eq!(listed(&plain).await, ids(&[there]), "{what}");
            assert_eq!(shared.in_use()[0].load().retries, retries, "{what}");
        });
    }
}

/// The settings of a store that replaces its values.
fn replacing(server: &Server) -> StoreConfig {
    let mut config = config(server.config());
    config.deferred_drop = true;
    config
}

const TURN: &str = "nano_graphrag:@swap:docs:lease";

#[test]
fn a_turn_to_replace_is_kept_while_its_holder_works_and_is_over_when_another_has_it() {
    let server = Server::start(&binaries()[0]);
    let store = open(replacing(&server));
    on_a_still_clock(async || {
        put(&store, &[("old", "1")]).await;
        let swap = store.begin_swap(HashSet::new(), None).await.unwrap();
        for _ in 0..5 {
            server.say(&format!("PEXPIRE {TURN} 5000"));
            pass(Duration::from_secs(3)).await;
            wait_still("it is prolonged", || {
                let said = server.say(&format!("PTTL {TURN}"));
                said[1..].trim().parse::<i64>().unwrap() > 5_000
            })
            .await;
            // Whoever prolongs it has had its answer by then, and waits again.
            assert_eq!(get(&store, "old").await.unwrap(), "1");
        }
        swap.check().unwrap();
        server.say(&format!("SET {TURN} 0123456789abcdef"));
        pass(Duration::from_secs(3)).await;
        wait_still("another has it", || swap.check().is_err()).await;
        let error = swap.end().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
        assert!(error.to_string().contains("its lease of 10 s"), "{error}");
        assert_eq!(get(&store, "old").await.unwrap(), "1");
        // Whoever has given up prolongs nothing.
        server.say(&format!("DEL {TURN}"));
        drop(store.begin_swap(HashSet::new(), None).await.unwrap());
        wait_still("nobody is at work", || Arc::strong_count(&store) == 1).await;
    });
}

#[test]
fn a_turn_is_given_back_unless_it_may_be_anothers_before_that_arrives() {
    let server = Server::start(&binaries()[0]);
    let store = open(replacing(&server));
    server.say("ACL SETUSER default -getex"); // it is not prolonged
    on_a_still_clock(async || {
        for (seconds, left) in [(6, ":1\r\n"), (5, ":0\r\n"), (4, ":0\r\n")] {
            put(&store, &[("old", "1")]).await;
            let swap = store.begin_swap(HashSet::new(), None).await.unwrap();
            assert_eq!(server.say("EXISTS nano_graphrag:@swap:docs"), ":1\r\n");
            pass(Duration::from_secs(seconds)).await;
            swap.end().await.unwrap();
            assert_eq!(server.say(&format!("EXISTS {TURN}")), left, "{seconds}");
            assert_eq!(server.say("EXISTS nano_graphrag:@swap:docs"), ":0\r\n");
            assert!(listed(&store).await.is_empty());
            server.say(&format!("DEL {TURN}"));
        }
    });
}

#[test]
fn a_turn_is_not_kept_for_longer_than_replacing_may_take() {
    let server = Server::start(&binaries()[0]);
    let store = open(replacing(&server));
    on_a_still_clock(async || {
        let swap = store.begin_swap(HashSet::new(), None).await.unwrap();
        for prolonged in 1..=60 {
            pass(Duration::from_secs(3)).await;
            wait_still("it is prolonged", || calls(&server, "getex") == prolonged).await;
            assert_eq!(get(&store, "old").await, None); // whose answer comes after the other's
        }
        wait_still("it is over", || Arc::strong_count(&store) == 2).await;
        drop(swap);
        assert_eq!(calls(&server, "getex"), 60);
    });
}

#[test]
fn whoever_finds_another_replacing_gives_up_after_longer_than_a_turn_may_last() {
    let server = Server::start(&binaries()[0]);
    let store = open(replacing(&server));
    on_a_still_clock(async || {
        server.say(&format!("SET {TURN} 0123456789abcdef"));
        let waiting = Arc::clone(&store);
        let waiting = tokio::spawn(async move { waiting.begin_swap(HashSet::new(), None).await });
        let mut passed = Duration::ZERO;
        while !waiting.is_finished() {
            let step = Duration::from_secs(1);
            pass(step).await;
            passed += step;
            assert!(passed < Duration::from_secs(210), "it waits for ever");
            get(&store, "none").await; // it has asked again by now
        }
        assert!(passed > Duration::from_secs(200), "{passed:?}");
        let error = waiting.await.unwrap().map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
        let told = "another process has been replacing the values for 20";
        assert!(error.to_string().contains(told), "{error}");
    });
}

#[test]
fn what_is_replaced_is_deleted_in_three_attempts_and_one_where_that_is_forbidden() {
    let server = Server::start(&binaries()[0]);
    let mut settings = replacing(&server);
    settings.server.max_retries = 0;
    settings.server.breaker_failures = 3;
    settings.server.breaker_recovery = PATIENCE;
    let store = open(settings);
    runtime().block_on(async {
        put(&store, &[("old", "1")]).await;
        server.say("ACL SETUSER default -unlink");
        let swap = store.begin_swap(HashSet::new(), None).await.unwrap();
        assert!(!swap.end().await.unwrap_err().is_outage());
        let said = server.say("INFO commandstats");
        let refused = said.split_once("cmdstat_unlink:").unwrap().1;
        let refused = refused.lines().next().unwrap();
        assert!(refused.contains("rejected_calls=1,"), "{refused}");
        server.say(&format!("DEL {TURN}"));
        let swap = store.begin_swap(HashSet::new(), None).await.unwrap();
        drop(server);
        assert!(swap.end().await.unwrap_err().is_outage());
        let error = store.get("old").await.unwrap_err();
        assert_eq!(error.kind(), Kind::CircuitOpen, "{error}");
    });
}

#[test]
fn a_set_is_replaced_at_once_up_to_a_size_with_the_keys_that_are_deleted() {
    let server = Server::start(&binaries()[0]);
    let store = open(replacing(&server));
    runtime().block_on(async {
        put(&store, &[("old", "1")]).await;
        let most = (8 << 20) - "nano_graphrag:docs:old".len();
        for (bytes, at_once) in [(4 << 20, true), (most, true), (most + 1, false)] {
            let swap = store.begin_swap(HashSet::new(), Some(bytes)).await.unwrap();
            assert_eq!(swap.is_whole(), at_once, "{bytes}");
            server.say(&format!("DEL {TURN}"));
        }
    });
}

#[test]
fn each_value_of_a_replacement_has_an_outcome_and_a_line_in_the_log() {
    let server = Server::start(&binaries()[0]);
    for registry in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::new(directory.path(), "docs").unwrap();
        let mut settings = replacing(&server);
        settings.registry = registry;
        settings.dual_write = Some(paths.clone());
        let store = open(settings);
        on_a_still_clock(async || {
            assert_eq!(server.say("SET nano_graphrag:docs:old 1"), "+OK\r\n");
            let written = HashSet::from_iter(ids(&["a", "b", "c"]));
            let swap = store.begin_swap(written, Some(20)).await.unwrap();
            let parts = vec![
                batch(&store, &[("a", "1"), ("b", "2")]),
                batch(&store, &[("c", "3")]),
            ];
            let (_, outcomes) = swap.replace(parts).await;
            let outcomes = outcomes.unwrap();
            assert_eq!(outcomes.len(), 3);
            assert!(outcomes.iter().all(Result::is_ok));
            let log = std::fs::read_to_string(&paths.log).unwrap();
            let lines = [
                r#"["set","a",1]"#,
                r#"["set","b",2]"#,
                r#"["set","c",3]"#,
                r#"["delete","old"]"#,
            ];
            assert_eq!(log.lines().collect::<Vec<_>>(), lines);
            assert_eq!(store.dual_write().unwrap().late, 0);
            assert_eq!(listed(&store).await, ids(&["a", "b", "c"]));
        });
        server.say("FLUSHALL");
    }
}
