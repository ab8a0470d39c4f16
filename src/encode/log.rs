//! The writer of log records.

use super::batch::SCOPE_GROUP_ITEMS;
use super::field::{fixed32_field, fixed64_field, text_field, varint_field};
use super::shared::IntoShared;
use super::sink::{Frame, Sink};
use super::state::State;
use super::value::{IntoValue, Place, ValueWriter};
use super::wire::{BYTES, FIXED32, FIXED64, VARINT, key};
use crate::pb::logs::SeverityNumber;

pub(crate) const LOG_TIME: u8 = key(1, FIXED64);
pub(crate) const LOG_SEVERITY_NUMBER: u8 = key(2, VARINT);
pub(crate) const LOG_SEVERITY_TEXT: u8 = key(3, BYTES);
pub(crate) const LOG_BODY: u8 = key(5, BYTES);
pub(crate) const LOG_ATTRIBUTES: u8 = key(6, BYTES);
pub(crate) const LOG_DROPPED_ATTRIBUTES: u8 = key(7, VARINT);
pub(crate) const LOG_FLAGS: u8 = key(8, FIXED32);
pub(crate) const LOG_TRACE_ID: u8 = key(9, BYTES);
pub(crate) const LOG_SPAN_ID: u8 = key(10, BYTES);
pub(crate) const LOG_OBSERVED_TIME: u8 = key(11, FIXED64);
pub(crate) const LOG_EVENT_NAME: u8 = key(12, BYTES);

/// Writes one log record straight into its batch; made by [`LogBatch::log`](super::LogBatch::log).
///
/// Methods may be called in any order, as often as wanted: attributes add up, of the body the first call counts, of
/// everything else the last. Fields go to the wire in the order of the calls; called in the order of the field numbers
/// (`time`, `severity`, `body`, attributes, their dropped count, `flags`, `trace`, `observed_time`, `event_name`) the
/// bytes are exactly those that `prost` writes.
///
/// The record is finished by [`end`](Self::end) or when the writer is dropped, whichever comes first; after `end` all
/// methods do nothing. A record that cannot be finished, because a value of the caller panicked in the middle of it or
/// because its writer was leaked, is taken out of the batch again and counts as refused.
pub struct LogWriter<'a> {
    state: &'a mut State,
    frame: Frame,
    /// Fields that were written once; writing them again has to override a value even with the default.
    written: u8,
    is_ended: bool,
}

const WROTE_TIME: u8 = 1;
const WROTE_SEVERITY: u8 = 1 << 1;
const WROTE_BODY: u8 = 1 << 2;
const WROTE_DROPPED_ATTRIBUTES: u8 = 1 << 3;
const WROTE_FLAGS: u8 = 1 << 4;
const WROTE_TRACE: u8 = 1 << 5;
const WROTE_OBSERVED_TIME: u8 = 1 << 6;
const WROTE_EVENT_NAME: u8 = 1 << 7;

impl<'a> LogWriter<'a> {
    #[inline]
    pub(crate) fn new(state: &'a mut State) -> Self {
        state.unfinished = Some(state.sink.mark());
        let frame = state.sink.open(SCOPE_GROUP_ITEMS, state.item_width);
        Self {
            state,
            frame,
            written: 0,
            is_ended: false,
        }
    }

    /// Sets when it happened, in nanoseconds of the Unix epoch; 0, as without this call, where that is not known.
    #[inline]
    pub fn time(&mut self, unix_nanos: u64) -> &mut Self {
        self.fixed64(LOG_TIME, WROTE_TIME, unix_nanos)
    }

    /// Sets when the collection system saw it, in nanoseconds of the Unix epoch.
    #[inline]
    pub fn observed_time(&mut self, unix_nanos: u64) -> &mut Self {
        self.fixed64(LOG_OBSERVED_TIME, WROTE_OBSERVED_TIME, unix_nanos)
    }

    /// Sets how grave it is, as a number and in the words of its source, which may be empty.
    #[inline]
    pub fn severity(&mut self, number: SeverityNumber, text: &str) -> &mut Self {
        if let Some(again) = self.again(WROTE_SEVERITY) {
            let sink = self.sink();
            varint_field(sink, LOG_SEVERITY_NUMBER, number as u64, again);
            overriding_text_field(sink, LOG_SEVERITY_TEXT, text, again);
        }
        self
    }

