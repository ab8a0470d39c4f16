//! An endpoint that nothing can be sent to, whenever it is tried: what it was given goes to the next, and nothing is lost.
//! What a collector has answered for good is not sent to another.

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/pipeline.rs"]
mod support;

use certificates::{Authority, NAME, ServerTls};
use otlp_embed::pipeline::{Endpoints, PipelineConfig};
use otlp_embed::policy::AdaptiveBatchConfig;
use otlp_embed::testing::{Answer, Collector, Network, SimulatedCollector};
use otlp_embed::{Code, Config, DropReason, Exporter, Protocol, Report, Tls};
use support::{SECOND, config, spans};

const BATCHES: u64 = 40;

/// A first endpoint that fails, and a second that is whole.
struct Pair {
    network: Network,
    first: Exporter<Network>,
    second: Exporter<Network>,
    backup: SimulatedCollector,
}

fn exporter(network: &Network, endpoint: &str, change: impl FnOnce(Config) -> Config) -> Exporter<Network> {
    let config = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(endpoint);
    change(config).build(network.clone()).expect("it works")
}

impl Pair {
    fn new(network: &Network, first: Exporter<Network>) -> Self {
        let backup = network.collector();
        Self {
            network: network.clone(),
            first,
            second: exporter(network, backup.endpoint(), |config| config),
            backup,
        }
    }

    /// Of batches of one span each, all of them there before the first is exported, and others that come one by one.
    fn run(&self, endpoints: Endpoints<Network>, config: PipelineConfig) -> Report {
        let one = AdaptiveBatchConfig::new()
            .with_items_min(1)
            .with_items_initial(1)
            .with_adaptive_enabled(false);
        let (pipeline, future) = endpoints.pipeline(config.with_batch(one)).expect("it works");
        for id in 0..BATCHES / 2 {
            pipeline.try_send(spans(id, 1)).expect("room");
        }
        let running = self.network.spawn(future);
        self.network.block_on(async {
            for id in BATCHES / 2..BATCHES {
                self.network.clock().sleep(SECOND / 4).await;
                pipeline.send(spans(id, 1)).await.expect("room");
            }
            self.network.clock().sleep(60 * SECOND).await;
            let report = pipeline.shutdown(60 * SECOND).await;
            running.await;
            report
        })
    }

    fn failover(&self) -> Endpoints<Network> {
        Endpoints::failover([self.first.clone(), self.second.clone()])
    }

    /// Everything arrives once at the second, and nothing counts as sent twice.
    fn delivers_at_the_second(&self, endpoints: Endpoints<Network>) {
        let report = self.run(endpoints, config());
        assert_eq!((report.stats.delivered, report.lost()), (BATCHES, 0), "{report}");
        assert_eq!(report.stats.possible_duplicates, 0, "{report}");
        assert_eq!(self.backup.spans().len() as u64, BATCHES);
        let error = self.first.stats().last_error.expect("the first failed");
        assert!(!error.is_empty());
    }
}

/// A first endpoint whose certificate has expired.
fn expired(network: &Network) -> Exporter<Network> {
    let authority = Authority::new("root");
    let change = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let server = ServerTls::new(authority.server(NAME, change));
    let collector = network.collector_with(Collector::builder().with_tls(server.config()));
    network.set_name(NAME, [collector.addr().ip()]);
    exporter(network, &format!("https://{NAME}:4317"), |config| {
        config.with_tls(Tls::new().with_ca_pem(&authority.pem))
    })
}

/// As spec 54 asks, nothing goes to the first.
#[test]
fn what_meets_an_expired_certificate_goes_to_the_next() {
    let network = Network::new(3);
    let pair = Pair::new(&network, expired(&network));
    pair.delivers_at_the_second(pair.failover());
}

#[test]
fn what_meets_an_expired_certificate_goes_to_the_next_in_turn() {
    let network = Network::new(4);
    let pair = Pair::new(&network, expired(&network));
    pair.delivers_at_the_second(Endpoints::round_robin([pair.first.clone(), pair.second.clone()]));
}

#[test]
fn what_a_collector_refuses_for_its_client_certificate_goes_to_the_next() {
    let network = Network::new(5);
    let authority = Authority::new("root");
    let mut server = ServerTls::new(authority.server(NAME, |_| ()));
    server.clients = Some(authority.der());
    let collector = network.collector_with(Collector::builder().with_tls(server.config()));
    network.set_name(NAME, [collector.addr().ip()]);
    let first = exporter(&network, &format!("https://{NAME}:4317"), |config| {
        config.with_tls(Tls::new().with_ca_pem(&authority.pem))
    });
    let pair = Pair::new(&network, first);
    pair.delivers_at_the_second(pair.failover());
    assert_eq!(collector.requests().len(), 0);
}

#[test]
fn what_has_no_credentials_goes_to_the_next() {
    let network = Network::new(6);
    let collector = network.collector();
    let first = exporter(&network, collector.endpoint(), |config| {
        config.with_credentials(|| String::from("no\ntoken"))
    });
    let pair = Pair::new(&network, first);
    pair.delivers_at_the_second(pair.failover());
    assert_eq!(collector.requests().len(), 0);
}

/// As spec 14 and 53 ask.
#[test]
fn what_is_answered_for_good_is_not_sent_to_another() {
    let network = Network::new(7);
    let collector = network.collector();
    collector.answer(Answer::status(Code::UNAUTHENTICATED, "who are you"));
    let first = exporter(&network, collector.endpoint(), |config| config);
    let pair = Pair::new(&network, first);
    let report = pair.run(pair.failover(), config());
    assert_eq!(
        (report.stats.rejected, report.stats.delivered),
        (BATCHES, 0),
        "spec 14: {report}"
    );
    assert_eq!(pair.backup.spans().len(), 0, "spec 53");
}

#[test]
fn where_every_endpoint_has_failed_for_good_it_ends_and_is_counted() {
    let network = Network::new(8);
    let pair = Pair::new(&network, expired(&network));
    let endpoints = Endpoints::failover([pair.first.clone(), pair.first.clone()]);
    let report = pair.run(endpoints, config().with_max_elapsed(20 * SECOND));
    let stats = &report.stats;
    assert_eq!((stats.accepted, stats.delivered), (BATCHES, 0), "{report}");
    assert_eq!(stats.dropped[DropReason::Expired.index()], BATCHES, "{report}");
}

#[test]
fn a_single_endpoint_that_fails_for_good_gives_up_at_once() {
    let network = Network::new(9);
    let pair = Pair::new(&network, expired(&network));
    let report = pair.run(
        Endpoints::failover([pair.first.clone()]),
        config().without_breaker(),
    );
    let dropped = report.stats.dropped[DropReason::NotRetryable.index()];
    assert_eq!((dropped, report.lost()), (BATCHES, BATCHES), "spec 14: {report}");
}
