//! The message of an answer: its framing.

use crate::config::Compression;
use crate::protocol::decoding::{Coding, Unreadable};
use crate::protocol::status::TooLarge;
use alloc::vec::Vec;

/// Length of the head of a gRPC message: one byte of flags, four of length (gRPC, "Length-Prefixed-Message").
pub(in crate::protocol) const PREFIX_LEN: usize = 5;

/// What stands in front of a message of that length.
pub(in crate::protocol) const fn prefix(message_len: u32, compression: Compression) -> [u8; PREFIX_LEN] {
    let [a, b, c, d] = message_len.to_be_bytes();
    let is_compressed = !matches!(compression, Compression::None);
    [is_compressed as u8, a, b, c, d]
}

/// The one message of a unary answer, however it is cut.
pub(super) struct MessageReader {
    prefix: [u8; PREFIX_LEN],
    prefix_filled: usize,
    /// How a message that is flagged as compressed is read; every other one is read as it is.
    coding: Coding,
    /// The message so far, as it came.
    body: Vec<u8>,
    /// Bytes that came, those after the message included.
    total: usize,
}

impl MessageReader {
    /// Reads a message that may be compressed with what `grpc-encoding` names.
    pub(super) fn new(coding: &[u8]) -> Self {
        Self {
            prefix: [0; PREFIX_LEN],
            prefix_filled: 0,
            coding: Coding::new(coding),
            body: Vec::new(),
            total: 0,
        }
    }

    /// Takes bytes of the body. What comes after the first message is counted and dropped.
    pub(super) fn take(&mut self, bytes: &[u8], len_max: usize) -> Result<(), TooLarge> {
        self.total = self.total.saturating_add(bytes.len());
        if self.total > len_max.saturating_add(PREFIX_LEN) {
            return Err(TooLarge);
        }
        let (head, rest) = bytes.split_at(bytes.len().min(PREFIX_LEN - self.prefix_filled));
        self.prefix[self.prefix_filled..][..head.len()].copy_from_slice(head);
        self.prefix_filled += head.len();
        if self.prefix_filled < PREFIX_LEN {
            return Ok(());
        }
        let len = self.announced();
        if len > len_max {
            return Err(TooLarge);
        }
        let wanted = rest.len().min(len - self.body.len());
        self.body.extend_from_slice(&rest[..wanted]);
        Ok(())
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        self.body.len()
    }

    /// The message of at most `len_max` bytes, when it is there in whole.
    pub(super) fn finish(self, len_max: usize) -> Result<Vec<u8>, Unreadable> {
        if self.prefix_filled < PREFIX_LEN || self.body.len() < self.announced() {
            return Err(Unreadable::Odd("its message is not there in whole".into()));
        }
        if !self.is_compressed() {
            return Ok(self.body);
        }
        self.coding.read(self.body, len_max)
    }

    /// Whether the message is compressed.
    fn is_compressed(&self) -> bool {
        self.prefix_filled > 0 && self.prefix[0] != 0
    }

    fn announced(&self) -> usize {
        let [_, a, b, c, d] = self.prefix;
        u32::from_be_bytes([a, b, c, d]) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_any_cut() {
        let bytes = [0, 0, 0, 0, 3, 1, 2, 3, 9];
        for size in 1..=bytes.len() {
            let mut reader = MessageReader::new(b"");
            for chunk in bytes.chunks(size) {
                reader.take(chunk, 100).expect("within the limit");
            }
            assert_eq!(reader.finish(100).as_deref(), Ok(&[1, 2, 3][..]), "cut by {size}");
        }
        for len in 0..8 {
            let mut reader = MessageReader::new(b"");
            reader.take(&bytes[..len], 100).expect("within the limit");
            assert!(
                reader.finish(100).is_err(),
                "the first {len} bytes are no message"
            );
        }
    }

    #[test]
    fn a_large_message_is_refused_when_announced_and_when_sent() {
        let take = |bytes: &[u8]| MessageReader::new(b"").take(bytes, 10);
        assert_eq!(take(&[0, 0, 0, 0, 11]), Err(TooLarge), "spec 4");
        assert_eq!(take(&[0; 16]), Err(TooLarge), "spec 4");
        assert_eq!(take(&[0; 15]), Ok(()));
    }
}
