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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use prost::Message;

    /// Written down by hand from `google/rpc/status.proto`, `google/rpc/error_details.proto` and the well-known types.
    #[test]
    fn a_status_with_retry_info_has_the_bytes_of_its_definition() {
        let retry = RetryInfo {
            retry_delay: Some(Duration {
                seconds: 2,
                nanos: 500_000_000,
            }),
        };
        let value = retry.encode_to_vec();
        assert_eq!(value, b"\x0a\x08\x08\x02\x10\x80\xca\xb5\xee\x01");
        let any = Any {
            type_url: RetryInfo::TYPE_URL.into(),
            value,
        };
        let status = Status {
            code: 8,
            message: "slow".into(),
            details: vec![any],
        };
        let mut expected = b"\x08\x08\x12\x04slow\x1a\x36\x0a\x28".to_vec();
        expected.extend_from_slice(b"type.googleapis.com/google.rpc.RetryInfo");
        expected.extend_from_slice(b"\x12\x0a\x0a\x08\x08\x02\x10\x80\xca\xb5\xee\x01");
        assert_eq!(status.encode_to_vec(), expected);
        assert_eq!(Status::decode(&*expected).expect("valid protobuf"), status);
    }
}
