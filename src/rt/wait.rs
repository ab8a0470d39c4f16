//! Waiting for an exporter's futures on a plain thread.

use super::Blocking;
use crate::error::Error;
use crate::export::{Driver, OtlpExportFuture, Shutdown};
use crate::outcome::Outcome;
use crate::stats::Report;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

impl OtlpExportFuture<Blocking> {
    /// Blocks the thread until the verdict is there, at the latest shortly after the export's deadline.
    ///
    /// # Errors
    ///
    /// As the future's.
    pub fn wait(self) -> Result<Outcome, Error> {
        ready(self)
    }
}

impl Shutdown<Blocking> {
    /// Blocks the thread until the exporter is shut down, at the latest shortly after the time it was given.
    pub fn wait(self) -> Report {
        ready(self)
    }
}

impl Driver<Blocking> {
    /// Blocks the thread, moving every export, until the last exporter is gone or shut down.
    pub fn wait(self) {
        ready(self);
    }
}

/// The output of a future on this runtime, all of which are ready at their first poll.
fn ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let cx = &mut Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return output;
        }
    }
}
