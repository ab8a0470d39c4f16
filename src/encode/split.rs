//! Splits a request that is too large into requests that are not, down to single items.
//!
//! The pieces of a part are slices of the request's; new are only the keys and lengths of what encloses the items. What
//! encloses them (resource, scope, schema URLs, the head of a metric, the dictionary of profiles, fields that are not known)
//! goes with every part. Each part is as full as it gets before the next begins.

use super::reader::{DEPTH_MAX, Fault, Reader, Why};
use super::request::Request;
use super::tables::{self, Kind, Message, Presence, Role};
use super::wire::{BYTES, VARINT_BYTES_MAX, put_varint, varint_len};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// A head in more pieces than this is copied into one, once: it goes with every part.
const HEAD_PIECES_MAX: usize = 8;

/// A part of a request.
pub(crate) enum Part {
    /// It is within the limit.
    Fits(Request),
    /// It is beyond the limit and cannot be made smaller: a single item, or bytes that are no such request.
    TooLarge(Request),
}

/// Splits a request so that no part's encoding is longer than `bytes_max`, but for single items that are too large alone.
///
/// The parts have the items of the request in order, each once, and its headers and its time. Envelopes without items are
/// left out of a request that is split; one without any items has no parts.
pub(crate) fn split(request: &Request, bytes_max: usize) -> Vec<Part> {
    if request.encoded_len() <= bytes_max {
        return vec![Part::Fits(request.clone())];
    }
    if request.is_empty() {
        return Vec::new();
    }
    let mut splitter = Splitter::new(request, bytes_max);
    let whole = Reader::new(request.body().segments());
    let envelope = tables::request(request.signal());
    match splitter.open(0, &[whole], envelope) {
        Ok(()) if splitter.items_done == request.items() => splitter.parts,
        // Another encoder's, and not what it was said to be: its items are not to be told apart.
        _ => vec![Part::TooLarge(request.clone())],
    }
}

struct Splitter<'a> {
    request: &'a Request,
    bytes_max: usize,
    /// Where each of the request's segments starts.
    starts: Vec<usize>,
    /// What encloses the place that is being read, the request itself first.
    levels: Vec<Level>,
    /// The part that is being filled.
    pieces: Vec<Piece>,
    items: u64,
    parts: Vec<Part>,
    items_done: u64,
}

/// A message that encloses items.
struct Level {
    number: u32,
    /// All of it but what holds items.
    head: Vec<Bytes>,
    head_len: usize,
    /// Where it starts among the pieces of the part, once the part has it.
    opened: Option<usize>,
    /// Its bytes in the part so far, without those of the level within.
    len: usize,
}

enum Piece {
    /// Key and length of a level.
    Open {
        number: u32,
        len: usize,
    },
    Head(Bytes),
    /// Items as they lie in the request.
    Items(Range<usize>),
}

impl<'a> Splitter<'a> {
    fn new(request: &'a Request, bytes_max: usize) -> Self {
        let mut at = 0;
        let segments = request.body().segments().iter();
        let starts = segments.map(|segment| {
            at += segment.len();
            at - segment.len()
        });
        Self {
            request,
            bytes_max,
            starts: starts.collect(),
            levels: Vec::new(),
            pieces: Vec::new(),
            items: 0,
            parts: Vec::new(),
            items_done: 0,
        }
    }

