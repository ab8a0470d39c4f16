//! Checks what was encoded elsewhere, and counts its items.

use super::reader::{DEPTH_MAX, Fault, Key, Reader, Why, each_str};
use super::request::Signal;
use super::tables::{self, Field, Kind, Message, Presence, Role};
use super::wire::{BYTES, FIXED32, FIXED64};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;

mod contiguous;

/// Why bytes are no export request of a signal, and where.
#[derive(Debug)]
pub(crate) struct Malformed(Box<Trail>);

#[derive(Debug)]
struct Trail {
    fault: Fault,
    /// The fields that hold the fault, the innermost first; repeated ones with their place.
    path: Vec<(&'static str, Option<usize>)>,
}

/// Reads a whole request of the signal and counts its items: spans, data points, log records or profiles.
///
/// What is accepted is what `prost` decodes. Data points of a kind that a later field of the same metric replaces are no
/// items.
pub(crate) fn count(signal: Signal, pieces: &[Bytes]) -> Result<u64, Malformed> {
    let request = tables::request(signal);
    if let [piece] = pieces {
        if let Some(items) = contiguous::count(piece, request, DEPTH_MAX) {
            return Ok(items);
        }
    }
    check(Reader::new(pieces), request, DEPTH_MAX)
}

/// Checks a message and counts the items in it; `left` is how many levels may still be opened.
fn check(mut from: Reader<'_>, message: &Message, left: u32) -> Result<u64, Malformed> {
    let start = from.clone();
    let mut items = 0;
    // Which member of the `oneof` is set, and what it holds.
    let mut chosen = (0, 0);
    while !from.is_done() {
        let at = from.at();
        let key = from.key()?;
        let Some((_, field)) = message.field(key.number) else {
            from.skip_value(key, left)?;
            continue;
        };
        let held = value(&mut from, key, field, left)
            .map_err(|error| error.inside(field, || occurrences(start.clone(), key.number, at)))?;
        if field.presence != Presence::Oneof {
            items += held;
        } else if chosen.0 == field.number {
            chosen.1 += held;
        } else {
            chosen = (field.number, held);
        }
    }
    Ok(items + chosen.1)
}

/// Checks the value of a known field and counts the items in it.
fn value(from: &mut Reader<'_>, key: Key, field: &Field, left: u32) -> Result<u64, Malformed> {
    let expected = field.kind.wire_type();
    if key.wire_type != expected {
        if key.wire_type != BYTES || !field.is_repeated {
            return Err(from.fault(Why::WireType(key.wire_type)).into());
        }
        let mut packed = from.part()?;
        while !packed.is_done() {
            skip_scalar(&mut packed, expected)?;
        }
        return Ok(0);
    }
    match field.kind {
        Kind::Message(message) => {
            let part = from.part()?;
            if left == 0 {
                return Err(part.fault(Why::Depth).into());
            }
            let held = check(part, message, left - 1)?;
            Ok(if field.role == Role::Item { 1 } else { held })
        }
        Kind::String => Ok(each_str(from.part()?, |_| {}).map(|()| 0)?),
        Kind::Bytes | Kind::Id => Ok(from.part().map(|_| 0)?),
        _ => Ok(skip_scalar(from, expected).map(|()| 0)?),
    }
}

fn skip_scalar(from: &mut Reader<'_>, wire_type: u8) -> Result<(), Fault> {
    match wire_type {
        FIXED64 => from.fixed64().map(drop),
        FIXED32 => from.fixed32().map(drop),
        _ => from.varint().map(drop),
    }
}

/// How often a field occurs before a place.
fn occurrences(mut from: Reader<'_>, number: u32, until: usize) -> usize {
    let mut count = 0;
    while from.at() < until {
        let Ok(key) = from.key() else { break };
        count += usize::from(key.number == number);
        if from.skip_value(key, DEPTH_MAX).is_err() {
            break;
        }
    }
    count
}

impl From<Fault> for Malformed {
    fn from(fault: Fault) -> Self {
        let path = Vec::new();
        Self(Box::new(Trail { fault, path }))
    }
}

impl Malformed {
    fn inside(mut self, field: &Field, place: impl FnOnce() -> usize) -> Self {
        self.0.path.push((field.name, field.is_repeated.then(place)));
        self
    }
}

/// `resource_spans[0].scope_spans[2].spans[5].name, byte 1234: the string is not UTF-8`.
impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, (name, place)) in self.0.path.iter().rev().enumerate() {
            if depth > 0 {
                f.write_str(".")?;
            }
            f.write_str(name)?;
            if let Some(place) = place {
                write!(f, "[{place}]")?;
            }
        }
        if !self.0.path.is_empty() {
            f.write_str(", ")?;
        }
        write!(f, "byte {}: {}", self.0.fault.at, self.0.fault.why)
    }
}
