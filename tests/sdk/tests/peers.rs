//! Peers that fail in the ways in which exporters were seen to panic, to hang and to lose (spec, "How incumbents fail"), each met
//! through the SDK's batch processor: the flush ends in time, both sides agree on what arrived, and the next export works.

mod running;

use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::SdkTracerProvider;
use otlp_embed::pipeline::PipelineConfig;
use otlp_embed::policy::RetryPolicy;
use otlp_embed::rt::Runtime;
use otlp_embed::testing::collector::{Accepting, Builder, RawAnswer};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Config, DropReason, Exporter, OtlpExportFuture, Protocol, Stats, rt, sdk};
use running::{
    LONG, accepted_seen, assert_all_delivered, assert_settled, batching, config, end_spans, within,
};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

const BATCH: usize = 100;
const ITEMS: u64 = BATCH as u64;
/// The time of an export.
const TIMEOUT: Duration = Duration::from_secs(1);
const HTTP: [Protocol; 2] = [Protocol::HttpProtobuf, Protocol::HttpJson];
const ALL: [Protocol; 3] = [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson];

/// A provider with the SDK's batch processor, over our exporter, and a peer.
struct Pair {
    collector: Collector,
    account: Arc<dyn Fn() -> Stats + Send + Sync>,
    provider: SdkTracerProvider,
}

/// Who serves the sockets while the SDK's thread waits.
#[derive(Clone, Copy, Debug)]
enum Shell {
    Blocking,
    Tokio,
    Smol,
}

/// Runs a test over each shell, at a time.
fn over_each_shell(test: fn(Shell)) {
    let runs = [Shell::Blocking, Shell::Tokio, Shell::Smol].map(|shell| {
        thread::Builder::new()
            .name(format!("over {shell:?}"))
            .spawn(move || test(shell))
            .expect("a thread")
    });
    let ended = runs.map(thread::JoinHandle::join);
    assert!(ended.iter().all(Result::is_ok), "see the panic of its thread");
}

/// A runtime of tokio's that nobody here waits for.
fn tokio_elsewhere() -> rt::Tokio {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime")
    });
    rt::Tokio::with_handle(runtime.handle().clone()).expect("it has all drivers")
}

impl Pair {
    fn new(shell: Shell, protocol: Protocol) -> Self {
        let collector = Collector::start().expect("a collector");
        let config = config(&collector, protocol);
        Self::over(shell, collector, config)
    }

    fn over(shell: Shell, collector: Collector, config: Config) -> Self {
        let config = config
            .with_timeout(TIMEOUT)
            .with_retry_policy(RetryPolicy::fixed(Duration::from_millis(10)));
        match shell {
            Shell::Blocking => Self::built(collector, config, rt::Blocking::new().expect("a runtime")),
            Shell::Tokio => Self::built(collector, config, tokio_elsewhere()),
            Shell::Smol => Self::built(collector, config, rt::Smol::new()),
        }
    }

    fn built<R>(collector: Collector, config: Config, runtime: R) -> Self
    where
        R: Runtime + 'static,
        Exporter<R>: Send + Sync,
        OtlpExportFuture<R>: Send,
    {
        let exporter = config.build(runtime).expect("an exporter");
        let provider = batching(sdk::SpanExporter::new(&exporter), 2048);
        Self {
            collector,
            account: Arc::new(move || exporter.stats()),
            provider,
        }
    }

    /// Exports the spans from this number on, as one batch, and waits for the verdict: ten times its time is a hang.
    fn flush(&self, from: usize) -> OTelSdkResult {
        end_spans(&self.provider, from, from + BATCH);
        let provider = self.provider.clone();
        within(10 * TIMEOUT, "force_flush", move || provider.force_flush())
    }

    fn stats(&self) -> Stats {
        let stats = (self.account)();
        assert_settled(&stats);
        stats
    }

