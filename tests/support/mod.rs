//! A real server for a test, ended with it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nano_graphrag_redis::config::{ServerConfig, StoreConfig};
use nano_graphrag_redis::connection::SharedConnections;
use nano_graphrag_redis::store::KvStore;
use std::sync::Arc;

const START_TIMEOUT: Duration = Duration::from_secs(20);

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
            let mut answer = [0; 4096];
            let length = socket.read(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
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
