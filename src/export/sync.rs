//! The primitives under the waiter list, in one place so that a model checker can put its own in their stead.

use alloc::boxed::Box;
use core::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering},
};

/// Calls foreign code: none where it panics. What it panics with is foreign as well, and goes no further either.
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

/// Locks, whether or not a panic poisoned the mutex: every critical section leaves its data whole at each step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
