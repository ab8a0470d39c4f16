//! The handle that users export with.

use super::channel::Channel;
use super::companion::Companions;
use super::future::{Driver, OtlpExportFuture, Shutdown};
use crate::config::{Config, ConfigReport};
use crate::encode::{Request, Signal};
use crate::error::Error;
use crate::observe::{EventKind, SelfMetrics, Transition};
use crate::outcome::DropReason;
use crate::rt::Runtime;
use crate::stats::Stats;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use core::time::Duration;

/// Exporters that were built in this process, which tells their self-metrics apart.
static INSTANCES: AtomicU32 = AtomicU32::new(0);

impl Config {
    /// Builds an exporter on a runtime. Nothing is connected before the first export.
    ///
    /// # Errors
    ///
    /// A misuse error that names the setting that cannot work, its value and what would, or the feature that is missing
    /// in a build without any protocol.
    pub fn build<R: Runtime>(self, runtime: R) -> Result<Exporter<R>, Error> {
        if cfg!(not(any(feature = "grpc", feature = "http"))) {
            return Err(Error::config(
                "this build of otlp-embed speaks no protocol; enable its feature `grpc` or `http`",
            ));
        }
        let report = Arc::new(self.report());
        let begun_unix = runtime.unix_time();
        let channel = Arc::new(Channel::new(self, runtime)?);
        channel.tell_config(&report);
        Ok(Exporter {
            report,
            channel,
            begun_unix,
            instance: INSTANCES.fetch_add(1, Ordering::Relaxed),
            exporters: Arc::new(AtomicUsize::new(1)),
            companions: Arc::default(),
        })
    }
}

/// Exports requests to one collector. Clones share its connections, its memory limit and its account.
///
/// It belongs to the process that built it. In a child of `fork(2)` its exports, also those that were under way, end in an
/// error at once that says so, and its sockets are not touched: what the parent exports is sent once, by the parent. A child
/// builds an exporter of its own, with a runtime of its own.
///
/// ```no_run
/// use otlp_embed::{Config, Error, Request, rt};
/// use std::time::Duration;
///
/// # async fn run(first: Request, second: Request) -> Result<(), Error> {
/// let exporter = Config::new().build(rt::Tokio::current()?)?;
/// // Optional: a task that moves every export and looks after the connection between them.
/// tokio::spawn(exporter.driver());
///
/// let (a, b) = tokio::join!(exporter.export(first), exporter.export(second));
/// println!("{}, {}", a?, b?);
/// println!("{}", exporter.shutdown(Duration::from_secs(5)).await);
/// # Ok(())
/// # }
/// ```
pub struct Exporter<R: Runtime> {
    channel: Arc<Channel<R>>,
    report: Arc<ConfigReport>,
    instance: u32,
    /// When it was built, since the Unix epoch.
    begun_unix: Duration,
    /// Clones alive: the driver ends with the last.
    exporters: Arc<AtomicUsize>,
    companions: Arc<Companions>,
}

impl<R: Runtime> Exporter<R> {
    /// Accepts a request for export: its items are accounted for and its deadline runs from here. The future has to be
    /// polled for the export to make progress.
    ///
    /// What the route asks to be made of the request (parts within the request limit, JSON, compression) is made here, on
    /// the calling thread and outside every lock. Parts share the outcome: their counts are summed, their messages joined,
    /// and an error is that of the first part that failed.
    ///
    /// Any number of exports run at a time; they share connections and are queued where the collector limits them.
    ///
    /// # Errors
    ///
    /// The future's: an [`Error`] that tells where every item ended up. At once it is a retryable one where the memory limit has no
    /// room beside the other exports, a misuse error where the request is larger than the limit, and a shutdown error after
    /// [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// That of [`OtlpExportFuture`].
    pub fn export(&self, request: Request) -> OtlpExportFuture<R> {
        let items = request.items();
        let accepted = self.channel.submit(request);
        OtlpExportFuture::new(self.channel.clone(), accepted, items)
    }

