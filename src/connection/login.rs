//! What is said first on every connection: who we are, which database, and our name for CLIENT LIST.

use redis::{Cmd, ErrorKind, RedisError, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::command;
use super::resp::{Parsed, parse};
use crate::config::ServerConfig;

/// The command that names a connection, after this process.
pub(super) fn name() -> Cmd {
    let name = format!("{}:{}", env!("CARGO_PKG_NAME"), std::process::id());
    command("CLIENT", [&b"SETNAME"[..], name.as_bytes()])
}

/// Logs in on a fresh connection. What only informs the server may be refused; the rest may not.
pub(super) async fn log_in<S>(stream: &mut S, config: &ServerConfig) -> Result<(), RedisError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut commands = Vec::new();
    let auth = auth(config);
    commands.extend(auth.clone());
    let database = config.endpoint.database.to_string();
    if config.endpoint.database != 0 {
        commands.push(command("SELECT", [database.as_bytes()]));
    }
    let needed = commands.len();
    for (what, text) in [
        ("LIB-NAME", env!("CARGO_PKG_NAME")),
        ("LIB-VER", env!("CARGO_PKG_VERSION")),
    ] {
        commands.push(command(
            "CLIENT",
            [&b"SETINFO"[..], what.as_bytes(), text.as_bytes()],
        ));
    }
    commands.push(name());
    let mut wire = Vec::new();
    for command in &commands {
        command.write_packed_command(&mut wire);
    }
    stream.write_all(&wire).await?;
    let answers = answers(stream, commands.len()).await?;
    for (index, answer) in answers.into_iter().take(needed).enumerate() {
        let Value::ServerError(error) = answer else {
            continue;
        };
        if index == 0 && auth.is_some() {
            let said = format!("{} {}", error.code(), error.details().unwrap_or_default());
            return Err((
                ErrorKind::AuthenticationFailed,
                "the server refused the login",
                said,
            )
                .into());
        }
        return Err(error.into());
    }
    Ok(())
}

fn auth(config: &ServerConfig) -> Option<Cmd> {
    let password = config.credentials.password.as_deref()?;
    let user = config.credentials.username.as_deref();
    Some(command(
        "AUTH",
        user.into_iter().chain([password]).map(str::as_bytes),
    ))
}

/// So many answers: a fresh connection gets no others.
async fn answers<S>(stream: &mut S, count: usize) -> Result<Vec<Value>, RedisError>
where
    S: AsyncRead + Unpin,
{
    let (mut bytes, mut taken, mut answers) = (Vec::new(), 0, Vec::new());
    while answers.len() < count {
        match parse(&bytes[taken..])? {
            Parsed::Whole(answer, length) => {
                taken += length;
                answers.push(answer);
            }
            Parsed::Text(_, length) => {
                taken += length; // nothing that is asked here is answered by a text
                answers.push(Value::Okay);
            }
            Parsed::Part(_) => {
                if stream.read_buf(&mut bytes).await? == 0 {
                    // A server that takes no more clients says so unasked, and hangs up.
                    return match answers.into_iter().next() {
                        Some(Value::ServerError(error)) => Err(error.into()),
                        _ => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                    };
                }
            }
        }
    }
    Ok(answers)
}
