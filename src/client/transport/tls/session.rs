//! What TLS keeps between a socket and the thread that reads and writes it.

use std::io::{self, Read, Write};
use std::ops::Range;

use rustls::ClientConnection;

use crate::client::transport::socket::{Wire, waits};
use crate::mutex::Mutex;

/// Bytes read off the socket at a time: rustls by itself reads 4 kB.
const RECEIVED: usize = 64 * 1024;

/// A session after its handshake. The socket is passed in, since other threads may end that.
pub(in crate::client) struct Session {
    state: Mutex<State>,
    /// Whether a read waits for bytes, so that it may be repeated only while it has found none.
    waits: bool,
}

struct State {
    tls: ClientConnection,
    received: Box<[u8]>,
    /// Of these, what rustls has not taken yet.
    left: Range<usize>,
}

impl Session {
    pub(in crate::client) fn new(tls: ClientConnection, waits: bool) -> Self {
        let state = State {
            tls,
            received: vec![0; RECEIVED].into_boxed_slice(),
            left: 0..0,
        };
        Self {
            state: Mutex::new(state),
            waits,
        }
    }

    /// Fills the buffer with what has come. Nobody tells that bytes lie in here, so none are left
    /// but for want of room, and then the buffer is full.
    pub(in crate::client) fn read(
        &self,
        mut stream: impl Read,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let mut state = self.state.lock();
        let mut filled = 0;
        loop {
            match state.tls.reader().read(&mut buffer[filled..]) {
                Ok(0) => return Ok(filled), // the buffer is full, or the server has taken its leave
                Ok(count) => {
                    filled += count;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return some_or(filled, error),
            }
            let at_hand = !state.left.is_empty();
            if !at_hand && self.waits && filled > 0 {
                return Ok(filled);
            }
            if let Err(error) = state.take(&mut stream) {
                return some_or(filled, error);
            }
        }
    }

    /// Takes a piece of a request, unless an earlier one is still held back.
    pub(in crate::client) fn write(&self, stream: &Wire, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.flush(stream)?;
        if state.tls.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = state.tls.writer().write(bytes)?;
        state.flush(stream)?;
        Ok(taken)
    }

    /// Sends what is held back, as far as the socket takes it.
    pub(in crate::client) fn flush(&self, stream: &Wire) -> io::Result<()> {
        self.state.lock().flush(stream)
    }

    /// Whether bytes wait for the socket.
    pub(in crate::client) fn holds_back(&self) -> bool {
        self.state.lock().tls.wants_write()
    }
}

impl State {
    /// Gives rustls more of what has come, read off the socket when there is no more at hand.
    fn take(&mut self, stream: &mut impl Read) -> io::Result<()> {
        if self.left.is_empty() {
            self.left = 0..stream.read(&mut self.received)?;
        }
        let taken = self.tls.read_tls(&mut &self.received[self.left.clone()])?;
        self.left.start += taken;
        let processed = self.tls.process_new_packets();
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(())
    }

    fn flush(&mut self, mut stream: &Wire) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut stream) {
                Ok(_) => {}
                Err(error) if waits(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What was read counts; an error that stopped it comes again.
fn some_or(filled: usize, error: io::Error) -> io::Result<usize> {
    if filled > 0 { Ok(filled) } else { Err(error) }
}
