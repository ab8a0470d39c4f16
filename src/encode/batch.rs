//! What batches of every signal have in common: the resource and the scope that items belong to, and the way to a request.

use super::field::{text_field, varint_field};
use super::request::{Request, Signal};
use super::resource::Resource;
use super::shared::IntoShared;
use super::sink::Sink;
use super::state::State;
use super::value::{IntoValue, Place, ValueWriter};
use super::wire::{BYTES, VARINT, key};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

mod logs;
mod metrics;
mod traces;

pub use logs::LogBatch;
pub use metrics::MetricBatch;
pub use traces::TraceBatch;

// The messages around items have the same numbers for every signal: a request is a list of groups (`ResourceSpans` and its
// kin) of one resource each, which are lists of groups (`ScopeSpans` and its kin) of one scope each.
pub(crate) const REQUEST_GROUPS: u8 = key(1, BYTES);
pub(crate) const GROUP_RESOURCE: u8 = key(1, BYTES);
pub(crate) const GROUP_SCOPES: u8 = key(2, BYTES);
pub(crate) const GROUP_SCHEMA_URL: u8 = key(3, BYTES);
pub(crate) const SCOPE_GROUP_SCOPE: u8 = key(1, BYTES);
pub(crate) const SCOPE_GROUP_ITEMS: u8 = key(2, BYTES);
pub(crate) const SCOPE_GROUP_SCHEMA_URL: u8 = key(3, BYTES);
pub(crate) const SCOPE_NAME: u8 = key(1, BYTES);
pub(crate) const SCOPE_VERSION: u8 = key(2, BYTES);
pub(crate) const SCOPE_ATTRIBUTES: u8 = key(3, BYTES);
pub(crate) const SCOPE_DROPPED_ATTRIBUTES: u8 = key(4, VARINT);

/// A batch of any signal.
struct Batch {
    signal: Signal,
    resource: Resource,
    /// Behind a pointer: batches change hands for a single span.
    state: Box<State>,
}

impl Batch {
    fn new(signal: Signal, resource: &Resource) -> Self {
        let mut state = resource.pool().take_state(signal);
        state.resources.push(resource.clone());
        Self {
            signal,
            resource: resource.clone(),
            state,
        }
    }

    /// Names a scope without attributes and schema, which is most often that of the items before.
    fn scope(&mut self, name: &str, version: &str) {
        let state = &mut self.state;
        state.settle();
        if !state.stays_in_plain_scope(name, version) {
            self.scope_with(name, version, |_| ());
        }
    }

