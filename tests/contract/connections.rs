//! Connections and those who look at them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nano_graphrag_redis::client::{SharedConnections, keep_keyspace_stats};
use nano_graphrag_redis::config::endpoint::Endpoint;
use nano_graphrag_redis::config::{OutagePolicy, ServerConfig};
use nano_graphrag_redis::error::Kind;
use nano_graphrag_redis::log_events::Event;
use nano_graphrag_redis::metrics::{Operation, Status, StoreTotals};
use nano_graphrag_redis::store::{Call, KvStore};

use super::support::{
    PATIENCE, Server, binaries, calls, config, drive, get, ids, many, open, put, reactor, runtime,
    wait_for,
};

/// Where nobody listens.
fn nowhere() -> ServerConfig {
    ServerConfig::new("unix:///nowhere/socket").unwrap()
}

#[test]
fn what_is_seen_at_first_use_is_told_once() {
    let server = Server::start(&binaries()[0]);
    server.say("CONFIG SET maxmemory-policy allkeys-lru");
    server.say("CONFIG SET maxmemory 100000000");
    let (shared, mut stores) = (SharedConnections::default(), Vec::new());
    runtime().block_on(async {
        for (directory, told) in [("/one", 0), ("/two", 1), ("/two", 0)] {
            let mut settings = config(server.config());
            settings.working_dir = Some(directory.to_owned());
            let store = KvStore::new(settings, &shared);
            put(&store, &[("a", "1")]).await;
            let notices = store.notices();
            let count = |event| notices.iter().filter(|said| said.event == event).count();
            assert_eq!(count(Event::Origin), told, "{notices:?}");
            let first = usize::from(stores.is_empty());
            assert_eq!(count(Event::Connected), first, "{notices:?}");
            let at_risk = notices
                .iter()
                .find(|said| said.event == Event::ServerAtRisk);
            assert_eq!(usize::from(at_risk.is_some()), first, "{notices:?}");
            assert!(store.notices().is_empty());
            stores.push(store);
        }
    });
}

#[test]
fn a_password_a_database_and_a_socket_file_lead_to_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let path = socket.to_str().unwrap();
    let words = ["--unixsocket", path];
    let server = Server::start_with(&binaries()[0], &words);
    server.say("ACL SETUSER worker on >canary ~* +@all");
    runtime().block_on(async {
        let url = format!("unix://{path}?db=3");
        for endpoint in [Endpoint::parse(&url).unwrap(), {
            Endpoint::parse(&format!("redis://127.0.0.1:{}/4", server.port())).unwrap()
        }] {
            let mut settings = config(server.config());
            settings.server.endpoint = endpoint;
            settings.server.credentials.username = Some("worker".to_owned());
            settings.server.credentials.password = Some("canary".to_owned());
            let store = open(settings.clone());
            put(&store, &[("a", "1")]).await;
            assert_eq!(get(&store, "a").await.unwrap(), "1");
            assert!(server.say("CLIENT LIST").contains("user=worker"));
            settings.server.credentials.password = Some("wrong".to_owned());
            let error = open(settings).get("a").await.unwrap_err();
            let text = error.to_string();
            assert!(!error.is_outage() && !text.contains("wrong "), "{text}");
        }
        let said = server.say("INFO keyspace");
        assert!(
            said.contains("db3:keys=1") && said.contains("db4:keys=1"),
            "{said}"
        );
    });
}

#[test]
fn connections_that_the_server_ends_are_made_anew_and_counted() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.server.min_connections = 1;
    settings.server.prewarm = true;
    settings.server.health_check_interval = Duration::from_millis(50);
    let shared = SharedConnections::default();
    let store = KvStore::new(settings, &shared);
    let connections = shared.in_use().pop().unwrap();
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        wait_for("the minimum is open", async || {
            store.stats(true).await.unwrap().load.connections == 1
        })
        .await;
        for _ in 0..5 {
            server.say("CLIENT KILL TYPE normal SKIPME yes");
            assert_eq!(get(&store, "a").await.unwrap(), "1");
        }
        server.say("CLIENT PAUSE 1000 ALL");
        let reads: Vec<_> = (0..200)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { get(&store, "a").await })
            })
            .collect();
        wait_for("more are opened under load", async || {
            connections.load().connections > 1
        })
        .await;
        for read in reads {
            assert_eq!(read.await.unwrap().unwrap(), "1");
        }
        assert!(!connections.load().breaker_open);
        wait_for("idle ones are closed, down to the minimum", async || {
            let load = connections.load();
            (load.connections, load.busy, load.in_flight) == (1, 0, 0)
        })
        .await;
    });
}

