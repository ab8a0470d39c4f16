//! One connection of the collector, sans-IO: TLS where there is any, then HTTP/1.1 or HTTP/2, whichever the client speaks.

mod base;
mod frames;
mod framing;
mod head;
mod http1;
mod http2;
mod pipe;
mod speech;
#[cfg(feature = "tls")]
mod tls;

use super::builder::Settings;
use super::call::HttpVersion;
use super::inbox::Inbox;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::vec::Vec;
use base::Base;
use core::fmt;
use http1::Http1;
use http2::Http2;

/// The server's side of one connection, without I/O.
///
/// Call one of [`handle_input`](Self::handle_input), [`handle_eof`](Self::handle_eof),
/// [`handle_timeout`](Self::handle_timeout) and [`drain`](Self::drain), then take [`poll_transmit`](Self::poll_transmit)
/// until it gives `None`, look at [`fate`](Self::fate), and wait for input or for
/// [`poll_timeout`](Self::poll_timeout).
///
/// Hold input and timeouts back while much of what was transmitted is unwritten: the session answers these and nothing
/// else, so that its memory is bounded by that.
///
/// The first bytes tell the version: those of a client that begins with HTTP/2's preface are answered with HTTP/2, all
/// others with HTTP/1.1. Before them the session is silent, unless ALPN has chosen `h2`.
pub struct ServerSession {
    base: Base,
    #[cfg(feature = "tls")]
    tls: Option<tls::Tls>,
    stage: Stage,
    /// Whether a drain was asked for before the version was known.
    is_draining: bool,
    /// Where the connection itself has ended, its stage apart.
    end: Ending,
    /// Whether TLS has been told of the end.
    is_closed: bool,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Open,
    /// It is over: close it in order once everything transmitted is written.
    Closed,
    /// Tear it down at once.
    Aborted,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Not yet.
    Open,
    /// In order.
    Closed,
    /// As if in order, in the middle of an answer: without TLS's close_notify.
    Cut,
    /// Torn down.
    Aborted,
}

enum Stage {
    /// Too little has come to tell the version.
    Sniffing(Vec<u8>),
    Http1(Box<Http1>),
    Http2(Box<Http2>),
}

