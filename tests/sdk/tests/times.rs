//! Flush, shutdown and drop never outlast their time, whatever the peer, the runtime and the pipeline do; what came back is what
//! the account says. The bounds tell a hang from none; they measure nothing.

mod running;

use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanProcessor};
use otlp_embed::pipeline::{Overflow, PipelineConfig, PipelineFuture, QueueConfig};
use otlp_embed::policy::{BreakerConfig, BreakerState, RetryPolicy};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, DropReason, Protocol, rt, sdk};
use running::faces::{assert_all_lost, assert_closed, assert_timeout, blocking, current_thread, over_tokio};
use running::faces::{piped, piping, span_data, words};
use running::{add_metrics, assert_all_delivered, assert_settled, assert_spans_once, batching, config};
use running::{emit_logs, end_spans, within};
use std::any::Any;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

const SPANS: usize = 50;
const ITEMS: u64 = SPANS as u64;
/// The time that is given.
const SHORT: Duration = Duration::from_millis(300);
/// The time of `force_flush`, which takes none.
const FLUSH: Duration = Duration::from_secs(5);
/// What neither of them reaches.
const BOUND: Duration = Duration::from_secs(30);
/// So that it is never the export's own end that ends a wait.
const EXPORT: Duration = Duration::from_secs(3600);

/// A peer that gives no verdict, and what keeps it so.
struct Peer {
    name: &'static str,
    endpoint: String,
    _kept: Box<dyn Any + Send + Sync>,
}

fn peers() -> Vec<Peer> {
    let never = Collector::start().expect("a collector");
    never.answer(Answer::Never);
    let paused = Collector::start().expect("a collector");
    paused.pause();
    // The system answers for a listener that nobody asks.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (full, kept) = never_accepts();
    vec![
        Peer {
            name: "never answers",
            endpoint: never.endpoint(),
            _kept: Box::new(never),
        },
        Peer {
            name: "stops reading",
            endpoint: paused.endpoint(),
            _kept: Box::new(paused),
        },
        Peer {
            name: "accepts and is silent",
            endpoint: url(silent.local_addr().expect("bound")),
            _kept: Box::new(silent),
        },
        Peer {
            name: "never accepts",
            endpoint: url(full),
            _kept: kept,
        },
    ]
}

fn url(addr: SocketAddr) -> String {
    format!("http://{addr}")
}

/// A port whose line is full: further connections are never made.
fn never_accepts() -> (SocketAddr, Box<dyn Any + Send + Sync>) {
    let runtime = current_thread();
    let _entered = runtime.enter();
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .expect("a port");
    let listener = socket.listen(1).expect("it listens");
    let addr = listener.local_addr().expect("bound");
    let mut line = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
        line.push(stream);
        assert!(line.len() < 64, "the line is never full");
    }
    (addr, Box::new((listener.into_std().expect("a socket"), line)))
}

fn peer_config(peer: &Peer, protocol: Protocol) -> Config {
    Config::new()
        .with_protocol(protocol)
        .with_endpoint(peer.endpoint.as_str())
        .with_timeout(EXPORT)
        .with_connect_timeout(EXPORT)
}

/// Flush, shutdown, again, after it, drop.
fn our_processor(peer: &Peer, protocol: Protocol) {
    let name = peer.name;
    let exporter = blocking(peer_config(peer, protocol));
    let (pipeline, thread) = piped(&exporter, PipelineConfig::new());
    let (provider, processor) = piping(&pipeline);
    end_spans(&provider, 0, SPANS);
    assert_timeout(&processor.force_flush(), FLUSH, name);
    let told = provider.shutdown_with_timeout(SHORT);
    assert!(words(told).contains("Timeout(300ms)"), "{name}");
    assert_closed(&provider.shutdown_with_timeout(SHORT));
    assert_closed(&processor.shutdown_with_timeout(SHORT));
    assert_closed(&processor.force_flush());
    processor.on_end(span_data());
    let stats = pipeline.stats();
    assert!(stats.is_conserved());
    // The one that came too late is told.
    let late = stats.total.dropped_for(DropReason::Shutdown);
    assert_eq!((stats.total.accepted, late), (ITEMS + 1, 1), "{name}: {stats:?}");
    assert_eq!(
        stats.total.queued + stats.total.in_flight,
        ITEMS,
        "{name}: {stats:?}"
    );
    drop((provider, processor));
    assert_all_lost(&pipeline.shutdown_blocking(SHORT), ITEMS + 1, name);
    assert_all_lost(&thread.join().expect("no panic"), ITEMS + 1, name);
    assert_settled(&exporter.stats());
}