#[test]
fn a_breaker_closes_when_the_server_is_back() {
    let binary = &binaries()[0];
    let server = Server::start(binary);
    let mut settings = config(server.config());
    settings.server.max_retries = 1;
    settings.server.breaker_failures = 2;
    settings.server.breaker_recovery = Duration::from_millis(50);
    let store = open(settings);
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        store.notices();
        // Stopped, with its port kept: whoever connects to it waits.
        let server = server.replaced(binary, &[]);
        assert_eq!(get(&store, "a").await, None);
        let port = server.port();
        drop(server);
        for _ in 0..2 {
            assert!(store.get("a").await.unwrap_err().is_outage());
        }
        let refused = store.stats(true).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::CircuitOpen);
        let _server = Server::start_at(binary, port, &[]);
        wait_for("calls pass again", async || store.get("a").await.is_ok()).await;
        let events: Vec<_> = store.notices().iter().map(|said| said.event).collect();
        for event in [Event::BreakerOpen, Event::BreakerClosed] {
            assert_eq!(events.iter().filter(|said| **said == event).count(), 1);
        }
        let load = store.stats(true).await.unwrap().load;
        assert!(!load.breaker_open && load.retries > 0, "{load:?}");
    });
}

#[test]
fn attempts_that_find_nobody_are_repeated_after_pauses_and_told_of() {
    let mut settings = config(nowhere());
    settings.server.max_retries = 3;
    settings.server.breaker_failures = 9;
    let shared = SharedConnections::default();
    let store = KvStore::new(settings, &shared);
    let began = Instant::now();
    let error = runtime().block_on(store.get("a")).unwrap_err();
    assert!(error.is_outage() && error.to_string().contains("(attempts: 4)"));
    // Half of 25, 50 and 100 ms at least.
    assert!(began.elapsed() >= Duration::from_millis(80));
    assert_eq!(shared.in_use()[0].load().retries, 3);
}

#[test]
fn a_cluster_that_is_away_is_tried_again_and_after_some_calls_not_at_all() {
    let mut settings = config(nowhere());
    settings.server.cluster = true;
    settings.server.max_retries = 1;
    settings.server.breaker_failures = 2;
    settings.server.breaker_recovery = PATIENCE;
    let shared = SharedConnections::default();
    let store = KvStore::new(settings, &shared);
    runtime().block_on(async {
        let calls = [Kind::Unavailable, Kind::Unavailable, Kind::CircuitOpen];
        for (kind, retries) in calls.into_iter().zip([1, 2, 2]) {
            let error = store.get("a").await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert_eq!(shared.in_use()[0].load().retries, retries);
        }
    });
}

#[test]
fn a_direct_connection_that_died_while_idle_costs_a_call_no_attempt() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.server.max_retries = 0;
    let shared = SharedConnections::default();
    let store = KvStore::new(settings, &shared);
    let (runtime, reactor) = (runtime(), reactor());
    let retries = || shared.in_use()[0].load().retries;
    drive(&runtime, &reactor, put(&store, &[("a", "1")]));
    assert_eq!(retries(), 0);
    let kill = || server.say("CLIENT KILL TYPE normal SKIPME yes");
    kill();
    let found = drive(&runtime, &reactor, get(&store, "a"));
    assert_eq!((found.as_deref(), retries()), (Some("1"), 1));
    kill();
    drive(&runtime, &reactor, put(&store, &[("a", "2")]));
    assert_eq!(retries(), 2);
    kill();
    let deleted = drive(&runtime, &reactor, store.delete(ids(&["a"])));
    assert_eq!((deleted.unwrap(), retries()), (1, 3));
}