    /// Takes the items out of a message that came in one or several parts.
    fn open(&mut self, number: u32, message: &[Reader<'a>], table: &'static Message) -> Result<(), Fault> {
        let level = self.level(number, message, table)?;
        self.levels.push(level);
        // What the `oneof` is set to: the last member, in all the parts that came after any other.
        let mut chosen: Option<(u32, &'static Message, Vec<Reader<'a>>)> = None;
        for from in message {
            let mut from = from.clone();
            while !from.is_done() {
                let start = from.at();
                let key = from.key()?;
                let field = table.field(key.number).map(|(_, field)| field);
                let Some(field) = field.filter(|field| field.role != Role::Plain) else {
                    from.skip_value(key, DEPTH_MAX)?;
                    continue;
                };
                let part = part_of(&mut from, key.wire_type)?;
                match (field.role, field.kind) {
                    (Role::Item, _) => self.add(start..from.at()),
                    (_, Kind::Message(within)) if field.presence == Presence::Oneof => match &mut chosen {
                        Some((number, _, parts)) if *number == key.number => parts.push(part),
                        _ => chosen = Some((key.number, within, vec![part])),
                    },
                    (_, Kind::Message(within)) => self.open(key.number, &[part], within)?,
                    _ => {}
                }
            }
        }
        if let Some((number, within, parts)) = chosen {
            self.open(number, &parts, within)?;
        }
        if self.levels.len() == 1 {
            self.flush();
        }
        self.close(self.levels.len() - 1);
        self.levels.pop();
        Ok(())
    }

    /// All of a message but what holds items.
    fn level(&self, number: u32, message: &[Reader<'a>], table: &'static Message) -> Result<Level, Fault> {
        let mut head: Vec<Range<usize>> = Vec::new();
        for from in message {
            let mut from = from.clone();
            while !from.is_done() {
                let start = from.at();
                let key = from.key()?;
                from.skip_value(key, DEPTH_MAX)?;
                match (table.field(key.number), head.last_mut()) {
                    (Some((_, field)), _) if field.role != Role::Plain => {}
                    (_, Some(last)) if last.end == start => last.end = from.at(),
                    _ => head.push(start..from.at()),
                }
            }
        }
        let head_len = head.iter().map(Range::len).sum();
        let mut slices = Vec::new();
        for range in head {
            self.slice(range, &mut slices);
        }
        if slices.len() > HEAD_PIECES_MAX {
            slices = vec![Bytes::from(slices.concat())];
        }
        Ok(Level {
            number,
            head: slices,
            head_len,
            opened: None,
            len: 0,
        })
    }

    /// Puts an item into the part that is being filled, or into the next.
    fn add(&mut self, item: Range<usize>) {
        if self.items > 0 && self.len_with(item.len()) > self.bytes_max {
            self.flush();
        }
        for at in 0..self.levels.len() {
            let level = &mut self.levels[at];
            if level.opened.is_none() {
                level.opened = Some(self.pieces.len());
                level.len = level.head_len;
                let open = (at > 0).then_some(Piece::Open {
                    number: level.number,
                    len: 0,
                });
                self.pieces.extend(open);
                self.pieces.extend(level.head.iter().cloned().map(Piece::Head));
            }
        }
        if let Some(level) = self.levels.last_mut() {
            level.len += item.len();
        }
        self.items += 1;
        match self.pieces.last_mut() {
            Some(Piece::Items(last)) if last.end == item.start => last.end = item.end,
            _ => self.pieces.push(Piece::Items(item)),
        }
    }

    /// The length that the part would have with one more item.
    fn len_with(&self, item_len: usize) -> usize {
        let innermost_first = self.levels.iter().rev();
        let mut within = item_len;
        for level in innermost_first {
            let own = if level.opened.is_some() {
                level.len
            } else {
                level.head_len
            };
            within = enclosed_len(level.number, own + within);
        }
        within
    }

    /// Ends a level in the part, where the part has it.
    fn close(&mut self, at: usize) {
        let level = &mut self.levels[at];
        let Some(opened) = level.opened.take() else {
            return;
        };
        let total = level.len;
        let number = level.number;
        // The request itself is enclosed by nothing.
        if let Some(above) = at.checked_sub(1) {
            if let Some(Piece::Open { len, .. }) = self.pieces.get_mut(opened) {
                *len = total;
            }
            self.levels[above].len += enclosed_len(number, total);
        }
    }

    /// Ends the part that is being filled.
    fn flush(&mut self) {
        if self.items == 0 {
            return;
        }
        for at in (0..self.levels.len()).rev() {
            self.close(at);
        }
        let pieces = core::mem::take(&mut self.pieces);
        let request = self
            .request
            .part(self.items, self.parts.is_empty(), self.segments(&pieces));
        self.items_done += core::mem::take(&mut self.items);
        self.parts.push(if request.encoded_len() <= self.bytes_max {
            Part::Fits(request)
        } else {
            Part::TooLarge(request)
        });
    }

    /// The pieces of a part as shared bytes.
    fn segments(&self, pieces: &[Piece]) -> Vec<Bytes> {
        // Keys and lengths are written in a row first and cut apart afterwards.
        let mut heads = Vec::new();
        for piece in pieces {
            if let Piece::Open { number, len } = piece {
                for value in [key_of(*number), *len as u64] {
                    let mut varint = [0; VARINT_BYTES_MAX];
                    let len = put_varint(&mut varint, value);
                    heads.extend_from_slice(&varint[..len]);
                }
            }
        }
        let heads = Bytes::from(heads);
        let (mut start, mut end) = (0, 0);
        let mut segments = Vec::new();
        for piece in pieces {
            if let Piece::Open { number, len } = piece {
                end += enclosed_len(*number, *len) - len;
                continue;
            }
            if start < end {
                segments.push(heads.slice(start..end));
                start = end;
            }
            match piece {
                Piece::Head(bytes) => segments.push(bytes.clone()),
                Piece::Items(range) => self.slice(range.clone(), &mut segments),
                Piece::Open { .. } => {}
            }
        }
        segments
    }

    /// Slices of the request's segments.
    fn slice(&self, range: Range<usize>, to: &mut Vec<Bytes>) {
        let segments = self.request.body().segments();
        // The last one that starts at or before the range; the first starts at zero.
        let mut at = self.starts.partition_point(|start| *start <= range.start).max(1) - 1;
        let mut from = range.start;
        while from < range.end {
            let (segment, start) = (&segments[at], self.starts[at]);
            let end = range.end.min(start + segment.len());
            if from < end {
                to.push(segment.slice(from - start..end - start));
            }
            from = end;
            at += 1;
        }
    }
}

/// The value of a field that holds items.
fn part_of<'a>(from: &mut Reader<'a>, wire_type: u8) -> Result<Reader<'a>, Fault> {
    if wire_type == BYTES {
        from.part()
    } else {
        Err(from.fault(Why::WireType(wire_type)))
    }
}

/// The bytes of a message with its key and its length; number zero is that of the request, which has neither.
fn enclosed_len(number: u32, len: usize) -> usize {
    match number {
        0 => len,
        _ => varint_len(key_of(number)) + varint_len(len as u64) + len,
    }
}

fn key_of(number: u32) -> u64 {
    u64::from(number) << 3 | u64::from(BYTES)
}
