//! Several servers, without Python: a cluster, sentinels, replicas, and one that comes back empty.

#![allow(clippy::unwrap_used, reason = "a test that meets an error ends there")]

#[allow(dead_code, reason = "others use the rest")]
mod support;

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use nano_graphrag_redis::client::{SharedConnections, keep_keyspace_stats};
use nano_graphrag_redis::config::durability::Durability;
use nano_graphrag_redis::config::endpoint::Endpoint;
use nano_graphrag_redis::config::{Credentials, Sentinel, ServerConfig, StoreConfig};
use nano_graphrag_redis::error::Kind;
use nano_graphrag_redis::key_layout::Keyspace;
use nano_graphrag_redis::store::KvStore;
use support::{
    Server, batch, binaries, config, free_port, get, ids, listed, many, open, put, runtime,
    wait_for, wait_until,
};
use tempfile::NamedTempFile;

/// Two servers, each of which has half of the slots.
fn cluster() -> [Server; 2] {
    let buses = [free_port(), free_port()].map(|port| port.to_string());
    let servers = buses.each_ref().map(|bus| {
        let words = ["--cluster-enabled", "yes", "--cluster-port", bus];
        Server::start_with(&binaries()[0], &words)
    });
    for (server, slots) in servers.iter().zip(["0 8191", "8192 16383"]) {
        assert_eq!(
            server.say(&format!("CLUSTER ADDSLOTSRANGE {slots}")),
            "+OK\r\n"
        );
    }
    servers[1].say("CLUSTER SET-CONFIG-EPOCH 2");
    let port = servers[1].port();
    servers[0].say(&format!("CLUSTER MEET 127.0.0.1 {port} {}", buses[1]));
    wait_until("the servers know each other", || {
        servers.iter().all(|server| {
            let said = server.say("CLUSTER INFO");
            said.contains("cluster_state:ok") && said.contains("cluster_known_nodes:2")
        })
    });
    servers
}

#[test]
fn a_cluster_holds_and_lists_what_one_server_would_wherever_its_slots_are() {
    let servers = cluster();
    let mut server = servers[0].config();
    server.cluster = true;
    for registry in [false, true] {
        let mut config = config(server.clone());
        config.registry = registry;
        config.deferred_drop = true;
        let store = open(config);
        runtime().block_on(async {
            let all = many(1_500);
            let quoted: Vec<_> = all.iter().map(|id| format!("\"{id}\"")).collect();
            let items = all.iter().zip(&quoted);
            let items: Vec<_> = items.map(|(id, json)| (&**id, &**json)).collect();
            put(&store, &items).await;
            for server in &servers {
                let size = server.say("DBSIZE");
                let size: usize = size[1..].trim().parse().unwrap();
                assert!((500..1_100).contains(&size), "{size}");
            }
            let found = store.get_batch(&all).await.unwrap();
            for (found, json) in found.into_iter().zip(&quoted) {
                assert_eq!(found.unwrap().unwrap(), json.as_bytes());
            }
            let there = store.exists(store.exists_request(&["id-0001", "none", "id-0003"]));
            assert_eq!(there.await.unwrap(), [true, false, true]);
            assert_eq!(listed(&store).await, all);
            let stats = store.stats(false).await.unwrap();
            assert_eq!(stats.key_count, 1_500);
            assert!(stats.load.connections >= 2, "{:?}", stats.load);
            assert!(stats.total_redis_memory.unwrap() > 2_000_000);
            store.ping().await.unwrap();
            assert_eq!(store.info("server").await.unwrap().len(), 2);
            // Replaced value by value: there is no transaction over two servers.
            let written = HashSet::from(["id-0001".to_owned()]);
            let swap = store.begin_swap(written, Some(10)).await.unwrap();
            assert!(!swap.is_whole());
            put(&store, &[("id-0001", "1")]).await;
            swap.end().await.unwrap();
            assert_eq!(listed(&store).await, ids(&["id-0001"]));
            assert_eq!(get(&store, "id-0001").await.unwrap(), "1");
            put(&store, &items[..300]).await;
            let some = all[..200].to_vec();
            assert_eq!(store.delete(some).await.unwrap(), 200);
            assert_eq!(listed(&store).await, all[200..300]);
            store.drop_all().await.unwrap();
            assert!(listed(&store).await.is_empty());
        });
    }
    the_barrier_of_a_workspace_on_one_server_proves_nothing_of_another(&servers);
}

