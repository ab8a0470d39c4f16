//! gRPC on top of HTTP/2: the head of a request, the reading of an answer.
//!
//! Owns what "gRPC over HTTP2" (gRPC, `PROTOCOL-HTTP2.md`) says about headers, messages and statuses. Never touches a
//! stream; it is fed header maps and bytes.

mod head;
mod message;
mod reply;
mod status;

pub(super) use head::{GRPC_TIMEOUT, common, timeout, told};
pub(super) use message::{PREFIX_LEN, prefix};
pub(super) use reply::Reply;
pub(super) use status::code_of_reset;
