//! The content coding of an answer: how its bytes become the message.

use super::status::TooLarge;
use crate::config::Compression;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What answers may be compressed with; `None` when nothing that is built in decompresses.
pub(super) const ACCEPT_ENCODING: Option<&str> = None;

/// What a compression is called in a header; `None` for none.
pub(super) const fn coding_of(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
    }
}

/// The reading of one body in one coding.
pub(super) enum Decoding {
    /// The bytes are the message.
    Identity,
    /// The message cannot be read, for the reason in words: its bytes are counted and dropped.
    Unreadable(String, usize),
}

impl Decoding {
    /// Begins with the coding that the peer names; an empty name is none.
    pub(super) fn new(coding: &[u8]) -> Self {
        let coding = coding.trim_ascii();
        if coding.is_empty() || coding.eq_ignore_ascii_case(b"identity") {
            return Self::Identity;
        }
        let shown = coding[..coding.len().min(64)].escape_ascii();
        Self::Unreadable(
            format!("it is encoded as \"{shown}\", which was not asked for"),
            0,
        )
    }

    /// Takes bytes of the body and appends what they say to `out`, which gets at most `len_max` bytes long.
    ///
    /// # Errors
    ///
    /// When the message, or what is sent for it, is larger than that. A body that cannot be decoded is no error here:
    /// [`finish`](Self::finish) tells.
    pub(super) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>, len_max: usize) -> Result<(), TooLarge> {
        match self {
            Self::Identity if bytes.len() > len_max.saturating_sub(out.len()) => Err(TooLarge),
            Self::Identity => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Self::Unreadable(_, total) => {
                *total = total.saturating_add(bytes.len());
                if *total > len_max { Err(TooLarge) } else { Ok(()) }
            }
        }
    }

    /// The body is over: why it cannot be read, if so.
    pub(super) fn finish(self) -> Result<(), String> {
        match self {
            Self::Identity => Ok(()),
            Self::Unreadable(why, _) => Err(why),
        }
    }
}
