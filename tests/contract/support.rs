//! A real server for a test, ended with it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use nano_graphrag_redis::client::{DriveOutcome, Reactor, SharedConnections, Waiting};
use nano_graphrag_redis::config::{ServerConfig, StoreConfig};
use nano_graphrag_redis::store::{Batch, KvStore};
use tokio::runtime::{Builder, Runtime};

const START_TIMEOUT: Duration = Duration::from_secs(20);

const READ_INTERVAL: Duration = Duration::from_millis(5);

/// For a thread that blocks.
pub(crate) fn reactor() -> Arc<Reactor> {
    Reactor::new(Waiting::AtMost(READ_INTERVAL))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, which drives the direct connections it opens.
pub(crate) fn drive<T>(
    runtime: &tokio::runtime::Runtime,
    reactor: &Arc<Reactor>,
    future: impl Future<Output = T>,
) -> T {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        {
            let _runtime = runtime.enter();
            let _driver = reactor.enter();
            if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return done;
            }
        }
        if reactor.drive() == DriveOutcome::NoConnections {
            thread::park_timeout(READ_INTERVAL);
        }
    }
}

/// The servers to test on, from `TEST_SERVERS`: paths separated by ':'.
pub(crate) fn binaries() -> Vec<PathBuf> {
    let listed =
        std::env::var("TEST_SERVERS").expect("TEST_SERVERS names no server: use `make test-rust`");
    let found: Vec<_> = listed
        .split(':')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect();
    assert!(
        !found.is_empty(),
        "TEST_SERVERS names no server: use `make test-rust`"
    );
    found
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A server on a loopback port of its own; killed and waited for when dropped.
pub(crate) struct Server {
    process: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start(binary: &Path) -> Self {
        Self::start_with(binary, &[])
    }

    /// With these words after its own, and files before them.
    pub(crate) fn start_with(binary: &Path, words: &[&str]) -> Self {
        // Whoever is given the port meanwhile has it.
        let mut tries = (0..20).map(|_| Self::try_start(binary, free_port(), words));
        let started = tries.find_map(|server| server);
        started.expect("a server that starts at one of twenty ports")
    }

    pub(crate) fn start_at(binary: &Path, port: u16, words: &[&str]) -> Self {
        let server = Self::try_start(binary, port, words);
        server.expect("its port is free")
    }

    /// None where it ends instead of serving, as a rule because it has no port.
    fn try_start(binary: &Path, port: u16, words: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let process = Command::new(binary)
            .args(words.iter().take_while(|word| word.starts_with('/')))
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(words.iter().skip_while(|word| word.starts_with('/')))
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self {
            process,
            port,
            directory,
        };
        let deadline = Instant::now() + START_TIMEOUT;
        // It, and no other that is at this port.
        let itself = format!("process_id:{}\r\n", server.process.id());
        while !server.say("INFO server").contains(&itself) {
            if server.process.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(
                Instant::now() < deadline,
                "{} does not answer at port {port}",
                binary.display()
            );
            thread::park_timeout(READ_INTERVAL);
        }
        Some(server)
    }

    /// Another at the same port, which has nothing of what this one had.
    pub(crate) fn replaced(self, binary: &Path, words: &[&str]) -> Self {
        let port = self.port;
        drop(self);
        Self::start_at(binary, port, words)
    }

    /// Sends one inline command and gives the raw answer; empty if there is no server.
    pub(crate) fn say(&self, command: &str) -> String {
        let exchange = || -> std::io::Result<String> {
            let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
            socket.set_read_timeout(Some(START_TIMEOUT))?; // who took the port may say nothing
            socket.write_all(format!("{command}\r\n").as_bytes())?;
            let mut reply = [0; 4096];
            let length = socket.read(&mut reply)?;
            Ok(String::from_utf8_lossy(&reply[..length]).into_owned())
        };
        exchange().unwrap_or_default()
    }

    pub(crate) fn config(&self) -> ServerConfig {
        ServerConfig::new(&format!("redis://127.0.0.1:{}", self.port)).unwrap()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn store(&self, namespace: &str) -> Arc<KvStore> {
        let config = StoreConfig::new(self.config(), namespace).unwrap();
        KvStore::new(config, &SharedConnections::default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = &self.directory; // outlives the server
    }
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at what comes by itself.
pub(crate) const INTERVAL: Duration = Duration::from_millis(5);

/// Runs the test on each server, over the connections of the pool and over a direct connection.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a closure reads better at its place"
)]
pub(crate) fn on_each_server(test: impl AsyncFn(&Server)) {
    for binary in binaries() {
        let runtime = runtime();
        runtime.block_on(test(&Server::start(&binary)));
        drive(&runtime, &reactor(), test(&Server::start(&binary)));
    }
}

pub(crate) fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

pub(crate) fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

pub(crate) fn config(server: ServerConfig) -> StoreConfig {
    StoreConfig::new(server, "docs").unwrap()
}

pub(crate) fn open(config: StoreConfig) -> Arc<KvStore> {
    KvStore::new(config, &SharedConnections::default())
}

pub(crate) fn batch(store: &KvStore, items: &[(&str, &str)]) -> Batch {
    let mut batch = Batch::new(0);
    for (id, json) in items {
        batch.add(store, (*id).to_owned(), json.as_bytes()).unwrap();
    }
    batch
}

pub(crate) async fn put(store: &Arc<KvStore>, items: &[(&str, &str)]) {
    let (_, outcomes) = store.upsert(batch(store, items)).await;
    outcomes.unwrap().into_iter().for_each(Result::unwrap);
}

pub(crate) async fn get(store: &KvStore, id: &str) -> Option<String> {
    let found = store.get(id).await.unwrap();
    found.map(|json| String::from_utf8(json.to_vec()).unwrap())
}

pub(crate) async fn listed(store: &KvStore) -> Vec<String> {
    let mut listed = store.all_keys().await.unwrap();
    listed.sort();
    listed
}

/// Waits until it is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(INTERVAL);
    }
}

pub(crate) async fn wait_for(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(INTERVAL).await;
    }
}

pub(crate) fn many(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("id-{n:04}")).collect()
}

/// Runs a test on a clock that stands still but for [`pass`], whatever the servers take.
pub(crate) fn on_a_still_clock(test: impl AsyncFnOnce()) {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        // Time passes by itself only while no thread may block.
        let (done, held) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || held.recv());
        test().await;
        drop(done);
        let _ = busy.await;
    });
}

/// Lets time pass, at once.
pub(crate) async fn pass(time: Duration) {
    for _ in 0..10 {
        tokio::task::yield_now().await; // who is to wait for it does so
    }
    tokio::time::advance(time).await;
}

/// Waits until it is so, while no time passes.
pub(crate) async fn wait_still(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::task::yield_now().await;
    }
}

/// How often a server has done a command.
pub(crate) fn calls(server: &Server, command: &str) -> u64 {
    let said = server.say("INFO commandstats");
    let stats = said.split_once(&format!("cmdstat_{command}:calls="));
    let calls = stats.and_then(|(_, rest)| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}