    fn scope_with(&mut self, name: &str, version: &str, write: impl FnOnce(&mut ScopeWriter<'_>)) {
        let state = &mut self.state;
        state.settle();
        // Where the closure panics, no scope is named: the next item takes away first what was written of this one.
        state.is_scope_named = false;
        // The message is written behind the items, compared with the scopes so far, and taken away again.
        let start = state.sink.mark();
        state.unfinished_aside = Some(start);
        text_field(&mut state.sink, SCOPE_NAME, name);
        text_field(&mut state.sink, SCOPE_VERSION, version);
        let named = state.sink.mark();
        state.scratch.clear();
        write(&mut ScopeWriter {
            sink: &mut state.sink,
            schema_url: &mut state.scratch,
            dropped: false,
        });
        if state.sink.depth() != named.depth() {
            state.sink.roll_back(named);
        }
        state.unfinished_aside = None;
        let message = state.scope_bytes.len();
        state.sink.copy_since(start, &mut state.scope_bytes);
        state.sink.roll_back(start);
        let schema_url = state.scope_bytes.len();
        state.scope_bytes.extend_from_slice(&state.scratch);
        let end = state.scope_bytes.len();
        if !state.stays_in_scope(&(message..schema_url), &(schema_url..end)) {
            state.end_run();
            state.enter_scope(Some(message..schema_url), schema_url..end);
        }
    }

    fn resource(&mut self, resource: &Resource) {
        let state = &mut self.state;
        state.settle();
        state.is_scope_named = false;
        state.resource = state
            .resources
            .iter()
            .position(|known| known == resource)
            .unwrap_or_else(|| {
                state.resources.push(resource.clone());
                state.resources.len() - 1
            });
    }

    /// Makes ready for an item to be written.
    #[inline]
    fn prepare(&mut self) -> &mut State {
        if self.state.unfinished.is_some() || !self.state.is_scope_named {
            self.state.prepare_item();
        }
        &mut self.state
    }

    fn finish(&mut self) -> Request {
        let request = self.state.finish(self.resource.pool(), self.signal);
        self.state.reset();
        self.state.resources.push(self.resource.clone());
        request
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let mut state = mem::take(&mut self.state);
        state.detach();
        self.resource.pool().put_state(state);
    }
}

/// The methods that the batches of every signal share.
macro_rules! common_methods {
    ($batch:ident, $signal:expr, $items:literal) => {
        impl $batch {
            /// An empty batch of this resource.
            pub fn new(resource: &Resource) -> Self {
                Self {
                    batch: Batch::new($signal, resource),
                }
            }

            /// As [`new`](Self::new), one of very many: it takes little memory until it needs more.
            #[cfg(feature = "std")]
            pub(crate) fn new_small(resource: &Resource) -> Self {
                let mut batch = Self::new(resource);
                batch.batch.state.sink.expect_len(0);
                batch
            }

            #[doc = concat!("Names the instrumentation scope of the ", $items, " that follow.")]
            pub fn scope(&mut self, name: &str, version: &str) -> &mut Self {
                self.batch.scope(name, version);
                self
            }

            #[doc = concat!("Names the instrumentation scope of the ", $items, " that follow, with attributes or a schema.")]
            pub fn scope_with(
                &mut self,
                name: &str,
                version: &str,
                write: impl FnOnce(&mut ScopeWriter<'_>),
            ) -> &mut Self {
                self.batch.scope_with(name, version, write);
                self
            }

            #[doc = concat!("Names the resource of the ", $items, " that follow, which belong to no scope until one is named.")]
            pub fn resource(&mut self, resource: &Resource) -> &mut Self {
                self.batch.resource(resource);
                self
            }

            #[doc = concat!("How many ", $items, " were written since the batch was empty.")]
            pub fn len(&self) -> usize {
                self.batch.state.items as usize
            }

            #[doc = concat!("Whether no ", $items, " were written since the batch was empty.")]
            pub fn is_empty(&self) -> bool {
                self.batch.state.items == 0
            }

            #[doc = concat!("The bytes of the ", $items, " written since the batch was empty; the request adds resources and scopes to them.")]
            pub fn encoded_len(&self) -> usize {
                self.batch.state.sink.total()
            }

            #[doc = concat!("Makes the ", $items, " a request and leaves the batch empty, for the next one.")]
            ///
            /// Without any the request is [empty](Request::is_empty). Those refused are not in it; they are counted in
            /// [`Request::refused`].
            pub fn finish(&mut self) -> Request {
                self.batch.finish()
            }
        }

        impl core::fmt::Debug for $batch {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_struct(stringify!($batch))
                    .field($items, &self.len())
                    .field("encoded_len", &self.encoded_len())
                    .field("refused", &self.refused())
                    .finish_non_exhaustive()
            }
        }
    };
}
use common_methods;

/// Adds to an instrumentation scope; see [`TraceBatch::scope_with`](super::TraceBatch::scope_with).
pub struct ScopeWriter<'a> {
    sink: &'a mut Sink,
    schema_url: &'a mut Vec<u8>,
    dropped: bool,
}

impl ScopeWriter<'_> {
    /// Adds an attribute; keys are to be unique within a scope.
    pub fn attr(&mut self, name: &str, value: impl IntoValue) -> &mut Self {
        value.write_value(ValueWriter::new(
            self.sink,
            Place::Attribute(SCOPE_ATTRIBUTES, name),
        ));
        self
    }

    /// Adds an attribute given as something shareable; the batch holds a copy.
    pub fn attr_shared(&mut self, name: &str, value: impl IntoShared) -> &mut Self {
        ValueWriter::new(self.sink, Place::Attribute(SCOPE_ATTRIBUTES, name)).shared(value);
        self
    }

    /// Sets how many attributes were discarded before they came here.
    pub fn dropped_attributes_count(&mut self, count: u32) -> &mut Self {
        varint_field(self.sink, SCOPE_DROPPED_ATTRIBUTES, count.into(), self.dropped);
        self.dropped = true;
        self
    }

    /// Sets the URL of the schema that the scope and its items follow.
    pub fn schema_url(&mut self, url: &str) -> &mut Self {
        self.schema_url.clear();
        self.schema_url.extend_from_slice(url.as_bytes());
        self
    }
}
