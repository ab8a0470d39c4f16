//! Destinations: signals that want the same one share its connections.

use super::super::header::user_agent;
use super::super::settings::{Lane, Proxy, Route};
use super::super::{CONNECT_TIMEOUT, HTTP1_CONNECTIONS_MAX, RESPONSE_BYTES_MAX};
use super::{Config, ConfigReport, Endpoint, Error};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// What makes one destination differ from another.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Without its path.
    pub endpoint: Endpoint,
    pub is_grpc: bool,
    pub addresses: Vec<SocketAddr>,
    pub proxy: Option<Proxy>,
    #[cfg(feature = "tls")]
    pub tls: Option<crate::config::Tls>,
}

/// The destinations found so far.
pub(super) struct Lanes<'a> {
    config: &'a Config,
    user_agent: Arc<str>,
    lanes: Vec<(Wanted, Lane)>,
}

impl<'a> Lanes<'a> {
    /// # Errors
    ///
    /// A misuse error where the name that the exporter is to give itself cannot stand in a request.
    pub fn new(config: &'a Config, report: &mut ConfigReport) -> Result<Self, Error> {
        let product = config.whole.user_agent.as_deref();
        let agent = user_agent(product).map_err(|why| {
            let product = product.unwrap_or_default();
            Error::config(format!("with_user_agent {product:?}: {why}"))
        })?;
        let origin = match product {
            Some(_) => "with_user_agent",
            None => "default",
        };
        report.understand(None, "user agent", agent.as_str(), origin);
        Ok(Self {
            config,
            user_agent: agent.into(),
            lanes: Vec::new(),
        })
    }

    /// The lane of a route, a new one where none is the same.
    pub fn place(&mut self, wanted: Wanted, route: &Route) -> usize {
        let known = self.lanes.iter().position(|(other, _)| *other == wanted);
        if let Some(at) = known {
            let lane = &mut self.lanes[at].1;
            if lane.headers != route.headers {
                lane.headers = Arc::new([]);
            }
            return at;
        }
        let whole = &self.config.whole;
        let lane = Lane {
            endpoint: wanted.endpoint.clone(),
            endpoint_name: format!("{}", wanted.endpoint).into(),
            is_grpc: wanted.is_grpc,
            connect_timeout: whole.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            headers: route.headers.clone(),
            addresses: wanted.addresses.clone(),
            proxy: wanted.proxy.clone(),
            keepalive: whole.keepalive,
            max_connection_age: whole.max_connection_age,
            http1_connections_max: whole.http1_connections_max.unwrap_or(HTTP1_CONNECTIONS_MAX),
            user_agent: self.user_agent.clone(),
            response_bytes_max: whole.response_bytes_max.unwrap_or(RESPONSE_BYTES_MAX),
            isolate_tracing: whole.isolate_tracing.unwrap_or(true),
            #[cfg(feature = "tls")]
            tls: wanted.tls.clone(),
        };
        self.lanes.push((wanted, lane));
        self.lanes.len() - 1
    }

    pub fn into_vec(self) -> Vec<Lane> {
        self.lanes.into_iter().map(|(_, lane)| lane).collect()
    }
}
