//! Batches of spans that become one request.

use super::pool::Pool;
use super::request::{Request, Signal};
use super::resource::Resource;
use super::shared::IntoShared;
use super::sink::{Frame, Mark, Piece, Sink};
use super::span::{SpanWriter, varint_field};
use super::value::{IntoValue, Place, ValueWriter, text_field};
use super::wire::{self, BYTES, VARINT, VARINT_BYTES_MAX, key, varint_len};
use crate::error::Error;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::mem;
use core::ops::Range;

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

/// Everything of a batch that keeps its memory from one request to the next.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) sink: Sink,
    /// Guessed width of the next span's length.
    pub(crate) span_width: usize,
    /// Where the span that is being written began.
    pub(crate) unfinished: Option<Mark>,
    /// Where the scope that is being written began.
    unfinished_scope: Option<Mark>,
    /// Spans written.
    spans: u64,
    /// Spans that were not written.
    pub(crate) refused: u64,
    /// Links that were not written.
    pub(crate) refused_links: u64,
    resources: Vec<Resource>,
    scopes: Vec<Scope>,
    /// The scopes' encoded messages and schema URLs.
    scope_bytes: Vec<u8>,
    runs: Vec<Run>,
    /// The run that is being written; its scope is the current one.
    run: Run,
    /// The resource that scopes belong to, an index.
    resource: usize,
    /// Room left for heads at the very beginning.
    hole_len: usize,
    scratch: Vec<u8>,
    /// Pieces of the request in their order, as ranges of the sink's pieces.
    order: Vec<Range<usize>>,
    frozen: Vec<Bytes>,
}

struct Scope {
    resource: usize,
    /// Its encoded message in `scope_bytes`; none for spans without a scope.
    message: Option<Range<usize>>,
    schema_url: Range<usize>,
    /// Length of the `ScopeSpans` message, computed at the end.
    len: usize,
}

/// Spans of one scope in a row.
#[derive(Clone, Copy, Default)]
struct Run {
    /// Its scope, an index; spans before the first scope make one of their own.
    scope: Option<usize>,
    first_piece: usize,
    end_piece: usize,
    len: usize,
    /// Bytes written before it.
    begin: usize,
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

impl State {
    pub(crate) fn attach(&mut self, pool: &Arc<Pool>) {
        self.sink.attach(Some(pool.clone()));
        self.span_width = self.span_width.max(2);
    }

    /// Ends the span that began last.
    #[inline]
    pub(crate) fn end_span(&mut self, frame: Frame) {
        if self
            .unfinished
            .take()
            .is_some_and(|start| self.close_span(start, frame))
        {
            self.spans += 1;
        }
    }
}

impl State {
    /// Gives all memory of spans back, and keeps that of the lists.
    fn detach(&mut self) {
        self.reset();
        self.sink.detach();
    }

    /// Goes back to the beginning.
    fn reset(&mut self) {
        self.sink.reset();
        self.unfinished = None;
        self.unfinished_scope = None;
        (self.spans, self.refused, self.refused_links) = (0, 0, 0);
        self.resources.clear();
        self.scopes.clear();
        self.scope_bytes.clear();
        self.runs.clear();
        self.run = Run::default();
        (self.resource, self.hole_len) = (0, 0);
        self.order.clear();
        self.frozen.clear();
    }

    /// Takes out what was begun and never finished.
    fn settle(&mut self) {
        if let Some(start) = self.unfinished_scope.take() {
            self.sink.roll_back(start);
        }
        if let Some(start) = self.unfinished.take() {
            self.sink.roll_back(start);
            self.refused += 1;
        }
    }

    #[cold]
    #[inline(never)]
    fn prepare_span(&mut self) {
        self.settle();
        if self.run.scope.is_none() {
            let end = self.scope_bytes.len();
            self.enter_scope(None, end..end);
        }
    }

    #[inline]
    fn close_span(&mut self, start: Mark, frame: Frame) -> bool {
        if self.sink.depth() != start.depth() + 1 {
            // A closure panicked inside of a nested message, whose length was never written.
            self.sink.roll_back(start);
            self.refused += 1;
            return false;
        }
        // The next span is guessed to be as long; to widen a short one costs less than to find out for each long one.
        self.span_width = self.sink.close(frame).max(2);
        true
    }

    /// Makes a scope the current one; its bytes are the last of `scope_bytes`.
    fn enter_scope(&mut self, message: Option<Range<usize>>, schema_url: Range<usize>) {
        let of = |range: &Range<usize>| &self.scope_bytes[range.clone()];
        let known = self.scopes.iter().position(|scope| {
            scope.resource == self.resource
                && scope.message.as_ref().map(of) == message.as_ref().map(of)
                && of(&scope.schema_url) == of(&schema_url)
        });
        let scope = known.unwrap_or(self.scopes.len());
        if known.is_some() {
            let begin = message.map_or(schema_url.start, |message| message.start);
            self.scope_bytes.truncate(begin);
        } else {
            let message_len = message.as_ref().map_or(0, ExactSizeIterator::len);
            self.scopes.push(Scope {
                resource: self.resource,
                message,
                schema_url,
                len: 0,
            });
            if self.sink.is_pristine() {
                let heads = 4 * (1 + VARINT_BYTES_MAX);
                self.hole_len = heads + self.resources[self.resource].message().len() + message_len;
                self.sink.leave_hole(self.hole_len);
            }
        }
        let (first_piece, begin) = (self.sink.seal(), self.sink.total());
        self.run = Run {
            scope: Some(scope),
            first_piece,
            end_piece: first_piece,
            len: 0,
            begin,
        };
    }

