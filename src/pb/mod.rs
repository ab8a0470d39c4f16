//! OTLP messages as owned structs: traces, metrics and logs, and the statuses that gRPC answers with.
//!
//! This module owns the model that people build by hand, the decoder of responses, and the oracle of the encoder's
//! tests. It never sits on the hot path: [`encode`](crate::encode) writes the same messages without building them.
//! Names follow opentelemetry-proto 1.11; every struct derives [`prost::Message`].

pub mod collector;
pub mod common;
pub mod logs;
pub mod metrics;
pub mod resource;
pub mod rpc;
pub mod trace;
