//! Barriers: what is durable, what is lost, and who may ask.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use nano_graphrag_redis::client::SharedConnections;
use nano_graphrag_redis::config::StoreConfig;
use nano_graphrag_redis::config::durability::Durability;
use nano_graphrag_redis::error::Kind;
use nano_graphrag_redis::key_layout::Keyspace;
use nano_graphrag_redis::store::KvStore;

use super::support::{
    Server, batch, binaries, config, get, ids, many, open, put, runtime, wait_for, wait_until,
};

#[test]
fn a_barrier_passes_where_the_level_is_met_and_names_the_one_that_is() {
    for binary in binaries() {
        let server = Server::start_with(&binary, &["--appendonly", "yes"]);
        server.say("CONFIG SET appendfsync always");
        server.say("CONFIG SET no-appendfsync-on-rewrite no");
        server.say("CONFIG SET repl-diskless-sync-delay 0");
        let at = |level: &str, milliseconds| {
            let mut server = server.config();
            server.durability = Durability::parse(level).unwrap();
            server.durability_timeout = Duration::from_millis(milliseconds);
            open(config(server))
        };
        runtime().block_on(async {
            for level in ["fsync", "snapshot"] {
                let store = at(level, 10_000);
                store.barrier().await.unwrap();
                put(&store, &[("a", "1")]).await;
                store.barrier().await.unwrap();
                if level == "snapshot" {
                    let said = server.say("INFO persistence");
                    assert!(said.contains("rdb_changes_since_last_save:0\r\n"), "{said}");
                }
                assert_eq!(store.delete(ids(&["a"])).await.unwrap(), 1);
                store.drop_all().await.unwrap();
                store.barrier().await.unwrap();
            }
            for (level, reached) in [("replicas:1", "ack"), ("fsync+replicas:1", "fsync")] {
                let store = at(level, 50);
                store.barrier().await.unwrap(); // nothing was written
                put(&store, &[("a", "1")]).await;
                let error = store.barrier().await.unwrap_err();
                assert_eq!(error.kind(), Kind::Durability, "{error}");
                let text = error.to_string();
                assert!(text.contains(&format!("={level} is not met")), "{text}");
                let met = text.contains(&format!("only {reached}: "));
                assert!(met || text.contains("WAITAOF"), "{text}");
            }
            server.say("CONFIG SET appendfsync no");
            let store = at("fsync", 200);
            put(&store, &[("a", "1")]).await;
            let text = store.barrier().await.unwrap_err().to_string();
            // WAITAOF, where there is one, waits for what nobody asks for.
            let (no, late) = ("appendfsync is no", "not synced within");
            assert!(text.contains(no) || text.contains(late), "{text}");
            server.say("CONFIG SET appendonly no");
            let text = store.barrier().await.unwrap_err().to_string();
            assert!(text.contains("append-only file is off"), "{text}");
            let replica = Server::start(&binary);
            replica.say(&format!("REPLICAOF 127.0.0.1 {}", server.port()));
            wait_until("the replica follows", || {
                replica
                    .say("INFO replication")
                    .contains("master_link_status:up")
            });
            let store = at("replicas:1", 10_000);
            put(&store, &[("kept", "1")]).await;
            store.barrier().await.unwrap();
            assert_eq!(replica.say("EXISTS nano_graphrag:docs:kept"), ":1\r\n");
        });
    }
}

#[test]
fn a_barrier_tells_what_a_server_that_lost_its_values_has_lost() {
    let server = Server::start_with(&binaries()[0], &["--appendonly", "yes"]);
    server.say("CONFIG SET appendfsync always");
    let mut settings = server.config();
    settings.durability = Durability::parse("fsync").unwrap();
    settings.durability_timeout = Duration::from_secs(10);
    settings.operation_timeout = Duration::from_secs(20);
    let store = open(config(settings));
    runtime().block_on(async {
        put(&store, &[("safe", "1")]).await;
        store.barrier().await.unwrap();
        put(&store, &[("lost", "1"), ("there", "2")]).await;
        assert_eq!(store.delete(ids(&["safe"])).await.unwrap(), 1);
        let server = server.replaced(
            &binaries()[0],
            &["--appendonly", "yes", "--appendfsync", "always"],
        );
        assert_eq!(server.say("SET nano_graphrag:docs:there 2"), "+OK\r\n");
        let error = store.barrier().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Durability, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("does not show 1 writes of this process"),
            "{text}"
        );
        assert_eq!(error.unconfirmed().unwrap(), ids(&["lost"]));
        put(&store, &[("lost", "1")]).await;
        store.barrier().await.unwrap();
        store.drop_all().await.unwrap();
        let server = server.replaced(&binaries()[0], &["--appendonly", "yes"]);
        server.say("CONFIG SET appendfsync always");
        assert_eq!(server.say("SET nano_graphrag:docs:back 2"), "+OK\r\n");
        let text = store.barrier().await.unwrap_err().to_string();
        assert!(
            text.contains("has dropped") && text.contains("back"),
            "{text}"
        );
    });
}

