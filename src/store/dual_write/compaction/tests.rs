use super::*;
use crate::client::SharedConnections;
use crate::config::{ServerConfig, StoreConfig};
use crate::log_events::Event;

/// Of a server that is not there.
fn store(files: Option<&Paths>) -> Arc<KvStore> {
    let mut server = ServerConfig::new("unix:///nowhere/socket").unwrap();
    server.max_retries = 0;
    let mut config = StoreConfig::new(server, "docs").unwrap();
    config.dual_write = files.cloned();
    KvStore::new(config, &SharedConnections::default())
}

fn files() -> (tempfile::TempDir, Paths) {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths::new(directory.path(), "docs").unwrap();
    (directory, paths)
}

/// The host's file, without its spaces.
fn read(paths: &Paths) -> String {
    let text = fs::read_to_string(&paths.file).unwrap();
    text.split_whitespace().collect()
}

/// Writes the host's file as if that had been an hour ago.
fn write_long_ago(paths: &Paths, text: &str) {
    fs::write(&paths.file, text).unwrap();
    let file = File::options().write(true).open(&paths.file).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3_600);
    file.set_modified(long_ago).unwrap();
}

/// What was told of the files.
fn told(store: &KvStore) -> Vec<String> {
    let notices = store.notices().into_iter();
    let of_files = notices.filter(|notice| notice.event == Event::DualWrite);
    of_files.map(|notice| notice.line).collect()
}

