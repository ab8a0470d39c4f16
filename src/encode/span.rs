//! Writers of spans, events and links.

use super::batch::SCOPE_GROUP_ITEMS;
#[cfg(feature = "opentelemetry_0_33")]
use super::field::shared_text_field;
use super::field::{fixed32_field, fixed64_field, text_field, varint_field};
use super::shared::IntoShared;
#[cfg(feature = "opentelemetry_0_33")]
use super::shared::SharedText;
use super::sink::{Frame, Sink};
use super::state::State;
use super::value::{IntoValue, Place, ValueWriter};
use super::wire::{BYTES, FIXED32, FIXED64, VARINT, key};
use crate::error::Error;
use crate::pb::trace::span::SpanKind;
use crate::pb::trace::status::StatusCode;
use core::ops::Range;

pub(crate) const SPAN_TRACE_ID: u8 = key(1, BYTES);
pub(crate) const SPAN_SPAN_ID: u8 = key(2, BYTES);
pub(crate) const SPAN_TRACE_STATE: u8 = key(3, BYTES);
pub(crate) const SPAN_PARENT: u8 = key(4, BYTES);
pub(crate) const SPAN_NAME: u8 = key(5, BYTES);
pub(crate) const SPAN_KIND: u8 = key(6, VARINT);
pub(crate) const SPAN_START: u8 = key(7, FIXED64);
pub(crate) const SPAN_END: u8 = key(8, FIXED64);
pub(crate) const SPAN_ATTRIBUTES: u8 = key(9, BYTES);
pub(crate) const SPAN_DROPPED_ATTRIBUTES: u8 = key(10, VARINT);
pub(crate) const SPAN_EVENTS: u8 = key(11, BYTES);
pub(crate) const SPAN_DROPPED_EVENTS: u8 = key(12, VARINT);
pub(crate) const SPAN_LINKS: u8 = key(13, BYTES);
pub(crate) const SPAN_DROPPED_LINKS: u8 = key(14, VARINT);
pub(crate) const SPAN_STATUS: u8 = key(15, BYTES);
/// Field 16 is the first whose key takes two bytes.
pub(crate) const SPAN_FLAGS: [u8; 2] = [(16 << 3 | FIXED32 as u16) as u8 | 0x80, 1];
pub(crate) const EVENT_TIME: u8 = key(1, FIXED64);
pub(crate) const EVENT_NAME: u8 = key(2, BYTES);
pub(crate) const EVENT_ATTRIBUTES: u8 = key(3, BYTES);
pub(crate) const EVENT_DROPPED_ATTRIBUTES: u8 = key(4, VARINT);
pub(crate) const LINK_TRACE_ID: u8 = key(1, BYTES);
pub(crate) const LINK_SPAN_ID: u8 = key(2, BYTES);
pub(crate) const LINK_TRACE_STATE: u8 = key(3, BYTES);
pub(crate) const LINK_ATTRIBUTES: u8 = key(4, BYTES);
pub(crate) const LINK_DROPPED_ATTRIBUTES: u8 = key(5, VARINT);
pub(crate) const LINK_FLAGS: u8 = key(6, FIXED32);
pub(crate) const STATUS_MESSAGE: u8 = key(2, BYTES);
pub(crate) const STATUS_CODE: u8 = key(3, VARINT);

/// Widths at which lengths are guessed.
pub(crate) const EVENT_WIDTH: usize = 1;

/// Writes one span straight into its batch; made by [`TraceBatch::span`](super::TraceBatch::span).
///
/// Methods may be called in any order, as often as wanted: attributes, events and links add up, of everything else
/// the last call counts. Fields go to the wire in the order of the calls; called in the order of the field numbers
/// (`trace_state`, `parent`, `kind`, `times`, attributes, events, links, `status`, `flags`, each dropped count after its
/// kind) the bytes are exactly those that `prost` writes.
///
/// The span is finished by [`end`](Self::end) or when the writer is dropped, whichever comes first; after `end` all
/// methods do nothing. A span that cannot be finished, because a closure of the caller panicked in the middle of it or
/// because its writer was leaked, is taken out of the batch again and counts as refused.
pub struct SpanWriter<'a> {
    state: &'a mut State,
    name: &'a str,
    phase: Phase,
    frame: Frame,
    /// Fields that were written once; writing them again has to override a value even with the default.
    written: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The ids are written, the name is not: fields with smaller numbers may come first.
    Ids,
    Fields,
    Ended,
    /// The ids are no ids.
    Refused,
}

