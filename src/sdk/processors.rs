//! Processors: what the SDK calls at the end of a span and for every log record.

use super::losses::Losses;
use crate::encode::{LogBatch, Resource, Signal, TraceBatch};
use crate::pipeline::{Pipeline, Refusal};
use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

/// For how long a flush may take that names no time; what the SDK's own processors give it.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// For how long the thread of an item waits for room at most, under `Overflow::Block`.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Writes each span at its end into a pipeline, as bytes; takes the place of the SDK's `BatchSpanProcessor`.
///
/// The thread that ends a span encodes it, into the open batch that the pipeline exports; the span is freed then, but for texts
/// of 1 KiB and more, which are referenced. Spans that are not sampled are left out. They belong to the resource of their
/// provider, not to that of the pipeline.
///
/// What happens when the queue is full is the choice of the pipeline: see [`Overflow`](crate::pipeline::Overflow). Spans that it
/// does not take are dropped and counted in [`Pipeline::stats`], also where it was shut down before the provider.
///
/// `force_flush` waits until the collector has answered for everything that is queued, 5 s at most. It is a timeout when something
/// is still on its way then, and a failure that tells how many when spans were lost or rejected since the call before that told of
/// them, or since the processor was made. Those of other signals are not among them, nor what the queue refused others. Where
/// processors of one signal share a pipeline, their items share requests, and each tells what the pipeline lost of both.
/// `shutdown` does the same within its time and takes nothing after it. The pipeline goes on, since other signals share it. Once
/// that has ended both fail, also where everything was delivered: where their results matter, providers come first.
///
/// # Cancel safety
///
/// Nothing here is awaited. Dropping the processor loses nothing that it was given.
#[derive(Debug)]
pub struct SpanProcessor {
    pub(super) face: Face,
}

/// Writes each log record into a pipeline, as bytes; takes the place of the SDK's `BatchLogProcessor`.
///
/// Records are copied once. Their instrumentation scope is the one of their logger, under the name of the record's target where
/// it has one, as appenders set it. In all else it is as [`SpanProcessor`].
#[derive(Debug)]
pub struct LogProcessor {
    pub(super) face: Face,
}

impl SpanProcessor {
    /// A processor that writes into this pipeline, with the headers of this handle.
    pub fn new(pipeline: &Pipeline) -> Self {
        Self {
            face: Face::new(pipeline, Signal::Traces),
        }
    }

    /// Sets for how long the end of a span may block its thread at most, where the pipeline's queue is full and its choice is
    /// [`Overflow::Block`](crate::pipeline::Overflow::Block); 1 s unless set. The span is dropped then, and counted.
    pub fn with_wait_max(mut self, wait_max: Duration) -> Self {
        self.face.wait_max = wait_max;
        self
    }
}

impl LogProcessor {
    /// A processor that writes into this pipeline, with the headers of this handle.
    pub fn new(pipeline: &Pipeline) -> Self {
        Self {
            face: Face::new(pipeline, Signal::Logs),
        }
    }

    /// Sets for how long a record may block its thread at most, where the pipeline's queue is full and its choice is
    /// [`Overflow::Block`](crate::pipeline::Overflow::Block); 1 s unless set. The record is dropped then, and counted.
    pub fn with_wait_max(mut self, wait_max: Duration) -> Self {
        self.face.wait_max = wait_max;
        self
    }
}

/// What processors have in common.
#[derive(Debug)]
pub(super) struct Face {
    pipeline: Pipeline,
    losses: Losses,
    /// That of the provider, once it has told.
    resource: Option<Resource>,
    wait_max: Duration,
    is_closed: AtomicBool,
}

/// Why a flush is an error, in no version's words.
pub(super) enum Failure {
    /// It was shut down before.
    Closed,
    /// The time was over.
    TimedOut(Duration),
    Other(String),
}

impl Face {
    fn new(pipeline: &Pipeline, signal: Signal) -> Self {
        Self {
            pipeline: pipeline.clone(),
            losses: Losses::new(pipeline, signal),
            resource: None,
            wait_max: WAIT_MAX,
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn set_resource(&mut self, resource: Resource) {
        self.resource = Some(resource);
    }

    /// Writes a span; what the pipeline does not take it has counted.
    pub(super) fn span(&self, write: impl FnOnce(&mut TraceBatch)) {
        if self.is_closed() {
            return self.pipeline.turn_away(Signal::Traces, 1, Refusal::CLOSED);
        }
        let write = |batch: &mut TraceBatch| {
            if let Some(resource) = &self.resource {
                batch.resource(resource);
            }
            write(batch);
        };
        self.note(self.pipeline.put_spans(self.wait_max, write));
    }

    /// Writes a log record; what the pipeline does not take it has counted.
    pub(super) fn log(&self, write: impl FnOnce(&mut LogBatch)) {
        if self.is_closed() {
            return self.pipeline.turn_away(Signal::Logs, 1, Refusal::CLOSED);
        }
        let write = |batch: &mut LogBatch| {
            if let Some(resource) = &self.resource {
                batch.resource(resource);
            }
            write(batch);
        };
        self.note(self.pipeline.put_logs(self.wait_max, write));
    }

    /// The pipeline has counted what it did not take, and tells its observer.
    fn note(&self, written: Result<(), Refusal>) {
        if written.is_err() {
            self.losses.refused();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    pub(super) fn flush(&self) -> Result<(), Failure> {
        if self.is_closed() {
            return Err(Failure::Closed);
        }
        self.losses.flush(&self.pipeline, FLUSH_TIME)
    }

    pub(super) fn shutdown(&self, timeout: Duration) -> Result<(), Failure> {
        if self.is_closed.swap(true, Ordering::Relaxed) {
            return Err(Failure::Closed);
        }
        self.losses.flush(&self.pipeline, timeout)
    }
}
