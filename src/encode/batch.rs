//! Batches of spans that become one request.

use super::request::Request;
use super::resource::Resource;
use super::shared::IntoShared;
use super::sink::Sink;
use super::span::{SpanWriter, varint_field};
use super::state::State;
use super::value::{IntoValue, Place, ValueWriter, text_field};
use super::wire::{BYTES, VARINT, key};
use crate::error::Error;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::mem;

pub(crate) const REQUEST_RESOURCE_SPANS: u8 = key(1, BYTES);
pub(crate) const RESOURCE_SPANS_RESOURCE: u8 = key(1, BYTES);
pub(crate) const RESOURCE_SPANS_SCOPE_SPANS: u8 = key(2, BYTES);
pub(crate) const RESOURCE_SPANS_SCHEMA_URL: u8 = key(3, BYTES);
pub(crate) const SCOPE_SPANS_SCOPE: u8 = key(1, BYTES);
pub(crate) const SCOPE_SPANS_SCHEMA_URL: u8 = key(3, BYTES);
const SCOPE_NAME: u8 = key(1, BYTES);
const SCOPE_VERSION: u8 = key(2, BYTES);
pub(crate) const SCOPE_ATTRIBUTES: u8 = key(3, BYTES);
pub(crate) const SCOPE_DROPPED_ATTRIBUTES: u8 = key(4, VARINT);

/// Encodes spans as they are told, straight into the memory of a request.
///
/// Spans belong to the resource and the scope named last. However often these change, the request holds each resource
/// once and each scope once under it. Memory comes from a pool that belongs to the resource; in steady state no span
/// allocates. [`finish`](Self::finish) leaves the batch empty and ready for the next request.
///
/// ```
/// use otlp_embed::{Resource, TraceBatch};
///
/// let resource = Resource::builder().attr("service.name", "checkout").build();
/// let mut batch = TraceBatch::new(&resource);
/// batch.scope("shop", "1.0");
/// batch.span([0x11; 16], [0x22; 8], "GET /cart").attr("retries", 2).times(1_000..2_000).end();
/// let request = batch.finish();
/// assert_eq!(request.items(), 1);
/// ```
pub struct TraceBatch {
    resource: Resource,
    state: State,
}

impl TraceBatch {
    /// An empty batch of this resource.
    pub fn new(resource: &Resource) -> Self {
        let mut state = resource.pool().take_state();
        state.resources.push(resource.clone());
        Self {
            resource: resource.clone(),
            state,
        }
    }

    /// Names the instrumentation scope of the spans that follow.
    pub fn scope(&mut self, name: &str, version: &str) -> &mut Self {
        self.scope_with(name, version, |_| ())
    }

    /// Names the instrumentation scope of the spans that follow, with attributes or a schema.
    pub fn scope_with(
        &mut self,
        name: &str,
        version: &str,
        write: impl FnOnce(&mut ScopeWriter<'_>),
    ) -> &mut Self {
        let state = &mut self.state;
        state.settle();
        state.end_run();
        // The message is written behind the spans, compared with the scopes so far, and taken away again.
        let start = state.sink.mark();
        state.unfinished_scope = Some(start);
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
        state.unfinished_scope = None;
        let message = state.scope_bytes.len();
        state.sink.copy_since(start, &mut state.scope_bytes);
        state.sink.roll_back(start);
        let schema_url = state.scope_bytes.len();
        state.scope_bytes.extend_from_slice(&state.scratch);
        let end = state.scope_bytes.len();
        state.enter_scope(Some(message..schema_url), schema_url..end);
        self
    }

    /// Names the resource of the spans that follow, which belong to no scope until one is named.
    pub fn resource(&mut self, resource: &Resource) -> &mut Self {
        let state = &mut self.state;
        state.settle();
        state.end_run();
        state.resource = state
            .resources
            .iter()
            .position(|known| known == resource)
            .unwrap_or_else(|| {
                state.resources.push(resource.clone());
                state.resources.len() - 1
            });
        state.run.scope = None;
        self
    }

    /// Starts a span.
    ///
    /// Ids of zeros are no ids: such a span is not written. It counts in [`refused`](Self::refused), and
    /// [`SpanWriter::try_end`] and [`try_finish`](Self::try_finish) report it.
    #[inline]
    pub fn span<'a>(&'a mut self, trace_id: [u8; 16], span_id: [u8; 8], name: &'a str) -> SpanWriter<'a> {
        if self.state.unfinished.is_some() || self.state.run.scope.is_none() {
            self.state.prepare_span();
        }
        SpanWriter::new(&mut self.state, trace_id, span_id, name)
    }

    /// Spans written since the batch was empty.
    pub fn len(&self) -> usize {
        self.state.spans as usize
    }

    /// Whether no span was written since the batch was empty.
    pub fn is_empty(&self) -> bool {
        self.state.spans == 0
    }

    /// The bytes of the spans written since the batch was empty; the request adds resources and scopes to them.
    pub fn encoded_len(&self) -> usize {
        self.state.sink.total()
    }

    /// Spans refused since the batch was empty: their ids were zeros, or they could not be finished.
    pub fn refused(&self) -> u64 {
        self.state.refused
    }

    /// Makes the spans a request and leaves the batch empty, for the next one.
    ///
    /// Without spans the request is [empty](Request::is_empty). Refused spans are not in it; they are counted in
    /// [`Request::refused`].
    pub fn finish(&mut self) -> Request {
        let request = self.state.finish(self.resource.pool());
        self.state.reset();
        self.state.resources.push(self.resource.clone());
        request
    }

    /// Like [`finish`](Self::finish), unless a span or a link was refused.
    ///
    /// # Errors
    ///
    /// A misuse error that says how many were refused and why. The batch is left as it is: `finish` still makes the
    /// other spans a request.
    pub fn try_finish(&mut self) -> Result<Request, Error> {
        self.state.settle();
        let (spans, links) = (self.state.refused, self.state.refused_links);
        if spans + links == 0 {
            return Ok(self.finish());
        }
        Err(Error::misuse(format!(
            "{spans} spans and {links} links were refused: a trace id or a span id consists of zeros, or a span was \
             abandoned in the middle; generate ids at random, or call `finish` to go on without them"
        )))
    }
}

impl Drop for TraceBatch {
    fn drop(&mut self) {
        let mut state = mem::take(&mut self.state);
        state.detach();
        self.resource.pool().put_state(state);
    }
}

impl fmt::Debug for TraceBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceBatch")
            .field("spans", &self.len())
            .field("encoded_len", &self.encoded_len())
            .field("refused", &self.refused())
            .finish_non_exhaustive()
    }
}

/// Adds to an instrumentation scope; see [`TraceBatch::scope_with`].
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

    /// Sets the URL of the schema that the scope and its spans follow.
    pub fn schema_url(&mut self, url: &str) -> &mut Self {
        self.schema_url.clear();
        self.schema_url.extend_from_slice(url.as_bytes());
        self
    }
}
