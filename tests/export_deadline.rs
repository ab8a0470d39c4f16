//! The deadline of an export runs from the call of `export`, whatever is made of the request before it can be sent.

use bytes::Bytes;
use otlp_embed::encode::Signal;
use otlp_embed::endpoint::Target;
use otlp_embed::rt::{Resolve, Runtime, Socket, Timer};
use otlp_embed::time::Instant;
use otlp_embed::{Compression, Config, DropReason, Error, Exporter, Protocol, Request};
use std::cell::Cell;
use std::future::{Future, Pending, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A runtime on which nothing ever opens, and whose clock moves on by this much each time that it is read.
#[derive(Clone)]
struct Slow {
    now: Rc<Cell<Instant>>,
    by: Duration,
}

struct Never;

impl Runtime for Slow {
    type Io = Never;
    type Timer = Never;
    type Connecting = Pending<io::Result<Never>>;
    type Resolving = Pending<io::Result<Vec<SocketAddr>>>;

    fn now(&self) -> Instant {
        self.now.set(self.now.get() + self.by);
        self.now.get()
    }

    fn connect(&self, _: &Target) -> Self::Connecting {
        pending()
    }

    fn resolve(&self, _: Resolve) -> Self::Resolving {
        pending()
    }

    fn timer(&self) -> Never {
        Never
    }
}

impl Socket for Never {
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_write(&mut self, _: &mut Context<'_>, _: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

impl Timer for Never {
    fn poll_at(&mut self, _: &mut Context<'_>, _: Instant) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// An exporter whose exports have two seconds, as much as its clock moves on.
fn exporter(compression: Compression) -> Exporter<Slow> {
    let runtime = Slow {
        now: Rc::new(Cell::new(Instant::ZERO)),
        by: Duration::from_secs(2),
    };
    let config = Config::new()
        .with_protocol(Protocol::HttpProtobuf)
        .with_endpoint("http://127.0.0.1:4318")
        .with_compression(compression)
        .with_timeout(Duration::from_secs(2));
    config.build(runtime).expect("it works")
}

fn request() -> Request {
    Request::from_segments(Signal::Traces, 3, vec![Bytes::from_static(b"\n\x00")])
}

#[test]
fn the_time_to_make_a_request_ready_counts() {
    let exporter = exporter(Compression::Gzip);
    let export = pin!(exporter.export(request()));
    let polled = export.poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Err(error)) = polled else {
        panic!("spec 49: {polled:?}")
    };
    assert!(error.is_timeout(), "{error}");
    assert_eq!((error.counts().dropped, error.attempts()), (3, 0));
    assert_eq!(error.drop_reason(), Some(DropReason::Deadline));
    let shown = Error::to_string(&error);
    assert!(shown.contains("making the request ready"), "{shown}");
}

#[test]
fn a_request_that_is_ready_costs_no_time() {
    let exporter = exporter(Compression::None);
    let export = exporter.export(request());
    assert_eq!(exporter.stats().exports_in_flight, 1);
    assert_eq!(exporter.stats().dropped.iter().sum::<u64>(), 0);
    drop(export);
}
