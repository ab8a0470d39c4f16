//! The message of an answer: its framing and what it says about a partial success.

use crate::pb::collector::ExportTraceServiceResponse;
use alloc::string::String;
use alloc::vec::Vec;
use prost::Message;

/// Length of the head of a gRPC message: one byte of flags, four of length (gRPC, "Length-Prefixed-Message").
pub(in crate::protocol) const PREFIX_LEN: usize = 5;

/// The one message of a unary answer, however it is cut.
#[derive(Default)]
pub(super) struct MessageReader {
    prefix: [u8; PREFIX_LEN],
    prefix_filled: usize,
    body: Vec<u8>,
    /// Bytes that came, those after the message included.
    total: usize,
}

/// An answer is larger than the settings allow (OTLP specification, response size limit).
#[derive(Debug, PartialEq, Eq)]
pub(in crate::protocol) struct TooLarge;

impl MessageReader {
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

    /// The message, when it is there in whole and not compressed.
    pub(super) fn message(&self) -> Option<&[u8]> {
        let is_whole = self.prefix_filled == PREFIX_LEN && self.body.len() == self.announced();
        (is_whole && !self.is_compressed()).then_some(&*self.body)
    }

    /// Whether the message is compressed, which was not asked for.
    pub(super) fn is_compressed(&self) -> bool {
        self.prefix_filled > 0 && self.prefix[0] != 0
    }

    fn announced(&self) -> usize {
        let [_, a, b, c, d] = self.prefix;
        u32::from_be_bytes([a, b, c, d]) as usize
    }
}

/// Items refused and the collector's words. An answer that cannot be read refuses nothing: it was a success.
pub(super) fn partial_success(message: &[u8]) -> (u64, String) {
    let partial = ExportTraceServiceResponse::decode(message)
        .ok()
        .and_then(|response| response.partial_success)
        .unwrap_or_default();
    (
        u64::try_from(partial.rejected_spans).unwrap_or(0),
        partial.error_message,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::collector::ExportTracePartialSuccess;

    #[test]
    fn a_message_survives_any_cut() {
        let bytes = [0, 0, 0, 0, 3, 1, 2, 3, 9];
        for size in 1..=bytes.len() {
            let mut reader = MessageReader::default();
            assert_eq!(reader.message(), None);
            for chunk in bytes.chunks(size) {
                reader.take(chunk, 100).expect("within the limit");
            }
            assert_eq!(reader.message(), Some(&[1, 2, 3][..]), "cut by {size}");
        }
    }

    #[test]
    fn a_large_message_is_refused_when_announced_and_when_sent() {
        let take = |bytes: &[u8]| MessageReader::default().take(bytes, 10);
        assert_eq!(take(&[0, 0, 0, 0, 11]), Err(TooLarge), "spec 4");
        assert_eq!(take(&[0; 16]), Err(TooLarge), "spec 4");
        assert_eq!(take(&[0; 15]), Ok(()));
    }

    #[test]
    fn a_partial_success_is_read_leniently() {
        let encoded = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 3,
                error_message: "too old".into(),
            }),
        }
        .encode_to_vec();
        assert_eq!(partial_success(&encoded), (3, "too old".into()), "spec 12");
        assert_eq!(partial_success(&[0xff, 0xff]), (0, String::new()), "spec 53");
        let negative = [
            0x0a, 11, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
        ];
        assert_eq!(partial_success(&negative), (0, String::new()));
    }
}