    fn end_run(&mut self) {
        let mut run = self.run;
        self.run.scope = None;
        run.end_piece = self.sink.seal();
        run.len = self.sink.total() - run.begin;
        if run.scope.is_some() && run.len > 0 {
            self.runs.push(run);
        }
    }

    fn finish(&mut self, pool: &Pool) -> Request {
        self.settle();
        self.end_run();
        self.lay_out();
        let encoded_len = self.sink.total();
        let mut shared_len = 0;
        self.sink.freeze(&mut self.frozen);
        let pieces = self.sink.pieces();
        let count = self.order.iter().map(ExactSizeIterator::len).sum();
        let mut segments = Segments {
            chunks: &self.frozen,
            own: None,
            done: Vec::with_capacity(count),
        };
        for piece in self.order.iter().flat_map(|range| &pieces[range.clone()]) {
            if let Piece::Shared(bytes) = piece {
                shared_len += bytes.len();
            }
            segments.push(piece);
        }
        let segments = segments.finish();
        pool.note_request_len(encoded_len - shared_len);
        Request::new(Signal::Traces, self.spans, self.refused, encoded_len, segments)
    }

    /// Puts the runs of each scope together, and writes the heads and tails of the messages around them.
    fn lay_out(&mut self) {
        let Self {
            sink,
            resources,
            scopes,
            scope_bytes,
            runs,
            scratch,
            order,
            ..
        } = self;
        let index = |run: &Run| run.scope.unwrap_or_default();
        runs.sort_unstable_by_key(|run| (scopes[index(run)].resource, index(run), run.first_piece));
        for run in &*runs {
            scopes[index(run)].len += run.len;
        }
        for scope in scopes.iter_mut().filter(|scope| scope.len > 0) {
            scope.len += scope
                .message
                .as_ref()
                .map_or(0, |message| field_len(message.len()));
            scope.len += text_field_len(scope.schema_url.len());
        }
        scratch.clear();
        for of_resource in runs.chunk_by(|a, b| scopes[index(a)].resource == scopes[index(b)].resource) {
            let of_scopes = || of_resource.chunk_by(|a, b| a.scope == b.scope);
            let resource = &resources[scopes[index(&of_resource[0])].resource];
            let scopes_len: usize = of_scopes()
                .map(|runs| field_len(scopes[index(&runs[0])].len))
                .sum();
            let schema_url = resource.schema_url().as_bytes();
            let resource_len = field_len(resource.message().len());
            let len = resource_len + scopes_len + text_field_len(schema_url.len());
            put_head(scratch, REQUEST_RESOURCE_SPANS, len);
            put_field(scratch, RESOURCE_SPANS_RESOURCE, resource.message());
            for runs in of_scopes() {
                let scope = &scopes[index(&runs[0])];
                put_head(scratch, RESOURCE_SPANS_SCOPE_SPANS, scope.len);
                if let Some(message) = &scope.message {
                    put_field(scratch, SCOPE_SPANS_SCOPE, &scope_bytes[message.clone()]);
                }
                // The very first head fits in the hole before the first span, for one piece less.
                let first = order.is_empty();
                if !(first && sink.fill_hole(runs[0].first_piece, self.hole_len, scratch)) {
                    order.push(append(sink, scratch));
                }
                scratch.clear();
                order.extend(runs.iter().map(|run| run.first_piece..run.end_piece));
                if !scope.schema_url.is_empty() {
                    put_field(
                        scratch,
                        SCOPE_SPANS_SCHEMA_URL,
                        &scope_bytes[scope.schema_url.clone()],
                    );
                }
            }
            if !schema_url.is_empty() {
                put_field(scratch, RESOURCE_SPANS_SCHEMA_URL, schema_url);
            }
        }
        if !scratch.is_empty() {
            order.push(append(sink, scratch));
        }
    }
}

/// Turns pieces into segments, adjacent ones into one.
pub(crate) struct Segments<'a> {
    pub(crate) chunks: &'a [Bytes],
    pub(crate) own: Option<(u32, Range<usize>)>,
    pub(crate) done: Vec<Bytes>,
}

impl Segments<'_> {
    pub(crate) fn push(&mut self, piece: &Piece) {
        match (piece, &mut self.own) {
            (Piece::Own { start, end, .. }, _) if start == end => {}
            (Piece::Own { chunk, start, end }, Some((current, range)))
                if chunk == current && *start as usize == range.end =>
            {
                range.end = *end as usize;
            }
            (Piece::Own { chunk, start, end }, _) => {
                self.flush();
                self.own = Some((*chunk, *start as usize..*end as usize));
            }
            (Piece::Shared(bytes), _) => {
                self.flush();
                self.done.push(bytes.clone());
            }
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.done
    }

    fn flush(&mut self) {
        if let Some((chunk, range)) = self.own.take() {
            self.done.push(self.chunks[chunk as usize].slice(range));
        }
    }
}

/// Writes bytes at the end and returns the pieces that they make.
fn append(sink: &mut Sink, bytes: &[u8]) -> Range<usize> {
    let first = sink.seal();
    sink.bytes(bytes);
    first..sink.seal()
}

fn put_head(to: &mut Vec<u8>, key: u8, len: usize) {
    let mut varint = [0; VARINT_BYTES_MAX];
    let varint_len = wire::put_varint(&mut varint, len as u64);
    to.push(key);
    to.extend_from_slice(&varint[..varint_len]);
}

fn put_field(to: &mut Vec<u8>, key: u8, bytes: &[u8]) {
    put_head(to, key, bytes.len());
    to.extend_from_slice(bytes);
}

/// The length of a field whose content has this length.
fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// The same for a field that is left out when it is empty.
fn text_field_len(len: usize) -> usize {
    if len == 0 { 0 } else { field_len(len) }
}