#[test]
fn a_barrier_does_not_take_what_was_written_since_for_what_a_drop_left() {
    let binary = &binaries()[0];
    let words = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut server = Server::start_with(binary, &words);
    let mut settings = server.config();
    settings.durability = Durability::parse("fsync").unwrap();
    settings.durability_timeout = Duration::from_secs(10);
    settings.operation_timeout = Duration::from_secs(20);
    let store = open(config(settings));
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        store.drop_all().await.unwrap();
        put(&store, &[("a", "1")]).await;
        server = server.replaced(binary, &words);
        assert_eq!(server.say("SET nano_graphrag:docs:a 1"), "+OK\r\n");
        store.barrier().await.unwrap();
        // What was deleted was there before.
        store.drop_all().await.unwrap();
        assert_eq!(store.delete(ids(&["a"])).await.unwrap(), 0);
        server = server.replaced(binary, &words);
        assert_eq!(server.say("SET nano_graphrag:docs:a 1"), "+OK\r\n");
        let text = store.barrier().await.unwrap_err().to_string();
        assert!(text.contains("has dropped"), "{text}");
    });
}

#[test]
fn a_barrier_proves_nothing_of_what_a_drop_that_broke_off_may_have_deleted() {
    let binary = &binaries()[0];
    let words = ["--appendonly", "yes", "--appendfsync", "always"];
    let server = Server::start_with(binary, &words);
    let mut settings = server.config();
    settings.durability = Durability::parse("fsync").unwrap();
    settings.durability_timeout = Duration::from_secs(10);
    settings.operation_timeout = Duration::from_secs(20);
    let store = open(config(settings));
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        server.say("ACL SETUSER default -unlink");
        assert_eq!(store.drop_all().await.unwrap_err().kind(), Kind::Operation);
        put(&store, &[("b", "1")]).await;
        let _server = server.replaced(binary, &words);
        let error = store.barrier().await.unwrap_err();
        assert_eq!(error.unconfirmed().unwrap(), ids(&["b"]));
    });
}

/// What a test of the level `fsync` asks of a server.
const SYNCED: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

fn synced(server: &Server) -> StoreConfig {
    let mut settings = server.config();
    settings.durability = Durability::parse("fsync").unwrap();
    settings.operation_timeout = Duration::from_secs(5);
    settings.durability_timeout = Duration::from_secs(5);
    config(settings)
}

/// How many connections of ours a server has.
fn connections(server: &Server) -> usize {
    server
        .say("CLIENT LIST")
        .matches(" name=nano-graphrag-redis:")
        .count()
}

#[test]
fn a_barrier_is_prepared_once_with_the_first_request_and_never_where_none_is_asked_for() {
    let server = Server::start_with(&binaries()[0], &SYNCED);
    let settings = |durability| {
        let mut settings = synced(&server);
        settings.server.durability = durability;
        settings.server.max_connections = 1; // beside that of a barrier
        settings
    };
    let [of_ack, store] = [Durability::Ack, Durability::parse("fsync").unwrap()]
        .map(|durability| open(settings(durability)));
    runtime().block_on(async {
        put(&of_ack, &[("a", "1")]).await;
        assert_eq!(get(&store, "a").await.unwrap(), "1");
        wait_until("the barrier's connection is there", || {
            connections(&server) == 3
        });
        server.say("CONFIG RESETSTAT");
        for _ in 0..20 {
            assert_eq!(get(&store, "a").await.unwrap(), "1");
        }
        put(&store, &[("a", "2")]).await;
        store.barrier().await.unwrap();
        let asked = server.say("INFO commandstats");
        let asked = asked.split("cmdstat_info:calls=").nth(1).unwrap_or("0,");
        let asked: usize = asked.split(',').next().unwrap().parse().unwrap();
        assert!(asked < 10, "{asked}");
        assert_eq!(connections(&server), 3);
        put(&of_ack, &[("a", "3")]).await;
        drop(server);
        of_ack.barrier().await.unwrap();
    });
}

