use std::net::TcpListener;

use tokio::time::sleep;

use super::super::hash_slot::SLOTS;
use super::*;
use crate::client::topology::Topology;

/// A place where nobody is.
pub(in crate::client::topology::cluster) fn place(name: &str) -> Endpoint {
    Endpoint::parse(&format!("unix:///nobody/{name}")).unwrap()
}

pub(in crate::client::topology::cluster) fn config() -> ServerConfig {
    let mut config = ServerConfig::new("unix:///nobody/seed").unwrap();
    config.cluster = true;
    config.max_retries = 0;
    config
}

/// A map by which `one` has the lower half of the slots, and `two` the upper one.
pub(in crate::client::topology::cluster) fn is_halved(cluster: &Cluster) {
    let half = SLOTS / 2;
    let ranges = vec![
        (0, half - 1, place("one"), vec![place("replica")]),
        (half, SLOTS - 1, place("two"), Vec::new()),
    ];
    let mut map = cluster.map.lock();
    let next = map.next(&cluster.config, ranges);
    cluster.install(&mut map, next);
}

pub(in crate::client::topology::cluster) fn halved() -> Arc<Cluster> {
    let cluster = Cluster::new(&config());
    is_halved(&cluster);
    cluster
}

/// Has it asked who has the slots, and this answered in a moment.
pub(in crate::client::topology::cluster) fn will_be_told(
    cluster: &Arc<Cluster>,
    answer: Result<()>,
) {
    cluster.refreshing.begin(async {
        sleep(Duration::from_millis(1)).await;
        answer
    });
}

fn no_server() -> Result<()> {
    Err(Error::new(Kind::Unavailable, "nobody is there"))
}

#[tokio::test]
async fn the_map_is_asked_for_at_first_and_then_known() {
    let cluster = Cluster::new(&config());
    assert!(cluster.map().await.is_err() && cluster.refresh().await.is_err());
    is_halved(&cluster);
    assert_eq!(cluster.map().await.unwrap().version, 1);
    assert!(cluster.refresh().await.is_err());
    let names = cluster.primaries().await.unwrap().into_iter();
    let names: Vec<_> = names.map(|node| node.endpoint().clone()).collect();
    assert_eq!(names, [place("one"), place("two")]);
}

#[test]
fn a_key_is_found_for_each_server_that_has_slots() {
    let cluster = halved();
    for node in cluster.nodes() {
        let key = cluster.key_on(&node, b"docs").unwrap();
        assert!(key.starts_with(b"docs:"));
        let known = cluster.known();
        assert!(Arc::ptr_eq(known.owner(slot_of(&key)).unwrap(), &node));
        assert_eq!(cluster.key_on(&node, b"{docs}").is_some(), {
            Arc::ptr_eq(known.owner(slot_of(b"docs")).unwrap(), &node)
        });
    }
    let guest = cluster.at(&place("guest"));
    assert_eq!(cluster.key_on(&guest, b"docs"), None);
}

#[tokio::test(start_paused = true)]
async fn calls_pass_again_where_a_map_was_found_or_the_server_answers() {
    let cluster = halved();
    let one = Arc::clone(&cluster.nodes()[0]);
    for (node, told, passes) in [
        (cluster.entry(), no_server(), false),
        (cluster.entry(), Ok(()), true),
        (&one, no_server(), false),
        (&one, Ok(()), false),
    ] {
        will_be_told(&cluster, told);
        assert_eq!(cluster.has_recovered(node).await, passes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_for_which_nobody_waits_keeps_its_distance_to_the_last_one() {
    let cluster = Cluster::new(&config());
    let began = Instant::now();
    assert!(cluster.ask_after(PAUSE).await.is_err());
    assert_eq!(Instant::now(), began);
    assert!(cluster.ask_after(PAUSE).await.is_err());
    assert!(Instant::now() >= began + PAUSE);
    let asked = Instant::now();
    assert!(cluster.refresh().await.is_err());
    assert_eq!(Instant::now(), asked);
}

#[tokio::test(start_paused = true)]
async fn another_server_is_asked_as_well_while_the_first_keeps_silent() {
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let mut config = config();
    config.endpoint = Endpoint::parse(&url).unwrap();
    config.seeds = vec![place("two")];
    let cluster = Cluster::new(&config);
    // The error is that of who has ended the wait for both, since the other was away at once.
    let error = cluster.query_servers().await.unwrap_err();
    assert!(error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn each_server_is_asked_once_and_those_last_that_refused_or_have_no_slots() {
    let mut config = config();
    config.seeds = vec![place("seed"), place("one"), place("other"), place("other")];
    let cluster = Cluster::new(&config);
    let asked = || {
        let candidates = cluster.candidates().into_iter();
        let names = candidates.map(|node| node.endpoint().clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(asked(), ["seed", "one", "other"].map(place));
    is_halved(&cluster);
    assert_eq!(
        asked(),
        ["one", "two", "replica", "seed", "other"].map(place)
    );
    cluster.suspect(&cluster.nodes()[0]);
    assert_eq!(
        asked(),
        ["two", "one", "replica", "seed", "other"].map(place)
    );
}

#[tokio::test]
async fn a_server_more_is_announced_before_it_can_be_asked_and_no_other_is() {
    let cluster = halved();
    let announced = Arc::new(Mutex::new(Vec::new()));
    cluster.on_new_server({
        let announced = Arc::clone(&announced);
        move |number| announced.lock().push(number)
    });
    cluster.moved(&[(0, place("two"))]);
    cluster.at(&place("one"));
    assert!(announced.lock().is_empty());
    cluster.at(&place("guest"));
    assert_eq!(*announced.lock(), [3]);
    cluster.moved(&[(1, place("guest")), (2, place("another"))]);
    assert_eq!(*announced.lock(), [3, 4]);
    cluster.moved(&[(0, place("another"))]);
    assert_eq!(*announced.lock(), [3, 4]);
}

#[tokio::test]
async fn a_failed_call_has_the_map_asked_for() {
    let cluster = halved();
    let topology = Topology::Cluster(Arc::clone(&cluster));
    topology.failed(&cluster.nodes()[0], true);
    let shared = cluster.refreshing.answer(async { Ok(()) }, PATIENCE);
    assert!(shared.await.is_err());
}
