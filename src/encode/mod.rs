//! Telemetry to protobuf, in one forward pass into pooled buffers.

mod request;

pub use request::{Request, Signal};