    /// Optional upkeep, to be run anywhere: while it runs, it alone moves the exports, so that their futures are polled
    /// only when their verdict is there, and connections are looked after between exports: a GOAWAY, a ping or the end of
    /// an idle connection is noticed when it comes, and not with the next export.
    ///
    /// It ends with the last exporter or after [`shutdown`](Self::shutdown), and keeps neither alive. Give it a task of its
    /// own: once it was polled it has to be polled on or dropped, and one that is kept but not polled delays the exports,
    /// at worst until their deadlines.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, the futures of the exports take over.
    pub fn driver(&self) -> Driver<R> {
        Driver::new(&self.channel, self.exporters.clone())
    }

    pub(crate) fn channel(&self) -> &Arc<Channel<R>> {
        &self.channel
    }

    /// The account at this moment, that of its pipelines included. Where several exporters share one destination of a
    /// pipeline, the first of them tells its account.
    pub fn stats(&self) -> Stats {
        whole_stats(&self.channel, &self.companions)
    }

    /// Tells the observer of something that happened to `items` in a layer above: once a minute for each kind and endpoint, as
    /// what the exporter tells by itself, and in order with that. `make` is asked for the words where it is told. The channel
    /// is held while it is queued, and released before the observer is called. Whether it was told.
    pub(crate) fn tell(
        &self,
        endpoint: Option<&Arc<str>>,
        kind: EventKind,
        items: u64,
        make: impl FnOnce() -> Transition<'static>,
    ) -> bool {
        self.channel.tell(endpoint, kind, items, make)
    }

    /// Tells of the end of something whose beginning was told, however short that was ago.
    pub(crate) fn tell_end(
        &self,
        endpoint: Option<&Arc<str>>,
        kind: EventKind,
        make: impl FnOnce() -> Transition<'static>,
    ) {
        self.channel.release(endpoint, kind);
        self.channel.tell(endpoint, kind, 0, make);
    }

    /// How errors name the endpoint of a signal, or that of all of them, where there is one.
    pub(crate) fn name_of(&self, signal: Option<Signal>) -> Option<Arc<str>> {
        self.channel.name_of(signal)
    }

    /// Items that another account books were given up or left without an answer: told with the end of the outage, if there is
    /// one. Whether there is.
    pub(crate) fn note_loss(
        &self,
        signal: Signal,
        reason: Option<DropReason>,
        dropped: u64,
        unknown: u64,
    ) -> bool {
        self.channel.note_loss(signal, reason, dropped, unknown)
    }

    /// What the exporter and its pipelines counted about themselves, to be exported as metrics by this or another exporter;
    /// [`PipelineConfig::with_self_metrics`](crate::pipeline::PipelineConfig::with_self_metrics) has a pipeline do that.
    pub fn self_metrics(&self) -> SelfMetrics {
        let mut metrics = self.channel.self_metrics().with_instance(self.instance);
        // In another process the pipelines' locks may be held by threads that are not there.
        if !self.channel.origin.is_foreign() {
            metrics.merge(&self.companions.meter());
        }
        metrics
    }

    /// When it was built, since the Unix epoch.
    pub(crate) fn begun_unix(&self) -> Duration {
        self.begun_unix
    }

    /// Whether the other is a clone of this one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.channel, &other.channel)
    }

    /// What became of the configuration: every value with where it comes from, what was refused, and what is probably not
    /// meant.
    pub fn config_report(&self) -> &ConfigReport {
        &self.report
    }

    /// Ends the exporter and all its clones: further exports end in an error at once, those under way have until
    /// `timeout` from now, and what has no verdict then is dropped. The report tells what became of everything.
    ///
    /// Its pipelines end first, within the same time: their futures have to be run on for that. As long as one has not ended,
    /// the exporter takes further exports.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it leaves closed what it has closed; see [`Shutdown`].
    pub fn shutdown(&self, timeout: Duration) -> Shutdown<R> {
        Shutdown::new(self.channel.clone(), self.companions.clone(), timeout)
    }

    pub(crate) fn companions(&self) -> &Companions {
        &self.companions
    }

    /// The runtime; none in another process than the exporter's.
    pub(crate) fn runtime(&self) -> Option<R> {
        self.channel.runtime()
    }

    /// Whether a signal goes out over gRPC, and the largest request of it that is worth gathering.
    pub(crate) fn limits(&self, signal: Signal) -> (bool, usize) {
        self.channel.limits(signal)
    }

    /// The time of an export of a signal, with its retries.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(crate) fn timeout(&self, signal: Signal) -> Duration {
        self.channel.timeout(signal)
    }
}

