//! Files beside the server: followed, compacted, copied, compared.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nano_graphrag_redis::config::{OutagePolicy, ServerConfig};
use nano_graphrag_redis::error::{Error, Kind};
use nano_graphrag_redis::files::Paths;
use nano_graphrag_redis::log_events::Event;
use nano_graphrag_redis::migration::{Check, Comparison, Copying, Export};
use nano_graphrag_redis::store::{KvStore, compact};

use super::support::{
    PATIENCE, Server, binaries, config, get, ids, listed, open, put, runtime, wait_for,
};

#[test]
fn files_follow_what_is_written_and_answer_while_the_breaker_is_open() {
    let server = Server::start(&binaries()[0]);
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths::new(directory.path(), "docs").unwrap();
    let mut settings = config(server.config());
    settings.dual_write = Some(paths.clone());
    settings.outage_policy = OutagePolicy::Json;
    settings.server.max_retries = 0;
    settings.server.breaker_failures = 1;
    settings.server.breaker_recovery = PATIENCE;
    let store = open(settings);
    runtime().block_on(async {
        put(&store, &[("a", "1"), ("b", "2"), ("c", "3")]).await;
        assert_eq!(store.delete(ids(&["b"])).await.unwrap(), 1);
        store.keep_up().await.unwrap();
        assert!(paths.have_changes());
        assert_eq!(store.dual_write().unwrap().late, 0);
        let compacted = compact(&store, &paths, true, true).await.unwrap().unwrap();
        assert_eq!(compacted.ids, 2);
        assert!(!paths.have_changes());
        put(&store, &[("d", "4")]).await;
        store.keep_up().await.unwrap();
        drop(server);
        let _ = store.get("a").await;
        assert_eq!(get(&store, "a").await.unwrap(), "1");
        assert_eq!(get(&store, "b").await, None);
        assert_eq!(get(&store, "d").await.unwrap(), "4");
        let there = store.exists(store.exists_request(&["a", "b"])).await;
        assert_eq!(there.unwrap(), [true, false]);
        assert_eq!(listed(&store).await, ids(&["a", "c", "d"]));
        assert!(store.served_from_files().unwrap() >= 4);
    });
}

/// Of a store that keeps files, and of one that does not.
fn filing(server: &Server) -> (tempfile::TempDir, Paths, Arc<KvStore>, Arc<KvStore>) {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths::new(directory.path(), "docs").unwrap();
    let mut settings = config(server.config());
    let plain = open(settings.clone());
    settings.dual_write = Some(paths.clone());
    (directory, paths, open(settings), plain)
}

/// What the host's file holds once it follows the log, without its spaces.
async fn followed(store: &KvStore, paths: &Paths, log: &str) -> String {
    std::fs::write(&paths.log, log).unwrap();
    compact(store, paths, true, true).await.unwrap().unwrap();
    assert!(!paths.have_changes());
    let text = std::fs::read_to_string(&paths.file).unwrap();
    text.split_whitespace().collect()
}

