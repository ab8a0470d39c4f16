//! An OTLP/gRPC collector within the process of a test.
//!
//! [`Collector`] listens on a loopback port, keeps every span it receives and answers as it is told: with success, with
//! a failure, late, never, or with a connection that breaks. It needs no runtime: one thread of its own serves every
//! connection, so it can be used under any executor and under none.
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
//! before the first byte of its answer can leave: when an export has ended, its spans are there. A request that is sent
//! twice is recorded twice, so that duplicates show. It counts as *accepted* when the answer is a success.
//!
//! # Limits
//!
//! A message may have [`Builder::message_bytes_max`] bytes; all messages that arrive on one connection at one time may
//! have four times as many. Records grow until [`Collector::clear`], unless [`Builder::keep_requests`] says that only
//! the [`Counters`] are of interest.
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
    ReceivedEvent, ReceivedLink, ReceivedRequest, ReceivedResource, ReceivedScope, ReceivedSpan, Value,
};
pub use session::{Fate, ServerSession};
