//! A pipeline on a thread of its own.

use super::future::PipelineFuture;
use super::park;
use crate::error::{Error, Kind};
use crate::rt::Runtime;
use crate::stats::Report;
use core::pin::pin;
use std::io;
use std::thread::JoinHandle;

/// What the thread is called.
const NAME: &str = "otlp-pipeline";

impl<R: Runtime> PipelineFuture<R>
where
    Self: Send + 'static,
{
    /// Starts one thread, `otlp-pipeline`, that runs the pipeline until it ends.
    ///
    /// It serves [`rt::Blocking`](crate::rt::Blocking), and every runtime whose sockets and timers are served elsewhere
    /// (tokio while its runtime runs, smol).
    ///
    /// # Errors
    ///
    /// The system can start no further thread. The future is dropped then, and the pipeline with it.
    pub fn run_on_thread(self) -> io::Result<PipelineThread> {
        let run = move || {
            let limit = None;
            park::wait(pin!(self), limit)
        };
        let thread = std::thread::Builder::new().name(NAME.into()).spawn(run)?;
        Ok(PipelineThread { thread })
    }
}

/// The thread that runs a pipeline. Dropping it leaves the thread to itself.
#[derive(Debug)]
pub struct PipelineThread {
    thread: JoinHandle<Option<Report>>,
}

impl PipelineThread {
    /// Blocks until the pipeline has ended: shut it down, or drop its handles, before. On a runtime that is not driven meanwhile,
    /// such as tokio's `current_thread` outside of `block_on`, it never ends: take [`rt::Blocking`](crate::rt::Blocking) there, or
    /// drop it.
    ///
    /// # Errors
    ///
    /// The thread panicked, in code that was not this crate's: a waker's or a runtime's. The pipeline has ended then, and
    /// what it had left is dropped.
    pub fn join(self) -> Result<Report, Error> {
        let report = self.thread.join().ok().flatten();
        report.ok_or_else(|| {
            Error::new(
                Kind::Runtime,
                "the thread of the pipeline panicked: see its message; what was queued is dropped",
            )
        })
    }

    /// Whether the pipeline has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}
