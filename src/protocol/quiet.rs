//! Keeps what the libraries under an exporter say of their work from the application's own telemetry.

use tracing::dispatcher::{self, DefaultGuard, Dispatch};
use tracing::level_filters::LevelFilter;

/// While it lives, what is said on this thread is not heard.
pub(crate) struct Quiet {
    /// For the application's subscriber of `tracing`.
    _tracing: Option<DefaultGuard>,
    /// For what goes to the OpenTelemetry SDK by another way, as the records of the crate `log` do.
    #[cfg(feature = "opentelemetry_0_33")]
    _sdk: Option<otel_api_0_33::ContextGuard>,
}

/// Keeps the spans, events and records of `h2`, of TLS and of the runtime's libraries from the application's telemetry while the
/// guard lives. They would be exported in turn, under the very locks that are held here.
///
/// An application whose subscriber does not listen to them pays for a comparison and, with the SDK built in, for a look at its
/// current context; the SDK's own switch is thrown once for guards within guards.
pub(crate) fn quiet(is_wanted: bool) -> Quiet {
    let is_heard = is_wanted && LevelFilter::current() >= LevelFilter::DEBUG;
    Quiet {
        _tracing: is_heard.then(|| dispatcher::set_default(&Dispatch::none())),
        #[cfg(feature = "opentelemetry_0_33")]
        _sdk: suppress(is_wanted),
    }
}

#[cfg(feature = "opentelemetry_0_33")]
fn suppress(is_wanted: bool) -> Option<otel_api_0_33::ContextGuard> {
    use otel_api_0_33::Context;

    if !is_wanted || !thread::may_touch_context() {
        return None;
    }
    let enter =
        || (!Context::is_current_telemetry_suppressed()).then(Context::enter_telemetry_suppressed_scope);
    // Where its current context has ended with its thread, the SDK panics; an exporter that ends later must not.
    let guard = crate::foreign::shield(enter)?;
    thread::note_context();
    guard
}

#[cfg(feature = "opentelemetry_0_33")]
mod thread {
    use core::cell::Cell;

    /// Ends before the SDK's context of the thread, which began before it, where a thread's values end in the order opposite to
    /// that of their beginnings, as on Unix.
    struct Witness;

    impl Drop for Witness {
        fn drop(&mut self) {}
    }

    std::thread_local! {
        static WITNESS: Witness = const { Witness };
        static HAS_WITNESS: Cell<bool> = const { Cell::new(false) };
    }

    /// The SDK's context of this thread has begun.
    pub(super) fn note_context() {
        if !HAS_WITNESS.replace(true) {
            // It begins with the first look at it.
            let _ = WITNESS.try_with(|_| ());
        }
    }

    /// Whether the SDK's context of this thread has not ended, as far as is known.
    pub(super) fn may_touch_context() -> bool {
        !HAS_WITNESS.get() || WITNESS.try_with(|_| ()).is_ok()
    }
}
