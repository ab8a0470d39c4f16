//! The exporter and the collector over every transport that both speak: what is sent is what arrives.

use otlp_embed::encode::Signal;
use otlp_embed::testing::Collector;
use otlp_embed::testing::collector::HttpVersion;
use otlp_embed::{Compression, Config, Protocol, Request, rt};
use std::time::Duration;

/// One item in one scope of one resource; of metrics, a gauge with one point.
fn request(signal: Signal) -> Request {
    let message: &'static [u8] = match signal {
        Signal::Metrics => &[0x0a, 11, 0x12, 9, 0x12, 7, 0x0a, 1, b'm', 0x2a, 2, 0x0a, 0],
        _ => &[0x0a, 4, 0x12, 2, 0x12, 0],
    };
    Request::from_encoded(signal, message).unwrap()
}

#[test]
fn every_protocol_compression_and_signal_arrives() {
    let collector = Collector::start().unwrap();
    let mut expected = 0;
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let exporter = Config::new()
                .with_endpoint(collector.endpoint())
                .with_protocol(protocol)
                .with_compression(compression)
                .with_timeout(Duration::from_secs(10))
                .build(rt::Blocking::new().unwrap())
                .unwrap();
            for signal in Signal::ALL {
                let case = format!("{protocol:?} {compression:?} {signal:?}");
                let outcome = exporter.export(request(signal)).wait();
                assert_eq!(outcome.unwrap().delivered(), 1, "{case}");
                let requests = collector.requests();
                expected += 1;
                assert_eq!(requests.len(), expected, "{case}");
                let received = &requests[expected - 1];
                let sent = request(signal).body().segments().concat();
                assert_eq!(received.message, sent, "{case}");
                assert_eq!(
                    (received.signal, received.protocol, received.items),
                    (signal, protocol, 1),
                    "{case}"
                );
                // What is this small may be sent as it is.
                assert!(
                    [Compression::None, compression].contains(&received.compression),
                    "{case}"
                );
                let version = match protocol {
                    Protocol::Grpc => HttpVersion::Http2,
                    _ => HttpVersion::Http1,
                };
                assert_eq!(received.version, version, "{case}");
            }
        }
    }
    // Each exporter keeps to one connection.
    let connections = collector.connections();
    assert_eq!(connections.len(), 9);
    assert!(connections.iter().all(|connection| connection.requests == 4));
}
