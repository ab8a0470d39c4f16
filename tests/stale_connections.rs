//! A kept connection that the collector closes while nobody looks: the next export notices before it writes (spec 50).

use otlp_embed::rt::Smol;
use otlp_embed::testing::collector::{Builder, ServerSession};
use otlp_embed::time::Instant;
use otlp_embed::{Config, Protocol, Request, Resource, TraceBatch};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;

const EXPORTS: u64 = 5;

fn request() -> Request {
    let mut batch = TraceBatch::new(&Resource::new());
    batch.scope("stale", "1");
    batch.span([1; 16], [2; 8], "work").end();
    batch.finish()
}

/// Answers one request and hangs up. The socket is kept: closed with something unread, it would take the answer back.
fn serve_once(
    mut stream: TcpStream,
    mut session: ServerSession,
    builder: &Builder,
    requests: u64,
) -> TcpStream {
    let mut buffer = [0; 4096];
    loop {
        while let Some(bytes) = session.poll_transmit() {
            stream.write_all(&bytes).expect("the exporter reads");
        }
        if builder.inbox().counters().requests == requests {
            stream.shutdown(Shutdown::Write).expect("it is open");
            return stream;
        }
        let count = stream.read(&mut buffer).expect("the exporter writes");
        session.handle_input(Instant::ZERO, &buffer[..count]);
    }
}

#[test]
fn what_was_closed_unseen_costs_no_duplicate_and_no_backoff() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address");
    let (closed, is_closed) = mpsc::channel();
    let builder = Builder::default();
    let inbox = builder.inbox().clone();
    let server = std::thread::spawn(move || {
        let mut kept = Vec::new();
        for number in 1..=EXPORTS {
            let (stream, _) = listener.accept().expect("a connection");
            kept.push(serve_once(stream, builder.session(number), &builder, number));
            closed.send(()).expect("the test waits");
        }
    });
    let exporter = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(format!("http://{address}"))
        .build(Smol::new())
        .expect("settings that work");
    for _ in 0..EXPORTS {
        let outcome = smol::block_on(exporter.export(request())).expect("success");
        assert_eq!(outcome.delivered(), 1);
        is_closed.recv().expect("the server hangs up");
    }
    server.join().expect("every connection was served");
    let stats = exporter.stats();
    assert_eq!((stats.delivered, stats.connections), (EXPORTS, EXPORTS));
    assert_eq!(stats.possible_duplicates, 0);
    assert_eq!(inbox.counters().requests, EXPORTS);
}