    /// The peer recovers: the SDK's thread lives, the next batch arrives, once, and what was told of the first still holds.
    fn recovers(self, first: u32) {
        self.collector.answer(Answer::Ok);
        let before = self.stats();
        self.flush(BATCH).expect("the peer is well again");
        let stats = self.stats();
        assert_eq!(stats.delivered, before.delivered + ITEMS, "{stats:?}");
        assert_eq!(stats.accepted, 2 * ITEMS, "{stats:?}");
        let seen = accepted_seen(&self.collector, 2 * BATCH);
        assert_eq!(seen[..BATCH], [first; BATCH], "the batch of the fault");
        assert_eq!(seen[BATCH..], [1; BATCH], "the batch after it");
        let provider = self.provider.clone();
        within(LONG, "shutdown", move || provider.shutdown()).expect("the SDK's thread lives");
    }

    /// The fault passes: the batch is exported again and arrives, accepted once.
    fn outlives(self, faults: &str) {
        let result = self.flush(0);
        assert!(result.is_ok(), "{faults}: {result:?}");
        let stats = self.stats();
        assert_all_delivered(&stats, ITEMS);
        assert!(stats.retries > 0, "{faults} was not met: {stats:?}");
        self.recovers(1);
    }
}

/// A provider tells the errors of its processors within one of its own.
fn assert_timeout(result: OTelSdkResult) {
    let text = format!("{result:?}");
    assert!(result.is_err() && text.contains("Timeout(1s)"), "{text}");
}

/// The words of a failure that is no timeout.
fn failure(result: OTelSdkResult) -> String {
    match result {
        Err(OTelSdkError::InternalFailure(text)) if !text.contains("Timeout") => text,
        other => panic!("{other:?} in place of a failure"),
    }
}

/// A gRPC status whose details are no base64.
fn undecodable(status: &str) -> Answer {
    let answer = RawAnswer::new(200)
        .header("content-type", "application/grpc")
        .header("grpc-status", status)
        .header("grpc-message", "no")
        .header("grpc-status-details-bin", "~~~ no base64 ~~~");
    Answer::Raw(answer)
}

/// spec 18, 44.
#[test]
fn undecodable_details_are_an_error_and_no_panic() {
    over_each_shell(|shell| {
        let pair = Pair::new(shell, Protocol::Grpc);
        pair.collector.answer(undecodable("3"));
        let text = failure(pair.flush(0));
        assert!(text.contains("INVALID_ARGUMENT"), "{text}");
        let stats = pair.stats();
        assert_eq!(stats.settled().total() - stats.delivered, ITEMS, "{stats:?}");
        assert_eq!(stats.delivered, 0);
        pair.recovers(0);
    });
}

#[test]
fn undecodable_details_of_a_failure_that_passes_are_retried() {
    over_each_shell(|shell| {
        let pair = Pair::new(shell, Protocol::Grpc);
        pair.collector.answer_next(undecodable("14"));
        pair.outlives("undecodable details");
    });
}

/// spec 49.
#[test]
fn trailers_that_never_come_end_at_the_deadline() {
    over_each_shell(|shell| {
        for answer in [Answer::HeadersOnly, Answer::NoTrailers, Answer::Never] {
            let pair = Pair::new(shell, Protocol::Grpc);
            pair.collector.answer(answer);
            assert_timeout(pair.flush(0));
            let stats = pair.stats();
            assert_eq!(stats.unknown, ITEMS, "sent whole and not answered: {stats:?}");
            pair.recovers(0);
        }
    });
}

/// spec 49, and 53 where a success was seen.
#[test]
fn http_heads_without_an_end_end_at_the_deadline() {
    over_each_shell(|shell| {
        for protocol in HTTP {
            for answer in [Answer::HeadersOnly, Answer::NoTrailers, Answer::Never] {
                let pair = Pair::new(shell, protocol);
                pair.collector.answer(answer.clone());
                let result = pair.flush(0);
                let stats = pair.stats();
                assert_eq!(pair.collector.counters().requests, 1, "{answer:?} was sent again");
                assert_eq!(result.is_ok(), stats.delivered == ITEMS, "{result:?} {stats:?}");
                assert_eq!(stats.delivered + stats.unknown, ITEMS, "{answer:?}: {stats:?}");
                pair.recovers(0);
            }
        }
    });
}

fn goaway() -> Answer {
    Answer::GoAway {
        reason: 0,
        debug_data: b"restarting"[..].into(),
    }
}

