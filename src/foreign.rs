//! Calls of code that is not this crate's: observers, credentials, wakers, futures, runtimes.
//!
//! Its panic ends with the call, or becomes the error of what it was called for. What it panics with is its code as well.

use alloc::boxed::Box;
use core::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls foreign code: none where it panics. What it panics with goes no further either.
pub(crate) fn shield<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(dispose).ok()
}

/// Drops what foreign code has panicked with.
pub(crate) fn dispose(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // It would go on for ever.
        core::mem::forget(second);
    }
}

#[cfg(all(test, not(otlp_embed_loom)))]
mod tests {
    use super::*;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            std::panic::panic_any(PanicsWhenDropped);
        }
    }

    #[test]
    fn a_panic_ends_with_the_call_whatever_it_carries() {
        assert_eq!(shield(|| 7), Some(7));
        assert_eq!(shield(|| -> u8 { panic!("in foreign code") }), None);
        assert_eq!(
            shield(|| -> u8 { std::panic::panic_any(PanicsWhenDropped) }),
            None
        );
    }
}
