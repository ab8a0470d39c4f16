//! Attributes and their values.

use super::field::text_field;
use super::shared::{IntoShared, SHARED_BYTES_MIN};
use super::sink::{Frame, Sink};
use super::wire::{self, BYTES, FIXED64, VARINT, VARINT_BYTES_MAX, key, varint_len};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// Something that can be the value of an attribute.
///
/// Implemented for text, truth values, integers, floating-point numbers, bytes, options, and lists of these;
/// [`array()`] and [`kvlist`] make nested values. Types of your own implement it by writing exactly one value:
///
/// ```
/// use otlp_embed::encode::{IntoValue, ValueWriter, Written};
///
/// struct Celsius(f64);
///
/// impl IntoValue for Celsius {
///     fn write_value(self, to: ValueWriter<'_>) -> Written {
///         to.double(self.0)
///     }
/// }
/// ```
pub trait IntoValue {
    /// Writes the value.
    fn write_value(self, to: ValueWriter<'_>) -> Written;
}

/// Proof that a value was written.
#[derive(Debug)]
pub struct Written(());

/// Takes one value (OTLP `AnyValue`).
pub struct ValueWriter<'a> {
    sink: &'a mut Sink,
    place: Place<'a>,
}

/// What the value belongs to.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// An attribute: the key of its field in the message, and its name.
    Attribute(u8, &'a str),
    /// A field of its own, by its key: an element of an array, the body of a log record.
    Field(u8),
}

/// Frames around a value of unknown length.
struct Nest {
    pair: Option<Frame>,
    value: Frame,
}

pub(crate) const VALUE_STRING: u8 = key(1, BYTES);
pub(crate) const VALUE_BOOL: u8 = key(2, VARINT);
pub(crate) const VALUE_INT: u8 = key(3, VARINT);
pub(crate) const VALUE_DOUBLE: u8 = key(4, FIXED64);
pub(crate) const VALUE_ARRAY: u8 = key(5, BYTES);
pub(crate) const VALUE_KVLIST: u8 = key(6, BYTES);
pub(crate) const VALUE_BYTES: u8 = key(7, BYTES);
pub(crate) const VALUE_STRINDEX: u8 = key(8, VARINT);
pub(crate) const PAIR_KEY: u8 = key(1, BYTES);
pub(crate) const PAIR_VALUE: u8 = key(2, BYTES);
pub(crate) const PAIR_KEY_STRINDEX: u8 = key(3, VARINT);
/// Key of the repeated field in both kinds of list.
pub(crate) const LIST_VALUES: u8 = key(1, BYTES);

impl<'a> ValueWriter<'a> {
    #[inline]
    pub(crate) fn new(sink: &'a mut Sink, place: Place<'a>) -> Self {
        Self { sink, place }
    }

    /// Writes text.
    #[inline]
    pub fn string(self, value: &str) -> Written {
        let Self { sink, place } = self;
        if let Place::Attribute(tag, name) = place {
            let (n, v) = (name.len(), value.len());
            // With 6 bytes of heads around them all lengths take one byte: the common case, in one go.
            if n + v <= 121 && n > 0 {
                let (pair, value_field) = sink.window(n + v + 8).split_at_mut(n + 4);
                if let Some((head, to)) = pair.split_first_chunk_mut() {
                    *head = [tag, (n + v + 6) as u8, PAIR_KEY, n as u8];
                    wire::copy(to, name.as_bytes());
                }
                if let Some((head, to)) = value_field.split_first_chunk_mut() {
                    *head = [PAIR_VALUE, v as u8 + 2, VALUE_STRING, v as u8];
                    wire::copy(to, value.as_bytes());
                }
                sink.advance(n + v + 8);
                return Written(());
            }
        }
        string_elsewhere(sink, place, value)
    }

    /// Writes bytes.
    pub fn bytes(self, value: &[u8]) -> Written {
        delimited(self.sink, self.place, VALUE_BYTES, value)
    }

