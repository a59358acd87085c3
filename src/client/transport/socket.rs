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

use super::connector::Connector;
use super::stream::Stream;
use super::tls::Session;

/// Whether reading waits for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// No: someone else tells when there are some.
    Never,
    /// For so long at most.
    AtMost(Duration),
}

pub(in crate::client) enum Socket {
    Tcp(TcpStream),
    Tls(TcpStream, Box<Session>),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Socket {
    /// A socket on which a user of this library is logged in.
    pub(in crate::client) async fn open(
        connector: &Connector,
        waiting: Waiting,
    ) -> Result<Self, RedisError> {
        let socket = match connector.connect().await? {
            Stream::Tcp(stream) => Self::Tcp(stream.into_std()?),
            Stream::Tls(stream) => {
                let (stream, session) = stream.into_inner();
                let session = Session::new(session, waiting != Waiting::Never);
                Self::Tls(stream.into_std()?, Box::new(session))
            }
            #[cfg(unix)]
            Stream::Unix(stream) => Self::Unix(stream.into_std()?),
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
            Self::Tcp(stream) | Self::Tls(stream, _) => {
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

    /// Reads as much as has come, up to the buffer's end.
    pub(in crate::client) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).read(buffer),
            Self::Tls(stream, session) => session.read(stream, buffer),
            #[cfg(unix)]
            Self::Unix(stream) => (&*stream).read(buffer),
        }
    }

    pub(in crate::client) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).write(bytes),
            Self::Tls(stream, session) => session.write(stream, bytes),
            #[cfg(unix)]
            Self::Unix(stream) => (&*stream).write(bytes),
        }
    }

    /// Sends what it has taken and holds back, as far as that goes.
    pub(in crate::client) fn flush(&self) -> io::Result<()> {
        match self {
            Self::Tls(stream, session) => session.flush(stream),
            _ => Ok(()),
        }
    }

    /// Whether it holds something back, to be sent when the socket takes it.
    pub(in crate::client) fn holds_back(&self) -> bool {
        matches!(self, Self::Tls(_, session) if session.holds_back())
    }

    /// Ends the connection; whoever waits for the socket is woken.
    pub(in crate::client) fn shut(&self) {
        // It fails for a socket that the peer has ended already, which is as good.
        let _ = match self {
            Self::Tcp(stream) | Self::Tls(stream, _) => stream.shutdown(Shutdown::Both),
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    #[cfg(unix)]
    pub(in crate::client) fn descriptor(&self) -> RawFd {
        match self {
            Self::Tcp(stream) | Self::Tls(stream, _) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// Whether an error means that the socket takes or gives nothing now.
pub(in crate::client) fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
