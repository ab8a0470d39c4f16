//! Whoever is told.

use super::Event;
use alloc::sync::Arc;
use core::fmt;

/// What [`Config::with_observer`](crate::Config::with_observer) was given, or the crate `log` in its stead. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Observer {
    shared: Option<Arc<Observe>>,
}

type Observe = dyn Fn(Event<'_>) + Send + Sync;

impl Observer {
    pub(crate) fn new(observe: impl Fn(Event<'_>) + Send + Sync + 'static) -> Self {
        Self {
            shared: Some(Arc::new(observe)),
        }
    }

    /// Whether an observer was set.
    pub(crate) fn is_set(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether anybody would hear of an event: without, none is to be made.
    #[cfg(feature = "std")]
    pub(crate) fn is_listening(&self) -> bool {
        #[cfg(feature = "log")]
        let is_logged = log::max_level() >= log::LevelFilter::Warn;
        #[cfg(not(feature = "log"))]
        let is_logged = false;
        self.is_set() || is_logged
    }

    /// Tells of an event. What is called is foreign: no lock is to be held. A panic in it ends with this call.
    #[cfg(feature = "std")]
    pub(crate) fn tell(&self, event: Event<'_>) {
        crate::foreign::shield(|| match &self.shared {
            Some(observe) => observe(event),
            None => write_log(&event),
        });
    }
}

/// Shows nothing of what is called.
impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

/// Writes an event to the crate `log`, where no observer was set.
#[cfg(feature = "log")]
fn write_log(event: &Event<'_>) {
    use super::Level;
    let level = match event.level() {
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
    };
    log::log!(target: "otlp_embed", level, "{event}");
}

#[cfg(all(feature = "std", not(feature = "log")))]
fn write_log(_: &Event<'_>) {}
