//! Settings that were checked and put into the form that the layers use.

use super::{Compression, Protocol};
use crate::credentials::CredentialSource;
use crate::encode::{Request, Signal};
use crate::endpoint::{Endpoint, Host};
use crate::policy::RetryPolicy;
use crate::protocol::Outgoing;
use crate::time::Instant;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

/// Everything that an engine has to know.
///
/// It has no `Debug`, since header values may be secrets.
#[derive(Clone)]
pub struct Settings {
    /// The destinations, each once, however many signals go there.
    pub lanes: Vec<Lane>,
    /// How each signal goes out, by [`Signal::ALL`].
    pub routes: [Route; Signal::ALL.len()],
    /// When and how often to try again.
    pub retry: RetryPolicy,
    /// The largest request message, before compression (OTLP specification, "Request size limit").
    pub request_bytes_max: usize,
    /// Encoded bytes that exports without a verdict may hold.
    pub memory_limit_bytes: usize,
    /// Whether spans and events of libraries under the exporter are kept from the application's subscriber.
    pub isolate_tracing: bool,
}

/// One destination and how its connections are made; signals of one lane share them.
#[derive(Clone)]
pub struct Lane {
    /// Where to connect to.
    pub endpoint: Endpoint,
    /// The endpoint as an error names it.
    pub endpoint_name: Arc<str>,
    /// Whether it is spoken to over gRPC, or else over OTLP/HTTP.
    pub is_grpc: bool,
    /// The time of one address to accept a connection.
    pub connect_timeout: Duration,
    /// Headers of the signals that go there, where they are the same for all.
    pub headers: Arc<[(String, String)]>,
    /// Addresses that stand in for name resolution, in the order to try.
    pub addresses: Vec<SocketAddr>,
    /// The HTTP proxy that connections go through, by CONNECT.
    pub proxy: Option<Proxy>,
    /// Pings that notice a dead connection.
    pub keepalive: Option<Keepalive>,
    /// How old a connection may get before it is replaced, give or take a tenth.
    pub max_connection_age: Option<Duration>,
    /// Connections of HTTP/1.1, which carries one call at a time, that may be open at a time. An idle one is closed after
    /// 90 s beside another.
    pub http1_connections_max: usize,
    /// The name that the exporter gives itself, with a product token of the user's before it.
    pub user_agent: Arc<str>,
    /// The largest response message.
    pub response_bytes_max: usize,
    /// Whether spans and events of libraries under the exporter are kept from the application's subscriber.
    pub isolate_tracing: bool,
    /// How its connections are secured; `None` for plain text.
    #[cfg(feature = "tls")]
    pub tls: Option<super::Tls>,
}

/// An HTTP proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its host.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// What goes into `proxy-authorization`, a secret.
    pub authorization: Option<Arc<str>>,
}

/// Pings that notice a dead connection (gRPC, "Client-side Keepalive").
///
/// They are sent on HTTP/2, which gRPC always is; HTTP/1.1 has none, and there only the deadline of a call finds a dead
/// connection. Idle connections are pinged while a driver or an export's future is polled. A peer that says
/// `too_many_pings` doubles the interval of what goes there.
///
/// ```
/// use core::time::Duration;
/// use otlp_embed::{Config, Keepalive};
///
/// let keepalive = Keepalive::new(Duration::from_secs(60)).with_timeout(Duration::from_secs(10));
/// let config = Config::new().with_keepalive(keepalive);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// The silence after which a ping is sent, more than zero; below 10 s it is among the report's warnings.
    pub interval: Duration,
    /// The time that its answer may take before the connection counts as dead, more than zero; 20 s unless set.
    pub timeout: Duration,
    /// Whether to ping while no call is under way, too; `false` unless set.
    pub while_idle: bool,
}

impl Keepalive {
    /// A ping after each `interval` of silence while a call is under way, with 20 s for its answer.
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            timeout: Duration::from_secs(20),
            while_idle: false,
        }
    }

    /// Sets [`timeout`](Self::timeout).
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets [`while_idle`](Self::while_idle). Many collectors answer pings without a call by closing the connection.
    pub const fn with_while_idle(mut self, while_idle: bool) -> Self {
        self.while_idle = while_idle;
        self
    }
}

/// How one signal goes out.
#[derive(Clone)]
pub struct Route {
    /// Its destination, an index into [`Settings::lanes`].
    pub lane: usize,
    /// The form of its requests.
    pub protocol: Protocol,
    /// The compression of its requests.
    pub compression: Compression,
    /// The path of its requests.
    pub path: Arc<str>,
    /// Headers of every request: lowercase names, printable values.
    pub headers: Arc<[(String, String)]>,
    /// The time of one export, retries included.
    pub timeout: Duration,
    /// The endpoint as an error names it.
    pub endpoint_name: Arc<str>,
    /// Where the headers of each attempt come from that change.
    pub credentials: Option<CredentialSource>,
}

impl Settings {
    /// How a signal goes out.
    pub fn route(&self, signal: Signal) -> &Route {
        &self.routes[signal.index()]
    }

    /// Where a signal goes.
    pub fn lane(&self, signal: Signal) -> &Lane {
        &self.lanes[self.route(signal).lane]
    }

    /// A call that sends the request as it is; for driving a connection by hand.
    pub fn outgoing<'a>(&'a self, request: &'a Request, deadline: Instant) -> Outgoing<'a> {
        Outgoing {
            request,
            body: request.body(),
            route: self.route(request.signal()),
            credentials: &[],
            deadline,
        }
    }
}