#[test]
fn what_others_write_is_no_loss_on_a_server_that_stays_though_connections_do_not() {
    let server = Server::start_with(&binaries()[0], &SYNCED);
    let store = open(synced(&server));
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        store.barrier().await.unwrap();
        let overwritten = async |server: &Server, id| {
            put(&store, &[(id, "1")]).await;
            assert_eq!(
                server.say(&format!("SET nano_graphrag:docs:{id} 2")),
                "+OK\r\n"
            );
        };
        overwritten(&server, "a").await;
        store.barrier().await.unwrap();
        overwritten(&server, "a").await;
        server.say("CLIENT KILL TYPE normal SKIPME yes");
        store.barrier().await.unwrap();
        // On another server, what was sent before is looked for, and what is sent from then on is not.
        let server = server.replaced(&binaries()[0], &SYNCED);
        put(&store, &[("b", "1")]).await;
        store.barrier().await.unwrap();
        overwritten(&server, "b").await;
        store.barrier().await.unwrap();
    });
}

#[test]
fn a_loss_is_told_until_it_is_made_good_and_a_lost_drop_once_to_who_was_there() {
    let server = Server::start_with(&binaries()[0], &SYNCED);
    let shared = SharedConnections::default();
    let first = KvStore::new(synced(&server), &shared);
    runtime().block_on(async {
        put(&first, &[("a", "1")]).await;
        first.barrier().await.unwrap();
        put(&first, &[("lost", "1")]).await;
        let server = server.replaced(&binaries()[0], &SYNCED);
        for _ in 0..3 {
            let error = first.barrier().await.unwrap_err();
            assert_eq!(error.unconfirmed().unwrap(), ids(&["lost"]), "{error}");
        }
        first.delete(ids(&["lost"])).await.unwrap();
        first.barrier().await.unwrap();
        first.drop_all().await.unwrap();
        let server = server.replaced(&binaries()[0], &SYNCED);
        assert_eq!(server.say("SET nano_graphrag:docs:back 1"), "+OK\r\n");
        let text = first.barrier().await.unwrap_err().to_string();
        assert!(text.contains("has dropped"), "{text}");
        first.barrier().await.unwrap();
        let second = KvStore::new(synced(&server), &shared);
        put(&second, &[("a", "1")]).await;
        second.barrier().await.unwrap();
        // What was written after a drop does not contradict it.
        first.drop_all().await.unwrap();
        put(&first, &[("a", "1")]).await;
        let server = server.replaced(&binaries()[0], &SYNCED);
        assert_eq!(server.say("SET nano_graphrag:docs:a 1"), "+OK\r\n");
        first.barrier().await.unwrap();
        drop(server);
    });
}

#[test]
fn a_barrier_is_attempted_as_often_as_a_call_and_not_when_its_time_would_be_over() {
    let server = Server::start_with(&binaries()[0], &SYNCED);
    let store = |max_retries, timeout| {
        let mut settings = synced(&server);
        settings.server.max_retries = max_retries;
        settings.server.breaker_failures = 1_000;
        settings.server.operation_timeout = timeout;
        settings.server.durability_timeout = timeout / 10;
        open(settings)
    };
    let often = store(2, Duration::from_secs(10));
    let long = store(1_000, Duration::from_millis(100));
    runtime().block_on(async {
        put(&often, &[("a", "1")]).await;
        let _ = long.upsert(batch(&long, &[("a", "1")])).await; // which may have too little time
        let port = server.port();
        drop(server);
        wait_for("an end for want of a server, not of time", async || {
            let error = long.barrier().await.unwrap_err();
            error.kind() == Kind::Unavailable
        })
        .await;
        // Whoever comes is let in, and sent away.
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let came = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&came);
        std::thread::spawn(move || {
            for _visitor in listener.incoming() {
                counter.fetch_add(1, Relaxed);
            }
        });
        let error = often.barrier().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert_eq!(came.load(Relaxed), 3);
    });
}

