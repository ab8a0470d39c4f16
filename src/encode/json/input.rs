//! JSON objects as messages.

use crate::encode::tables::{Field, Kind, Message, Presence};
use crate::encode::wire::{BYTES, FIXED32, VARINT, VARINT_BYTES_MAX, put_varint, varint_len};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use core::fmt;
use serde_core::Deserializer;
use serde_core::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Encodes a message of its JSON.
pub(super) fn request(table: &'static Message, json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    // The parser would not look at the text of fields that are ignored.
    let json = core::str::from_utf8(json).map_err(serde_json::Error::custom)?;
    let mut to = Vec::new();
    let mut from = serde_json::Deserializer::from_str(json);
    Object { table, to: &mut to }.deserialize(&mut from)?;
    from.end()?;
    Ok(to)
}

/// The content of a message.
struct Object<'t> {
    table: &'static Message,
    to: &'t mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(Name(self.table))? {
            match field {
                Some(field) => map.next_value_seed(Value { field, to: self.to })?,
                None => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }
}

/// The name of a field, in either spelling.
struct Name(&'static Message);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let mut fields = self.0.fields.iter();
        Ok(fields.find(|field| field.json == name || field.name == name))
    }
}

/// The value of a field, or its array of values.
struct Value<'t> {
    field: &'static Field,
    to: &'t mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_repeated {
            return write!(f, "an array for {}", self.field.json);
        }
        write!(f, "{} for {}", expected(self.field.kind), self.field.json)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        if !self.field.is_repeated {
            return Err(Error::invalid_type(serde_core::de::Unexpected::Seq, &self));
        }
        let Self { field, to } = self;
        if field.kind.wire_type() == BYTES {
            while array.next_element_seed(Element { field, to })?.is_some() {}
            return Ok(());
        }
        let start = to.len();
        while array.next_element_seed(Element { field, to })?.is_some() {}
        if to.len() > start {
            enclose(to, start, field.number);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.one(|element| element.visit_map(map))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.one(|element| element.visit_str(text))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.one(|element| element.visit_bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.one(|element| element.visit_i64(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.one(|element| element.visit_u64(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.one(|element| element.visit_f64(value))
    }
}

impl Value<'_> {
    /// Encodes the one value of a singular field.
    fn one<E: Error>(self, encode: impl FnOnce(Element<'_>) -> Result<(), E>) -> Result<(), E> {
        let Self { field, to } = self;
        if field.is_repeated {
            return Err(E::custom(format_args!("{} is an array", field.json)));
        }
        let start = to.len();
        let wire_type = field.kind.wire_type();
        if wire_type != BYTES {
            put(to, u64::from(field.number) << 3 | u64::from(wire_type));
        }
        let value = to.len();
        encode(Element { field, to })?;
        // What has its default is not set, unless that makes a difference.
        let is_default = match field.kind {
            Kind::Message(_) => false,
            Kind::String | Kind::Bytes | Kind::Id => {
                to.ends_with(&[0]) && to.len() - start == key_len(field) + 1
            }
            _ => to[value..].iter().all(|byte| *byte == 0),
        };
        if is_default && field.presence == Presence::Implicit {
            to.truncate(start);
        }
        Ok(())
    }
}

/// One value: with key and length where it has a length, else without a key.
struct Element<'t> {
    field: &'static Field,
    to: &'t mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", expected(self.field.kind), self.field.json)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Kind::Message(table) = self.field.kind else {
            return Err(Error::invalid_type(serde_core::de::Unexpected::Map, &self));
        };
        let start = self.to.len();
        Object { table, to: self.to }.visit_map(map)?;
        enclose(self.to, start, self.field.number);
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        let Kind::Bool = self.field.kind else {
            return Err(E::invalid_type(serde_core::de::Unexpected::Bool(value), &self));
        };
        self.to.push(value.into());
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        if let Kind::Double = self.field.kind {
            self.to.extend(value.to_le_bytes());
            return Ok(());
        }
        // Some writers have integers with a fraction of zero or an exponent; beyond this range they are no integers.
        let whole = value as i128;
        if value.abs() < 1e20 && whole as f64 == value {
            return self.integer(whole);
        }
        Err(E::invalid_value(serde_core::de::Unexpected::Float(value), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let start = self.to.len();
        match self.field.kind {
            Kind::String => self.to.extend(text.as_bytes()),
            Kind::Bytes => base64_of(text, self.to).ok_or_else(|| self.bad(text))?,
            Kind::Id => hex_of(text, self.to).ok_or_else(|| self.bad(text))?,
            Kind::Double => {
                let value = match text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    _ => text
                        .parse()
                        .ok()
                        .filter(|value: &f64| value.is_finite())
                        .ok_or_else(|| self.bad(text))?,
                };
                self.to.extend(value.to_le_bytes());
                return Ok(());
            }
            Kind::Enum(names) if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                let value = names.iter().position(|name| *name == text);
                let value = value.ok_or_else(|| self.bad(text))?;
                return self.integer(value as i128);
            }
            Kind::Bool | Kind::Message(_) => return Err(self.bad(text)),
            _ => {
                let value: i128 = text.parse().map_err(|_| self.bad(text))?;
                return self.integer(value);
            }
        }
        enclose(self.to, start, self.field.number);
        Ok(())
    }
}

impl Element<'_> {
    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        let in_range = match self.field.kind {
            Kind::Int32 | Kind::Sint32 | Kind::Enum(_) => i32::try_from(value).is_ok(),
            Kind::Uint32 | Kind::Fixed32 => u32::try_from(value).is_ok(),
            Kind::Int64 | Kind::Sfixed64 => i64::try_from(value).is_ok(),
            Kind::Uint64 | Kind::Fixed64 => u64::try_from(value).is_ok(),
            Kind::Double => true,
            _ => false,
        };
        if !in_range {
            return Err(self.bad(&format!("{value}")));
        }
        match self.field.kind {
            Kind::Double => self.to.extend((value as f64).to_le_bytes()),
            Kind::Sint32 => {
                let value = value as i32;
                put(self.to, u64::from(((value << 1) ^ (value >> 31)) as u32));
            }
            kind => match kind.wire_type() {
                VARINT => put(self.to, value as u64),
                FIXED32 => self.to.extend((value as u32).to_le_bytes()),
                _ => self.to.extend((value as u64).to_le_bytes()),
            },
        }
        Ok(())
    }

    fn bad<E: Error>(&self, found: &str) -> E {
        // No more of it than says what it is.
        let found: String = found.chars().take(40).collect();
        E::invalid_value(serde_core::de::Unexpected::Str(&found), self)
    }
}

