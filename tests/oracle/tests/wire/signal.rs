//! The upstream requests of every signal under one trait.

use super::arbitrary::{self, Input};
pub use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest as Logs;
pub use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Metrics;
pub use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest as Profiles;
pub use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest as Traces;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use otlp_embed::Signal;
use prost::{DecodeError, Message};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Does something with `M` as each signal's request.
macro_rules! each_signal {
    ($name:ident => $body:block) => {{
        {
            type $name = $crate::signal::Traces;
            $body
        }
        {
            type $name = $crate::signal::Logs;
            $body
        }
        {
            type $name = $crate::signal::Metrics;
            $body
        }
        {
            type $name = $crate::signal::Profiles;
            $body
        }
    }};
}
pub(crate) use each_signal;

/// An upstream export request.
pub trait Messages: Message + Default + Clone + Serialize + DeserializeOwned {
    const SIGNAL: Signal;
    fn arbitrary(input: &mut Input<'_>) -> Self;
    /// Its items, each with what encloses it.
    fn flat(&self) -> Vec<Item>;
    /// Gives all that encloses items a name of its own.
    fn distinct(self) -> Self;

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        Message::decode(bytes)
    }

    fn items(&self) -> u64 {
        self.flat().len() as u64
    }
}

/// An encoded item.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// What encloses it, without items: the request, then the resource, and so on.
    pub heads: Vec<Vec<u8>>,
    pub bytes: Vec<u8>,
}

/// The length of the request that has these items, where equal neighbours share what encloses them.
pub fn encoded_len(items: &[Item]) -> usize {
    items
        .first()
        .map_or(0, |first| first.heads[0].len() + enclosed_len(items, 1))
}

fn enclosed_len(items: &[Item], level: usize) -> usize {
    let with_key = |len: usize| 1 + prost::encoding::encoded_len_varint(len as u64) + len;
    items
        .chunk_by(|one, other| one.heads.get(level) == other.heads.get(level))
        .map(|group| match group[0].heads.get(level) {
            Some(head) => with_key(head.len() + enclosed_len(group, level + 1)),
            None => group.iter().map(|item| with_key(item.bytes.len())).sum(),
        })
        .sum()
}

pub fn reencode(message: &impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

macro_rules! messages {
    ($name:ident, $resources:ident, $scopes:ident, $items:ident, $inner:ident, $rename:ident) => {
        impl Messages for $name {
            const SIGNAL: Signal = Signal::$name;

            fn arbitrary(input: &mut Input<'_>) -> Self {
                arbitrary::$resources(input)
            }

            fn flat(&self) -> Vec<Item> {
                let mut all = Vec::new();
                let mut bare = self.clone();
                bare.$resources.clear();
                for of_resource in &self.$resources {
                    let mut resource = of_resource.clone();
                    resource.$scopes.clear();
                    for of_scope in &of_resource.$scopes {
                        let mut scope = of_scope.clone();
                        scope.$items.clear();
                        for item in &of_scope.$items {
                            for (mut inner, bytes) in $inner(item) {
                                let mut heads = vec![reencode(&bare), reencode(&resource), reencode(&scope)];
                                heads.append(&mut inner);
                                all.push(Item { heads, bytes });
                            }
                        }
                    }
                }
                all
            }

            fn distinct(mut self) -> Self {
                let mut count = 0;
                let mut next = || {
                    count += 1;
                    count.to_string()
                };
                for of_resource in &mut self.$resources {
                    of_resource.schema_url = next();
                    for of_scope in &mut of_resource.$scopes {
                        of_scope.schema_url = next();
                        of_scope
                            .$items
                            .iter_mut()
                            .for_each(|item| $rename(item, &mut next));
                    }
                }
                self
            }
        }
    };
}

messages!(Traces, resource_spans, scope_spans, spans, leaf, keep);
messages!(Logs, resource_logs, scope_logs, log_records, leaf, keep);
messages!(Profiles, resource_profiles, scope_profiles, profiles, leaf, keep);
messages!(Metrics, resource_metrics, scope_metrics, metrics, points, rename);

type Inner = (Vec<Vec<u8>>, Vec<u8>);

fn leaf(item: &impl Message) -> Vec<Inner> {
    vec![(Vec::new(), reencode(item))]
}

fn keep<T>(_: &mut T, _: &mut impl FnMut() -> String) {}

fn rename(metric: &mut Metric, next: &mut impl FnMut() -> String) {
    metric.name = next();
}

fn points(metric: &Metric) -> Vec<Inner> {
    let mut bare = metric.clone();
    macro_rules! each {
        ($data:expr) => {{
            let mut data = $data.clone();
            data.data_points.clear();
            let heads = vec![reencode(&bare), reencode(&data)];
            let points = $data.data_points.iter();
            points.map(|point| (heads.clone(), reencode(point))).collect()
        }};
    }
    match bare.data.take() {
        None => Vec::new(),
        Some(Data::Gauge(data)) => each!(data),
        Some(Data::Sum(data)) => each!(data),
        Some(Data::Histogram(data)) => each!(data),
        Some(Data::ExponentialHistogram(data)) => each!(data),
        Some(Data::Summary(data)) => each!(data),
    }
}
