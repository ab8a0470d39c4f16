//! The kinds of data points: what each has, and in which order it goes to the wire.

use super::Number;
use crate::encode::field::{double_field, fixed64_field, sint32_field, varint_field};
use crate::encode::sink::Sink;
use core::ops::Range;

/// Keys of the fields.
pub(crate) mod keys {
    use crate::encode::wire::{BYTES, FIXED64, VARINT, key};

    // The same for every kind.
    pub(crate) const START: u8 = key(2, FIXED64);
    pub(crate) const TIME: u8 = key(3, FIXED64);
    // The same for every distribution.
    pub(crate) const COUNT: u8 = key(4, FIXED64);
    pub(crate) const SUM: u8 = key(5, FIXED64);
    pub(crate) const NUMBER_DOUBLE: u8 = key(4, FIXED64);
    pub(crate) const NUMBER_EXEMPLARS: u8 = key(5, BYTES);
    pub(crate) const NUMBER_INT: u8 = key(6, FIXED64);
    pub(crate) const NUMBER_ATTRIBUTES: u8 = key(7, BYTES);
    pub(crate) const NUMBER_FLAGS: u8 = key(8, VARINT);
    pub(crate) const HISTOGRAM_COUNTS: u8 = key(6, BYTES);
    pub(crate) const HISTOGRAM_BOUNDS: u8 = key(7, BYTES);
    pub(crate) const HISTOGRAM_EXEMPLARS: u8 = key(8, BYTES);
    pub(crate) const HISTOGRAM_ATTRIBUTES: u8 = key(9, BYTES);
    pub(crate) const HISTOGRAM_FLAGS: u8 = key(10, VARINT);
    pub(crate) const HISTOGRAM_MIN: u8 = key(11, FIXED64);
    pub(crate) const HISTOGRAM_MAX: u8 = key(12, FIXED64);
    pub(crate) const EXPONENTIAL_ATTRIBUTES: u8 = key(1, BYTES);
    pub(crate) const EXPONENTIAL_SCALE: u8 = key(6, VARINT);
    pub(crate) const EXPONENTIAL_ZERO_COUNT: u8 = key(7, FIXED64);
    pub(crate) const EXPONENTIAL_POSITIVE: u8 = key(8, BYTES);
    pub(crate) const EXPONENTIAL_NEGATIVE: u8 = key(9, BYTES);
    pub(crate) const EXPONENTIAL_FLAGS: u8 = key(10, VARINT);
    pub(crate) const EXPONENTIAL_EXEMPLARS: u8 = key(11, BYTES);
    pub(crate) const EXPONENTIAL_MIN: u8 = key(12, FIXED64);
    pub(crate) const EXPONENTIAL_MAX: u8 = key(13, FIXED64);
    pub(crate) const EXPONENTIAL_ZERO_THRESHOLD: u8 = key(14, FIXED64);
    pub(crate) const BUCKETS_OFFSET: u8 = key(1, VARINT);
    pub(crate) const BUCKETS_COUNTS: u8 = key(2, BYTES);
    pub(crate) const SUMMARY_QUANTILES: u8 = key(6, BYTES);
    pub(crate) const SUMMARY_ATTRIBUTES: u8 = key(7, BYTES);
    pub(crate) const SUMMARY_FLAGS: u8 = key(8, VARINT);
    pub(crate) const QUANTILE_QUANTILE: u8 = key(1, FIXED64);
    pub(crate) const QUANTILE_VALUE: u8 = key(2, FIXED64);
}

/// Why a data point is not written.
pub(super) type Refusal = &'static str;

/// Points of gauges and sums.
pub enum Numbers {}

/// Points of histograms with explicit bounds.
pub enum Histograms {}

/// Points of histograms whose bounds grow exponentially.
pub enum ExponentialHistograms {}

/// Points of summaries.
pub enum Summaries {}

/// A kind of data point; implemented by the types in [`points`](super::points).
pub trait Kind: sealed::Kind {}

/// A kind of data point that may have exemplars: all but summaries.
pub trait HasExemplars: Kind + sealed::HasExemplars {}

/// A kind of data point with sum, minimum and maximum: both histograms.
pub trait Distribution: Kind + sealed::Distribution {}

