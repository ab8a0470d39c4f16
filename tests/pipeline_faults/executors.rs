//! The same faults on sockets and a real clock, over every executor: dropped at any poll, ends at bad times, parties that are gone.
//! Nothing is spawned, so that runtimes whose parts never leave their thread take part.

use crate::batches::batch;
use crate::sources::Source;
use crate::support::{LONG, MILLI, PollTimes, blocking, in_time};
use crate::{adapters, batches};
use core::net::SocketAddr;
use futures_channel::mpsc::{UnboundedReceiver, unbounded};
use futures_util::StreamExt;
use futures_util::future::{join, join3};
use otlp_embed::pipeline::{
    ActorConfig, ExporterActor, PipelineConfig, SchedulerConfig, SmartScheduler, StreamingConfig,
    StreamingOtlpExporter,
};
use otlp_embed::policy::BreakerConfig;
use otlp_embed::rt::Runtime;
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, Exporter, Protocol, Report, Request};
use std::net::TcpListener;
use std::time::Duration;

/// Polls that are tried; on a real clock a future may need more.
const POLLS: u64 = 40;
/// How long a shutdown may take beyond its time on a machine that is busy.
const LATE: Duration = Duration::from_secs(10);

fn exporter<R: Runtime>(runtime: R, endpoint: String) -> Exporter<R> {
    let config = Config::new().with_protocol(Protocol::Grpc).with_timeout(LONG);
    config.with_endpoint(endpoint).build(runtime).expect("it works")
}

/// A collector, and what tells of each of its requests.
fn collector(answer: Answer) -> (Collector, UnboundedReceiver<()>) {
    let collector = Collector::start().expect("a collector");
    let (tell, told) = unbounded();
    collector.answer_with(move |_| {
        let _ = tell.unbounded_send(());
        answer.clone()
    });
    (collector, told)
}

async fn check_usable<R: Runtime>(exporter: &Exporter<R>, collector: &Collector) {
    collector.answer(Answer::Ok);
    let outcome = exporter.export(batch(9_000, 1)).await.expect("as good as before");
    assert_eq!(outcome.delivered(), 1);
    let stats = exporter.stats();
    assert!(stats.is_conserved(), "{stats:?}");
    assert_eq!(
        (stats.queued, stats.in_flight, stats.bytes_in_flight),
        (0, 0, 0),
        "{stats:?}"
    );
}

/// A pipeline, a run and an actor, each dropped after so many polls while others wait for it.
async fn dropped_at_any_poll<R: Runtime>(runtime: R) {
    let (collector, _requests) = collector(Answer::Ok);
    let exporter = exporter(runtime, collector.endpoint());
    for polls in 0..POLLS {
        let (pipeline, future) = exporter.pipeline(blocking(2)).expect("works");
        let producing = async {
            let mut sent = 0;
            for id in 0..4 {
                sent += u64::from(pipeline.send(batch(id, 1)).await.is_ok());
            }
            let _ = pipeline.flush(LONG).await;
            (sent, pipeline.shutdown(LONG).await)
        };
        let (ended, (sent, report)) = join(PollTimes::new(future, polls), producing).await;
        assert!(report.stats.is_conserved(), "{report}");
        assert_eq!(
            (report.stats.accepted, report.stats.queued),
            (sent, 0),
            "{report}"
        );
        assert!(ended.is_none() || report.stats.delivered == 4, "{report}");

        let streaming = StreamingOtlpExporter::new(&exporter, StreamingConfig::new()).expect("works");
        let handle = streaming.handle();
        let source = Source::<Request>::of((0..4).map(|id| batch(id, 1)));
        source.close();
        let ended = PollTimes::new(streaming.run(source.stream()), polls).await;
        let stats = handle.stats();
        assert!(handle.is_finished() && source.is_dropped());
        assert_eq!(
            stats.total_taken,
            stats.total_exported + stats.total_failed,
            "{stats}"
        );
        assert!(ended.is_none() || stats.total_exported == 4, "{stats}");

        let config = ActorConfig::new().with_mailbox(1).with_concurrency_max(1);
        let (handle, actor) = ExporterActor::new(&exporter, config).expect("works");
        let calls = async {
            let exports = join3(
                handle.export(batch(0, 1)),
                handle.export(batch(1, 1)),
                handle.export(batch(2, 1)),
            );
            let (exports, _) = join(exports, handle.flush()).await;
            handle.shutdown(LONG).await;
            [exports.0, exports.1, exports.2]
        };
        let (ended, answers) = join(PollTimes::new(actor, polls), calls).await;
        let delivered = answers
            .iter()
            .flatten()
            .map(|outcome| outcome.delivered())
            .sum::<u64>();
        let stats = handle.stats();
        assert_eq!(
            (stats.items_exported, stats.in_flight, stats.queued),
            (delivered, 0, 0),
            "{stats}"
        );
        assert!(ended.is_none() || delivered == 3, "{stats}");
    }
    check_usable(&exporter, &collector).await;
}

