//! Compression of requests and answers, with the libraries at hand and nothing of the exporter's own.
//!
//! A peer that shared the exporter's code would share its faults.

use crate::config::Compression;
use alloc::vec::Vec;

/// Why a body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undecodable {
    /// It has more bytes than are taken.
    TooLarge,
    /// It is not what its name says, or ends early.
    #[cfg_attr(
        not(any(feature = "gzip", feature = "zstd")),
        allow(dead_code, reason = "nothing is decompressed")
    )]
    Malformed,
}

/// The name in `content-encoding` and `grpc-encoding`.
pub(super) fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "identity",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

/// The compression of this name, where it is built in.
pub(super) fn from_name(name: &str) -> Option<Compression> {
    let all = [Compression::None, Compression::Gzip, Compression::Zstd];
    all.into_iter()
        .find(|compression| self::name(*compression).eq_ignore_ascii_case(name))
        .filter(|compression| is_built(*compression))
}

/// Whether this build can read and write it.
pub(super) const fn is_built(compression: Compression) -> bool {
    match compression {
        Compression::None => true,
        Compression::Gzip => cfg!(feature = "gzip"),
        Compression::Zstd => cfg!(feature = "zstd"),
    }
}

/// The names of everything that is built in, as `accept-encoding` lists them.
pub(super) const fn accepted() -> &'static str {
    match (cfg!(feature = "gzip"), cfg!(feature = "zstd")) {
        (true, true) => "gzip, zstd, identity",
        (true, false) => "gzip, identity",
        (false, true) => "zstd, identity",
        (false, false) => "identity",
    }
}

/// The whole of a compressed body, of at most `bytes_max`.
pub(super) fn decompress(
    compression: Compression,
    bytes: &[u8],
    bytes_max: usize,
) -> Result<Vec<u8>, Undecodable> {
    match compression {
        #[cfg(feature = "gzip")]
        Compression::Gzip => read_all(flate2::read::MultiGzDecoder::new(bytes), bytes_max),
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            let decoder =
                zstd::stream::read::Decoder::with_buffer(bytes).map_err(|_| Undecodable::Malformed)?;
            read_all(decoder, bytes_max)
        }
        _ if bytes.len() > bytes_max => Err(Undecodable::TooLarge),
        _ => Ok(bytes.to_vec()),
    }
}

/// These bytes compressed; nothing where the compression is not built in.
pub(super) fn compress(compression: Compression, bytes: &[u8]) -> Option<Vec<u8>> {
    match compression {
        Compression::None => Some(bytes.to_vec()),
        #[cfg(feature = "gzip")]
        Compression::Gzip => {
            use std::io::Write as _;
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).ok()?;
            encoder.finish().ok()
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::stream::encode_all(bytes, 0).ok(),
        #[allow(unreachable_patterns, reason = "everything may be built in")]
        _ => None,
    }
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
fn read_all(reader: impl std::io::Read, bytes_max: usize) -> Result<Vec<u8>, Undecodable> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    // One more than is taken tells a body that is too large.
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    reader
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|_| Undecodable::Malformed)?;
    if bytes.len() > bytes_max {
        return Err(Undecodable::TooLarge);
    }
    Ok(bytes)
}

#[cfg(all(test, any(feature = "gzip", feature = "zstd")))]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn what_is_compressed_reads_back_up_to_the_cap() {
        let plain = vec![7; 10_000];
        for compression in [Compression::Gzip, Compression::Zstd] {
            let Some(packed) = compress(compression, &plain) else {
                assert!(!is_built(compression));
                continue;
            };
            assert!(packed.len() < 200, "{compression:?}: {}", packed.len());
            assert_eq!(decompress(compression, &packed, 10_000).as_ref(), Ok(&plain));
            assert_eq!(
                decompress(compression, &packed, 9_999),
                Err(Undecodable::TooLarge)
            );
            let cut = &packed[..packed.len() - 1];
            assert_eq!(decompress(compression, cut, 10_000), Err(Undecodable::Malformed));
            assert_eq!(
                decompress(compression, b"nonsense", 10_000),
                Err(Undecodable::Malformed)
            );
        }
    }

    #[test]
    fn an_empty_body_can_be_compressed() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            if is_built(compression) {
                let empty = compress(compression, b"").expect("it is built in");
                assert_eq!(decompress(compression, &empty, 10), Ok(Vec::new()));
            }
        }
    }
}
