//! Writers of metrics and their data points.

use super::batch::SCOPE_GROUP_ITEMS;
use super::field::{text_field, varint_field};
use super::shared::IntoShared;
use super::sink::{Frame, Mark};
use super::state::State;
use super::value::{IntoValue, Place, ValueWriter};
use super::wire::{BYTES, VARINT, key};
use crate::pb::metrics::AggregationTemporality;
use core::marker::PhantomData;
use core::ops::Range;

mod exemplar;
mod kinds;
mod number;
mod point;

pub use exemplar::ExemplarWriter;
pub(crate) use exemplar::keys as exemplar_keys;
pub(crate) use kinds::keys as kind_keys;
pub use kinds::{Buckets, Distribution, ExponentialBuckets, HasExemplars, Kind};
pub(crate) use kinds::{optional, packed_varints, packed64};
pub use number::Number;
pub use point::PointWriter;

/// The kinds of data points: each metric has those of one kind.
pub mod points {
    pub use super::kinds::{ExponentialHistograms, Histograms, Numbers, Summaries};
}

use points::{ExponentialHistograms, Histograms, Numbers, Summaries};

pub(crate) const METRIC_NAME: u8 = key(1, BYTES);
pub(crate) const METRIC_DESCRIPTION: u8 = key(2, BYTES);
pub(crate) const METRIC_UNIT: u8 = key(3, BYTES);
pub(crate) const METRIC_GAUGE: u8 = key(5, BYTES);
pub(crate) const METRIC_SUM: u8 = key(7, BYTES);
pub(crate) const METRIC_HISTOGRAM: u8 = key(9, BYTES);
pub(crate) const METRIC_EXPONENTIAL_HISTOGRAM: u8 = key(10, BYTES);
pub(crate) const METRIC_SUMMARY: u8 = key(11, BYTES);
pub(crate) const METRIC_METADATA: u8 = key(12, BYTES);
// The same for every kind that has them.
pub(crate) const DATA_POINTS: u8 = key(1, BYTES);
pub(crate) const DATA_TEMPORALITY: u8 = key(2, VARINT);
pub(crate) const DATA_IS_MONOTONIC: u8 = key(3, VARINT);

/// The stretch of time that the data points of a metric speak of (OpenTelemetry metrics data model, "Temporality").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Temporality {
    /// Since the last report.
    Delta,
    /// Since a fixed start.
    Cumulative,
}

impl From<Temporality> for AggregationTemporality {
    fn from(temporality: Temporality) -> Self {
        match temporality {
            Temporality::Delta => Self::Delta,
            Temporality::Cumulative => Self::Cumulative,
        }
    }
}

/// Says what is measured; made by [`MetricBatch::metric`](super::MetricBatch::metric).
///
/// The kind comes last and takes the metric's data points: nothing but points of that kind can be added. Nothing is
/// written for a metric whose kind is never said, or that gets no data point.
#[must_use = "a metric without a kind is not written"]
pub struct MetricWriter<'a> {
    state: &'a mut State,
    name: &'a str,
    description: &'a str,
    unit: &'a str,
}

impl<'a> MetricWriter<'a> {
    #[inline]
    pub(crate) fn new(state: &'a mut State, name: &'a str) -> Self {
        state.metadata.clear();
        Self {
            state,
            name,
            description: "",
            unit: "",
        }
    }

    /// Sets what the metric means, for people.
    #[inline]
    pub fn description(mut self, description: &'a str) -> Self {
        self.description = description;
        self
    }

    /// Sets the unit, in the notation of UCUM: `s`, `By`, `{request}`.
    #[inline]
    pub fn unit(mut self, unit: &'a str) -> Self {
        self.unit = unit;
        self
    }

    /// Adds an attribute of the metric itself, for consumers that know its name; names are to be unique.
    pub fn metadata(self, name: &str, value: impl IntoValue) -> Self {
        self.aside(|to| _ = value.write_value(to), name)
    }

    /// Adds an attribute of the metric itself given as something shareable; the batch holds a copy.
    pub fn metadata_shared(self, name: &str, value: impl IntoShared) -> Self {
        self.aside(|to| _ = to.shared(value), name)
    }