/// Runs this for each peer, all at a time.
fn for_each_peer(run: fn(&Peer, Protocol)) {
    let runs = peers().into_iter().flat_map(|peer| {
        let peer = Arc::new(peer);
        [Protocol::Grpc, Protocol::HttpProtobuf].map(|protocol| {
            let peer = Arc::clone(&peer);
            thread::spawn(move || {
                let name = format!("{} on {protocol:?}", peer.name);
                within(BOUND, &name, move || run(&peer, protocol));
            })
        })
    });
    for run in runs.collect::<Vec<_>>() {
        run.join().expect("as it should be");
    }
}

#[test]
fn our_span_processor_keeps_its_time() {
    for_each_peer(our_processor);
}

/// The last one that has the provider shuts it down, with the SDK's 5 s.
#[test]
fn dropped_providers_keep_their_time() {
    for_each_peer(|peer, protocol| {
        let exporter = blocking(peer_config(peer, protocol));
        let (pipeline, thread) = piped(&exporter, PipelineConfig::new());
        let (provider, processor) = piping(&pipeline);
        end_spans(&provider, 0, SPANS);
        drop(provider);
        assert_closed(&processor.force_flush());
        assert_all_lost(&pipeline.shutdown_blocking(SHORT), ITEMS, peer.name);
        thread.join().expect("no panic");
    });
}

#[test]
fn log_processor_and_queued_metrics_keep_their_time() {
    for_each_peer(|peer, protocol| {
        let exporter = blocking(peer_config(peer, protocol));
        let (pipeline, thread) = piped(&exporter, PipelineConfig::new());
        let logs = SdkLoggerProvider::builder()
            .with_log_processor(sdk::LogProcessor::new(&pipeline))
            .build();
        emit_logs(&logs, 0, SPANS);
        let told = logs.shutdown_with_timeout(SHORT);
        assert!(words(told).contains("Timeout(300ms)"), "{}", peer.name);
        let metrics = SdkMeterProvider::builder()
            .with_periodic_exporter(sdk::MetricExporter::queued(&pipeline))
            .build();
        add_metrics(&metrics, SPANS);
        // Admission is all that the SDK's reader waits for.
        metrics.force_flush().expect("admitted");
        let metrics = thread::spawn(move || metrics.shutdown());
        assert!(metrics.join().expect("no panic").is_err(), "{}", peer.name);
        let report = pipeline.shutdown_blocking(SHORT);
        // The records, and the points of the flush and of the shutdown.
        assert_all_lost(&report, 3 * ITEMS, peer.name);
        thread.join().expect("no panic");
    });
}

/// spec 49: the exporter's own time, within the SDK's batch processor.
#[test]
fn our_exporter_in_the_batch_processor_keeps_its_time() {
    for_each_peer(|peer, protocol| {
        let exporter = blocking(peer_config(peer, protocol).with_timeout(SHORT));
        let provider = batching(sdk::SpanExporter::new(&exporter), 2048);
        end_spans(&provider, 0, SPANS);
        let told = provider.force_flush();
        assert!(words(told).contains("Timeout(300ms)"), "{}", peer.name);
        let stats = exporter.stats();
        assert_settled(&stats);
        assert_eq!(
            (stats.accepted, stats.delivered),
            (ITEMS, 0),
            "{}: {stats:?}",
            peer.name
        );
        end_spans(&provider, SPANS, 2 * SPANS);
        let _ = provider.shutdown();
        let stats = exporter.stats();
        assert_settled(&stats);
        assert_eq!((stats.accepted, stats.delivered), (2 * ITEMS, 0), "{}", peer.name);
    });
}

