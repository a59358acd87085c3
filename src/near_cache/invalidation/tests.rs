use std::time::Duration;

use super::*;
use crate::near_cache::ONE_SERVER;

const KEY: &[u8] = b"p:n:id";

/// A namespace whose keys are tracked, as far as it knows.
fn tracked() -> (Arc<NearCache>, Namespace, u64) {
    let cache = Arc::new(NearCache::new(Counters::of_server("server")));
    let namespace = Namespace::new(&cache, b"p:n:", 1 << 20, StoreCounters::new("docs"));
    let session = on(&cache);
    (cache, namespace, session)
}

fn on(cache: &NearCache) -> u64 {
    let session = cache.tracking.begin(ONE_SERVER);
    cache
        .tracking
        .renew(session, Instant::now() + Duration::from_secs(60));
    cache
        .tracking
        .tracks(session, &cache.tracking.untracked(session));
    session
}

fn begin(namespace: &Namespace) -> Option<Fetch> {
    namespace.begin(&[KEY.to_vec()])
}

fn keep(namespace: &Namespace, fetch: &Fetch, json: &[u8]) {
    namespace.keep(fetch, 0, KEY, json, None);
}

fn fill(namespace: &Namespace, json: &[u8]) {
    keep(namespace, &begin(namespace).unwrap(), json);
    assert_eq!(namespace.get(KEY).as_deref(), Some(json));
}

#[test]
fn a_copy_is_served_until_its_key_is_invalidated() {
    let (cache, namespace, _) = tracked();
    fill(&namespace, b"1");
    cache.invalidate([&b"p:n:other"[..]]);
    assert!(namespace.get(KEY).is_some());
    cache.invalidate([KEY]);
    assert!(namespace.get(KEY).is_none());
    let stats = namespace.stats();
    assert_eq!((stats.hits, stats.misses, stats.invalidations), (2, 1, 2));
}

#[test]
fn a_reply_that_was_under_way_when_its_key_changed_is_not_kept() {
    let (cache, namespace, session) = tracked();
    let changes: [&dyn Fn(); 5] = [
        &|| cache.invalidate([KEY]),
        &|| cache.invalidate_all(),
        &|| drop(cache.change(vec![KEY.to_vec()])),
        &|| cache.empty(),
        &|| {
            cache.lost(session);
            on(&cache);
        },
    ];
    for change in changes {
        let fetch = begin(&namespace).unwrap();
        change();
        keep(&namespace, &fetch, b"old");
        assert!(namespace.get(KEY).is_none());
        fill(&namespace, b"new");
        cache.empty();
    }
}

#[test]
fn what_was_read_while_a_write_was_under_way_goes_when_the_write_ends() {
    let (cache, namespace, _) = tracked();
    let change = cache.change(vec![KEY.to_vec()]);
    let late = begin(&namespace).unwrap();
    fill(&namespace, b"old");
    drop(change);
    assert!(namespace.get(KEY).is_none());
    keep(&namespace, &late, b"old");
    assert!(namespace.get(KEY).is_none());
}

#[test]
fn nothing_is_kept_or_served_while_the_connection_is_away() {
    let (cache, namespace, session) = tracked();
    fill(&namespace, b"1");
    cache.lost(session);
    assert!(namespace.get(KEY).is_none() && begin(&namespace).is_none());
    assert!(!namespace.stats().tracking);
    let next = on(&cache);
    assert!(namespace.get(KEY).is_none());
    fill(&namespace, b"2");
    cache.lost(session);
    assert!(
        namespace.get(KEY).is_some(),
        "news of an old connection are no news of session {next}"
    );
}

#[test]
fn a_lease_that_has_run_out_serves_nothing_until_it_is_renewed() {
    let (cache, namespace, session) = tracked();
    fill(&namespace, b"1");
    cache.tracking.renew(session, Instant::now());
    assert!(namespace.get(KEY).is_none() && begin(&namespace).is_none());
    cache
        .tracking
        .renew(session, Instant::now() + Duration::from_secs(60));
    assert!(
        namespace.get(KEY).is_some(),
        "the connection was never lost"
    );
}