#[test]
fn a_file_that_is_made_holds_all_there_is_and_after_a_drop_what_there_still_is() {
    let server = Server::start(&binaries()[0]);
    let (_directory, paths, store, plain) = filing(&server);
    runtime().block_on(async {
        put(&plain, &[("a", "1"), ("b", "2")]).await;
        let log = "[\"set\",\"b\",2]\n";
        let file = followed(&store, &paths, log).await;
        assert_eq!(file, r#"{"b":2,"a":1}"#);
        assert_eq!(plain.delete(ids(&["b"])).await.unwrap(), 1);
        assert_eq!(followed(&store, &paths, "[\"drop\"]\n").await, r#"{"a":1}"#);
    });
}

#[test]
fn what_the_server_has_counts_for_more_than_the_log_and_what_it_lacks_does_not() {
    let server = Server::start(&binaries()[0]);
    let (_directory, paths, store, plain) = filing(&server);
    runtime().block_on(async {
        let there = [
            ("same", "1"),
            ("other", "2"),
            ("longer", "333"),
            ("sent", "4"),
        ];
        put(&plain, &there).await;
        let file = r#"{"deleted": 5, "sent": 6, "lost": 7, "kept": 8}"#;
        std::fs::write(&paths.file, file).unwrap();
        let log = r#"["set","same",1]
["set","other",1]
["set","longer",1]
["set?","sent"]
["set?","lost"]
["set","expired",9]
["delete?","deleted"]
"#;
        let file = followed(&store, &paths, log).await;
        let whole = r#"{"sent":4,"lost":7,"kept":8,"same":1,"other":2,"longer":333,"expired":9}"#;
        assert_eq!(file, whole);
    });
}

#[test]
fn what_may_lose_documents_is_told_once_a_server_answers() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let path = socket.to_str().unwrap();
    let url = format!("unix://{path}");
    let mut settings = config(ServerConfig::new(&url).unwrap());
    settings.server.max_retries = 0;
    let store = open(settings);
    runtime().block_on(async {
        assert!(store.get("a").await.unwrap_err().is_outage());
        let server = Server::start_with(&binaries()[0], &["--unixsocket", path]);
        let told = |event| {
            let notices = store.notices().into_iter();
            let of = notices.filter(|notice| notice.event == event);
            of.map(|notice| notice.line).collect::<Vec<_>>()
        };
        let at_risk = {
            let mut at_risk = Vec::new();
            wait_for("it is looked at", async || {
                let _ = store.get("a").await;
                at_risk = told(Event::ServerAtRisk);
                !at_risk.is_empty()
            })
            .await;
            at_risk
        };
        assert_eq!(at_risk.len(), 1, "{at_risk:?}");
        let line = format!("{url}?db=0: the append-only file is off");
        assert!(at_risk[0].starts_with(&line), "{at_risk:?}");
        get(&store, "a").await;
        assert!(told(Event::ServerAtRisk).is_empty());
        drop(server);
    });
}

#[test]
fn a_second_working_directory_is_told_of_and_leaves_a_trace() {
    let server = Server::start(&binaries()[0]);
    for (directory, differs) in [("/one", false), ("/one", false), ("/two", true)] {
        let mut settings = config(server.config());
        settings.working_dir = Some(directory.to_owned());
        let store = open(settings);
        runtime().block_on(get(&store, "a"));
        let mut notices = store.notices();
        notices.retain(|notice| notice.event == Event::Origin);
        let told = notices
            .iter()
            .any(|notice| notice.line.contains(r#""/one""#));
        assert_eq!((notices.len(), told), (usize::from(differs), differs));
        let trace = server.say(&format!("EXISTS nano_graphrag:@working_dir:{directory}"));
        assert_eq!(trace, format!(":{}\r\n", u8::from(differs)));
    }
    assert_eq!(
        server.say("GET nano_graphrag:@working_dir"),
        "$4\r\n/one\r\n"
    );
}

/// As written an hour ago: what is new may still be being written.
fn age(file: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(3_600);
    let file = File::options().write(true).open(file).unwrap();
    file.set_modified(long_ago).unwrap();
}

#[test]
fn files_come_to_the_server_and_back_and_are_compared() {
    let server = Server::start(&binaries()[0]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kv_store_docs.json");
    std::fs::write(&file, r#"{"a": 1, "b": {"x": [2]}, "c": "é", "a": 4}"#).unwrap();
    let store = open(config(server.config()));
    runtime().block_on(async {
        put(&store, &[("b", "{\"x\":[2]}"), ("c", "0"), ("d", "5")]).await;
        assert_eq!(server.say("EXPIRE nano_graphrag:docs:c 500"), ":1\r\n");
        age(&file);
        for dry in [true, false] {
            let mut check = Check::new(file.clone()).unwrap();
            while check.step().unwrap().is_some() {}
            let checked = check.checked.unwrap();
            assert_eq!(checked.ids, 3);
            let mut copying = Copying::new(Arc::clone(&store), file.clone(), checked, dry).unwrap();
            while copying.step().await.unwrap().is_some() {}
            let copies = &copying.copies;
            assert_eq!(
                (
                    copies.written,
                    copies.replaced,
                    copies.unchanged,
                    copies.refused
                ),
                (1, 1, 1, 0)
            );
            assert_eq!(get(&store, "a").await.is_some(), !dry);
        }
        assert_eq!(get(&store, "a").await.unwrap(), "4");
        let left = server.say("TTL nano_graphrag:docs:c");
        let left: u64 = left[1..].trim().parse().unwrap();
        assert!((400..=500).contains(&left));
        let compare = async || {
            age(&file);
            let mut comparison = Comparison::new(Arc::clone(&store), file.clone()).unwrap();
            while comparison.step().await.unwrap().is_some() {}
            let compared = comparison.compared.unwrap();
            (
                compared.ids,
                compared.differing.count,
                compared.missing.count,
            )
        };
        assert_eq!(compare().await, ([3, 4], 0, 0));
        let paths = Paths::new(directory.path(), "docs").unwrap();
        let mut export = Export::new(Arc::clone(&store), paths, false).unwrap();
        while export.step().await.unwrap().is_some() {}
        assert_eq!(export.exported.unwrap().ids, 4);
        assert_eq!(compare().await, ([4, 4], 0, 0));
        assert_eq!(listed(&store).await, ids(&["a", "b", "c", "d"]));
        put(&store, &[("a", "6")]).await;
        store.delete(ids(&["b"])).await.unwrap();
        assert_eq!(compare().await, ([4, 3], 1, 1));
    });
}

#[test]
fn what_is_copied_over_a_value_is_registered_for_as_long_as_that_lives() {
    let server = Server::start(&binaries()[0]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kv_store_docs.json");
    std::fs::write(&file, r#"{"a": 2}"#).unwrap();
    age(&file);
    let mut settings = config(server.config());
    settings.registry = true;
    let store = open(settings);
    runtime().block_on(async {
        put(&store, &[("a", "1")]).await;
        assert_eq!(server.say("EXPIRE nano_graphrag:docs:a 500"), ":1\r\n");
        let mut check = Check::new(file.clone()).unwrap();
        while check.step().unwrap().is_some() {}
        let checked = check.checked.unwrap();
        let mut copying = Copying::new(Arc::clone(&store), file, checked, false).unwrap();
        while copying.step().await.unwrap().is_some() {}
        assert_eq!(copying.copies.replaced, 1);
        let said = server.say("ZSCORE nano_graphrag:@registry:docs a");
        let until: f64 = said.lines().nth(1).unwrap().parse().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let left = until / 1_000.0 - now.as_secs_f64();
        assert!((400.0..=500.0).contains(&left), "{left}");
    });
}

#[test]
fn what_cannot_be_read_is_replaced_by_what_is_copied_and_a_key_of_another_type_is_not() {
    let server = Server::start(&binaries()[0]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kv_store_docs.json");
    let mut settings = config(server.config());
    settings.max_value_bytes = 3;
    let store = open(settings);
    let copy = async || {
        std::fs::write(&file, r#"{"a": 1, "b": 2}"#).unwrap();
        age(&file);
        let mut check = Check::new(file.clone()).unwrap();
        while check.step().unwrap().is_some() {}
        let checked = check.checked.unwrap();
        let mut copying = Copying::new(Arc::clone(&store), file.clone(), checked, false).unwrap();
        while copying.step().await?.is_some() {}
        Ok((copying.copies.written, copying.copies.replaced))
    };
    runtime().block_on(async {
        put(&store, &[("a", "1234")]).await;
        assert_eq!(store.get("a").await.unwrap_err().kind(), Kind::Corrupt);
        let copied: Result<_, Error> = copy().await;
        assert_eq!(copied.unwrap(), (1, 1));
        assert_eq!(get(&store, "a").await.unwrap(), "1");
        store.delete(ids(&["b"])).await.unwrap();
        server.say("SADD nano_graphrag:docs:b 1");
        let error = copy().await.unwrap_err();
        assert_eq!((error.kind(), error.id()), (Kind::Operation, Some("b")));
        assert_eq!(server.say("TYPE nano_graphrag:docs:b"), "+set\r\n");
    });
}
