//! Exports on an event loop written by hand, in `support/executor.rs`: one thread, a queue of tasks, raw non-blocking
//! sockets and `poll(2)`.
//!
//! ```sh
//! cargo run --example custom_executor [URL]
//! ```
//!
//! All that the exporter asks of the loop is the trait `rt::Runtime`: a clock, a timer, a socket, a connect, a resolve.
//! None of it is `Send`: sockets and timers hold an `Rc` of the loop.

#[path = "support/demo.rs"]
mod demo;
#[path = "support/executor.rs"]
mod executor;

use demo::{BATCHES, Destination, batch, exit_code, say, tell};
use executor::Handle;
use otlp_embed::{Config, Protocol};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::future::poll_fn;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let destination = Destination::from_args()?;
    let event_loop = Handle::new()?;
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(destination.endpoint())
        .with_timeout(Duration::from_secs(5))
        .build(event_loop.clone())?;

    // One task for each batch, and one that moves the exports for all of them.
    event_loop.spawn(exporter.driver());
    let countdown = Rc::new(Countdown::new(BATCHES));
    for number in 0..BATCHES {
        let (exporter, countdown) = (exporter.clone(), countdown.clone());
        event_loop.spawn(async move {
            tell(number, &exporter.export(batch(number)).await);
            countdown.count();
        });
    }

    let report = event_loop.block_on(async move {
        countdown.wait().await;
        exporter.shutdown(Duration::from_secs(5)).await
    });
    say(format_args!("Account: {report}"));
    destination.check(&report.stats)
}

/// Tells one task when the others are done. Like the loop, it never leaves its thread.
struct Countdown {
    left: Cell<u64>,
    waiting: RefCell<Waker>,
}

impl Countdown {
    fn new(tasks: u64) -> Self {
        Self {
            left: Cell::new(tasks),
            waiting: RefCell::new(Waker::noop().clone()),
        }
    }

    fn count(&self) {
        self.left.set(self.left.get() - 1);
        self.waiting.borrow().wake_by_ref();
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            self.waiting.borrow_mut().clone_from(cx.waker());
            if self.left.get() == 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}
