//! Operations, and what they answer, on one server.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nano_graphrag_redis::client::SharedConnections;
use nano_graphrag_redis::config::StoreConfig;
use nano_graphrag_redis::config::endpoint::Endpoint;
use nano_graphrag_redis::error::Kind;
use nano_graphrag_redis::store::KvStore;
use nano_graphrag_redis::value::Compression;

use super::support::{Server, binaries, drive, ids, on_each_server, put, reactor, runtime};

#[test]
fn values_come_back_in_the_order_of_the_ids_with_repeats_and_gaps() {
    on_each_server(async |server| {
        let store = server.store("docs");
        put(&store, &[("a", "1"), ("b", "2")]).await;
        let found = store
            .get_batch(&ids(&["b", "none", "a", "b"]))
            .await
            .unwrap();
        let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
        let expected = [Some("2"), None, Some("1"), Some("2")];
        assert_eq!(
            found,
            expected.map(|json| json.map(|json| Bytes::from_static(json.as_bytes())))
        );
        let exists_request = store.exists_request(&["a", "none", "a"]);
        assert_eq!(
            store.exists(exists_request).await.unwrap(),
            [true, false, true]
        );
    });
}

#[test]
fn a_key_of_another_type_fails_its_own_id_alone_and_is_never_absent() {
    on_each_server(async |server| {
        let store = server.store("docs");
        put(&store, &[("good", "1")]).await;
        assert_eq!(server.say("LPUSH nano_graphrag:docs:list x"), ":1\r\n");
        let found = store
            .get_batch(&ids(&["good", "list", "none"]))
            .await
            .unwrap();
        assert_eq!(found[0].as_ref().unwrap().as_deref(), Some(&b"1"[..]));
        let error = found[1].as_ref().unwrap_err();
        assert_eq!(
            (error.kind(), error.id(), error.namespace()),
            (Kind::Operation, Some("list"), Some("docs"))
        );
        assert_eq!(found[2].as_ref().unwrap(), &None);
        assert_eq!(store.get("list").await.unwrap_err().kind(), Kind::Operation);
    });
}

#[test]
fn clearing_a_namespace_leaves_those_that_look_alike() {
    on_each_server(async |server| {
        let (glob, plain) = (server.store("t*"), server.store("t"));
        put(&glob, &[("x", "1")]).await;
        put(&plain, &[("x", "2"), ("*", "3")]).await;
        glob.drop_all().await.unwrap();
        assert!(glob.all_keys().await.unwrap().is_empty());
        let mut left = plain.all_keys().await.unwrap();
        left.sort();
        assert_eq!(left, ids(&["*", "x"]));
    });
}

#[test]
fn a_time_to_live_starts_anew_with_each_write() {
    on_each_server(async |server| {
        let mut config = StoreConfig::new(server.config(), "cache").unwrap();
        config.ttl = NonZeroU64::new(43_200);
        let store = KvStore::new(config, &SharedConnections::default());
        put(&store, &[("a", "1")]).await;
        assert_eq!(server.say("EXPIRE nano_graphrag:cache:a 7"), ":1\r\n");
        put(&store, &[("a", "2")]).await;
        assert_eq!(server.say("TTL nano_graphrag:cache:a"), ":43200\r\n");
    });
}

#[test]
fn deletes_count_what_was_there() {
    on_each_server(async |server| {
        let store = server.store("docs");
        put(&store, &[("a", "1"), ("b", "2")]).await;
        assert_eq!(store.delete(ids(&["a", "none"])).await.unwrap(), 1);
        assert_eq!(store.delete(ids(&["a"])).await.unwrap(), 0);
        assert_eq!(store.all_keys().await.unwrap(), ids(&["b"]));
    });
}

