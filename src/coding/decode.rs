//! Decompression that never gives more than it was allowed to.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// The largest window of a compressed stream: what a decoder holds beside its output, and what RFC 8878 asks every decoder
/// to support.
#[cfg(any(feature = "gzip", feature = "zstd"))]
pub(super) const WINDOW_BYTES_MAX: usize = 8 << 20;
/// Bytes that are decompressed at a time.
#[cfg(any(feature = "gzip", feature = "zstd"))]
const STEP_BYTES: usize = 8 << 10;
/// How much longer than the largest output a compressed message may be: headers, and blocks that do not shrink.
const OVERHEAD_BYTES: usize = 4 << 10;

/// A decoder of one message that comes in pieces.
///
/// Whatever the peer sends, the output stays within the limit, and beside it a decoder holds at most a window of 8 MiB
/// (zstd; 64 KiB for gzip).
///
/// ```
/// use otlp_embed::coding::Decoder;
///
/// let mut decoder = Decoder::new("identity").expect("always built in");
/// let mut message = Vec::new();
/// decoder.decode(b"in ", &mut message, 100)?;
/// decoder.decode(b"pieces", &mut message, 100)?;
/// decoder.finish()?;
/// assert_eq!(message, b"in pieces");
/// # Ok::<(), otlp_embed::coding::DecodeError>(())
/// ```
pub struct Decoder {
    kind: Kind,
    /// Compressed bytes so far.
    taken: usize,
    failed: Option<DecodeError>,
}

enum Kind {
    Identity,
    #[cfg(feature = "gzip")]
    Gzip(super::gzip::Gunzip),
    #[cfg(feature = "zstd")]
    Zstd(super::zstd::Unzstd),
}

/// Why a compressed message could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message, or what was sent for it, is larger than allowed.
    TooLarge,
    /// The bytes are not of the coding that was announced; in words.
    Malformed(String),
    /// The message ends in its middle.
    Truncated,
    /// The coding is not known, or this build does not carry it; in words.
    Unsupported(String),
}

impl Decoder {
    /// A decoder for the coding that a peer names in `content-encoding` or `grpc-encoding`; an empty name and `identity`
    /// leave the bytes as they are.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Unsupported`], naming the feature where this build could have had the coding.
    pub fn new(coding: &str) -> Result<Self, DecodeError> {
        let coding = coding.trim();
        let is = |name: &str| coding.eq_ignore_ascii_case(name);
        let kind = if coding.is_empty() || is("identity") {
            Kind::Identity
        } else if is("gzip") || is("x-gzip") {
            #[cfg(feature = "gzip")]
            {
                Kind::Gzip(super::gzip::Gunzip::default())
            }
            #[cfg(not(feature = "gzip"))]
            return Err(not_built_in("gzip"));
        } else if is("zstd") {
            #[cfg(feature = "zstd")]
            {
                Kind::Zstd(super::zstd::Unzstd::default())
            }
            #[cfg(not(feature = "zstd"))]
            return Err(not_built_in("zstd"));
        } else {
            let shown: String = coding.chars().take(64).collect();
            return Err(DecodeError::Unsupported(format!(
                "the coding {shown:?} is not known"
            )));
        };
        Ok(Self {
            kind,
            taken: 0,
            failed: None,
        })
    }

    /// Takes a piece of the message and appends what it gives to `out`, which never gets longer than `max` bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::TooLarge`] when `out` would, or when the compressed bytes alone are longer than any such message;
    /// [`DecodeError::Malformed`] for bytes that are not of the coding, which includes bytes after the end of the message.
    /// After an error it gives the same one for ever.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), DecodeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let decoded = self.push(input, out, max);
        self.failed = decoded.as_ref().err().cloned();
        decoded
    }

    /// The message is over. One without a single byte counts as empty in every coding.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] when it ends in its middle, or the error of [`decode`](Self::decode) once more.
    pub fn finish(self) -> Result<(), DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let is_complete = match &self.kind {
            Kind::Identity => true,
            #[cfg(feature = "gzip")]
            Kind::Gzip(gzip) => gzip.is_complete(),
            #[cfg(feature = "zstd")]
            Kind::Zstd(zstd) => zstd.is_complete(),
        };
        if is_complete {
            Ok(())
        } else {
            Err(DecodeError::Truncated)
        }
    }

    fn push(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), DecodeError> {
        self.taken = self.taken.saturating_add(input.len());
        if self.taken > max.saturating_add(max / 64).saturating_add(OVERHEAD_BYTES) {
            return Err(DecodeError::TooLarge);
        }
        match &mut self.kind {
            Kind::Identity => append(out, input, max),
            #[cfg(feature = "gzip")]
            Kind::Gzip(gzip) => gzip.push(input, &mut Out::new(out, max)),
            #[cfg(feature = "zstd")]
            Kind::Zstd(zstd) => zstd.push(input, &mut Out::new(out, max)),
        }
    }
}

/// Reads a whole message of at most `max` bytes.
///
/// # Errors
///
/// As [`Decoder::new`], [`Decoder::decode`] and [`Decoder::finish`].
pub fn decode(coding: &str, input: &[u8], max: usize) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = Decoder::new(coding)?;
    let mut out = vec![];
    decoder.decode(input, &mut out, max)?;
    decoder.finish()?;
    Ok(out)
}

impl DecodeError {
    #[cfg(any(feature = "gzip", feature = "zstd"))]
    pub(super) fn malformed(coding: &str, why: &dyn fmt::Display) -> Self {
        Self::Malformed(format!("{coding}: {why}"))
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the message is larger than allowed"),
            Self::Malformed(why) | Self::Unsupported(why) => f.write_str(why),
            Self::Truncated => f.write_str("the compressed message ends in its middle"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Shows the coding.
impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coding = match self.kind {
            Kind::Identity => "identity",
            #[cfg(feature = "gzip")]
            Kind::Gzip(_) => "gzip",
            #[cfg(feature = "zstd")]
            Kind::Zstd(_) => "zstd",
        };
        f.debug_struct("Decoder")
            .field("coding", &coding)
            .finish_non_exhaustive()
    }
}

/// Output of at most so many bytes, written in steps.
#[cfg(any(feature = "gzip", feature = "zstd"))]
pub(super) struct Out<'a> {
    out: &'a mut Vec<u8>,
    max: usize,
    step: [u8; STEP_BYTES],
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
impl<'a> Out<'a> {
    fn new(out: &'a mut Vec<u8>, max: usize) -> Self {
        Self {
            out,
            max,
            step: [0; STEP_BYTES],
        }
    }

    /// Where the next bytes go.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.step
    }

    /// So many bytes were written there.
    pub(super) fn took(&mut self, count: usize) -> Result<(), DecodeError> {
        append(self.out, &self.step[..count], self.max)
    }
}

/// Appends within the limit, in memory as well.
fn append(out: &mut Vec<u8>, bytes: &[u8], max: usize) -> Result<(), DecodeError> {
    let len = out.len().saturating_add(bytes.len());
    if len > max {
        return Err(DecodeError::TooLarge);
    }
    if len > out.capacity() {
        let capacity = out.capacity().saturating_mul(2).min(max).max(len);
        out.reserve_exact(capacity - out.len());
    }
    out.extend_from_slice(bytes);
    Ok(())
}

#[cfg(not(all(feature = "gzip", feature = "zstd")))]
fn not_built_in(coding: &str) -> DecodeError {
    DecodeError::Unsupported(format!(
        "the coding {coding} is not part of this build; enable the feature {coding}"
    ))
}
