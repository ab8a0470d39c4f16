//! One story over every way: each signal in each compression, with all that a collector can answer.

use crate::certificates::NAME;
use crate::signals::{ITEMS, canonical, request};
use crate::way::{LONG, Way};
use core::time::Duration;
use futures_util::future::join_all;
use otlp_embed::rt::Runtime;
use otlp_embed::testing::collector::{RawAnswer, ReceivedRequest};
use otlp_embed::testing::{Answer, Collector};
use otlp_embed::{Code, Compression, Error, Exporter, OtlpExportFuture, Outcome, Protocol, Signal};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

/// The header that tells exports apart.
const KEY: &str = "x-export";

pub async fn story<R: Runtime>(runtime: R, way: Way) {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut story = Story::new(runtime.clone(), way.compressed(compression));
        story.many_at_once().await;
        story.one_after_another().await;
        story.every_verdict().await;
        story.lost_connections().await;
        // Deadlines do not know what a body is made of, and take time.
        if compression == Compression::None {
            story.silence().await;
        }
        story.end().await;
    }
}

struct Story<R: Runtime> {
    way: Way,
    collector: Collector,
    exporter: Exporter<R>,
    script: Script,
    /// The number of the last export.
    number: u64,
    /// What was handed to the exporter, by key, and how often it is to arrive.
    sent: BTreeMap<String, (Signal, Vec<u8>, usize)>,
    expected: Expected,
}

/// Answers to come, by the key of their export.
type Script = Arc<Mutex<BTreeMap<String, VecDeque<Answer>>>>;

/// What the account is to say in the end.
#[derive(Debug, Default)]
struct Expected {
    delivered: u64,
    rejected: u64,
    /// Dropped, or unknown: which of them is a matter of timing.
    unanswered: u64,
    retries: u64,
    possible_duplicates: u64,
    /// Connections that the collector or a deadline ended.
    lost: u64,
}

impl<R: Runtime> Story<R> {
    fn new(runtime: R, way: Way) -> Self {
        let collector = way.collector();
        let script = Script::default();
        let answers = script.clone();
        collector.answer_with(move |request| {
            let mut answers = answers.lock().expect("nothing panics under the lock");
            let key = request.header(KEY).expect("every export has its key");
            let next = answers.get_mut(key).and_then(VecDeque::pop_front);
            next.unwrap_or_else(|| {
                Answer::status(Code::FAILED_PRECONDITION, "it came more often than it was to")
            })
        });
        let config = way
            .config(&collector)
            .with_header("X-Scope-OrgID", "acme")
            .with_user_agent("suite/1");
        Self {
            exporter: config.build(runtime).expect("the configuration works"),
            way,
            collector,
            script,
            number: 0,
            sent: BTreeMap::new(),
            expected: Expected::default(),
        }
    }

    fn case(&self, signal: Signal) -> String {
        format!("{signal:?} over {}", self.way)
    }

    /// Begins an export whose attempts are answered like this, one after the other.
    fn export(&mut self, signal: Signal, answers: Vec<Answer>, timeout: Duration) -> OtlpExportFuture<R> {
        self.number += 1;
        let key = format!("{signal:?}-{}", self.number);
        let request = request(signal, self.number);
        let message = canonical(signal, &request.body().segments().concat());
        self.sent.insert(key.clone(), (signal, message, answers.len()));
        let mut script = self.script.lock().expect("nothing panics under the lock");
        script.insert(key.clone(), answers.into());
        drop(script);
        let request = request.with_header(KEY, &key).expect("a fine header");
        self.exporter.export(request.with_timeout(timeout))
    }

    /// One export of each signal at a time, all answered alike.
    async fn all(
        &mut self,
        answers: Vec<Answer>,
        timeout: Duration,
    ) -> Vec<(String, Result<Outcome, Error>)> {
        let exports: Vec<_> = Signal::ALL
            .into_iter()
            .map(|signal| self.export(signal, answers.clone(), timeout))
            .collect();
        let cases = Signal::ALL.map(|signal| self.case(signal));
        cases.into_iter().zip(join_all(exports).await).collect()
    }

    fn is_delivered(&mut self, case: &str, verdict: Result<Outcome, Error>, attempts: u32) {
        let outcome = verdict.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(
            (outcome.delivered(), outcome.rejected(), outcome.attempts()),
            (ITEMS, 0, attempts),
            "{case}"
        );
        self.expected.delivered += ITEMS;
        self.expected.retries += u64::from(attempts - 1);
    }

