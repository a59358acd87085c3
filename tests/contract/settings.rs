//! What settings turn on: changes, a sliding time to live, copies, limits.

use std::num::NonZeroU64;
use std::time::Duration;

use nano_graphrag_redis::client::SharedConnections;
use nano_graphrag_redis::config::{Changes, StoreConfig};
use nano_graphrag_redis::error::Kind;
use nano_graphrag_redis::log_events::Notice;
use nano_graphrag_redis::metrics::Count;
use nano_graphrag_redis::store::KvStore;

use super::support::{
    PATIENCE, Server, binaries, calls, config, get, ids, listed, many, open, put, runtime, wait_for,
};

#[test]
fn changes_are_recorded_one_entry_a_call() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.changes = Some(Changes {
        host: "here".to_owned(),
        name: "worker".to_owned(),
    });
    let store = open(settings);
    let put = async |items: &[(&str, &str)]| {
        put(&store, items).await;
        let mut recorded = store.record("upsert").unwrap();
        recorded.own(items[0].0.to_owned());
        items[1..].iter().for_each(|(id, _)| recorded.id(id));
    };
    runtime().block_on(async {
        put(&[("a\"", "1"), ("b", "2")]).await;
        store.delete(ids(&["b", "none"])).await.unwrap();
        let all = many(150);
        let items: Vec<_> = all.iter().map(|id| (id.as_str(), "1")).collect();
        put(&items).await;
        store.drop_all().await.unwrap();
        wait_for("all were sent", async || {
            store.counters().get(Count::ChangesRecorded) == 4
        })
        .await;
        assert_eq!(store.counters().get(Count::ChangesLost), 0);
        let entries = store.changes(Some("0"), 10).await.unwrap();
        let field = |at: usize, name: &str| {
            let fields = &entries[at].fields;
            let found = fields.iter().find(|(field, _)| field == name.as_bytes());
            String::from_utf8(found.unwrap().1.clone()).unwrap()
        };
        let said = |name: &str| [0, 1, 2, 3].map(|at| field(at, name));
        assert_eq!(said("op"), ["upsert", "delete", "upsert", "drop"]);
        assert_eq!(said("count"), ["2", "1", "150", "151"]);
        assert_eq!(said("name"), ["worker"; 4]);
        let who = format!("here:{}", std::process::id());
        assert_eq!(said("who"), [&*who; 4]);
        assert_eq!(field(0, "ids"), r#"["a\"","b"]"#);
        assert_eq!(field(1, "ids"), r#"["b"]"#);
        assert_eq!(field(2, "ids").matches("id-").count(), 100);
        let last = store.changes(None, 1).await.unwrap();
        assert_eq!(last[0], entries[3]);
        let later = store.changes(Some(&entries[1].id), 1).await.unwrap();
        assert_eq!(later[0], entries[2]);
        assert_eq!(server.say("SET nano_graphrag:@changes:docs x"), "+OK\r\n");
        put(&[("a", "1")]).await;
        wait_for("it is refused", async || {
            store.counters().get(Count::ChangesLost) == 1
        })
        .await;
        let notices = store.notices();
        let told = |notice: &&Notice| format!("{notice:?}").contains("changes are not recorded");
        assert_eq!(notices.iter().filter(told).count(), 1);
    });
}

#[test]
fn a_value_that_is_read_lives_longer_and_no_longer_than_it_may() {
    let server = Server::start(&binaries()[0]);
    for registry in [false, true] {
        let mut settings = config(server.config());
        (settings.ttl, settings.ttl_max_age) = (NonZeroU64::new(1_000), NonZeroU64::new(1_500));
        settings.registry = registry;
        let store = open(settings);
        runtime().block_on(async {
            put(&store, &[("old", "1"), ("new", "2")]).await;
            assert_eq!(server.say("EXPIRE nano_graphrag:docs:old 200"), ":1\r\n");
            get(&store, "new").await.unwrap();
            get(&store, "old").await.unwrap();
            let left = |id: &str| -> u64 {
                let said = server.say(&format!("TTL nano_graphrag:docs:{id}"));
                said[1..].trim().parse().unwrap()
            };
            // It was written 800 seconds ago.
            wait_for("it is renewed", async || left("old") > 200).await;
            assert!((690..=700).contains(&left("old")));
            assert!((990..=1_000).contains(&left("new")));
            assert_eq!(listed(&store).await, ids(&["new", "old"]));
            store.drop_all().await.unwrap();
            server.say("FLUSHALL");
        });
    }
}

#[test]
fn a_limit_answers_numbers_from_a_server_that_forgets_its_scripts() {
    let server = Server::start(&binaries()[0]);
    let store = open(config(server.config()));
    runtime().block_on(async {
        for _ in 0..2 {
            let error = store.limit("x", &ids(&["nonsense"])).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Operation, "{error}");
            assert!(!error.to_string().contains("NOSCRIPT"), "{error}");
            assert_eq!(server.say("SCRIPT FLUSH"), "+OK\r\n");
        }
    });
}