/// spec 46, 47: known not to be processed, so nothing is sent twice that may have been taken.
#[test]
fn refused_streams_are_sent_again_without_a_duplicate() {
    over_each_shell(|shell| {
        for (fault, answer) in [("GOAWAY 0", goaway()), ("REFUSED_STREAM", Answer::Reset(7))] {
            let pair = Pair::new(shell, Protocol::Grpc);
            pair.collector.answer_next(answer.clone());
            pair.collector.answer_next(answer);
            let stats = {
                pair.flush(0).expect("it is sent again");
                pair.stats()
            };
            assert_all_delivered(&stats, ITEMS);
            assert_eq!(stats.possible_duplicates, 0, "{fault}: {stats:?}");
            assert_eq!(pair.collector.counters().requests, 3, "{fault} was not met");
            pair.recovers(1);
        }
    });
}

/// spec 22, 25: what was sent whole may have been taken, and is told.
#[test]
fn connections_that_end_in_a_call_are_replaced() {
    over_each_shell(|shell| {
        for protocol in ALL {
            for fault in [Answer::AbortConnection, Answer::CloseConnection] {
                let pair = Pair::new(shell, protocol);
                pair.collector.answer_next(fault.clone());
                pair.collector.answer_next(fault);
                pair.outlives("an end of the connection");
            }
        }
    });
}

/// spec 22, 17.
#[test]
fn a_close_after_accept_is_outlived() {
    over_each_shell(|shell| {
        for protocol in ALL {
            let pair = Pair::new(shell, protocol);
            pair.collector.set_accepting(Accepting::CloseAtOnce).expect("set");
            end_spans(&pair.provider, 0, BATCH);
            let provider = pair.provider.clone();
            let flush = thread::spawn(move || provider.force_flush());
            // Two connections that were closed make the fault sure.
            within(LONG, "the second attempt", {
                let account = Arc::clone(&pair.account);
                move || {
                    while account().retries < 2 {
                        thread::yield_now();
                    }
                }
            });
            pair.collector.set_accepting(Accepting::Serve).expect("set");
            within(10 * TIMEOUT, "force_flush", || flush.join().expect("no panic"))
                .expect("it is served again");
            assert_all_delivered(&pair.stats(), ITEMS);
            pair.recovers(1);
        }
    });
}

/// What a gate does with the first connections.
#[derive(Clone, Copy, Debug)]
enum Trick {
    /// Closes its half at once and goes on reading.
    HalfClose,
    /// Closes its half once it has read something.
    HalfCloseLater,
    /// Resets the connection once it has read something.
    Reset,
}

/// A port before a collector whose first two connections end badly; the others are handed on.
fn gate(to: SocketAddr, trick: Trick) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    let met = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&met);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let nth = count.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || match nth {
                0 | 1 => play(client, trick),
                _ => forward(client, to),
            });
        }
    });
    (addr, met)
}

fn play(mut client: TcpStream, trick: Trick) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    if let Trick::HalfCloseLater | Trick::Reset = trick {
        client.read_exact(&mut buffer[..1])?;
    }
    if let Trick::Reset = trick {
        // What lies unread makes the close a reset.
        return Ok(());
    }
    client.shutdown(Shutdown::Write)?;
    while client.read(&mut buffer)? > 0 {}
    Ok(())
}

fn forward(mut client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let mut server = TcpStream::connect(to)?;
    let (mut back, mut from) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut back);
        back.shutdown(Shutdown::Write)
    });
    io::copy(&mut client, &mut server)?;
    server.flush()?;
    server.shutdown(Shutdown::Write)
}

/// spec 22, 49.
#[test]
fn resets_and_half_closed_connections_are_replaced() {
    over_each_shell(|shell| {
        for protocol in ALL {
            for trick in [Trick::HalfClose, Trick::HalfCloseLater, Trick::Reset] {
                let collector = Collector::start().expect("a collector");
                let (addr, met) = gate(collector.addr(), trick);
                let config = Config::new()
                    .with_protocol(protocol)
                    .with_endpoint(format!("http://{addr}"));
                let pair = Pair::over(shell, collector, config);
                pair.outlives("a half that is closed");
                assert!(met.load(Ordering::Relaxed) >= 3, "{trick:?} was not met");
            }
        }
    });
}

