//! What a batch of metrics promises: the bytes of `prost`, and what goes beyond them.

#[path = "../../support/mod.rs"]
mod support;

use otlp_embed::encode::{Buckets, ExponentialBuckets, array};
use otlp_embed::pb::collector::ExportMetricsServiceRequest;
use otlp_embed::pb::metrics::metric::Data;
use otlp_embed::pb::metrics::{AggregationTemporality, Metric, number_data_point};
use otlp_embed::{MetricBatch, Request, Resource, Signal, Temporality};
use proptest::prelude::*;
use prost::Message;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use support::fuzz;
use support::fuzz::encode_roundtrip::message;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_metrics_are_as_prost_encodes_them(data in prop::collection::vec(any::<u8>(), 0..3_000)) {
        fuzz::encode_metrics::run(&data);
    }
}

fn batch() -> MetricBatch {
    MetricBatch::new(&Resource::builder().attr("service.name", "test").build())
}

/// Every metric of a request, with nothing said about scopes.
fn metrics(request: &Request) -> Vec<Metric> {
    let decoded = ExportMetricsServiceRequest::decode(&*message(request)).expect("it is valid protobuf");
    let groups = decoded.resource_metrics.into_iter();
    let scopes = groups.flat_map(|group| group.scope_metrics);
    scopes.flat_map(|scope| scope.metrics).collect()
}

fn names(request: &Request) -> Vec<String> {
    metrics(request).into_iter().map(|metric| metric.name).collect()
}

#[test]
fn a_batch_without_points_makes_an_empty_request() {
    // spec 5: no empty envelopes.
    let mut batch = batch();
    batch.scope("named", "1.0");
    drop(batch.metric("no kind"));
    batch.metric("no points").metadata("a", 1).gauge().end();
    assert_eq!((batch.len(), batch.refused(), batch.encoded_len()), (0, 0, 0));
    let request = batch.try_finish().expect("nothing was refused");
    assert!(request.is_empty() && batch.is_empty());
    assert_eq!((request.items(), request.encoded_len()), (0, 0));
    assert_eq!(request.signal(), Signal::Metrics);
}

#[test]
fn items_are_data_points() {
    let mut batch = batch();
    let mut sum = batch.metric("sum").sum(Temporality::Delta);
    (0..3).for_each(|number| sum.point(0..1, number).end());
    sum.end();
    batch.metric("gauge").gauge().point(0..1, 0.5).end();
    assert_eq!(batch.len(), 4);
    let request = batch.finish();
    assert_eq!(
        (request.items(), names(&request)),
        (4, vec!["sum".to_owned(), "gauge".to_owned()])
    );
    let mut decoded = ExportMetricsServiceRequest::decode(&*message(&request)).expect("valid protobuf");
    let again = Request::from_metrics(decoded.resource_metrics.clone());
    assert_eq!((again.items(), message(&again)), (4, message(&request)));
    decoded.resource_metrics[0].scope_metrics[0]
        .metrics
        .iter_mut()
        .for_each(|metric| metric.data = None);
    assert!(Request::from(decoded).is_empty());
}

