//! The collector on real sockets: its thread, its port, and what a user can do to its connections.

#[path = "support/collector_client.rs"]
#[allow(dead_code, reason = "shared with the tests in memory")]
mod collector_client;

use bytes::Bytes;
use collector_client::{bytes_of_one_export, export_request, framed, message};
use h2::client::SendRequest;
use otlp_embed::testing::collector::{Accepting, HttpVersion, RawAnswer, TimedOut};
use otlp_embed::testing::{Answer, Collector};
use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Longer than any step of these tests takes; a hang becomes a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// The first words of a client of HTTP/2, with its settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    let bounded = async { tokio::time::timeout(PATIENCE, future).await };
    runtime
        .block_on(local.run_until(bounded))
        .expect("the test ends within its time")
}

async fn connect(addr: SocketAddr) -> SendRequest<Bytes> {
    let socket = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::task::spawn_local(connection);
    send
}

/// Exports a message and gives the gRPC status.
async fn export(send: &SendRequest<Bytes>, message: &[u8]) -> Result<u32, h2::Error> {
    let mut send = send.clone().ready().await?;
    let (response, mut stream) = send.send_request(export_request(), false)?;
    stream.send_data(Bytes::from(framed(message)), true)?;
    let (head, mut body) = response.await?.into_parts();
    while let Some(chunk) = body.data().await {
        let count = chunk?.len();
        body.flow_control().release_capacity(count)?;
    }
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    Ok(trailers["grpc-status"].to_str().unwrap().parse().unwrap())
}

#[test]
fn many_connections_are_served_at_once() {
    let collector = Collector::start().unwrap();
    block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..20 {
            let send = connect(collector.addr()).await;
            for _ in 0..10 {
                let send = send.clone();
                tasks.push(tokio::task::spawn_local(async move {
                    export(&send, &message(&["a", "b"])).await
                }));
            }
        }
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap(), 0);
        }
    });
    assert_eq!(collector.spans().len(), 400);
    let connections: std::collections::BTreeSet<_> = collector
        .requests()
        .iter()
        .map(|request| request.connection)
        .collect();
    assert_eq!(connections.len(), 20);
    assert_eq!(collector.counters().connections, 20);
}

#[test]
fn messages_of_megabytes_pass() {
    let collector = Collector::start().unwrap();
    let name = "n".repeat(5 << 20);
    block_on(async {
        let send = connect(collector.addr()).await;
        assert_eq!(export(&send, &message(&[&name])).await.unwrap(), 0);
    });
    assert_eq!(collector.spans()[0].name, name);
}

#[test]
fn a_wait_ends_with_the_last_span_or_with_the_time() {
    let collector = Collector::start().unwrap();
    let addr = collector.addr();
    let exporter = std::thread::spawn(move || {
        block_on(async {
            let send = connect(addr).await;
            for _ in 0..3 {
                export(&send, &message(&["a", "b"])).await.unwrap();
            }
        });
    });
    assert_eq!(collector.wait_for_spans(6, PATIENCE).unwrap().len(), 6);
    assert_eq!(collector.wait_for_requests(3, PATIENCE).unwrap().len(), 3);
    exporter.join().unwrap();
    let timeout = Duration::from_millis(1);
    let error = collector.wait_for_spans(7, timeout).unwrap_err();
    assert_eq!(
        error,
        TimedOut {
            expected: 7,
            received: 6,
            timeout
        }
    );
    assert_eq!(error.to_string(), "received 6 of 7 within 1ms");
}

#[test]
fn a_delayed_answer_comes_without_further_input() {
    let collector = Collector::start().unwrap();
    collector.answer(Answer::unavailable().after(Duration::from_millis(20)));
    block_on(async {
        let send = connect(collector.addr()).await;
        assert_eq!(export(&send, &message(&["a"])).await.unwrap(), 14);
    });
}

#[test]
fn killed_connections_are_reset_and_new_ones_served() {
    let collector = Collector::start().unwrap();
    collector.answer(Answer::Never);
    block_on(async {
        let send = connect(collector.addr()).await;
        let call = tokio::task::spawn_local({
            let send = send.clone();
            async move { export(&send, &message(&["a"])).await }
        });
        while collector.counters().requests == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(collector.open_connections(), 1);
        collector.kill_connections();
        assert_eq!(collector.open_connections(), 0);
        let error = call.await.unwrap().unwrap_err();
        assert!(error.is_io(), "{error}");

        collector.answer(Answer::Ok);
        let send = connect(collector.addr()).await;
        assert_eq!(export(&send, &message(&["b"])).await.unwrap(), 0);
    });
}