    /// Writes a truth value.
    #[inline]
    pub fn bool(self, value: bool) -> Written {
        scalar(self.sink, self.place, [VALUE_BOOL, u8::from(value)])
    }

    /// Writes an integer.
    #[inline]
    pub fn int(self, value: i64) -> Written {
        varint(self.sink, self.place, VALUE_INT, value as u64)
    }

    /// Writes a floating-point number.
    #[inline]
    pub fn double(self, value: f64) -> Written {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        scalar(self.sink, self.place, [VALUE_DOUBLE, a, b, c, d, e, f, g, h])
    }

    /// Writes an index into the string table of a profile.
    pub fn string_index(self, value: i32) -> Written {
        varint(self.sink, self.place, VALUE_STRINDEX, i64::from(value) as u64)
    }

    /// Writes the empty value.
    pub fn empty(self) -> Written {
        scalar(self.sink, self.place, [])
    }

    /// Writes text or bytes, referenced from 1 KiB on instead of copied.
    pub fn shared(self, value: impl IntoShared) -> Written {
        if value.bytes().len() < SHARED_BYTES_MIN {
            if value.is_text() {
                return delimited(self.sink, self.place, VALUE_STRING, value.bytes());
            }
            return self.bytes(value.bytes());
        }
        let tag = if value.is_text() {
            VALUE_STRING
        } else {
            VALUE_BYTES
        };
        delimited_shared(self.sink, self.place, tag, value.into_bytes())
    }

    /// Writes a list of values.
    pub fn array(self, write: impl FnOnce(&mut ArrayWriter<'_>)) -> Written {
        let nest = open_value(self.sink, self.place);
        let list = self.sink.open(VALUE_ARRAY, 1);
        write(&mut ArrayWriter { sink: self.sink });
        self.sink.close(list);
        close_value(self.sink, nest)
    }

    /// Writes a map of values.
    pub fn kvlist(self, write: impl FnOnce(&mut KvListWriter<'_>)) -> Written {
        let nest = open_value(self.sink, self.place);
        let list = self.sink.open(VALUE_KVLIST, 1);
        write(&mut KvListWriter { sink: self.sink });
        self.sink.close(list);
        close_value(self.sink, nest)
    }
}

/// Takes the elements of an array.
pub struct ArrayWriter<'a> {
    sink: &'a mut Sink,
}

impl ArrayWriter<'_> {
    /// Adds an element.
    pub fn push(&mut self, value: impl IntoValue) -> &mut Self {
        value.write_value(ValueWriter::new(self.sink, Place::Field(LIST_VALUES)));
        self
    }
}

/// Takes the pairs of a map.
pub struct KvListWriter<'a> {
    sink: &'a mut Sink,
}

impl KvListWriter<'_> {
    /// Adds a pair; keys are to be unique.
    pub fn attr(&mut self, name: &str, value: impl IntoValue) -> &mut Self {
        value.write_value(ValueWriter::new(self.sink, Place::Attribute(LIST_VALUES, name)));
        self
    }

    /// Adds a pair whose value is referenced from 1 KiB on instead of copied.
    pub fn attr_shared(&mut self, name: &str, value: impl IntoShared) -> &mut Self {
        ValueWriter::new(self.sink, Place::Attribute(LIST_VALUES, name)).shared(value);
        self
    }
}

/// An array whose elements a closure writes.
///
/// ```
/// # use otlp_embed::{Resource, TraceBatch, encode::array};
/// # let mut batch = TraceBatch::new(&Resource::new());
/// batch.span([1; 16], [1; 8], "query").attr("db.shards", array(|a| {
///     a.push(3).push(7);
/// }));
/// ```
pub fn array<F: FnOnce(&mut ArrayWriter<'_>)>(write: F) -> Array<F> {
    Array(write)
}

