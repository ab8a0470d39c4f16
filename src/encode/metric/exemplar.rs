//! The writer of exemplars.

use super::Number;
use crate::encode::field::fixed64_field;
use crate::encode::shared::IntoShared;
use crate::encode::sink::Sink;
use crate::encode::value::{IntoValue, Place, ValueWriter};

/// Keys of the fields.
pub(crate) mod keys {
    use crate::encode::wire::{BYTES, FIXED64, key};

    pub(crate) const TIME: u8 = key(2, FIXED64);
    pub(crate) const DOUBLE: u8 = key(3, FIXED64);
    pub(crate) const SPAN_ID: u8 = key(4, BYTES);
    pub(crate) const TRACE_ID: u8 = key(5, BYTES);
    pub(crate) const INT: u8 = key(6, FIXED64);
    pub(crate) const ATTRIBUTES: u8 = key(7, BYTES);
}

/// Adds to an exemplar; see [`PointWriter::exemplar`](super::PointWriter::exemplar).
pub struct ExemplarWriter<'a> {
    sink: &'a mut Sink,
    has_trace: bool,
}

impl<'a> ExemplarWriter<'a> {
    /// Writes what every exemplar has.
    #[inline]
    pub(super) fn begin(sink: &'a mut Sink, unix_nanos: u64, value: Number) -> Self {
        fixed64_field(sink, keys::TIME, unix_nanos, false);
        match value {
            Number::Int(value) => fixed64_field(sink, keys::INT, value as u64, true),
            Number::Double(value) => fixed64_field(sink, keys::DOUBLE, value.to_bits(), true),
        }
        Self {
            sink,
            has_trace: false,
        }
    }

    /// Sets the trace and the span in which it was measured; an id of zeros is none.
    #[inline]
    pub fn trace(&mut self, trace_id: [u8; 16], span_id: [u8; 8]) -> &mut Self {
        if u64::from_ne_bytes(span_id) != 0 {
            self.sink.put([keys::SPAN_ID, 8]);
            self.sink.put(span_id);
        } else if self.has_trace {
            self.sink.put([keys::SPAN_ID, 0]);
        }
        if u128::from_ne_bytes(trace_id) != 0 {
            self.sink.put([keys::TRACE_ID, 16]);
            self.sink.put(trace_id);
        } else if self.has_trace {
            self.sink.put([keys::TRACE_ID, 0]);
        }
        self.has_trace = true;
        self
    }

    /// Adds an attribute of the measurement that the data point does not have; keys are to be unique.
    #[inline]
    pub fn attr(&mut self, name: &str, value: impl IntoValue) -> &mut Self {
        value.write_value(ValueWriter::new(
            self.sink,
            Place::Attribute(keys::ATTRIBUTES, name),
        ));
        self
    }

    /// Adds an attribute whose value is referenced from 1 KiB on instead of copied.
    pub fn attr_shared(&mut self, name: &str, value: impl IntoShared) -> &mut Self {
        ValueWriter::new(self.sink, Place::Attribute(keys::ATTRIBUTES, name)).shared(value);
        self
    }
}
