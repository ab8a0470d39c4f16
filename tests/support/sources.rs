//! Sources of telemetry that a test looks into, and wakers that count.

use futures_util::Stream;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// A queue of which one end is a stream. Clones are the same queue.
pub struct Source<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    items: VecDeque<T>,
    is_closed: bool,
    waker: Option<Waker>,
    polls: usize,
    taken: usize,
    is_dropped: bool,
}

impl<T> Clone for Source<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The stream of a [`Source`].
pub struct Tap<T>(Source<T>);

impl<T> Source<T> {
    /// A queue with these in it, open for more.
    pub fn of(items: impl IntoIterator<Item = T>) -> Self {
        Self(Arc::new(Mutex::new(State {
            items: items.into_iter().collect(),
            is_closed: false,
            waker: None,
            polls: 0,
            taken: 0,
            is_dropped: false,
        })))
    }

    pub fn stream(&self) -> Tap<T> {
        Tap(self.clone())
    }

    pub fn push(&self, item: T) {
        self.change(|state| state.items.push_back(item));
    }

    pub fn close(&self) {
        self.change(|state| state.is_closed = true);
    }

    /// How often the stream was polled.
    pub fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }

    /// How many items the stream gave.
    pub fn taken(&self) -> usize {
        self.0.lock().unwrap().taken
    }

    /// Whether the stream is gone.
    pub fn is_dropped(&self) -> bool {
        self.0.lock().unwrap().is_dropped
    }

    fn change(&self, change: impl FnOnce(&mut State<T>)) {
        let waker = {
            let mut state = self.0.lock().unwrap();
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Stream for Tap<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.0.lock().unwrap();
        state.polls += 1;
        if let Some(item) = state.items.pop_front() {
            state.taken += 1;
            return Poll::Ready(Some(item));
        }
        if state.is_closed {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Tap<T> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().is_dropped = true;
    }
}

/// Counts how often it was woken.
#[derive(Default)]
pub struct Bell(AtomicUsize);

impl Bell {
    pub fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self::default());
        (bell.clone(), Waker::from(bell))
    }

    pub fn rung(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
