//! Runtimes: where sockets, clocks and timers come from.
//!
//! Owns the trait [`Runtime`] and its adapters of about a hundred lines each. It is the only layer that reads a clock.
//! Never holds protocol logic.

use crate::endpoint::{Name, Target};
use crate::time::Instant;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::net::SocketAddr;
use core::task::{Context, Poll};
use std::io;

/// Where an exporter's sockets, time and names come from.
///
/// No bound asks for `Send`: a runtime of one thread gives futures of one thread, and the others' futures are `Send`
/// because their parts are.
pub trait Runtime: Clone {
    /// A connected, non-blocking socket.
    type Io: Socket;
    /// A timer that can be set again.
    type Timer: Timer;
    /// The opening of a socket.
    type Connecting: Future<Output = io::Result<Self::Io>>;
    /// The resolving of a name.
    type Resolving: Future<Output = io::Result<Vec<SocketAddr>>>;

    /// The time on a monotonic clock whose zero is this runtime's choice.
    fn now(&self) -> Instant;

    /// Opens a socket. Dropping the future abandons the attempt.
    fn connect(&self, target: &Target) -> Self::Connecting;

    /// Resolves a name: [`Resolve::run`] blocks and belongs on a thread that may.
    fn resolve(&self, query: Resolve) -> Self::Resolving;

    /// A timer, not yet set.
    fn timer(&self) -> Self::Timer;

    /// Blocks the thread until a waker that this runtime was given may have fired, at the latest until `until`, and
    /// tells whether it blocked. A runtime that has an executor leaves this as it is: it never blocks.
    fn block(&self, until: Instant) -> bool {
        let _ = until;
        false
    }
}

/// A connected, non-blocking socket.
///
/// Every method follows the contract of `Future::poll`: after `Pending`, the waker of the last call fires when it is
/// worth trying again.
pub trait Socket {
    /// Reads into `buf`; zero bytes mean that the peer closed its side.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes from `bufs`, in order, as much as the socket takes.
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>>;
}

/// A timer.
pub trait Timer {
    /// Is ready once the clock has reached `at`. A later call with another time moves the timer.
    fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()>;
}

/// A name to resolve, with the resolver to ask.
#[derive(Clone, Debug)]
pub struct Resolve {
    name: Name,
    resolver: Option<Resolver>,
}

impl Resolve {
    /// The name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Asks the caller's resolver, or the system's where the caller gave none. It may block for long.
    ///
    /// # Errors
    ///
    /// Those of the resolver.
    pub fn run(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.resolver {
            Some(resolver) => (resolver.0)(&self.name),
            None => {
                use std::net::ToSocketAddrs;
                Ok((&*self.name.host, self.name.port).to_socket_addrs()?.collect())
            }
        }
    }
}

/// A caller's resolver.
#[derive(Clone)]
pub struct Resolver(Arc<ResolveFn>);

type ResolveFn = dyn Fn(&Name) -> io::Result<Vec<SocketAddr>> + Send + Sync;

impl Resolver {
    pub(crate) fn new(
        resolve: impl Fn(&Name) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(resolve))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}
