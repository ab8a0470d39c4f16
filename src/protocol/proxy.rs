//! The way through an HTTP proxy (RFC 9110, section 9.3.6, "CONNECT").
//!
//! Owns the request for a tunnel and the reading of its answer. Knows nothing of what goes through the tunnel: no header,
//! credential or byte of an export is told to the proxy, which learns the collector's host and port.

use super::Failure;
use crate::config::{Lane, Proxy};
use crate::endpoint::Host;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt::Write;
use core::net::SocketAddr;

/// Bytes of one head of the proxy's answer.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Lines of one head.
const HEADERS_MAX: usize = 64;

/// Interim answers (1xx) before the answer itself.
const INTERIM_MAX: u32 = 8;

/// Characters of the proxy's reason that an error quotes.
const REASON_CHARS_MAX: usize = 80;

/// A tunnel on its way.
///
/// It sends one request, reads one answer, and is then either open or refused for good.
pub(super) struct Tunnel {
    /// The proxy, as an error names it.
    name: String,
    request: Option<Bytes>,
    head: Vec<u8>,
    interim: u32,
}

impl Tunnel {
    /// Asks `proxy` for a way to the lane's endpoint.
    ///
    /// # Errors
    ///
    /// In words, when the endpoint is none that a proxy can connect to.
    pub(super) fn new(lane: &Lane, proxy: &Proxy) -> Result<Self, String> {
        let Some(authority) = authority(lane.endpoint.host(), lane.endpoint.port()) else {
            return Err("a proxy cannot connect to a Unix socket; leave the proxy out".to_owned());
        };
        let mut request = format!(
            "CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: {}\r\n",
            lane.user_agent
        );
        if let Some(authorization) = &proxy.authorization {
            if authorization.bytes().any(|byte| byte.is_ascii_control()) {
                return Err("the credentials for the proxy hold control characters".to_owned());
            }
            request += "proxy-authorization: ";
            request += authorization;
            request += "\r\n";
        }
        request += "\r\n";
        Ok(Self {
            name: authority_of(proxy),
            request: Some(request.into()),
            head: Vec::new(),
            interim: 0,
        })
    }

    /// The request, once.
    pub(super) fn poll_transmit(&mut self) -> Option<Bytes> {
        self.request.take()
    }

    /// Takes bytes of the proxy's answer. Once the tunnel is open: the bytes that came through it already, most often none.
    ///
    /// # Errors
    ///
    /// The proxy refused, or does not speak HTTP.
    pub(super) fn handle_input(&mut self, mut bytes: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(HEAD_BYTES_MAX - self.head.len()));
            self.head.extend_from_slice(now);
            bytes = later;
            while let Some((len, status, reason)) = self.parse()? {
                self.head.drain(..len);
                match status {
                    // No upgrade was asked for, so that 101 is no interim answer to this request.
                    100 | 102..=199 if self.interim < INTERIM_MAX => self.interim += 1,
                    // A length in its head means nothing: what follows is the tunnel.
                    200..=299 => {
                        let mut rest = core::mem::take(&mut self.head);
                        rest.extend_from_slice(bytes);
                        return Ok(Some(rest));
                    }
                    _ => return Err(self.refused(status, &reason)),
                }
            }
            if self.head.len() == HEAD_BYTES_MAX {
                return Err(Failure::fatal(format!(
                    "the proxy {} answered with a head of more than {HEAD_BYTES_MAX} bytes; check that it is an HTTP proxy",
                    self.name
                )));
            }
        }
        Ok(None)
    }

    /// What to say when the proxy has closed the connection, or has had its time.
    pub(super) fn unanswered(&self, why: &str) -> Failure {
        Failure::retryable(format!(
            "the proxy {} did not answer the request for a tunnel: {why}; check that it is an HTTP proxy and that it \
             reaches the collector",
            self.name
        ))
    }

    /// The length of a head, its status and its reason; `None` while it is not whole.
    fn parse(&self) -> Result<Option<(usize, u16, String)>, Failure> {
        if self.head.is_empty() {
            return Ok(None);
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&self.head) {
            Ok(httparse::Status::Complete(len)) => {
                let reason = quoted(response.reason.unwrap_or_default());
                Ok(Some((len, response.code.unwrap_or_default(), reason)))
            }
            Ok(httparse::Status::Partial) => Ok(None),
            Err(error) => Err(Failure::fatal(format!(
                "the proxy {} answered with what is no HTTP ({error}); check that it is an HTTP proxy",
                self.name
            ))),
        }
    }

    /// Whether a proxy may think otherwise later is what its status says (RFC 9110, section 15): it does not know the way
    /// (502, 504), is overloaded (429, 503) or slow (408). A redirect is not followed.
    fn refused(&self, status: u16, reason: &str) -> Failure {
        let advice = match status {
            407 => "check the credentials for the proxy",
            401 | 403 => "check that the proxy lets this host connect to the collector",
            405 | 501 => "the proxy does not offer CONNECT; name another",
            300..=399 => "redirects are not followed; name the proxy that answers",
            500..=599 => "check that the proxy reaches the collector",
            _ => "check the proxy's log",
        };
        let separator = if reason.is_empty() { "" } else { " " };
        Failure {
            message: format!(
                "the proxy {} answered HTTP {status}{separator}{reason} to the request for a tunnel; {advice}",
                self.name
            ),
            is_retryable: matches!(status, 408 | 425 | 429 | 500 | 502..=504 | 100..=199),
        }
    }
}

/// `host:port`, with an address of IPv6 in brackets; `None` for a Unix socket.
fn authority(host: &Host, port: u16) -> Option<String> {
    match host {
        Host::Name(name) => Some(format!("{name}:{port}")),
        Host::Ip(ip) => Some(format!("{}", SocketAddr::new(*ip, port))),
        Host::Unix(_) => None,
    }
}

/// The proxy as an error names it, without its credentials.
fn authority_of(proxy: &Proxy) -> String {
    match &proxy.host {
        Host::Unix(path) => format!("unix:{path}"),
        host => authority(host, proxy.port).unwrap_or_default(),
    }
}

/// A peer's words, short and without what would upset a terminal.
fn quoted(words: &str) -> String {
    let mut quoted = String::new();
    for character in words.chars().take(REASON_CHARS_MAX) {
        let _ = quoted.write_char(if character.is_control() { '.' } else { character });
    }
    quoted
}

#[cfg(test)]
mod tests;
