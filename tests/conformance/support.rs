//! What scenarios share: batches whose spans are told apart, and peers that misbehave.

use otlp_embed::rt::Runtime;
use otlp_embed::testing::Collector;
use otlp_embed::{Config, Exporter};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

pub fn build<R: Runtime>(runtime: R, config: Config) -> Exporter<R> {
    config.build(runtime).expect("the configuration works")
}

/// The account at rest.
pub fn balanced<R: Runtime>(exporter: &Exporter<R>) {
    let stats = exporter.stats();
    assert!(stats.is_conserved(), "{stats:?}");
    assert_eq!(stats.in_flight, 0, "{stats:?}");
    assert_eq!(stats.bytes_in_flight, 0, "{stats:?}");
}

/// How often each span of `0..count` arrived, where that is not once.
pub fn not_once(collector: &Collector, count: u64) -> BTreeMap<u64, usize> {
    let mut seen: BTreeMap<u64, usize> = (0..count).map(|id| (id, 0)).collect();
    for span in collector.spans() {
        let id: [u8; 8] = span.span_id.as_slice().try_into().expect("eight bytes");
        *seen.entry(u64::from_be_bytes(id) - 1).or_default() += 1;
    }
    seen.retain(|_, times| *times != 1);
    seen
}

/// A peer on a thread of its own that answers each connection's first bytes with `answer` and closes.
pub fn peer_that_says(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
        }
    });
    address
}

/// An address on which connections are neither accepted nor refused: the backlog of its listener is full.
pub struct BlackHole {
    pub address: SocketAddr,
    _listener: rustix::fd::OwnedFd,
    _fill: Vec<TcpStream>,
}

impl BlackHole {
    pub fn new() -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
        listen(&listener, 0).expect("it listens");
        let address =
            SocketAddr::try_from(getsockname(&listener).expect("it is bound")).expect("an internet address");
        let mut fill = Vec::new();
        // The kernel takes one or two more than asked for; the first that hangs shows that it is full.
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            fill.push(stream);
            assert!(fill.len() < 64, "the backlog never fills");
        }
        Self {
            address,
            _listener: listener,
            _fill: fill,
        }
    }
}

/// An address on which nobody listens.
pub fn refused() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound")
}

/// A listener whose connections stand and are never served.
pub fn silent() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    (listener.local_addr().expect("it is bound"), listener)
}