const WROTE_TRACE_STATE: u8 = 1;
const WROTE_KIND: u8 = 1 << 1;
const WROTE_TIMES: u8 = 1 << 2;
const WROTE_DROPPED_ATTRIBUTES: u8 = 1 << 3;
const WROTE_DROPPED_EVENTS: u8 = 1 << 4;
const WROTE_DROPPED_LINKS: u8 = 1 << 5;
const WROTE_STATUS: u8 = 1 << 6;
const WROTE_FLAGS: u8 = 1 << 7;

impl<'a> SpanWriter<'a> {
    #[inline]
    pub(crate) fn new(state: &'a mut State, trace_id: [u8; 16], span_id: [u8; 8], name: &'a str) -> Self {
        let start = state.sink.mark();
        let frame = state.sink.open(SCOPE_GROUP_ITEMS, state.item_width);
        let refused = u128::from_ne_bytes(trace_id) == 0 || u64::from_ne_bytes(span_id) == 0;
        if refused {
            state.sink.roll_back(start);
            state.refused += 1;
        } else {
            state.unfinished = Some(start);
            if let Some(to) = state.sink.window(28).first_chunk_mut::<28>() {
                [to[0], to[1]] = [SPAN_TRACE_ID, 16];
                to[2..18].copy_from_slice(&trace_id);
                [to[18], to[19]] = [SPAN_SPAN_ID, 8];
                to[20..].copy_from_slice(&span_id);
            }
            state.sink.advance(28);
        }
        let phase = if refused { Phase::Refused } else { Phase::Ids };
        Self {
            state,
            name,
            phase,
            frame,
            written: 0,
        }
    }

    /// Adds an attribute; keys are to be unique within a span.
    #[inline]
    pub fn attr(&mut self, name: &str, value: impl IntoValue) -> &mut Self {
        if self.ready() {
            value.write_value(ValueWriter::new(
                self.sink(),
                Place::Attribute(SPAN_ATTRIBUTES, name),
            ));
        }
        self
    }

    /// Adds an attribute whose value is referenced from 1 KiB on instead of copied.
    pub fn attr_shared(&mut self, name: &str, value: impl IntoShared) -> &mut Self {
        if self.ready() {
            ValueWriter::new(self.sink(), Place::Attribute(SPAN_ATTRIBUTES, name)).shared(value);
        }
        self
    }

    /// Sets when the span began and ended, in nanoseconds of the Unix epoch.
    #[inline]
    pub fn times(&mut self, unix_nanos: Range<u64>) -> &mut Self {
        if self.ready() {
            let again = self.again(WROTE_TIMES);
            fixed64_field(self.sink(), SPAN_START, unix_nanos.start, again);
            fixed64_field(self.sink(), SPAN_END, unix_nanos.end, again);
        }
        self
    }

    /// Sets the part that the span plays in its trace.
    #[inline]
    pub fn kind(&mut self, kind: SpanKind) -> &mut Self {
        if self.ready() {
            let again = self.again(WROTE_KIND);
            varint_field(self.sink(), SPAN_KIND, kind as u64, again);
        }
        self
    }

    /// Sets the parent; an id of zeros makes the span a root, as it is without this call.
    #[inline]
    pub fn parent(&mut self, span_id: [u8; 8]) -> &mut Self {
        if matches!(self.phase, Phase::Ids | Phase::Fields) {
            if u64::from_ne_bytes(span_id) == 0 {
                // An empty field overrides an earlier parent; before the name there cannot have been one.
                if self.phase == Phase::Fields {
                    self.sink().put([SPAN_PARENT, 0]);
                }
            } else {
                let [a, b, c, d, e, f, g, h] = span_id;
                self.sink().put([SPAN_PARENT, 8, a, b, c, d, e, f, g, h]);
            }
        }
        self
    }

    /// Sets the W3C `tracestate`.
    pub fn trace_state(&mut self, trace_state: &str) -> &mut Self {
        if matches!(self.phase, Phase::Ids | Phase::Fields) {
            let again = self.again(WROTE_TRACE_STATE);
            if trace_state.is_empty() && again {
                self.sink().put([SPAN_TRACE_STATE, 0]);
            }
            text_field(self.sink(), SPAN_TRACE_STATE, trace_state);
        }
        self
    }

    /// Sets the flags: W3C trace flags in the low byte, see [`SpanFlags`](crate::pb::trace::SpanFlags) for the rest.
    pub fn flags(&mut self, flags: u32) -> &mut Self {
        if self.ready() {
            let again = self.again(WROTE_FLAGS);
            if flags != 0 || again {
                let [a, b, c, d] = flags.to_le_bytes();
                self.sink().put([SPAN_FLAGS[0], SPAN_FLAGS[1], a, b, c, d]);
            }
        }
        self
    }