/// Measurements by bucket, where the bounds grow exponentially.
///
/// Bucket `i` of [`positive`](Self::positive) holds what is greater than `base^i` and not greater than `base^(i + 1)`, with a
/// base of `2^(2^-scale)`; those of [`negative`](Self::negative) hold the same of negated values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ExponentialBuckets<'a> {
    /// The resolution.
    pub scale: i32,
    /// Measurements of zero, or within the threshold of it.
    pub zero_count: u64,
    /// How far from zero a value may be and still count as zero.
    pub zero_threshold: f64,
    /// Measurements above zero.
    pub positive: Buckets<'a>,
    /// Measurements below zero.
    pub negative: Buckets<'a>,
}

/// Adjacent buckets on one side of zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets<'a> {
    /// The index of the first.
    pub offset: i32,
    /// Measurements by bucket; with none nothing is written.
    pub counts: &'a [u64],
}

impl ExponentialBuckets<'_> {
    /// The measurements in all buckets, if the point makes sense.
    #[inline]
    pub(super) fn count(&self) -> Result<u64, Refusal> {
        if self.zero_threshold.is_nan() || self.zero_threshold < 0.0 {
            return Err("the threshold of zero is negative or no number; it is a distance");
        }
        self.positive.has_indexes()?;
        self.negative.has_indexes()?;
        total(self.zero_count, self.positive.counts).and_then(|count| total(count, self.negative.counts))
    }
}

impl Buckets<'_> {
    #[inline]
    fn has_indexes(&self) -> Result<(), Refusal> {
        let last = self.offset as i64 + self.counts.len() as i64 - 1;
        if last > i64::from(i32::MAX) {
            return Err("the index of a bucket exceeds 32 bits; lower the scale");
        }
        Ok(())
    }
}

/// The measurements of a histogram, if bounds and counts make sense.
#[inline]
pub(super) fn histogram_count(bounds: &[f64], counts: &[u64]) -> Result<u64, Refusal> {
    if counts.len() != bounds.len() + 1 && !(counts.is_empty() && bounds.is_empty()) {
        return Err(
            "the counts of its buckets do not match its bounds; there has to be one count more than bounds",
        );
    }
    // All are looked at, without a branch for each: hardly ever is one wrong.
    let ascends = bounds
        .windows(2)
        .fold(true, |ascends, pair| ascends & (pair[0] < pair[1]));
    if !ascends || (bounds.len() == 1 && bounds[0].is_nan()) {
        return Err("its bounds do not ascend strictly; sort them and leave out what is no number");
    }
    total(0, counts)
}

#[inline]
fn total(before: u64, counts: &[u64]) -> Result<u64, Refusal> {
    let (sum, overflows) = counts.iter().fold((before, false), |(sum, overflows), count| {
        let (sum, more) = sum.overflowing_add(*count);
        (sum, overflows | more)
    });
    if overflows {
        return Err("the sum of its buckets exceeds 64 bits");
    }
    Ok(sum)
}

/// Sum, minimum and maximum of a distribution.
#[derive(Clone, Copy, Default)]
pub struct Totals {
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

/// A histogram's point before its buckets are written.
pub struct PendingHistogram<'a> {
    unix_nanos: Range<u64>,
    count: u64,
    bounds: &'a [f64],
    counts: &'a [u64],
    totals: Totals,
}

impl<'a> PendingHistogram<'a> {
    #[inline]
    pub(super) fn new(unix_nanos: Range<u64>, count: u64, bounds: &'a [f64], counts: &'a [u64]) -> Self {
        Self {
            unix_nanos,
            count,
            bounds,
            counts,
            totals: Totals::default(),
        }
    }
}

/// The same of an exponential histogram.
pub struct PendingExponential<'a> {
    unix_nanos: Range<u64>,
    count: u64,
    buckets: ExponentialBuckets<'a>,
    totals: Totals,
}

impl<'a> PendingExponential<'a> {
    #[inline]
    pub(super) fn new(unix_nanos: Range<u64>, count: u64, buckets: ExponentialBuckets<'a>) -> Self {
        Self {
            unix_nanos,
            count,
            buckets,
            totals: Totals::default(),
        }
    }
}

pub(super) mod sealed {
    use super::{Sink, Totals};

    #[allow(private_interfaces, reason = "nobody else can implement or call it")]
    pub trait Kind {
        /// What is given before it can be written.
        type Pending<'a>;

        const ATTRIBUTES: u8;
        const FLAGS: u8;
        /// Whether attributes come before everything else; otherwise they come behind the head.
        const ATTRIBUTES_FIRST: bool = false;

        /// Writes what belongs before exemplars; returns the flags that it wrote.
        fn head(_pending: &Self::Pending<'_>, _flags: u32, _sink: &mut Sink) -> u32 {
            0
        }