/// What every client of HTTP/2 says first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl ServerSession {
    pub(super) fn new(number: u64, settings: Settings, inbox: Inbox) -> Self {
        inbox.open_connection(number);
        let end = Ending::Open;
        #[cfg(feature = "tls")]
        let (tls, end) = match settings.tls.clone().map(tls::Tls::new).transpose() {
            Ok(tls) => (tls, end),
            Err(error) => {
                inbox.fail_tls(number, &error);
                (None, Ending::Closed)
            }
        };
        Self {
            base: Base {
                number,
                settings,
                inbox,
                received: 0,
            },
            #[cfg(feature = "tls")]
            tls,
            stage: Stage::Sniffing(Vec::new()),
            is_draining: false,
            end,
            is_closed: false,
        }
    }

    /// Takes bytes from the client; none is a way to let a new session say its first words.
    pub fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return self.handle_tls(now, bytes);
        }
        self.handle_plain(now, bytes);
        self.settle();
    }

    /// The client will send nothing more.
    pub fn handle_eof(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Sniffing(_) => self.end(Ending::Closed),
            Stage::Http1(http1) => http1.handle_eof(&mut self.base, now),
            Stage::Http2(http2) => http2.handle_eof(&mut self.base, now),
        }
        self.settle();
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Sniffing(_) => {}
            Stage::Http1(http1) => http1.handle_timeout(&mut self.base, now),
            Stage::Http2(http2) => http2.handle_timeout(&mut self.base, now),
        }
        self.settle();
    }

    /// Begins a graceful shutdown: two GOAWAY frames on HTTP/2, `Connection: close` on HTTP/1.1; calls under way end well.
    pub fn drain(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Sniffing(_) => self.is_draining = true,
            Stage::Http1(http1) => http1.drain(&self.base),
            Stage::Http2(http2) => http2.drain(&mut self.base, now),
        }
        self.settle();
    }

    /// Bytes for the client, in order.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            // Writing to memory does not fail.
            let bytes = tls.take_egress().unwrap_or_default();
            return (!bytes.is_empty()).then_some(bytes);
        }
        self.has_plain_egress().then(|| self.take_plain_egress())
    }

    /// When the next delayed answer, or piece of one, is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Sniffing(_) => None,
            Stage::Http1(http1) => http1.poll_timeout(),
            Stage::Http2(http2) => http2.poll_timeout(),
        }
    }

    /// What is to become of the connection.
    pub fn fate(&self) -> Fate {
        match self.ending() {
            Ending::Open => Fate::Open,
            Ending::Closed | Ending::Cut => Fate::Closed,
            Ending::Aborted => Fate::Aborted,
        }
    }

    fn handle_plain(&mut self, now: Instant, bytes: &[u8]) {
        if self.ending() != Ending::Open {
            return;
        }
        match &mut self.stage {
            Stage::Sniffing(begun) => {
                begun.extend_from_slice(bytes);
                let begun = core::mem::take(begun);
                self.sniff(now, begun);
            }
            Stage::Http1(http1) => http1.handle_input(&mut self.base, now, bytes),
            Stage::Http2(http2) => http2.handle_input(&mut self.base, now, bytes),
        }
    }

    /// Tells the version by the first bytes and hands them on.
    fn sniff(&mut self, now: Instant, begun: Vec<u8>) {
        let compared = begun.len().min(PREFACE.len());
        if begun[..compared] != PREFACE[..compared] {
            self.begin_http1();
        } else if compared == PREFACE.len() {
            self.begin_http2();
        } else {
            self.stage = Stage::Sniffing(begun);
            return;
        }
        self.handle_plain(now, &begun);
    }

    fn begin_http1(&mut self) {
        self.base.is_version(HttpVersion::Http1);
        self.stage = Stage::Http1(Box::new(Http1::new(self.is_draining)));
    }

    fn begin_http2(&mut self) {
        self.base.is_version(HttpVersion::Http2);
        self.stage = Stage::Http2(Box::new(Http2::new(&self.base, self.is_draining)));
    }

    #[cfg(feature = "tls")]
    fn handle_tls(&mut self, now: Instant, bytes: &[u8]) {
        let Some(tls) = &mut self.tls else { return };
        let was_agreed = tls.agreed().is_some();
        let mut plain = Vec::new();
        let read = tls.read(bytes, &mut plain);
        let is_closed = tls.is_closed();
        let agreed = if was_agreed { None } else { tls.agreed() };
        if let Some(agreed) = agreed {
            if self.end == Ending::Open && matches!(self.stage, Stage::Sniffing(_)) {
                match agreed.alpn.as_deref() {
                    Some("h2") => {
                        self.begin_http2();
                        // HTTP/2 begins with the server's settings, whether the client has spoken or not.
                        self.handle_plain(now, &[]);
                    }
                    Some("http/1.1") => self.begin_http1(),
                    _ => {}
                }
            }
            self.base
                .inbox
                .update_connection(self.base.number, |record| record.tls = Some(agreed));
        }
        if !plain.is_empty() {
            self.handle_plain(now, &plain);
        }
        match read {
            Err(error) => {
                self.base.inbox.fail_tls(self.base.number, &error);
                self.handle_eof(now);
                self.end(Ending::Closed);
            }
            Ok(()) if is_closed => self.handle_eof(now),
            Ok(()) => {}
        }
        self.settle();
    }

    /// Passes on to TLS, and to the records, what the stage has come to.
    fn settle(&mut self) {
        let ending = self.ending();
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            let plain = self.take_plain_egress();
            if let Some(tls) = &mut self.tls {
                tls.write(&plain);
                if ending == Ending::Closed && !self.is_closed {
                    tls.close();
                }
            }
        }
        if ending != Ending::Open && !self.is_closed {
            self.is_closed = true;
            let keep = self.base.settings.keep_requests;
            self.base.inbox.close_connection(self.base.number, keep);
        }
    }

    fn ending(&self) -> Ending {
        if self.end != Ending::Open {
            return self.end;
        }
        match &self.stage {
            Stage::Sniffing(_) => Ending::Open,
            Stage::Http1(http1) => http1.end(),
            Stage::Http2(http2) => http2.end(),
        }
    }

    fn end(&mut self, end: Ending) {
        if self.end == Ending::Open {
            self.end = end;
        }
    }

    fn has_plain_egress(&self) -> bool {
        match &self.stage {
            Stage::Sniffing(_) => false,
            Stage::Http1(http1) => http1.has_egress(),
            Stage::Http2(http2) => http2.has_egress(),
        }
    }

    fn take_plain_egress(&mut self) -> Vec<u8> {
        match &mut self.stage {
            Stage::Sniffing(_) => Vec::new(),
            Stage::Http1(http1) => http1.take_egress(),
            Stage::Http2(http2) => http2.take_egress(),
        }
    }

    fn calls(&self) -> usize {
        match &self.stage {
            Stage::Sniffing(_) => 0,
            Stage::Http1(http1) => http1.calls(),
            Stage::Http2(http2) => http2.calls(),
        }
    }
}

/// A session that is dropped takes its connection with it.
impl Drop for ServerSession {
    fn drop(&mut self) {
        if !self.is_closed {
            let keep = self.base.settings.keep_requests;
            self.base.inbox.close_connection(self.base.number, keep);
        }
    }
}

impl fmt::Debug for ServerSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSession")
            .field("number", &self.base.number)
            .field("calls", &self.calls())
            .field("received", &self.base.received)
            .field("fate", &self.fate())
            .finish_non_exhaustive()
    }
}
