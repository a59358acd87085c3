//! A connected socket that its user's thread reads and writes itself.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
#[cfg(unix)]
use std::os::{
    fd::{AsRawFd, RawFd},
    unix::net::UnixStream,
};
use std::time::Duration;

use redis::RedisError;

use super::login;
use crate::config::ServerConfig;
use crate::endpoint::Address;

/// Whether reading waits for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// No: someone else tells when there are some.
    Never,
    /// For so long at most.
    AtMost(Duration),
}

pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Socket {
    /// A socket on which a user of this library is logged in.
    pub(super) async fn open(config: &ServerConfig, waiting: Waiting) -> Result<Self, RedisError> {
        let socket = match &config.endpoint.address {
            Address::Tcp(host, port) => {
                let mut stream = tokio::net::TcpStream::connect((&**host, *port)).await?;
                stream.set_nodelay(true)?;
                login::log_in(&mut stream, config).await?;
                Self::Tcp(stream.into_std()?)
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let mut stream = tokio::net::UnixStream::connect(path).await?;
                login::log_in(&mut stream, config).await?;
                Self::Unix(stream.into_std()?)
            }
            #[cfg(not(unix))]
            Address::Unix(_) => {
                return Err((
                    redis::ErrorKind::InvalidClientConfig,
                    "this system has no unix sockets",
                )
                    .into());
            }
        };
        socket.wait(waiting)?;
        Ok(socket)
    }

    fn wait(&self, waiting: Waiting) -> io::Result<()> {
        let (nonblocking, limit) = match waiting {
            Waiting::Never => (true, None),
            Waiting::AtMost(limit) => (false, Some(limit)),
        };
        match self {
            Self::Tcp(stream) => {
                stream.set_nonblocking(nonblocking)?;
                stream.set_read_timeout(limit)?;
                stream.set_write_timeout(limit)
            }
            #[cfg(unix)]
            Self::Unix(stream) => {
                stream.set_nonblocking(nonblocking)?;
                stream.set_read_timeout(limit)?;
                stream.set_write_timeout(limit)
            }
        }
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).read(buffer),
            #[cfg(unix)]
            Self::Unix(stream) => (&*stream).read(buffer),
        }
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).write(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => (&*stream).write(bytes),
        }
    }

    /// Ends the connection; whoever waits for the socket is woken.
    pub(super) fn shut(&self) {
        // It fails for a socket that the peer has ended already, which is as good.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    #[cfg(unix)]
    pub(super) fn descriptor(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}