/// The account of an exporter and of its pipelines.
pub(super) fn whole_stats<R: Runtime>(channel: &Channel<R>, companions: &Companions) -> Stats {
    let mut stats = channel.stats();
    // In another process the pipelines' locks may be held by threads that are not there.
    if let Some(runtime) = channel.runtime() {
        companions.add_to(&mut stats, runtime.now());
    }
    stats
}

impl<R: Runtime> Clone for Exporter<R> {
    fn clone(&self) -> Self {
        self.exporters.fetch_add(1, Ordering::Relaxed);
        Self {
            channel: self.channel.clone(),
            report: self.report.clone(),
            instance: self.instance,
            begun_unix: self.begun_unix,
            exporters: self.exporters.clone(),
            companions: self.companions.clone(),
        }
    }
}

impl<R: Runtime> Drop for Exporter<R> {
    fn drop(&mut self) {
        let is_last = self.exporters.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last && !self.channel.origin.is_foreign() {
            self.channel.hub.wake_driver();
        }
    }
}

impl<R: Runtime> fmt::Debug for Exporter<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::policy::RetryPolicy;
    use crate::rt::Blocking;
    use crate::testing::{Answer, Collector};
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;
    use bytes::Bytes;
    use std::sync::Mutex;

    type Told = Arc<Mutex<Vec<String>>>;

    fn exporter(collector: &Collector) -> (Exporter<Blocking>, Told) {
        let told = Told::default();
        let hears = told.clone();
        let config = Config::new()
            .with_endpoint(collector.endpoint())
            .with_retry_policy(RetryPolicy::never())
            .with_observer(move |event| hears.lock().expect("no panic").push(event.to_string()));
        let exporter = config.build(Blocking::new().expect("a reactor"));
        (exporter.expect("it works"), told)
    }

    #[test]
    fn a_layer_above_tells_under_the_same_limit() {
        let collector = Collector::start().expect("a collector");
        let (exporter, told) = exporter(&collector);
        let name: Arc<str> = collector.endpoint().into();
        for _ in 0..10 {
            let pause = Duration::from_secs(30);
            exporter.tell(Some(&name), EventKind::BreakerOpened, 0, || {
                Transition::BreakerOpened { pause }
            });
        }
        let told = told.lock().expect("no panic");
        let words = "too many exports failed, none is begun for 30 s; what is queued waits";
        assert_eq!(*told, [alloc::format!("OTLP export to {name}: {words}")]);
    }

    #[test]
    fn what_another_account_lost_is_told_with_the_end_of_the_outage() {
        let collector = Collector::start().expect("a collector");
        let (exporter, told) = exporter(&collector);
        let export = || {
            let bytes = Vec::from([Bytes::from_static(&[10, 0])]);
            exporter
                .export(Request::from_segments(Signal::Traces, 1, bytes))
                .wait()
        };
        collector.answer_next(Answer::unavailable());
        export().expect_err("refused");
        exporter.note_loss(Signal::Logs, Some(DropReason::Expired), 40, 2);
        export().expect("delivered");
        let told = told.lock().expect("no panic");
        let words = "; lost: 1 dropped (attempts exhausted), 40 dropped (expired in the queue), 2 unknown; ";
        assert!(told[2].contains(words), "{told:?}");
    }
}
