//! Spans, with their events, links and statuses (`opentelemetry.proto.trace.v1`).

use super::common::{InstrumentationScope, KeyValue};
use super::resource::Resource;
use alloc::string::String;
use alloc::vec::Vec;

/// Spans at rest: the same content as a request, for files and queues.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TracesData {
    /// The spans, grouped by the resource that produced them.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// The spans of one resource.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceSpans {
    /// The resource; none means unknown.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Its spans, grouped by the scope that recorded them.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
    /// URL of the schema that the resource follows.
    #[prost(string, tag = "3")]
    pub schema_url: String,
}

/// The spans of one scope.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScopeSpans {
    /// The scope; none means unknown.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// Its spans.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
    /// URL of the schema that the scope and the spans follow.
    #[prost(string, tag = "3")]
    pub schema_url: String,
}

/// One operation in a trace.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Span {
    /// 16 bytes, not all zero.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes, not all zero.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// W3C `tracestate`.
    #[prost(string, tag = "3")]
    pub trace_state: String,
    /// 8 bytes; empty for a root.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// W3C trace flags in the low byte, see [`SpanFlags`] for the rest.
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
    /// What the operation is called.
    #[prost(string, tag = "5")]
    pub name: String,
    /// A [`span::SpanKind`].
    #[prost(enumeration = "span::SpanKind", tag = "6")]
    pub kind: i32,
    /// When it began, in nanoseconds of the Unix epoch.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// When it ended, in nanoseconds of the Unix epoch.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// What describes it; keys are unique.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// Attributes discarded before they came here.
    #[prost(uint32, tag = "10")]
    pub dropped_attributes_count: u32,
    /// What happened in it.
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<span::Event>,
    /// Events discarded before they came here.
    #[prost(uint32, tag = "12")]
    pub dropped_events_count: u32,
    /// Spans that it is related to.
    #[prost(message, repeated, tag = "13")]
    pub links: Vec<span::Link>,
    /// Links discarded before they came here.
    #[prost(uint32, tag = "14")]
    pub dropped_links_count: u32,
    /// How it ended; none is the same as unset.
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
}

/// Parts of a [`Span`].
pub mod span {
    use super::KeyValue;
    use alloc::string::String;
    use alloc::vec::Vec;

    /// Something that happened at one moment of a span.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Event {
        /// When, in nanoseconds of the Unix epoch.
        #[prost(fixed64, tag = "1")]
        pub time_unix_nano: u64,
        /// What it is called.
        #[prost(string, tag = "2")]
        pub name: String,
        /// What describes it; keys are unique.
        #[prost(message, repeated, tag = "3")]
        pub attributes: Vec<KeyValue>,
        /// Attributes discarded before they came here.
        #[prost(uint32, tag = "4")]
        pub dropped_attributes_count: u32,
    }

    /// A pointer to another span, of this trace or another.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Link {
        /// Trace of the span, 16 bytes.
        #[prost(bytes = "vec", tag = "1")]
        pub trace_id: Vec<u8>,
        /// The span, 8 bytes.
        #[prost(bytes = "vec", tag = "2")]
        pub span_id: Vec<u8>,
        /// W3C `tracestate` of the span.
        #[prost(string, tag = "3")]
        pub trace_state: String,
        /// What describes the link; keys are unique.
        #[prost(message, repeated, tag = "4")]
        pub attributes: Vec<KeyValue>,
        /// Attributes discarded before they came here.
        #[prost(uint32, tag = "5")]
        pub dropped_attributes_count: u32,
        /// W3C trace flags in the low byte, see [`SpanFlags`](super::SpanFlags) for the rest.
        #[prost(fixed32, tag = "6")]
        pub flags: u32,
    }

    /// The part that a span plays in its trace.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum SpanKind {
        /// Not told; receivers may take it as internal.
        Unspecified = 0,
        /// An operation inside the application.
        Internal = 1,
        /// Serves a remote request.
        Server = 2,
        /// Makes a remote request.
        Client = 3,
        /// Sends a message to a broker.
        Producer = 4,
        /// Takes a message from a broker.
        Consumer = 5,
    }
}

/// How a span ended.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Status {
    /// Text for developers, in case of an error.
    #[prost(string, tag = "2")]
    pub message: String,
    /// A [`status::StatusCode`].
    #[prost(enumeration = "status::StatusCode", tag = "3")]
    pub code: i32,
}

/// Parts of a [`Status`].
pub mod status {
    /// The verdict on a span.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum StatusCode {
        /// Nobody has judged it.
        Unset = 0,
        /// A person has judged it good.
        Ok = 1,
        /// It holds an error.
        Error = 2,
    }
}

/// Masks of the bits in the `flags` of spans and links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum SpanFlags {
    /// No mask at all.
    DoNotUse = 0,
    /// The W3C trace flags.
    TraceFlagsMask = 0xff,
    /// Whether it is known that the parent or the linked span is remote.
    ContextHasIsRemoteMask = 0x100,
    /// Whether the parent or the linked span is remote.
    ContextIsRemoteMask = 0x200,
}