    /// Sets what is said: text, or a value of any other kind.
    ///
    /// A record has one body, since a list or a map cannot be taken back on the wire: later calls do nothing.
    #[inline]
    pub fn body(&mut self, value: impl IntoValue) -> &mut Self {
        if self.again(WROTE_BODY) == Some(false) {
            value.write_value(ValueWriter::new(self.sink(), Place::Field(LOG_BODY)));
        }
        self
    }

    /// Like [`body`](Self::body), with text or bytes that are referenced from 1 KiB on instead of copied.
    pub fn body_shared(&mut self, value: impl IntoShared) -> &mut Self {
        if self.again(WROTE_BODY) == Some(false) {
            ValueWriter::new(self.sink(), Place::Field(LOG_BODY)).shared(value);
        }
        self
    }

    /// Adds an attribute; keys are to be unique within a record.
    #[inline]
    pub fn attr(&mut self, name: &str, value: impl IntoValue) -> &mut Self {
        if !self.is_ended {
            value.write_value(ValueWriter::new(
                self.sink(),
                Place::Attribute(LOG_ATTRIBUTES, name),
            ));
        }
        self
    }

    /// Adds an attribute whose value is referenced from 1 KiB on instead of copied.
    pub fn attr_shared(&mut self, name: &str, value: impl IntoShared) -> &mut Self {
        if !self.is_ended {
            ValueWriter::new(self.sink(), Place::Attribute(LOG_ATTRIBUTES, name)).shared(value);
        }
        self
    }

    /// Sets how many attributes were discarded before they came here.
    pub fn dropped_attributes_count(&mut self, count: u32) -> &mut Self {
        if let Some(again) = self.again(WROTE_DROPPED_ATTRIBUTES) {
            varint_field(self.sink(), LOG_DROPPED_ATTRIBUTES, count.into(), again);
        }
        self
    }

    /// Sets the flags: W3C trace flags in the low byte, see [`LogRecordFlags`](crate::pb::logs::LogRecordFlags).
    #[inline]
    pub fn flags(&mut self, flags: u32) -> &mut Self {
        if let Some(again) = self.again(WROTE_FLAGS) {
            fixed32_field(self.sink(), LOG_FLAGS, flags, again);
        }
        self
    }

    /// Sets the trace and the span in which it happened; an id of zeros is none.
    #[inline]
    pub fn trace(&mut self, trace_id: [u8; 16], span_id: [u8; 8]) -> &mut Self {
        if let Some(again) = self.again(WROTE_TRACE) {
            let sink = self.sink();
            if u128::from_ne_bytes(trace_id) != 0 {
                sink.put([LOG_TRACE_ID, 16]);
                sink.put(trace_id);
            } else if again {
                sink.put([LOG_TRACE_ID, 0]);
            }
            if u64::from_ne_bytes(span_id) != 0 {
                sink.put([LOG_SPAN_ID, 8]);
                sink.put(span_id);
            } else if again {
                sink.put([LOG_SPAN_ID, 0]);
            }
        }
        self
    }

    /// Names the class of event that the record is one of, which tells how body and attributes are to be read.
    pub fn event_name(&mut self, name: &str) -> &mut Self {
        if let Some(again) = self.again(WROTE_EVENT_NAME) {
            overriding_text_field(self.sink(), LOG_EVENT_NAME, name, again);
        }
        self
    }

    /// Finishes the record; later calls on this writer do nothing.
    #[inline]
    pub fn end(&mut self) {
        if !self.is_ended {
            self.is_ended = true;
            self.state.end_item(self.frame);
        }
    }

    #[inline]
    fn sink(&mut self) -> &mut Sink {
        &mut self.state.sink
    }

    /// Whether a field is written again; nothing where the record has ended.
    #[inline]
    fn again(&mut self, field: u8) -> Option<bool> {
        let again = self.written & field != 0;
        self.written |= field;
        (!self.is_ended).then_some(again)
    }

    #[inline]
    fn fixed64(&mut self, key: u8, field: u8, value: u64) -> &mut Self {
        if let Some(again) = self.again(field) {
            fixed64_field(self.sink(), key, value, again);
        }
        self
    }
}

impl Drop for LogWriter<'_> {
    #[inline]
    fn drop(&mut self) {
        self.end();
    }
}

/// Writes a text field; `again` writes an empty one as well.
#[inline]
fn overriding_text_field(sink: &mut Sink, key: u8, text: &str, again: bool) {
    if text.is_empty() && again {
        sink.put([key, 0]);
    }
    text_field(sink, key, text);
}