    /// Values as they are at a time.
    #[inline]
    pub fn gauge(self) -> PointsWriter<'a, Numbers> {
        self.open(METRIC_GAUGE, None, false)
    }

    /// Sums that may grow and shrink.
    #[inline]
    pub fn sum(self, temporality: Temporality) -> PointsWriter<'a, Numbers> {
        self.open(METRIC_SUM, Some(temporality), false)
    }

    /// Sums that only ever grow, as those of counters do.
    #[inline]
    pub fn monotonic_sum(self, temporality: Temporality) -> PointsWriter<'a, Numbers> {
        self.open(METRIC_SUM, Some(temporality), true)
    }

    /// Distributions over buckets with explicit bounds.
    #[inline]
    pub fn histogram(self, temporality: Temporality) -> PointsWriter<'a, Histograms> {
        self.open(METRIC_HISTOGRAM, Some(temporality), false)
    }

    /// Distributions over buckets whose bounds grow exponentially.
    #[inline]
    pub fn exponential_histogram(self, temporality: Temporality) -> PointsWriter<'a, ExponentialHistograms> {
        self.open(METRIC_EXPONENTIAL_HISTOGRAM, Some(temporality), false)
    }

    /// Distributions as quantiles, from older systems; new instrumentation records histograms.
    #[inline]
    pub fn summary(self) -> PointsWriter<'a, Summaries> {
        self.open(METRIC_SUMMARY, None, false)
    }

    /// Writes a pair of the metadata, which goes to the wire behind the data points.
    fn aside(self, write: impl FnOnce(ValueWriter<'_>), name: &str) -> Self {
        let state = &mut *self.state;
        let start = state.sink.mark();
        state.unfinished_aside = Some(start);
        write(ValueWriter::new(
            &mut state.sink,
            Place::Attribute(METRIC_METADATA, name),
        ));
        state.unfinished_aside = None;
        if state.sink.depth() == start.depth() {
            state.sink.copy_since(start, &mut state.metadata);
        }
        state.sink.roll_back(start);
        self
    }

    #[inline]
    fn open<K: Kind>(
        self,
        data: u8,
        temporality: Option<Temporality>,
        is_monotonic: bool,
    ) -> PointsWriter<'a, K> {
        let state = self.state;
        if !self.name.is_empty() {
            let start = state.sink.mark();
            let metric = state.sink.open(SCOPE_GROUP_ITEMS, state.item_width);
            text_field(&mut state.sink, METRIC_NAME, self.name);
            text_field(&mut state.sink, METRIC_DESCRIPTION, self.description);
            text_field(&mut state.sink, METRIC_UNIT, self.unit);
            state.metric = Some(OpenMetric {
                start,
                metric,
                data: state.sink.open(data, state.item_width),
                temporality,
                is_monotonic,
                items_before: state.items,
            });
        }
        PointsWriter {
            state,
            kind: PhantomData,
        }
    }
}

/// Takes the data points of one metric, all of one [kind](points).
///
/// The metric is finished by [`end`](Self::end) or when the writer is dropped.
///
/// ```
/// use otlp_embed::{MetricBatch, Resource, Temporality};
///
/// let mut batch = MetricBatch::new(&Resource::new());
/// let mut served = batch.metric("http.server.requests").monotonic_sum(Temporality::Delta);
/// for (route, count) in [("/cart", 7), ("/checkout", 2)] {
///     served.point(1_000..2_000, count).attr("http.route", route).end();
/// }
/// served.end();
/// assert_eq!(batch.len(), 2);
/// ```
///
/// Points of another kind do not type-check:
///
/// ```compile_fail,E0599
/// # use otlp_embed::{MetricBatch, Resource, Temporality};
/// # let mut batch = MetricBatch::new(&Resource::new());
/// batch.metric("http.server.requests").gauge().point(0..1, 7).quantile(0.5, 7.0);
/// ```
pub struct PointsWriter<'a, K: Kind> {
    state: &'a mut State,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> PointsWriter<'_, K> {
    /// Finishes the metric, as dropping the writer does.
    pub fn end(self) {}
}

impl PointsWriter<'_, Numbers> {
    /// Adds a number, integer or floating-point, that was taken at the end of the time; the time's start is since when a
    /// sum counts, 0 for what has none. Both in nanoseconds of the Unix epoch.
    #[inline]
    pub fn point(&mut self, unix_nanos: Range<u64>, value: impl Into<Number>) -> PointWriter<'_, Numbers> {
        let value = value.into();
        PointWriter::begin(self.state, (), Ok(()), |sink| {
            kinds::number_head(sink, unix_nanos, value)
        })
    }

    /// Says that a series which had values before has none at this time (OTLP, `DataPointFlags`).
    pub fn point_without_value(&mut self, unix_nanos: Range<u64>) -> PointWriter<'_, Numbers> {
        let mut point = PointWriter::begin(self.state, (), Ok(()), |sink| {
            kinds::times(sink, &unix_nanos);
        });
        point.flags(crate::pb::metrics::DataPointFlags::NoRecordedValueMask as u32);
        point
    }
}

