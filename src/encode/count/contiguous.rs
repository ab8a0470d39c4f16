//! The check and the count of a request that lies in one piece, as nearly all do.
//!
//! It accepts nothing that the reader of pieces refuses, and gives up in doubt without a word: the reader then says what
//! is wrong and where. Nothing here is known twice but the shape of the wire format; messages are the same tables.

use crate::encode::tables::{Field, Kind, Message, Presence, Role};
use crate::encode::wire::{BYTES, FIXED32, FIXED64, VARINT, VARINT_BYTES_MAX};

/// Checks a message and counts the items in it; `left` is how many levels may still be opened. Nothing where it cannot be
/// read, and where it holds a group.
pub(super) fn count(mut from: &[u8], message: &Message, left: u32) -> Option<u64> {
    let mut items = 0;
    // Which member of the `oneof` is set, and what it holds.
    let mut chosen = (0, 0);
    while !from.is_empty() {
        let key = u32::try_from(varint(&mut from)?).ok()?;
        let (number, wire_type) = (key >> 3, (key & 7) as u8);
        let Some((_, field)) = message.field(number) else {
            if number == 0 || left == 0 {
                return None;
            }
            skip(&mut from, wire_type)?;
            continue;
        };
        let held = value(&mut from, wire_type, field, left)?;
        if field.presence != Presence::Oneof {
            items += held;
        } else if chosen.0 == number {
            chosen.1 += held;
        } else {
            chosen = (number, held);
        }
    }
    Some(items + chosen.1)
}

/// Checks the value of a known field and counts the items in it.
#[inline]
fn value(from: &mut &[u8], wire_type: u8, field: &Field, left: u32) -> Option<u64> {
    let expected = field.kind.wire_type();
    if wire_type != expected {
        return packed(from, wire_type, field, expected);
    }
    match field.kind {
        Kind::Message(message) => {
            let held = count(part(from)?, message, left.checked_sub(1)?)?;
            return Some(if field.role == Role::Item { 1 } else { held });
        }
        Kind::String => {
            let text = part(from)?;
            if !text.is_ascii() {
                core::str::from_utf8(text).ok()?;
            }
        }
        _ => skip(from, expected)?,
    }
    Some(0)
}

fn packed(from: &mut &[u8], wire_type: u8, field: &Field, expected: u8) -> Option<u64> {
    if wire_type != BYTES || !field.is_repeated {
        return None;
    }
    let mut values = part(from)?;
    while !values.is_empty() {
        skip(&mut values, expected)?;
    }
    Some(0)
}

#[inline]
fn skip(from: &mut &[u8], wire_type: u8) -> Option<()> {
    match wire_type {
        VARINT => varint(from).map(drop),
        FIXED64 => from.split_at_checked(8).map(|(_, rest)| *from = rest),
        FIXED32 => from.split_at_checked(4).map(|(_, rest)| *from = rest),
        BYTES => part(from).map(drop),
        _ => None,
    }
}

/// Takes a length and as many bytes.
#[inline]
fn part<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(varint(from)?).ok()?;
    let (part, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(part)
}

#[inline]
fn varint(from: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = from.split_first()?;
    if first < 0x80 {
        *from = rest;
        return Some(u64::from(first));
    }
    long_varint(from)
}

