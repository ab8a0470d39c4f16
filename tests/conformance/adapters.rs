//! The adapters under test: how each makes its runtime and runs a scenario.

use crate::executor;
use core::future::Future;
use core::marker::PhantomData;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use otlp_embed::endpoint::Target;
use otlp_embed::rt::{Blocking, FuturesIo, Resolve, Runtime, Smol, Socket, Timer, Tokio, WithUnix};
use otlp_embed::time::Instant;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;

fn on_tokio<F: Future<Output = ()>>(runtime: tokio::runtime::Runtime, scenario: impl FnOnce(Tokio) -> F) {
    runtime.block_on(async { scenario(Tokio::current().expect("inside a runtime")).await });
    // A resolver that a scenario left behind must not hold the runtime up.
    runtime.shutdown_background();
}

pub fn tokio_current_thread<F: Future<Output = ()>>(scenario: impl FnOnce(Tokio) -> F) {
    on_tokio(
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime"),
        scenario,
    );
}

fn multi_thread(workers: usize) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("a runtime")
}

pub fn tokio_one_worker<F: Future<Output = ()> + Send + 'static>(scenario: impl FnOnce(Tokio) -> F) {
    let runtime = multi_thread(1);
    let tokio = Tokio::with_handle(runtime.handle().clone()).expect("it has a time driver");
    runtime
        .block_on(runtime.spawn(scenario(tokio)))
        .expect("the scenario passes");
    runtime.shutdown_background();
}

pub fn tokio_two_workers<F: Future<Output = ()>>(scenario: impl FnOnce(Tokio) -> F) {
    on_tokio(multi_thread(2), scenario);
}

pub fn smol<F: Future<Output = ()>>(scenario: impl FnOnce(Smol) -> F) {
    smol::block_on(scenario(Smol::new()));
}

/// `async-io` under an executor that knows nothing of it.
pub fn smol_under_futures_executor<F: Future<Output = ()>>(scenario: impl FnOnce(Smol) -> F) {
    futures_executor::block_on(scenario(Smol::new()));
}

pub fn async_std<F: Future<Output = ()>>(scenario: impl FnOnce(AsyncStd) -> F) {
    let tcp: Connect = |address| Box::pin(async_std::net::TcpStream::connect(address));
    let unix: ConnectUnix = |path| Box::pin(async_std::os::unix::net::UnixStream::connect(path));
    let sleep: Sleep = |duration| Box::pin(async_std::task::sleep(duration));
    async_std::task::block_on(scenario(FuturesIo::new(tcp, sleep).with_unix(unix)));
}

type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;
type Connect = fn(SocketAddr) -> Boxed<io::Result<async_std::net::TcpStream>>;
type ConnectUnix = fn(PathBuf) -> Boxed<io::Result<async_std::os::unix::net::UnixStream>>;
type Sleep = fn(std::time::Duration) -> Boxed<()>;
type AsyncStd = FuturesIo<WithUnix<Connect, ConnectUnix>, Sleep>;

/// Every future is ready at its first poll, so one poll has to run the whole scenario.
pub fn blocking<F: Future<Output = ()>>(scenario: impl FnOnce(Blocking) -> F) {
    let scenario = pin!(scenario(Blocking::new().expect("a reactor")));
    let done = scenario.poll(&mut Context::from_waker(Waker::noop()));
    assert!(
        done.is_ready(),
        "a future of a blocking exporter was not ready at its first poll"
    );
}

pub fn hand_written<F: Future<Output = ()> + 'static>(scenario: impl FnOnce(executor::Handle) -> F) {
    let handle = executor::Handle::new().expect("a loop");
    handle.block_on(scenario(handle.clone()));
}

pub fn local<F: Future<Output = ()>>(scenario: impl FnOnce(Local) -> F) {
    smol::block_on(scenario(Local {
        inner: Smol::new(),
        _not_send: PhantomData,
    }));
}

/// A runtime whose parts never leave their thread.
#[derive(Clone)]
pub struct Local {
    inner: Smol,
    _not_send: PhantomData<Rc<()>>,
}

pub struct LocalIo<T>(T, PhantomData<Rc<()>>);

impl Runtime for Local {
    type Io = LocalIo<<Smol as Runtime>::Io>;
    type Timer = LocalIo<<Smol as Runtime>::Timer>;
    type Connecting = Pin<Box<dyn Future<Output = io::Result<Self::Io>>>>;
    type Resolving = <Smol as Runtime>::Resolving;

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn connect(&self, target: &Target) -> Self::Connecting {
        let connecting = self.inner.connect(target);
        Box::pin(async move { Ok(LocalIo(connecting.await?, PhantomData)) })
    }

    fn resolve(&self, query: Resolve) -> Self::Resolving {
        self.inner.resolve(query)
    }

    fn timer(&self) -> Self::Timer {
        LocalIo(self.inner.timer(), PhantomData)
    }
}

impl<T: Socket> Socket for LocalIo<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bufs)
    }
}

impl<T: Timer> Timer for LocalIo<T> {
    fn poll_at(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<io::Result<()>> {
        self.0.poll_at(cx, at)
    }
}