impl PointsWriter<'_, Histograms> {
    /// Adds a distribution that was taken at the end of the time; the time's start is since when it counts, 0 where that
    /// is not known. Both in nanoseconds of the Unix epoch.
    ///
    /// `counts` are the measurements by bucket, one more than there are bounds: bucket `i` holds what is greater than
    /// `bounds[i - 1]` and not greater than `bounds[i]`. Both may be empty where only sum, minimum or maximum are known;
    /// [`point_without_buckets`](Self::point_without_buckets) takes the count then. The point's count is the sum of `counts`.
    ///
    /// The point is refused where there is another number of counts, where bounds do not ascend strictly, or where the
    /// count exceeds 64 bits.
    #[inline]
    pub fn point<'p>(
        &'p mut self,
        unix_nanos: Range<u64>,
        bounds: &'p [f64],
        counts: &'p [u64],
    ) -> PointWriter<'p, Histograms> {
        let count = kinds::histogram_count(bounds, counts);
        let pending = kinds::PendingHistogram::new(unix_nanos, count.unwrap_or_default(), bounds, counts);
        PointWriter::begin(self.state, pending, count.map(drop), |_| ())
    }

    /// Adds a distribution of which only the count of measurements is known, with what is set on the point.
    #[inline]
    pub fn point_without_buckets(
        &mut self,
        unix_nanos: Range<u64>,
        count: u64,
    ) -> PointWriter<'_, Histograms> {
        let pending = kinds::PendingHistogram::new(unix_nanos, count, &[], &[]);
        PointWriter::begin(self.state, pending, Ok(()), |_| ())
    }
}

impl PointsWriter<'_, ExponentialHistograms> {
    /// Adds a distribution that was taken at the end of the time; the time's start is since when it counts, 0 where that
    /// is not known. Both in nanoseconds of the Unix epoch. The point's count is the sum of all buckets.
    ///
    /// The point is refused where the index of a bucket exceeds 32 bits, where the count exceeds 64 bits, or where the
    /// threshold of zero is negative or no number.
    ///
    /// ```
    /// use otlp_embed::encode::{Buckets, ExponentialBuckets};
    /// # use otlp_embed::{MetricBatch, Resource, Temporality};
    /// # let mut batch = MetricBatch::new(&Resource::new());
    /// let buckets = ExponentialBuckets {
    ///     scale: 3,
    ///     zero_count: 1,
    ///     positive: Buckets { offset: -2, counts: &[4, 0, 1] },
    ///     ..ExponentialBuckets::default()
    /// };
    /// batch.metric("queue.time").unit("s").exponential_histogram(Temporality::Delta).point(1..2, buckets).sum(4.5).end();
    /// # assert_eq!(batch.len(), 1);
    /// ```
    #[inline]
    pub fn point<'p>(
        &'p mut self,
        unix_nanos: Range<u64>,
        buckets: ExponentialBuckets<'p>,
    ) -> PointWriter<'p, ExponentialHistograms> {
        let count = buckets.count();
        let pending = kinds::PendingExponential::new(unix_nanos, count.unwrap_or_default(), buckets);
        PointWriter::begin(self.state, pending, count.map(drop), |_| ())
    }
}

impl PointsWriter<'_, Summaries> {
    /// Adds a summary of so many measurements that was taken at the end of the time; the time's start is since when it
    /// counts, 0 where that is not known. Both in nanoseconds of the Unix epoch.
    #[inline]
    pub fn point(&mut self, unix_nanos: Range<u64>, count: u64, sum: f64) -> PointWriter<'_, Summaries> {
        PointWriter::begin(self.state, (), Ok(()), |sink| {
            kinds::summary_head(sink, &unix_nanos, count, sum);
        })
    }
}

impl<K: Kind> Drop for PointsWriter<'_, K> {
    #[inline]
    fn drop(&mut self) {
        self.state.end_metric();
    }
}

/// A metric whose data points are being written.
pub(crate) struct OpenMetric {
    start: Mark,
    metric: Frame,
    data: Frame,
    temporality: Option<Temporality>,
    is_monotonic: bool,
    items_before: u64,
}

impl State {
    /// Finishes the metric that is being written; one without data points is taken out again.
    pub(crate) fn end_metric(&mut self) {
        self.settle_item();
        let Some(open) = self.metric.take() else {
            return;
        };
        if self.items == open.items_before {
            self.sink.roll_back(open.start);
            return;
        }
        if let Some(temporality) = open.temporality {
            self.sink
                .put([DATA_TEMPORALITY, AggregationTemporality::from(temporality) as u8]);
        }
        varint_field(&mut self.sink, DATA_IS_MONOTONIC, open.is_monotonic.into(), false);
        self.sink.close(open.data);
        self.sink.bytes(&self.metadata);
        self.item_width = self.sink.close(open.metric).max(2);
    }
}
