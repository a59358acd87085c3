//! From the settings to a connection that is logged in: the socket, TLS, and who we are.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::{Either, select};
use redis::RedisError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::client::TlsStream;

use super::auth_limiter::AuthLimiter;
use super::credential_file;
use super::handshake::{self, Identification};
use super::stream::Stream;
use super::tls::{Refusal, Tls};
use crate::config::ServerConfig;
use crate::config::endpoint::Address;
use crate::error::{Error, Kind};
use crate::mutex::Mutex;

/// What opens the connections to one server, of any sort.
pub(in crate::client) struct Connector {
    config: ServerConfig,
    tls: Option<Arc<Tls>>,
    auth_limiter: Arc<AuthLimiter>,
    /// The password that was read last, if one is read.
    last: Mutex<Option<Vec<u8>>>,
    /// Whether the server asked for a login last, and we have none: as bounded as refused logins.
    refused: AtomicBool,
    /// Whether a login with a name has ever come through: whoever hangs up later has another reason.
    named: AtomicBool,
    /// Whether only a login without one comes through.
    plain: AtomicBool,
    /// Whether the last handshake of TLS was left without an answer by a port that speaks none.
    silent: AtomicBool,
}

/// How long a server may take to answer in the handshake before it is asked without TLS.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why there is no connection.
enum Ended {
    /// It was made, and ended before the login was answered.
    HungUp(RedisError),
    FailedAttempt(RedisError),
}

impl From<RedisError> for Ended {
    fn from(error: RedisError) -> Self {
        Self::FailedAttempt(error)
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::FailedAttempt(error.into())
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::FailedAttempt(error.into())
    }
}

impl Connector {
    /// Opens nothing, and reads no file. `auth_limiter` are those at this server.
    pub(in crate::client) fn new(
        config: ServerConfig,
        auth_limiter: Arc<AuthLimiter>,
    ) -> Arc<Self> {
        let tls = config.endpoint.secure.then(|| Tls::new(config.tls.clone()));
        Arc::new(Self {
            tls,
            auth_limiter,
            last: Mutex::default(),
            refused: AtomicBool::new(false),
            named: AtomicBool::new(false),
            plain: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            config,
        })
    }

    /// A stream on which a user of this library is logged in, within the connection timeout. Attempts are in memory of
    /// their own, or the future of every call would have room for one.
    pub(in crate::client) async fn connect(&self) -> Result<Stream, RedisError> {
        let deadline = Instant::now() + self.config.connection_timeout;
        let mut password = self.password().await?;
        if password.is_none() && self.tls.is_none() && !self.refused.load(Relaxed) {
            let attempt = Box::pin(self.attempt(None, deadline)).await;
            let refused = attempt.as_ref().is_err_and(is_refusal);
            self.refused.store(refused, Relaxed);
            return attempt;
        }
        loop {
            let auth_attempt =
                timeout_at(deadline, self.auth_limiter.begin(password.as_deref())).await;
            let auth_attempt = auth_attempt.map_err(|_| self.not_in_time())??;
            let error = match Box::pin(self.attempt(password.as_deref(), deadline)).await {
                Ok(stream) => {
                    auth_attempt.accepted();
                    self.refused.store(false, Relaxed);
                    return Ok(stream);
                }
                Err(error) => error,
            };
            if !is_refusal(&error) {
                return Err(error);
            }
            auth_attempt.refused(password.as_deref(), &error);
            let now = self.password().await?;
            if now == password {
                return Err(error);
            }
            password = now; // the file was changed meanwhile
        }
    }

    /// A proxy that hangs up at CLIENT is served without a name.
    async fn attempt(
        &self,
        password: Option<&[u8]>,
        deadline: Instant,
    ) -> Result<Stream, RedisError> {
        if self.plain.load(Relaxed) {
            let opened = self.open(password, deadline, Identification::Plain).await;
            return opened.map_err(|ended| match ended {
                Ended::HungUp(error) => {
                    self.plain.store(false, Relaxed); // it was not for the name
                    error
                }
                Ended::FailedAttempt(error) => error,
            });
        }
        match self.open(password, deadline, Identification::Named).await {
            Ok(stream) => {
                self.named.store(true, Relaxed);
                Ok(stream)
            }
            Err(Ended::HungUp(error)) if !self.named.load(Relaxed) => {
                let opened = self.open(password, deadline, Identification::Plain).await;
                let stream = opened.map_err(|_| error)?;
                self.plain.store(true, Relaxed);
                Ok(stream)
            }
            Err(Ended::HungUp(error) | Ended::FailedAttempt(error)) => Err(error),
        }
    }

