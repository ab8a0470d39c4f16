//! Messages as JSON objects.

use super::text::Chunks;
use crate::encode::reader::{Fault, Key, Reader, Why};
use crate::encode::tables::{Field, Kind, Message, Presence};
use crate::encode::wire::BYTES;
use alloc::vec::Vec;

/// Writes a message, which came in one or several parts that are to be merged; `left` is how many levels may still be
/// opened.
pub(super) fn message(
    to: &mut Chunks,
    parts: &[Reader<'_>],
    table: &Message,
    left: u32,
) -> Result<(), Fault> {
    let survey = Survey::of(parts, table, left)?;
    let mut object = Object { to, is_empty: true };
    object.to.put(b"{");
    match parts {
        [from] if survey.is_plain => object.plain(from.clone(), table, left)?,
        _ => object.gathered(parts, table, &survey, left)?,
    }
    for (at, field) in table.fields.iter().enumerate() {
        if field.is_always_in_json && !survey.has(at) {
            object.name(field);
            object.to.put(if field.is_repeated { b"[]" } else { b"\"\"" });
        }
    }
    object.to.put(b"}");
    Ok(())
}

/// Which fields a message has, and whether they can be written as they come.
struct Survey {
    /// A bit for each field of the table.
    present: u32,
    /// The member of the `oneof` that is set.
    chosen: Option<usize>,
    /// Whether every repeated field is in one run, and every other there once.
    is_plain: bool,
}

impl Survey {
    fn of(parts: &[Reader<'_>], table: &Message, left: u32) -> Result<Self, Fault> {
        let mut survey = Self {
            present: 0,
            chosen: None,
            is_plain: true,
        };
        for from in parts {
            let mut from = from.clone();
            let mut last = None;
            while !from.is_done() {
                let key = from.key()?;
                let Some((at, field)) = table.field(key.number) else {
                    from.skip_value(key, left)?;
                    continue;
                };
                skip_known(&mut from, key, field)?;
                if field.presence == Presence::Oneof {
                    survey.is_plain &= survey.chosen.is_none();
                    survey.chosen = Some(at);
                }
                let is_in_run = field.is_repeated && last == Some(at);
                survey.is_plain &= is_in_run || !survey.has(at);
                survey.present |= 1 << at;
                last = Some(at);
            }
        }
        Ok(survey)
    }

    fn has(&self, at: usize) -> bool {
        self.present & 1 << at != 0
    }
}

struct Object<'c> {
    to: &'c mut Chunks,
    is_empty: bool,
}

impl Object<'_> {
    /// Fields in the order in which they come.
    fn plain(&mut self, mut from: Reader<'_>, table: &Message, left: u32) -> Result<(), Fault> {
        // The repeated field whose array is open, and whether that has no elements yet.
        let mut open: Option<(u32, bool)> = None;
        while !from.is_done() {
            let key = from.key()?;
            let Some((_, field)) = table.field(key.number) else {
                from.skip_value(key, left)?;
                continue;
            };
            if open.is_some_and(|(number, _)| number != key.number) {
                self.to.put(b"]");
                open = None;
            }
            if field.is_repeated {
                let is_first = match &mut open {
                    Some((_, is_first)) => is_first,
                    None => {
                        self.name(field);
                        self.to.put(b"[");
                        &mut open.insert((key.number, true)).1
                    }
                };
                elements(self.to, &mut from, key, field, left, is_first)?;
            } else {
                self.name(field);
                value(self.to, &mut from, field, left)?;
            }
        }
        if open.is_some() {
            self.to.put(b"]");
        }
        Ok(())
    }

    /// Field by field, each gathered from wherever it is: the last of what is singular, messages merged.
    fn gathered(
        &mut self,
        parts: &[Reader<'_>],
        table: &Message,
        survey: &Survey,
        left: u32,
    ) -> Result<(), Fault> {
        for (at, field) in table.fields.iter().enumerate() {
            let is_cleared = field.presence == Presence::Oneof && survey.chosen != Some(at);
            if !survey.has(at) || is_cleared {
                continue;
            }
            self.name(field);
            if field.is_repeated {
                self.to.put(b"[");
                let mut is_first = true;
                each(parts, table, left, |from, key, found| {
                    if found.number == field.number {
                        elements(self.to, from, key, field, left, &mut is_first)
                    } else {
                        skip_known(from, key, found)
                    }
                })?;
                self.to.put(b"]");
                continue;
            }
            let mut values = Vec::new();
            each(parts, table, left, |from, key, found| {
                if found.number == field.number {
                    if !matches!(field.kind, Kind::Message(_)) {
                        values.clear();
                    }
                    values.push(from.clone());
                } else if field.presence == Presence::Oneof && found.presence == Presence::Oneof {
                    values.clear();
                }
                skip_known(from, key, found)
            })?;
            if let Kind::Message(within) = field.kind {
                for from in &mut values {
                    *from = from.part()?;
                }
                // At least one: the survey has seen it, and nothing has cleared it since.
                message(self.to, &values, within, deeper(&values[0], left)?)?;
            } else if let Some(from) = values.last_mut() {
                value(self.to, from, field, left)?;
            }
        }
        Ok(())
    }

    fn name(&mut self, field: &Field) {
        self.to.put(if self.is_empty { b"\"" } else { b",\"" });
        self.is_empty = false;
        self.to.put(field.json.as_bytes());
        self.to.put(b"\":");
    }
}

/// Calls for every known field of the parts, which has to take its value.
fn each<'a>(
    parts: &[Reader<'a>],
    table: &Message,
    left: u32,
    mut take: impl FnMut(&mut Reader<'a>, Key, &Field) -> Result<(), Fault>,
) -> Result<(), Fault> {
    for from in parts {
        let mut from = from.clone();
        while !from.is_done() {
            let key = from.key()?;
            match table.field(key.number) {
                Some((_, field)) => take(&mut from, key, field)?,
                None => from.skip_value(key, left)?,
            }
        }
    }
    Ok(())
}

/// Writes an element of an array, or those that are packed in one value.
fn elements(
    to: &mut Chunks,
    from: &mut Reader<'_>,
    key: Key,
    field: &Field,
    left: u32,
    is_first: &mut bool,
) -> Result<(), Fault> {
    let mut separate = |to: &mut Chunks| {
        if !core::mem::take(is_first) {
            to.put(b",");
        }
    };
    if key.wire_type == field.kind.wire_type() {
        separate(to);
        return value(to, from, field, left);
    }
    let mut packed = from.part()?;
    while !packed.is_done() {
        separate(to);
        value(to, &mut packed, field, left)?;
    }
    Ok(())
}

/// Writes a value that has the wire type of its field.
fn value(to: &mut Chunks, from: &mut Reader<'_>, field: &Field, left: u32) -> Result<(), Fault> {
    match field.kind {
        Kind::Bool => to.put(if from.varint()? == 0 { b"false" } else { b"true" }),
        // Longer varints are cut to 32 bits, as every decoder does.
        Kind::Int32 | Kind::Enum(_) => to.signed(i64::from(from.varint()? as i32)),
        Kind::Sint32 => {
            let zigzag = from.varint()? as u32;
            to.signed(i64::from((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32)));
        }
        Kind::Uint32 => to.unsigned(u64::from(from.varint()? as u32)),
        Kind::Fixed32 => to.unsigned(u64::from(from.fixed32()?)),
        Kind::Int64 => quoted(to, from.varint()?, |to, value| to.signed(value as i64)),
        Kind::Uint64 => quoted(to, from.varint()?, Chunks::unsigned),
        Kind::Sfixed64 => quoted(to, from.fixed64()?, |to, value| to.signed(value as i64)),
        Kind::Fixed64 => quoted(to, from.fixed64()?, Chunks::unsigned),
        Kind::Double => to.double(f64::from_bits(from.fixed64()?)),
        Kind::String => to.string(from.part()?)?,
        Kind::Bytes => to.base64(from.part()?),
        Kind::Id => to.hex(from.part()?),
        Kind::Message(within) => {
            let part = from.part()?;
            let left = deeper(&part, left)?;
            message(to, &[part], within, left)?;
        }
    }
    Ok(())
}

fn quoted(to: &mut Chunks, value: u64, write: impl FnOnce(&mut Chunks, u64)) {
    to.put(b"\"");
    write(to, value);
    to.put(b"\"");
}

/// The levels that are left inside a message.
fn deeper(inside: &Reader<'_>, left: u32) -> Result<u32, Fault> {
    left.checked_sub(1).ok_or(inside.fault(Why::Depth))
}

/// Passes over the value of a known field, which has to be of its wire type or packed.
fn skip_known(from: &mut Reader<'_>, key: Key, field: &Field) -> Result<(), Fault> {
    let is_packed = field.is_repeated && key.wire_type == BYTES;
    if key.wire_type != field.kind.wire_type() && !is_packed {
        return Err(from.fault(Why::WireType(key.wire_type)));
    }
    // No group: it opens no level.
    from.skip_value(key, 1)
}
