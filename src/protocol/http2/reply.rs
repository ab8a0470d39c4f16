//! The reading of an answer, as gRPC or OTLP/HTTP has it.

use crate::config::Protocol;
use crate::protocol::status::TooLarge;
use crate::protocol::{Answer, grpc};
use http::{HeaderMap, Response};

/// How a request was put.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// The form of its message.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "gRPC has one form"))]
    pub protocol: Protocol,
    pub is_grpc: bool,
}

/// An answer that is being read.
pub(super) enum Reply {
    Grpc(grpc::Reply),
    #[cfg(feature = "http")]
    Http(alloc::boxed::Box<crate::protocol::otlp_http::Reply>),
}

impl Reply {
    /// Begins with the head of the answer; its message may be `len_max` bytes long.
    pub(super) fn new<B>(head: &Response<B>, asked: Asked, len_max: usize) -> Self {
        #[cfg(feature = "http")]
        if !asked.is_grpc {
            let status = head.status();
            let fields = head.headers().iter();
            let reply = crate::protocol::otlp_http::Reply::new(
                status.as_u16(),
                status.canonical_reason().unwrap_or_default(),
                fields.map(|(name, value)| (name.as_str(), value.as_bytes())),
                asked.protocol,
                len_max,
            );
            return Self::Http(alloc::boxed::Box::new(reply));
        }
        debug_assert!(asked.is_grpc, "a session without OTLP/HTTP is not opened for it");
        Self::Grpc(grpc::Reply::new(head, len_max))
    }

    /// Takes bytes of the body.
    ///
    /// # Errors
    ///
    /// When the answer is larger than allowed.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        match self {
            Self::Grpc(reply) => reply.take(bytes),
            #[cfg(feature = "http")]
            Self::Http(reply) => reply.take(bytes),
        }
    }

    /// Whether the head carried a status, so that the answer stands whatever becomes of the rest. In OTLP/HTTP every head
    /// does.
    pub(super) const fn has_status(&self) -> bool {
        match self {
            Self::Grpc(reply) => reply.has_status(),
            #[cfg(feature = "http")]
            Self::Http(_) => true,
        }
    }

    /// Bytes of the body that are held.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Grpc(reply) => reply.held(),
            #[cfg(feature = "http")]
            Self::Http(reply) => reply.held(),
        }
    }

    /// The answer, now that nothing more comes. `items` is the most that can have been refused.
    ///
    /// # Errors
    ///
    /// When the answer is larger than allowed, decompressed.
    pub(super) fn finish(self, trailers: Option<&HeaderMap>, items: u64) -> Result<Answer, TooLarge> {
        match self {
            Self::Grpc(reply) => reply.finish(trailers, items),
            #[cfg(feature = "http")]
            Self::Http(reply) => reply.finish(items),
        }
    }
}
