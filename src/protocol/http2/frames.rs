//! Heads of HTTP/2 frames (RFC 9113, section 4.1).
//!
//! Owns the nine bytes in front of every frame, in both directions. Never looks into a payload.

/// Length of a frame head in bytes.
pub(super) const HEAD_LEN: usize = 9;
/// Where the flags stand in a frame head.
pub(super) const FLAGS_AT: usize = 4;
/// Length of the preface that a client sends in front of its first frame (RFC 9113, section 3.4).
pub(super) const PREFACE_LEN: usize = 24;
/// The largest payload that a peer may send before it is told otherwise (RFC 9113, section 6.5.2).
pub(super) const PAYLOAD_MAX: usize = 16_384;

/// Flag of DATA and HEADERS: the last frame of its direction of the stream.
pub(super) const END_STREAM: u8 = 0x1;
/// Flag of DATA and HEADERS: the payload is padded.
pub(super) const PADDED: u8 = 0x8;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// A frame of an extension, which is ignored.
    Unknown,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Length of the payload.
    pub len: usize,
    pub kind: Kind,
    pub flags: u8,
    pub stream: u32,
}

impl Head {
    pub(super) fn parse(bytes: &[u8; HEAD_LEN]) -> Self {
        let kind = match bytes[3] {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 => Kind::Priority,
            3 => Kind::Reset,
            4 => Kind::Settings,
            5 => Kind::PushPromise,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Unknown,
        };
        Self {
            len: usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]),
            kind,
            flags: bytes[FLAGS_AT],
            stream: u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]) & (u32::MAX >> 1),
        }
    }

    pub(super) const fn ends_stream(&self) -> bool {
        self.flags & END_STREAM != 0
    }

    /// Whether the frame says nothing at all: a DATA frame without a byte that does not end its stream.
    pub(super) fn is_empty_data(&self) -> bool {
        self.kind == Kind::Data && self.len == 0 && self.flags & (END_STREAM | PADDED) == 0
    }

    /// Whether the frame, whose payload begins with `payload`, is a DATA frame of nothing but padding.
    pub(super) fn is_blank(&self, payload: &[u8]) -> bool {
        self.kind == Kind::Data
            && self.flags & (END_STREAM | PADDED) == PADDED
            && payload
                .first()
                .is_some_and(|padding| usize::from(*padding) + 1 == self.len)
    }
}

/// Collects the nine bytes of a head, however they are cut.
#[derive(Default)]
pub(super) struct HeadBuffer {
    bytes: [u8; HEAD_LEN],
    filled: usize,
}

impl HeadBuffer {
    /// Takes what belongs to the head off the front of `input`; `Some` once the head is complete.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Option<[u8; HEAD_LEN]> {
        let count = (HEAD_LEN - self.filled).min(input.len());
        let (head, rest) = input.split_at(count);
        self.bytes[self.filled..self.filled + count].copy_from_slice(head);
        self.filled += count;
        *input = rest;
        if self.filled < HEAD_LEN {
            return None;
        }
        self.filled = 0;
        Some(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_survives_any_cut() {
        let bytes = [0, 0x40, 1, 0, 1, 0x80, 0, 0, 3];
        for cut in 0..=HEAD_LEN {
            let mut buffer = HeadBuffer::default();
            let (mut first, mut second) = bytes.split_at(cut);
            let head = buffer
                .take(&mut first)
                .or_else(|| buffer.take(&mut second))
                .map(|head| Head::parse(&head));
            let expected = Head {
                len: 0x4001,
                kind: Kind::Data,
                flags: END_STREAM,
                stream: 3,
            };
            assert_eq!(head, Some(expected), "the reserved bit is ignored, cut at {cut}");
        }
    }

    #[test]
    fn only_frames_without_effect_are_empty() {
        let head = |flags, len| Head {
            len,
            kind: Kind::Data,
            flags,
            stream: 1,
        };
        assert!(head(0, 0).is_empty_data());
        assert!(!head(END_STREAM, 0).is_empty_data() && !head(PADDED, 0).is_empty_data());
        assert!(!head(0, 1).is_empty_data());
    }
}
