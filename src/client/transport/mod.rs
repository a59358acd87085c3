//! From the settings to an authenticated byte stream: sockets, TLS, the handshake.

pub(super) mod auth_limiter;
pub(super) mod connector;
mod credential_file;
pub(super) mod handshake;
pub(super) mod socket;
pub(super) mod stream;
pub(super) mod tls;
