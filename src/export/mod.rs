//! Exports: one as a machine, many as an [`Engine`], and the shells that drive them.
//!
//! Owns the states of an export, its retries, the connections it needs and the account of its items. Never names a
//! runtime. The engine is fed by a shell with facts and answers with actions.
//!
//! # How an engine is driven
//!
//! One [`Fact`] in, then drain [`Engine::poll_action`] and [`Engine::poll_outcome`] until both return `None`, then wait
//! for bytes, for the socket to take bytes, or for [`Engine::poll_timeout`] to pass. Every call carries the time, which
//! never runs backwards.

#[cfg(feature = "std")]
mod channel;
mod drive;
mod engine;
#[cfg(feature = "std")]
mod exporter;
#[cfg(feature = "std")]
mod future;
#[cfg(feature = "std")]
mod link;
mod machine;
#[cfg(feature = "std")]
mod sync;
#[cfg(feature = "std")]
mod waiters;

pub use drive::{Action, ConnId, ExportId, Fact};
pub use engine::Engine;
#[cfg(feature = "std")]
pub use exporter::Exporter;
#[cfg(feature = "std")]
pub use future::{Driver, OtlpExportFuture, Shutdown};
pub use machine::ExportState;
#[cfg(feature = "std")]
pub(crate) use sync::lock;