#[test]
fn an_open_breaker_keeps_nobody_waiting() {
    within(BOUND, "the breaker", || {
        let collector = Collector::start().expect("a collector");
        collector.answer(Answer::unavailable());
        let config = config(&collector, Protocol::Grpc)
            .with_retry_policy(RetryPolicy::never())
            .with_timeout(EXPORT);
        let exporter = blocking(config);
        let breaker = BreakerConfig::new().with_requests_min(1).with_open_for(EXPORT);
        let (pipeline, thread) = piped(&exporter, PipelineConfig::new().with_breaker(breaker));
        let (provider, processor) = piping(&pipeline);
        end_spans(&provider, 0, SPANS);
        assert_timeout(&processor.force_flush(), FLUSH, "force_flush");
        let endpoint = pipeline.stats().legs[0].endpoints[0].clone();
        assert_eq!(endpoint.breaker, BreakerState::Open, "{endpoint:?}");
        assert_timeout(&processor.shutdown_with_timeout(SHORT), SHORT, "shutdown");
        drop((provider, processor));
        let report = pipeline.shutdown_blocking(SHORT);
        assert_all_lost(&report, ITEMS, "breaker");
        assert_eq!(report.stats.dropped_for(DropReason::Shutdown), ITEMS, "{report}");
        thread.join().expect("no panic");
    });
}

/// The one thread of the runtime waits for an export that needs it: the alarm ends it, a second after its time.
#[test]
fn a_current_thread_that_waits_for_itself_is_freed() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let runtime = current_thread();
        runtime.block_on(async {
            let handle = tokio::runtime::Handle::current();
            let exporter = over_tokio(&collector, handle, SHORT);
            let provider = batching(sdk::SpanExporter::new(&exporter), 2048);
            end_spans(&provider, 0, SPANS);
            let text = words(provider.force_flush());
            assert!(text.contains("Timeout(300ms)"), "{text}");
            let stats = exporter.stats();
            assert_settled(&stats);
            assert_eq!((stats.accepted, stats.delivered), (ITEMS, 0), "{stats:?}");
            end_spans(&provider, SPANS, 2 * SPANS);
            provider.shutdown().expect("an SDK that tells no failure here");
            assert_eq!(exporter.stats().accepted, 2 * ITEMS);
            assert_settled(&exporter.stats());
        });
    });
}

/// The same with the only worker, from one of its tasks.
#[test]
fn an_only_worker_that_waits_for_itself_is_freed() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let exporter = over_tokio(&collector, runtime.handle().clone(), SHORT);
        let provider = batching(sdk::SpanExporter::new(&exporter), 2048);
        let task = runtime.spawn(async move {
            end_spans(&provider, 0, SPANS);
            let result = provider.force_flush();
            provider.shutdown().expect("the SDK's thread lives");
            result
        });
        let result = runtime.block_on(task).expect("no panic");
        let stats = exporter.stats();
        assert_settled(&stats);
        assert_eq!(stats.accepted, ITEMS);
        // Which of its threads serves the sockets is tokio's choice.
        assert_eq!(result.is_ok(), stats.delivered == ITEMS, "{result:?} {stats:?}");
    });
}

/// A pipeline that is a task of the thread that waits in `force_flush`: time over, nothing lost, delivered afterwards.
#[test]
fn a_pipeline_on_the_waiting_thread_goes_on_afterwards() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        current_thread().block_on(async {
            let handle = tokio::runtime::Handle::current();
            let exporter = over_tokio(&collector, handle, EXPORT);
            let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
            let future: PipelineFuture<rt::Tokio> = future;
            tokio::spawn(future);
            let (provider, processor) = piping(&pipeline);
            end_spans(&provider, 0, SPANS);
            assert_timeout(&processor.force_flush(), FLUSH, "force_flush");
            assert_timeout(&processor.shutdown_with_timeout(SHORT), SHORT, "shutdown");
            drop((provider, processor));
            let report = pipeline.shutdown(EXPORT).await;
            assert_all_delivered(&report.stats, ITEMS);
            assert_spans_once(&collector, SPANS);
        });
    });
}

