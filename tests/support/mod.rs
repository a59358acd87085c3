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
use nano_graphrag_redis::store::KvStore;

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

/// A server on a loopback port of its own; killed and waited for when dropped.
pub(crate) struct Server {
    process: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start(binary: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = Command::new(binary)
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
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self {
            process,
            port,
            directory,
        };
        let deadline = Instant::now() + START_TIMEOUT;
        while server.say("PING") != "+PONG\r\n" {
            assert!(
                Instant::now() < deadline,
                "{} does not answer",
                binary.display()
            );
            std::thread::yield_now();
        }
        server
    }

    /// Sends one inline command and gives the raw answer; empty if there is no server.
    pub(crate) fn say(&self, command: &str) -> String {
        let exchange = || -> std::io::Result<String> {
            let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
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
