//! Content codings: compression of requests, decompression of answers.
//!
//! Owns gzip and Zstandard over pieces of bytes, as far as the features `gzip` and `zstd` build them in. Never holds a
//! message in one block and never writes more than it was allowed to. It is fed with bodies by `export` and with the
//! bytes of answers by the protocols.

mod decode;
#[cfg(any(feature = "gzip", feature = "zstd"))]
mod encode;
#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "zstd")]
mod zstd;

pub use decode::{DecodeError, Decoder, decode};

use crate::config::Compression;
use crate::encode::Body;

/// The value of `accept-encoding` and `grpc-accept-encoding` that tells what a [`Decoder`] of this build reads.
pub const ACCEPT_ENCODING: &str = match (cfg!(feature = "gzip"), cfg!(feature = "zstd")) {
    (true, true) => "gzip,zstd,identity",
    (true, false) => "gzip,identity",
    (false, true) => "zstd,identity",
    (false, false) => "identity",
};

impl Compression {
    /// The name in HTTP's `content-encoding` and gRPC's `grpc-encoding`; `None` for no compression, which needs no
    /// header.
    pub const fn content_coding(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }

    /// Whether this build carries it. Where it does not, the feature of the crate that brings it has the name of its
    /// [`content_coding`](Self::content_coding).
    pub const fn is_built_in(self) -> bool {
        match self {
            Self::None => true,
            Self::Gzip => cfg!(feature = "gzip"),
            Self::Zstd => cfg!(feature = "zstd"),
        }
    }
}

/// Compresses a body, piece by piece into chunks of a bounded size. [`Compression::None`] shares the body as it is.
///
/// # Panics
///
/// When the compression is not built in, which is refused when the exporter is built.
pub fn compress(compression: Compression, body: &Body) -> Body {
    match compression {
        Compression::None => body.clone(),
        #[cfg(feature = "gzip")]
        Compression::Gzip => encode::compress(&gzip::IDLE, body),
        #[cfg(feature = "zstd")]
        Compression::Zstd => encode::compress(&zstd::IDLE, body),
        #[cfg(not(all(feature = "gzip", feature = "zstd")))]
        _ => panic!("a compression that is not built in was refused when the exporter was built"),
    }
}
