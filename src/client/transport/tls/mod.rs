//! TLS: what is trusted and shown, the session, and what a refusal means.

mod certificate_files;
mod errors;
mod session;

pub(in crate::client) use certificate_files::Tls;
pub(in crate::client) use errors::Refusal;
pub(in crate::client) use session::Session;
