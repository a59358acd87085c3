//! Real sockets, with a real server of TLS at the other end of some.

use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use futures_util::FutureExt;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use super::*;
use crate::client::transport::tls::{Tls, certificates};
use crate::config::TlsFiles;

const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes that a record of TLS has besides what it carries.
const RECORD: usize = 22;

type Server = StreamOwned<ServerConnection, TcpStream>;

fn serve(listener: &TcpListener) -> Server {
    let (mut stream, _) = listener.accept().unwrap();
    let certificate = CertificateDer::from_pem_slice(certificates::CERTIFICATE.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(certificates::key('A').as_bytes());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.unwrap()], key.unwrap());
    let mut config = config.unwrap();
    config.send_tls13_tickets = 0; // so that all that comes is what a test sends
    let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).unwrap();
    }
    StreamOwned::new(tls, stream)
}

async fn connect(address: SocketAddr, waiting: Waiting, room: usize) -> Socket {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certificates::CERTIFICATE).unwrap();
    let tls = Tls::new(TlsFiles {
        ca: Some(file.path().to_owned()),
        ..TlsFiles::default()
    });
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(262_144).unwrap();
    socket
        .set_send_buffer_size(u32::try_from(room).unwrap())
        .unwrap();
    let stream = socket.connect(address).await.unwrap();
    let stream = tls.handshake(stream, "localhost").await.unwrap();
    Socket::new(Stream::Tls(Box::new(stream)), waiting).unwrap()
}

/// Both ends of a connection with TLS, whose handshake is over.
fn over_tls(waiting: Waiting) -> (Socket, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let room = 16_384;
    SockRef::from(&listener).set_recv_buffer_size(room).unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || serve(&listener));
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let socket = runtime.block_on(connect(address, waiting, room));
    (socket, server.join().unwrap())
}

/// Bytes of which each piece differs.
fn bytes(length: usize) -> Vec<u8> {
    (0..).flat_map(u32::to_be_bytes).take(length).collect()
}

/// Sends these in so many records, and waits until all have come.
fn come(server: &mut Server, socket: &Socket, bytes: &[u8], records: usize) {
    for piece in bytes.chunks(bytes.len().div_ceil(records)) {
        server.write_all(piece).unwrap();
        server.flush().unwrap();
    }
    let wire = bytes.len() + records * RECORD;
    let mut seen = vec![std::mem::MaybeUninit::uninit(); wire + 1];
    let deadline = Instant::now() + PATIENCE;
    while socket.wire.of_system().peek(&mut seen).unwrap_or(0) < wire {
        assert!(
            Instant::now() < deadline,
            "{wire} bytes of the wire have not come"
        );
        thread::yield_now();
    }
}

#[test]
fn what_has_come_over_tls_is_read_whole_or_until_the_buffer_is_full() {
    let (socket, mut server) = over_tls(Waiting::Never);
    // More than is read off the socket at a time, too.
    for (length, records, room) in [
        (1, 1, 100),
        (30, 3, 100),
        (40_000, 10, 50_000),
        (100_000, 10, 262_144),
        (5_000, 2, 7),
        (5_000, 2, 4_999),
        (5_000, 2, 5_000),
        (100_000, 7, 65_536),
    ] {
        let sent = bytes(length);
        come(&mut server, &socket, &sent, records);
        let (mut read, mut buffer) = (Vec::new(), vec![0; room]);
        while read.len() < length {
            let count = socket.read(&mut buffer).unwrap();
            assert_eq!(count, room.min(length - read.len()), "{length}, {room}");
            read.extend_from_slice(&buffer[..count]);
        }
        assert!(read == sent, "{length}, {room}");
        assert!(waits(&socket.read(&mut buffer).unwrap_err()));
    }
}

#[test]
fn a_read_that_waits_does_so_for_the_first_bytes_alone() {
    let limit = Duration::from_secs(10);
    let (socket, mut server) = over_tls(Waiting::AtMost(limit));
    for (length, records) in [(10, 1), (40_000, 10)] {
        let sent = bytes(length);
        come(&mut server, &socket, &sent, records);
        let mut buffer = vec![0; 50_000];
        let began = Instant::now();
        assert_eq!(socket.read(&mut buffer).unwrap(), length);
        assert!(began.elapsed() < limit);
        assert!(buffer[..length] == sent);
    }
    let (socket, _server) = over_tls(Waiting::AtMost(Duration::from_millis(10)));
    assert!(waits(&socket.read(&mut [0; 10]).unwrap_err()));
}

