//! Exports over Unix domain sockets, under every adapter (spec 36).
#![cfg(unix)]

use otlp_embed::rt::{Blocking, FuturesIo, Runtime, Smol, Tokio};
use otlp_embed::testing::collector::{Builder, ServerSession};
use otlp_embed::time::Instant;
use otlp_embed::{Config, Error, Exporter, Outcome, Protocol, Request, Resource, TraceBatch};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

#[path = "../examples/support/executor.rs"]
#[allow(dead_code, unused_imports, reason = "the example uses more of it")]
mod executor;

/// A collector's session behind a listener in the file system, for one connection.
struct Listener {
    path: PathBuf,
    builder: Builder,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("otlp-embed-{}-{number}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket in the temporary folder");
        Self::serving(path, listener)
    }

    fn serving(path: PathBuf, listener: UnixListener) -> Self {
        let builder = Builder::default();
        let session = builder.session(1);
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            serve(stream, session);
        });
        Self {
            path,
            builder,
            thread: Some(thread),
        }
    }

    fn config(&self) -> Config {
        Config::new()
            .with_protocol(Protocol::Grpc)
            .with_endpoint(format!("unix:{}", self.path.display()))
    }

    /// Waits for the end of the connection, and checks what came over it.
    fn finish(mut self, verdict: Result<Outcome, Error>) {
        assert_eq!(verdict.expect("success").delivered(), 500);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the session is served to its end");
        }
        let requests = self.builder.inbox().requests();
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].header(":authority"), Some("localhost"));
        assert_eq!(self.builder.inbox().spans().len(), 500);
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(mut stream: UnixStream, mut session: ServerSession) {
    let mut buffer = [0; 4096];
    loop {
        while let Some(bytes) = session.poll_transmit() {
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => session.handle_input(Instant::ZERO, &buffer[..count]),
            Ok(_) | Err(_) => return session.handle_eof(Instant::ZERO),
        }
    }
}

/// Large enough that neither side takes it at once.
fn request() -> Request {
    let mut batch = TraceBatch::new(&Resource::new());
    batch.scope("unix", "1");
    for index in 1..=500_u64 {
        batch
            .span([1; 16], index.to_be_bytes(), "work")
            .attr_shared("payload", "x".repeat(2_000))
            .end();
    }
    batch.finish()
}

fn exporter<R: Runtime>(listener: &Listener, runtime: R) -> Exporter<R> {
    listener.config().build(runtime).expect("the settings work")
}

#[test]
fn tokio_connects_to_it() {
    let listener = Listener::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let verdict = runtime.block_on(async {
        let tokio = Tokio::current().expect("a runtime");
        exporter(&listener, tokio).export(request()).await
    });
    drop(runtime);
    listener.finish(verdict);
}

#[test]
fn smol_connects_to_it() {
    let listener = Listener::start();
    let verdict = smol::block_on(exporter(&listener, Smol::new()).export(request()));
    listener.finish(verdict);
}

#[test]
fn a_thread_connects_to_it() {
    let listener = Listener::start();
    let blocking = Blocking::new().expect("a runtime");
    let verdict = exporter(&listener, blocking).export(request()).wait();
    listener.finish(verdict);
}

#[test]
fn futures_io_connects_to_it_with_a_function_for_paths() {
    let listener = Listener::start();
    let runtime = FuturesIo::new(async_std::net::TcpStream::connect, async_std::task::sleep)
        .with_unix(async_std::os::unix::net::UnixStream::connect);
    let verdict = async_std::task::block_on(exporter(&listener, runtime).export(request()));
    listener.finish(verdict);
}

#[test]
fn futures_io_says_what_it_lacks() {
    let runtime = FuturesIo::new(async_std::net::TcpStream::connect, async_std::task::sleep);
    let config = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint("unix:/nowhere.sock")
        .with_retry_policy(otlp_embed::policy::RetryPolicy::never());
    let exporter = config.build(runtime).expect("the settings work");
    let error = async_std::task::block_on(exporter.export(request())).expect_err("no way");
    assert!(error.is_connect());
    assert!(error.to_string().contains("FuturesIo::with_unix"), "{error}");
}

#[test]
fn a_hand_written_executor_connects_to_it() {
    let listener = Listener::start();
    let event_loop = executor::Handle::new().expect("a loop");
    let export = exporter(&listener, event_loop.clone()).export(request());
    let verdict = event_loop.block_on(export);
    drop(event_loop);
    listener.finish(verdict);
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_sockets_are_reached_by_every_adapter() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;

    for adapter in 0..3 {
        let name = format!("otlp-embed-{}-{adapter}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let listener = UnixListener::bind_addr(&address).expect("an abstract socket");
        let listener = Listener::serving(format!("@{name}").into(), listener);
        let verdict = match adapter {
            0 => exporter(&listener, Blocking::new().expect("a runtime"))
                .export(request())
                .wait(),
            1 => smol::block_on(exporter(&listener, Smol::new()).export(request())),
            _ => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async {
                    let tokio = Tokio::current().expect("a runtime");
                    exporter(&listener, tokio).export(request()).await
                })
            }
        };
        listener.finish(verdict);
    }
}

#[test]
fn a_socket_that_is_not_there_is_named() {
    let config = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint("unix:/nowhere/otel.sock")
        .with_retry_policy(otlp_embed::policy::RetryPolicy::never());
    let exporter = config
        .build(Blocking::new().expect("a runtime"))
        .expect("the settings work");
    let error = exporter.export(request()).wait().expect_err("no socket");
    let text = error.to_string();
    assert!(
        error.is_connect() && text.contains("connect to unix:/nowhere/otel.sock: No such file"),
        "{text}"
    );
}

#[test]
fn a_path_that_no_socket_can_have_is_refused() {
    let config = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(format!("unix:/{}", "x".repeat(300)));
    let refusal = config.build(Blocking::new().expect("a runtime")).err();
    assert!(refusal.is_some_and(|error| error.is_misuse()));
}

/// Such a connect does not wait for its turn, and is tried again like any other.
#[cfg(target_os = "linux")]
#[test]
fn a_listener_that_accepts_nobody_is_named() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

    let path = std::env::temp_dir().join(format!("otlp-embed-{}-full.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
    let address = SocketAddrUnix::new(&path).expect("a path");
    rustix::net::bind(&listener, &address).expect("a free path");
    rustix::net::listen(&listener, 0).expect("a listener");
    let _first = UnixStream::connect(&path).expect("one fits into its queue");
    let config = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(format!("unix:{}", path.display()))
        .with_retry_policy(otlp_embed::policy::RetryPolicy::never());
    let exporter = config
        .build(Blocking::new().expect("a runtime"))
        .expect("the settings work");
    let error = exporter.export(request()).wait().expect_err("no room");
    let _ = std::fs::remove_file(&path);
    assert!(error.is_connect() && error.is_retryable(), "{error}");
    assert!(error.to_string().contains("queue is full"), "{error}");
}
