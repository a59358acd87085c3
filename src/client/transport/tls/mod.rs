//! TLS: what is trusted and shown, the session, and what a refusal means.

mod client_config;
mod errors;
mod session;

pub(in crate::client) use client_config::Tls;
#[cfg(test)]
pub(in crate::client::transport) use client_config::tests as certificates;
pub(in crate::client) use errors::Refusal;
pub(in crate::client) use session::Session;