/// A map whose pairs a closure writes.
///
/// ```
/// # use otlp_embed::{Resource, TraceBatch, encode::kvlist};
/// # let mut batch = TraceBatch::new(&Resource::new());
/// batch.span([1; 16], [1; 8], "query").attr("db.plan", kvlist(|m| {
///     m.attr("scan", "index").attr("cost", 1.5);
/// }));
/// ```
pub fn kvlist<F: FnOnce(&mut KvListWriter<'_>)>(write: F) -> KvList<F> {
    KvList(write)
}

/// See [`array()`].
pub struct Array<F>(F);

/// See [`kvlist`].
pub struct KvList<F>(F);

impl<F: FnOnce(&mut ArrayWriter<'_>)> IntoValue for Array<F> {
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        to.array(self.0)
    }
}

impl<F: FnOnce(&mut KvListWriter<'_>)> IntoValue for KvList<F> {
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        to.kvlist(self.0)
    }
}

macro_rules! values {
    ($($of:ty => |$value:ident, $to:ident| $write:expr;)*) => {$(
        impl IntoValue for $of {
            #[inline]
            fn write_value(self, $to: ValueWriter<'_>) -> Written {
                let $value = self;
                $write
            }
        }
    )*};
}

values! {
    &str => |value, to| to.string(value);
    String => |value, to| to.string(&value);
    &String => |value, to| to.string(value);
    Cow<'_, str> => |value, to| to.string(&value);
    Box<str> => |value, to| to.string(&value);
    Arc<str> => |value, to| to.string(&value);
    bool => |value, to| to.bool(value);
    i8 => |value, to| to.int(value.into());
    i16 => |value, to| to.int(value.into());
    i32 => |value, to| to.int(value.into());
    i64 => |value, to| to.int(value);
    u16 => |value, to| to.int(value.into());
    u32 => |value, to| to.int(value.into());
    u64 => |value, to| unsigned(value, to);
    usize => |value, to| unsigned(value as u64, to);
    f32 => |value, to| to.double(value.into());
    f64 => |value, to| to.double(value);
    &[u8] => |value, to| to.bytes(value);
    Vec<u8> => |value, to| to.bytes(&value);
    Bytes => |value, to| to.bytes(&value);
    // The empty value.
    () => |_value, to| to.empty();
}

impl<const N: usize> IntoValue for &[u8; N] {
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        to.bytes(self)
    }
}

/// None is the empty value.
impl<T: IntoValue> IntoValue for Option<T> {
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        match self {
            Some(value) => value.write_value(to),
            None => to.empty(),
        }
    }
}

impl<T: IntoValue, const N: usize> IntoValue for [T; N] {
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        to.array(|array| self.into_iter().for_each(|value| _ = array.push(value)))
    }
}

impl<T: IntoValue> IntoValue for Vec<T> {
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        to.array(|array| self.into_iter().for_each(|value| _ = array.push(value)))
    }
}

macro_rules! slices {
    ($($of:ty)*) => {$(
        impl IntoValue for &[$of] {
            fn write_value(self, to: ValueWriter<'_>) -> Written {
                to.array(|array| self.iter().for_each(|value| _ = array.push(value.clone())))
            }
        }
    )*};
}

slices!(&str bool i8 i16 i32 i64 u16 u32 u64 usize f32 f64);

impl IntoValue for &[String] {
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        to.array(|array| self.iter().for_each(|value| _ = array.push(value.as_str())))
    }
}