#[test]
fn a_connection_is_tried_before_a_command_that_is_sent_once_and_before_no_other() {
    let server = Server::start(&binaries()[0]);
    let pings = || {
        let said = server.say("INFO commandstats");
        let calls = said.split_once("cmdstat_ping:calls=");
        calls.map_or(0, |(_, calls)| {
            calls.split(',').next().unwrap().parse::<u32>().unwrap()
        })
    };
    runtime().block_on(async {
        // Without retries a write is sent once: it might land after what others have written since.
        for (max_retries, of_a_write) in [(3, 0), (0, 1)] {
            let mut settings = config(server.config());
            settings.server.max_retries = max_retries;
            let store = open(settings);
            put(&store, &[("a", "1")]).await;
            let mut before = pings();
            let mut more = || {
                let now = pings();
                now - std::mem::replace(&mut before, now)
            };
            put(&store, &[("a", "1")]).await;
            assert_eq!(more(), of_a_write, "{max_retries}");
            get(&store, "a").await.unwrap();
            assert_eq!(more(), 0, "{max_retries}");
            assert_eq!(store.delete(ids(&["a"])).await.unwrap(), 1);
            assert_eq!(more(), 1, "{max_retries}");
        }
    });
}

#[test]
fn load_tells_what_is_under_way_and_an_answer_too_late_is_no_connection_that_died() {
    let server = Server::start(&binaries()[0]);
    let shared = SharedConnections::default();
    let store = KvStore::new(config(server.config()), &shared);
    let mut settings = config(server.config());
    settings.server.socket_timeout = Duration::from_millis(50);
    settings.server.max_retries = 0;
    let other = SharedConnections::default();
    let impatient = KvStore::new(settings, &other);
    let load = |shared: &SharedConnections| shared.in_use()[0].load();
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        let is_answered = async || impatient.get("a").await.is_ok();
        wait_for("it is connected", is_answered).await;
        server.say("CLIENT PAUSE 20000 WRITE");
        let writes: Vec<_> = (0..3)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { put(&store, &[("a", "2")]).await })
            })
            .collect();
        wait_for("three are under way", async || {
            let load = load(&shared);
            (load.busy, load.in_flight) == (1, 3)
        })
        .await;
        let before = load(&other).retries;
        let late = impatient.delete(ids(&["a"])).await.unwrap_err();
        assert_eq!(late.kind(), Kind::Timeout, "{late}");
        assert_eq!(load(&other).retries, before);
        server.say("CLIENT UNPAUSE");
        for write in writes {
            write.await.unwrap();
        }
        let load_then = load(&shared);
        assert_eq!(
            (load_then.busy, load_then.in_flight, load_then.retries),
            (0, 0, 0)
        );
        wait_for("it is connected again", is_answered).await;
        server.say("CLIENT PAUSE 20000 ALL");
        let before = load(&other).retries;
        let late = impatient.get("a").await.unwrap_err();
        assert_eq!(late.kind(), Kind::Timeout, "{late}");
        assert_eq!(load(&other).retries, before);
    });
}

#[test]
fn the_minimum_of_connections_is_opened_once_and_where_that_is_asked_for() {
    let server = Server::start(&binaries()[0]);
    for (prewarm, opened) in [(true, 3), (false, 1)] {
        let mut settings = config(server.config());
        settings.server.min_connections = 3;
        settings.server.prewarm = prewarm;
        let shared = SharedConnections::default();
        let store = KvStore::new(settings, &shared);
        let connections = || shared.in_use()[0].load().connections;
        runtime().block_on(async {
            put(&store, &[("a", "1")]).await;
            wait_for("they are open", async || connections() == opened).await;
            wait_for("they have ended", async || {
                server.say("CLIENT KILL TYPE normal SKIPME yes");
                connections() == 0
            })
            .await;
            for _ in 0..50 {
                get(&store, "a").await.unwrap();
            }
            assert_eq!(connections(), 1);
        });
    }
}

#[test]
fn a_server_that_is_busy_with_a_script_is_asked_again() {
    let server = Server::start(&binaries()[0]);
    server.say("CONFIG SET lua-time-limit 1");
    let mut settings = config(server.config());
    settings.server.max_retries = 20;
    let shared = SharedConnections::default();
    let store = KvStore::new(settings, &shared);
    std::thread::scope(|scope| {
        runtime().block_on(async {
            put(&store, &[("a", "1")]).await;
            scope.spawn(|| server.say("EVAL 'while true do end' 0"));
            wait_for("it is busy", async || {
                server.say("PING").starts_with("-BUSY")
            })
            .await;
            let found = tokio::spawn({
                let store = Arc::clone(&store);
                async move { get(&store, "a").await }
            });
            wait_for("it was asked again", async || {
                found.is_finished() || shared.in_use()[0].load().retries > 0
            })
            .await;
            server.say("SCRIPT KILL");
            assert_eq!(found.await.unwrap().unwrap(), "1");
        });
    });
}