    async fn open(
        &self,
        password: Option<&[u8]>,
        deadline: Instant,
        identification: Identification,
    ) -> Result<Stream, Ended> {
        let (mut stream, refusal) = match &self.config.endpoint.address {
            Address::Tcp(host, port) => {
                let connected = TcpStream::connect((&**host, *port));
                let stream = timeout_at(deadline, connected).await;
                let stream = stream.map_err(|_| self.not_in_time())??;
                stream.set_nodelay(true)?;
                // Closed at once, with what was not sent yet: whoever closes it has no answers to come,
                // and a server that was stalled would do that later than what follows on another.
                stream.set_zero_linger()?;
                match &self.tls {
                    None => (Stream::Tcp(stream), None),
                    Some(tls) => {
                        let shaken = self.handshake(tls, stream, host, *port);
                        let shaken = timeout_at(deadline, shaken).await;
                        let stream = shaken.map_err(|_| self.no_tls_answer())??;
                        (Stream::Tls(Box::new(stream)), Some(tls.refusal(host)))
                    }
                }
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let stream = timeout_at(deadline, tokio::net::UnixStream::connect(path)).await;
                (Stream::Unix(stream.map_err(|_| self.not_in_time())??), None)
            }
            #[cfg(not(unix))]
            Address::Unix(_) => {
                let message = "redis_url: this system has no unix sockets";
                return Err(RedisError::from(Error::new(Kind::Config, message)).into());
            }
        };
        let authenticated =
            handshake::authenticate(&mut stream, &self.config, password, identification);
        let authenticated = timeout_at(deadline, authenticated).await;
        match authenticated.map_err(|_| self.not_in_time())? {
            Ok(()) => Ok(stream),
            Err(handshake::Failure::Answered(error)) => Err(error.into()),
            Err(handshake::Failure::Broken(error)) => {
                let explained = match refusal {
                    Some(refusal) => refusal.of_login(&error),
                    None => broken(&error),
                };
                Err(if explained.kind() == Kind::Unavailable {
                    Ended::HungUp(explained.into())
                } else {
                    explained.into()
                })
            }
        }
    }

    /// The handshake, and beside it the question whether the port speaks TLS at all: Redis, which waits
    /// for the end of a line, may answer the first words of TLS with silence.
    async fn handshake(
        &self,
        tls: &Arc<Tls>,
        stream: TcpStream,
        host: &str,
        port: u16,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let patience = if self.silent.load(Relaxed) {
            Duration::ZERO
        } else {
            PATIENCE.min(self.config.connection_timeout / 4)
        };
        let without = async {
            sleep(patience).await;
            if !answers_without_tls(host, port).await {
                std::future::pending::<()>().await; // the handshake decides
            }
        };
        match select(pin!(tls.handshake(stream, host)), pin!(without)).await {
            Either::Left((shaken, _)) => {
                self.silent.store(false, Relaxed);
                shaken
            }
            Either::Right(_) => {
                self.silent.store(true, Relaxed);
                Err(Refusal::without_tls())
            }
        }
    }

    /// The time is over and there is no connection: of this attempt nothing was sent.
    pub(in crate::client) fn not_in_time(&self) -> RedisError {
        let tls = match self.tls {
            Some(_) => ", and that it speaks TLS there (redis:// asks for none)",
            None => "",
        };
        let message = format!(
            "no connection in time: check that the server answers there and that redis_url is right{tls}"
        );
        Error::new(Kind::Timeout, message).into()
    }

    fn no_tls_answer(&self) -> RedisError {
        let seconds = self.config.connection_timeout.as_secs_f64();
        let message = format!(
            "no answer to the TLS handshake within redis_connection_timeout ({seconds} s): check that the server speaks TLS on the port of redis_url, or use redis://"
        );
        Error::new(Kind::Unavailable, message).into()
    }

