//! Which pipelines this thread is moving at this moment.
//!
//! Code of the user's runs within the poll of a pipeline's future: observers, loggers, wakers. Where such code waits for the
//! pipeline, it waits for its own thread.

use super::shared::Shared;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::marker::PhantomData;
use std::thread_local;

thread_local! {
    /// The innermost last: code within the poll of one may poll another.
    static MOVED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// As long as it lives, its thread is moving a pipeline.
pub(super) struct Inside {
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Inside {
    pub(super) fn enter(pipeline: &Shared) -> Self {
        // Where a thread ends, its last values know nothing any more; nobody is told less than the truth by that.
        let _ = MOVED.try_with(|moved| moved.borrow_mut().push(address(pipeline)));
        Self { _thread: PhantomData }
    }

    /// Whether this thread is moving this pipeline.
    pub(super) fn is(pipeline: &Shared) -> bool {
        let is_inside = MOVED.try_with(|moved| moved.borrow().contains(&address(pipeline)));
        is_inside.unwrap_or(false)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = MOVED.try_with(|moved| moved.borrow_mut().pop());
    }
}

fn address(pipeline: &Shared) -> usize {
    core::ptr::from_ref(pipeline).addr()
}