#[test]
fn samples_leave_out_what_this_user_may_not_ask() {
    let server = Server::start(&binaries()[0]);
    server.say("ACL SETUSER sampler on nopass ~* +@all -info -dbsize -ping");
    let many = "for n = 1, 15000 do redis.call('SET', 'nano_graphrag:docs:' .. n, 1) end";
    server.say(&format!("EVAL \"{many}\" 0"));
    let mut settings = config(server.config());
    settings.server.credentials.username = Some("sampler".to_owned());
    settings.server.credentials.password = Some("any".to_owned());
    let shared = Arc::new(SharedConnections::default());
    let store = KvStore::new(settings, &shared);
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        let sampling = keep_keyspace_stats(&shared, || Some(Duration::from_millis(20)));
        let sampled = wait_for("there is a sample", async || {
            shared.in_use()[0].keyspace_stats().is_some()
        });
        tokio::select! {
            () = sampling => {}
            () = sampled => {}
        }
        let connections = shared.in_use().pop().unwrap();
        assert_eq!(connections.is_up(), Some(true));
        let stats = connections.keyspace_stats().unwrap();
        assert!(stats.servers.is_none());
        assert_eq!(stats.namespaces["docs"].keys, None);
    });
}

#[test]
fn a_call_is_counted_as_it_ended_and_a_miss_in_an_outage_as_forgiven() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    settings.outage_policy = OutagePolicy::Miss;
    settings.server.max_retries = 0;
    let shared = SharedConnections::default();
    let store = KvStore::new(settings, &shared);
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        let call = Call::begin(Arc::clone(&store), Operation::GetKey);
        assert_eq!(call.forgiven(Ok(1)).unwrap(), Some(1));
        call.end(Status::Ok);
        drop(call);
        drop(server);
        let call = Call::begin(Arc::clone(&store), Operation::GetKey);
        assert_eq!(call.forgiven(store.get("a").await).unwrap(), None);
        call.end(Status::Ok);
        drop(call);
        drop(Call::begin(Arc::clone(&store), Operation::GetKey));
        let totals = shared.metrics().stores.totals();
        let totals = StoreTotals(&totals["docs"]);
        for status in [Status::Ok, Status::Forgiven, Status::Cancelled] {
            assert_eq!(totals.calls(Operation::GetKey, status), 1, "{status:?}");
        }
        assert_eq!(totals.forgiven(Kind::Unavailable), 1);
    });
}

#[test]
fn samples_tell_what_each_namespace_takes() {
    let server = Server::start(&binaries()[0]);
    server.say("CONFIG SET maxmemory 100000000");
    let shared = Arc::new(SharedConnections::default());
    let store = KvStore::new(config(server.config()), &shared);
    let runtime = runtime();
    let sampling = runtime.spawn({
        let shared = Arc::clone(&shared);
        async move { keep_keyspace_stats(&shared, || Some(Duration::from_millis(20))).await }
    });
    runtime.block_on(async {
        let connections = shared.in_use().pop().unwrap();
        assert!(connections.is_up().is_none());
        let value = format!("\"{}\"", "x".repeat(1_000));
        let all = many(200);
        let items: Vec<_> = all.iter().map(|id| (&**id, &*value)).collect();
        put(&store, &items).await;
        server.say("SET other 1");
        wait_for("a sample has all", async || {
            let stats = connections.keyspace_stats();
            stats.is_some_and(|stats| stats.namespaces["docs"].keys == Some(200.0))
        })
        .await;
        let stats = connections.keyspace_stats().unwrap();
        let bytes = stats.namespaces["docs"].bytes.unwrap();
        assert!((200_000.0..300_000.0).contains(&bytes), "{bytes}");
        let server_stats = stats.servers.unwrap();
        assert_eq!(server_stats.max_memory, Some(100_000_000));
        assert!(server_stats.used_memory > 300_000 && server_stats.persistence_ok);
        assert_eq!(server_stats.evicted_keys, 0);
        assert_eq!(connections.is_up(), Some(true));
        // More than a sample reads is an estimate.
        let many = "for n = 1, 29800 do redis.call('SET', 'nano_graphrag:docs:more-' .. n, 1) end";
        server.say(&format!("EVAL \"{many}\" 0"));
        wait_for("an estimate", async || {
            let stats = connections.keyspace_stats();
            let keys = stats.and_then(|stats| stats.namespaces["docs"].keys);
            keys.is_some_and(|keys| (29_900.0..=30_001.0).contains(&keys))
        })
        .await;
        drop(server);
        wait_for("it is down", async || connections.is_up() == Some(false)).await;
        sampling.abort();
    });
}