        /// Writes what belongs to the very end.
        fn tail(_pending: &Self::Pending<'_>, _sink: &mut Sink) {}
    }

    pub trait HasExemplars {
        const EXEMPLARS: u8;
    }

    pub trait Distribution: Kind {
        fn totals<'p>(pending: &'p mut Self::Pending<'_>) -> &'p mut Totals;
    }
}

#[allow(private_interfaces, reason = "see the trait")]
impl sealed::Kind for Numbers {
    type Pending<'a> = ();

    const ATTRIBUTES: u8 = keys::NUMBER_ATTRIBUTES;
    const FLAGS: u8 = keys::NUMBER_FLAGS;
}

impl sealed::HasExemplars for Numbers {
    const EXEMPLARS: u8 = keys::NUMBER_EXEMPLARS;
}

#[allow(private_interfaces, reason = "see the trait")]
impl sealed::Kind for Histograms {
    type Pending<'a> = PendingHistogram<'a>;

    const ATTRIBUTES: u8 = keys::HISTOGRAM_ATTRIBUTES;
    const FLAGS: u8 = keys::HISTOGRAM_FLAGS;

    #[inline]
    fn head(pending: &PendingHistogram<'_>, _flags: u32, sink: &mut Sink) -> u32 {
        times(sink, &pending.unix_nanos);
        fixed64_field(sink, keys::COUNT, pending.count, false);
        optional(sink, keys::SUM, pending.totals.sum);
        packed64(sink, keys::HISTOGRAM_COUNTS, pending.counts, |count| {
            count.to_le_bytes()
        });
        packed64(sink, keys::HISTOGRAM_BOUNDS, pending.bounds, |bound| {
            bound.to_le_bytes()
        });
        0
    }

    #[inline]
    fn tail(pending: &PendingHistogram<'_>, sink: &mut Sink) {
        optional(sink, keys::HISTOGRAM_MIN, pending.totals.min);
        optional(sink, keys::HISTOGRAM_MAX, pending.totals.max);
    }
}

impl sealed::HasExemplars for Histograms {
    const EXEMPLARS: u8 = keys::HISTOGRAM_EXEMPLARS;
}

impl sealed::Distribution for Histograms {
    #[inline]
    fn totals<'p>(pending: &'p mut PendingHistogram<'_>) -> &'p mut Totals {
        &mut pending.totals
    }
}

#[allow(private_interfaces, reason = "see the trait")]
impl sealed::Kind for ExponentialHistograms {
    type Pending<'a> = PendingExponential<'a>;

    const ATTRIBUTES: u8 = keys::EXPONENTIAL_ATTRIBUTES;
    const FLAGS: u8 = keys::EXPONENTIAL_FLAGS;
    const ATTRIBUTES_FIRST: bool = true;

    #[inline]
    fn head(pending: &PendingExponential<'_>, flags: u32, sink: &mut Sink) -> u32 {
        let buckets = &pending.buckets;
        times(sink, &pending.unix_nanos);
        fixed64_field(sink, keys::COUNT, pending.count, false);
        optional(sink, keys::SUM, pending.totals.sum);
        sint32_field(sink, keys::EXPONENTIAL_SCALE, buckets.scale);
        fixed64_field(sink, keys::EXPONENTIAL_ZERO_COUNT, buckets.zero_count, false);
        side(sink, keys::EXPONENTIAL_POSITIVE, buckets.positive);
        side(sink, keys::EXPONENTIAL_NEGATIVE, buckets.negative);
        varint_field(sink, keys::EXPONENTIAL_FLAGS, flags.into(), false);
        flags
    }

    #[inline]
    fn tail(pending: &PendingExponential<'_>, sink: &mut Sink) {
        optional(sink, keys::EXPONENTIAL_MIN, pending.totals.min);
        optional(sink, keys::EXPONENTIAL_MAX, pending.totals.max);
        double_field(
            sink,
            keys::EXPONENTIAL_ZERO_THRESHOLD,
            pending.buckets.zero_threshold,
        );
    }
}

impl sealed::HasExemplars for ExponentialHistograms {
    const EXEMPLARS: u8 = keys::EXPONENTIAL_EXEMPLARS;
}

impl sealed::Distribution for ExponentialHistograms {
    #[inline]
    fn totals<'p>(pending: &'p mut PendingExponential<'_>) -> &'p mut Totals {
        &mut pending.totals
    }
}

#[allow(private_interfaces, reason = "see the trait")]
impl sealed::Kind for Summaries {
    type Pending<'a> = ();

