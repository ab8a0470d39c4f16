//! The writer of data points.

use super::kinds::{Refusal, keys, optional};
use super::points::Summaries;
use super::{DATA_POINTS, Distribution, ExemplarWriter, HasExemplars, Kind, Number};
use crate::encode::field::{double_field, varint_field};
use crate::encode::shared::IntoShared;
use crate::encode::sink::{Frame, Sink};
use crate::encode::state::State;
use crate::encode::value::{IntoValue, Place, ValueWriter};
use crate::error::Error;
use alloc::format;

/// Writes one data point straight into its metric; made by the methods `point` of [`PointsWriter`](super::PointsWriter).
///
/// Methods may be called in any order, as often as wanted: attributes, exemplars and quantiles add up, of everything else
/// the last call counts. Called in the order of the field numbers (exemplars and quantiles before attributes; with
/// exponential histograms attributes first, and sum and flags before exemplars) the bytes are exactly those that
/// `prost` writes.
///
/// The point is finished by [`end`](Self::end) or when the writer is dropped, whichever comes first; after `end` all
/// methods do nothing. A point that cannot be finished, because a closure of the caller panicked in the middle of it or
/// because its writer was leaked, is taken out of the batch again and counts as refused, as does one that makes no sense.
pub struct PointWriter<'a, K: Kind> {
    state: &'a mut State,
    frame: Frame,
    phase: Phase,
    flags: u32,
    /// The flags that are on the wire.
    flags_written: u32,
    pending: K::Pending<'a>,
}

#[derive(Clone, Copy)]
enum Phase {
    /// What is pending has not been written.
    Pending,
    Fields,
    Ended,
    Refused(Refusal),
}

impl<'a, K: Kind> PointWriter<'a, K> {
    #[inline]
    pub(super) fn begin(
        state: &'a mut State,
        pending: K::Pending<'a>,
        fit: Result<(), Refusal>,
        write: impl FnOnce(&mut Sink),
    ) -> Self {
        if state.unfinished.is_some() {
            state.settle_item();
        }
        let start = state.sink.mark();
        let frame = state.sink.open(DATA_POINTS, state.point_width);
        let fit = if state.metric.is_none() {
            Err("its metric has no name; give it one")
        } else {
            fit
        };
        let phase = match fit {
            Ok(()) => {
                state.unfinished = Some(start);
                write(&mut state.sink);
                Phase::Pending
            }
            Err(why) => {
                state.sink.roll_back(start);
                state.refuse(why);
                Phase::Refused(why)
            }
        };
        Self {
            state,
            frame,
            phase,
            flags: 0,
            flags_written: 0,
            pending,
        }
    }

    /// Adds an attribute; keys are to be unique within a point.
    #[inline]
    pub fn attr(&mut self, name: &str, value: impl IntoValue) -> &mut Self {
        if self.ready_for_attributes() {
            value.write_value(ValueWriter::new(
                &mut self.state.sink,
                Place::Attribute(K::ATTRIBUTES, name),
            ));
        }
        self
    }

    /// Adds an attribute whose value is referenced from 1 KiB on instead of copied.
    pub fn attr_shared(&mut self, name: &str, value: impl IntoShared) -> &mut Self {
        if self.ready_for_attributes() {
            ValueWriter::new(&mut self.state.sink, Place::Attribute(K::ATTRIBUTES, name)).shared(value);
        }
        self
    }

    /// Sets the flags; see [`DataPointFlags`](crate::pb::metrics::DataPointFlags).
    #[inline]
    pub fn flags(&mut self, flags: u32) -> &mut Self {
        self.flags = flags;
        self
    }

    /// Finishes the point; later calls on this writer do nothing.
    #[inline]
    pub fn end(&mut self) {
        if self.ready() {
            self.phase = Phase::Ended;
            if self.flags != self.flags_written {
                varint_field(&mut self.state.sink, K::FLAGS, self.flags.into(), true);
            }
            K::tail(&self.pending, &mut self.state.sink);
            self.state.end_point(self.frame);
        }
    }

