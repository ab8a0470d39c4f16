//! The heads of requests, as gRPC or OTLP/HTTP has them.

use crate::config::{Lane, Route, is_credential};
use crate::encode::Signal;
use crate::protocol::{Outgoing, grpc};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Uri, Version};

/// What the heads of the requests on one connection have in common, made once.
pub(super) struct Heads {
    authority: Authority,
    scheme: Scheme,
    user_agent: Arc<str>,
    #[cfg(feature = "http")]
    is_grpc: bool,
    known: Vec<Known>,
    /// The last timeout of gRPC, since most calls have the same.
    timeout: (Duration, HeaderValue),
}

/// What the heads of one signal have in common.
struct Known {
    signal: Signal,
    uri: Uri,
    headers: HeaderMap,
}

impl Heads {
    /// # Errors
    ///
    /// In words, when the endpoint cannot stand in a request.
    pub(super) fn new(lane: &Lane) -> Result<Self, String> {
        #[cfg(feature = "http")]
        let authority = if lane.is_grpc {
            &**lane.endpoint.authority()
        } else {
            crate::protocol::otlp_http::authority(lane)
        };
        #[cfg(not(feature = "http"))]
        let authority = if lane.is_grpc {
            &**lane.endpoint.authority()
        } else {
            return Err("this build does not speak OTLP/HTTP; enable the feature http".into());
        };
        let authority = Authority::try_from(authority)
            .map_err(|error| format!("the endpoint {authority:?} cannot stand in a request: {error}"))?;
        let scheme = match lane.endpoint.scheme() {
            crate::endpoint::Scheme::Http => Scheme::HTTP,
            crate::endpoint::Scheme::Https => Scheme::HTTPS,
        };
        Ok(Self {
            authority,
            scheme,
            user_agent: lane.user_agent.clone(),
            #[cfg(feature = "http")]
            is_grpc: lane.is_grpc,
            known: Vec::new(),
            timeout: (Duration::ZERO, grpc::timeout(Duration::ZERO)),
        })
    }

    /// The head of a call with `left` to go until its deadline.
    ///
    /// # Errors
    ///
    /// In words, when a header cannot stand in it.
    pub(super) fn of(
        &mut self,
        outgoing: &Outgoing<'_>,
        left: Duration,
    ) -> Result<http::Request<()>, String> {
        let at = self.known(outgoing)?;
        let mut headers = self.known[at].headers.clone();
        self.add_own(&mut headers, outgoing, left)?;
        let mut head = http::Request::new(());
        *head.method_mut() = Method::POST;
        *head.version_mut() = Version::HTTP_2;
        *head.uri_mut() = self.known[at].uri.clone();
        *head.headers_mut() = headers;
        Ok(head)
    }

    /// Adds what this call alone carries.
    fn add_own(
        &mut self,
        headers: &mut HeaderMap,
        outgoing: &Outgoing<'_>,
        left: Duration,
    ) -> Result<(), String> {
        // What an attempt brings itself takes the place of what was set once for all.
        for (name, _) in outgoing.credentials {
            headers.remove(name);
        }
        #[cfg(feature = "http")]
        if !self.is_grpc {
            for field in crate::protocol::otlp_http::own(outgoing) {
                let field = field?;
                append(headers, field.name, field.value, field.is_secret)?;
            }
            headers.insert(http::header::CONTENT_LENGTH, outgoing.body.len().into());
            return Ok(());
        }
        for (name, value) in outgoing.request.headers() {
            append(headers, name, value, is_credential(name))?;
        }
        for (name, value) in outgoing.credentials {
            append(headers, name, value, true)?;
        }
        let left = grpc::told(left);
        if self.timeout.0 != left {
            self.timeout = (left, grpc::timeout(left));
        }
        headers.insert(grpc::GRPC_TIMEOUT, self.timeout.1.clone());
        Ok(())
    }

    /// Where what the heads of this signal have in common stands.
    fn known(&mut self, outgoing: &Outgoing<'_>) -> Result<usize, String> {
        let signal = outgoing.request.signal();
        if let Some(at) = self.known.iter().position(|known| known.signal == signal) {
            return Ok(at);
        }
        let route = outgoing.route;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(
            PathAndQuery::try_from(&*route.path)
                .map_err(|error| format!("the path {:?} cannot stand in a request: {error}", route.path))?,
        );
        let uri = Uri::from_parts(parts).map_err(|error| error.to_string())?;
        let headers = self.common(route)?;
        self.known.push(Known { signal, uri, headers });
        Ok(self.known.len() - 1)
    }

    fn common(&self, route: &Route) -> Result<HeaderMap, String> {
        #[cfg(feature = "http")]
        if !self.is_grpc {
            let fields = crate::protocol::otlp_http::common(&self.user_agent, route, &[])?;
            let mut headers = HeaderMap::with_capacity(fields.len() + 3);
            for field in fields {
                append(&mut headers, field.name, field.value, field.is_secret)?;
            }
            return Ok(headers);
        }
        let mut headers = grpc::common(&self.user_agent, route)?;
        for (name, value) in &*route.headers {
            append(&mut headers, name, value, is_credential(name))?;
        }
        Ok(headers)
    }
}

/// Secrets are to stay out of the compression table, where their repetition could tell.
fn append(headers: &mut HeaderMap, name: &str, value: &str, is_secret: bool) -> Result<(), String> {
    let refuse = |what: &str| format!("the header {name:?} cannot be sent: {what}");
    let header = HeaderName::try_from(name).map_err(|_| refuse("its name is malformed"))?;
    let mut value = HeaderValue::try_from(value).map_err(|_| refuse("its value is malformed"))?;
    value.set_sensitive(is_secret);
    headers
        .try_append(header, value)
        .map_err(|_| refuse("there are too many headers"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;
    use crate::{Config, Protocol, Request};

    #[test]
    fn a_head_carries_what_grpc_asks_for() {
        let settings = Config::new()
            .with_protocol(Protocol::Grpc)
            .with_endpoint("http://[::1]:9")
            .with_header("x-tenant", "a")
            .with_header("x-tenant", "b")
            .with_header("x-api-key", "hunter2")
            .settings()
            .expect("settings that work");
        let request = Request::from_segments(Signal::Traces, 1, Vec::new())
            .with_header("x-one", "1")
            .expect("a header that works");
        let mut heads = Heads::new(settings.lane(Signal::Traces)).expect("heads");
        for _ in 0..2 {
            let head = heads
                .of(
                    &settings.outgoing(&request, Instant::ZERO),
                    Duration::from_secs(10),
                )
                .expect("a head");
            assert_eq!(
                head.uri().to_string(),
                "http://[::1]:9/opentelemetry.proto.collector.trace.v1.TraceService/Export"
            );
            let header = |name: &str| {
                let values: Vec<_> = head.headers().get_all(name).iter().collect();
                values
                    .iter()
                    .map(|v| v.to_str().expect("text"))
                    .collect::<Vec<_>>()
                    .join(",")
            };
            assert_eq!(header("te"), "trailers", "spec 43");
            assert_eq!(header("content-type"), "application/grpc", "spec 43");
            assert!(
                header("user-agent").starts_with("OTel-OTLP-Exporter-Rust/"),
                "spec 42"
            );
            assert_eq!(header("x-tenant"), "a,b");
            assert_eq!(header("x-one"), "1");
            let is_secret = |name: &str| head.headers()[name].is_sensitive();
            assert!(is_secret("x-api-key") && !is_secret("x-tenant"));
            assert_eq!(header("grpc-timeout"), "10000000u", "spec 43");
        }
    }
}