#[test]
fn points_that_make_no_sense_are_refused_and_reported() {
    let mut batch = batch();
    let mut points = batch.metric("h").histogram(Temporality::Delta);
    let bad: [(&[f64], &[u64], &str); 7] = [
        (&[1.0], &[1], "one count more than bounds"),
        (&[1.0], &[1, 2, 3], "one count more than bounds"),
        (&[1.0], &[], "one count more than bounds"),
        (&[2.0, 1.0], &[1, 2, 3], "ascend"),
        (&[1.0, 1.0], &[1, 2, 3], "ascend"),
        (&[f64::NAN], &[1, 2], "ascend"),
        (&[1.0], &[u64::MAX, 1], "64 bits"),
    ];
    for (bounds, counts, why) in bad {
        let error = points
            .point(0..1, bounds, counts)
            .sum(1.0)
            .attr("a", 1)
            .exemplar(1, 2, |to| _ = to.attr("b", 2))
            .try_end()
            .expect_err(why);
        assert!(error.is_misuse() && error.to_string().contains(why), "{error}");
    }
    points
        .point(0..1, &[1.0], &[0, 1])
        .try_end()
        .expect("it makes sense");
    points.end();
    let mut points = batch.metric("e").exponential_histogram(Temporality::Delta);
    let side = |offset, counts| Buckets { offset, counts };
    let bad = [
        (side(i32::MAX, &[1, 2]), 0.0, "32 bits"),
        (side(0, &[u64::MAX]), 0.0, "64 bits"),
        (side(0, &[1]), -1.0, "threshold"),
        (side(0, &[1]), f64::NAN, "threshold"),
    ];
    for (negative, zero_threshold, why) in bad {
        let buckets = ExponentialBuckets {
            zero_count: 1,
            zero_threshold,
            negative,
            ..ExponentialBuckets::default()
        };
        let error = points.point(0..1, buckets).try_end().expect_err(why);
        assert!(error.to_string().contains(why), "{error}");
    }
    points.end();
    let mut points = batch.metric("s").summary();
    for (quantile, value, why) in [
        (1.5, 1.0, "0 to 1"),
        (f64::NAN, 1.0, "0 to 1"),
        (0.5, -1.0, "negative"),
    ] {
        let mut point = points.point(0..1, 1, 1.0);
        let error = point
            .quantile(0.5, f64::NAN)
            .quantile(quantile, value)
            .quantile(0.1, 1.0)
            .try_end();
        assert!(error.expect_err(why).to_string().contains(why));
    }
    points.end();
    let error = batch
        .metric("")
        .gauge()
        .point(0..1, 1)
        .try_end()
        .expect_err("no name");
    assert!(error.to_string().contains("no name"), "{error}");

    assert_eq!((batch.len(), batch.refused()), (1, 15));
    let error = batch.try_finish().expect_err("15 points were refused");
    assert!(error.is_misuse());
    assert!(
        error
            .to_string()
            .starts_with("15 data points were refused, the first for this: the counts"),
        "{error}"
    );
    let request = batch.finish();
    assert_eq!(
        (request.items(), request.refused(), names(&request)),
        (1, 15, vec!["h".to_owned()])
    );
    assert!(batch.try_finish().expect("nothing was refused since").is_empty());
    batch.metric("").gauge().point(0..1, 1).end();
    let error = batch.try_finish().expect_err("a point was refused");
    assert!(error.to_string().contains("no name"), "{error}");
}

#[test]
fn counts_are_those_of_the_buckets() {
    let mut batch = batch();
    batch
        .metric("h")
        .histogram(Temporality::Cumulative)
        .point(1..2, &[1.0], &[3, 4])
        .min(0.5)
        .max(9.0)
        .sum(20.0);
    let buckets = ExponentialBuckets {
        scale: -1,
        zero_count: 1,
        zero_threshold: 0.25,
        positive: Buckets {
            offset: -3,
            counts: &[2, 3],
        },
        negative: Buckets {
            offset: 4,
            counts: &[5],
        },
    };
    batch
        .metric("e")
        .exponential_histogram(Temporality::Delta)
        .point(1..2, buckets);
    let [h, e] = &metrics(&batch.finish())[..] else {
        panic!("two metrics")
    };
    let Some(Data::Histogram(h)) = &h.data else {
        panic!("a histogram")
    };
    let point = &h.data_points[0];
    assert_eq!(
        (point.count, point.sum, point.min, point.max),
        (7, Some(20.0), Some(0.5), Some(9.0))
    );
    assert_eq!(h.aggregation_temporality(), AggregationTemporality::Cumulative);
    let Some(Data::ExponentialHistogram(e)) = &e.data else {
        panic!("an exponential histogram")
    };
    let point = &e.data_points[0];
    assert_eq!(
        (point.count, point.scale, point.zero_count, point.zero_threshold),
        (11, -1, 1, 0.25)
    );
    assert_eq!(point.positive.as_ref().map(|side| side.offset), Some(-3));
    assert_eq!(
        point.negative.as_ref().map(|side| &side.bucket_counts[..]),
        Some(&[5][..])
    );
}