    async fn many_at_once(&mut self) {
        let signals = Signal::ALL.repeat(3);
        let exports: Vec<_> = signals
            .iter()
            .map(|signal| self.export(*signal, vec![Answer::Ok], LONG))
            .collect();
        for (signal, verdict) in signals.iter().zip(join_all(exports).await) {
            self.is_delivered(&self.case(*signal), verdict, 1);
        }
        self.each_arrived();
        let connections = self.exporter.stats().connections;
        assert!(
            (1..=self.way.connections_max()).contains(&connections),
            "{}: {connections} connections: spec 7, 8",
            self.way
        );
    }

    async fn one_after_another(&mut self) {
        let before = self.exporter.stats().connections;
        for signal in Signal::ALL {
            let verdict = self.export(signal, vec![Answer::Ok], LONG).await;
            self.is_delivered(&self.case(signal), verdict, 1);
        }
        assert_eq!(self.exporter.stats().connections, before, "{}: spec 24", self.way);
    }

    async fn every_verdict(&mut self) {
        let pause = Duration::from_millis(2);
        let mut failures = vec![Answer::unavailable()];
        if self.way.is_grpc() {
            failures.extend([Answer::HttpStatus(503), Answer::throttled(pause)]);
        } else {
            let busy = RawAnswer::new(503).header("retry-after", "0").data("busy");
            failures.extend([429, 502, 504].map(Answer::HttpStatus));
            failures.push(busy.into());
        }
        failures.push(Answer::Ok);
        let attempts = failures.len() as u32;
        for (case, verdict) in self.all(failures, LONG).await {
            self.is_delivered(&case, verdict, attempts);
            // The first failure is one that a proxy gives too where it lost the collector's answer.
            self.expected.possible_duplicates += u64::from(attempts - 1) * ITEMS;
        }

        let mut partial = Answer::PartialSuccess {
            rejected: 2,
            message: "too old".into(),
        };
        if self.way.compression != Compression::None {
            partial = partial.compressed(self.way.compression);
        }
        for (case, verdict) in self.all(vec![partial], LONG).await {
            let outcome = verdict.unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(
                (outcome.delivered(), outcome.rejected(), outcome.attempts()),
                (ITEMS - 2, 2, 1),
                "{case}: spec 12"
            );
            assert_eq!(outcome.message(), Some("too old"), "{case}: spec 12");
            self.expected.delivered += ITEMS - 2;
            self.expected.rejected += 2;
        }

        let refusal = Answer::status(Code::INVALID_ARGUMENT, "100 % wrong: \u{e4}");
        for (case, verdict) in self.all(vec![refusal], LONG).await {
            let error = verdict.expect_err(&case);
            let status = (
                error.grpc_status(),
                error.http_status().filter(|_| !self.way.is_grpc()),
            );
            let expected = match self.way.is_grpc() {
                true => (Some(Code::INVALID_ARGUMENT), None),
                false => (None, Some(400)),
            };
            assert_eq!(status, expected, "{case}: {error}");
            assert_eq!(
                (error.counts().rejected, error.attempts(), error.is_retryable()),
                (ITEMS, 1, false),
                "{case}: spec 14"
            );
            assert!(
                error.to_string().contains("100 % wrong: \u{e4}"),
                "{case}: {error}: spec 26, 44"
            );
            self.expected.rejected += ITEMS;
        }
        self.each_arrived();
    }

    /// One at a time: on HTTP/2 other calls on the connection would be sent again as well.
    async fn lost_connections(&mut self) {
        for signal in Signal::ALL {
            for answer in [Answer::CloseConnection, Answer::AbortConnection] {
                let case = format!("{} and {answer:?}", self.case(signal));
                let verdict = self.export(signal, vec![answer, Answer::Ok], LONG).await;
                self.is_delivered(&case, verdict, 2);
                self.expected.possible_duplicates += ITEMS;
                self.expected.lost += 1;
            }
        }
        self.each_arrived();
    }

    async fn silence(&mut self) {
        let before = self.exporter.stats();
        for (case, verdict) in self.all(vec![Answer::Never], Duration::from_millis(100)).await {
            let error = verdict.expect_err(&case);
            assert!(error.is_timeout(), "{case}: {error}: spec 49");
            assert_eq!(error.counts().unknown + error.counts().dropped, ITEMS, "{case}");
            self.expected.unanswered += ITEMS;
            self.expected.lost += u64::from(!self.way.is_multiplexed());
        }
        // Whether an attempt came to its end in that time, and was repeated, is up to the machine.
        self.expected.retries += self.exporter.stats().retries - before.retries;
        for (case, verdict) in self.all(vec![Answer::Ok], LONG).await {
            self.is_delivered(&format!("{case} after a deadline: spec 49"), verdict, 1);
        }
    }

