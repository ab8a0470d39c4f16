//! What the collector received, in a form that reads well in a test.

mod log;
mod metric;
mod span;
mod value;

pub(super) use log::into_logs;
pub(super) use metric::into_metrics;
pub(super) use span::into_spans;

pub use log::ReceivedLog;
pub use metric::ReceivedMetric;
pub use span::{ReceivedEvent, ReceivedLink, ReceivedSpan};
pub use value::Value;

use super::answer::Answer;
use super::call::HttpVersion;
use crate::config::{Compression, Protocol};
use crate::encode::Signal;
use crate::pb::common::InstrumentationScope;
use crate::pb::resource::Resource;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use value::{attributes, find};

/// One call that arrived whole.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedRequest {
    /// Its number in the order of arrival, from zero. [`clear`](super::Collector::clear) does not reset it.
    pub index: u64,
    /// The connection it came on, numbered from zero in the order of accepting.
    pub connection: u64,
    /// Its HTTP/2 stream; on HTTP/1.1 its number on the connection, from one, calls that were turned away counted.
    pub stream_id: u32,
    /// What it carried.
    pub signal: Signal,
    /// How it was carried.
    pub protocol: Protocol,
    /// The version of HTTP that it came in.
    pub version: HttpVersion,
    /// How its body, or its message in gRPC, was compressed.
    pub compression: Compression,
    /// Header fields, pseudo-fields like `:path` first, which are made up for HTTP/1.1; names in lowercase, values that are not UTF-8
    /// with replacement characters.
    pub headers: Vec<(String, String)>,
    /// The spans, data points, log records or profiles that it carried.
    pub items: u64,
    /// The length of [`message`](Self::message) in bytes.
    pub encoded_len: usize,
    /// The message in protobuf, decompressed, without a gRPC prefix; translated where it came in JSON.
    pub message: Bytes,
    /// The body as it came, compressed or in JSON, without a gRPC prefix.
    pub body: Bytes,
    /// What it was answered; nothing while the answer is being chosen.
    pub answer: Option<Answer>,
}

impl ReceivedRequest {
    /// The first value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        values.next().map(|(_, value)| value.as_str())
    }

    /// The values of a header field, in their order.
    pub fn header_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        let values = self.headers.iter().filter(move |(known, _)| known == name);
        values.map(|(_, value)| value.as_str())
    }

    /// Whether it was answered with a success.
    pub fn is_accepted(&self) -> bool {
        self.answer
            .as_ref()
            .is_some_and(|answer| answer.is_success_over(self.protocol))
    }
}

/// The resource of a group of items.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReceivedResource {
    /// Attributes in their order.
    pub attributes: Vec<(String, Value)>,
    /// Attributes that were left out.
    pub dropped_attributes: u32,
    /// The schema of the resource.
    pub schema_url: String,
}

impl ReceivedResource {
    /// The value of an attribute; the first, where there are several of the name.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        find(&self.attributes, key)
    }
}

/// The instrumentation scope of a group of items.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReceivedScope {
    /// The name.
    pub name: String,
    /// The version.
    pub version: String,
    /// Attributes in their order.
    pub attributes: Vec<(String, Value)>,
    /// Attributes that were left out.
    pub dropped_attributes: u32,
    /// The schema of the items.
    pub schema_url: String,
}

impl ReceivedResource {
    /// `service.name`, empty where it has none.
    pub fn service_name(&self) -> &str {
        match self.attribute("service.name") {
            Some(Value::Str(name)) => name,
            _ => "",
        }
    }

    fn new(resource: Option<Resource>, schema_url: String) -> Arc<Self> {
        let resource = resource.unwrap_or_default();
        Arc::new(Self {
            attributes: attributes(resource.attributes),
            dropped_attributes: resource.dropped_attributes_count,
            schema_url,
        })
    }
}

impl ReceivedScope {
    fn new(scope: Option<InstrumentationScope>, schema_url: String) -> Arc<Self> {
        let scope = scope.unwrap_or_default();
        Arc::new(Self {
            name: scope.name,
            version: scope.version,
            attributes: attributes(scope.attributes),
            dropped_attributes: scope.dropped_attributes_count,
            schema_url,
        })
    }
}
