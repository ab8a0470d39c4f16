//! Reads the protobuf wire format out of bytes in pieces.
//!
//! A [`Reader`] is a place in a body and an end it never passes; values may straddle pieces. It allocates nothing, whatever
//! lengths the input claims, and says at which byte it stopped. It knows no message: see [`tables`](super::tables).

use super::wire::{BYTES, FIXED32, FIXED64, VARINT, VARINT_BYTES_MAX};
use bytes::Bytes;
use core::fmt;
use core::slice;

/// Messages inside messages that are read, as `prost` reads them; groups count as well.
pub(crate) const DEPTH_MAX: u32 = 100;

/// Wire types of groups, which only unknown fields can be.
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;

/// A place in bytes that come in pieces, and an end. Clones are cheap and read on their own.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    /// What is left of the piece that is being read; it may reach past the end.
    now: &'a [u8],
    later: slice::Iter<'a, Bytes>,
    at: usize,
    end: usize,
}

/// A field's key.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) number: u32,
    pub(crate) wire_type: u8,
}

/// Where and why bytes are no protobuf, or not that of the message they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Bytes before it.
    pub(crate) at: usize,
    pub(crate) why: Why,
}

/// Why bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A value goes on past the end of what holds it.
    Truncated,
    /// A varint of more than 64 bits.
    Varint,
    /// A key with a field number of zero or beyond 29 bits, or with a wire type that does not exist.
    Key,
    /// A known field of another wire type than its own.
    WireType(u8),
    /// A string that is not UTF-8.
    Utf8,
    /// The end of a group that is not open, or was opened by another field.
    Group,
    /// Messages or groups nested too deep.
    Depth,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(pieces: &'a [Bytes]) -> Self {
        Self {
            now: &[],
            later: pieces.iter(),
            at: 0,
            end: pieces.iter().map(Bytes::len).sum(),
        }
    }

    /// Bytes of the whole body before this place.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Bytes from here to the end.
    pub(crate) fn remaining(&self) -> usize {
        self.end - self.at
    }

    pub(crate) fn is_done(&self) -> bool {
        self.at == self.end
    }

    pub(crate) fn fault(&self, why: Why) -> Fault {
        Fault { at: self.at, why }
    }

    /// Reads the key of a field.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<Key, Fault> {
        let start = self.at;
        let key = self.varint()?;
        let (number, wire_type) = (key >> 3, (key & 7) as u8);
        // A wire type beyond that of 4 bytes does not exist.
        if number == 0 || key > u64::from(u32::MAX) || wire_type > FIXED32 {
            return Err(Fault {
                at: start,
                why: Why::Key,
            });
        }
        Ok(Key {
            number: number as u32,
            wire_type,
        })
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Fault> {
        if let Some(&byte) = self.now.first() {
            if byte < 0x80 && self.at < self.end {
                self.now = &self.now[1..];
                self.at += 1;
                return Ok(u64::from(byte));
            }
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Fault> {
        let start = self.at;
        let mut value = 0;
        for place in 0..VARINT_BYTES_MAX {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                // Nine times 7 bits leave one for the tenth byte.
                if place == VARINT_BYTES_MAX - 1 && byte > 1 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(Fault {
            at: start,
            why: Why::Varint,
        })
    }

    pub(crate) fn fixed32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn fixed64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads a length, and returns a reader of as many bytes; this one goes on after them.
    #[inline]
    pub(crate) fn part(&mut self) -> Result<Reader<'a>, Fault> {
        let start = self.at;
        let len = self.varint()?;
        if len > self.remaining() as u64 {
            return Err(Fault {
                at: start,
                why: Why::Truncated,
            });
        }
        let mut part = self.clone();
        part.end = self.at + len as usize;
        self.skip(len as usize)?;
        Ok(part)
    }

    /// Passes over the value of a field, a group with all it holds; `left` is how many levels may still be opened.
    pub(crate) fn skip_value(&mut self, key: Key, left: u32) -> Result<(), Fault> {
        if left == 0 {
            return Err(self.fault(Why::Depth));
        }
        match key.wire_type {
            VARINT => self.varint().map(drop),
            FIXED64 => self.skip(8),
            FIXED32 => self.skip(4),
            BYTES => self.part().map(drop),
            GROUP_START => self.skip_group(key.number, left - 1),
            _ => Err(self.fault(Why::Group)),
        }
    }

    /// The next bytes that lie in one piece, at least one unless this is the end.
    pub(crate) fn next_chunk(&mut self) -> Option<&'a [u8]> {
        if self.is_done() {
            return None;
        }
        self.fill();
        let len = self.now.len().min(self.remaining());
        let (chunk, rest) = self.now.split_at(len);
        self.now = rest;
        self.at += len;
        Some(chunk)
    }

    fn skip_group(&mut self, number: u32, left: u32) -> Result<(), Fault> {
        loop {
            let start = self.at;
            let key = self.key()?;
            if key.wire_type != GROUP_END {
                self.skip_value(key, left)?;
            } else if key.number == number {
                return Ok(());
            } else {
                return Err(Fault {
                    at: start,
                    why: Why::Group,
                });
            }
        }
    }

    #[inline]
    fn skip(&mut self, len: usize) -> Result<(), Fault> {
        if len > self.remaining() {
            return Err(self.fault(Why::Truncated));
        }
        self.at += len;
        if let Some(rest) = self.now.get(len..) {
            self.now = rest;
            return Ok(());
        }
        let mut left = len - self.now.len();
        self.now = &[];
        // The end lies within the pieces: they do not run out before it.
        for piece in self.later.by_ref() {
            if let Some(rest) = piece.get(left..) {
                self.now = rest;
                break;
            }
            left -= piece.len();
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        if self.is_done() {
            return Err(self.fault(Why::Truncated));
        }
        self.fill();
        let (first, rest) = self.now.split_first().ok_or(self.fault(Why::Truncated))?;
        self.now = rest;
        self.at += 1;
        Ok(*first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        if self.remaining() < N {
            return Err(self.fault(Why::Truncated));
        }
        if let Some((array, rest)) = self.now.split_first_chunk() {
            self.now = rest;
            self.at += N;
            return Ok(*array);
        }
        let mut array = [0; N];
        for byte in &mut array {
            *byte = self.byte()?;
        }
        Ok(array)
    }

    /// Goes to the next piece that has bytes, once this one has none.
    fn fill(&mut self) {
        while self.now.is_empty() {
            match self.later.next() {
                Some(piece) => self.now = piece,
                None => break,
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the value is cut off"),
            Self::Varint => f.write_str("the varint is longer than 64 bits"),
            Self::Key => f.write_str("the key is no field's"),
            Self::WireType(found) => write!(f, "wire type {found} is not that of the field"),
            Self::Utf8 => f.write_str("the string is not UTF-8"),
            Self::Group => f.write_str("the group ends without its start"),
            Self::Depth => write!(f, "messages are nested deeper than {DEPTH_MAX}"),
        }
    }
}

/// Hands the text of a string on, in as many pieces as it lies in; characters are never cut.
pub(crate) fn each_str(mut from: Reader<'_>, mut take: impl FnMut(&str)) -> Result<(), Fault> {
    // The head of a character whose rest is in the next piece.
    let mut cut = [0; 4];
    let mut cut_len = 0;
    while let Some(mut chunk) = from.next_chunk() {
        let start = from.at() - chunk.len();
        while cut_len > 0 {
            let Some((first, rest)) = chunk.split_first() else {
                break;
            };
            (cut[cut_len], chunk) = (*first, rest);
            cut_len += 1;
            match core::str::from_utf8(&cut[..cut_len]) {
                Ok(text) => {
                    take(text);
                    cut_len = 0;
                }
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(from.fault(Why::Utf8).moved_to(start)),
            }
        }
        match core::str::from_utf8(chunk) {
            Ok(text) => take(text),
            Err(error) => {
                let (whole, rest) = chunk.split_at(error.valid_up_to());
                if error.error_len().is_some() {
                    let at = from.at() - rest.len();
                    return Err(from.fault(Why::Utf8).moved_to(at));
                }
                // `whole` is valid up to there.
                take(core::str::from_utf8(whole).unwrap_or_default());
                cut[..rest.len()].copy_from_slice(rest);
                cut_len = rest.len();
            }
        }
    }
    match cut_len {
        0 => Ok(()),
        len => Err(from.fault(Why::Utf8).moved_to(from.at() - len)),
    }
}

impl Fault {
    fn moved_to(self, at: usize) -> Self {
        Self { at, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;

    fn pieces(of: &[&[u8]]) -> Vec<Bytes> {
        of.iter().map(|piece| Bytes::copy_from_slice(piece)).collect()
    }

    /// Every way to cut bytes in three, empty pieces among them.
    fn every_cut(bytes: &[u8], check: impl Fn(&[Bytes])) {
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                check(&pieces(&[
                    &bytes[..first],
                    &bytes[first..second],
                    &[],
                    &bytes[second..],
                ]));
            }
        }
    }

    #[test]
    fn values_may_straddle_pieces() {
        let mut bytes = vec![0xff; 9];
        bytes.extend([
            1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 7, 6, 3, b'a', 0xc3, 0xa4, 0x80, 1,
        ]);
        every_cut(&bytes, |pieces| {
            let mut reader = Reader::new(pieces);
            assert_eq!(reader.varint(), Ok(u64::MAX));
            assert_eq!(reader.fixed64(), Ok(0x0807_0605_0403_0201));
            assert_eq!(reader.fixed32(), Ok(0x0607_0809));
            let mut text = String::new();
            let part = reader.part().unwrap_or_else(|fault| panic!("{fault:?}"));
            assert_eq!(part.remaining(), 3);
            each_str(part, |piece| text.push_str(piece)).unwrap_or_else(|fault| panic!("{fault:?}"));
            assert_eq!(text, "aä");
            assert_eq!(reader.varint(), Ok(128));
            assert!(reader.is_done());
            assert_eq!(reader.at(), bytes.len());
        });
    }

    #[test]
    fn nothing_is_read_past_the_end_of_a_part() {
        // A part of two bytes that holds the start of a longer value, before bytes that would complete it.
        for (inner, why) in [([0x80, 0x80], Why::Truncated), ([2, 9], Why::Truncated)] {
            let bytes = [2, inner[0], inner[1], 1, 1, 1, 1, 1, 1, 1, 1];
            every_cut(&bytes, |pieces| {
                let mut reader = Reader::new(pieces);
                let part = reader.part().unwrap_or_else(|fault| panic!("{fault:?}"));
                assert_eq!(part.clone().part().err().map(|fault| fault.why), Some(why));
                assert_eq!(part.clone().fixed32().map_err(|fault| fault.why), Err(why));
                assert_eq!(reader.at(), 3);
            });
        }
    }

    #[test]
    fn broken_varints_and_keys_are_refused() {
        let cases: [(&[u8], Why); 6] = [
            (&[0xff; 11], Why::Varint),
            (
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
                Why::Varint,
            ),
            (&[0x80], Why::Truncated),
            (&[0x02], Why::Key),
            (&[0x0e], Why::Key),
            (&[0x88, 0x80, 0x80, 0x80, 0x10], Why::Key),
        ];
        for (bytes, why) in cases {
            let pieces = pieces(&[bytes]);
            let result = Reader::new(&pieces).key();
            assert_eq!(result.err().map(|fault| fault.why), Some(why), "{bytes:?}");
        }
    }

    #[test]
    fn groups_are_skipped_up_to_the_limit() {
        let nested = |depth: usize| {
            let mut bytes = vec![0x0b; depth];
            bytes.extend(vec![0x0c; depth]);
            bytes
        };
        let skip = |bytes: &[u8]| {
            let pieces = pieces(&[bytes]);
            let mut reader = Reader::new(&pieces);
            let key = reader.key()?;
            reader.skip_value(key, DEPTH_MAX)?;
            Ok(reader.remaining())
        };
        assert_eq!(skip(&nested(100)), Ok(0));
        assert_eq!(
            skip(&nested(101)).map_err(|fault: Fault| fault.why),
            Err(Why::Depth)
        );
        assert_eq!(
            skip(&[0x0b, 0x14]),
            Err(Fault {
                at: 1,
                why: Why::Group
            })
        );
        assert_eq!(
            skip(&[0x0b, 0x08, 1]).map_err(|fault| fault.why),
            Err(Why::Truncated)
        );
    }

    #[test]
    fn bad_text_is_found_wherever_it_is_cut() {
        for (bytes, at) in [
            (&b"ab\xffcd"[..], 2),
            (b"ab\xc3", 2),
            (b"\xf0\x9f\x98x", 0),
            (b"ab\xe2\x82", 2),
            (b"\xed\xa0\x80", 0),
        ] {
            every_cut(bytes, |pieces| {
                let fault = each_str(Reader::new(pieces), |_| {}).err();
                let fault = fault.unwrap_or_else(|| panic!("{bytes:?} passed"));
                assert_eq!(fault.why, Why::Utf8);
                // Not before the bad character, nor past it.
                assert!((at..at + 4).contains(&fault.at), "{bytes:?} {}", fault.at);
            });
        }
    }
}