// A stopped process keeps its locks; who closes a storage would wait for it at the end of its own.
#[tokio::test(start_paused = true)]
async fn who_has_a_lock_and_does_not_go_on_is_not_waited_for_for_ever() {
    let store = store(None);
    for held in ["kv_store_docs.lock", "kv_store_docs.changes.folding"] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(
            directory.path().join("kv_store_docs.changes"),
            "[\"drop\"]\n",
        )
        .unwrap();
        let lock = File::create(directory.path().join(held)).unwrap();
        lock.lock().unwrap();
        let paths = Paths::new(directory.path(), "docs").unwrap();
        let error = compact(&store, &paths, false, true).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("does not go on"), "{error}");
        lock.unlock().unwrap();
        let compacted = compact(&store, &paths, false, true).await.unwrap();
        assert_eq!(compacted.map(|compacted| compacted.ids), Some(0), "{held}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_a_lock_and_goes_on_after_a_while_is_waited_for() {
    let store = store(None);
    for (held, seconds) in [("lock", 4), ("changes.folding", 50)] {
        let (directory, paths) = files();
        fs::write(&paths.log, "[\"set\",\"a\",1]\n").unwrap();
        let path = directory.path().join(format!("kv_store_docs.{held}"));
        let lock = File::create(path).unwrap();
        lock.lock().unwrap();
        let goes_on = async {
            sleep(Duration::from_secs(seconds)).await;
            lock.unlock().unwrap();
        };
        let (compacted, ()) = tokio::join!(compact(&store, &paths, false, true), goes_on);
        assert_eq!(compacted.unwrap().unwrap().ids, 1, "{held}");
        assert_eq!(read(&paths), "{\"a\":1}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_stands_still_is_given_up_whatever_the_clock_said_when_it_was_looked_at() {
    let (store, (_directory, paths)) = (store(None), files());
    let lock = File::create(&paths.compacting).unwrap();
    lock.lock().unwrap();
    let late = async {
        for _ in 0..3 {
            sleep(PAUSE).await;
            tokio::time::advance(Duration::from_millis(7)).await;
        }
    };
    let limit = COMPACT_PATIENCE * 2;
    let compacted = tokio::time::timeout(limit, compact(&store, &paths, false, true));
    let (compacted, ()) = tokio::join!(compacted, late);
    let error = compacted.unwrap().unwrap_err().to_string();
    assert!(error.contains("does not go on"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_leaves_the_log_to_whoever_compacts_it() {
    let (store, (_directory, paths)) = (store(None), files());
    let lock = File::create(&paths.compacting).unwrap();
    lock.lock().unwrap();
    let since = Instant::now();
    let compacted = compact(&store, &paths, false, false).await.unwrap();
    assert_eq!((compacted, since.elapsed()), (None, Duration::ZERO));
    assert!(paths.compacting.exists());
}

#[tokio::test]
async fn a_log_that_was_left_behind_comes_first_and_the_next_one_with_who_waits() {
    for (wait, compacted, left) in [(true, "{\"a\":2}", false), (false, "{\"a\":1}", true)] {
        let (store, (_directory, paths)) = (store(None), files());
        fs::write(&paths.compacting, "[\"set\",\"a\",1]\n").unwrap();
        fs::write(&paths.log, "[\"set\",\"a\",2]\n").unwrap();
        compact(&store, &paths, false, wait).await.unwrap().unwrap();
        assert_eq!((&*read(&paths), paths.log.exists()), (compacted, left));
        assert!(!paths.compacting.exists());
    }
}

// A delete that nobody could be asked after, behind a value that was set since, took that value out of the file
// where the server came back without it.
#[tokio::test]
async fn what_nobody_could_be_asked_contradicts_nothing_that_was_logged_since() {
    let (_directory, paths) = files();
    fs::write(&paths.file, "{\"a\":0,\"b\":0,\"c\":0}").unwrap();
    fs::write(&paths.compacting, "[\"drop\"]\n[\"set?\",\"d\"]\n").unwrap();
    let since = "[\"set\",\"a\",1]\n[\"set?\",\"a\"]\n[\"delete\",\"b\"]\n[\"set?\",\"c\"]\n";
    fs::write(&paths.log, since).unwrap();
    let compacted = compact(&store(None), &paths, true, false).await;
    assert_eq!(compacted.unwrap().unwrap().ids, 3);
    let log = fs::read_to_string(&paths.log).unwrap();
    let mut again: Vec<_> = log.strip_prefix(since).unwrap().lines().collect();
    again.sort_unstable();
    assert_eq!(again, ["[\"delete?\",\"c\"]", "[\"delete?\",\"d\"]"]);
}

#[tokio::test]
async fn lines_without_an_end_are_told_of_and_nothing_is_where_there_are_none() {
    let (store, (_directory, paths)) = (store(None), files());
    for (log, skipped) in [
        ("[\"set\",\"a\",1]\n[\"set\",\"b\"\n", 1),
        ("[\"set\",\"c\",3]\n", 0),
    ] {
        fs::write(&paths.log, log).unwrap();
        let compacted = compact(&store, &paths, false, true).await.unwrap();
        assert_eq!(compacted.unwrap().skipped.count, skipped);
        let told = told(&store);
        assert_eq!(told.len() as u64, skipped, "{told:?}");
        for told in told {
            let log = paths.log.display();
            assert!(told.contains(&format!("1 line (2) of {log} ")), "{told}");
        }
    }
    assert_eq!(read(&paths), "{\"a\":1,\"c\":3}");
}

#[tokio::test]
async fn what_the_file_holds_and_no_key_can_is_kept_as_it_is() {
    let (store, (_directory, paths)) = (store(None), files());
    fs::write(&paths.file, "{\"a\": 1, \"\\ud800\": 2, \"b\": 3}").unwrap();
    fs::write(&paths.log, "[\"set\",\"a\",4]\n[\"delete\",\"b\"]\n").unwrap();
    let compacted = compact(&store, &paths, false, true).await.unwrap();
    assert_eq!(compacted.unwrap().ids, 2);
    assert_eq!(read(&paths), "{\"a\":4,\"\\ud800\":2}");
}

#[test]
fn a_log_that_another_has_compacted_is_done_and_one_that_cannot_be_read_is_not() {
    let (_directory, paths) = files();
    assert!(matches!(Turn::take(&paths), Ok(Turn::Done)));
    fs::create_dir(&paths.compacting).unwrap();
    let error = Turn::take(&paths).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("cannot open"), "{error}");
}

#[tokio::test]
async fn a_compaction_is_arranged_once() {
    let (_directory, paths) = files();
    let store = store(Some(&paths));
    let dual = store.dual_write.as_ref().unwrap();
    for _ in 0..3 {
        dual.schedule(COMPACT_DELAY);
    }
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_file_follows_the_log_by_itself() {
    let (_directory, paths) = files();
    let store = store(Some(&paths));
    write_long_ago(&paths, "{\"b\": 2}");
    fs::write(&paths.log, "[\"set\",\"a\",1]\n").unwrap();
    store.dual_write.as_ref().unwrap().schedule(COMPACT_DELAY);
    tokio::task::yield_now().await;
    tokio::time::advance(COMPACT_DELAY * 2).await;
    let deadline = StdInstant::now() + Duration::from_secs(20);
    while store.dual_write().unwrap().compactions == 0 {
        assert!(StdInstant::now() < deadline, "it is due");
        tokio::task::yield_now().await;
    }
    assert_eq!(read(&paths), "{\"b\":2,\"a\":1}");
    assert!(!paths.have_changes());
    assert_eq!(told(&store), Vec::<String>::new());
}

#[tokio::test]
async fn that_the_file_does_not_follow_is_told_once_as_is_its_end() {
    let (_directory, paths) = files();
    let store = store(Some(&paths));
    for file in ["no JSON", "no JSON", "no JSON", "{}", "{}"] {
        fs::write(&paths.log, "[\"set\",\"a\",1]\n").unwrap();
        write_long_ago(&paths, file);
        store.compact_when_due().await;
    }
    let told = told(&store);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("docs: the log of changes grows, the file does not follow: "));
    assert_eq!(told[1], "docs: the file follows the log of changes again");
    assert_eq!(store.dual_write().unwrap().compactions, 2);
    assert_eq!(read(&paths), "{\"a\":1}");
}