/// spec 19, 45: also from a proxy that knows no gRPC.
#[test]
fn statuses_of_a_proxy_are_retried() {
    over_each_shell(|shell| {
        for protocol in ALL {
            for status in [429, 502, 503, 504] {
                let pair = Pair::new(shell, protocol);
                pair.collector.answer_next(Answer::HttpStatus(status));
                pair.outlives(&format!("a proxy's {status} before {protocol:?}"));
            }
        }
    });
}

/// Six providers export at a time over one exporter: none of their batches is lost or repeated.
fn six_callers(protocol: Protocol, builder: Builder) -> Collector {
    const CALLERS: usize = 6;
    const EACH: usize = 4_000;
    let collector = builder.start().expect("a collector");
    let exporter = config(&collector, protocol)
        .build(rt::Blocking::new().expect("a runtime"))
        .expect("an exporter");
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let provider = batching(sdk::SpanExporter::new(&exporter), EACH);
            thread::spawn(move || {
                end_spans(&provider, caller * EACH, (caller + 1) * EACH);
                provider.shutdown_with_timeout(LONG)
            })
        })
        .collect();
    within(LONG, "six callers", move || {
        for caller in callers {
            caller.join().expect("no panic").expect("all is exported");
        }
    });
    assert_all_delivered(&exporter.stats(), (CALLERS * EACH) as u64);
    assert_eq!(exporter.stats().possible_duplicates, 0);
    assert_eq!(accepted_seen(&collector, CALLERS * EACH), [1; CALLERS * EACH]);
    collector
}

/// spec 48.
#[test]
fn one_stream_at_a_time_loses_nothing_of_six_callers() {
    let answer = Answer::Ok.after(Duration::from_millis(2));
    six_callers(
        Protocol::Grpc,
        Collector::builder().max_concurrent_streams(1).answer(answer),
    );
}

/// spec 47.
#[test]
fn connections_of_old_age_lose_nothing_under_load() {
    for protocol in ALL {
        let answer = Answer::Ok.after(Duration::from_millis(2));
        let aging = Collector::builder().requests_per_connection(3).answer(answer);
        let collector = six_callers(protocol, aging);
        let connections = collector.connections().len();
        assert!(connections >= 6000 * 4 / 512 / 3 / 2, "{connections} connections");
    }
}

/// spec 49, 53: the status was a success, so it is not sent again, and the deadline holds.
#[test]
fn a_body_that_dribbles_ends_at_the_deadline() {
    over_each_shell(|shell| {
        for protocol in HTTP {
            let pair = Pair::new(shell, protocol);
            let body = RawAnswer::new(200)
                .header("content-type", content_type(protocol))
                .data(&b" "[..])
                .endless()
                .paced(Duration::from_millis(50));
            pair.collector.answer(Answer::Raw(body));
            let result = pair.flush(0);
            told_and_not_repeated(&pair, &result);
            pair.recovers(1);
        }
    });
}

/// spec 3, 4, 52.
#[test]
fn an_endless_body_is_capped() {
    over_each_shell(|shell| {
        for protocol in HTTP {
            let pair = Pair::new(shell, protocol);
            let body = RawAnswer::new(200)
                .header("content-type", content_type(protocol))
                .data(vec![b' '; 1 << 20])
                .endless();
            pair.collector.answer(Answer::Raw(body));
            let result = pair.flush(0);
            told_and_not_repeated(&pair, &result);
            pair.recovers(1);
        }
    });
}

/// A gzip body of so many spaces, a hundredth and a half as long: each of its codes says "258 more of these".
fn bomb(len: usize) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut bits, mut held) = (0u32, 0);
    // The codes of RFC 1951, section 3.2.6, with their first bit on the left.
    let mut push = |code: u32, length: u32| {
        for at in (0..length).rev() {
            bits |= (code >> at & 1) << held;
            held += 1;
            if held == 8 {
                bytes.push(bits as u8);
                (bits, held) = (0, 0);
            }
        }
    };
    push(0b110, 3);
    push(0b0011_0000 + u32::from(b' '), 8);
    for _ in 0..len / 258 {
        push(0b1100_0101, 8);
        push(0, 5);
    }
    push(0, 7);
    push(0, 7);
    bytes.extend([0; 8]);
    bytes
}