    /// Like [`end`](Self::end), and says whether the point was taken.
    ///
    /// # Errors
    ///
    /// A misuse error where the point makes no sense and was not written; it says why.
    pub fn try_end(&mut self) -> Result<(), Error> {
        if let Phase::Refused(why) = self.phase {
            return Err(Error::misuse(format!("the data point was refused: {why}")));
        }
        self.end();
        Ok(())
    }

    /// Whether fields can be written; writes what is pending.
    #[inline]
    fn ready(&mut self) -> bool {
        match self.phase {
            Phase::Fields => true,
            Phase::Pending => {
                self.phase = Phase::Fields;
                self.flags_written = K::head(&self.pending, self.flags, &mut self.state.sink);
                true
            }
            Phase::Ended | Phase::Refused(_) => false,
        }
    }

    #[inline]
    fn ready_for_attributes(&mut self) -> bool {
        if K::ATTRIBUTES_FIRST {
            matches!(self.phase, Phase::Pending | Phase::Fields)
        } else {
            self.ready()
        }
    }
}

impl<K: HasExemplars> PointWriter<'_, K> {
    /// Adds a measurement that went into the point, with its time in nanoseconds of the Unix epoch; the closure adds to it.
    #[inline]
    pub fn exemplar(
        &mut self,
        value: impl Into<Number>,
        unix_nanos: u64,
        write: impl FnOnce(&mut ExemplarWriter<'_>),
    ) -> &mut Self {
        if self.ready() {
            let frame = self.state.sink.open(K::EXEMPLARS, 1);
            write(&mut ExemplarWriter::begin(
                &mut self.state.sink,
                unix_nanos,
                value.into(),
            ));
            self.state.sink.close(frame);
        }
        self
    }
}

impl<K: Distribution> PointWriter<'_, K> {
    /// Sets the sum of the measured values; it is to be left out where some are negative (OpenTelemetry metrics data model,
    /// "Histogram").
    #[inline]
    pub fn sum(&mut self, sum: f64) -> &mut Self {
        K::totals(&mut self.pending).sum = Some(sum);
        if matches!(self.phase, Phase::Fields) {
            optional(&mut self.state.sink, keys::SUM, Some(sum));
        }
        self
    }

    /// Sets the least value measured.
    #[inline]
    pub fn min(&mut self, min: f64) -> &mut Self {
        K::totals(&mut self.pending).min = Some(min);
        self
    }

    /// Sets the greatest value measured.
    #[inline]
    pub fn max(&mut self, max: f64) -> &mut Self {
        K::totals(&mut self.pending).max = Some(max);
        self
    }
}

impl PointWriter<'_, Summaries> {
    /// Adds the value below which a share of the measurements lies, 0 to 1.
    ///
    /// A share beyond these or a negative value refuses the whole point. Values may be no number, as those of an empty
    /// distribution are.
    #[inline]
    pub fn quantile(&mut self, quantile: f64, value: f64) -> &mut Self {
        if !(0.0..=1.0).contains(&quantile) {
            self.refuse("a quantile is not from 0 to 1");
        } else if value < 0.0 {
            self.refuse("the value of a quantile is negative; record a histogram");
        } else if self.ready() {
            let sink = &mut self.state.sink;
            let frame = sink.open(keys::SUMMARY_QUANTILES, 1);
            double_field(sink, keys::QUANTILE_QUANTILE, quantile);
            double_field(sink, keys::QUANTILE_VALUE, value);
            sink.close(frame);
        }
        self
    }
}

impl<K: Kind> PointWriter<'_, K> {
    /// Takes the point out again.
    #[cold]
    fn refuse(&mut self, why: Refusal) {
        if !matches!(self.phase, Phase::Pending | Phase::Fields) {
            return;
        }
        self.phase = Phase::Refused(why);
        if let Some(start) = self.state.unfinished.take() {
            self.state.sink.roll_back(start);
            self.state.refuse(why);
        }
    }
}

impl<K: Kind> Drop for PointWriter<'_, K> {
    #[inline]
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    /// Ends the data point that began last.
    #[inline]
    fn end_point(&mut self, frame: Frame) {
        if let Some(width) = self.close_item(frame) {
            self.point_width = width;
            self.items += 1;
        }
    }
}