#[test]
fn an_end_over_tls_is_told_after_the_bytes_before_it() {
    for takes_its_leave in [true, false] {
        let (socket, mut server) = over_tls(Waiting::AtMost(PATIENCE));
        come(&mut server, &socket, b"last", 1);
        if takes_its_leave {
            server.conn.send_close_notify();
            server.flush().unwrap();
        }
        server.sock.shutdown(Shutdown::Write).unwrap();
        let mut buffer = [0; 10];
        assert_eq!(socket.read(&mut buffer).unwrap(), 4);
        let end = socket.read(&mut buffer);
        if takes_its_leave {
            assert_eq!(end.unwrap(), 0);
        } else {
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}

/// Writes until the socket takes no more; what it took.
fn fill(socket: &Socket) -> Vec<u8> {
    let more = bytes(10_000);
    let mut taken = Vec::new();
    loop {
        match socket.write(&more) {
            Ok(count) => {
                assert!(count > 0, "it neither takes something nor waits");
                taken.extend_from_slice(&more[..count]);
            }
            Err(error) => {
                assert!(waits(&error), "{error}");
                return taken;
            }
        }
        assert!(taken.len() < 50_000_000, "nobody reads it");
    }
}

/// Sends what it holds back.
fn flush_all(socket: &Socket) {
    let deadline = Instant::now() + PATIENCE;
    while socket.holds_back() {
        assert!(Instant::now() < deadline, "it takes no more");
        socket.flush().unwrap();
        thread::yield_now();
    }
}

#[test]
fn what_a_full_socket_holds_back_is_sent_once_it_takes_more_and_only_once() {
    let (socket, mut server) = over_tls(Waiting::Never);
    assert!(!socket.holds_back());
    let mut sent = fill(&socket);
    assert!(socket.holds_back());
    let length = sent.len();
    let received = thread::spawn(move || {
        let mut received = vec![0; length + 3];
        server.read_exact(&mut received).unwrap();
        received
    });
    flush_all(&socket);
    assert_eq!(socket.write(b"end").unwrap(), 3);
    sent.extend_from_slice(b"end");
    flush_all(&socket);
    assert!(received.join().unwrap() == sent);
}

#[test]
fn a_full_socket_whose_peer_has_gone_is_broken_and_does_not_wait() {
    let (socket, server) = over_tls(Waiting::Never);
    fill(&socket);
    drop(server); // with bytes unread, which ends it at once
    let deadline = Instant::now() + PATIENCE;
    while socket.flush().is_ok() {
        assert!(Instant::now() < deadline, "it is not told");
        thread::yield_now();
    }
}

#[tokio::test]
async fn a_socket_of_the_runtime_is_ready_once_something_has_come() {
    let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let (peer, _) = listener.accept().await.unwrap();
    let peers: [Box<dyn tokio::io::AsyncWrite + Unpin>; 2] = [Box::new(theirs), Box::new(peer)];
    for (stream, mut peer) in [Stream::Unix(ours), Stream::Tcp(tcp)]
        .into_iter()
        .zip(peers)
    {
        let socket = Socket::new(stream, Waiting::Runtime).unwrap();
        assert!(socket.is_of_runtime());
        let mut ready = pin!(socket.ready(false));
        assert!(ready.as_mut().now_or_never().is_none());
        assert!(
            socket.ready(true).now_or_never().is_some() || {
                tokio::time::timeout(PATIENCE, socket.ready(true))
                    .await
                    .is_ok()
            }
        );
        peer.write_all(b"x").await.unwrap();
        tokio::time::timeout(PATIENCE, ready).await.unwrap();
    }
}

#[tokio::test]
async fn a_socket_waits_as_it_was_asked_to_and_keeps_its_descriptor() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limit = Duration::from_millis(40); // a multiple of every system's tick
    for (waiting, told) in [
        (Waiting::Never, None),
        (Waiting::AtMost(limit), Some(limit)),
        (Waiting::Runtime, None),
    ] {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let (unix, _peer) = tokio::net::UnixStream::pair().unwrap();
        let descriptors = [tcp.as_raw_fd(), unix.as_raw_fd()];
        let streams = [Stream::Tcp(tcp), Stream::Unix(unix)];
        for (stream, descriptor) in streams.into_iter().zip(descriptors) {
            let socket = Socket::new(stream, waiting).unwrap();
            assert_eq!(socket.descriptor(), descriptor);
            assert_eq!(socket.is_of_runtime(), waiting == Waiting::Runtime);
            assert!(!socket.holds_back());
            let wire = socket.wire.of_system();
            assert_eq!(wire.read_timeout().unwrap(), told);
            assert_eq!(wire.write_timeout().unwrap(), told);
        }
    }
}