#[test]
fn a_slot_that_moves_is_followed() {
    let servers = cluster();
    let mut server = servers[0].config();
    server.cluster = true;
    let store = open(config(server));
    runtime().block_on(async {
        let all = many(64);
        let items: Vec<_> = all.iter().map(|id| (id.as_str(), "1")).collect();
        put(&store, &items).await;
        let ids = servers.each_ref().map(|server| {
            let said = server.say("CLUSTER MYID");
            said.lines().nth(1).unwrap().to_owned()
        });
        // The slots of all ids that the first server has, one after another, go to the second one.
        for id in &all {
            let said = servers[0].say(&format!("CLUSTER KEYSLOT nano_graphrag:docs:{id}"));
            let slot: u16 = said[1..].trim().parse().unwrap();
            if slot > 8_191 {
                continue;
            }
            servers[1].say(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", ids[0]));
            servers[0].say(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", ids[1]));
            let port = servers[1].port();
            servers[0].say(&format!(
                "MIGRATE 127.0.0.1 {port} nano_graphrag:docs:{id} 0 5000"
            ));
            // ASK, and after that MOVED.
            assert_eq!(get(&store, id).await.unwrap(), "1");
            assert!(store.all_keys().await.unwrap().contains(id));
            for server in servers.iter().rev() {
                server.say(&format!("CLUSTER SETSLOT {slot} NODE {}", ids[1]));
            }
            assert_eq!(get(&store, id).await.unwrap(), "1");
            put(&store, &[(id, "2")]).await;
        }
        assert_eq!(listed(&store).await, all);
    });
}

#[test]
fn copies_are_kept_where_each_server_of_a_cluster_is_heard() {
    let servers = cluster();
    let mut settings = config(servers[0].config());
    settings.server.cluster = true;
    let plain = open(settings.clone());
    settings.near_cache_bytes = 1 << 20;
    let store = open(settings);
    runtime().block_on(async {
        let all = many(8);
        let write = async |json| {
            let items: Vec<_> = all.iter().map(|id| (id.as_str(), json)).collect();
            put(&plain, &items).await;
        };
        let kept = async |json| {
            wait_for("there are copies", async || {
                for id in &all {
                    assert_eq!(get(&store, id).await.as_deref(), Some(json));
                }
                all.iter().all(|id| store.local(id).is_some())
            })
            .await;
        };
        let given_up = async || {
            wait_for("they are given up", async || {
                all.iter().all(|id| store.local(id).is_none())
            })
            .await;
        };
        write("1").await;
        kept("1").await;
        write("2").await;
        given_up().await;
        kept("2").await;
        // A slot without keys goes to the second server.
        let node = name_of(&servers[1]);
        let id = many(100).into_iter().find(|id| {
            let said = servers[0].say(&format!("CLUSTER KEYSLOT nano_graphrag:docs:x{id}"));
            let slot: u16 = said[1..].trim().parse().unwrap();
            let moves = slot < 8_192;
            if moves {
                for server in servers.iter().rev() {
                    server.say(&format!("CLUSTER SETSLOT {slot} NODE {node}"));
                }
            }
            moves
        });
        assert_eq!(get(&store, &format!("x{}", id.unwrap())).await, None);
        for json in ["3", "4"] {
            write(json).await;
            given_up().await;
            kept(json).await;
        }
    });
}

/// The name of a server in its cluster.
fn name_of(server: &Server) -> String {
    let said = server.say("CLUSTER MYID");
    said.lines().nth(1).unwrap().to_owned()
}

/// Tells a server something of all these slots.
fn set_slots(server: &Server, [from, to]: [u16; 2], what: &str, name: &str) {
    let set = format!("redis.call('CLUSTER', 'SETSLOT', slot, '{what}', '{name}')");
    let said = server.say(&format!("EVAL \"for slot = {from}, {to} do {set} end\" 0"));
    assert_eq!(said, "$-1\r\n");
}

/// What a server has counted of a command.
fn counted(server: &Server, command: &str, what: &str) -> u32 {
    let said = server.say("INFO commandstats");
    let command = format!("cmdstat_{command}:");
    let counts = said.lines().find_map(|line| line.strip_prefix(&command));
    let counts = counts.unwrap_or_default().split(',');
    let counts = counts.filter_map(|count| count.split_once('='));
    let mut counts = counts.filter(|(name, _)| *name == what);
    counts.next().map_or(0, |(_, count)| count.parse().unwrap())
}

/// How many connections ask a server to tell them of changes.
fn listeners_of(server: &Server) -> u32 {
    let said = server.say("INFO clients");
    let (_, count) = said.split_once("tracking_clients:").unwrap();
    count.lines().next().unwrap().parse().unwrap()
}

#[test]
fn a_server_is_heard_while_its_slots_are_on_their_way_and_not_when_it_has_none() {
    let servers = cluster();
    let mut settings = config(servers[0].config());
    settings.server.cluster = true;
    settings.server.socket_timeout = Duration::from_millis(100);
    settings.near_cache_bytes = 1 << 20;
    let store = open(settings);
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        let kept = async || {
            get(&store, "a").await.unwrap();
            store.local("a").is_some()
        };
        wait_for("there is a copy", kept).await;
        set_slots(&servers[0], [0, 8_191], "MIGRATING", &name_of(&servers[1]));
        wait_for("it is asked twice", async || {
            counted(&servers[0], "exists", "rejected_calls") > 1
        })
        .await;
        wait_for("there is a copy still", kept).await;
        assert_eq!(servers[0].say("CLUSTER DELSLOTSRANGE 0 8191"), "+OK\r\n");
        wait_for("it is not relied on", async || store.local("a").is_none()).await;
    });
}

