//! The head of a request, as text.

use crate::config::{Lane, Route};
use crate::encode::Signal;
use crate::protocol::Outgoing;
use crate::protocol::otlp_http::{self, Field};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// What the heads of the requests on one connection have in common, made once a signal.
pub(super) struct Heads {
    authority: String,
    user_agent: Arc<str>,
    known: Vec<(Signal, Bytes)>,
}

impl Heads {
    pub(super) fn new(lane: &Lane) -> Self {
        Self {
            authority: otlp_http::authority(lane).into(),
            user_agent: lane.user_agent.clone(),
            known: Vec::new(),
        }
    }

    /// The head of a request: what the requests of its route share, then what is its own, up to the empty line.
    ///
    /// # Errors
    ///
    /// In words, when the path or a header cannot stand in it.
    pub(super) fn of(&mut self, outgoing: &Outgoing<'_>) -> Result<[Bytes; 2], String> {
        let shared = self.shared(outgoing)?;
        let mut own = Vec::with_capacity(48);
        for field in otlp_http::own(outgoing) {
            write(&mut own, &field?);
        }
        own.extend_from_slice(format!("content-length: {}\r\n\r\n", outgoing.body.len()).as_bytes());
        Ok([shared, own.into()])
    }

    fn shared(&mut self, outgoing: &Outgoing<'_>) -> Result<Bytes, String> {
        let (route, signal) = (outgoing.route, outgoing.request.signal());
        let replaces =
            |(name, _): &(String, String)| outgoing.credentials.iter().any(|(known, _)| known == name);
        if route.headers.iter().any(replaces) {
            return self.render(route, outgoing.credentials);
        }
        if let Some((_, head)) = self.known.iter().find(|(known, _)| *known == signal) {
            return Ok(head.clone());
        }
        let head = self.render(route, &[])?;
        self.known.push((signal, head.clone()));
        Ok(head)
    }

    fn render(&self, route: &Route, credentials: &[(String, String)]) -> Result<Bytes, String> {
        let path = &*route.path;
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("the path {path:?} cannot stand in a request"));
        }
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: {}\r\n", self.authority).into_bytes();
        for field in otlp_http::common(&self.user_agent, route, credentials)? {
            write(&mut head, &field);
        }
        Ok(head.into())
    }
}

fn write(head: &mut Vec<u8>, field: &Field<'_>) {
    for part in [field.name, ": ", field.value, "\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
}