fn long_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (place, &byte) in from.iter().take(VARINT_BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            *from = &from[place + 1..];
            // Nine times 7 bits leave one for the tenth byte.
            return (place < VARINT_BYTES_MAX - 1 || byte <= 1).then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::reader::{DEPTH_MAX, Reader};
    use crate::encode::request::Signal;
    use crate::encode::tables;
    use alloc::vec;
    use alloc::vec::Vec;
    use bytes::Bytes;

    /// Both readings of a message, which must agree unless it has groups.
    fn agree(signal: Signal, message: &[u8]) -> Option<u64> {
        let table = tables::request(signal);
        let quick = count(message, table, DEPTH_MAX);
        let pieces = [Bytes::copy_from_slice(message)];
        let slow = super::super::check(Reader::new(&pieces), table, DEPTH_MAX).ok();
        assert!(
            quick == slow || quick.is_none(),
            "{signal:?} {quick:?} {slow:?} {message:?}"
        );
        quick
            .or(slow)
            .inspect(|_| assert!(quick.is_some() || has_group(message), "{message:?}"))
    }

    /// Whether some byte can be the start of a group; only such messages may be left to the reader.
    fn has_group(message: &[u8]) -> bool {
        message.iter().any(|byte| byte & 7 == 3)
    }

    /// A message whose fields are chosen by `random`: known ones of every kind, now and then one that is none.
    fn make(message: &Message, random: &mut fastrand::Rng, depth: u32, into: &mut Vec<u8>) {
        for _ in 0..random.u32(0..4) {
            let field = &message.fields[random.usize(0..message.fields.len())];
            let mut number = field.number;
            if random.u32(0..20) == 0 {
                number = random.u32(0..5_000);
            }
            let mut wire_type = field.kind.wire_type();
            if random.u32(0..40) == 0 {
                wire_type = random.u8(0..8);
            }
            put_varint(u64::from(number) << 3 | u64::from(wire_type), into);
            match wire_type {
                VARINT => put_varint(random.u64(..) >> random.u32(0..64), into),
                FIXED64 => into.extend(random.u64(..).to_le_bytes()),
                FIXED32 => into.extend(random.u32(..).to_le_bytes()),
                _ => {
                    let mut held = Vec::new();
                    match field.kind {
                        Kind::Message(inner) if depth > 0 => make(inner, random, depth - 1, &mut held),
                        Kind::String => held.extend("aé€".as_bytes()),
                        _ => held.extend((0..random.usize(0..9)).map(|_| random.u8(..))),
                    }
                    put_varint(held.len() as u64, into);
                    into.extend(held);
                }
            }
        }
    }

    fn put_varint(mut value: u64, into: &mut Vec<u8>) {
        while value >= 0x80 {
            into.push(value as u8 | 0x80);
            value >>= 7;
        }
        into.push(value as u8);
    }

    #[test]
    fn it_agrees_with_the_reader_of_pieces() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut read, mut refused) = (0, 0);
        for round in 0..20_000 {
            let signal = Signal::ALL[round % Signal::ALL.len()];
            let mut message = Vec::new();
            make(tables::request(signal), &mut random, 8, &mut message);
            if random.u32(0..4) == 0 && !message.is_empty() {
                let at = random.usize(0..message.len());
                message[at] ^= 1 << random.u32(0..8);
            }
            match agree(signal, &message) {
                Some(_) => read += 1,
                None => refused += 1,
            }
        }
        assert!(read > 2_000 && refused > 2_000, "{read} read, {refused} refused");
    }

    #[test]
    fn long_varints_are_read_as_far_as_64_bits() {
        for last in 0..3_u8 {
            let mut unknown = vec![0xf8, 1];
            unknown.extend([0xff; 9]);
            unknown.push(last);
            assert_eq!(agree(Signal::Logs, &unknown), (last <= 1).then_some(0));
        }
        assert_eq!(agree(Signal::Logs, &[0xf8, 1, 0x80]), None);
    }

    #[test]
    fn levels_are_counted_alike() {
        // Any value in any value: the body of a log record.
        for depth in [1, 40, 80, 96, 97, 98, 99, 100, 120] {
            let mut value = Vec::new();
            for level in 0..depth {
                let mut outer = Vec::new();
                // An array of one value, or the value in it.
                let tag = if level % 2 == 0 { 0x0a } else { 0x2a };
                outer.push(tag);
                put_varint(value.len() as u64, &mut outer);
                outer.extend(&value);
                value = outer;
            }
            for tag in [0x2a, 0x12, 0x12, 0x0a] {
                let mut outer = vec![tag];
                put_varint(value.len() as u64, &mut outer);
                outer.extend(&value);
                value = outer;
            }
            agree(Signal::Logs, &value);
        }
    }
}