    const ATTRIBUTES: u8 = keys::SUMMARY_ATTRIBUTES;
    const FLAGS: u8 = keys::SUMMARY_FLAGS;
}

impl Kind for Numbers {}
impl Kind for Histograms {}
impl Kind for ExponentialHistograms {}
impl Kind for Summaries {}
impl HasExemplars for Numbers {}
impl HasExemplars for Histograms {}
impl HasExemplars for ExponentialHistograms {}
impl Distribution for Histograms {}
impl Distribution for ExponentialHistograms {}

/// Writes the times that every data point begins with.
#[inline]
pub(super) fn times(sink: &mut Sink, unix_nanos: &Range<u64>) {
    if unix_nanos.start != 0 && unix_nanos.end != 0 {
        let mut both = [0; 18];
        put_times(&mut both, unix_nanos);
        sink.put(both);
    } else {
        fixed64_field(sink, keys::START, unix_nanos.start, false);
        fixed64_field(sink, keys::TIME, unix_nanos.end, false);
    }
}

/// Puts the fields of both times to the front, in one go with what follows.
#[inline]
fn put_times(to: &mut [u8], unix_nanos: &Range<u64>) {
    to[0] = keys::START;
    to[1..9].copy_from_slice(&unix_nanos.start.to_le_bytes());
    to[9] = keys::TIME;
    to[10..18].copy_from_slice(&unix_nanos.end.to_le_bytes());
}

#[inline]
pub(super) fn number_head(sink: &mut Sink, unix_nanos: Range<u64>, value: Number) {
    let (key, bits) = match value {
        Number::Int(value) => (keys::NUMBER_INT, value as u64),
        Number::Double(value) => (keys::NUMBER_DOUBLE, value.to_bits()),
    };
    if unix_nanos.start != 0 && unix_nanos.end != 0 {
        let mut all = [0; 27];
        put_times(&mut all, &unix_nanos);
        all[18] = key;
        all[19..].copy_from_slice(&bits.to_le_bytes());
        sink.put(all);
    } else {
        times(sink, &unix_nanos);
        fixed64_field(sink, key, bits, true);
    }
}

#[inline]
pub(super) fn summary_head(sink: &mut Sink, unix_nanos: &Range<u64>, count: u64, sum: f64) {
    times(sink, unix_nanos);
    fixed64_field(sink, keys::COUNT, count, false);
    double_field(sink, keys::SUM, sum);
}

/// Writes a number that may be zero and still there.
#[inline]
pub(crate) fn optional(sink: &mut Sink, key: u8, value: Option<f64>) {
    if let Some(value) = value {
        fixed64_field(sink, key, value.to_bits(), true);
    }
}

/// Writes a list of numbers of 8 bytes each.
#[inline]
pub(crate) fn packed64<T: Copy>(sink: &mut Sink, key: u8, values: &[T], bytes: impl Fn(T) -> [u8; 8]) {
    let copy = |to: &mut [u8], values: &[T]| {
        for (to, value) in to.chunks_exact_mut(8).zip(values) {
            if let Some(to) = to.first_chunk_mut::<8>() {
                *to = bytes(*value);
            }
        }
    };
    let len = 8 * values.len();
    if (1..1 << 7).contains(&len) {
        // The common case, in one go.
        if let [first, second, to @ ..] = sink.window(2 + len) {
            [*first, *second] = [key, len as u8];
            copy(to, values);
        }
        sink.advance(2 + len);
    } else if len > 0 {
        sink.put([key]);
        sink.varint(len as u64);
        // Few at a time: no chunk has to hold them all.
        for values in values.chunks(512) {
            let len = 8 * values.len();
            copy(sink.window(len), values);
            sink.advance(len);
        }
    }
}

/// Writes a list of numbers as varints.
#[inline]
pub(crate) fn packed_varints(sink: &mut Sink, key: u8, values: &[u64]) {
    if values.is_empty() {
        return;
    }
    let frame = sink.open(key, if values.len() < 64 { 1 } else { 2 });
    values.iter().for_each(|value| sink.varint(*value));
    sink.close(frame);
}

/// Writes the buckets on one side of zero.
#[inline]
fn side(sink: &mut Sink, key: u8, buckets: Buckets<'_>) {
    if buckets.counts.is_empty() {
        return;
    }
    let frame = sink.open(key, if buckets.counts.len() < 60 { 1 } else { 2 });
    sint32_field(sink, keys::BUCKETS_OFFSET, buckets.offset);
    packed_varints(sink, keys::BUCKETS_COUNTS, buckets.counts);
    sink.close(frame);
}