/// What a kind of value looks like in JSON.
fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true or false",
        Kind::Int32 | Kind::Sint32 | Kind::Uint32 | Kind::Fixed32 => "an integer of 32 bits",
        Kind::Int64 | Kind::Uint64 | Kind::Fixed64 | Kind::Sfixed64 => "an integer of 64 bits",
        Kind::Double => "a number",
        Kind::Enum(_) => "the number or name of a member",
        Kind::String => "a string",
        Kind::Bytes => "base64",
        Kind::Id => "hexadecimal digits",
        Kind::Message(_) => "an object",
    }
}

/// Puts key and length before what was written since a place.
fn enclose(to: &mut Vec<u8>, start: usize, number: u32) {
    let len = to.len() - start;
    let mut head = [0; 2 * VARINT_BYTES_MAX];
    let mut head_len = put_varint(&mut head, u64::from(number) << 3 | u64::from(BYTES));
    head_len += put_varint(&mut head[head_len..], len as u64);
    to.extend_from_slice(&head[..head_len]);
    to.copy_within(start..start + len, start + head_len);
    to[start..start + head_len].copy_from_slice(&head[..head_len]);
}

fn key_len(field: &Field) -> usize {
    varint_len(u64::from(field.number) << 3)
}

fn put(to: &mut Vec<u8>, value: u64) {
    let mut varint = [0; VARINT_BYTES_MAX];
    let len = put_varint(&mut varint, value);
    to.extend_from_slice(&varint[..len]);
}

fn base64_of(text: &str, to: &mut Vec<u8>) -> Option<()> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let is_url_safe = text.contains(['-', '_']);
    let alphabet = if is_url_safe { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, LENIENT).decode_vec(text, to).ok()
}

fn hex_of(text: &str, to: &mut Vec<u8>) -> Option<()> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut digits = text.as_bytes().iter();
    while let Some(high) = digits.next() {
        to.push((digit(high)? << 4 | digit(digits.next()?)?) as u8);
    }
    Some(())
}
