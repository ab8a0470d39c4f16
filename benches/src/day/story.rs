//! What happens to the collector.

use super::ledger::Ledger;
use super::settings::Settings;
use super::watch::{Diary, Watch};
use otlp_embed::testing::collector::{Accepting, ReceivedRequest};
use otlp_embed::testing::{Answer, Collector};
use std::io;
use std::time::Duration;

/// How long a pipeline may take to work off what an event left behind: the 30 s for which a circuit breaker is open, which may
/// have begun with the event's last moment, and as much again for the work.
const RECOVERY: Duration = Duration::from_secs(60);
/// What waits for less than this is no backlog.
const FRESH: Duration = Duration::from_secs(1);

/// Tells the story, event by event.
pub struct Story<'a> {
    /// Who it happens to.
    pub collector: &'a Collector,
    /// Where what is taken is noted.
    pub ledger: &'a Ledger,
    /// What is watched meanwhile.
    pub watch: &'a Watch,
    /// Where it is told.
    pub diary: &'a Diary,
    /// How long it takes.
    pub settings: Settings,
}

impl Story<'_> {
    /// Lets the day begin: from now on the collector notes what it takes, and what is started by `start` may write.
    pub fn begin<T>(&self, start: impl FnOnce() -> T) -> T {
        self.event("the collector starts, and takes its time");
        self.slow_start();
        start()
    }

    /// The day from there on. Returns how many connections were reset.
    ///
    /// # Errors
    ///
    /// The collector did not get its port back.
    pub fn tell(&self) -> io::Result<u64> {
        self.wait(9.0);
        self.recover("slow start", || self.well());

        self.event("the collector asks two of three to come back later");
        let pause = self.settings.of_minute(1.5);
        self.answer(move |request| match request.index % 3 {
            0 => Answer::Ok,
            _ => Answer::throttled(pause),
        });
        self.wait(7.0);
        self.recover("throttling", || self.well());

        self.event("the collector is gone");
        self.collector.set_accepting(Accepting::Refuse)?;
        self.collector.kill_connections();
        self.wait(30.0);
        let mut is_back = Ok(());
        self.recover("outage", || {
            is_back = self.collector.set_accepting(Accepting::Serve)
        });
        is_back?;

        self.event("half of the connections are reset, again and again");
        let mut reset = 0;
        for _ in 0..12 {
            self.wait(0.5);
            let before = self.collector.open_connections();
            self.collector.kill_share(0.5);
            // Others may have come or gone meanwhile.
            reset += before.saturating_sub(self.collector.open_connections()) as u64;
        }
        self.recover("resets", || ());
        self.wait(3.0);
        self.event("the day is over");
        Ok(reset)
    }

    /// Answers come sooner and sooner.
    fn slow_start(&self) {
        let diary = self.diary.clone();
        let (slowest, begun) = (self.settings.of_minute(3.0), diary.time());
        self.answer(move |_| Answer::Ok.after(slowest.saturating_sub((diary.time() - begun) / 3)));
    }

    fn well(&self) {
        self.answer(|_| Answer::Ok);
    }

    /// Answers like this from now on, and notes what is taken.
    fn answer(&self, choose: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static) {
        let ledger = self.ledger.clone();
        self.collector.answer_with(move |request| {
            let answer = choose(request);
            if answer.is_success_over(request.protocol) {
                ledger.note(request);
            }
            answer
        });
    }

    /// Ends an event, and waits until the pipeline has recovered by itself: what waits is fresh, and items are delivered.
    fn recover(&self, event: &str, end: impl FnOnce()) {
        let note = |line: String| self.diary.note(line);
        note(format!("-- it is over with the {event}"));
        note(self.watch.line());
        let delivered = || self.watch.look().total.delivered;
        end();
        let (begun, before) = (self.diary.time(), delivered());
        let mut first = None;
        loop {
            let total = self.watch.look().total;
            let took = self.diary.time() - begun;
            if total.delivered > before {
                first.get_or_insert(took);
            }
            let is_fresh = total.oldest_queued_age.is_none_or(|age| age < FRESH);
            if let (Some(first), true) = (first, is_fresh) {
                note(format!(
                    "   recovered from the {event}: items were delivered after {:.1} s, and what had waited was after {:.1} s",
                    first.as_secs_f64(),
                    took.as_secs_f64()
                ));
                return;
            }
            if took > RECOVERY {
                let stats = self.watch.look();
                self.watch.expect(false, || {
                    format!("it does not recover from the {event}: {stats:?}")
                });
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn event(&self, what: &str) {
        self.diary.note(format_args!("-- {what}"));
        self.diary.note(self.watch.line());
    }

    fn wait(&self, seconds: f64) {
        std::thread::sleep(self.settings.of_minute(seconds));
    }
}