/// Integers beyond those that OTLP knows become text (OpenTelemetry specification, "Attribute type mapping").
fn unsigned(value: u64, to: ValueWriter<'_>) -> Written {
    if let Ok(value) = i64::try_from(value) {
        return to.int(value);
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value;
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    delimited(to.sink, to.place, VALUE_STRING, &digits[at..])
}

/// Writes everything before the content of a value whose encoded length is known.
#[inline]
fn head(sink: &mut Sink, place: Place<'_>, value_len: usize) {
    match place {
        Place::Attribute(tag, name) => {
            let value_field = 1 + varint_len(value_len as u64) + value_len;
            pair_head(sink, tag, name, value_field);
            sink.put([PAIR_VALUE]);
        }
        Place::Field(tag) => sink.put([tag]),
    }
    sink.varint(value_len as u64);
}

/// Writes the start of a pair whose remainder has a known length: its length and its key.
#[inline]
pub(crate) fn pair_head(sink: &mut Sink, tag: u8, name: &str, rest_len: usize) {
    let n = name.len();
    let name_field = if n == 0 { 0 } else { 1 + varint_len(n as u64) + n };
    sink.put([tag]);
    sink.varint((name_field + rest_len) as u64);
    text_field(sink, PAIR_KEY, name);
}

/// Writes a value of few bytes.
#[inline]
fn scalar<const N: usize>(sink: &mut Sink, place: Place<'_>, value: [u8; N]) -> Written {
    if let Place::Attribute(tag, name) = place {
        let n = name.len();
        if n + N + 4 < 1 << 7 && n > 0 {
            let (pair, value_field) = sink.window(n + N + 6).split_at_mut(n + 4);
            if let Some((head, to)) = pair.split_first_chunk_mut() {
                *head = [tag, (n + N + 4) as u8, PAIR_KEY, n as u8];
                wire::copy(to, name.as_bytes());
            }
            if let Some((head, to)) = value_field.split_first_chunk_mut() {
                *head = [PAIR_VALUE, N as u8];
                to.copy_from_slice(&value);
            }
            sink.advance(n + N + 6);
            return Written(());
        }
    }
    head(sink, place, N);
    sink.put(value);
    Written(())
}

#[inline]
fn varint(sink: &mut Sink, place: Place<'_>, tag: u8, value: u64) -> Written {
    if value < 1 << 7 {
        return scalar(sink, place, [tag, value as u8]);
    }
    if value < 1 << 14 {
        return scalar(sink, place, [tag, value as u8 | 0x80, (value >> 7) as u8]);
    }
    head(sink, place, 1 + varint_len(value));
    let to = sink.window(1 + VARINT_BYTES_MAX);
    to[0] = tag;
    let len = wire::put_varint(&mut to[1..], value);
    sink.advance(1 + len);
    Written(())
}

/// Writes text that is long or no attribute.
#[inline(never)]
fn string_elsewhere(sink: &mut Sink, place: Place<'_>, value: &str) -> Written {
    match place {
        Place::Field(tag) if value.len() <= 125 => {
            let v = value.len();
            let to = sink.window(v + 4);
            [to[0], to[1], to[2], to[3]] = [tag, v as u8 + 2, VALUE_STRING, v as u8];
            wire::copy(&mut to[4..], value.as_bytes());
            sink.advance(v + 4);
            Written(())
        }
        _ => delimited(sink, place, VALUE_STRING, value.as_bytes()),
    }
}

/// Writes a value that is bytes after their length.
fn delimited(sink: &mut Sink, place: Place<'_>, tag: u8, value: &[u8]) -> Written {
    delimited_head(sink, place, tag, value.len());
    sink.bytes(value);
    Written(())
}

fn delimited_shared(sink: &mut Sink, place: Place<'_>, tag: u8, value: Bytes) -> Written {
    delimited_head(sink, place, tag, value.len());
    sink.shared(value);
    Written(())
}

fn delimited_head(sink: &mut Sink, place: Place<'_>, tag: u8, len: usize) {
    head(sink, place, 1 + varint_len(len as u64) + len);
    sink.put([tag]);
    sink.varint(len as u64);
}

fn open_value(sink: &mut Sink, place: Place<'_>) -> Nest {
    match place {
        Place::Attribute(tag, name) => {
            let pair = sink.open(tag, 1);
            text_field(sink, PAIR_KEY, name);
            Nest {
                pair: Some(pair),
                value: sink.open(PAIR_VALUE, 1),
            }
        }
        Place::Field(tag) => Nest {
            pair: None,
            value: sink.open(tag, 1),
        },
    }
}

fn close_value(sink: &mut Sink, nest: Nest) -> Written {
    sink.close(nest.value);
    if let Some(pair) = nest.pair {
        sink.close(pair);
    }
    Written(())
}
