//! The spans of `h2` stay away from an application that listens to its own.

#[path = "support/session_pair.rs"]
mod session_pair;

use otlp_embed::Config;
use otlp_embed::protocol::Connection;
use session_pair::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Counts everything that it hears.
#[derive(Clone)]
struct Listener {
    heard: Arc<AtomicUsize>,
    level: LevelFilter,
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        self.heard.fetch_add(1, Ordering::Relaxed);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &Id) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    fn exit(&self, _: &Id) {}
}

/// What a listener at `level` hears of a connection's whole life.
fn heard(level: LevelFilter, is_isolated: bool) -> usize {
    let heard = Arc::new(AtomicUsize::new(0));
    let listener = Listener {
        heard: Arc::clone(&heard),
        level,
    };
    tracing::subscriber::with_default(listener, || {
        let mut raw = Raw::silent(
            Config::new()
                .with_protocol(otlp_embed::Protocol::Grpc)
                .with_tracing_isolated(is_isolated),
        );
        raw.input(&settings(&[]));
        raw.flush();
        let calls: Vec<u64> = (0..4).map(|_| raw.call(40_000)).collect();
        raw.cancel(calls[1]);
        raw.input(&success(1));
        raw.pass(std::time::Duration::from_secs(60));
        assert!(raw.log.is_ok(calls[0]));
        // A session that is dropped in the middle of a call.
        raw.call(10);
        drop(raw);
        let mut ended = Raw::silent(
            Config::new()
                .with_protocol(otlp_embed::Protocol::Grpc)
                .with_tracing_isolated(is_isolated),
        );
        ended.call(10);
        ended.input(&settings(&[]));
        ended.eof("eof");
        assert!(!ended.session.can_start());
    });
    heard.load(Ordering::Relaxed)
}

#[test]
fn nothing_of_h2_is_heard_unless_asked_for() {
    for level in [LevelFilter::DEBUG, LevelFilter::TRACE] {
        assert_eq!(heard(level, true), 0, "{level}");
        assert!(heard(level, false) > 0, "the listener would hear it: {level}");
    }
}
