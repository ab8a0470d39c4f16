//! Telemetry to protobuf, in one forward pass into pooled buffers.
//!
//! [`TraceBatch`], [`MetricBatch`] and [`LogBatch`] write telemetry as it is told; [`Request::from_spans`],
//! [`Request::from_metrics`] and [`Request::from_logs`] write what exists as [`pb`](crate::pb) structs. All make a [`Request`]:
//! frozen, shared, cheap to clone. [`Request::from_encoded`] makes one of what another library encoded. Values of 1 KiB and
//! more that are given as something shareable are referenced, everything else is copied once. Requests over a cap are split
//! and turned into JSON from their bytes. This module never builds a message in between, and allocates nothing for an item.

mod batch;
mod count;
mod field;
#[cfg(feature = "json")]
#[cfg_attr(
    not(feature = "testing"),
    allow(dead_code, reason = "only a collector reads JSON")
)]
pub(crate) mod json;
mod log;
mod metric;
mod owned;
mod pinned;
mod pool;
mod reader;
mod request;
mod resource;
mod segments;
mod shared;
mod sink;
mod span;
pub(crate) mod split;
mod state;
mod tables;
mod value;
mod wire;

#[cfg(feature = "testing")]
pub(crate) use count::count as check_and_count;

#[cfg(feature = "opentelemetry_0_33")]
pub(crate) use shared::{SHARED_BYTES_MIN, SharedText};

pub use batch::{LogBatch, MetricBatch, ScopeWriter, TraceBatch};
pub use log::LogWriter;
pub use metric::{
    Buckets, Distribution, ExemplarWriter, ExponentialBuckets, HasExemplars, Kind, MetricWriter, Number,
    PointWriter, PointsWriter, Temporality, points,
};
pub use request::{Body, Request, Signal};
pub use resource::{Resource, ResourceBuilder};
pub use shared::IntoShared;
pub use span::{EventWriter, LinkWriter, SpanWriter};
pub use value::{Array, ArrayWriter, IntoValue, KvList, KvListWriter, ValueWriter, Written, array, kvlist};
