//! Stands in for managed exports until the engine has them.

use crate::encode::Request;
use crate::error::Error;
use crate::export::{Exporter, OtlpExportFuture};
use crate::outcome::Outcome;
use crate::rt::Runtime;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

#[derive(Clone, Copy)]
pub(crate) struct Managed {
    pub unanswered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ExportId(u64);

pub(crate) type Verdict = (Result<Outcome, Error>, Option<(Request, bool)>);

pub(crate) struct Flight<R: Runtime> {
    exporter: Exporter<R>,
    next: u64,
    exports: Vec<(ExportId, Request, Pin<Box<OtlpExportFuture<R>>>)>,
}

impl<R: Runtime> Flight<R> {
    pub(crate) fn new(exporter: &Exporter<R>) -> Self {
        Self {
            exporter: exporter.clone(),
            next: 0,
            exports: Vec::new(),
        }
    }

    pub(crate) fn submit(&mut self, request: Request, managed: Option<Managed>) -> ExportId {
        let _ = managed.map(|managed| managed.unanswered);
        let id = ExportId(self.next);
        self.next += 1;
        let export = Box::pin(self.exporter.export(request.clone()));
        self.exports.push((id, request, export));
        id
    }

    pub(crate) fn cancel(&mut self, id: ExportId) -> Option<Verdict> {
        let at = self.exports.iter().position(|(other, ..)| *other == id)?;
        let (_, request, _) = self.exports.swap_remove(at);
        let error = Error::new(crate::error::Kind::Cancelled, "cancelled");
        Some((Err(error), Some((request, false))))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(ExportId, Verdict)> {
        for at in 0..self.exports.len() {
            if let Poll::Ready(result) = self.exports[at].2.as_mut().poll(cx) {
                let (id, request, _) = self.exports.swap_remove(at);
                let back = match &result {
                    Err(error) if error.is_retryable() => Some((request, error.counts().unknown > 0)),
                    _ => None,
                };
                let result = match (&back, result) {
                    (Some(_), Err(error)) => Err(error.with_counts(Default::default())),
                    (_, result) => result,
                };
                return Poll::Ready((id, (result, back)));
            }
        }
        Poll::Pending
    }
}
