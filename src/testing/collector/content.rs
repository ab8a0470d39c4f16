//! Messages taken apart: whether they can be read, and how many items they carry.

use crate::encode::{Signal, check_and_count};
use crate::pb::collector::{
    ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest,
};
use crate::pb::metrics::{Metric, metric::Data};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;
use core::slice;
use prost::{DecodeError, Message};

/// A request message that could be read.
#[derive(Debug)]
pub(super) struct Content {
    /// Spans, data points, log records or profiles.
    pub(super) items: u64,
    pub(super) message: Decoded,
}

/// A request message of its signal.
#[derive(Debug)]
pub(super) enum Decoded {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
    /// Only counted: nobody is going to look at it, or it is of profiles, which the collector has no model of.
    Counted,
}

/// Reads a request message; one that is not to be kept is checked just as well, and counted without being built.
///
/// # Errors
///
/// What is wrong with it, in words.
pub(super) fn read(signal: Signal, message: &Bytes, keep: bool) -> Result<Content, String> {
    if keep {
        return decode(signal, message).map_err(|error| error.to_string());
    }
    let items = check_and_count(signal, slice::from_ref(message)).map_err(|error| error.to_string())?;
    Ok(Content {
        items,
        message: Decoded::Counted,
    })
}

fn decode(signal: Signal, message: &[u8]) -> Result<Content, DecodeError> {
    Ok(match signal {
        Signal::Traces => {
            let message = ExportTraceServiceRequest::decode(message)?;
            let scopes = message.resource_spans.iter().flat_map(|group| &group.scope_spans);
            Content {
                items: scopes.map(|scope| scope.spans.len() as u64).sum(),
                message: Decoded::Traces(message),
            }
        }
        Signal::Metrics => {
            let message = ExportMetricsServiceRequest::decode(message)?;
            let groups = &message.resource_metrics;
            let scopes = groups.iter().flat_map(|group| &group.scope_metrics);
            Content {
                items: scopes.flat_map(|scope| &scope.metrics).map(count_points).sum(),
                message: Decoded::Metrics(message),
            }
        }
        Signal::Logs => {
            let message = ExportLogsServiceRequest::decode(message)?;
            let scopes = message.resource_logs.iter().flat_map(|group| &group.scope_logs);
            Content {
                items: scopes.map(|scope| scope.log_records.len() as u64).sum(),
                message: Decoded::Logs(message),
            }
        }
        Signal::Profiles => {
            let profiles = Profiles::decode(message)?;
            let scopes = profiles.groups.iter().flat_map(|group| &group.scopes);
            Content {
                items: scopes.map(|scope| scope.profiles.len() as u64).sum(),
                message: Decoded::Counted,
            }
        }
    })
}

fn count_points(metric: &Metric) -> u64 {
    let points = match &metric.data {
        None => 0,
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
    };
    points as u64
}

/// The bones of a request of profiles, enough to count them.
#[derive(Clone, PartialEq, Message)]
struct Profiles {
    #[prost(message, repeated, tag = "1")]
    groups: Vec<ResourceProfiles>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceProfiles {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<ScopeProfiles>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeProfiles {
    #[prost(message, repeated, tag = "2")]
    profiles: Vec<Profile>,
}

/// A profile, of which only the existence counts.
#[derive(Clone, PartialEq, Message)]
struct Profile {}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).expect("a short field");
        [&[tag << 3 | 2, length], bytes].concat()
    }

    fn request(items: &[Vec<u8>]) -> Vec<u8> {
        field(1, &field(2, &items.concat()))
    }

    /// The items of a message, which has to be read alike whether it is kept or not.
    fn count(signal: Signal, message: &[u8]) -> Result<u64, ()> {
        let message = Bytes::copy_from_slice(message);
        let [kept, counted] =
            [true, false].map(|keep| read(signal, &message, keep).map(|content| content.items));
        assert_eq!(
            kept.as_ref().ok(),
            counted.as_ref().ok(),
            "{signal:?} {message:?}"
        );
        kept.map_err(drop)
    }

    #[test]
    fn text_that_is_none_is_refused_whether_it_is_kept_or_not() {
        // A span's name.
        let name = |text: &[u8]| request(&[field(2, &field(5, text))]);
        assert_eq!(count(Signal::Traces, &name("é".as_bytes())), Ok(1));
        assert_eq!(count(Signal::Traces, &name(b"\xff")), Err(()));
    }

    #[test]
    fn items_are_counted_for_every_signal() {
        let item = field(2, b"");
        let two = request(&[item.clone(), item]);
        for signal in [Signal::Traces, Signal::Logs, Signal::Profiles] {
            assert_eq!(count(signal, &two), Ok(2), "{signal:?}");
        }
        for tag in [5, 7, 9, 10, 11] {
            let points = [field(1, b""), field(1, b""), field(1, b"")].concat();
            let metric = field(2, &[field(1, b"name"), field(tag, &points)].concat());
            let message = request(&[metric.clone(), metric]);
            assert_eq!(count(Signal::Metrics, &message), Ok(6), "{tag}");
        }
        for signal in Signal::ALL {
            assert_eq!(count(signal, b""), Ok(0));
            assert!(count(signal, b"\x0a\x7f").is_err());
        }
    }
}