#[test]
fn a_share_of_the_connections_is_killed_from_the_oldest_on() {
    let collector = Collector::start().unwrap();
    let mut sockets: Vec<_> = (1..=5)
        .map(|count| {
            let socket = TcpStream::connect(collector.addr()).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            while collector.open_connections() < count {
                std::thread::yield_now();
            }
            socket
        })
        .collect();
    collector.kill_share(0.5);
    assert_eq!(
        collector.open_connections(),
        2,
        "half of five, rounded up, are gone"
    );
    for socket in &mut sockets[..3] {
        let error = socket.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    collector.kill_share(0.0);
    assert_eq!(collector.open_connections(), 2);
    collector.kill_share(7.0);
    assert_eq!(collector.open_connections(), 0, "there are no more than all");
}

/// Sends one export over a plain socket and reads until the collector ends the connection.
fn read_end_of_connection(collector: &Collector) -> io::Result<Vec<u8>> {
    let bytes = bytes_of_one_export(&Collector::builder(), &message(&["a"]));
    let mut socket = TcpStream::connect(collector.addr())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(&bytes)?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    Ok(answer)
}

#[test]
fn told_closes_and_resets_reach_the_client() {
    let collector = Collector::start().unwrap();
    collector.answer_next(Answer::AbortConnection);
    let error = read_end_of_connection(&collector).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    collector.answer_next(Answer::CloseConnection);
    let settings = read_end_of_connection(&collector).unwrap();
    assert_eq!(settings[3], 4, "SETTINGS is a server's first frame");

    collector.answer_next(Answer::GoAway {
        reason: 0,
        debug_data: Bytes::new(),
    });
    let said = read_end_of_connection(&collector).unwrap();
    assert!(said.ends_with(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(collector.counters().requests, 3);
}

#[test]
fn drained_connections_end_their_calls_well() {
    let collector = Collector::start().unwrap();
    collector.answer(Answer::Ok.after(Duration::from_millis(20)));
    block_on(async {
        let send = connect(collector.addr()).await;
        let call = tokio::task::spawn_local({
            let send = send.clone();
            async move { export(&send, &message(&["a"])).await }
        });
        while collector.counters().requests == 0 {
            tokio::task::yield_now().await;
        }
        collector.drain_connections();
        assert_eq!(call.await.unwrap().unwrap(), 0);
        while collector.open_connections() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(export(&send, &message(&["b"])).await.is_err());
    });
}

#[test]
fn refused_connections_and_then_the_same_port() {
    let collector = Collector::start().unwrap();
    block_on(async {
        let kept = connect(collector.addr()).await;
        assert_eq!(export(&kept, &message(&["a"])).await.unwrap(), 0);
        collector.set_accepting(Accepting::Refuse).unwrap();
        let error = TcpStream::connect(collector.addr()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        // What is open goes on.
        assert_eq!(export(&kept, &message(&["b"])).await.unwrap(), 0);

        collector.set_accepting(Accepting::Serve).unwrap();
        let send = connect(collector.addr()).await;
        assert_eq!(export(&send, &message(&["c"])).await.unwrap(), 0);
    });
    collector.set_accepting(Accepting::CloseAtOnce).unwrap();
    let mut socket = TcpStream::connect(collector.addr()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(socket.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_paused_collector_neither_reads_nor_accepts() {
    let collector = Collector::start().unwrap();
    block_on(async {
        let send = connect(collector.addr()).await;
        assert_eq!(export(&send, &message(&["a"])).await.unwrap(), 0);
        collector.pause();
        let call = tokio::task::spawn_local({
            let send = send.clone();
            async move { export(&send, &message(&["b"])).await }
        });
        // The system accepts for it; nobody says a word.
        let mut newcomer = TcpStream::connect(collector.addr()).unwrap();
        newcomer.write_all(PREFACE).unwrap();
        newcomer
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        tokio::task::yield_now().await;
        let error = newcomer.read(&mut [0]).unwrap_err();
        assert!(matches!(
            error.kind(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut
        ));
        assert_eq!(collector.counters().requests, 1);

        collector.resume();
        assert_eq!(call.await.unwrap().unwrap(), 0);
        newcomer.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = [0; 9];
        newcomer.read_exact(&mut head).unwrap();
        assert_eq!(head[3], 4, "SETTINGS is a server's first frame");
    });
}

#[test]
fn a_flood_that_reads_no_answers_is_held_back() {
    let collector = Collector::start().unwrap();
    let mut socket = TcpStream::connect(collector.addr()).unwrap();
    socket
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    socket.write_all(PREFACE).unwrap();
    let pings = b"\0\0\x08\x06\0\0\0\0\0flooding".repeat(4096);
    let mut sent = 0;
    let error = loop {
        match socket.write(&pings[sent % 17..]) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
        assert!(sent < 256 << 20, "the collector swallows a flood");
    };
    assert!(
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{error}"
    );
    // The others are served as before.
    block_on(async {
        let send = connect(collector.addr()).await;
        assert_eq!(export(&send, &message(&["a"])).await.unwrap(), 0);
    });
}

#[test]
fn connections_above_the_limit_are_closed() {
    let collector = Collector::builder().connections_max(1).start().unwrap();
    block_on(async {
        let send = connect(collector.addr()).await;
        assert_eq!(export(&send, &message(&["a"])).await.unwrap(), 0);
        let mut second = TcpStream::connect(collector.addr()).unwrap();
        second.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(second.read(&mut [0]).unwrap(), 0);
        assert_eq!(export(&send, &message(&["b"])).await.unwrap(), 0);
    });
}

#[test]
fn an_answer_may_give_orders() {
    let collector = Arc::new(OnceLock::new());
    let handle = Arc::downgrade(&collector);
    let started = Collector::builder()
        .answer_with(move |_| {
            let collector = handle.upgrade().expect("the test holds it");
            collector.get().map(Collector::kill_connections);
            Answer::Ok
        })
        .start()
        .unwrap();
    let collector_ref = collector.get_or_init(|| started);
    block_on(async {
        let send = connect(collector_ref.addr()).await;
        let _ = export(&send, &message(&["a"])).await;
        while collector_ref.open_connections() > 0 {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(collector_ref.counters().requests, 1);
}

#[test]
fn dropping_it_closes_port_and_connections() {
    let collector = Collector::bind(([127, 0, 0, 1], 0)).unwrap();
    let addr = collector.addr();
    assert_eq!(collector.endpoint(), format!("http://{addr}"));
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(PREFACE).unwrap();
    let mut head = [0; 9];
    socket.read_exact(&mut head).unwrap();
    drop(collector);
    let mut rest = Vec::new();
    // FIN or RST: both are an end, a timeout is none.
    if let Err(error) = socket.read_to_end(&mut rest) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let error = TcpStream::connect(addr).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    // The port is free at once.
    drop(Collector::bind(addr).unwrap());
}

#[test]
fn an_address_in_use_is_an_error() {
    let collector = Collector::start().unwrap();
    let error = Collector::bind(collector.addr()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

/// Sends bytes and reads as many as are expected.
fn exchange(socket: &mut (impl Read + Write), sent: &[u8], expected: &[u8]) {
    socket.write_all(sent).unwrap();
    let mut said = vec![0; expected.len()];
    socket.read_exact(&mut said).unwrap();
    assert_eq!(said, expected);
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";

fn post(message: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        message.len()
    );
    [head.as_bytes(), message].concat()
}

#[test]
fn http1_is_served_beside_http2_on_one_port() {
    let collector = Collector::start().unwrap();
    block_on(async {
        let send = connect(collector.addr()).await;
        assert_eq!(export(&send, &message(&["a"])).await.unwrap(), 0);
        let mut socket = TcpStream::connect(collector.addr()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        for _ in 0..3 {
            exchange(&mut socket, &post(&message(&["b"])), OK);
        }
        assert_eq!(export(&send, &message(&["c"])).await.unwrap(), 0);
    });
    let connections = collector.connections();
    let requests: Vec<_> = connections.iter().map(|connection| connection.requests).collect();
    assert_eq!(requests, [2, 3]);
    let versions: Vec<_> = connections
        .iter()
        .filter_map(|connection| connection.version)
        .collect();
    assert_eq!(versions, [HttpVersion::Http2, HttpVersion::Http1]);
    collector.clear();
    let kept = collector.connections();
    assert!(
        kept.iter()
            .all(|connection| connection.is_open && connection.requests == 0)
    );
}

#[test]
fn connections_that_are_over_leave_no_record_where_nothing_is_kept() {
    let collector = Collector::builder().keep_requests(false).start().unwrap();
    for _ in 0..10 {
        let mut socket = TcpStream::connect(collector.addr()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&mut socket, &post(&message(&["a"])), OK);
    }
    block_on(async {
        while collector.open_connections() > 0 {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(collector.connections(), []);
    assert_eq!(
        (collector.counters().connections, collector.counters().spans),
        (10, 10)
    );
    assert_eq!(collector.requests(), []);
}

#[test]
fn an_endless_body_goes_no_faster_than_it_is_read() {
    let collector = Collector::start().unwrap();
    let endless = RawAnswer::new(200).data(vec![b'x'; 1 << 20]).endless();
    collector.answer_next(endless.into());
    let mut slow = TcpStream::connect(collector.addr()).unwrap();
    slow.write_all(&post(&message(&["a"]))).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    // The body has begun; then nobody reads, and the others are served.
    slow.read_exact(&mut [0; 1000]).unwrap();
    for _ in 0..200 {
        let mut socket = TcpStream::connect(collector.addr()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&mut socket, &post(&message(&["b"])), OK);
    }
    let mut more = vec![0; 32 << 20];
    slow.read_exact(&mut more).unwrap();
    drop(slow);
    block_on(async {
        while collector.open_connections() > 0 {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(collector.counters().calls_cancelled, 1);
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    /// A path that no other test uses, short enough for a socket.
    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("otlp-{}-{name}", std::process::id()))
    }

    #[test]
    fn it_listens_on_a_path_and_removes_it() {
        let path = path("listens");
        let collector = Collector::builder().with_unix_path(&path).start().unwrap();
        assert_eq!(collector.endpoint(), format!("unix:{}", path.display()));
        assert_eq!(collector.unix_path(), Some(&*path));
        let mut socket = UnixStream::connect(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = "n".repeat(3 << 20);
        exchange(&mut socket, &post(&message(&[&name])), OK);
        assert_eq!(collector.spans()[0].name, name);

        collector.answer_next(Answer::CloseConnection);
        socket.write_all(&post(&message(&["b"]))).unwrap();
        assert_eq!(socket.read(&mut [0]).unwrap(), 0);
        drop(collector);
        assert!(!path.exists());
    }

    #[test]
    fn http2_is_spoken_on_a_path() {
        let path = path("http2");
        let collector = Collector::builder().with_unix_path(&path).start().unwrap();
        block_on(async {
            let socket = tokio::net::UnixStream::connect(&path).await.unwrap();
            let (send, connection) = h2::client::handshake(socket).await.unwrap();
            tokio::task::spawn_local(connection);
            assert_eq!(export(&send, &message(&["a"])).await.unwrap(), 0);
            collector.answer(Answer::AbortConnection);
            assert!(export(&send, &message(&["b"])).await.is_err());
        });
        assert_eq!(collector.counters().requests, 2);
    }

    #[test]
    fn it_refuses_and_listens_again() {
        let path = path("refuses");
        let collector = Collector::builder().with_unix_path(&path).start().unwrap();
        collector.set_accepting(Accepting::Refuse).unwrap();
        let error = UnixStream::connect(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        collector.set_accepting(Accepting::Serve).unwrap();
        let mut socket = UnixStream::connect(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&mut socket, &post(&message(&["a"])), OK);
    }

    #[test]
    fn a_path_that_exists_is_an_error_and_left_alone() {
        let path = path("exists");
        std::fs::write(&path, "precious").unwrap();
        let error = Collector::builder().with_unix_path(&path).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    #[should_panic(expected = "which is no TCP address")]
    fn it_has_no_tcp_address() {
        let collector = Collector::builder().with_unix_path(path("none")).start().unwrap();
        let _ = collector.addr();
    }
}
