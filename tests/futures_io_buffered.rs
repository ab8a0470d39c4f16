//! A `futures-io` socket that buffers what is written, as those with TLS or compression do.

#[path = "support/batches.rs"]
#[allow(dead_code, reason = "not every batch is needed here")]
mod batches;

use async_std::net::TcpStream;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use futures_io::{AsyncRead, AsyncWrite};
use otlp_embed::Config;
use otlp_embed::rt::FuturesIo;
use otlp_embed::testing::Collector;
use std::io;

/// Writes nothing until it is flushed.
struct Buffered {
    inner: TcpStream,
    written: Vec<u8>,
}

impl AsyncRead for Buffered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Buffered {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.written.extend(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.written.is_empty() {
            let count = ready!(Pin::new(&mut this.inner).poll_write(cx, &this.written))?;
            this.written.drain(..count);
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[test]
fn what_was_written_is_flushed() {
    let collector = Collector::start().expect("a collector");
    let runtime = FuturesIo::new(
        |address| {
            Box::pin(async move {
                TcpStream::connect(address).await.map(|inner| Buffered {
                    inner,
                    written: Vec::new(),
                })
            })
        },
        |duration| Box::pin(async_std::task::sleep(duration)),
    );
    let config = Config::new()
        .with_protocol(otlp_embed::Protocol::Grpc)
        .with_endpoint(collector.endpoint())
        .with_timeout(Duration::from_secs(5));
    let exporter = config.build(runtime).expect("the configuration works");
    for round in 0..3 {
        let outcome =
            async_std::task::block_on(exporter.export(batches::batch(round * 5, 5))).expect("delivered");
        assert_eq!(outcome.delivered(), 5);
    }
}