    /// The password as it is now: one in a file may have changed since the last login. While it is
    /// being replaced the file may be empty, or not there: the last password serves on.
    async fn password(&self) -> Result<Option<Vec<u8>>, RedisError> {
        let credentials = &self.config.credentials;
        let Some(path) = credentials.password_file.clone() else {
            return Ok(credentials.password.clone().map(String::into_bytes));
        };
        let read = tokio::task::spawn_blocking(move || read_password(&path)).await;
        let read = read.map_err(|error| Error::new(Kind::Unavailable, error.to_string()))?;
        let mut last = self.last.lock();
        match (read, &*last) {
            (Ok(password), _) => *last = Some(password),
            (Err(_), Some(_)) => {}
            (Err(error), None) => return Err(error.into()),
        }
        Ok(last.clone())
    }
}

fn is_refusal(error: &RedisError) -> bool {
    Error::from_redis(error).kind() == Kind::Auth
}

/// Whether a Redis server answers there that speaks no TLS. Nothing is sent but a PING.
async fn answers_without_tls(host: &str, port: u16) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect((host, port)).await?;
        stream.set_zero_linger()?;
        stream.write_all(b"PING\r\n").await?;
        let mut first = [0];
        stream.read_exact(&mut first).await?;
        Ok::<_, io::Error>(first)
    };
    // A PONG, or an error such as NOAUTH. A record of TLS begins with neither.
    matches!(asked.await, Ok([b'+' | b'-']))
}

/// As a server that speaks TLS ends a connection that does not.
fn broken(error: &io::Error) -> Error {
    let message = format!(
        "the connection ended before the server answered ({error}): check that it runs, and use rediss:// in redis_url if it speaks TLS there"
    );
    Error::new(Kind::Unavailable, message)
}

/// Without one newline at the end, which every editor puts there. No error repeats the path: some
/// have put the password itself in its place.
fn read_password(path: &Path) -> Result<Vec<u8>, Error> {
    let refuse = |why: &str| Error::new(Kind::Config, format!("redis_password_file {why}"));
    let mut password =
        credential_file::read(path).map_err(|error| refuse(&format!("cannot be read: {error}")))?;
    if password.ends_with(b"\n") {
        password.pop();
        if password.ends_with(b"\r") {
            password.pop();
        }
    }
    if password.is_empty() {
        return Err(refuse("is empty"));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::client::transport::tls::certificates;

    #[test]
    fn a_password_is_read_without_the_one_newline_of_an_editor() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            read_password(file.path())
        };
        for text in ["secret", "secret\n", "secret\r\n"] {
            assert_eq!(read(text).unwrap(), b"secret");
        }
        assert_eq!(read("secret \n\n").unwrap(), b"secret \n");
        assert_eq!(read("\rsecret\r").unwrap(), b"\rsecret\r");
        for text in ["", "\n", "\r\n"] {
            let error = read(text).unwrap_err();
            assert_eq!(error.to_string(), "redis_password_file is empty");
        }
        let path = file.path().with_extension("none");
        let text = read_password(&path).unwrap_err().to_string();
        assert!(text.contains("cannot be read"), "{text}");
        assert!(!text.contains(path.to_str().unwrap()), "{text}");
    }

    /// A port at which all are let in and nobody is answered.
    async fn silent() -> (TcpListener, ServerConfig) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = ServerConfig::new(&format!("redis://{address}")).unwrap();
        (listener, config)
    }

    #[tokio::test]
    async fn only_connections_with_a_password_wait_for_each_other() {
        let (listener, mut config) = silent().await;
        config.connection_timeout = Duration::from_secs(60);
        let connector = Connector::new(config, Arc::default());
        let opening: Vec<_> = (0..8)
            .map(|_| {
                let connector = Arc::clone(&connector);
                tokio::spawn(async move { connector.connect().await.is_ok() })
            })
            .collect();
        let mut accepted = Vec::new();
        for _ in &opening {
            let next = timeout_at(Instant::now() + Duration::from_secs(10), listener.accept());
            accepted.push(next.await.expect("all are let in").unwrap());
        }
        for opening in opening {
            opening.abort();
        }
    }

    #[tokio::test]
    async fn a_port_that_says_nothing_at_all_is_not_said_to_speak_no_tls() {
        let (_listener, mut config) = silent().await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), certificates::CERTIFICATE).unwrap();
        config.tls.ca = Some(file.path().to_owned());
        config.endpoint.secure = true;
        config.connection_timeout = Duration::from_millis(200);
        let connector = Connector::new(config, Arc::default());
        let refused = connector.connect().await.err().expect("nobody answers");
        let error = Error::from_redis(&refused);
        let text = error.to_string();
        assert!(text.contains("no answer to the TLS handshake"), "{text}");
    }
}
