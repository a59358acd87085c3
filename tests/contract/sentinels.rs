//! Sentinels that agree, disagree and are silent.

use std::collections::HashSet;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use nano_graphrag_redis::config::endpoint::Endpoint;
use nano_graphrag_redis::config::{Credentials, Sentinel, ServerConfig};
use tempfile::NamedTempFile;

use super::support::{
    Server, batch, binaries, config, get, ids, listed, many, open, put, runtime, wait_for,
};

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
pub(crate) fn asking(ports: &[u16]) -> ServerConfig {
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

/// A port at which this server answers later than one of the same machine, by less than others are waited for.
fn behind(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let pass_on = move |mut visitor: TcpStream| {
        thread::sleep(Duration::from_millis(50));
        let mut server = TcpStream::connect(("127.0.0.1", port))?;
        let (mut answers, mut to) = (server.try_clone()?, visitor.try_clone()?);
        thread::spawn(move || {
            let copied = std::io::copy(&mut answers, &mut to);
            to.shutdown(Shutdown::Both).and(copied)
        });
        std::io::copy(&mut visitor, &mut server)
    };
    thread::spawn(move || {
        for visitor in listener.incoming() {
            thread::spawn(move || pass_on(visitor.unwrap()));
        }
    });
    own
}

#[test]
fn of_several_sentinels_the_newest_word_counts_and_an_old_one_if_most_say_it() {
    let [old, new] = [(); 2].map(|()| Server::start(&binaries()[0]));
    let (before, _before) = sentinel(&old, 5, None);
    let (after, _after) = sentinel(&new, 7, None);
    let mut ports = [before.port(), behind(after.port())];
    runtime().block_on(async {
        let mut stores = Vec::new();
        for id in ["first", "last"] {
            // It is not waited for long, and may be late where cores are busy.
            wait_for("the newer word counts, which comes later", async || {
                let store = open(config(asking(&ports)));
                put(&store, &[(id, "1")]).await;
                stores.push(store);
                new.say(&format!("EXISTS nano_graphrag:docs:{id}")) == ":1\r\n"
            })
            .await;
            ports.reverse();
        }
        let store = stores.pop().unwrap();
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
        // Nobody listens at a port from which a connection was made.
        let visitor = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        let nowhere = visitor.local_addr().unwrap().port();
        server.say(&format!("REPLICAOF 127.0.0.1 {nowhere}"));
        let error = open(config(asking(&[named.port(), nowhere])))
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
