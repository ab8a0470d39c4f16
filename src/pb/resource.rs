//! The producer of telemetry (`opentelemetry.proto.resource.v1`).

use super::common::{EntityRef, KeyValue};
use alloc::vec::Vec;

/// The process, host or service that telemetry comes from.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// What describes it.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
    /// Attributes discarded before they came here.
    #[prost(uint32, tag = "2")]
    pub dropped_attributes_count: u32,
    /// Entities that it takes part in.
    #[prost(message, repeated, tag = "3")]
    pub entity_refs: Vec<EntityRef>,
}
