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
    (is_wanted && !Context::is_current_telemetry_suppressed()).then(Context::enter_telemetry_suppressed_scope)
}
