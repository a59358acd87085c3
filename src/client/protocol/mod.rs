//! What goes over the wire, without any I/O: requests, replies, RESP.

pub(super) mod read_buffer;
pub(super) mod reply;
pub(super) mod request;
pub(super) mod resp;