#[test]
fn a_server_that_has_no_slots_any_more_is_neither_listened_to_nor_missed() {
    let [first, second] = cluster();
    second.say("CONFIG SET cluster-allow-replica-migration no"); // it stays a primary
    let mut settings = config(first.config());
    settings.server.cluster = true;
    settings.near_cache_bytes = 1 << 20;
    let shared = Arc::new(SharedConnections::default());
    let store = KvStore::new(settings, &shared);
    let connections = shared.in_use().pop().unwrap();
    runtime().block_on(async {
        let all = many(8);
        let listened_to = async |wanted| {
            wait_for("so many listen to each", async || {
                for id in &all {
                    assert_eq!(get(&store, id).await, None);
                }
                [&first, &second].map(listeners_of) == wanted
            })
            .await;
        };
        let give_slots_to = |server: &Server, told: &[&Server]| {
            let name = name_of(server);
            for server in told {
                set_slots(server, [8_192, 16_383], "NODE", &name);
            }
        };
        listened_to([1, 1]).await;
        give_slots_to(&first, &[&second, &first]);
        listened_to([1, 0]).await;
        give_slots_to(&second, &[&first, &second]);
        listened_to([1, 1]).await;
        let sampling = Arc::clone(&shared);
        tokio::spawn(async move {
            keep_keyspace_stats(&sampling, || Some(Duration::from_millis(20))).await;
        });
        let is_up =
            async |up| wait_for("it is seen", async || connections.is_up() == Some(up)).await;
        is_up(true).await;
        drop(second);
        is_up(false).await;
        // Nobody calls who would learn of it.
        give_slots_to(&first, &[&first]);
        is_up(true).await;
    });
}

/// How many commands a sentinel has had.
fn commands_of(sentinel: &Server) -> usize {
    let said = sentinel.say("INFO stats");
    let count = said
        .lines()
        .find_map(|line| line.strip_prefix("total_commands_processed:"));
    count.unwrap().parse().unwrap()
}

