//! What an exporter tells about itself: typed events for whoever runs it, and counts for its metrics.
//!
//! Owns the words of both, the queue of events with its limit of one a minute, and the account behind the self-metrics.
//! Never calls an observer under a lock, and never reads a clock: the engine and the pipeline feed it, the shells call the
//! observer.
//!
//! ```
//! use otlp_embed::Config;
//! use otlp_embed::observe::Transition;
//!
//! let config = Config::new().with_observer(|event| {
//!     if let Transition::Recovered { lost, .. } = &event.transition {
//!         println!("{} items were lost", lost.total());
//!     }
//!     // In an operator's words: what, where, since when, how much was lost, what to do.
//!     println!("{event}");
//! });
//! # _ = config;
//! ```

mod event;
mod events;
mod meter;
mod observer;
mod self_metrics;

pub use event::{Budget, Event, EventKind, Level, Losses, Transition};
pub(crate) use events::Events;
pub use meter::ErrorType;
pub(crate) use meter::{End, Meter, Response};
pub(crate) use observer::Observer;
pub(crate) use self_metrics::Origin;
pub use self_metrics::SelfMetrics;
