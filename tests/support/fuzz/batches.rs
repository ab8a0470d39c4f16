//! Batches of any signal told the same things.

use super::encode_roundtrip::Any;
use crate::support::groups::Group;
use otlp_embed::encode::ScopeWriter;
use otlp_embed::{LogBatch, MetricBatch, Resource};
use prost::Message;

/// What batches have in common.
pub trait Batch {
    fn resource(&mut self, resource: &Resource);
    fn scope(&mut self, name: &str, version: &str, write: impl FnOnce(&mut ScopeWriter<'_>));
}

macro_rules! batches {
    ($($batch:ty),*) => {$(
        impl Batch for $batch {
            fn resource(&mut self, resource: &Resource) {
                <$batch>::resource(self, resource);
            }

            fn scope(&mut self, name: &str, version: &str, write: impl FnOnce(&mut ScopeWriter<'_>)) {
                self.scope_with(name, version, write);
            }
        }
    )*};
}

batches!(LogBatch, MetricBatch);

/// Tells a batch all groups, and has each item written.
pub fn write_groups<B: Batch, I>(batch: &mut B, groups: &[Group<I>], mut write: impl FnMut(&mut B, &I)) {
    for group in groups {
        let builder = Resource::builder().schema_url(&group.schema_url);
        let attributes = group.resource.iter().flat_map(|resource| &resource.attributes);
        let resource = attributes.fold(builder, |builder, pair| builder.attr(&pair.key, Any(&pair.value)));
        batch.resource(&resource.build());
        for of_scope in &group.scopes {
            // Items without a scope come first in the messages, where no scope has been named yet.
            if let Some(scope) = &of_scope.scope {
                batch.scope(&scope.name, &scope.version, |writer| {
                    for pair in &scope.attributes {
                        writer.attr(&pair.key, Any(&pair.value));
                    }
                    writer
                        .dropped_attributes_count(scope.dropped_attributes_count)
                        .schema_url(&of_scope.schema_url);
                });
            }
            of_scope.items.iter().for_each(|item| write(batch, item));
        }
    }
}

/// Panics unless the bytes are those that `prost` writes for the message.
#[track_caller]
pub fn same_bytes<M: Message + Default + std::fmt::Debug>(written: &[u8], expected: &M) {
    if written != expected.encode_to_vec() {
        let decoded = M::decode(written);
        panic!("encoded as {decoded:#?}\ninstead of {expected:#?}");
    }
}

/// Panics unless `prost` reads the message from the bytes, whatever the order of its fields.
#[track_caller]
pub fn same_message<M: Message + Default + std::fmt::Debug>(written: &[u8], expected: &M) {
    // Encoded for the comparison because NaN is not equal to itself.
    let decoded = M::decode(written).expect("it is valid protobuf");
    same_bytes(&decoded.encode_to_vec(), expected);
}
