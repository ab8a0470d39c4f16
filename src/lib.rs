//! Exports OpenTelemetry traces, metrics, logs and profiles over OTLP from any Rust program: gRPC, HTTP with protobuf, HTTP
//! with JSON.
//!
//! The whole exporter, from encoded batch to verdict, is a deterministic state machine that does no I/O, reads no
//! clock, spawns nothing and takes its randomness as a seed. Futures, runtimes, sockets and threads are thin shells
//! around it.
//!
//! ```no_run
//! use otlp_embed::{Config, Resource, TraceBatch, rt};
//!
//! # fn main() -> Result<(), otlp_embed::Error> {
//! let mut batch = TraceBatch::new(&Resource::builder().attr("service.name", "shop").build());
//! batch.scope("my-lib", "1.0");
//! batch.span([1; 16], [2; 8], "checkout").attr("items", 3).times(1_000..2_000).end();
//!
//! // Once a process; `rt::Tokio`, `rt::Smol` and `rt::FuturesIo` give futures to await instead of `wait`.
//! let exporter = Config::new().with_endpoint("http://localhost:4318").build(rt::Blocking::new()?)?;
//! let outcome = exporter.export(batch.finish()).wait()?;
//! println!("{} delivered, {} rejected", outcome.delivered(), outcome.rejected());
//! # Ok(())
//! # }
//! ```
//!
//! [`MetricBatch`] and [`LogBatch`] do for metrics and logs what [`TraceBatch`] does for spans; [`Request::from_encoded`] takes
//! what another library encoded, profiles among it.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `grpc` (default) | OTLP over gRPC; brings `std` |
//! | `http` (default) | OTLP over HTTP/1.1 with protobuf; needs no `std` |
//! | `json` | OTLP over HTTP with JSON |
//! | `gzip`, `zstd` | compression of requests and answers |
//! | `tls` | TLS by `rustls`, with a provider of the application's |
//! | `tls-ring`, `tls-aws-lc` | `tls` with a provider |
//! | `tls-webpki-roots`, `tls-native-roots` | `tls` with roots: Mozilla's, or those of the operating system |
//! | `tokio`, `smol`, `futures-io` | an adapter each in `rt`; `tokio` also `pipeline::multi_runtime` |
//! | `opentelemetry_0_33` | `sdk`: processors and exporters for `opentelemetry_sdk` 0.33 |
//! | `log` | what an observer would be told to the crate `log`, where none is set: connections at `info`, the rest at `warn` |
//! | `testing` | a collector to test against, and a simulated network with a virtual clock |
//! | `std` | sockets, names, futures, pipelines, plain threads, environment variables; brought by all but `http` and `json` |
//! | `http2` | internal: the HTTP/2 that `grpc` brings, on which OTLP/HTTP is spoken too where TLS negotiates it |
//!
//! Without any, the crate is `no_std` with `alloc`: messages, encoding, policies and the state machine. With `http` alone
//! that is a whole exporter, to be driven through [`export::Engine`].
//!
//! # Where to begin
//!
//! [`Config`] says where to and how; [`Config::build`] makes an [`Exporter`] on one of the runtimes in [`rt`];
//! [`Exporter::export`] takes a [`Request`] and gives an [`OtlpExportFuture`], which ends in an [`Outcome`] or an [`Error`],
//! each with exact counts. A service whose telemetry nobody is to watch writes to a [`pipeline`] instead, made by
//! [`Exporter::pipeline`]; one with the OpenTelemetry SDK plugs the processors of `sdk` into it. A program without any of
//! these runtimes implements [`rt::Runtime`], or drives [`export::Engine`] by hand.
//!
//! # Layers
//!
//! A layer stands on those above it in this table. What it names of those below are types alone, such as the policies, the observer
//! and the resolver that [`Config`] carries, and the traits of [`rt`] that the shells of [`export`] are made over.
//!
//! | layer | owns |
//! |---|---|
//! | [`time`], [`endpoint`], [`Config`], [`Credentials`], [`Error`], [`Outcome`], [`Stats`] | the words every layer speaks |
//! | [`pb`] | OTLP messages as owned structs |
//! | [`encode`] | telemetry to protobuf in one forward pass; counting, splitting and JSON of what is encoded |
//! | `coding` | compression and decompression |
//! | [`policy`] | retry and backoff, circuit breaker, rate limiter, concurrency, batch size |
//! | [`observe`] | what an exporter tells about itself: events, self-metrics |
//! | [`protocol`] | one connection, sans-IO: proxy, TLS, HTTP/1.1 or HTTP/2, gRPC or OTLP/HTTP |
//! | [`export`] | one export, many exports, and their shells |
//! | [`rt`] | sockets, clocks and timers of a runtime |
//! | [`pipeline`] | queue, batches, delivery, several endpoints, actor, streaming, scheduler |
//! | `sdk` | what plugs into the OpenTelemetry SDK |
//!
//! # Contracts
//!
//! What holds across the layers, and which module tells it in full.
//!
//! - **Time** is a count of nanoseconds that comes with every fact and every `submit`; only [`rt`] and `testing` read a clock
//!   ([`time`]). Randomness is a seed.
//! - **Drive**: one fact in, then every action and every verdict out, then wait for bytes or for `poll_timeout`. What is handed
//!   out to be written is owned and stays valid past a cancellation ([`export`], [`protocol`]).
//! - **States**: an export is in one of five, and one function moves it on, which refuses what is not in its table
//!   ([`ExportState`]; the README has the diagram). An attempt that failed and may be repeated leads back to the first, the
//!   deadline to the last.
//! - **Acceptance**: an export begins, is counted and has its time running at [`Exporter::export`], before its future is polled.
//! - **Two clocks**: an exporter's timeout bounds one export with its retries; a pipeline's
//!   [`max_elapsed`](pipeline::PipelineConfig::with_max_elapsed) how long a batch is exported again ([`pipeline`]).
//! - **Nothing is spawned.** Whoever is polled moves all exports of an exporter, or its [`driver`](Exporter::driver) does. A future
//!   is registered before sockets are looked at, so that no wake is lost. Foreign code (wakers, observers, credentials, drops)
//!   runs outside every lock, and its panic costs one export at most.
//! - **No trait asks for `Send`**: what is `Send` follows from the runtime's types ([`rt`]). Only `sdk`, whose
//!   callers are threads, asks for it.
//! - **Names** are resolved at each connect and never cached, addresses of both families tried by turns, all within the deadline
//!   ([`rt`], [`Config::with_resolver`]).
//! - **Cancel safety**: every future can be dropped at any poll; its items are counted, its stream is reset, everything else goes on
//!   ([`OtlpExportFuture`]).
//! - **The account** is exact at every moment:
//!   `accepted = delivered + rejected + dropped + unknown + queued + in_flight` ([`Stats`], [`ItemCounts`]). Unknown is only what
//!   the socket took whole and nobody answered.
//! - **Memory**: every queue, buffer and table has a limit, and what a peer sends is bounded before it is stored
//!   ([`Config::with_memory_limit`], [`Config::with_response_limit`]). No byte of a peer's makes it panic.
//! - **Requests are frozen before they are shared**; retries, several destinations and compression read the same bytes. Strings
//!   of 1 KiB and more that can be shared are referenced ([`encode`]). The one file with `unsafe` code is `src/encode/pinned.rs`.
//! - **Diagnostics** are typed events, at most one of a kind a minute ([`observe`]). The crate emits no `tracing`, and keeps that of
//!   `h2` from the application's ([`Config::with_tracing_isolated`]).
#![no_std]
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod code;
#[doc(hidden)]
pub mod coding;
mod config;
mod credentials;
pub mod encode;
pub mod endpoint;
mod error;
pub mod export;
#[cfg(feature = "std")]
mod foreign;
pub mod observe;
mod outcome;
pub mod pb;
#[cfg(feature = "std")]
pub mod pipeline;
pub mod policy;
pub mod protocol;
#[cfg(feature = "std")]
pub mod rt;
#[cfg(feature = "opentelemetry_0_33")]
pub mod sdk;
mod stats;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;

pub use code::Code;
#[cfg(feature = "tls")]
pub use config::Tls;
pub use config::{
    Compression, Config, ConfigEntry, ConfigReport, HistogramAggregation, Keepalive, Protocol,
    TemporalityPreference,
};
pub use credentials::{Credentials, CredentialsError};
pub use encode::{
    LogBatch, LogWriter, MetricBatch, Request, Resource, Signal, SpanWriter, Temporality, TraceBatch,
};
pub use error::Error;
#[cfg(feature = "std")]
pub use export::{ExportState, Exporter, OtlpExportFuture};
pub use outcome::{DropReason, ItemCounts, Outcome};
pub use stats::{Report, Stats};