#[test]
fn of_two_reads_that_saw_different_values_neither_is_kept() {
    let (_, namespace, _) = tracked();
    let (first, second) = (begin(&namespace).unwrap(), begin(&namespace).unwrap());
    let third = begin(&namespace).unwrap();
    keep(&namespace, &first, b"new");
    keep(&namespace, &second, b"old");
    assert!(namespace.get(KEY).is_none());
    keep(&namespace, &third, b"old");
    assert!(namespace.get(KEY).is_none());
}

#[test]
fn a_prefix_that_is_not_tracked_yet_has_no_copies() {
    let (cache, _, session) = tracked();
    let second = Namespace::new(&cache, b"p:m:", 1 << 20, StoreCounters::new("docs"));
    assert!(second.begin(&[b"p:m:id".to_vec()]).is_none());
    let untracked = cache.tracking.untracked(session);
    assert_eq!(untracked[0].text(), b"p:m:");
    cache.tracking.tracks(session, &untracked);
    assert!(second.begin(&[b"p:m:id".to_vec()]).is_some());
}

#[test]
fn a_copy_does_not_outlive_its_key() {
    let (_, namespace, _) = tracked();
    let fetch = begin(&namespace).unwrap();
    namespace.keep(&fetch, 0, KEY, b"1", Some(Duration::ZERO));
    assert_eq!(namespace.stats().values, 1);
    assert!(namespace.get(KEY).is_none());
    assert_eq!(namespace.stats().values, 0, "nor does it take room");
}

#[test]
fn the_store_that_asks_for_most_decides_the_budget() {
    let (cache, namespace, _) = tracked();
    let small = Namespace::new(&cache, b"p:n:", 1 << 10, StoreCounters::new("docs"));
    assert_eq!(small.stats().budget, 1 << 20);
    fill(&namespace, b"1");
    assert!(small.get(KEY).is_some(), "one cache for both");
    let large = Namespace::new(&cache, b"p:n:", 1 << 21, StoreCounters::new("docs"));
    assert_eq!(large.stats().budget, 1 << 21);
}

/// A connection to this server that has been heard.
fn heard(cache: &NearCache, server: u32) -> u64 {
    let session = cache.tracking.begin(server);
    cache
        .tracking
        .tracks(session, &cache.tracking.untracked(session));
    let until = Instant::now() + Duration::from_secs(60);
    cache.tracking.renew(session, until);
    session
}

#[test]
fn of_several_servers_each_has_to_be_heard() {
    let (cache, namespace, _) = tracked();
    cache.expect(2, vec![1, 2]);
    assert!(begin(&namespace).is_none());
    let first = heard(&cache, 1);
    assert!(begin(&namespace).is_none());
    heard(&cache, 2);
    fill(&namespace, b"1");
    cache.tracking.renew(first, Instant::now());
    assert!(namespace.get(KEY).is_none(), "one of them is silent");
    cache.lost(first);
    heard(&cache, 1);
    assert!(
        namespace.get(KEY).is_none(),
        "it may have changed meanwhile"
    );
    fill(&namespace, b"2");
}

#[test]
fn a_server_that_is_new_takes_all_copies_until_it_is_heard() {
    let (cache, namespace, _) = tracked();
    cache.expect(1, vec![1]);
    heard(&cache, 1);
    fill(&namespace, b"1");
    let late = begin(&namespace).unwrap();
    cache.suspend(2);
    cache.expect(1, vec![1]); // by who had not heard of it
    assert!(begin(&namespace).is_none());
    cache.expect(2, vec![1, 2]);
    heard(&cache, 2);
    keep(&namespace, &late, b"1");
    assert!(namespace.get(KEY).is_none());
    fill(&namespace, b"2");
}
