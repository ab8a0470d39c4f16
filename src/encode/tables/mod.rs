//! The messages of every signal as tables: numbers, names and kinds of their fields.
//!
//! One description serves the check and the count of what others encoded, splitting, and JSON both ways. It follows
//! opentelemetry-proto 1.11; fields that are not in it are unknown and are left alone (OTLP specification, "Future Versions
//! and Interoperability").

mod common;
mod logs;
mod metrics;
mod profiles;
mod trace;

use super::request::Signal;
use super::wire::{BYTES, FIXED32, FIXED64, VARINT};

/// A message: its fields by ascending number. It has at most one `oneof`.
pub(crate) struct Message {
    pub(crate) fields: &'static [Field],
}

/// A field of a message.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(feature = "json"),
    allow(dead_code, reason = "its names are those of JSON")
)]
pub(crate) struct Field {
    pub(crate) number: u32,
    /// Its name in the `.proto` file.
    pub(crate) name: &'static str,
    /// Its name in JSON.
    pub(crate) json: &'static str,
    pub(crate) kind: Kind,
    pub(crate) is_repeated: bool,
    pub(crate) presence: Presence,
    /// Whether JSON has it even where it is not set: receivers are known to ask for it.
    pub(crate) is_always_in_json: bool,
    pub(crate) role: Role,
}

/// What a field's value is.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(feature = "json"),
    allow(dead_code, reason = "its names are those of JSON")
)]
pub(crate) enum Kind {
    Bool,
    /// `int32`.
    Int32,
    /// `sint32`, in ZigZag.
    Sint32,
    Uint32,
    Int64,
    Uint64,
    Fixed32,
    Fixed64,
    Sfixed64,
    Double,
    /// An enumeration: its names, from zero on without a gap.
    Enum(&'static [&'static str]),
    String,
    Bytes,
    /// Bytes that JSON has in hexadecimal: ids of traces, spans and profiles.
    Id,
    Message(&'static Message),
}

/// Whether a field that is not set differs from one that has its default.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Implicit,
    /// `optional`.
    Explicit,
    /// A member of the message's `oneof`: setting it clears the others.
    Oneof,
}

/// What a field has to do with the items of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing: it goes with every part of what holds it.
    Plain,
    /// It holds items, or what holds items.
    Container,
    /// It is an item.
    Item,
}

/// The export request of a signal.
pub(crate) fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Traces => &trace::REQUEST,
        Signal::Metrics => &metrics::REQUEST,
        Signal::Logs => &logs::REQUEST,
        Signal::Profiles => &profiles::REQUEST,
    }
}

impl Message {
    /// The field of that number, with its place in the table.
    #[inline]
    pub(crate) fn field(&self, number: u32) -> Option<(usize, &'static Field)> {
        // Numbers are mostly dense, from one on.
        let guess = (number as usize).wrapping_sub(1);
        match self.fields.get(guess) {
            Some(field) if field.number == number => Some((guess, field)),
            _ => {
                let at = self
                    .fields
                    .binary_search_by_key(&number, |field| field.number)
                    .ok()?;
                Some((at, &self.fields[at]))
            }
        }
    }
}

impl Kind {
    /// The wire type of one value.
    pub(crate) const fn wire_type(self) -> u8 {
        match self {
            Self::Bool
            | Self::Int32
            | Self::Sint32
            | Self::Uint32
            | Self::Int64
            | Self::Uint64
            | Self::Enum(_) => VARINT,
            Self::Fixed64 | Self::Sfixed64 | Self::Double => FIXED64,
            Self::Fixed32 => FIXED32,
            Self::String | Self::Bytes | Self::Id | Self::Message(_) => BYTES,
        }
    }
}

impl Field {
    /// A singular field without presence.
    const fn new(number: u32, name: &'static str, json: &'static str, kind: Kind) -> Self {
        Self {
            number,
            name,
            json,
            kind,
            is_repeated: false,
            presence: Presence::Implicit,
            is_always_in_json: false,
            role: Role::Plain,
        }
    }

    const fn repeated(self) -> Self {
        Self {
            is_repeated: true,
            ..self
        }
    }

    const fn optional(self) -> Self {
        Self {
            presence: Presence::Explicit,
            ..self
        }
    }

    const fn oneof(self) -> Self {
        Self {
            presence: Presence::Oneof,
            ..self
        }
    }

    const fn always(self) -> Self {
        Self {
            is_always_in_json: true,
            ..self
        }
    }

    const fn container(self) -> Self {
        Self {
            role: Role::Container,
            ..self
        }
    }

    const fn item(self) -> Self {
        Self {
            role: Role::Item,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;

    fn every_message() -> Vec<&'static Message> {
        let mut found: Vec<&'static Message> = Vec::new();
        let mut left: Vec<_> = Signal::ALL.map(request).into();
        while let Some(message) = left.pop() {
            if !found.iter().any(|known| core::ptr::eq(*known, message)) {
                found.push(message);
                left.extend(message.fields.iter().filter_map(|field| match field.kind {
                    Kind::Message(message) => Some(message),
                    _ => None,
                }));
            }
        }
        found
    }

    #[test]
    fn every_message_is_reached_and_its_fields_are_found() {
        let messages = every_message();
        // Requests and their envelopes, what is common to all, then what each signal has of its own.
        assert_eq!(messages.len(), 4 + 8 + 7 + 4 + 1 + 13 + 11);
        for message in messages {
            assert!(message.fields.is_sorted_by_key(|field| field.number));
            assert!(message.fields.len() <= 32, "too many for a set in 32 bits");
            for (at, field) in message.fields.iter().enumerate() {
                let found = message.field(field.number).map(|(at, _)| at);
                assert_eq!(found, Some(at), "{}", field.name);
            }
            assert!(message.field(0).is_none());
            assert!(message.field(99).is_none());
            assert!(message.field(u32::MAX).is_none());
        }
    }

    #[test]
    fn names_in_json_are_those_of_the_proto_files_in_lower_camel_case() {
        for field in every_message().iter().flat_map(|message| message.fields) {
            let mut parts = field.name.split('_');
            let mut camel: String = parts.next().unwrap_or_default().into();
            for part in parts {
                let (head, rest) = part.split_at(1);
                camel.push_str(&head.to_uppercase());
                camel.push_str(rest);
            }
            assert_eq!(field.json, camel);
        }
    }

    #[test]
    fn items_lie_in_containers_alone() {
        for signal in Signal::ALL {
            let mut level = vec![request(signal)];
            let mut items = 0;
            while !level.is_empty() {
                let fields = level.iter().flat_map(|message| message.fields);
                let (mut next, mut here) = (Vec::new(), 0);
                for field in fields {
                    match (field.role, field.kind) {
                        (Role::Plain, _) => {}
                        (Role::Item, Kind::Message(_)) if field.is_repeated => here += 1,
                        (Role::Container, Kind::Message(message)) => next.push(message),
                        _ => panic!("{} cannot be what it is", field.name),
                    }
                }
                assert!(here == 0 || next.is_empty());
                items += here;
                level = next;
            }
            let kinds = if signal == Signal::Metrics { 5 } else { 1 };
            assert_eq!(items, kinds, "{signal:?}");
        }
    }
}
