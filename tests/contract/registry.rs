//! The registry of ids: kept, lost, repaired, refused.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use nano_graphrag_redis::client::SharedConnections;
use nano_graphrag_redis::config::StoreConfig;
use nano_graphrag_redis::config::endpoint::Endpoint;
use nano_graphrag_redis::error::Kind;
use nano_graphrag_redis::log_events::Event;
use nano_graphrag_redis::store::{Batch, KvStore};

use super::support::{
    Server, binaries, calls, config, ids, listed, many, on_each_server, open, put, runtime,
    wait_for,
};

#[test]
fn a_repaired_registry_holds_exactly_what_has_a_value() {
    on_each_server(async |server| {
        let mut config = StoreConfig::new(server.config(), "docs").unwrap();
        config.registry = true;
        let store = KvStore::new(config, &SharedConnections::default());
        put(&store, &[("a", "1"), ("gone", "2")]).await;
        assert_eq!(store.stats(true).await.unwrap().key_count, 2);
        assert_eq!(server.say("SET nano_graphrag:docs:foreign 3"), "+OK\r\n");
        assert_eq!(server.say("DEL nano_graphrag:docs:gone"), ":1\r\n");
        let repair = store.repair_registry().await.unwrap();
        assert_eq!((repair.added, repair.removed), (1, 1));
        let mut left = store.all_keys().await.unwrap();
        left.sort();
        assert_eq!(left, ids(&["a", "foreign"]));
        assert_eq!(store.delete(ids(&["a"])).await.unwrap(), 1);
        store.drop_all().await.unwrap();
        assert_eq!(server.say("DBSIZE"), ":1\r\n");
        assert_eq!(server.say("ZCARD nano_graphrag:@registry:docs"), ":1\r\n");
    });
}

#[test]
fn what_is_written_by_who_keeps_no_registry_is_listed_by_who_does() {
    on_each_server(async |server| {
        let of = |registry| {
            let mut config = StoreConfig::new(server.config(), "docs").unwrap();
            config.registry = registry;
            KvStore::new(config, &SharedConnections::default())
        };
        let (keeps, keeps_none) = (of(true), of(false));
        put(&keeps, &[("a", "1")]).await;
        assert_eq!(keeps.all_keys().await.unwrap(), ids(&["a"]));
        put(&keeps_none, &[("b", "2")]).await;
        // Another run, which trusts no more than what it finds.
        let mut listed = of(true).all_keys().await.unwrap();
        listed.sort();
        assert_eq!(listed, ids(&["a", "b"]));
    });
}

/// A store over this server that keeps a registry.
fn registering(server: &Server) -> Arc<KvStore> {
    let mut config = StoreConfig::new(server.config(), "docs").unwrap();
    config.registry = true;
    KvStore::new(config, &SharedConnections::default())
}

const REGISTRY: &str = "nano_graphrag:@registry:docs";

/// What it has told of this.
fn told(store: &KvStore, event: Event) -> usize {
    let notices = store.notices();
    let told = notices.iter().filter(|notice| notice.event == event);
    told.count()
}

#[test]
fn what_has_expired_is_swept_page_by_page_after_a_write() {
    let server = Server::start(&binaries()[0]);
    let mut config = StoreConfig::new(server.config(), "docs").unwrap();
    (config.registry, config.ttl) = (true, NonZeroU64::new(1_000));
    let store = KvStore::new(config, &SharedConnections::default());
    let expired: Vec<_> = (0..2_500).map(|number| format!("1000 {number}")).collect();
    let zadd = format!("ZADD {REGISTRY} {}", expired.join(" "));
    assert_eq!(server.say(&zadd), ":2500\r\n");
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        let swept = async || server.say(&format!("ZCARD {REGISTRY}")) == ":1\r\n";
        wait_for("all are swept", swept).await;
    });
}

#[test]
fn a_registry_in_order_has_no_drift_and_one_of_many_pages_is_looked_at_to_its_end() {
    let server = Server::start(&binaries()[0]);
    let store = registering(&server);
    runtime().block_on(async {
        put(&store, &[("a", "1"), ("b", "2")]).await;
        store.all_keys().await.unwrap();
        let drift = store.registry_drift().await.unwrap().unwrap();
        assert_eq!((drift.unregistered, drift.without_value), (0, 0));
        let gone: Vec<_> = (0..9_000).map(|number| format!("9e15 {number}")).collect();
        for gone in gone.chunks(3_000) {
            let zadd = format!("ZADD {REGISTRY} {}", gone.join(" "));
            assert_eq!(server.say(&zadd), ":3000\r\n");
        }
        let drift = store.registry_drift().await.unwrap().unwrap();
        assert_eq!((drift.unregistered, drift.without_value), (0, 9_000));
    });
}

