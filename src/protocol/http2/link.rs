//! The `h2` side of a connection: how it is set up, polled and let go.

use crate::protocol::Failure;
use crate::protocol::http2::payload::Payload;
use crate::protocol::http2::pipe::Pipe;
use alloc::format;
use alloc::string::{String, ToString};
use core::future::Future;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{PingPong, Reason, SendStream};

/// Calls that may begin before the peer's SETTINGS tell how many it takes. One costs no round trip and is all that a
/// peer of one stream at a time has to take.
const STREAMS_BEFORE_SETTINGS: usize = 1;

/// The largest header list of an answer, in bytes as HPACK counts them.
const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;

/// A connection of `h2` that is polled by hand.
pub(super) struct Link {
    connection: Connection<Pipe, Payload>,
    requests: Option<SendRequest<Payload>>,
}

impl Link {
    /// Begins a connection over `pipe`, which takes the preface at once.
    pub(super) fn open(pipe: Pipe) -> Result<Self, String> {
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(STREAMS_BEFORE_SETTINGS)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            // Answers to calls that were reset come in whenever the peer likes and must not cost the connection. `h2`
            // remembers no reset stream, which also spares it its only reading of a clock, and counts none of them:
            // the session bounds what a peer may send to no purpose.
            .max_concurrent_reset_streams(0)
            .reset_stream_duration(Duration::MAX)
            .max_local_error_reset_streams(None)
            .data_frame_budget(usize::MAX >> 1);
        let handshake = pin!(builder.handshake::<_, Payload>(pipe));
        match handshake.poll(&mut context()) {
            Poll::Ready(Ok((requests, connection))) => Ok(Self {
                connection,
                requests: Some(requests),
            }),
            Poll::Ready(Err(error)) => Err(format!("the HTTP/2 connection cannot be set up: {error}")),
            Poll::Pending => Err("the HTTP/2 connection cannot be set up: its preface is not taken".into()),
        }
    }

    /// Lets `h2` read and write as much as the pipe allows; ready when the connection is over.
    pub(super) fn poll(&mut self) -> Poll<Result<(), h2::Error>> {
        Pin::new(&mut self.connection).poll(&mut context())
    }

    /// Pings of the application; there is one handle on them.
    pub(super) fn pings(&mut self) -> Option<PingPong> {
        self.connection.ping_pong()
    }

    /// How many streams the peer takes at a time.
    pub(super) fn streams_max(&self) -> usize {
        self.connection.max_concurrent_send_streams()
    }

    /// Why no call can begin on this connection any more, if so. A drain shows nowhere else in `h2`.
    pub(super) fn refusal(&mut self) -> Option<String> {
        match self.requests.as_mut()?.poll_ready(&mut context()) {
            Poll::Ready(Err(error)) => Some(error.to_string()),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        }
    }

    /// Opens a stream and sends its head.
    ///
    /// # Errors
    ///
    /// A fatal failure when HTTP/2 does not allow the head, a retryable one when the connection takes no further stream.
    pub(super) fn begin(
        &mut self,
        head: http::Request<()>,
    ) -> Result<(ResponseFuture, SendStream<Payload>), Failure> {
        let requests = self
            .requests
            .as_mut()
            .ok_or_else(|| Failure::retryable("the connection is closing"))?;
        requests.send_request(head, false).map_err(|error| {
            if error.is_io() || error.is_go_away() || error.is_reset() {
                Failure::retryable(format!("the connection takes no further call: {error}"))
            } else {
                Failure::fatal(format!("the request cannot be sent over HTTP/2: {error}"))
            }
        })
    }

    /// Begins no further call: `h2` says goodbye once the last stream is done.
    pub(super) fn finish(&mut self) {
        self.requests = None;
    }
}

/// The context of every poll: nothing is ever woken, the session knows by itself when to poll again.
pub(super) fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Resets a stream whose answer nobody waits for.
pub(super) fn reset(stream: &mut SendStream<Payload>) {
    stream.send_reset(Reason::CANCEL);
}
