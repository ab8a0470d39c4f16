//! What a batch has written, and how it becomes one message.
//!
//! Items (spans, log records, metrics) lie in the sink in the order in which they came, as runs of one scope each. At the end
//! the runs of a scope are put together and the heads of the messages around them written, which know their lengths by
//! then. The messages around items have the same field numbers for every signal.

use super::batch::{
    GROUP_RESOURCE, GROUP_SCHEMA_URL, GROUP_SCOPES, REQUEST_GROUPS, SCOPE_GROUP_SCHEMA_URL,
    SCOPE_GROUP_SCOPE, SCOPE_NAME, SCOPE_VERSION,
};
use super::metric::OpenMetric;
use super::pool::Pool;
use super::request::{Request, Signal};
use super::resource::Resource;
use super::segments::Segments;
use super::sink::{Frame, Mark, Piece, Sink};
use super::wire::{self, VARINT_BYTES_MAX, varint_len};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;

/// Entries that each list of an idle batch keeps room for.
const IDLE_ENTRIES_MAX: usize = 1024;

/// Everything of a batch that keeps its memory from one request to the next.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) sink: Sink,
    /// Guessed width of the next item's length.
    pub(crate) item_width: usize,
    /// Where the item that is being written began.
    pub(crate) unfinished: Option<Mark>,
    /// Where what is being written aside began: a scope, or the metadata of a metric.
    pub(super) unfinished_aside: Option<Mark>,
    /// The metric that is being written, whose data points are the items.
    pub(super) metric: Option<OpenMetric>,
    /// Its encoded metadata.
    pub(super) metadata: Vec<u8>,
    /// Guessed width of the next data point's length.
    pub(super) point_width: usize,
    /// Items written.
    pub(super) items: u64,
    /// Items that were not written.
    pub(crate) refused: u64,
    /// Why the first of them was not, where that is known.
    pub(super) refusal: Option<&'static str>,
    /// Parts of items that were not written: links.
    pub(crate) refused_parts: u64,
    pub(super) resources: Vec<Resource>,
    scopes: Vec<Scope>,
    /// The scopes' encoded messages and schema URLs.
    pub(super) scope_bytes: Vec<u8>,
    runs: Vec<Run>,
    /// The run that is being written; its scope is the current one.
    pub(super) run: Run,
    /// Whether the next item belongs to the scope of the run. Where a resource was named after it, it does not; the run goes on
    /// where the same scope of the same resource is named next, as by many producers in turn.
    pub(super) is_scope_named: bool,
    /// The resource that scopes belong to, an index.
    pub(super) resource: usize,
    /// Room left for heads at the very beginning.
    hole_len: usize,
    pub(super) scratch: Vec<u8>,
    /// Pieces of the request in their order, as ranges of the sink's pieces.
    order: Vec<Range<usize>>,
    frozen: Vec<Bytes>,
}

struct Scope {
    resource: usize,
    /// Its encoded message in `scope_bytes`; none for items without a scope.
    message: Option<Range<usize>>,
    schema_url: Range<usize>,
    /// Length of the message that holds the scope's items, computed at the end.
    len: usize,
}

/// Items of one scope in a row.
#[derive(Clone, Copy, Default)]
pub(super) struct Run {
    /// Its scope, an index; items before the first scope make one of their own.
    pub(super) scope: Option<usize>,
    first_piece: usize,
    end_piece: usize,
    len: usize,
    /// Bytes written before it.
    begin: usize,
}

impl State {
    pub(crate) fn attach(&mut self, pool: &Arc<Pool>, signal: Signal) {
        self.sink.attach(pool.clone(), signal);
        self.item_width = self.item_width.max(2);
        self.point_width = self.point_width.max(1);
    }

    /// Ends the item that began last.
    #[inline]
    pub(crate) fn end_item(&mut self, frame: Frame) {
        if let Some(width) = self.close_item(frame) {
            // The next item is guessed to be as long; to widen a short one costs less than to find out for each long one.
            self.item_width = width.max(2);
            self.items += 1;
        }
    }
}

impl State {
    /// Gives all memory of items back, and keeps that of the lists.
    pub(super) fn detach(&mut self) {
        self.reset();
        self.sink.detach();
        // One huge batch must not leave its lists behind for ever.
        self.sink.shrink_lists(IDLE_ENTRIES_MAX);
        self.scopes.shrink_to(IDLE_ENTRIES_MAX);
        self.scope_bytes.shrink_to(16 * IDLE_ENTRIES_MAX);
        self.runs.shrink_to(IDLE_ENTRIES_MAX);
        self.scratch.shrink_to(16 * IDLE_ENTRIES_MAX);
        self.metadata.clear();
        self.metadata.shrink_to(16 * IDLE_ENTRIES_MAX);
        self.order.shrink_to(IDLE_ENTRIES_MAX);
        self.frozen.shrink_to(IDLE_ENTRIES_MAX);
        self.resources.shrink_to(IDLE_ENTRIES_MAX);
    }

    /// Goes back to the beginning.
    pub(super) fn reset(&mut self) {
        self.sink.reset();
        self.unfinished = None;
        self.unfinished_aside = None;
        self.metric = None;
        (self.items, self.refused, self.refused_parts) = (0, 0, 0);
        self.refusal = None;
        self.resources.clear();
        self.scopes.clear();
        self.scope_bytes.clear();
        self.runs.clear();
        self.run = Run::default();
        self.is_scope_named = false;
        (self.resource, self.hole_len) = (0, 0);
        self.order.clear();
        self.frozen.clear();
    }