#[test]
fn sentinels_say_which_server_is_written_to() {
    let binary = &binaries()[0];
    let master = Server::start(binary);
    let port = master.port();
    let file = tempfile::NamedTempFile::new().unwrap();
    let watch = format!("sentinel monitor main 127.0.0.1 {port} 1\n");
    std::fs::write(file.path(), watch).unwrap();
    let words = [file.path().to_str().unwrap(), "--sentinel"];
    let sentinel = Server::start_with(binary, &words);
    let mut server = sentinel.config();
    server.sentinel = Some(Sentinel {
        master: "main".to_owned(),
        credentials: server.credentials.clone(),
    });
    runtime().block_on(async {
        let store = open(config(server.clone()));
        put(&store, &[("a", "1")]).await;
        assert_eq!(get(&store, "a").await.unwrap(), "1");
        assert_eq!(master.say("EXISTS nano_graphrag:docs:a"), ":1\r\n");
        assert_eq!(listed(&store).await, ids(&["a"]));
        // A call relies on what the sentinels said lately: they are not asked at each.
        let before = commands_of(&sentinel);
        for _ in 0..300 {
            get(&store, "a").await.unwrap();
        }
        let more = commands_of(&sentinel) - before;
        assert!(more < 200, "{more}");
        server.sentinel.as_mut().unwrap().master = "another".to_owned();
        server.max_retries = 0;
        server.operation_timeout = Duration::from_millis(500);
        let error = open(config(server)).get("a").await.unwrap_err();
        assert!(error.to_string().contains("another"), "{error}");
        assert!(error.is_outage(), "{error}");
    });
}

#[test]
fn a_late_answer_of_a_server_that_is_no_master_any_more_is_not_believed() {
    let binary = &binaries()[0];
    let [master, next] = [(); 2].map(|()| Server::start(binary));
    let watch = |server: &Server| format!("monitor main 127.0.0.1 {} 1", server.port());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("sentinel {}\n", watch(&master))).unwrap();
    let words = [file.path().to_str().unwrap(), "--sentinel"];
    let sentinel = Server::start_with(binary, &words);
    let mut server = sentinel.config();
    server.sentinel = Some(Sentinel {
        master: "main".to_owned(),
        credentials: server.credentials.clone(),
    });
    runtime().block_on(async {
        for (server, json) in [(&master, "1"), (&next, "2")] {
            server.say(&format!("SET nano_graphrag:docs:a {json}"));
        }
        let store = open(config(server));
        assert_eq!(get(&store, "a").await.unwrap(), "1");
        // Longer than an answer may take that is believed as it is.
        master.say("CLIENT PAUSE 500 ALL");
        let found = tokio::spawn(async move { get(&store, "a").await });
        sentinel.say("SENTINEL remove main");
        sentinel.say(&format!("SENTINEL {}", watch(&next)));
        master.say(&format!("REPLICAOF 127.0.0.1 {}", next.port()));
        assert_eq!(found.await.unwrap().unwrap(), "2");
    });
}

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
        assert!(text.contains("has lost 1 writes"), "{text}");
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

/// A sentinel for whom this server is the master since the failover of this epoch, and its file.
fn sentinel(master: &Server, epoch: u32, at: Option<u16>) -> (Server, NamedTempFile) {
    let file = NamedTempFile::new().unwrap();
    let watch = format!("sentinel monitor main 127.0.0.1 {} 1\n", master.port());
    let known = format!("sentinel config-epoch main {epoch}\n");
    std::fs::write(file.path(), watch + &known).unwrap();
    let words = [file.path().to_str().unwrap(), "--sentinel"];
    let binary = &binaries()[0];
    let server = match at {
        Some(port) => Server::start_at(binary, port, &words),
        None => Server::start_with(binary, &words),
    };
    (server, file)
}

/// The settings of who asks these sentinels, and asks nothing twice.
fn asking(ports: &[u16]) -> ServerConfig {
    let at = |port: &u16| Endpoint::parse(&format!("redis://127.0.0.1:{port}")).unwrap();
    let mut places: Vec<_> = ports.iter().map(at).collect();
    let mut config = ServerConfig::new("redis://127.0.0.1").unwrap();
    config.endpoint = places.remove(0);
    config.seeds = places;
    config.max_retries = 0;
    config.sentinel = Some(Sentinel {
        master: "main".to_owned(),
        credentials: Credentials::default(),
    });
    config
}

