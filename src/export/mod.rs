//! Exports: one as a machine, many as an [`Engine`], and the shells that drive them.
//!
//! Owns the states of an export, its retries, the connections it needs and the account of its items. Never names a
//! runtime. The engine is fed by a shell with facts and answers with actions.
//!
//! # How an engine is driven
//!
//! One [`Fact`] in, then drain [`Engine::poll_action`] and [`Engine::poll_outcome`] until both return `None`, then wait
//! for bytes, for the socket to take bytes, or for [`Engine::poll_timeout`] to pass. Every call carries the time, which
//! never runs backwards. Where credentials are configured, [`Action::Authorize`] carries what to
//! [ask](Authorization::ask), with no lock held. What the exporter tells about itself comes out of
//! [`Engine::poll_event`], once the configuration has an observer or [`Engine::observe`] was called.
//!
//! ```
//! use otlp_embed::export::{Action, Engine, Fact};
//! use otlp_embed::{Config, Request};
//! # use otlp_embed::testing::{Command, Scripted};
//! # use otlp_embed::time::Instant;
//! # fn socket_took(bytes: &[bytes::Bytes]) -> usize { bytes.iter().map(|piece| piece.len()).sum() }
//! # let signal = otlp_embed::encode::Signal::Traces;
//! # let request = Request::from_segments(signal, 3, vec![bytes::Bytes::from_static(b"...")]);
//! # let answer = Command::ok(0).encode();
//! # let now = Instant::from_millis(1);
//! # let engine: Engine<Scripted> = Engine::new(Config::new().with_endpoint("http://127.0.0.1:4317"), 7)?;
//! # let mut engine = engine;
//! let id = engine.submit(now, request);
//! let mut connection = None;
//! while let Some(action) = engine.poll_action() {
//!     match action {
//!         // Open a socket to the target; this one opens at once.
//!         Action::Connect(conn, _target) => {
//!             connection = Some(conn);
//!             engine.handle(now, Fact::Connected(conn));
//!         }
//!         // Write the bytes, and tell how many the socket took.
//!         Action::Transmit(conn, bytes) => engine.handle(now, Fact::Sent(conn, socket_took(&bytes))),
//!         // Resolve a name, close a socket.
//!         _ => {}
//!     }
//! }
//! // The socket delivers the collector's answer.
//! engine.handle(now, Fact::Input(connection.expect("a connection"), &answer));
//! let (settled, outcome) = engine.poll_outcome().expect("a verdict");
//! assert_eq!(settled, id);
//! assert_eq!(outcome?.delivered(), 3);
//! # Ok::<(), otlp_embed::Error>(())
//! ```

#[cfg(feature = "std")]
mod channel;
#[cfg(feature = "std")]
mod companion;
mod drive;
mod engine;
#[cfg(feature = "std")]
mod exporter;
#[cfg(feature = "std")]
mod few;
#[cfg(feature = "std")]
mod flight;
#[cfg(feature = "std")]
mod future;
#[cfg(feature = "std")]
mod link;
mod machine;
mod managed;
#[cfg(feature = "std")]
mod origin;
mod prepare;
#[cfg(feature = "std")]
mod sync;
#[cfg(feature = "std")]
mod waiters;

pub use crate::credentials::{Authorization, CredentialHeaders, CredentialSource};
#[cfg(feature = "std")]
pub(crate) use companion::Companion;
pub use drive::{Action, ConnId, ExportId, Fact};
pub use engine::Engine;
#[cfg(feature = "std")]
pub use exporter::Exporter;
#[cfg(feature = "std")]
pub(crate) use few::{FEW, Few};
#[cfg(feature = "std")]
#[doc(hidden)]
pub use flight::Flight;
#[cfg(feature = "std")]
pub use future::{Driver, OtlpExportFuture, Shutdown};
pub use machine::ExportState;
#[doc(hidden)]
pub use managed::{Managed, Remainder};
#[cfg(feature = "std")]
pub(crate) use origin::Origin;
#[cfg(feature = "std")]
pub(crate) use sync::lock;
#[cfg(feature = "std")]
pub(crate) use {channel::Offer, prepare::Prepared};
