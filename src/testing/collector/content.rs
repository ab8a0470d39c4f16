//! Messages taken apart: whether they can be read, and how many items they carry.

use crate::encode::Signal;
use crate::pb::collector::ExportTraceServiceRequest;
use alloc::vec::Vec;
use prost::{DecodeError, Message};

/// A request message that could be read.
#[derive(Debug)]
pub(super) struct Content {
    /// Spans, data points, log records or profiles.
    pub(super) items: u64,
    /// The message of traces.
    pub(super) traces: Option<ExportTraceServiceRequest>,
}

/// Reads a request message.
pub(super) fn read(signal: Signal, message: &[u8]) -> Result<Content, DecodeError> {
    let (items, traces) = match signal {
        Signal::Traces => {
            let traces = ExportTraceServiceRequest::decode(message)?;
            let scopes = traces.resource_spans.iter().flat_map(|group| &group.scope_spans);
            (scopes.map(|scope| scope.spans.len() as u64).sum(), Some(traces))
        }
        Signal::Metrics => (Groups::<Metric>::decode(message)?.count(Metric::points), None),
        Signal::Logs | Signal::Profiles => (Groups::<Opaque>::decode(message)?.count(|_| 1), None),
    };
    Ok(Content { items, traces })
}

/// The bones that requests of every signal share: items in scopes in resources.
#[derive(Clone, PartialEq, Message)]
struct Groups<T: Message + Default + core::fmt::Debug> {
    #[prost(message, repeated, tag = "1")]
    groups: Vec<Group<T>>,
}

#[derive(Clone, PartialEq, Message)]
struct Group<T: Message + Default + core::fmt::Debug> {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<Scope<T>>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope<T: Message + Default + core::fmt::Debug> {
    #[prost(message, repeated, tag = "2")]
    items: Vec<T>,
}

/// An item of which only the existence counts.
#[derive(Clone, PartialEq, Message)]
struct Opaque {}

/// A metric: a gauge, sum, histogram, exponential histogram or summary, whose points are in field 1 each.
#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "5")]
    gauge: Vec<Points>,
    #[prost(message, repeated, tag = "7")]
    sum: Vec<Points>,
    #[prost(message, repeated, tag = "9")]
    histogram: Vec<Points>,
    #[prost(message, repeated, tag = "10")]
    exponential_histogram: Vec<Points>,
    #[prost(message, repeated, tag = "11")]
    summary: Vec<Points>,
}

#[derive(Clone, PartialEq, Message)]
struct Points {
    #[prost(message, repeated, tag = "1")]
    points: Vec<Opaque>,
}

impl<T: Message + Default + core::fmt::Debug> Groups<T> {
    fn count(&self, items: impl Fn(&T) -> u64) -> u64 {
        let scopes = self.groups.iter().flat_map(|group| &group.scopes);
        scopes.flat_map(|scope| &scope.items).map(items).sum()
    }
}

impl Metric {
    fn points(&self) -> u64 {
        let kinds = [
            &self.gauge,
            &self.sum,
            &self.histogram,
            &self.exponential_histogram,
            &self.summary,
        ];
        let points = kinds.into_iter().flatten();
        points.map(|points| points.points.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field 1 of a message, around another.
    fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).expect("a short field");
        [&[tag << 3 | 2, length], bytes].concat()
    }

    fn request(items: &[Vec<u8>]) -> Vec<u8> {
        field(1, &field(2, &items.concat()))
    }

    #[test]
    fn items_are_counted_for_every_signal() {
        let item = field(2, b"");
        let two = request(&[item.clone(), item]);
        for signal in [Signal::Traces, Signal::Logs, Signal::Profiles] {
            assert_eq!(read(signal, &two).expect("valid").items, 2, "{signal:?}");
        }
        for tag in [5, 7, 9, 10, 11] {
            let points = [field(1, b""), field(1, b""), field(1, b"")].concat();
            let metric = field(2, &[field(1, b"name"), field(tag, &points)].concat());
            let message = request(&[metric.clone(), metric]);
            assert_eq!(read(Signal::Metrics, &message).expect("valid").items, 6, "{tag}");
        }
        for signal in Signal::ALL {
            assert_eq!(read(signal, b"").expect("valid").items, 0);
            assert!(read(signal, b"\x0a\x7f").is_err());
        }
    }
}
