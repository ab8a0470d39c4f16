//! The protobuf wire format: tags, varints, copies of short strings.

/// Wire type of varints.
pub(crate) const VARINT: u8 = 0;
/// Wire type of 8 little-endian bytes.
pub(crate) const FIXED64: u8 = 1;
/// Wire type of bytes after their length.
pub(crate) const BYTES: u8 = 2;
/// Wire type of 4 little-endian bytes.
pub(crate) const FIXED32: u8 = 5;

/// The longest varint in bytes.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// The key of a field whose number is below 16, which takes one byte.
pub(crate) const fn key(number: u8, wire_type: u8) -> u8 {
    assert!(number < 16, "the key takes more than one byte");
    number << 3 | wire_type
}

/// The bytes that a value takes as a varint.
#[inline]
pub(crate) const fn varint_len(value: u64) -> usize {
    // 9/64 is close enough to 1/7 for every bit length up to 64.
    ((64 - (value | 1).leading_zeros() as usize) * 9 + 64) / 64
}

/// Writes a varint to the front of a buffer and returns its length.
#[inline]
pub(crate) fn put_varint(to: &mut [u8], mut value: u64) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        to[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    to[at] = value as u8;
    at + 1
}

/// Copies bytes to the front of a buffer.
///
/// Most strings in telemetry are short: up to 32 bytes go in two loads and stores that overlap, without a call.
#[inline]
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    let len = from.len();
    let to = &mut to[..len];
    if len > 32 {
        to.copy_from_slice(from);
    } else if len >= 16 {
        copy_ends::<16>(to, from);
    } else if len >= 8 {
        copy_ends::<8>(to, from);
    } else if len >= 4 {
        copy_ends::<4>(to, from);
    } else if len >= 2 {
        copy_ends::<2>(to, from);
    } else if len == 1 {
        to[0] = from[0];
    }
}

/// Copies `N..=2 * N` bytes as their first and their last `N`.
#[inline(always)]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    let (Some(head), Some(tail)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else {
        return;
    };
    if let Some(to) = to.first_chunk_mut::<N>() {
        *to = *head;
    }
    if let Some(to) = to.last_chunk_mut::<N>() {
        *to = *tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn varints_are_as_prost_writes_them() {
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in edges.chain([u64::MAX]) {
            let mut expected = Vec::new();
            prost::encoding::encode_varint(value, &mut expected);
            let mut written = [0; VARINT_BYTES_MAX];
            let len = put_varint(&mut written, value);
            assert_eq!(&written[..len], expected, "{value}");
            assert_eq!(varint_len(value), expected.len(), "{value}");
        }
    }

    #[test]
    fn copies_of_every_length_touch_exactly_their_bytes() {
        for len in 0..100usize {
            let from: Vec<u8> = (1..=len as u8).collect();
            let mut to = vec![0xff; len + 3];
            copy(&mut to, &from);
            assert_eq!(&to[..len], from);
            assert_eq!(&to[len..], [0xff; 3]);
        }
    }
}
