//! Telemetry to protobuf, in one forward pass into pooled buffers.
//!
//! [`TraceBatch`] writes spans as they are told; [`Request::from_spans`] writes those that exist as [`pb`](crate::pb)
//! structs. Both make a [`Request`]: frozen, shared, cheap to clone. Values of 1 KiB and more that are given as something
//! shareable are referenced, everything else is copied once. This module never builds a message in between, and allocates
//! nothing for a span.

mod batch;
mod field;
mod owned;
mod pinned;
mod pool;
mod request;
mod resource;
mod segments;
mod shared;
mod sink;
mod span;
mod state;
mod value;
mod wire;

pub use batch::{ScopeWriter, TraceBatch};
pub use request::{Body, Request, Signal};
pub use resource::{Resource, ResourceBuilder};
pub use shared::IntoShared;
pub use span::{EventWriter, LinkWriter, SpanWriter};
pub use value::{Array, ArrayWriter, IntoValue, KvList, KvListWriter, ValueWriter, Written, array, kvlist};
