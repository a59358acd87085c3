//! What goes over the wire, without any I/O: requests, replies, RESP.

pub(super) mod pipeline;
pub(super) mod request;
pub(super) mod resp_parser;