#[test]
fn a_login_that_is_refused_is_left_alone_and_what_fails_after_it_is_tried_each_time() {
    let server = Server::start(&binaries()[0]);
    server.say("ACL SETUSER worker on >canary ~* +@all");
    let mut settings = config(server.config());
    settings.server.credentials.username = Some("worker".to_owned());
    let told = |password: &str, url: &str| {
        let mut settings = settings.clone();
        settings.server.credentials.password = Some(password.to_owned());
        settings.server.endpoint = Endpoint::parse(url).unwrap();
        server.say("CONFIG RESETSTAT");
        let store = open(settings);
        runtime().block_on(async {
            let kind = store.get("a").await.unwrap_err().kind();
            let first = calls(&server, "auth");
            for _ in 0..20 {
                assert_eq!(store.get("a").await.unwrap_err().kind(), kind);
            }
            (kind, first, calls(&server, "auth"))
        })
    };
    let url = format!("redis://127.0.0.1:{}", server.port());
    let (kind, first, all) = told("wrong", &url);
    // One for the question, and one for the look at the server that goes along with the first.
    assert_eq!((kind, first), (Kind::Auth, 2));
    assert!((3..10).contains(&all), "{all}");
    let (kind, first, all) = told("canary", &format!("{url}/99"));
    assert_eq!((kind, first), (Kind::Operation, 2));
    assert!(all > 20, "{all}");
}

#[test]
fn a_redis_server_that_speaks_no_tls_is_told_from_one_that_does_not_answer_in_time() {
    let server = Server::start(&binaries()[0]);
    let url = format!("rediss://127.0.0.1:{}", server.port());
    let mut settings = ServerConfig::new(&url).unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    settings.tls.ca = Some(own.join("src/client/transport/tls/localhost.pem"));
    let url = format!("rediss://127.0.0.1:{}", server.port());
    settings.endpoint = Endpoint::parse(&url).unwrap();
    settings.connection_timeout = Duration::from_millis(800);
    settings.max_retries = 0;
    runtime().block_on(async {
        // It answers what it takes for the end of a line, which not every handshake has.
        let asked: Vec<_> = (0..8)
            .map(|_| {
                let store = open(config(settings.clone()));
                tokio::spawn(async move { store.get("a").await })
            })
            .collect();
        for asked in asked {
            let text = asked.await.unwrap().unwrap_err().to_string();
            assert!(text.contains("does not speak TLS"), "{text}");
        }
    });
}

/// A proxy before a server, which hangs up at a command of this name.
fn proxy(port: u16, refused: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let pass_on = move |mut visitor: TcpStream| {
        let mut server = TcpStream::connect(("127.0.0.1", port))?;
        let (mut answers, mut to) = (server.try_clone()?, visitor.try_clone()?);
        thread::spawn(move || std::io::copy(&mut answers, &mut to));
        let mut said = [0; 4096];
        loop {
            let length = visitor.read(&mut said)?;
            if length == 0 || String::from_utf8_lossy(&said[..length]).contains(refused) {
                server.shutdown(Shutdown::Both)?;
                return visitor.shutdown(Shutdown::Both);
            }
            server.write_all(&said[..length])?;
        }
    };
    thread::spawn(move || {
        for visitor in listener.incoming() {
            thread::spawn(move || pass_on(visitor.unwrap()));
        }
    });
    own
}

#[test]
fn a_proxy_that_hangs_up_at_a_name_is_served_without_one() {
    let server = Server::start(&binaries()[0]);
    let mut settings = config(server.config());
    let url = format!("redis://127.0.0.1:{}", proxy(server.port(), "CLIENT"));
    settings.server.endpoint = Endpoint::parse(&url).unwrap();
    settings.server.max_retries = 0;
    let store = open(settings);
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        assert_eq!(get(&store, "a").await.unwrap(), "1");
    });
}