#[test]
fn a_full_server_deletes_and_drops_what_is_registered_and_has_it_swept_after_that() {
    let server = Server::start(&binaries()[0]);
    let store = registering(&server);
    let fill = || {
        let said = server.say("INFO memory");
        let used = said.split_once("used_memory:").unwrap().1;
        let used: u64 = used.lines().next().unwrap().parse().unwrap();
        let full = used - (1 << 20);
        let said = server.say(&format!("CONFIG SET maxmemory {full}"));
        assert_eq!(said, "+OK\r\n");
        assert!(server.say("SET x 1").starts_with("-OOM"));
    };
    let large = format!("\"{}\"", "x".repeat(4 << 20));
    let members = || server.say(&format!("ZCARD {REGISTRY}"));
    runtime().block_on(async {
        put(&store, &[("a", &large), ("b", &large), ("c", &large)]).await;
        assert_eq!(store.all_keys().await.unwrap().len(), 3);
        fill();
        assert_eq!(store.delete(ids(&["a"])).await.unwrap(), 1);
        assert_eq!(members(), ":3\r\n", "b, c and the token");
        fill();
        store.drop_all().await.unwrap();
        assert_eq!(members(), ":1\r\n", "the token");
    });
}

#[test]
fn whoever_may_not_write_the_registry_walks_over_the_keys_and_says_so_once() {
    let server = Server::start(&binaries()[0]);
    runtime().block_on(async {
        put(&server.store("docs"), &[("a", "1"), ("b", "2")]).await;
        server.say("ACL SETUSER default -zadd");
        let store = registering(&server);
        for _ in 0..2 {
            let mut listed = store.all_keys().await.unwrap();
            listed.sort();
            assert_eq!(listed, ids(&["a", "b"]));
            assert_eq!(store.stats(true).await.unwrap().key_count, 2);
        }
        store.drop_all().await.unwrap();
        assert_eq!(server.say("DBSIZE"), ":0\r\n");
        assert_eq!(told(&store, Event::RegistryRefused), 1);
        // One that is there is read all the same, and swept by a later listing.
        server.say("ACL SETUSER default +zadd");
        let store = registering(&server);
        put(&store, &[("a", "1"), ("gone", "2")]).await;
        assert_eq!(store.all_keys().await.unwrap().len(), 2);
        server.say("DEL nano_graphrag:docs:gone");
        server.say("ACL SETUSER default -zadd");
        assert_eq!(store.all_keys().await.unwrap(), ids(&["a"]));
        assert_eq!(told(&store, Event::RegistryRefused), 0);
        server.say("ACL SETUSER default +zadd");
        assert_eq!(store.all_keys().await.unwrap(), ids(&["a"]));
        assert_eq!(server.say(&format!("ZCARD {REGISTRY}")), ":2\r\n");
    });
}

#[test]
fn a_registry_that_fails_for_another_reason_is_an_error_and_no_walk() {
    let words = ["--rename-command", "ZADD", "zadd_by_another_name"];
    let server = Server::start_with(&binaries()[0], &words);
    let store = registering(&server);
    runtime().block_on(async {
        put(&server.store("docs"), &[("a", "1")]).await;
        for adopted in [false, true] {
            if adopted {
                // Said to hold all, and holding what is gone.
                let add = format!("zadd_by_another_name {REGISTRY} +inf \"\\xff0\" 9e15 gone");
                assert_eq!(server.say(&add), ":2\r\n");
            } else {
                assert!(store.stats(true).await.is_err());
                assert!(store.drop_all().await.is_err());
            }
            let error = store.all_keys().await.unwrap_err();
            assert!(error.to_string().contains("ZADD"), "{error}");
        }
        assert_eq!(told(&store, Event::RegistryRefused), 0);
    });
}

#[test]
fn a_value_that_is_set_and_not_registered_is_a_failure() {
    let server = Server::start(&binaries()[0]);
    let store = registering(&server);
    assert_eq!(server.say(&format!("SET {REGISTRY} x")), "+OK\r\n");
    runtime().block_on(async {
        let mut batch = Batch::new(0);
        batch.add(&store, "a".to_owned(), b"1").unwrap();
        let error = store.upsert(batch).await.1.unwrap_err();
        assert_eq!(error.kind(), Kind::Operation, "{error}");
    });
}

#[test]
fn whoever_keeps_no_registry_leaves_anothers_alone_and_tells_of_it_if_there_is_one() {
    let server = Server::start(&binaries()[0]);
    runtime().block_on(async {
        let plain = server.store("docs");
        put(&plain, &[("a", "1")]).await;
        assert_eq!(told(&plain, Event::RegistryUnknown), 0);
        let keeps = registering(&server);
        assert_eq!(keeps.all_keys().await.unwrap(), ids(&["a"]));
        let plain = server.store("docs");
        let score = format!("ZSCORE {REGISTRY} a");
        let registered = server.say(&score);
        put(&plain, &[("b", "2")]).await;
        assert_eq!(told(&plain, Event::RegistryUnknown), 1);
        assert_eq!(plain.delete(ids(&["a"])).await.unwrap(), 1);
        assert_eq!(server.say(&score), registered);
    });
}