#[test]
fn a_user_who_may_not_ask_for_all_is_told_what_is_missing_where_it_is_needed() {
    for binary in binaries() {
        let server = Server::start_with(&binary, &SYNCED);
        let has_waitaof = !server.say("WAITAOF 0 0 1").contains("unknown command");
        let told = |refused: &str| {
            server.say("ACL DELUSER ann");
            let user = format!("ACL SETUSER ann on >canary ~* &* +@all {refused}");
            assert_eq!(server.say(&user), "+OK\r\n", "{refused}");
            let mut settings = synced(&server);
            settings.server.credentials.username = Some("ann".to_owned());
            settings.server.credentials.password = Some("canary".to_owned());
            settings.server.durability_timeout = Duration::from_millis(500);
            let store = open(settings);
            runtime().block_on(async {
                put(&store, &[("a", "1")]).await;
                store.barrier().await.err().map(|error| error.to_string())
            })
        };
        let says = |told: Option<String>, text: &str| {
            let told = told.unwrap_or_default();
            assert!(told.contains(text), "{told}");
        };
        // What is synced with each write need not be watched.
        assert_eq!(told("-info"), None);
        let unknown = "grant CONFIG|GET, or use Redis 7.2";
        says(
            told("-info -config"),
            if has_waitaof { "grant INFO" } else { unknown },
        );
        if has_waitaof {
            says(told("-waitaof"), "'waitaof'");
            says(told("-waitaof -config"), "'waitaof'");
        }
        server.say("CONFIG SET no-appendfsync-on-rewrite yes");
        says(told("-info"), "grant INFO");
        server.say("CONFIG SET appendfsync no");
        if !has_waitaof {
            says(told("-info"), "appendfsync is no");
        }
        server.say("CONFIG SET appendonly no");
        says(told("-info"), "append-only file is off");
        says(
            told("-config"),
            if has_waitaof {
                "append-only file is off"
            } else {
                unknown
            },
        );
    }
}

#[test]
fn a_snapshot_that_is_under_way_is_waited_for_and_one_that_may_not_be_taken_is_refused() {
    let server = Server::start(&binaries()[0]);
    let mut settings = synced(&server);
    settings.server.durability = Durability::parse("snapshot").unwrap();
    let store = open(settings.clone());
    runtime().block_on(async {
        let all = many(20);
        let items: Vec<_> = all.iter().map(|id| (id.as_str(), "1")).collect();
        put(&store, &items).await;
        server.say("CONFIG SET rdb-key-save-delay 5000"); // microseconds
        server.say("BGSAVE");
        server.say("CONFIG SET rdb-key-save-delay 0");
        put(&store, &[("late", "1")]).await;
        store.barrier().await.unwrap();
        let said = server.say("INFO persistence");
        assert!(said.contains("rdb_changes_since_last_save:0\r\n"), "{said}");
        server.say("ACL SETUSER ann on >canary ~* &* +@all -bgsave");
        settings.server.credentials.username = Some("ann".to_owned());
        settings.server.credentials.password = Some("canary".to_owned());
        let store = open(settings);
        put(&store, &[("a", "1")]).await;
        let error = store.barrier().await.unwrap_err();
        assert!(error.to_string().contains("'bgsave'"), "{error}");
        assert_ne!(error.kind(), Kind::Durability, "{error}");
    });
}

#[test]
fn a_drop_that_is_given_up_leaves_nothing_to_be_proved() {
    let server = Server::start_with(&binaries()[0], &SYNCED);
    let store = open(synced(&server));
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        server.say("CLIENT PAUSE 60000 WRITE");
        let dropping = Arc::clone(&store);
        let dropping = tokio::spawn(async move { dropping.drop_all().await });
        wait_until("a page is being deleted", || {
            server.say("CLIENT LIST").contains("cmd=unlink")
        });
        dropping.abort();
        assert!(dropping.await.unwrap_err().is_cancelled());
        let _server = server.replaced(&binaries()[0], &SYNCED);
        store.barrier().await.unwrap();
    });
}

/// Though a cluster is asked for both over the same connections.
pub(crate) fn the_barrier_of_a_workspace_on_one_server_proves_nothing_of_another(
    servers: &[Server; 2],
) {
    servers[0].say("CONFIG SET appendfsync always");
    servers[0].say("CONFIG SET appendonly yes");
    wait_until("its file is there", || {
        let said = servers[0].say("INFO persistence");
        said.contains("aof_enabled:1") && said.contains("aof_rewrite_in_progress:0")
    });
    let shared = SharedConnections::default();
    // By the slots of their hash tags.
    let [second, first] = ["{a}", "{b}"].map(|workspace| {
        let mut settings = synced(&servers[0]);
        settings.server.cluster = true;
        settings.keyspace = Keyspace::new("nano_graphrag", workspace, "docs").unwrap();
        KvStore::new(settings, &shared)
    });
    runtime().block_on(async {
        put(&second, &[("a", "1")]).await;
        put(&first, &[("a", "1")]).await;
        first.barrier().await.unwrap();
        let text = second.barrier().await.unwrap_err().to_string();
        assert!(text.contains("append-only file is off"), "{text}");
    });
}