#[test]
fn numbers_become_what_otlp_knows() {
    let mut batch = batch();
    let mut points = batch.metric("n").gauge();
    points.point(0..1, -1_i8).end();
    points.point(0..1, u32::MAX).end();
    points.point(0..1, i64::MAX as u64).end();
    points.point(0..1, u64::MAX).end();
    points.point(0..1, 7_usize).end();
    points.point(0..1, 0.5_f32).end();
    points.point_without_value(0..1).end();
    points.end();
    let metrics = metrics(&batch.finish());
    let Some(Data::Gauge(gauge)) = &metrics[0].data else {
        panic!("a gauge")
    };
    use number_data_point::Value::{AsDouble, AsInt};
    let values: Vec<_> = gauge
        .data_points
        .iter()
        .map(|point| (point.value, point.flags))
        .collect();
    let expected = [
        (Some(AsInt(-1)), 0),
        (Some(AsInt(u32::MAX.into())), 0),
        (Some(AsInt(i64::MAX)), 0),
        (Some(AsDouble(u64::MAX as f64)), 0),
        (Some(AsInt(7)), 0),
        (Some(AsDouble(0.5)), 0),
        (None, 1),
    ];
    assert_eq!(values, expected);
}

#[test]
fn a_panic_in_the_middle_costs_a_point_and_not_its_metric() {
    let mut batch = batch();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut points = batch.metric("m").metadata("a", "b").gauge();
        points.point(0..1, 1).end();
        points
            .point(0..1, 2)
            .exemplar(1, 2, |to| _ = to.attr("a", array(|_| panic!("in the middle"))));
    }));
    assert!(result.is_err());
    let result = catch_unwind(AssertUnwindSafe(|| {
        drop(
            batch
                .metric("broken metadata")
                .metadata("a", array(|_| panic!("as well")))
                .gauge(),
        );
    }));
    assert!(result.is_err());
    // A panic that the closure catches itself leaves lengths open all the same.
    let mut points = batch
        .metric("caught")
        .metadata(
            "c",
            array(|list| {
                let nested = AssertUnwindSafe(|| _ = list.push(array(|_| panic!("in the middle"))));
                _ = catch_unwind(nested);
            }),
        )
        .gauge();
    points.point(0..1, 3).exemplar(1, 2, |to| {
        _ = catch_unwind(AssertUnwindSafe(|| {
            _ = to.attr("a", array(|_| panic!("in the middle")))
        }));
    });
    points.point(0..1, 4).end();
    points.end();
    let request = batch.finish();
    assert_eq!((request.items(), request.refused()), (2, 2));
    let metrics = metrics(&request);
    let told: Vec<_> = metrics
        .iter()
        .map(|metric| (&*metric.name, metric.metadata.len()))
        .collect();
    assert_eq!(told, [("m", 1), ("caught", 0)]);
}

#[test]
fn a_histogram_larger_than_any_chunk_is_written_whole() {
    let mut batch = batch();
    let counts: Vec<u64> = (0..300_000).collect();
    let bounds: Vec<f64> = (1..300_000).map(f64::from).collect();
    batch
        .metric("h")
        .histogram(Temporality::Delta)
        .point(1..2, &bounds, &counts)
        .end();
    let request = batch.finish();
    assert!(request.segments().all(|segment| segment.len() <= 1024 * 1024));
    let metrics = metrics(&request);
    let Some(Data::Histogram(histogram)) = &metrics[0].data else {
        panic!("a histogram")
    };
    assert_eq!(histogram.data_points[0].bucket_counts, counts);
    assert_eq!(histogram.data_points[0].explicit_bounds, bounds);
}

#[test]
fn long_attributes_of_points_are_referenced() {
    let mut batch = batch();
    let text: Arc<str> = "t".repeat(2_000).into();
    let mut points = batch.metric("m").metadata_shared("copied", text.clone()).gauge();
    points
        .point(0..1, 1)
        .exemplar(1, 2, |to| _ = to.attr_shared("text", text.clone()))
        .attr_shared("text", text.clone())
        .end();
    points.end();
    let request = batch.finish();
    let referenced = request
        .segments()
        .filter(|segment| segment.as_ptr() == text.as_ptr())
        .count();
    assert_eq!((referenced, Arc::strong_count(&text)), (2, 3));
    assert_eq!(metrics(&request)[0].metadata.len(), 1);
}

#[test]
fn writers_of_metrics_move_between_threads() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let mut batch = send(batch());
    send(send(send(batch.metric("m")).histogram(Temporality::Delta)).point(0..1, &[], &[])).end();
    assert_eq!(send(batch.finish()).items(), 1);
}