#[test]
fn of_several_sentinels_the_newest_word_counts_and_an_old_one_if_most_say_it() {
    let [old, new] = [(); 2].map(|()| Server::start(&binaries()[0]));
    let (before, _before) = sentinel(&old, 5, None);
    let (after, _after) = sentinel(&new, 7, None);
    let mut ports = [before.port(), after.port()];
    runtime().block_on(async {
        let mut stores = Vec::new();
        for number in 0..10 {
            let (store, id) = (open(config(asking(&ports))), format!("{number}"));
            put(&store, &[(&id, "1")]).await;
            if new.say(&format!("EXISTS nano_graphrag:docs:{id}")) == ":1\r\n" {
                stores.push(store);
            }
            ports.reverse();
        }
        // One that is late, as it may be where cores are busy, is not waited for.
        assert!(stores.len() >= 8, "{}", stores.len());
        let store = stores.remove(0);
        let all = many(200);
        let items: Vec<_> = all.iter().map(|id| (id.as_str(), "1")).collect();
        put(&store, &items).await;
        let page = store.scan(0, b"*id-*", 50).await.unwrap();
        assert!(page.0 > 0);
        // One that is left of two says what was true before a failover.
        let port = after.port();
        drop((after, new));
        for _ in 0..3 {
            assert!(store.get("a").await.unwrap_err().is_outage());
        }
        let (_again, _file) = sentinel(&old, 5, Some(port));
        wait_for("the old master serves", async || {
            store.get("a").await.is_ok()
        })
        .await;
        put(&store, &items).await;
        // A cursor of the one before means nothing to it.
        let (mut place, mut met) = (page.0, HashSet::new());
        while place > 0 {
            let page = store.scan(place, b"*id-*", 50).await.unwrap();
            met.extend(page.1);
            place = page.0;
        }
        assert_eq!(met.len(), 200);
    });
}

#[test]
fn a_master_that_serves_is_kept_whatever_sentinels_say_that_were_away_during_a_failover() {
    let [old, new] = [(); 2].map(|()| Server::start(&binaries()[0]));
    let (before, _before) = sentinel(&old, 5, None);
    let (after, _after) = sentinel(&new, 7, None);
    let mut server = asking(&[before.port(), after.port()]);
    server.health_check_interval = Duration::from_millis(10);
    runtime().block_on(async {
        let store = open(config(server));
        let write = async |id| {
            let (_, outcomes) = store.upsert(batch(&store, &[(id, "1")])).await;
            outcomes.is_ok()
        };
        wait_for("the newer word counts", async || {
            write("a").await && new.say("DBSIZE") == ":1\r\n"
        })
        .await;
        let port = after.port();
        drop(after);
        let (again, _file) = sentinel(&old, 5, Some(port));
        let (asked, mut own) = (commands_of(&again), 0);
        wait_for("it is asked some times", async || {
            own += 1;
            commands_of(&again) > asked + own + 6
        })
        .await;
        put(&store, &[("b", "1")]).await;
        assert_eq!(new.say("DBSIZE"), ":2\r\n");
        // The next failover is followed.
        drop(again);
        let (_again, _file) = sentinel(&old, 8, Some(port));
        wait_for("the other serves", async || {
            write("c").await && old.say("EXISTS nano_graphrag:docs:c") == ":1\r\n"
        })
        .await;
    });
}

#[test]
fn a_replica_that_sentinels_name_is_not_taken_for_a_master_and_a_silent_sentinel_not_waited_for() {
    let server = Server::start(&binaries()[0]);
    let (named, _file) = sentinel(&server, 0, None);
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = asking(&[silent.local_addr().unwrap().port(), named.port()]);
    settings.operation_timeout = Duration::from_millis(900);
    runtime().block_on(async {
        wait_for("it is found in time", async || {
            open(config(settings.clone())).get("a").await.is_ok()
        })
        .await;
        server.say(&format!("REPLICAOF 127.0.0.1 {}", free_port()));
        let error = open(config(asking(&[named.port(), free_port()])))
            .get("a")
            .await
            .unwrap_err();
        assert!(error.is_outage(), "{error}");
        assert!(error.to_string().contains("a replica itself"), "{error}");
    });
}

