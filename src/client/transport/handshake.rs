//! What is said first on every connection: who we are, which database, and our name for CLIENT LIST.

use std::io;

use redis::{Cmd, ErrorKind, RedisError, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::client::command;
use crate::client::protocol::resp_parser::{Parsed, parse};
use crate::config::ServerConfig;
use crate::error::{Error, Kind};

/// How a record of TLS begins that says what is wrong.
const TLS_ALERT: &[u8] = b"\x15\x03";

/// The command that names a connection, after this process.
fn name() -> Cmd {
    let name = format!("{}:{}", env!("CARGO_PKG_NAME"), std::process::id());
    command("CLIENT", [&b"SETNAME"[..], name.as_bytes()])
}

/// Why a login came to nothing.
pub(in crate::client) enum Failure {
    /// The server answered with an error, or with what is no answer.
    Answered(RedisError),
    /// The connection ended before it answered.
    Broken(io::Error),
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Answered(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// What a connection says about itself when it logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Identification {
    /// Its name and the library's, for CLIENT LIST.
    Named,
    /// Nothing: a proxy may hang up at CLIENT. A PING takes its place, so that somebody has answered.
    Plain,
}

/// Logs in on a fresh connection. What only informs the server may be refused; the rest may not.
pub(in crate::client) async fn authenticate<S>(
    stream: &mut S,
    config: &ServerConfig,
    password: Option<&[u8]>,
    identification: Identification,
) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut commands = Vec::new();
    let auth = password.map(|password| auth(config, password));
    commands.extend(auth.clone());
    let database = config.endpoint.database.to_string();
    if config.endpoint.database != 0 {
        commands.push(command("SELECT", [database.as_bytes()]));
    }
    let needed = commands.len();
    match identification {
        Identification::Named => commands.extend(introduce()),
        Identification::Plain => commands.push(command("PING", [])),
    }
    let mut wire = Vec::new();
    for command in &commands {
        command.write_packed_command(&mut wire);
    }
    let written = async {
        stream.write_all(&wire).await?;
        stream.flush().await
    };
    // A server that hangs up says why before it does; what it said can still be read.
    let written = written.await;
    let replies = replies(stream, commands.len()).await;
    let replies = match (written, replies) {
        (Err(broken), Err(Failure::Broken(error))) if error.get_ref().is_none() => {
            return Err(broken.into());
        }
        (_, replies) => replies?,
    };
    for (index, reply) in replies.into_iter().enumerate() {
        let Value::ServerError(error) = reply else {
            continue;
        };
        // Said of what comes first: without a login nothing that follows is answered either.
        if index >= needed && error.code() != "NOAUTH" {
            continue;
        }
        if index == 0 && auth.is_some() {
            let said = format!("{} {}", error.code(), error.details().unwrap_or_default());
            return Err(RedisError::from((
                ErrorKind::AuthenticationFailed,
                "the server refused the login",
                said,
            ))
            .into());
        }
        if index + 1 == needed && error.code() == "ERR" {
            let message = no_database(config.endpoint.database, error.details());
            return Err(RedisError::from(Error::new(Kind::Operation, message)).into());
        }
        return Err(RedisError::from(error).into());
    }
    Ok(())
}

/// The commands that only inform the server.
fn introduce() -> impl Iterator<Item = Cmd> {
    // The name goes before what old servers do not know: an error in the first place is never for that.
    let library = [
        ("LIB-NAME", env!("CARGO_PKG_NAME")),
        ("LIB-VER", env!("CARGO_PKG_VERSION")),
    ];
    let library = library.map(|(what, text)| {
        let arguments = [&b"SETINFO"[..], what.as_bytes(), text.as_bytes()];
        command("CLIENT", arguments)
    });
    std::iter::once(name()).chain(library)
}

/// Why SELECT was refused, and what to do.
fn no_database(database: i64, said: Option<&str>) -> String {
    let said = said.unwrap_or("an error").trim_end_matches('.');
    let advice = if said.contains("cluster") {
        "it is part of a Redis Cluster, which has no database but 0: set redis_cluster and leave the number out of redis_url"
    } else {
        "use a lower number in redis_url, below `databases` of the server's configuration (16 unless set), or leave it out"
    };
    format!("redis_url names the database {database}, and the server answered {said}: {advice}")
}

fn auth(config: &ServerConfig, password: &[u8]) -> Cmd {
    let user = config.credentials.username.as_deref().map(str::as_bytes);
    command("AUTH", user.into_iter().chain([password]))
}

/// So many answers: a fresh connection gets no others.
async fn replies<S>(stream: &mut S, count: usize) -> Result<Vec<Value>, Failure>
where
    S: AsyncRead + Unpin,
{
    let (mut bytes, mut taken, mut replies) = (Vec::new(), 0, Vec::new());
    while replies.len() < count {
        if bytes.starts_with(TLS_ALERT) {
            let message = "the server speaks TLS on this port: use rediss:// in redis_url";
            return Err(RedisError::from(Error::new(Kind::Unavailable, message)).into());
        }
        match parse(&bytes[taken..])? {
            Parsed::Whole(reply, length) => {
                taken += length;
                replies.push(reply);
            }
            Parsed::Text(_, length) => {
                taken += length; // nothing that is asked here is answered by a text
                replies.push(Value::Okay);
            }
            Parsed::Part(_) => {
                if stream.read_buf(&mut bytes).await? == 0 {
                    // A server that takes no more clients says so unasked, and hangs up.
                    return match replies.into_iter().next() {
                        Some(Value::ServerError(error)) => Err(RedisError::from(error).into()),
                        _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                    };
                }
            }
        }
    }
    Ok(replies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_cut_among_the_answers_of_an_old_server_is_broken() {
        let said: [&[u8]; 3] = [b"+OK\r\n", b"-ERR unknown subcommand\r\n", b"-ERR unk"];
        let config = ServerConfig::new("redis://localhost").unwrap();
        for count in 0..said.len() {
            let (mut ours, mut theirs) = tokio::io::duplex(1024);
            theirs.write_all(&said[..count].concat()).await.unwrap();
            theirs.shutdown().await.unwrap();
            let end = authenticate(&mut ours, &config, None, Identification::Named).await;
            assert!(matches!(end, Err(Failure::Broken(_))), "after {count}");
        }
    }

    #[tokio::test]
    async fn a_server_that_takes_no_more_clients_is_quoted() {
        let config = ServerConfig::new("redis://localhost").unwrap();
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        let full = b"-ERR max number of clients reached\r\n";
        theirs.write_all(full).await.unwrap();
        theirs.shutdown().await.unwrap();
        let Err(Failure::Answered(error)) =
            authenticate(&mut ours, &config, None, Identification::Named).await
        else {
            panic!("it said why");
        };
        assert!(error.to_string().contains("max number of clients"));
    }

    #[tokio::test]
    async fn what_was_refused_of_a_login_and_a_database_is_told_apart() {
        let config = ServerConfig::new("redis://localhost/99").unwrap();
        let refused = |said: &'static str| {
            let config = config.clone();
            async move {
                let (mut ours, mut theirs) = tokio::io::duplex(1024);
                theirs.write_all(said.as_bytes()).await.unwrap();
                theirs.shutdown().await.unwrap();
                let named = Identification::Plain;
                match authenticate(&mut ours, &config, Some(b"secret"), named).await {
                    Err(Failure::Answered(error)) => Error::from_redis(&error).to_string(),
                    _ => panic!("it was refused"),
                }
            }
        };
        let wrong = "-WRONGPASS invalid\r\n-NOAUTH log in\r\n-NOAUTH log in\r\n";
        assert!(refused(wrong).await.contains("WRONGPASS"));
        let no_database = "+OK\r\n-ERR DB index is out of range\r\n+PONG\r\n";
        assert!(refused(no_database).await.contains("database 99"));
    }

    #[tokio::test]
    async fn a_port_that_answers_with_an_alert_of_tls_is_named() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        theirs
            .write_all(b"\x15\x03\x01\x00\x02\x02\x46")
            .await
            .unwrap();
        let Err(Failure::Answered(error)) = replies(&mut ours, 1).await else {
            panic!("that is no answer");
        };
        assert!(Error::from_redis(&error).to_string().contains("rediss://"));
    }

    /// Of what is left to read, an error.
    struct Broken;

    impl AsyncRead for Broken {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Err(io::Error::other("an alert of TLS")))
        }
    }

    #[tokio::test]
    async fn of_a_login_that_cannot_be_sent_the_error_is_told_that_says_more() {
        let config = ServerConfig::new("redis://localhost").unwrap();
        let broken = async |reader: Box<dyn AsyncRead + Unpin>| {
            let (writer, other) = tokio::io::duplex(1024);
            drop(other);
            let mut stream = tokio::io::join(reader, writer);
            match authenticate(&mut stream, &config, None, Identification::Named).await {
                Err(Failure::Broken(error)) => error,
                _ => panic!("it is broken"),
            }
        };
        let end: &[u8] = b"";
        let error = broken(Box::new(end)).await;
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let error = broken(Box::new(Broken)).await;
        assert_eq!(error.to_string(), "an alert of TLS");
        let full: &[u8] = b"-ERR max number of clients reached\r\n";
        let (writer, _) = tokio::io::duplex(1024);
        let mut stream = tokio::io::join(full, writer);
        let said = authenticate(&mut stream, &config, None, Identification::Named).await;
        assert!(matches!(said, Err(Failure::Answered(_))));
    }

    #[tokio::test]
    async fn only_an_error_of_select_itself_is_one_of_the_database() {
        let config = ServerConfig::new("redis://localhost/99").unwrap();
        for (said, of_the_database) in [
            ("-ERR DB index is out of range\r\n+PONG\r\n", true),
            ("-LOADING the data\r\n-LOADING the data\r\n", false),
            ("+OK\r\n-NOAUTH log in\r\n", false),
        ] {
            let (mut ours, mut theirs) = tokio::io::duplex(1024);
            theirs.write_all(said.as_bytes()).await.unwrap();
            let plain = Identification::Plain;
            let Err(Failure::Answered(error)) = authenticate(&mut ours, &config, None, plain).await
            else {
                panic!("it was refused: {said}");
            };
            let text = Error::from_redis(&error).to_string();
            assert_eq!(text.contains("database 99"), of_the_database, "{text}");
        }
    }

    #[tokio::test]
    async fn a_text_in_the_place_of_an_answer_is_one_and_what_follows_counts() {
        for (last, accepted) in [("+OK\r\n", true), ("-NOAUTH log in\r\n", false)] {
            let config = ServerConfig::new("redis://localhost").unwrap();
            let (mut ours, mut theirs) = tokio::io::duplex(1024);
            let said = format!("$2\r\nOK\r\n$0\r\n\r\n{last}");
            theirs.write_all(said.as_bytes()).await.unwrap();
            theirs.shutdown().await.unwrap();
            let end = authenticate(&mut ours, &config, None, Identification::Named).await;
            assert_eq!(end.is_ok(), accepted);
        }
    }
}
