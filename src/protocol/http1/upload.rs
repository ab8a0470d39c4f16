//! The way of a request to the socket.

use crate::encode::Body;
use alloc::vec::Vec;
use bytes::Bytes;

/// A request of which something may still be to be handed out: its head, then the segments of its body as they are.
pub(super) struct Upload {
    head: [Bytes; 2],
    body: Body,
    /// The piece that comes after `current`, the head's first.
    next: usize,
    current: Bytes,
    len: usize,
    handed_out: usize,
}

impl Upload {
    pub(super) fn new(head: [Bytes; 2], body: &Body) -> Self {
        Self {
            len: head.iter().map(Bytes::len).sum::<usize>() + body.len(),
            head,
            body: body.clone(),
            next: 0,
            current: Bytes::new(),
            handed_out: 0,
        }
    }

    /// Whether all of it was handed out.
    pub(super) const fn is_whole(&self) -> bool {
        self.handed_out == self.len
    }

    /// Whether nothing of it was handed out.
    pub(super) const fn is_untouched(&self) -> bool {
        self.handed_out == 0
    }

    /// Hands out up to `room` bytes, in pieces that share the memory of the request.
    pub(super) fn take(&mut self, room: usize) -> Vec<Bytes> {
        let mut left = room.min(self.len - self.handed_out);
        self.handed_out += left;
        let mut pieces = Vec::new();
        if left > 0 {
            let segments = self.body.segments().len();
            pieces.reserve(if self.is_whole() {
                self.head.len() + segments - self.next.min(segments)
            } else {
                4
            });
        }
        while left > 0 {
            if self.current.is_empty() {
                match self.piece() {
                    Some(piece) => self.current = piece,
                    None => break,
                }
                continue;
            }
            let piece = self.current.split_to(left.min(self.current.len()));
            left -= piece.len();
            pieces.push(piece);
        }
        pieces
    }

    fn piece(&mut self) -> Option<Bytes> {
        let piece = match self.head.get_mut(self.next) {
            Some(head) => core::mem::take(head),
            None => self.body.segments().get(self.next - self.head.len())?.clone(),
        };
        self.next += 1;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn any_room_gives_the_same_bytes_in_the_memory_of_the_request() {
        let segments = vec![
            Bytes::from(vec![1; 10]),
            Bytes::new(),
            Bytes::from(vec![2; 1]),
            Bytes::from(vec![3; 30]),
        ];
        let body = Body::new(segments.clone());
        for room in 1..60 {
            let head = [Bytes::from_static(b"head "), Bytes::from_static(b"own ")];
            let mut upload = Upload::new(head, &body);
            assert!(upload.is_untouched());
            let mut all = Vec::new();
            while !upload.is_whole() {
                for piece in upload.take(room) {
                    assert!(!piece.is_empty());
                    let is_of = |segment: &Bytes| segment.as_ptr_range().contains(&piece.as_ptr());
                    assert_eq!(
                        all.len() >= 9,
                        segments.iter().any(is_of),
                        "no byte of the body is copied"
                    );
                    all.extend_from_slice(&piece);
                }
            }
            assert!(upload.take(room).is_empty());
            assert_eq!(all, [&b"head own "[..], &[1; 10], &[2], &[3; 30]].concat());
        }
    }
}
