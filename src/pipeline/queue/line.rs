//! A line of futures that wait for one thing, oldest first.
//!
//! Only the first of the line may take what it waits for; whoever leaves the first place, having got it or having been
//! dropped, wakes the next. So no turn is lost when a future is dropped after it was woken, and nobody overtakes.
//! Wakers are cloned, woken and dropped outside the lock.

use crate::export::lock;
use crate::foreign::shield;
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::Waker;
use std::sync::Mutex;

/// The place of one future in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

/// Futures that wait for one thing.
#[derive(Default)]
pub(crate) struct Line {
    list: Mutex<List>,
    /// How many wait, so that a wake of nobody takes no lock.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct List {
    next: u64,
    /// By place; the waker is away once it was woken, until the future is polled again.
    waiting: VecDeque<(Place, Option<Waker>)>,
}

impl Line {
    /// Whether nobody waits: a newcomer may then try without standing in line.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }

    /// Stands in line, at the end or where the future stands already, and tells whether it is the first. It comes before
    /// the future looks for what it waits for: what happens after the look then finds its waker.
    pub(crate) fn stand(&self, place: &mut Option<Place>, waker: &Waker) -> bool {
        let waker = waker.clone();
        let (old, is_first) = {
            let mut list = lock(&self.list);
            let at = place.and_then(|place| list.position(place));
            let (at, old) = match at {
                Some(at) => (at, list.waiting[at].1.replace(waker)),
                None => {
                    let new = Place(list.next);
                    list.next += 1;
                    list.waiting.push_back((new, Some(waker)));
                    *place = Some(new);
                    (list.waiting.len() - 1, None)
                }
            };
            self.waiting.store(list.waiting.len(), Ordering::SeqCst);
            (old, at == 0)
        };
        drop(old);
        is_first
    }

    /// Leaves the line; the next is woken if that was the first place.
    pub(crate) fn leave(&self, place: &mut Option<Place>) {
        let Some(left) = place.take() else { return };
        let (old, next) = {
            let mut list = lock(&self.list);
            let Some(at) = list.position(left) else { return };
            let old = list.waiting.remove(at);
            self.waiting.store(list.waiting.len(), Ordering::SeqCst);
            let next = (at == 0).then(|| list.waiting.front_mut()?.1.take()).flatten();
            (old, next)
        };
        next.into_iter().for_each(wake);
        drop(old);
    }

    /// There may be something for the first.
    pub(crate) fn wake_first(&self) {
        if self.is_empty() {
            return;
        }
        let first = lock(&self.list)
            .waiting
            .front_mut()
            .and_then(|(_, waker)| waker.take());
        first.into_iter().for_each(wake);
    }

    /// Everybody has to look again: there will be nothing to wait for any more.
    pub(crate) fn wake_all(&self) {
        if self.is_empty() {
            return;
        }
        let wakers: alloc::vec::Vec<_> = lock(&self.list)
            .waiting
            .iter_mut()
            .filter_map(|(_, waker)| waker.take())
            .collect();
        wakers.into_iter().for_each(wake);
    }
}

impl List {
    fn position(&self, place: Place) -> Option<usize> {
        self.waiting
            .binary_search_by_key(&place, |(place, _)| *place)
            .ok()
    }
}

/// Wakes a foreign waker. Its panic must not keep the others from being woken.
pub(crate) fn wake(waker: Waker) {
    shield(|| waker.wake());
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use alloc::task::Wake;
    use core::sync::atomic::AtomicUsize as Counter;

    struct Count(Counter);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counted() -> (impl Fn() -> usize, Waker) {
        let count = Arc::new(Count(Counter::new(0)));
        let waker = Waker::from(count.clone());
        (move || count.0.load(Ordering::SeqCst), waker)
    }

    #[test]
    fn the_oldest_is_first_and_hands_its_turn_on() {
        let line = Line::default();
        let ((first_woken, first), (second_woken, second)) = (counted(), counted());
        let (mut a, mut b) = (None, None);
        assert!(line.is_empty());
        assert!(line.stand(&mut a, &first));
        assert!(!line.stand(&mut b, &second), "one stands before it");
        line.wake_first();
        assert_eq!((first_woken(), second_woken()), (1, 0));
        line.leave(&mut a);
        assert_eq!((first_woken(), second_woken()), (1, 1), "the turn is passed on");
        assert!(line.stand(&mut b, &second));
        line.leave(&mut b);
        assert!(line.is_empty());
    }

    #[test]
    fn one_that_leaves_from_the_middle_wakes_nobody() {
        let line = Line::default();
        let (woken, waker) = counted();
        let [mut a, mut b, mut c] = [None; 3];
        for place in [&mut a, &mut b, &mut c] {
            line.stand(place, &waker);
        }
        line.leave(&mut b);
        assert_eq!(woken(), 0);
        line.leave(&mut a);
        assert_eq!(woken(), 1);
        assert!(line.stand(&mut c, &waker));
    }

    #[test]
    fn all_are_woken_once_a_poll() {
        let line = Line::default();
        let (woken, waker) = counted();
        let mut places = [None; 5];
        for place in &mut places {
            line.stand(place, &waker);
        }
        line.wake_all();
        line.wake_all();
        assert_eq!(woken(), 5);
    }

    #[test]
    fn a_waker_that_panics_keeps_nobody_from_being_woken() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("a foreign waker's panic");
            }
        }
        let line = Line::default();
        let (woken, waker) = counted();
        let (mut a, mut b) = (None, None);
        line.stand(&mut a, &Waker::from(Arc::new(Panics)));
        line.stand(&mut b, &waker);
        line.wake_all();
        assert_eq!(woken(), 1);
    }
}
