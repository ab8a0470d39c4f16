//! Runtimes: where sockets, clocks and timers come from.
//!
//! Owns the trait [`Runtime`] and its adapters. It is the only layer that reads a clock, but for `testing`. Never holds
//! protocol logic.

#[cfg(unix)]
mod blocking;
mod clock;
#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(any(feature = "smol", feature = "futures-io"))]
mod futures_socket;
#[cfg(any(feature = "smol", feature = "futures-io"))]
mod pool;
#[cfg(unix)]
mod reactor;
#[cfg(feature = "smol")]
mod smol;
#[cfg(unix)]
mod stream;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(unix)]
mod unix;
#[cfg(unix)]
mod wait;

#[cfg(unix)]
pub use blocking::Blocking;
pub(crate) use clock::Clock;
#[cfg(feature = "futures-io")]
pub use futures_io::{FuturesIo, WithUnix};
#[cfg(feature = "smol")]
pub use smol::Smol;
#[cfg(feature = "tokio")]
pub use tokio::Tokio;

use crate::endpoint::{Name, Target};
use crate::foreign::shield;
use crate::time::Instant;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::hash::{BuildHasher, Hasher};
use core::net::SocketAddr;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::hash_map::RandomState;
use std::io;
use std::net::ToSocketAddrs;

/// Where an exporter's sockets, time and names come from.
///
/// No bound asks for `Send`: a runtime of one thread gives futures of one thread, and the others' futures are `Send`
/// because their parts are. `examples/support/executor.rs` is a runtime written by hand, of one thread.
///
/// Every method is called while the exporter is locked: none may call the exporter that it serves. One that panics costs
/// the connection that it was called for; a timer's panic counts as the end of the runtime.
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

    /// Opens a socket: connected, non-blocking, and with `TCP_NODELAY` set where it is TCP. Dropping the future abandons
    /// the attempt. A runtime that knows no Unix domain sockets answers such a target with an error.
    fn connect(&self, target: &Target) -> Self::Connecting;

    /// Resolves a name: [`Resolve::run`] blocks and belongs on a thread that may.
    fn resolve(&self, query: Resolve) -> Self::Resolving;

    /// A timer, not yet set.
    fn timer(&self) -> Self::Timer;

    /// Whether whoever waits for this runtime's sockets waits for the other's as well. That is so where an executor polls; a
    /// runtime that blocks its thread knows its own clones only.
    fn is_same(&self, other: &Self) -> bool {
        let _ = other;
        true
    }

    /// The time since the Unix epoch, as the system's clock has it; zero where that is before it. Only what is exported about
    /// the exporter itself bears it: nothing is decided by it.
    fn unix_time(&self) -> Duration {
        clock::unix_time()
    }

    /// What an exporter's random choices, the jitter of its backoff above all, begin with. It differs from call to call,
    /// unless a runtime wants its runs to be the same.
    fn seed(&self) -> u64 {
        RandomState::new().build_hasher().finish()
    }

    /// Runs `poll`, the body of a future of this crate. A runtime that has an executor leaves this as it is: it polls
    /// once, with the executor's waker. A runtime without one blocks the thread and polls again, until it is ready.
    fn drive<T>(&self, cx: &mut Context<'_>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        poll(cx)
    }
}

/// A connected, non-blocking socket.
///
/// Every method follows the contract of `Future::poll`: after `Pending`, the waker of the last call fires when it is
/// worth trying again.
pub trait Socket {
    /// Reads into `buf`; zero bytes mean that the peer closed its side.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes from `bufs`, which are not empty, in order, as much as the socket takes; zero bytes mean that it will never
    /// take more. What it took is sent without a further call than those of `poll_read`, which follow.
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>>;
}

/// A timer.
pub trait Timer {
    /// Is ready once the clock has reached `at`. A later call with another time moves the timer.
    ///
    /// # Errors
    ///
    /// The runtime is gone: no deadline can be kept any more.
    fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<io::Result<()>>;
}

/// A name to resolve, with the resolver to ask.
#[derive(Clone, Debug)]
pub struct Resolve {
    name: Name,
    resolver: Option<Resolver>,
    /// Shared by the lookups of one name of one exporter, which are counted by it until they end.
    _running: Arc<()>,
}

impl Resolve {
    /// `running` is the exporter's; the lookups of the name are as many as others hold it.
    pub(crate) fn new(name: Name, resolver: Option<Resolver>, running: &Arc<()>) -> Self {
        Self {
            name,
            resolver,
            _running: running.clone(),
        }
    }

    /// Whether the caller gave a resolver of its own.
    #[cfg(feature = "testing")]
    pub(crate) fn has_resolver(&self) -> bool {
        self.resolver.is_some()
    }

    /// The name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Asks the caller's resolver, or the system's where the caller gave none. It may block for long.
    ///
    /// # Errors
    ///
    /// Those of the resolver; its panic is one too.
    pub fn run(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.resolver {
            Some(resolver) => shield(|| (resolver.0)(&self.name))
                .unwrap_or_else(|| Err(io::Error::other("the resolver panicked"))),
            None => Ok((&*self.name.host, self.name.port).to_socket_addrs()?.collect()),
        }
    }
}

/// What an adapter answers where the system has no Unix domain sockets.
#[cfg(all(not(unix), any(feature = "tokio", feature = "smol")))]
fn no_unix_sockets() -> io::Error {
    let text = "this system has no Unix domain sockets; give an http endpoint";
    io::Error::new(io::ErrorKind::Unsupported, text)
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