/// Begins an end after `begun`, with little time for it; gives its report.
async fn end_after<R: Runtime>(
    runtime: &R,
    exporter: &Exporter<R>,
    config: PipelineConfig,
    begun: impl Future<Output = ()>,
) -> Report {
    let (pipeline, future) = exporter.pipeline(config).expect("works");
    let ending = async {
        pipeline.send(batch(0, 3)).await.expect("room");
        begun.await;
        let begin = runtime.now();
        // Twice: the earlier end counts.
        let (first, second) = join(pipeline.shutdown(LONG), pipeline.shutdown(50 * MILLI)).await;
        let took = runtime.now().since(begin);
        assert!(took < LATE, "{took:?}");
        assert_eq!(first, second);
        assert!(pipeline.flush(LONG).await.unwrap_err().is_shutdown());
        assert!(pipeline.send(batch(9, 1)).await.unwrap_err().is_closed());
        first
    };
    let (report, told) = join(future, ending).await;
    assert_eq!(report, told);
    assert!(report.stats.is_conserved(), "{report}");
    report
}

/// Ends during a backoff, during a connect, while the breaker is open, and without an answer.
async fn ends_at_bad_times<R: Runtime>(runtime: R) {
    let (collector, mut requests) = collector(Answer::throttled(LONG));
    let own = exporter(runtime.clone(), collector.endpoint());
    let mut arrive = async |count| {
        for _ in 0..count {
            requests.next().await.expect("the collector lives");
        }
    };
    let report = end_after(&runtime, &own, blocking(3), arrive(1)).await;
    assert_eq!(report.lost(), 3, "{report}");
    check_usable(&own, &collector).await;

    let (collector, mut requests) = self::collector(Answer::unavailable());
    let own = exporter(runtime.clone(), collector.endpoint());
    let breaker = BreakerConfig::new().with_requests_min(1).with_open_for(LONG);
    let first = async {
        requests.next().await.expect("the collector lives");
    };
    let report = end_after(&runtime, &own, blocking(3).with_breaker(breaker), first).await;
    assert_eq!(report.lost(), 3, "{report}");
    check_usable(&own, &collector).await;

    let (collector, mut requests) = self::collector(Answer::Never);
    let own = exporter(runtime.clone(), collector.endpoint());
    let first = async {
        requests.next().await.expect("the collector lives");
    };
    let report = end_after(&runtime, &own, blocking(3), first).await;
    assert_eq!((report.stats.unknown, report.lost()), (3, 3), "{report}");
    check_usable(&own, &collector).await;

    // It accepts, and never says a word.
    let silent = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
    let address = silent.local_addr().expect("it is bound");
    let own = exporter(runtime.clone(), format!("http://{address}"));
    let report = end_after(&runtime, &own, blocking(3), std::future::ready(())).await;
    assert_eq!(report.lost(), 3, "{report}");
    let stats = own.stats();
    assert_eq!((stats.queued, stats.in_flight), (0, 0), "{stats:?}");
}

