//! The content coding of an answer: how its bytes become the message.

use crate::coding::{DecodeError, Decoder};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What answers may be compressed with; `None` when nothing that is built in decompresses.
pub(super) const ACCEPT_ENCODING: Option<&str> = if cfg!(any(feature = "gzip", feature = "zstd")) {
    Some(crate::coding::ACCEPT_ENCODING)
} else {
    None
};

/// Bytes of the name of a coding that are kept.
const NAME_BYTES_MAX: usize = 64;

/// The coding that a peer names; no name is none.
#[derive(Default)]
pub(super) struct Coding(Vec<u8>);

/// Why a body cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The message is larger than allowed.
    TooLarge,
    /// It is not what it says it is; in words.
    Odd(String),
}

impl Coding {
    pub(super) fn new(name: &[u8]) -> Self {
        let name = name.trim_ascii();
        if name.eq_ignore_ascii_case(b"identity") {
            return Self::default();
        }
        Self(name[..name.len().min(NAME_BYTES_MAX)].to_vec())
    }

    /// Reads a whole body. It is not decompressed before it is there, so that one decompressor is at work at a time,
    /// however many answers come in.
    pub(super) fn read(&self, body: Vec<u8>, len_max: usize) -> Result<Vec<u8>, Unreadable> {
        if self.0.is_empty() {
            return Ok(body);
        }
        let decoded = Decoder::new(&String::from_utf8_lossy(&self.0)).and_then(|mut decoder| {
            let mut message = Vec::new();
            decoder.decode(&body, &mut message, len_max)?;
            decoder.finish().map(|()| message)
        });
        decoded.map_err(|error| match error {
            DecodeError::TooLarge => Unreadable::TooLarge,
            other => Unreadable::Odd(other.to_string()),
        })
    }
}
