//! A cluster whose slots move and whose servers leave.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use nano_graphrag_redis::client::{SharedConnections, keep_keyspace_stats};
use nano_graphrag_redis::error::Kind;
use nano_graphrag_redis::store::KvStore;

use super::barriers::the_barrier_of_a_workspace_on_one_server_proves_nothing_of_another;
use super::sentinels::asking;
use super::support::{
    Server, binaries, config, free_port, get, ids, listed, many, open, put, runtime, wait_for,
    wait_until,
};

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
