//! The rich status of gRPC (`google.rpc`) with the well-known types that it needs (`google.protobuf`).

use alloc::string::String;
use alloc::vec::Vec;

/// The message in `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Status {
    /// The gRPC status code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// Text for developers.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Further messages, each with its own type.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// When to retry; travels in [`Status::details`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct RetryInfo {
    /// How long to wait at least.
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<Duration>,
}

impl RetryInfo {
    /// The [`Any::type_url`] under which it travels.
    pub const TYPE_URL: &'static str = "type.googleapis.com/google.rpc.RetryInfo";
}

/// A message of any type (`google.protobuf.Any`).
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Any {
    /// URL that ends in the full name of the type.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// A span of time (`google.protobuf.Duration`); both parts have the same sign.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Duration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds on top.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}