#[test]
fn a_master_that_has_refused_is_asked_for_once_more_and_relied_on_again() {
    let master = Server::start(&binaries()[0]);
    let (sentinel, _file) = sentinel(&master, 0, None);
    runtime().block_on(async {
        let store = open(config(asking(&[sentinel.port()])));
        put(&store, &[("a", "1")]).await;
        master.say("CONFIG SET min-replicas-to-write 1");
        let refused = store.delete(ids(&["a"])).await.unwrap_err();
        assert!(
            refused.is_outage() && refused.to_string().contains("NOREPLICAS"),
            "{refused}"
        );
        assert_eq!(get(&store, "a").await.unwrap(), "1");
        master.say("CONFIG SET min-replicas-to-write 0");
        assert_eq!(store.delete(ids(&["a"])).await.unwrap(), 1);
        let before = commands_of(&sentinel);
        for _ in 0..300 {
            get(&store, "a").await;
        }
        let more = commands_of(&sentinel) - before;
        assert!(more < 200, "{more}");
    });
}

/// How often a server of a cluster was asked for its slots.
fn questions(server: &Server) -> usize {
    let said = server.say("INFO commandstats");
    let count = said.split_once("cmdstat_cluster|slots:calls=");
    count.map_or(0, |(_, rest)| {
        rest.split_once(',').unwrap().0.parse().unwrap()
    })
}

#[test]
fn a_server_that_is_doubted_or_has_left_is_gone_on_without_and_one_that_is_away_is_not() {
    let words = ["--cluster-enabled", "yes", "--cluster-port"];
    let bus = free_port().to_string();
    let down = Server::start_with(&binaries()[0], &[&words[..], &[&bus]].concat());
    // It lacks one slot.
    down.say("CLUSTER ADDSLOTSRANGE 0 16382");
    let alone = Server::start(&binaries()[0]);
    let [one, two] = cluster();
    let id = one.say("CLUSTER MYID").lines().nth(1).unwrap().to_owned();
    let at = |servers: &[&Server]| {
        let ports: Vec<_> = servers.iter().map(|server| server.port()).collect();
        let mut config = asking(&ports);
        config.sentinel = None;
        config.cluster = true;
        config
    };
    runtime().block_on(async {
        let error = open(config(at(&[&alone]))).get("a").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains("of no cluster"), "{error}");
        let mut short = at(&[&down]);
        short.operation_timeout = Duration::from_millis(100);
        wait_for("it says so itself", async || {
            let error = open(config(short.clone())).get("a").await.unwrap_err();
            error.to_string().contains("CLUSTERDOWN")
        })
        .await;
        // One that is beyond doubt is asked alone.
        one.say("CONFIG RESETSTAT");
        two.say("CONFIG RESETSTAT");
        let mut watching = at(&[&one, &two]);
        watching.health_check_interval = Duration::from_millis(5);
        let store = open(config(watching));
        wait_for("it was asked some times", async || {
            store.get("a").await.unwrap();
            questions(&one) >= 5
        })
        .await;
        assert!(questions(&two) < questions(&one));
        drop(store);
        let store = open(config(at(&[&down, &one])));
        let all = many(300);
        let items: Vec<_> = all.iter().map(|id| (id.as_str(), "1")).collect();
        put(&store, &items).await;
        let (mut place, keys) = store.scan(0, b"*id-*", 10).await.unwrap();
        let mut met: HashSet<_> = keys.into_iter().collect();
        drop(one);
        let error = store.scan(place, b"*id-*", 10).await.unwrap_err();
        assert!(error.is_outage(), "{error}");
        two.say(&format!("CLUSTER FORGET {id}"));
        two.say("CLUSTER ADDSLOTSRANGE 0 8191");
        wait_until("it is a cluster of one", || {
            two.say("CLUSTER INFO").contains("cluster_state:ok")
        });
        let before = met.len();
        while place > 0 {
            let (next, keys) = store.scan(place, b"*id-*", 10).await.unwrap();
            met.extend(keys);
            place = next;
        }
        assert_eq!(two.say("DBSIZE"), format!(":{}\r\n", met.len() - before));
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
fn the_barrier_of_a_workspace_on_one_server_proves_nothing_of_another(servers: &[Server; 2]) {
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
