//! HTTP/1.1: a server that instruments what it serves, and a client that keeps its connections.

use crate::instrument::Serving;
use crate::telemetry::Telemetry;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use opentelemetry::context::FutureExt;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Connections that a client keeps while it does not need them.
const IDLE_MAX: usize = 64;
/// The pause of a server that was given no connection, as where there are no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a service answers.
pub type Answer = (StatusCode, String);

/// A service with routes.
pub trait Service: Send + Sync + 'static {
    /// What it is watched with.
    fn telemetry(&self) -> &Arc<Telemetry>;

    /// The route of a request, in the words of `http.route`, where there is one.
    fn route<B>(&self, request: &Request<B>) -> Option<&'static str>;

    /// Answers a request on a route.
    fn answer(&self, route: &'static str, request: Request<Incoming>) -> impl Future<Output = Answer> + Send;
}

/// Serves whoever connects.
pub async fn serve<S: Service>(listener: TcpListener, service: Arc<S>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            let served = service_fn(move |request| respond(Arc::clone(&service), request));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), served);
            // A customer that went away is none.
            let _ = connection.await;
        });
    }
}

async fn respond<S: Service>(
    service: Arc<S>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let route = service.route(&request);
    let serving = Serving::begin(service.telemetry(), &request, route);
    let (status, text) = match route {
        Some(route) => {
            service
                .answer(route, request)
                .with_context(serving.context())
                .await
        }
        None => (StatusCode::NOT_FOUND, "there is no such place\n".into()),
    };
    serving.end(status);
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    Ok(response)
}

/// A client of one server.
pub struct Client {
    server: SocketAddr,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Client {
    /// A client without a connection.
    pub fn new(server: SocketAddr) -> Self {
        Self {
            server,
            idle: Mutex::default(),
        }
    }

    /// The server's address.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Sends a request, and reads the whole answer; nothing where there is none.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Option<(StatusCode, Bytes)> {
        let mut connection = self.connection().await?;
        let answer = connection.send_request(request).await.ok()?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        Some((head.status, body))
    }

    /// One that is open, or a new one.
    async fn connection(&self) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let known = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut known) = known else {
                break;
            };
            if known.ready().await.is_ok() {
                return Some(known);
            }
        }
        let stream = TcpStream::connect(self.server).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (new, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        Some(new)
    }
}