/// A queue that is full and blocks: an ending span waits for its time, and then counts as dropped.
#[test]
fn a_full_queue_blocks_a_span_for_its_time() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        collector.answer(Answer::Never);
        let exporter = blocking(config(&collector, Protocol::Grpc).with_timeout(EXPORT));
        let queue = QueueConfig::new()
            .with_items_max(10)
            .with_overflow(Overflow::Block);
        let (pipeline, thread) = piped(&exporter, PipelineConfig::new().with_queue(queue));
        let processor = sdk::SpanProcessor::new(&pipeline).with_wait_max(Duration::from_millis(20));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .build();
        end_spans(&provider, 0, 15);
        let stats = pipeline.stats();
        assert_eq!(stats.total.accepted, 15, "{stats:?}");
        assert_eq!(stats.total.dropped_for(DropReason::QueueFull), 5, "{stats:?}");
        assert!(stats.is_conserved());
        drop(provider);
        assert_all_lost(&pipeline.shutdown_blocking(SHORT), 15, "queue");
        thread.join().expect("no panic");
    });
}

/// A future that nobody runs.
#[test]
fn a_future_that_is_not_polled_keeps_nobody_waiting() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let exporter = blocking(config(&collector, Protocol::Grpc));
        let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
        let (provider, processor) = piping(&pipeline);
        end_spans(&provider, 0, SPANS);
        assert_timeout(&processor.force_flush(), FLUSH, "force_flush");
        assert_timeout(&processor.shutdown_with_timeout(SHORT), SHORT, "shutdown");
        drop(provider);
        let report = pipeline.shutdown_blocking(SHORT);
        assert_eq!((report.stats.queued, report.lost()), (ITEMS, ITEMS), "{report}");
        assert!(report.to_string().contains("50 still queued"), "{report}");
        drop(future);
        assert_all_lost(&pipeline.shutdown_blocking(SHORT), ITEMS, "dropped");
    });
}

/// The pipeline's own thread would wait for itself: it is told that time is over, and goes on and delivers.
#[test]
fn calls_from_within_the_observer_keep_their_time() {
    type Faces = (SdkTracerProvider, Arc<sdk::SpanProcessor>);
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let faces: Arc<OnceLock<Faces>> = Arc::default();
        let observed = Arc::clone(&faces);
        let (tell, told) = channel();
        // Once: the first event is that of the connection.
        let tell = Mutex::new(Some(tell));
        let config = config(&collector, Protocol::Grpc).with_observer(move |_| {
            let tell = tell.lock().expect("no panic").take();
            if let (Some((provider, processor)), Some(tell)) = (observed.get(), tell) {
                end_spans(provider, SPANS, 2 * SPANS);
                let flush = processor.force_flush();
                let shutdown = processor.shutdown_with_timeout(SHORT);
                tell.send((flush, shutdown)).expect("it is awaited");
            }
        });
        let exporter = blocking(config);
        let (pipeline, future) = exporter.pipeline(PipelineConfig::new()).expect("a pipeline");
        let (provider, processor) = piping(&pipeline);
        faces.set((provider.clone(), processor)).expect("once");
        end_spans(&provider, 0, SPANS);
        let thread = future.run_on_thread().expect("a thread");
        let (flush, shutdown) = told.recv().expect("the observer is asked");
        assert_timeout(&flush, FLUSH, "force_flush");
        assert_timeout(&shutdown, SHORT, "shutdown");
        let report = pipeline.shutdown_blocking(BOUND);
        assert_all_delivered(&report.stats, 2 * ITEMS);
        assert_spans_once(&collector, 2 * SPANS);
        thread.join().expect("no panic");
    });
}