    async fn end(self) {
        let stats = self.exporter.stats();
        let seen = (
            stats.delivered,
            stats.rejected,
            stats.unknown + stats.dropped_total(),
        );
        let expected = (
            self.expected.delivered,
            self.expected.rejected,
            self.expected.unanswered,
        );
        assert_eq!(seen, expected, "{}: {stats:?}", self.way);
        assert_eq!(stats.retries, self.expected.retries, "{}: {stats:?}", self.way);
        assert_eq!(
            stats.possible_duplicates, self.expected.possible_duplicates,
            "{}: {stats:?}: spec 25",
            self.way
        );
        let lost = self.expected.lost;
        let connections = match self.way.is_multiplexed() {
            true => 1 + lost..=1 + lost,
            // The idle ones beside the first that is lost are left as well.
            false => 1 + lost..=2 * self.way.connections_max() - 1 + lost,
        };
        assert!(
            connections.contains(&stats.connections),
            "{}: {stats:?}",
            self.way
        );
        self.are_as_configured();

        let report = self.exporter.shutdown(LONG).await;
        assert!(report.stats.is_conserved(), "{}: {report}", self.way);
        assert_eq!(
            (report.stats.in_flight, report.stats.bytes_in_flight),
            (0, 0),
            "{}: {report}",
            self.way
        );
        assert_eq!(
            report.lost(),
            self.expected.rejected + self.expected.unanswered,
            "{}: {report}: spec 10",
            self.way
        );
    }

    /// What was sent since the last time is there, as often as it was answered, and unchanged.
    fn each_arrived(&mut self) {
        let requests = self.collector.requests();
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for request in &requests {
            let key = request.header(KEY).expect("every export has its key");
            let (signal, message, _) = &self.sent[key];
            let case = self.case(*signal);
            assert_eq!((request.signal, request.items), (*signal, ITEMS), "{case}");
            assert!(
                canonical(*signal, &request.message) == *message,
                "{case}: {key} is not what was sent"
            );
            self.has_its_head(&case, request);
            *times.entry(key).or_default() += 1;
        }
        for (key, (signal, _, expected)) in &self.sent {
            assert_eq!(
                times.get(key.as_str()),
                Some(expected),
                "{}: {key} arrived another number of times",
                self.case(*signal)
            );
        }
        self.collector.clear();
        self.sent.clear();
    }

    fn has_its_head(&self, case: &str, request: &ReceivedRequest) {
        let way = self.way;
        let header = |name| request.header(name);
        assert_eq!(
            (request.protocol, request.version, request.compression),
            (way.protocol, way.version, way.compression),
            "{case}"
        );
        let (path, content_type) = match way.protocol {
            Protocol::Grpc => (request.signal.grpc_path(), "application/grpc"),
            Protocol::HttpProtobuf => (request.signal.http_path(), "application/x-protobuf"),
            _ => (request.signal.http_path(), "application/json"),
        };
        assert_eq!(header(":method"), Some("POST"), "{case}: spec 27");
        assert_eq!(header(":path"), Some(path), "{case}: spec 27");
        assert_eq!(header("content-type"), Some(content_type), "{case}: spec 28, 43");
        let encoding = (way.compression != Compression::None).then(|| way.compression.as_str());
        let (spoken, silent) = match way.is_grpc() {
            true => ("grpc-encoding", "content-encoding"),
            false => ("content-encoding", "grpc-encoding"),
        };
        assert_eq!(
            (header(spoken), header(silent)),
            (encoding, None),
            "{case}: spec 29"
        );
        assert_eq!(header("x-scope-orgid"), Some("acme"), "{case}");
        let agent = header("user-agent").unwrap_or_default();
        assert!(
            agent.starts_with("suite/1 OTel-OTLP-Exporter-Rust/"),
            "{case}: {agent:?}: spec 42"
        );
        if encoding.is_some() {
            assert!(request.body.len() < request.encoded_len / 2, "{case}");
        } else if way.protocol == Protocol::HttpJson {
            assert_eq!(request.body.first(), Some(&b'{'), "{case}");
        } else {
            assert_eq!(request.body, request.message, "{case}");
        }
    }

    /// Every connection was made as the way says.
    fn are_as_configured(&self) {
        let way = self.way;
        let mut connections = self.collector.connections();
        // Another may have been free before this one stood, which then was left unused.
        connections.retain(|connection| connection.version.is_some());
        assert!(!connections.is_empty(), "{way}");
        for connection in connections {
            assert_eq!(connection.tls_error, None, "{way}");
            assert_eq!(connection.version, Some(way.version), "{way}");
            assert_eq!(connection.tls.is_some(), way.is_secured(), "{way}");
            if let Some(tls) = connection.tls {
                assert_eq!(tls.alpn.as_deref(), way.alpn(), "{way}: spec 30");
                assert_eq!(tls.server_name.as_deref(), Some(NAME), "{way}");
                let is_mutual = way.link == crate::way::Link::MutualTls;
                assert_eq!(!tls.peer_certificates.is_empty(), is_mutual, "{way}");
            }
        }
    }
}
