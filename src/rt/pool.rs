//! Name resolution on the thread pool of the `blocking` crate, which smol and async-std use themselves.

use super::Resolve;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::Future;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;

/// A name being resolved.
pub struct Resolving(Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>);

pub(super) fn resolve(query: Resolve) -> Resolving {
    Resolving(Box::pin(blocking::unblock(move || query.run())))
}

impl Future for Resolving {
    type Output = io::Result<Vec<SocketAddr>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}
