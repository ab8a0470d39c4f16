//! The public queue: bounds, overflow by signal, waiting in line, closing, and what dropping a waiter leaves behind.

use core::future::Future;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use otlp_embed::pipeline::{ExportQueue, Overflow, Push, QueueConfig};
use otlp_embed::{DropReason, Request, Signal};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::Wake;

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn request(signal: Signal, items: u64, bytes: usize) -> Request {
    Request::from_segments(signal, items, vec![vec![7; bytes].into()])
}

fn spans(items: u64) -> Request {
    request(Signal::Traces, items, 10)
}

fn queue(items: u64, overflow: Overflow) -> ExportQueue {
    let config = QueueConfig::new().with_items_max(items).with_overflow(overflow);
    ExportQueue::new(config).expect("a config that can work")
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn is_pending(push: &mut Push) -> bool {
    poll(push).is_pending()
}

#[test]
fn bounds_without_room_are_refused() {
    let error = ExportQueue::new(QueueConfig::new().with_bytes_max(0)).unwrap_err();
    assert!(error.is_misuse(), "{error}");
}

#[test]
fn the_oldest_of_all_signals_comes_first() {
    let queue = queue(10, Overflow::Block);
    for (signal, items) in [(Signal::Logs, 1), (Signal::Traces, 2), (Signal::Logs, 3)] {
        queue.try_push(request(signal, items, 1)).expect("room");
    }
    let popped: Vec<_> = std::iter::from_fn(|| queue.try_pop())
        .map(|r| r.items())
        .collect();
    assert_eq!(popped, [1, 2, 3]);
}

#[test]
fn a_full_queue_gives_the_request_back_under_block() {
    let queue = queue(3, Overflow::Block);
    queue.try_push(spans(3)).expect("room");
    let error = queue.try_push(spans(1)).unwrap_err();
    assert!(error.is_full() && !error.is_closed());
    assert_eq!(error.into_request().expect("handed back").items(), 1);
    assert_eq!(queue.stats().dropped_total(), 0);
    assert_eq!(
        (queue.stats().items_buffered, queue.stats().bytes_buffered),
        (3, 10)
    );
}

#[test]
fn bytes_are_a_bound_of_their_own() {
    let config = QueueConfig::new()
        .with_bytes_max(100)
        .with_overflow(Overflow::Block);
    let queue = ExportQueue::new(config).expect("a config that can work");
    queue.try_push(request(Signal::Traces, 1, 60)).expect("room");
    assert!(
        queue
            .try_push(request(Signal::Traces, 1, 41))
            .unwrap_err()
            .is_full()
    );
    queue
        .try_push(request(Signal::Traces, 1, 40))
        .expect("exactly full");
    // It would wait for ever.
    let error = queue.try_push(request(Signal::Traces, 1, 101)).unwrap_err();
    assert!(error.is_too_large());
    assert_eq!(queue.stats().dropped_for(DropReason::TooLarge), 1);
}

#[test]
fn the_newest_is_dropped_and_counted() {
    let queue = queue(3, Overflow::DropNewest);
    queue.try_push(spans(2)).expect("room");
    let error = queue.try_push(spans(2)).unwrap_err();
    assert!(error.is_full() && error.into_request().is_none());
    let Poll::Ready(Err(error)) = poll(&mut queue.push(spans(5))) else {
        panic!("a producer never waits under DropNewest");
    };
    assert!(error.is_too_large());
    let stats = queue.stats();
    assert_eq!(stats.dropped_for(DropReason::QueueFull), 2);
    assert_eq!(stats.items_buffered, 2);
}

#[test]
fn the_oldest_of_the_same_signal_makes_room() {
    let queue = queue(6, Overflow::DropOldest);
    queue.try_push(request(Signal::Logs, 2, 1)).expect("room");
    queue.try_push(spans(1)).expect("room");
    queue.try_push(spans(3)).expect("room");
    queue
        .try_push(spans(2))
        .expect("one of two is evicted, then the other");
    let stats = queue.stats();
    assert_eq!(stats.dropped_for(DropReason::Evicted), 4);
    assert_eq!((stats.items_buffered, stats.requests_buffered), (4, 2));
    // Even all spans would not make room for it: nothing is evicted.
    assert!(queue.try_push(spans(5)).unwrap_err().is_full());
    let stats = queue.stats();
    assert_eq!(stats.dropped_for(DropReason::Evicted), 4);
    assert_eq!(stats.dropped_for(DropReason::QueueFull), 5);
    assert_eq!(queue.try_pop().expect("logs stayed").signal(), Signal::Logs);
}

#[test]
fn room_that_an_eviction_leaves_is_told_to_who_waits() {
    let config = QueueConfig::new()
        .with_items_max(10)
        .with_overflow(Overflow::Block)
        .for_signal(Signal::Logs, |logs| logs.with_overflow(Overflow::DropOldest));
    let queue = ExportQueue::new(config).expect("there is room");
    queue.try_push(request(Signal::Logs, 8, 8)).expect("room");
    queue.try_push(spans(2)).expect("room");
    let woken = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(woken.clone());
    let mut waiting = queue.push(spans(3));
    let cx = &mut Context::from_waker(&waker);
    assert!(Pin::new(&mut waiting).poll(cx).is_pending());
    queue
        .try_push(request(Signal::Logs, 1, 1))
        .expect("it evicts eight");
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert!(Pin::new(&mut waiting).poll(cx).is_ready());
}

#[test]
fn producers_that_wait_are_served_in_their_order() {
    let queue = queue(2, Overflow::Block);
    queue.try_push(spans(2)).expect("room");
    let mut large = queue.push(spans(2));
    let mut small = queue.push(spans(1));
    assert!(is_pending(&mut large) && is_pending(&mut small));
    assert_eq!(queue.try_pop().expect("queued").items(), 2);
    // There is room for the second, but the first was there before; and a newcomer overtakes neither.
    assert!(is_pending(&mut small));
    assert!(queue.try_push(spans(1)).unwrap_err().is_full());
    assert!(matches!(poll(&mut large), Poll::Ready(Ok(()))));
    assert!(is_pending(&mut small));
    queue.try_pop();
    assert!(matches!(poll(&mut small), Poll::Ready(Ok(()))));
}

#[test]
fn a_waiter_dropped_in_its_turn_hands_it_on() {
    let queue = queue(1, Overflow::Block);
    queue.try_push(spans(1)).expect("room");
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(count.clone());
    let mut first = queue.push(spans(1));
    let mut second = queue.push(spans(1));
    assert!(is_pending(&mut first));
    assert!(
        Pin::new(&mut second)
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    queue.try_pop();
    assert_eq!(count.0.load(Ordering::SeqCst), 0, "it is the first's turn");
    drop(first);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(matches!(poll(&mut second), Poll::Ready(Ok(()))));
}

#[test]
fn a_consumer_dropped_in_its_turn_hands_it_on() {
    let queue = queue(5, Overflow::Block);
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(count.clone());
    let (mut first, mut second) = (queue.pop(), queue.pop());
    assert!(poll(&mut first).is_pending());
    assert!(
        Pin::new(&mut second)
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    queue.try_push(spans(1)).expect("room");
    drop(first);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(matches!(poll(&mut second), Poll::Ready(Some(_))));
}

#[test]
fn closing_wakes_everybody_and_keeps_what_is_queued() {
    let queue = queue(1, Overflow::Block);
    queue.try_push(spans(1)).expect("room");
    let mut waiting = queue.push(spans(1));
    let mut behind = queue.push(spans(1));
    assert!(is_pending(&mut waiting) && is_pending(&mut behind));
    queue.close();
    for push in [&mut behind, &mut waiting] {
        let Poll::Ready(Err(error)) = poll(push) else {
            panic!("a producer waits on a closed queue");
        };
        assert!(error.is_closed() && error.into_request().is_some());
    }
    assert!(queue.try_push(spans(1)).unwrap_err().is_closed());
    assert!(matches!(poll(&mut queue.pop()), Poll::Ready(Some(_))));
    assert!(matches!(poll(&mut queue.pop()), Poll::Ready(None)));
}

#[test]
fn a_thread_waits_no_longer_than_it_may_and_gets_its_request_back() {
    let queue = queue(1, Overflow::Block);
    queue.push_blocking(spans(1), Duration::ZERO).expect("room");
    let error = queue
        .push_blocking(spans(1), Duration::from_millis(1))
        .unwrap_err();
    assert!(error.is_timeout() && error.is_full());
    assert!(error.into_request().is_some());
    queue.try_pop();
    // The thread that gave up does not stand in the way.
    queue.push_blocking(spans(1), Duration::ZERO).expect("room");
    assert!(queue.pop_blocking(Duration::ZERO).is_some());
    assert!(queue.pop_blocking(Duration::from_millis(1)).is_none());
}

#[test]
fn empty_requests_are_forgotten() {
    let queue = queue(1, Overflow::Block);
    for _ in 0..3 {
        queue.try_push(spans(0)).expect("never sent");
        assert!(matches!(poll(&mut queue.push(spans(0))), Poll::Ready(Ok(()))));
    }
    assert_eq!(queue.stats().requests_buffered, 0);
}

#[test]
fn threads_and_tasks_pass_everything_through_a_narrow_queue() {
    const EACH: u64 = 2_000;
    let queue = queue(3, Overflow::Block);
    let start = Arc::new(Barrier::new(4));
    let producers: Vec<_> = (0..3)
        .map(|number| {
            let (queue, start) = (queue.clone(), start.clone());
            std::thread::spawn(move || {
                start.wait();
                for _ in 0..EACH {
                    if number == 0 {
                        queue
                            .push_blocking(spans(1), Duration::from_secs(60))
                            .expect("a consumer lives");
                    } else {
                        futures_executor::block_on(queue.push(spans(1))).expect("a consumer lives");
                    }
                }
            })
        })
        .collect();
    let consumers: Vec<_> = (0..2)
        .map(|number| {
            let queue = queue.clone();
            std::thread::spawn(move || {
                let mut items = 0;
                while let Some(request) = match number {
                    0 => queue.pop_blocking(Duration::from_secs(60)),
                    _ => futures_executor::block_on(queue.pop()),
                } {
                    assert!(queue.stats().items_buffered <= 3);
                    items += request.items();
                }
                items
            })
        })
        .collect();
    start.wait();
    for producer in producers {
        producer.join().expect("no panic");
    }
    queue.close();
    let items: u64 = consumers.into_iter().map(|c| c.join().expect("no panic")).sum();
    assert_eq!(items, 3 * EACH);
    assert_eq!(queue.stats().popped, 3 * EACH);
}

#[test]
fn waiting_and_dropping_at_random_strands_nobody() {
    for seed in 0..300 {
        let mut random = fastrand_like(seed);
        let queue = queue(2, Overflow::Block);
        let mut waiting: Vec<Pin<Box<Push>>> = Vec::new();
        let (mut pushed, mut popped) = (0, 0);
        for _ in 0..60 {
            match random() % 4 {
                0 => waiting.push(Box::pin(queue.push(spans(1 + random() % 2)))),
                1 if !waiting.is_empty() => {
                    let at = random() as usize % waiting.len();
                    drop(waiting.remove(at));
                }
                2 => popped += queue.try_pop().map_or(0, |r| r.items()),
                _ => {}
            }
            let mut at = 0;
            while at < waiting.len() {
                let mut push = pin!(&mut waiting[at]);
                match push.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(result) => {
                        result.expect("never closed");
                        drop(waiting.remove(at));
                    }
                    Poll::Pending => at += 1,
                }
            }
            let stats = queue.stats();
            pushed = pushed.max(stats.popped + stats.items_buffered);
            assert!(stats.items_buffered <= 2);
            assert_eq!(stats.popped, popped);
        }
        // Whoever still waits gets through, in turn.
        while !waiting.is_empty() {
            queue.try_pop();
            let before = waiting.len();
            waiting.retain_mut(|push| {
                push.as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                    .is_pending()
            });
            assert!(
                waiting.len() < before || queue.stats().items_buffered > 0,
                "seed {seed}"
            );
        }
    }
}

/// A generator good enough to mix operations.
fn fastrand_like(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 8
    }
}
