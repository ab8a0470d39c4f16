//! Export requests as `prost` reads them down to their items, whose bytes are left as they are.

use otlp_embed::Signal;
use prost::{Message, Oneof};

/// Traces or logs.
#[derive(Clone, PartialEq, Message)]
struct Flat {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<FlatResource>,
}

#[derive(Clone, PartialEq, Message)]
struct Profiles {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<FlatResource>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    dictionary: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct FlatResource {
    #[prost(bytes = "vec", repeated, tag = "1")]
    resource: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<FlatScope>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    schema_url: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct FlatScope {
    #[prost(bytes = "vec", repeated, tag = "1")]
    scope: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    items: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    schema_url: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Metrics {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<MetricsResource>,
}

#[derive(Clone, PartialEq, Message)]
struct MetricsResource {
    #[prost(bytes = "vec", repeated, tag = "1")]
    resource: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<MetricsScope>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    schema_url: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct MetricsScope {
    #[prost(bytes = "vec", repeated, tag = "1")]
    scope: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    schema_url: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(bytes = "vec", repeated, tag = "1")]
    name: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    description: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    unit: Vec<Vec<u8>>,
    #[prost(oneof = "Data", tags = "5, 7, 9, 10, 11")]
    data: Option<Data>,
    #[prost(bytes = "vec", repeated, tag = "12")]
    metadata: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Data {
    #[prost(message, tag = "5")]
    Gauge(Points),
    #[prost(message, tag = "7")]
    Sum(SumPoints),
    #[prost(message, tag = "9")]
    Histogram(HistogramPoints),
    #[prost(message, tag = "10")]
    ExponentialHistogram(HistogramPoints),
    #[prost(message, tag = "11")]
    Summary(Points),
}

// No kind has a field of another's, since what is unknown to it may be of any type.

#[derive(Clone, PartialEq, Message)]
struct Points {
    #[prost(bytes = "vec", repeated, tag = "1")]
    points: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct HistogramPoints {
    #[prost(bytes = "vec", repeated, tag = "1")]
    points: Vec<Vec<u8>>,
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    aggregation_temporality: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct SumPoints {
    #[prost(bytes = "vec", repeated, tag = "1")]
    points: Vec<Vec<u8>>,
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    aggregation_temporality: Vec<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    is_monotonic: Vec<u64>,
}

impl Data {
    fn points(&mut self) -> &mut Vec<Vec<u8>> {
        match self {
            Self::Gauge(data) | Self::Summary(data) => &mut data.points,
            Self::Sum(data) => &mut data.points,
            Self::Histogram(data) | Self::ExponentialHistogram(data) => &mut data.points,
        }
    }
}

/// An item: its bytes and all that encloses it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    heads: Vec<Vec<u8>>,
    bytes: Vec<u8>,
}

/// The items of a request in order, or nothing if it is none even on the outside.
pub fn items(signal: Signal, bytes: &[u8]) -> Option<Vec<Item>> {
    Some(match signal {
        Signal::Metrics => data_points(Metrics::decode(bytes).ok()?),
        Signal::Profiles => {
            let mut request = Profiles::decode(bytes).ok()?;
            let resources = std::mem::take(&mut request.resources);
            flat_items(&request.encode_to_vec(), resources)
        }
        _ => flat_items(&[], Flat::decode(bytes).ok()?.resources),
    })
}

fn flat_items(dictionary: &[u8], resources: Vec<FlatResource>) -> Vec<Item> {
    let mut items = Vec::new();
    for mut resource in resources {
        for mut scope in std::mem::take(&mut resource.scopes) {
            let within = std::mem::take(&mut scope.items);
            let heads = vec![
                dictionary.to_vec(),
                resource.encode_to_vec(),
                scope.encode_to_vec(),
            ];
            items.extend(within.into_iter().map(|bytes| Item {
                heads: heads.clone(),
                bytes,
            }));
        }
    }
    items
}

fn data_points(request: Metrics) -> Vec<Item> {
    let mut items = Vec::new();
    for mut resource in request.resources {
        for mut scope in std::mem::take(&mut resource.scopes) {
            for mut metric in std::mem::take(&mut scope.metrics) {
                let Some(data) = &mut metric.data else {
                    continue;
                };
                let points = std::mem::take(data.points());
                // The metric without its points still says of which kind they are.
                let heads = vec![
                    resource.encode_to_vec(),
                    scope.encode_to_vec(),
                    metric.encode_to_vec(),
                ];
                items.extend(points.into_iter().map(|bytes| Item {
                    heads: heads.clone(),
                    bytes,
                }));
            }
        }
    }
    items
}