/// spec 3, 52: 256 MiB in less than two.
#[test]
fn a_gzip_bomb_is_capped() {
    over_each_shell(|shell| {
        let body = bomb(256 << 20);
        assert!(body.len() < 2 << 20);
        for protocol in HTTP {
            let pair = Pair::new(shell, protocol);
            let bomb = RawAnswer::new(200)
                .header("content-type", content_type(protocol))
                .header("content-encoding", "gzip")
                .data(body.clone());
            pair.collector.answer(Answer::Raw(bomb));
            let result = pair.flush(0);
            told_and_not_repeated(&pair, &result);
            pair.recovers(1);
        }
    });
}

fn content_type(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::HttpJson => "application/json",
        _ => "application/x-protobuf",
    }
}

/// A success with an odd body: sent once, and what the caller is told is what the account has.
fn told_and_not_repeated(pair: &Pair, result: &OTelSdkResult) {
    let stats = pair.stats();
    assert_eq!(
        pair.collector.counters().requests,
        1,
        "it was sent again: {stats:?}"
    );
    assert_eq!(result.is_ok(), stats.delivered == ITEMS, "{result:?} {stats:?}");
    assert_eq!(stats.settled().total(), ITEMS, "{stats:?}");
}

/// spec 53: an error that names the place, and nothing goes there.
#[test]
fn redirects_are_told_and_not_followed() {
    over_each_shell(|shell| {
        for protocol in ALL {
            for status in [301, 307] {
                let elsewhere = Collector::start().expect("a collector");
                let pair = Pair::new(shell, protocol);
                let location = format!("{}/v1/traces", elsewhere.endpoint());
                let redirect = RawAnswer::new(status).header("location", &location);
                pair.collector.answer(Answer::Raw(redirect));
                let text = failure(pair.flush(0));
                assert!(text.contains(&location), "{text}");
                let stats = pair.stats();
                assert_eq!(
                    stats.dropped_for(DropReason::NotRetryable) + stats.rejected,
                    ITEMS,
                    "{stats:?}"
                );
                assert_eq!(elsewhere.counters().connections, 0);
                pair.recovers(0);
            }
        }
    });
}

/// The SDK's queue of 2,048 spans drops most of a flood, and tells nobody how many; a pipeline takes it.
#[test]
fn a_flood_that_the_batch_processor_drops_is_taken_by_ours() {
    const FLOOD: usize = 50_000;
    let collector = Collector::start().expect("a collector");
    collector.answer(Answer::Ok.after(Duration::from_millis(20)));
    let exporter = |collector| {
        let runtime = rt::Blocking::new().expect("a runtime");
        config(collector, Protocol::Grpc)
            .build(runtime)
            .expect("an exporter")
    };
    let theirs = exporter(&collector);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(sdk::SpanExporter::new(&theirs))
        .build();
    end_spans(&provider, 0, FLOOD);
    within(LONG, "shutdown", move || provider.shutdown()).expect("what it kept is exported");
    let stats = theirs.stats();
    assert_settled(&stats);
    assert!(
        stats.delivered < FLOOD as u64 / 2,
        "the flood was none: {stats:?}"
    );
    assert_eq!(stats.delivered, stats.accepted, "what we were given arrived");
    assert_eq!(stats.delivered, collector.counters().spans_accepted);

    collector.clear();
    let ours = exporter(&collector);
    let (pipeline, future) = ours.pipeline(PipelineConfig::new()).expect("a pipeline");
    let thread = future.run_on_thread().expect("a thread");
    let provider = SdkTracerProvider::builder()
        .with_span_processor(sdk::SpanProcessor::new(&pipeline))
        .build();
    end_spans(&provider, 0, FLOOD);
    within(LONG, "shutdown", move || provider.shutdown_with_timeout(LONG)).expect("all of it is exported");
    let report = pipeline.shutdown_blocking(LONG);
    assert_all_delivered(&report.stats, FLOOD as u64);
    assert_eq!(accepted_seen(&collector, FLOOD), [1; FLOOD]);
    thread.join().expect("no panic");
}