    /// Adds an event at a time in nanoseconds of the Unix epoch; the closure adds to it.
    #[inline]
    pub fn event(
        &mut self,
        name: &str,
        unix_nanos: u64,
        write: impl FnOnce(&mut EventWriter<'_>),
    ) -> &mut Self {
        if self.ready() {
            let sink = self.sink();
            let frame = sink.open(SPAN_EVENTS, EVENT_WIDTH);
            fixed64_field(sink, EVENT_TIME, unix_nanos, false);
            text_field(sink, EVENT_NAME, name);
            write(&mut EventWriter { sink, dropped: false });
            sink.close(frame);
        }
        self
    }

    /// Names the span in place of its maker, who gave it no name; the name is referenced. It comes before all else but the
    /// trace state and the parent.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(crate) fn shared_name(&mut self, name: SharedText) -> &mut Self {
        if self.phase == Phase::Ids {
            self.phase = Phase::Fields;
            shared_text_field(self.sink(), SPAN_NAME, name);
        }
        self
    }

    /// As [`event`](Self::event), with a name that is referenced.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(crate) fn shared_event(
        &mut self,
        name: SharedText,
        unix_nanos: u64,
        write: impl FnOnce(&mut EventWriter<'_>),
    ) -> &mut Self {
        if self.ready() {
            let sink = self.sink();
            let frame = sink.open(SPAN_EVENTS, EVENT_WIDTH);
            fixed64_field(sink, EVENT_TIME, unix_nanos, false);
            shared_text_field(sink, EVENT_NAME, name);
            write(&mut EventWriter { sink, dropped: false });
            sink.close(frame);
        }
        self
    }

    /// As [`status`](Self::status), once, with a text that is referenced.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(crate) fn shared_status(&mut self, code: StatusCode, message: SharedText) -> &mut Self {
        if self.ready() {
            let again = self.again(WROTE_STATUS);
            let sink = self.sink();
            let frame = sink.open(SPAN_STATUS, 1);
            shared_text_field(sink, STATUS_MESSAGE, message);
            varint_field(sink, STATUS_CODE, code as u64, again);
            sink.close(frame);
        }
        self
    }

    /// Adds a link to another span; the closure adds to it.
    ///
    /// A link whose ids are all zeros points nowhere: it is left out, and counts as refused like a span.
    pub fn link(
        &mut self,
        trace_id: [u8; 16],
        span_id: [u8; 8],
        write: impl FnOnce(&mut LinkWriter<'_>),
    ) -> &mut Self {
        if !self.ready() {
            return self;
        }
        if trace_id == [0; 16] || span_id == [0; 8] {
            self.state.refused_parts += 1;
            return self;
        }
        let sink = self.sink();
        let frame = sink.open(SPAN_LINKS, EVENT_WIDTH);
        sink.put([LINK_TRACE_ID, 16]);
        sink.put(trace_id);
        sink.put([LINK_SPAN_ID, 8]);
        sink.put(span_id);
        write(&mut LinkWriter { sink, written: 0 });
        sink.close(frame);
        self
    }

    /// Sets how the span ended, with a text for developers that should be empty unless it is an error.
    pub fn status(&mut self, code: StatusCode, message: &str) -> &mut Self {
        if self.ready() {
            let again = self.again(WROTE_STATUS);
            let sink = self.sink();
            let frame = sink.open(SPAN_STATUS, 1);
            if message.is_empty() && again {
                sink.put([STATUS_MESSAGE, 0]);
            }
            text_field(sink, STATUS_MESSAGE, message);
            varint_field(sink, STATUS_CODE, code as u64, again);
            sink.close(frame);
        }
        self
    }

    /// Sets how many attributes were discarded before they came here.
    pub fn dropped_attributes_count(&mut self, count: u32) -> &mut Self {
        self.dropped_count(SPAN_DROPPED_ATTRIBUTES, WROTE_DROPPED_ATTRIBUTES, count)
    }

    /// Sets how many events were discarded before they came here.
    pub fn dropped_events_count(&mut self, count: u32) -> &mut Self {
        self.dropped_count(SPAN_DROPPED_EVENTS, WROTE_DROPPED_EVENTS, count)
    }

    /// Sets how many links were discarded before they came here.
    pub fn dropped_links_count(&mut self, count: u32) -> &mut Self {
        self.dropped_count(SPAN_DROPPED_LINKS, WROTE_DROPPED_LINKS, count)
    }

    /// Finishes the span; later calls on this writer do nothing.
    #[inline]
    pub fn end(&mut self) {
        if self.ready() {
            self.phase = Phase::Ended;
            self.state.end_item(self.frame);
        }
    }

    /// Like [`end`](Self::end), and says whether the span was taken.
    ///
    /// # Errors
    ///
    /// A misuse error where the trace id or the span id consists of zeros: OTLP knows no such span, it was not written.
    pub fn try_end(&mut self) -> Result<(), Error> {
        if self.phase == Phase::Refused {
            return Err(Error::misuse(
                "the span was refused: its trace id or its span id consists of zeros; generate both at random",
            ));
        }
        self.end();
        Ok(())
    }

    #[inline]
    fn sink(&mut self) -> &mut Sink {
        &mut self.state.sink
    }

    /// Whether fields can be written; writes the name where it has not been.
    #[inline]
    fn ready(&mut self) -> bool {
        match self.phase {
            Phase::Fields => true,
            Phase::Ids => {
                self.phase = Phase::Fields;
                text_field(&mut self.state.sink, SPAN_NAME, self.name);
                true
            }
            Phase::Ended | Phase::Refused => false,
        }
    }

    /// Whether a field is written again.
    #[inline]
    fn again(&mut self, field: u8) -> bool {
        let again = self.written & field != 0;
        self.written |= field;
        again
    }

    fn dropped_count(&mut self, key: u8, field: u8, count: u32) -> &mut Self {
        if self.ready() {
            let again = self.again(field);
            varint_field(self.sink(), key, count.into(), again);
        }
        self
    }
}