    /// Takes out what was begun and never finished.
    pub(super) fn settle(&mut self) {
        if let Some(start) = self.unfinished_aside.take() {
            self.sink.roll_back(start);
        }
        self.settle_item();
        if self.metric.is_some() {
            self.end_metric();
        }
    }

    /// Takes out the item that was begun and never finished.
    pub(super) fn settle_item(&mut self) {
        if let Some(start) = self.unfinished.take() {
            self.sink.roll_back(start);
            self.refused += 1;
        }
    }

    /// Counts an item that was not written.
    #[cold]
    pub(super) fn refuse(&mut self, why: &'static str) {
        self.refused += 1;
        self.refusal.get_or_insert(why);
    }

    #[cold]
    #[inline(never)]
    pub(super) fn prepare_item(&mut self) {
        self.settle();
        if !self.is_scope_named {
            self.end_run();
            let end = self.scope_bytes.len();
            self.enter_scope(None, end..end);
        }
    }

    /// Ends the message of an item and returns the width that its length took; nothing where it had to be taken out.
    #[inline]
    pub(super) fn close_item(&mut self, frame: Frame) -> Option<usize> {
        let start = self.unfinished.take()?;
        if self.sink.depth() != start.depth() + 1 {
            // A closure panicked inside of a nested message, whose length was never written.
            self.sink.roll_back(start);
            self.refused += 1;
            return None;
        }
        Some(self.sink.close(frame))
    }

    /// Whether a scope, whose bytes are the last of `scope_bytes`, is that of the run; they are taken away then.
    pub(super) fn stays_in_scope(&mut self, message: &Range<usize>, schema_url: &Range<usize>) -> bool {
        let Some(scope) = self.run.scope.map(|scope| &self.scopes[scope]) else {
            return false;
        };
        let of = |range: &Range<usize>| &self.scope_bytes[range.clone()];
        let is_same = scope.resource == self.resource
            && scope
                .message
                .as_ref()
                .is_some_and(|known| of(known) == of(message))
            && of(&scope.schema_url) == of(schema_url);
        if is_same {
            self.scope_bytes.truncate(message.start);
            self.is_scope_named = true;
        }
        is_same
    }

    /// Whether a scope of these names and nothing else is that of the run, compared without writing it.
    pub(super) fn stays_in_plain_scope(&mut self, name: &str, version: &str) -> bool {
        let Some(scope) = self.run.scope.map(|scope| &self.scopes[scope]) else {
            return false;
        };
        let Some(message) = scope.message.clone() else {
            return false;
        };
        let mut rest = &self.scope_bytes[message];
        let is_same = scope.resource == self.resource
            && scope.schema_url.is_empty()
            && strip_short_text(&mut rest, SCOPE_NAME, name)
            && strip_short_text(&mut rest, SCOPE_VERSION, version)
            && rest.is_empty();
        self.is_scope_named |= is_same;
        is_same
    }

    /// Makes a scope the current one; its bytes are the last of `scope_bytes`.
    pub(super) fn enter_scope(&mut self, message: Option<Range<usize>>, schema_url: Range<usize>) {
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
        self.is_scope_named = true;
        self.run = Run {
            scope: Some(scope),
            first_piece,
            end_piece: first_piece,
            len: 0,
            begin,
        };
    }

    pub(super) fn end_run(&mut self) {
        let mut run = self.run;
        self.run.scope = None;
        run.end_piece = self.sink.seal();
        run.len = self.sink.total() - run.begin;
        if run.scope.is_some() && run.len > 0 {
            self.runs.push(run);
        }
    }

    pub(super) fn finish(&mut self, pool: &Pool, signal: Signal) -> Request {
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
        pool.note_request_len(signal, encoded_len - shared_len);
        Request::new(signal, self.items, self.refused, segments)
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
            put_head(scratch, REQUEST_GROUPS, len);
            put_field(scratch, GROUP_RESOURCE, resource.message());
            for runs in of_scopes() {
                let scope = &scopes[index(&runs[0])];
                put_head(scratch, GROUP_SCOPES, scope.len);
                if let Some(message) = &scope.message {
                    put_field(scratch, SCOPE_GROUP_SCOPE, &scope_bytes[message.clone()]);
                }
                // The very first head fits in the hole before the first item, for one piece less.
                let first = order.is_empty();
                if !(first && sink.fill_hole(runs[0].first_piece, self.hole_len, scratch)) {
                    order.push(append(sink, scratch));
                }
                scratch.clear();
                order.extend(runs.iter().map(|run| run.first_piece..run.end_piece));
                if !scope.schema_url.is_empty() {
                    put_field(
                        scratch,
                        SCOPE_GROUP_SCHEMA_URL,
                        &scope_bytes[scope.schema_url.clone()],
                    );
                }
            }
            if !schema_url.is_empty() {
                put_field(scratch, GROUP_SCHEMA_URL, schema_url);
            }
        }
        if !scratch.is_empty() {
            order.push(append(sink, scratch));
        }
    }
}

/// Takes a text field off the beginning, if it is there with exactly this text. One that is long is left to others.
fn strip_short_text(bytes: &mut &[u8], key: u8, text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    let Some((head, rest)) = bytes.split_at_checked(2) else {
        return false;
    };
    let is_here = text.len() < 1 << 7 && head == [key, text.len() as u8];
    match rest.strip_prefix(text.as_bytes()) {
        Some(rest) if is_here => {
            *bytes = rest;
            true
        }
        _ => false,
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