#[test]
fn copies_are_served_until_the_server_says_that_they_changed() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.near_cache_bytes = 1 << 20;
    let (store, plain) = (open(settings), open(config(server.config())));
    runtime().block_on(async {
        put(&plain, &[("a", "1")]).await;
        assert!(store.has_copies() && !plain.has_copies());
        wait_for("a copy is kept", async || {
            get(&store, "a").await.unwrap();
            store.local("a").is_some()
        })
        .await;
        put(&plain, &[("a", "2")]).await;
        wait_for("the copy is given up", async || store.local("a").is_none()).await;
        assert_eq!(get(&store, "a").await.unwrap(), "2");
        put(&store, &[("a", "3")]).await;
        assert_eq!(get(&store, "a").await.unwrap(), "3");
        wait_for("a copy is kept again", async || {
            get(&store, "a").await.unwrap();
            store.local("a").is_some()
        })
        .await;
        store.drop_all().await.unwrap();
        assert!(store.local("a").is_none());
        assert!(store.near_cache().is_some() && plain.near_cache().is_none());
    });
}

#[test]
fn one_connection_hears_of_changes_for_all_stores_and_ends_with_the_last() {
    let server = Server::start(&binaries()[0]);
    let mut of_server = server.config();
    of_server.socket_timeout = 4 * PATIENCE; // it looks at its server by itself, but not so soon
    let shared = SharedConnections::default();
    let open = |namespace| {
        let mut settings = StoreConfig::new(of_server.clone(), namespace).unwrap();
        settings.near_cache_bytes = 1 << 20;
        KvStore::new(settings, &shared)
    };
    let tracking = |count: u32| {
        let said = server.say("INFO clients");
        said.contains(&format!("tracking_clients:{count}\r\n"))
    };
    runtime().block_on(async {
        let store = open("docs");
        assert_eq!(store.get("a").await.unwrap(), None);
        wait_for("it is begun with the first call", async || tracking(1)).await;
        let other = open("other");
        put(&other, &[("a", "1")]).await;
        wait_for("a namespace that came later has copies", async || {
            get(&other, "a").await.unwrap();
            other.local("a").is_some()
        })
        .await;
        assert!(tracking(1));
        drop((store, other));
        wait_for("nobody listens any more", async || tracking(0)).await;
    });
}

#[test]
fn no_copy_is_served_while_the_server_is_silent() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.near_cache_bytes = 1 << 20;
    settings.server.socket_timeout = Duration::from_millis(100);
    let store = open(settings);
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        wait_for("a copy is kept", async || {
            get(&store, "a").await.unwrap();
            store.local("a").is_some()
        })
        .await;
        server.say("CLIENT PAUSE 20000 ALL");
        wait_for("it is not served", async || store.local("a").is_none()).await;
    });
}

#[test]
fn a_value_that_was_renewed_is_not_asked_after_again_before_that_can_be_of_use() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    (settings.ttl, settings.ttl_max_age) = (NonZeroU64::new(1_000), NonZeroU64::new(5_000));
    let store = open(settings);
    runtime().block_on(async {
        put(&store, &[("old", "1"), ("new", "2")]).await;
        assert_eq!(server.say("EXPIRE nano_graphrag:docs:old 200"), ":1\r\n");
        for (id, renewals) in [("old", 1), ("old", 1), ("old", 1), ("new", 1)] {
            get(&store, id).await.unwrap();
            wait_for("it is renewed", async || {
                store.counters().get(Count::TtlRenewals) == renewals
            })
            .await;
        }
        wait_for("the other one is asked after", async || {
            calls(&server, "pttl") >= 4
        })
        .await;
        assert_eq!(calls(&server, "pttl"), 4);
    });
}