impl Drop for SpanWriter<'_> {
    #[inline]
    fn drop(&mut self) {
        self.end();
    }
}

/// Adds to an event; see [`SpanWriter::event`].
pub struct EventWriter<'a> {
    sink: &'a mut Sink,
    dropped: bool,
}

impl EventWriter<'_> {
    /// Adds an attribute; keys are to be unique within an event.
    #[inline]
    pub fn attr(&mut self, name: &str, value: impl IntoValue) -> &mut Self {
        value.write_value(ValueWriter::new(
            self.sink,
            Place::Attribute(EVENT_ATTRIBUTES, name),
        ));
        self
    }

    /// Adds an attribute whose value is referenced from 1 KiB on instead of copied.
    pub fn attr_shared(&mut self, name: &str, value: impl IntoShared) -> &mut Self {
        ValueWriter::new(self.sink, Place::Attribute(EVENT_ATTRIBUTES, name)).shared(value);
        self
    }

    /// Sets how many attributes were discarded before they came here.
    pub fn dropped_attributes_count(&mut self, count: u32) -> &mut Self {
        varint_field(self.sink, EVENT_DROPPED_ATTRIBUTES, count.into(), self.dropped);
        self.dropped = true;
        self
    }
}

/// Adds to a link; see [`SpanWriter::link`].
pub struct LinkWriter<'a> {
    sink: &'a mut Sink,
    written: u8,
}

impl LinkWriter<'_> {
    /// Sets the W3C `tracestate` of the linked span.
    pub fn trace_state(&mut self, trace_state: &str) -> &mut Self {
        let again = self.again(WROTE_TRACE_STATE);
        if trace_state.is_empty() && again {
            self.sink.put([LINK_TRACE_STATE, 0]);
        }
        text_field(self.sink, LINK_TRACE_STATE, trace_state);
        self
    }

    /// Adds an attribute; keys are to be unique within a link.
    pub fn attr(&mut self, name: &str, value: impl IntoValue) -> &mut Self {
        value.write_value(ValueWriter::new(
            self.sink,
            Place::Attribute(LINK_ATTRIBUTES, name),
        ));
        self
    }

    /// Adds an attribute whose value is referenced from 1 KiB on instead of copied.
    pub fn attr_shared(&mut self, name: &str, value: impl IntoShared) -> &mut Self {
        ValueWriter::new(self.sink, Place::Attribute(LINK_ATTRIBUTES, name)).shared(value);
        self
    }

    /// Sets how many attributes were discarded before they came here.
    pub fn dropped_attributes_count(&mut self, count: u32) -> &mut Self {
        let again = self.again(WROTE_DROPPED_ATTRIBUTES);
        varint_field(self.sink, LINK_DROPPED_ATTRIBUTES, count.into(), again);
        self
    }

    /// Sets the flags: W3C trace flags in the low byte, see [`SpanFlags`](crate::pb::trace::SpanFlags) for the rest.
    pub fn flags(&mut self, flags: u32) -> &mut Self {
        let again = self.again(WROTE_FLAGS);
        fixed32_field(self.sink, LINK_FLAGS, flags, again);
        self
    }

    fn again(&mut self, field: u8) -> bool {
        let again = self.written & field != 0;
        self.written |= field;
        again
    }
}
