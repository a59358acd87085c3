//! A connected socket that is read and written without a wait, or with one, by whoever drives its connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
#[cfg(unix)]
use std::os::{
    fd::{AsRawFd, RawFd},
    unix::net::UnixStream,
};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;

use super::stream::Stream;
use super::tls::Session;

/// Who drives the socket, and whether reading waits for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A caller's thread, which is told by others when there are some: it does not wait.
    Never,
    /// A caller's thread, which waits for so long at most.
    AtMost(Duration),
    /// A task of the runtime, which waits between reads.
    Runtime,
}

pub(in crate::client) struct Socket {
    wire: Wire,
    tls: Option<Box<Session>>,
}

/// What the system reads and writes.
pub(in crate::client) enum Wire {
    Tcp(TcpStream),
    TcpOfRuntime(tokio::net::TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    #[cfg(unix)]
    UnixOfRuntime(tokio::net::UnixStream),
}

impl Socket {
    /// A socket over a stream on which a user of this library is logged in.
    pub(in crate::client) fn new(stream: Stream, waiting: Waiting) -> io::Result<Self> {
        let (wire, tls) = match stream {
            Stream::Tcp(stream) => (Wire::tcp(stream, waiting)?, None),
            Stream::Tls(stream) => {
                let (stream, session) = stream.into_inner();
                let session = Session::new(session, matches!(waiting, Waiting::AtMost(_)));
                (Wire::tcp(stream, waiting)?, Some(Box::new(session)))
            }
            #[cfg(unix)]
            Stream::Unix(stream) => (Wire::unix(stream, waiting)?, None),
        };
        Ok(Self { wire, tls })
    }

    /// Reads as much as has come, up to the buffer's end.
    pub(in crate::client) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.tls {
            Some(session) => session.read(&self.wire, buffer),
            None => (&self.wire).read(buffer),
        }
    }

    /// Reads as [`Self::read`], and asks the system also where the runtime has not been told that something came.
    pub(in crate::client) fn read_what_is_left(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = Unwatched(&self.wire);
        match &self.tls {
            Some(session) => session.read(wire, buffer),
            None => wire.read(buffer),
        }
    }

    pub(in crate::client) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.tls {
            Some(session) => session.write(&self.wire, bytes),
            None => (&self.wire).write(bytes),
        }
    }

    /// Sends what it has taken and holds back, as far as that goes.
    pub(in crate::client) fn flush(&self) -> io::Result<()> {
        match &self.tls {
            Some(session) => session.flush(&self.wire),
            None => Ok(()),
        }
    }

    /// Whether it holds something back, to be sent when the socket takes it.
    pub(in crate::client) fn holds_back(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.holds_back())
    }

    /// Whether a task of the runtime drives it.
    pub(in crate::client) fn is_of_runtime(&self) -> bool {
        match self.wire {
            Wire::TcpOfRuntime(_) => true,
            #[cfg(unix)]
            Wire::UnixOfRuntime(_) => true,
            _ => false,
        }
    }

    /// Waits until there is something to read or, if `writing`, room to write, where the runtime watches the socket.
    pub(in crate::client) async fn ready(&self, writing: bool) {
        let interest = if writing {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        // What is wrong with it, if anything, is found when it is read.
        let _ = match &self.wire {
            Wire::TcpOfRuntime(stream) => stream.ready(interest).await,
            #[cfg(unix)]
            Wire::UnixOfRuntime(stream) => stream.ready(interest).await,
            _ => return,
        };
    }

    /// Ends the connection; whoever waits for the socket is woken.
    pub(in crate::client) fn shut(&self) {
        // It fails for a socket that the peer has ended already, which is as good.
        let _ = self.wire.of_system().shutdown(Shutdown::Both);
    }

    #[cfg(unix)]
    pub(in crate::client) fn descriptor(&self) -> RawFd {
        match &self.wire {
            Wire::Tcp(stream) => stream.as_raw_fd(),
            Wire::TcpOfRuntime(stream) => stream.as_raw_fd(),
            Wire::Unix(stream) => stream.as_raw_fd(),
            Wire::UnixOfRuntime(stream) => stream.as_raw_fd(),
        }
    }
}

impl Wire {
    fn tcp(stream: tokio::net::TcpStream, waiting: Waiting) -> io::Result<Self> {
        if waiting == Waiting::Runtime {
            return Ok(Self::TcpOfRuntime(stream));
        }
        let stream = stream.into_std()?;
        let limit = waiting.limit();
        stream.set_nonblocking(limit.is_none())?;
        stream.set_read_timeout(limit)?;
        stream.set_write_timeout(limit)?;
        Ok(Self::Tcp(stream))
    }

    fn of_system(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::TcpOfRuntime(stream) => SockRef::from(stream),
            #[cfg(unix)]
            Self::Unix(stream) => SockRef::from(stream),
            #[cfg(unix)]
            Self::UnixOfRuntime(stream) => SockRef::from(stream),
        }
    }

    #[cfg(unix)]
    fn unix(stream: tokio::net::UnixStream, waiting: Waiting) -> io::Result<Self> {
        if waiting == Waiting::Runtime {
            return Ok(Self::UnixOfRuntime(stream));
        }
        let stream = stream.into_std()?;
        let limit = waiting.limit();
        stream.set_nonblocking(limit.is_none())?;
        stream.set_read_timeout(limit)?;
        stream.set_write_timeout(limit)?;
        Ok(Self::Unix(stream))
    }
}

impl Waiting {
    fn limit(self) -> Option<Duration> {
        match self {
            Self::AtMost(limit) => Some(limit),
            Self::Never | Self::Runtime => None,
        }
    }
}

impl Read for &Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Tcp(stream) => { stream }.read(buffer),
            Wire::TcpOfRuntime(stream) => stream.try_read(buffer),
            #[cfg(unix)]
            Wire::Unix(stream) => { stream }.read(buffer),
            #[cfg(unix)]
            Wire::UnixOfRuntime(stream) => stream.try_read(buffer),
        }
    }
}

/// Read past the runtime, which has bytes read only once it has been told of them.
struct Unwatched<'a>(&'a Wire);

impl Read for Unwatched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.0.of_system()).read(buffer)
    }
}

impl Write for &Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Tcp(stream) => { stream }.write(bytes),
            Wire::TcpOfRuntime(stream) => stream.try_write(bytes),
            #[cfg(unix)]
            Wire::Unix(stream) => { stream }.write(bytes),
            #[cfg(unix)]
            Wire::UnixOfRuntime(stream) => stream.try_write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether an error means that the socket takes or gives nothing now.
pub(in crate::client) fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
