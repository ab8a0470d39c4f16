//! OTLP/HTTP, whichever version of HTTP carries it: the head of a request, the reading of an answer.
//!
//! Owns what the OTLP specification says under "OTLP/HTTP". Never frames anything and never touches a connection; it
//! is fed statuses, header fields and bytes by HTTP/1.1 and HTTP/2, and needs neither the standard library nor the
//! `http` crate.

mod head;
#[cfg(feature = "json")]
mod json;
mod reply;
mod words;

pub(super) use head::{Field, authority, common, own};
pub(super) use reply::Reply;