/// The exporter ends under a living pipeline, and whoever was to get an answer is gone.
async fn ends_and_parties_gone<R: Runtime>(runtime: R) {
    let (collector, _requests) = collector(Answer::Ok);
    let own = exporter(runtime, collector.endpoint());
    let (pipeline, future) = own.pipeline(blocking(3)).expect("works");
    let (handle, actor) = ExporterActor::new(&own, ActorConfig::new()).expect("works");
    drop(handle.try_export(batch(100, 2)).expect("room"));
    let ending = async {
        pipeline.send(batch(0, 3)).await.expect("room");
        drop(pipeline.flush(LONG));
        handle.flush().await.expect("the actor lives");
        let report = own.shutdown(LONG).await;
        assert_eq!((report.stats.delivered, report.lost()), (5, 0), "{report}");
        assert!(pipeline.send(batch(9, 1)).await.unwrap_err().is_closed());
        assert!(handle.export(batch(9, 1)).await.unwrap_err().is_shutdown());
        handle.shutdown(LONG).await
    };
    let (report, stats, told) = join3(future, actor, ending).await;
    assert_eq!((report.stats.delivered, report.lost()), (3, 0), "{report}");
    assert_eq!(stats, told);
    assert_eq!((stats.items_exported, stats.answers_dropped), (2, 1), "{stats}");
}

/// Jobs that panic, on what a runtime takes between threads.
async fn jobs_panic<R>(runtime: R)
where
    R: Runtime + 'static,
    Exporter<R>: Send,
    otlp_embed::OtlpExportFuture<R>: Send,
{
    let (collector, _requests) = collector(Answer::Ok);
    let own = exporter(runtime, collector.endpoint());
    let (scheduler, driver) =
        SmartScheduler::new(SchedulerConfig::new().with_concurrency_max(2)).expect("works");
    let work = async {
        let well = scheduler.submit_export(&own, batches::batch(0, 3));
        let bad = scheduler.submit(async { crate::support::planned() });
        let after = scheduler.submit_export(&own, batches::batch(10, 4));
        assert!(bad.await.is_err());
        assert_eq!(well.await.expect("no panic").expect("delivered").delivered(), 3);
        assert_eq!(after.await.expect("no panic").expect("delivered").delivered(), 4);
        let stats = scheduler.wait_all().await;
        assert_eq!(
            (stats.completed, stats.panicked, stats.items),
            (2, 1, 7),
            "{stats}"
        );
        drop(scheduler);
    };
    join(driver, work).await;
    check_usable(&own, &collector).await;
}

macro_rules! over {
    ($($adapter:ident: [$($scenario:ident),+ $(,)?]),+ $(,)?) => {
        $(mod $adapter {
            $(
                #[test]
                fn $scenario() {
                    crate::executors::in_time(|| {
                        crate::executors::adapters::$adapter(|runtime| crate::executors::$scenario(runtime));
                    });
                }
            )+
        })+
    };
}

over! {
    tokio_current_thread: [dropped_at_any_poll, ends_at_bad_times, ends_and_parties_gone, jobs_panic],
    tokio_two_workers: [dropped_at_any_poll, ends_at_bad_times, ends_and_parties_gone, jobs_panic],
    smol: [dropped_at_any_poll, ends_at_bad_times, ends_and_parties_gone, jobs_panic],
    smol_under_futures_executor: [dropped_at_any_poll, ends_at_bad_times, ends_and_parties_gone],
    async_std: [dropped_at_any_poll, ends_at_bad_times, ends_and_parties_gone],
    local: [dropped_at_any_poll, ends_at_bad_times, ends_and_parties_gone],
    hand_written: [dropped_at_any_poll, ends_at_bad_times, ends_and_parties_gone],
}