#[test]
fn a_registry_of_a_full_server_forgets_what_is_deleted_without_a_mark() {
    on_each_server(async |server| {
        let mut config = StoreConfig::new(server.config(), "docs").unwrap();
        config.registry = true;
        let store = KvStore::new(config, &SharedConnections::default());
        let registered = || server.say("ZCARD nano_graphrag:@registry:docs");
        let large = format!("\"{}\"", "x".repeat(1 << 20));
        put(&store, &[("a", "1"), ("b", &large), ("c", &large)]).await;
        assert_eq!(store.stats(true).await.unwrap().key_count, 3);
        assert_eq!(store.delete(ids(&["a"])).await.unwrap(), 1);
        assert_eq!(registered(), ":3\r\n"); // with what says that it is whole
        let fill = || {
            let said = server.say("INFO memory");
            let used = said
                .lines()
                .find_map(|line| line.strip_prefix("used_memory:"));
            let used: usize = used.unwrap().parse().unwrap();
            server.say(&format!("CONFIG SET maxmemory {}", used - large.len() / 2))
        };
        assert_eq!(fill(), "+OK\r\n");
        assert_eq!(store.delete(ids(&["b"])).await.unwrap(), 1);
        assert_eq!(registered(), ":2\r\n");
        assert_eq!(fill(), "+OK\r\n");
        store.drop_all().await.unwrap();
        assert_eq!(registered(), ":1\r\n");
        assert_eq!(server.say("DBSIZE"), ":1\r\n");
    });
}

/// A port that leads to the server, which loses its registry whenever a page of that is asked for.
fn losing_its_registry(server: &Server) -> u16 {
    let (listener, at) = (TcpListener::bind("127.0.0.1:0").unwrap(), server.port());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), connected(at));
            let (mut back, mut there) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut back, &mut there));
            std::thread::spawn(move || {
                let mut asked = [0; 4096];
                while let Ok(length @ 1..) = client.read(&mut asked) {
                    let asked = &asked[..length];
                    if asked.windows(5).any(|word| word == b"ZSCAN") {
                        let mut other = connected(at);
                        write!(other, "DEL {REGISTRY}\r\n").unwrap();
                        assert_eq!(other.read(&mut [0; 4]).unwrap(), 4);
                    }
                    server.write_all(asked).unwrap();
                }
            });
        }
    });
    port
}

fn connected(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).unwrap()
}

#[test]
fn a_registry_that_is_lost_whenever_it_is_read_is_given_up_after_eight_times() {
    let server = Server::start(&binaries()[0]);
    let mut config = StoreConfig::new(server.config(), "docs").unwrap();
    config.registry = true;
    let url = format!("redis://127.0.0.1:{}", losing_its_registry(&server));
    config.server.endpoint = Endpoint::parse(&url).unwrap();
    let store = KvStore::new(config, &SharedConnections::default());
    runtime().block_on(async {
        put(&server.store("docs"), &[("a", "1")]).await;
        let listed = tokio::time::timeout(Duration::from_secs(20), store.all_keys());
        let error = listed.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("was lost 8 times"), "{error}");
        assert_eq!(calls(&server, "zscan"), 8);
    });
}

#[test]
fn a_registry_of_many_pages_is_listed_counted_checked_and_dropped() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.registry = true;
    let store = open(settings);
    runtime().block_on(async {
        assert_eq!(store.registry_drift().await.unwrap(), None);
        let all = many(2_500);
        let items: Vec<_> = all.iter().map(|id| (id.as_str(), "1")).collect();
        put(&store, &items).await;
        assert_eq!(listed(&store).await, all);
        assert_eq!(store.stats(true).await.unwrap().key_count, 2_500);
        server.say("DEL nano_graphrag:docs:id-0001 nano_graphrag:docs:id-0002");
        server.say("SET nano_graphrag:docs:other 1");
        let drift = store.registry_drift().await.unwrap().unwrap();
        assert_eq!((drift.unregistered, drift.without_value), (1, 2));
        // Who lists sweeps what has no value.
        assert_eq!(store.all_keys().await.unwrap().len(), 2_498);
        let drift = store.registry_drift().await.unwrap().unwrap();
        assert_eq!((drift.unregistered, drift.without_value), (1, 0));
        // A registry that was lost is made anew.
        server.say("DEL nano_graphrag:@registry:docs");
        assert_eq!(store.all_keys().await.unwrap().len(), 2_499);
        let looked = store.inspect(vec![
            b"nano_graphrag:docs:other".to_vec(),
            b"nano_graphrag:@registry:docs".to_vec(),
            b"none".to_vec(),
        ]);
        let kinds = looked.await.unwrap().into_iter().map(|said| said.kind);
        assert_eq!(kinds.collect::<Vec<_>>(), ["string", "zset", "none"]);
        server.say("EXPIRE nano_graphrag:docs:other 1000");
        assert_eq!(store.persist(ids(&["other", "id-0005"])).await.unwrap(), 1);
        store.drop_all().await.unwrap();
        assert_eq!(server.say("DBSIZE"), ":1\r\n");
    });
}