#[test]
fn an_unreachable_server_is_an_outage_that_opens_the_breaker_and_names_the_endpoint() {
    on_each_server(async |server| {
        let mut config = StoreConfig::new(server.config(), "docs").unwrap();
        config.server.max_retries = 0;
        config.server.breaker_failures = 2;
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        config.server.endpoint = Endpoint::parse(&format!("redis://127.0.0.1:{free}")).unwrap();
        let store = KvStore::new(config, &SharedConnections::default());
        let error = store.get("a").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(
            error
                .to_string()
                .contains(&format!("redis://127.0.0.1:{free}/0")),
            "{error}"
        );
        assert_eq!(store.get("a").await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(store.get("a").await.unwrap_err().kind(), Kind::CircuitOpen);
    });
}

// A server says nothing to nothing, and who waits for that is in the way of all who come after.
#[test]
fn nothing_is_asked_for_at_once_with_and_without_a_server() {
    on_each_server(async |server| {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let nowhere = format!("redis://127.0.0.1:{free}");
        for (is_there, registry) in [(true, false), (true, true), (false, false), (false, true)] {
            let mut config = StoreConfig::new(server.config(), "docs").unwrap();
            config.registry = registry;
            if !is_there {
                config.server.endpoint = Endpoint::parse(&nowhere).unwrap();
            }
            let store = KvStore::new(config, &SharedConnections::default());
            let nothing = async {
                assert!(store.get_batch(&[]).await.unwrap().is_empty());
                assert!(
                    store
                        .exists(store.exists_request(&[]))
                        .await
                        .unwrap()
                        .is_empty()
                );
                put(&store, &[]).await;
                assert_eq!(store.delete(Vec::new()).await.unwrap(), 0);
                assert!(store.inspect(Vec::new()).await.unwrap().is_empty());
                assert_eq!(store.persist(Vec::new()).await.unwrap(), 0);
                assert_eq!(store.mean_memory(&[]).await.unwrap(), None);
            };
            let waited = tokio::time::timeout(Duration::from_secs(5), nothing).await;
            waited.expect("nobody waits for nothing");
            if is_there {
                put(&store, &[("a", "1")]).await;
                assert_eq!(store.get("a").await.unwrap().unwrap(), &b"1"[..]);
                assert_eq!(store.delete(ids(&["a"])).await.unwrap(), 1);
            }
        }
    });
}

#[test]
fn a_value_over_the_cap_is_corrupt_when_read_and_a_page_of_scan_ends_at_zero() {
    on_each_server(async |server| {
        let mut config = StoreConfig::new(server.config(), "docs").unwrap();
        config.max_value_bytes = 3;
        let store = KvStore::new(config, &SharedConnections::default());
        put(&store, &[("fits", "123"), ("over", "1234")]).await;
        assert_eq!(store.get("fits").await.unwrap().unwrap(), &b"123"[..]);
        assert_eq!(store.get("over").await.unwrap_err().kind(), Kind::Corrupt);
        let (mut cursor, mut keys) = (0, Vec::new());
        loop {
            let (next, page) = store
                .scan(cursor, b"nano_graphrag:docs:*", 1)
                .await
                .unwrap();
            keys.extend(page);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(keys.len(), 2);
    });
}

#[test]
fn statistics_count_keys_and_memory_and_light_ones_sample_nothing() {
    on_each_server(async |server| {
        let store = server.store("docs");
        put(&store, &[("a", "1"), ("b", "2")]).await;
        let stats = store.stats(false).await.unwrap();
        assert_eq!((stats.key_count, stats.load.connections), (2, 1));
        assert!(stats.sample_memory_usage.unwrap() > 0);
        assert!(stats.total_redis_memory.unwrap() > 100_000);
        let light = store.stats(true).await.unwrap();
        assert_eq!(
            (
                light.key_count,
                light.sample_memory_usage,
                light.total_redis_memory
            ),
            (2, None, None)
        );
    });
}

#[test]
fn a_thread_that_drives_keeps_one_connection_and_hands_it_on_when_it_is_done() {
    let server = Server::start(&binaries()[0]);
    let (runtime, store) = (runtime(), server.store("docs"));
    for _ in 0..3 {
        let reactor = reactor();
        drive(&runtime, &reactor, async {
            put(&store, &[("a", "1")]).await;
            assert_eq!(store.get("a").await.unwrap().unwrap(), &b"1"[..]);
        });
        assert_eq!(reactor.connections().len(), 1);
        drop(reactor);
        let stats = runtime.block_on(store.stats(true)).unwrap();
        assert_eq!(
            stats.load.connections, 2,
            "the direct connection, and the pool's for the statistics"
        );
    }
}

#[test]
fn a_cap_of_one_connection_leaves_it_to_the_pool() {
    let server = Server::start(&binaries()[0]);
    let mut config = server.config();
    config.max_connections = 1;
    let config = StoreConfig::new(config, "docs").unwrap();
    let store = KvStore::new(config, &SharedConnections::default());
    let reactor = reactor();
    drive(&runtime(), &reactor, put(&store, &[("a", "1")]));
    assert!(reactor.connections().is_empty());
}

#[test]
fn compressing_a_large_value_leaves_other_calls_their_turn() {
    let server = Server::start(&binaries()[0]);
    let mut config = StoreConfig::new(server.config(), "docs").unwrap();
    config.compression = Compression::new("zstd", 0, Some(19)).unwrap();
    let store = KvStore::new(config, &SharedConnections::default());
    let text = (0..30_000).map(|n| n.to_string()).collect::<Vec<_>>();
    let text = text.join(" ghosts, ");
    // With one thread, whatever keeps it from the sockets keeps everyone waiting.
    let runtime = runtime();
    let large = Arc::clone(&store);
    let write = runtime.spawn(async move { put(&large, &[("large", &text)]).await });
    let reads = runtime.spawn(async move {
        for _ in 0..10 {
            store.get("small").await.unwrap();
        }
        write.is_finished()
    });
    assert!(!runtime.block_on(reads).unwrap());
}

/// The settings of a store whose user may do all but these commands.
fn user_without(server: &Server, denied: &str) -> StoreConfig {
    let said = server.say(&format!("ACL SETUSER worker on >x ~* &* +@all {denied}"));
    assert_eq!(said, "+OK\r\n");
    let mut config = StoreConfig::new(server.config(), "docs").unwrap();
    config.server.credentials.username = Some("worker".to_owned());
    config.server.credentials.password = Some("x".to_owned());
    config
}

#[test]
fn a_key_of_any_namespace_is_read_and_an_absent_one_is_none() {
    on_each_server(async |server| {
        let store = server.store("docs");
        put(&server.store("other"), &[("a", "1")]).await;
        let read = async |key: &[u8]| store.get_key(key).await.unwrap();
        assert_eq!(read(b"nano_graphrag:other:a").await.unwrap(), &b"1"[..]);
        assert_eq!(read(b"nano_graphrag:docs:a").await, None);
        server.say("SADD set 1");
        let error = store.get_key(b"set").await.unwrap_err();
        assert_eq!((error.kind(), error.id()), (Kind::Operation, Some("set")));
    });
}

#[test]
fn what_a_user_may_not_do_is_found_out_and_leaves_nothing() {
    on_each_server(async |server| {
        let open = |config| KvStore::new(config, &SharedConnections::default());
        let all = open(user_without(server, ""));
        assert_eq!(all.forbidden().await.unwrap(), [] as [&str; 0]);
        let less = open(user_without(server, "-get -memory -xadd -exec"));
        let forbidden = less.forbidden().await.unwrap();
        assert_eq!(forbidden, ["get", "memory|usage", "xadd", "exec"]);
        assert_eq!(server.say("DBSIZE"), ":0\r\n");
    });
}

#[test]
fn who_may_not_ask_for_the_memory_still_is_told_the_rest() {
    on_each_server(async |server| {
        let config = user_without(server, "-info -memory");
        let store = KvStore::new(config, &SharedConnections::default());
        put(&store, &[("a", "1"), ("b", "2")]).await;
        let stats = store.stats(false).await.unwrap();
        assert_eq!(stats.key_count, 2);
        assert_eq!(stats.total_redis_memory, None);
        assert_eq!(stats.sample_memory_usage, None);
    });
}

#[test]
fn a_drop_that_is_refused_fails_though_the_mark_of_a_replacement_can_be_taken_away() {
    on_each_server(async |server| {
        for deferred_drop in [false, true] {
            let mut config = user_without(server, "-scan");
            config.deferred_drop = deferred_drop;
            let store = KvStore::new(config, &SharedConnections::default());
            put(&store, &[("a", "1")]).await;
            server.say("SET nano_graphrag:@swap:docs x");
            assert_eq!(store.drop_all().await.unwrap_err().kind(), Kind::Operation);
            server.say("ACL SETUSER worker +scan");
            store.drop_all().await.unwrap();
            let left = server.say("EXISTS nano_graphrag:@swap:docs");
            assert_eq!(left, format!(":{}\r\n", u8::from(!deferred_drop)));
        }
    });
}

#[test]
fn a_limit_counts_each_call_once_and_sends_its_script_where_it_is_not_known() {
    on_each_server(async |server| {
        let store = server.store("docs");
        // A second between two, one at once; no tokens, no slots, a worker, and any wait.
        let words = "reserve 1000000 1 0 0 0 0 slot 1000000 worker 60000000 0";
        let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
        let mut starts = Vec::new();
        for _ in 0..3 {
            let told = store.limit("x", &words).await.unwrap();
            let [status, _, start, workers] = *told else {
                panic!("{told:?}");
            };
            assert_eq!((status, workers), (1, 1));
            starts.push(start);
        }
        assert!(starts.windows(2).all(|two| two[1] - two[0] == 1_000_000));
        let said = server.say("INFO commandstats");
        assert!(said.contains("cmdstat_eval:calls=1,"), "{said}");
        assert!(said.contains("cmdstat_evalsha:calls=3,"), "{said}");
    });
}

#[test]
fn those_are_counted_whose_time_to_live_is_taken_from_them() {
    on_each_server(async |server| {
        let store = server.store("docs");
        put(&store, &[("a", "1"), ("b", "2"), ("c", "3")]).await;
        server.say("EXPIRE nano_graphrag:docs:a 1000");
        server.say("EXPIRE nano_graphrag:docs:b 1000");
        let all = ids(&["a", "b", "c", "none"]);
        for count in [2, 0] {
            assert_eq!(store.persist(all.clone()).await.unwrap(), count);
        }
    });
}
