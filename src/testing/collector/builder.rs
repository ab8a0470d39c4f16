//! The settings of a collector.

use super::answer::Answer;
use super::handle::Collector;
use super::inbox::Inbox;
use super::received::ReceivedRequest;
use super::server::Address;
use super::session::ServerSession;
use crate::encode::Signal;
use alloc::string::String;
#[cfg(feature = "tls")]
use alloc::sync::Arc;
use core::net::{Ipv4Addr, SocketAddr};
use std::io;
#[cfg(unix)]
use std::path::PathBuf;

/// Settings of a [`Collector`], each with a default that fits most tests. Clones share their records and answers.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(super) addr: Address,
    pub(super) inbox: Inbox,
    pub(super) protocol: Settings,
    pub(in crate::testing) connections_max: usize,
}

/// What a session needs of it.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) http2: h2::server::Builder,
    pub(super) message_bytes_max: usize,
    pub(super) requests_per_connection: Option<u64>,
    pub(super) keep_requests: bool,
    /// By [`Signal::index`].
    pub(super) http_paths: [String; Signal::ALL.len()],
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
}

impl Settings {
    pub(super) fn is_secured(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// The signal whose OTLP/HTTP path this is.
    pub(super) fn http_signal(&self, path: &str) -> Option<Signal> {
        let mut signals = Signal::ALL.into_iter();
        signals.find(|signal| self.http_paths[signal.index()] == path)
    }
}

impl Default for Builder {
    fn default() -> Self {
        let mut http2 = h2::server::Builder::new();
        http2
            .max_concurrent_streams(128)
            .initial_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_header_list_size(1 << 20)
            // A client under test may cancel call after call: that is no attack here, and what is kept of such calls is
            // bounded by the input of one read.
            .max_local_error_reset_streams(None)
            .max_pending_accept_reset_streams(16_384)
            // Anything shorter makes `h2` read the clock.
            .reset_stream_duration(core::time::Duration::MAX);
        Self {
            addr: Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            inbox: Inbox::new(),
            protocol: Settings {
                http2,
                message_bytes_max: 64 << 20,
                requests_per_connection: None,
                keep_requests: true,
                http_paths: Signal::ALL.map(|signal| String::from(signal.http_path())),
                #[cfg(feature = "tls")]
                tls: None,
            },
            connections_max: 1024,
        }
    }
}

impl Builder {
    /// The address to listen on; a free port of 127.0.0.1 unless set.
    pub fn bind(mut self, addr: impl Into<SocketAddr>) -> Self {
        self.addr = Address::Tcp(addr.into());
        self
    }

    /// Listens on a Unix domain socket at this path, which must not exist yet and is removed when the collector is dropped.
    #[cfg(unix)]
    pub fn with_unix_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.addr = Address::Unix(path.into());
        self
    }

    /// The answer to every call; see [`Collector::answer`].
    pub fn answer(self, answer: Answer) -> Self {
        self.inbox.answer(answer);
        self
    }

    /// The choice of every answer; see [`Collector::answer_with`].
    pub fn answer_with(self, choose: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static) -> Self {
        self.inbox.answer_with(choose);
        self
    }

    /// Streams that a client may have open on one connection (`SETTINGS_MAX_CONCURRENT_STREAMS`); 128 unless set.
    pub fn max_concurrent_streams(mut self, streams: u32) -> Self {
        self.protocol.http2.max_concurrent_streams(streams);
        self
    }

    /// The flow-control window of each stream in bytes (`SETTINGS_INITIAL_WINDOW_SIZE`); 1 MiB unless set. With zero no
    /// request ever arrives.
    ///
    /// # Panics
    ///
    /// Where it is above 2^31 - 1.
    pub fn initial_window_size(mut self, bytes: u32) -> Self {
        assert!(bytes <= WINDOW_MAX, "a window has at most 2^31 - 1 bytes");
        self.protocol.http2.initial_window_size(bytes);
        self
    }

    /// The flow-control window of each connection in bytes; 4 MiB unless set. HTTP/2 has none below 65,535.
    ///
    /// # Panics
    ///
    /// Where it is above 2^31 - 1.
    pub fn initial_connection_window_size(mut self, bytes: u32) -> Self {
        assert!(bytes <= WINDOW_MAX, "a window has at most 2^31 - 1 bytes");
        self.protocol.http2.initial_connection_window_size(bytes);
        self
    }

    /// The largest frame to take in bytes (`SETTINGS_MAX_FRAME_SIZE`); 16 KiB unless set.
    ///
    /// # Panics
    ///
    /// Where it is not within 16,384 and 2^24 - 1 (RFC 9113, section 6.5.2).
    pub fn max_frame_size(mut self, bytes: u32) -> Self {
        self.protocol.http2.max_frame_size(bytes);
        self
    }

    /// The path on which requests of this signal come over OTLP/HTTP; that of the specification unless set.
    pub fn http_path(mut self, signal: Signal, path: impl Into<String>) -> Self {
        self.protocol.http_paths[signal.index()] = path.into();
        self
    }

    /// Speaks TLS on every connection, and [`endpoint`](Collector::endpoint) says `https`. ALPN offers what the
    /// configuration names, of which `h2` and `http/1.1` are understood; without it the client's first bytes tell the
    /// version, as in plain text. Client certificates are asked for as the configuration says.
    #[cfg(feature = "tls")]
    pub fn with_tls(mut self, config: Arc<rustls::ServerConfig>) -> Self {
        self.protocol.tls = Some(config);
        self
    }

    /// The largest message to take in bytes, decompressed or not; 64 MiB unless set. A larger one is answered with
    /// `RESOURCE_EXHAUSTED`, over OTLP/HTTP with 413.
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.protocol.message_bytes_max = bytes;
        self
    }

    /// Lets each connection drain gracefully once it has received so many requests; without a limit unless set.
    pub fn requests_per_connection(mut self, requests: u64) -> Self {
        self.protocol.requests_per_connection = Some(requests);
        self
    }

    /// Whether requests and spans are kept; they are unless told otherwise. [`Counters`](super::Counters) are kept
    /// always, and a collector that keeps nothing else can run for ever.
    pub fn keep_requests(mut self, keep: bool) -> Self {
        self.protocol.keep_requests = keep;
        self
    }

    /// Connections to serve at one time; 1,024 unless set. Those above it are closed at once.
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = connections;
        self
    }

    /// Listens and starts the collector's thread.
    ///
    /// # Errors
    ///
    /// Where the address cannot be listened on, or the system has no thread or socket to give.
    pub fn start(self) -> io::Result<Collector> {
        Collector::from_builder(self)
    }

    /// The records and answers that all sessions of this builder share.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// The URL of a collector with these settings at this address.
    pub(in crate::testing) fn endpoint_at(&self, address: SocketAddr) -> String {
        let scheme = if self.protocol.is_secured() {
            "https"
        } else {
            "http"
        };
        alloc::format!("{scheme}://{address}")
    }

    /// A session for a connection without a socket, which calls itself connection `number` in its records.
    pub fn session(&self, number: u64) -> ServerSession {
        ServerSession::new(number, self.protocol.clone(), self.inbox.clone())
    }
}

const WINDOW_MAX: u32 = (1 << 31) - 1;
