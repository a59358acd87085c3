use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time;

use super::*;
use crate::metrics::{ServerCount, StoreCounters};
use crate::near_cache::Namespace;

/// What a login is answered.
const WELCOME: &[u8] = b"+OK\r\n+OK\r\n+OK\r\n";

fn counters() -> Arc<Counters> {
    Counters::of_server("server")
}

fn subscription(invalidation: &Invalidation, notices: &Arc<Notices>) -> Subscription {
    invalidation.cache_or_new(&counters());
    invalidation.subscription(notices).unwrap()
}

#[test]
fn tracking_is_begun_by_one() {
    let invalidation = Invalidation::default();
    let begun = [(); 3].map(|()| invalidation.is_due());
    assert_eq!(begun, [true, false, false]);
}

#[tokio::test]
async fn who_listens_hears_of_a_new_prefix_and_ends_with_the_set() {
    let invalidation = Invalidation::default();
    let subscription = subscription(&invalidation, &Arc::default());
    assert!(!subscription.wake.has_changed().unwrap());
    invalidation.notify();
    assert!(subscription.wake.has_changed().unwrap());
    invalidation.run(std::future::pending());
    let task = invalidation.task.lock().clone().unwrap();
    drop(invalidation);
    let ended = async {
        while !task.is_finished() {
            tokio::task::yield_now().await;
        }
    };
    let ended = timeout(Duration::from_secs(20), ended).await;
    ended.expect("it does not listen on");
}

#[test]
fn copies_go_with_the_session_that_kept_them_right() {
    let cache = Arc::new(NearCache::new(counters()));
    let namespace = Namespace::new(&cache, b"p:", 1 << 20, StoreCounters::new("docs"));
    let number = cache.tracking().begin(ONE_SERVER);
    let session = Session {
        cache: &cache,
        number,
    };
    let until = Instant::now() + Duration::from_secs(60);
    cache.tracking().renew(number, until);
    let tracked = cache.tracking().untracked(number);
    cache.tracking().tracks(number, &tracked);
    assert!(namespace.begin(&[b"p:a".to_vec()]).is_some());
    drop(session);
    assert!(namespace.begin(&[b"p:a".to_vec()]).is_none());
}

#[test]
fn keys_that_changed_are_told_one_by_one_and_what_is_not_understood_is_all() {
    let counters = counters();
    let cache = NearCache::new(Arc::clone(&counters));
    let key = |key: &[u8]| Value::BulkString(key.to_vec());
    let keys = Value::Array(vec![key(b"a"), key(b"b"), key(b"c")]);
    for (said, count) in [(vec![keys], 3), (vec![Value::Nil], 1), (vec![], 1)] {
        let before = counters.counted(ServerCount::NearInvalidations);
        invalidate(&cache, &said);
        let now = counters.counted(ServerCount::NearInvalidations);
        assert_eq!(now - before, count, "{said:?}");
    }
}

/// A listener at work, and the end of who is listened to.
struct Listening {
    server: TcpListener,
    notices: Arc<Notices>,
    task: AbortHandle,
    _invalidation: Invalidation,
}

impl Listening {
    async fn begin(set: impl FnOnce(&mut ServerConfig)) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", server.local_addr().unwrap());
        let mut config = ServerConfig::new(&url).unwrap();
        set(&mut config);
        let (invalidation, notices) = (Invalidation::default(), Arc::default());
        let subscription = subscription(&invalidation, &notices);
        let listener = subscription.listener(ONE_SERVER, &Node::new(config), None);
        Self {
            server,
            notices,
            task: tokio::spawn(listener.keep_on()).abort_handle(),
            _invalidation: invalidation,
        }
    }

    /// Its next connection, which is let in or not.
    async fn next(&self, is_let_in: bool) -> TcpStream {
        let (mut client, _) = stepped(self.server.accept()).await.unwrap();
        if is_let_in {
            client.write_all(WELCOME).await.unwrap();
            heard(&mut client, "HELLO").await;
        }
        client
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Awaits it while the test's clock goes on, a millisecond a turn of the runtime.
async fn stepped<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..100_000 {
        if let Some(done) = future.as_mut().now_or_never() {
            return done;
        }
        time::advance(Duration::from_millis(1)).await;
    }
    panic!("nothing comes");
}

/// Reads until this command has come.
async fn heard(client: &mut TcpStream, command: &str) {
    let mut came = Vec::new();
    while !came
        .windows(command.len())
        .any(|word| word == command.as_bytes())
    {
        assert_ne!(stepped(client.read_buf(&mut came)).await.unwrap(), 0);
    }
}

// As a proxy does that does not know the command.
#[tokio::test(start_paused = true)]
async fn connections_in_a_row_that_end_where_tracking_is_asked_for_are_told_once() {
    let listening = Listening::begin(|config| {
        config.breaker_recovery = Duration::from_secs(60);
    })
    .await;
    // One that was not let in says nothing of tracking.
    let let_in = [true, true, false, false, true, true, true, true, true];
    for (place, let_in) in let_in.into_iter().enumerate() {
        drop(listening.next(let_in).await);
        // What became of the one before is known by now.
        let told = usize::from(place == 7);
        assert_eq!(listening.notices.take().len(), told, "{place}");
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_last_longer_than_a_recovery_are_no_row() {
    let listening = Listening::begin(|config| {
        config.breaker_recovery = Duration::ZERO;
    })
    .await;
    for _ in 0..2 * HUNG_UP {
        drop(listening.next(true).await);
    }
    assert!(listening.notices.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_is_asked_for_life_twice_within_the_socket_timeout() {
    let half = Duration::from_millis(200);
    let listening = Listening::begin(|config| config.socket_timeout = 2 * half).await;
    let mut client = listening.next(true).await;
    client.write_all(b"+OK\r\n").await.unwrap();
    let mut asked = Vec::new();
    for _ in 0..3 {
        heard(&mut client, "PING").await;
        asked.push(time::Instant::now());
        client.write_all(b"+PONG\r\n").await.unwrap();
    }
    for pair in asked.windows(2) {
        let pause = pair[1] - pair[0];
        assert!((half..2 * half).contains(&pause), "{pause:?}");
    }
}
