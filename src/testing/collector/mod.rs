//! An OTLP collector within the process of a test.
//!
//! [`Collector`] listens on a loopback port or a Unix domain socket, keeps everything it receives and answers as it is
//! told: with success, with a failure, late, never, or with a connection that breaks. It needs no runtime: one thread of
//! its own serves every connection, so it can be used under any executor and under none.
//!
//! One listener takes everything that OTLP knows: gRPC on HTTP/2, OTLP/HTTP on HTTP/1.1 and HTTP/2 with protobuf or JSON,
//! compressed with gzip or zstd where those features are on, and all of it under TLS where
//! `Builder::with_tls` says so. The client's first bytes, or ALPN, tell the version of HTTP; the content type tells the
//! rest.
//!
//! ```
//! use otlp_embed::testing::{Answer, Collector};
//!
//! let collector = Collector::start()?;
//! // The first call is turned away, those after it succeed.
//! collector.answer_next(Answer::unavailable());
//! assert!(collector.endpoint().starts_with("http://127.0.0.1:"));
//! assert!(collector.spans().is_empty());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What is recorded
//!
//! A request counts as *received* once it has arrived whole, whatever the answer is going to be, and it is recorded
//! before the first byte of its answer can leave: when an export has ended, its items are there. A request that is sent
//! twice is recorded twice, so that duplicates show. It counts as *accepted* when the answer is a success.
//!
//! [`Collector::spans`], [`metrics`](Collector::metrics) and [`logs`](Collector::logs) give items; of profiles there are
//! the count and the bytes, which [`ReceivedRequest`] has for every signal, next to all header fields.
//! [`Collector::connections`] tells what was spoken on each connection, and how often it was used.
//!
//! # What it turns away
//!
//! Over gRPC an unknown method is `UNIMPLEMENTED`, a malformed message `INVALID_ARGUMENT`, a malformed call `INTERNAL`, an
//! oversize one `RESOURCE_EXHAUSTED`. Over OTLP/HTTP a wrong path is 404, a wrong method 405, a wrong content type or an
//! unknown compression 415, a missing length 411, a malformed body 400 and an oversize one 413, the last two with a
//! `google.rpc.Status` in the format of the request. None of these is recorded, all are in
//! [`Counters::calls_invalid`].
//!
//! # Limits
//!
//! A message may have [`Builder::message_bytes_max`] bytes; all messages that arrive on one connection at one time may
//! have four times as many. The head of an HTTP/1.1 request may have 256 KiB. Records grow until [`Collector::clear`],
//! unless [`Builder::keep_requests`] says that only the [`Counters`] are of interest.
//!
//! It is no proxy (no `CONNECT`) and no upgrade from HTTP/1.1 to HTTP/2, does not speak gRPC-Web, takes one call at a time
//! on HTTP/1.1, does not check credentials (the header fields are there to assert on), and does not judge what a message
//! says beyond that it can be read.
//!
//! # Inside
//!
//! One [`ServerSession`] per connection is fed bytes and the time and hands out bytes; the thread moves them to and from
//! sockets. Tests without sockets drive the same session.

mod answer;
mod builder;
mod call;
mod coding;
mod connections;
mod content;
mod grpc;
mod handle;
mod inbox;
mod received;
mod reply;
mod server;
mod session;

pub use answer::{Answer, RawAnswer};
pub use builder::Builder;
pub use call::HttpVersion;
pub use connections::{ReceivedConnection, ReceivedTls};
pub use handle::{Accepting, Collector};
pub use inbox::{Counters, Inbox, SignalCounters, TimedOut};
pub use received::{
    ReceivedEvent, ReceivedLink, ReceivedLog, ReceivedMetric, ReceivedRequest, ReceivedResource,
    ReceivedScope, ReceivedSpan, Value,
};
pub use session::{Fate, ServerSession};
