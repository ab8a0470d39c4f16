//! The connection of the engine: the way to the collector stage by stage, then the protocol that its lane asks for.
//!
//! ```text
//!            proxy?             https?
//!   opened ──────────> Tunnel ─────────> Handshake ──(ALPN)──> Secure
//!     │                  └───(http)────────────────────────┐
//!     └──────────(http, no proxy)────────────────────────> Plain
//!
//!   any stage ──(refused, broken, out of time)──> Over
//! ```
//!
//! Nothing of an export leaves before the last stage. A lane that asks for TLS gets it or nothing.

mod inner;

use self::inner::{Inner, Version, inner};
#[cfg(any(feature = "http", feature = "http2"))]
use super::proxy::Tunnel;
#[cfg(feature = "tls")]
use super::tls::{Read, Secured};
use super::{CallEnd, CallId, Connection, Event, Failure, Outgoing, Peer, sealed};
use crate::config::Lane;
use crate::endpoint::Scheme;
use crate::time::Instant;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

/// One connection to a collector.
///
/// The lane's connect timeout bounds what comes before the first call: the proxy and the handshake of TLS together. A
/// connection that is refused for a reason that no other attempt can mend says so ([`Event::Refused`]): a certificate that
/// is not good, a peer without TLS, a proxy that wants other credentials.
///
/// TLS reads the settings' files when a connection is opened, in [`open`](Connection::open); see `Tls`.
pub struct Session {
    stage: Stage,
    /// Bytes of a stage that is over which the socket has not been heard of.
    foreign: usize,
    /// Bytes for the socket of a stage that is over.
    outbox: VecDeque<Bytes>,
    events: VecDeque<Event>,
    /// Why the peer took no call, once it is known that it took none.
    refusal: Option<Failure>,
    /// The time of the last fact, for what turns up while bytes are taken.
    #[cfg(feature = "tls")]
    now: Instant,
}

enum Stage {
    /// A proxy is asked for a way to the collector.
    #[cfg(any(feature = "http", feature = "http2"))]
    Tunnel(Box<Tunnel>, Opening),
    /// The connection is being secured.
    #[cfg(feature = "tls")]
    Handshake(Box<Secured>, Opening),
    /// Under TLS.
    #[cfg(feature = "tls")]
    Secure(Box<Secured>, Inner),
    /// In plain text.
    Plain(Inner),
    /// It never came to a protocol.
    Over,
}

/// What the stages after the present one are made with.
struct Opening {
    lane: Box<Lane>,
    /// When the opening has had its time.
    until: Instant,
}

impl sealed::Sealed for Session {}

impl Connection for Session {
    fn open(lane: &Lane, now: Instant) -> Result<Self, String> {
        let mut session = Self {
            stage: Stage::Over,
            foreign: 0,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            refusal: None,
            #[cfg(feature = "tls")]
            now,
        };
        #[cfg(any(feature = "http", feature = "http2"))]
        if let Some(proxy) = &lane.proxy {
            let tunnel = Tunnel::new(lane, proxy)?;
            session.stage = Stage::Tunnel(Box::new(tunnel), Opening::new(lane, now));
            return Ok(session);
        }
        session.approach(lane, now, None)?;
        Ok(session)
    }

    fn can_start(&self) -> bool {
        match self.inner() {
            Some(inner) => self.refusal.is_none() && inner!(inner, inner => inner.can_start()),
            None => false,
        }
    }

    fn is_draining(&self) -> bool {
        match self.inner() {
            Some(inner) => self.refusal.is_some() || inner!(inner, inner => inner.is_draining()),
            None => matches!(self.stage, Stage::Over),
        }
    }

    /// Before the protocol is known: whether it may be one that is.
    fn is_multiplexed(&self) -> bool {
        match (self.inner(), self.opening()) {
            (Some(inner), _) => inner!(inner, inner => inner.is_multiplexed()),
            (None, Some(opening)) => opening.may_multiplex(),
            (None, None) => false,
        }
    }

    fn peer(&self) -> Peer {
        let peer = Peer {
            http: self.inner().map(Inner::version),
            ..Peer::default()
        };
        #[cfg(feature = "tls")]
        if let Stage::Secure(tls, _) = &self.stage {
            return Peer {
                tls: tls.version(),
                alpn: tls.alpn().and_then(known_alpn),
                ..peer
            };
        }
        peer
    }

    fn start(&mut self, now: Instant, call: CallId, outgoing: &Outgoing<'_>) -> Result<(), Failure> {
        self.note(now);
        match self.inner_mut() {
            Some(inner) => inner!(inner, inner => inner.start(now, call, outgoing)),
            None => Err(Failure::retryable("the connection is not open")),
        }
    }

    fn cancel(&mut self, now: Instant, call: CallId) -> bool {
        let holds_back = self.holds_back();
        match self.inner_mut() {
            Some(inner) => inner!(inner, inner => inner.cancel(now, call)) && !holds_back,
            None => false,
        }
    }

    fn handle_input(&mut self, now: Instant, bytes: &[u8]) {
        self.take_input(now, bytes, false);
    }

    fn handle_early_input(&mut self, now: Instant, bytes: &[u8]) -> bool {
        self.take_input(now, bytes, true)
    }

    fn handle_sent(&mut self, now: Instant, count: usize) {
        self.note(now);
        let foreign = count.min(self.foreign);
        self.foreign -= foreign;
        let count = count - foreign;
        if count == 0 {
            return;
        }
        match &mut self.stage {
            #[cfg(feature = "tls")]
            Stage::Handshake(tls, _) => {
                tls.handle_sent(count);
            }
            #[cfg(feature = "tls")]
            Stage::Secure(tls, inner) => {
                let plain = tls.handle_sent(count);
                if plain > 0 {
                    inner!(inner, inner => inner.handle_sent(now, plain));
                }
            }
            Stage::Plain(inner) => inner!(inner, inner => inner.handle_sent(now, count)),
            _ => {}
        }
    }

    fn handle_eof(&mut self, now: Instant, reason: &str) {
        match &mut self.stage {
            #[cfg(any(feature = "http", feature = "http2"))]
            Stage::Tunnel(tunnel, _) => {
                let failure = tunnel.unanswered(reason);
                self.end_opening(failure);
            }
            #[cfg(feature = "tls")]
            Stage::Handshake(tls, _) => {
                let failure = tls.unfinished(reason);
                self.end_opening(failure);
            }
            #[cfg(feature = "tls")]
            Stage::Secure(_, inner) => {
                let reason = Secured::truncated(reason);
                inner!(inner, inner => inner.handle_eof(now, &reason));
            }
            Stage::Plain(inner) => inner!(inner, inner => inner.handle_eof(now, reason)),
            Stage::Over => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.opening().is_some_and(|opening| opening.until <= now) {
            return self.handle_eof(now, "it took longer than the connect timeout");
        }
        if let Some(inner) = self.inner_mut() {
            inner!(inner, inner => inner.handle_timeout(now));
        }
    }

    fn poll_transmit(&mut self) -> Option<Vec<Bytes>> {
        if let Some(bytes) = self.outbox.pop_front() {
            return Some(vec![bytes]);
        }
        match &mut self.stage {
            #[cfg(any(feature = "http", feature = "http2"))]
            Stage::Tunnel(tunnel, _) => {
                let request = tunnel.poll_transmit()?;
                self.foreign += request.len();
                Some(vec![request])
            }
            #[cfg(feature = "tls")]
            Stage::Handshake(..) | Stage::Secure(..) => self.transmit_secured(),
            Stage::Plain(inner) => inner!(inner, inner => inner.poll_transmit()),
            Stage::Over => None,
        }
    }

    fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let holds_back = self.holds_back();
        let event = self.inner_mut()?.poll_event()?;
        #[cfg(feature = "tls")]
        if let (Stage::Secure(tls, _), Event::Closed(_)) = (&mut self.stage, &event) {
            tls.close();
        }
        Some(match (event, &self.refusal) {
            // What the peer never admitted it did not process, whatever was sent to it.
            (Event::Ended(call, CallEnd::Unprocessed(_) | CallEnd::Unanswered(_)), Some(refusal)) => {
                Event::Ended(call, CallEnd::Unprocessed(refusal.clone()))
            }
            // The end of the request waits to be encrypted, and the connection is over with its one call.
            (Event::Ended(call, CallEnd::Expired { .. }), _) if holds_back => {
                Event::Ended(call, CallEnd::Expired { sent: false })
            }
            (Event::Ended(call, CallEnd::Unanswered(failure)), _) if holds_back => {
                Event::Ended(call, CallEnd::Unprocessed(failure))
            }
            (Event::Closed(_), Some(refusal)) => Event::Refused(refusal.message.clone()),
            (event, _) => event,
        })
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match (self.opening(), self.inner()) {
            (Some(opening), _) => Some(opening.until),
            (None, Some(inner)) => inner!(inner, inner => inner.poll_timeout()),
            (None, None) => None,
        }
    }
}

impl Session {
    /// Goes on to the collector itself: the way there is open.
    fn approach(&mut self, lane: &Lane, now: Instant, until: Option<Instant>) -> Result<(), String> {
        let _ = until;
        if lane.endpoint.scheme() == Scheme::Http {
            self.stage = Stage::Plain(Inner::open(Version::plain(lane), lane, now)?);
            return Ok(());
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &lane.tls {
            let (secured, warning) = Secured::open(tls, lane)?;
            self.events.extend(warning.map(Event::Warned));
            let mut opening = Opening::new(lane, now);
            opening.until = until.unwrap_or(opening.until);
            self.stage = Stage::Handshake(Box::new(secured), opening);
            return Ok(());
        }
        Err("the connection cannot be secured, and plain text is no substitute".to_owned())
    }

    /// The proxy has opened the way; `rest` came through it.
    #[cfg(any(feature = "http", feature = "http2"))]
    fn pass_proxy(&mut self, now: Instant, rest: &[u8]) {
        let Stage::Tunnel(_, opening) = core::mem::replace(&mut self.stage, Stage::Over) else {
            return;
        };
        match self.approach(&opening.lane, now, Some(opening.until)) {
            Ok(()) if rest.is_empty() => {}
            Ok(()) => self.handle_input(now, rest),
            Err(why) => self.end_opening(Failure::retryable(why)),
        }
    }

    /// The connection ends before it came to a protocol.
    #[cfg(any(feature = "http", feature = "http2", feature = "tls"))]
    fn end_opening(&mut self, failure: Failure) {
        #[cfg(feature = "tls")]
        if let Stage::Handshake(tls, _) = &mut self.stage {
            // The alert that tells the peer why.
            while let Ok(Some(bytes)) = tls.poll_transmit() {
                self.outbox.push_back(bytes);
            }
        }
        self.stage = Stage::Over;
        self.events.push_back(if failure.is_retryable {
            Event::Closed(failure.message)
        } else {
            Event::Refused(failure.message)
        });
    }

    /// Takes bytes of the socket; `is_early`, and what comes back, as in
    /// [`handle_early_input`](Connection::handle_early_input).
    fn take_input(&mut self, now: Instant, bytes: &[u8], is_early: bool) -> bool {
        self.note(now);
        match &mut self.stage {
            #[cfg(any(feature = "http", feature = "http2"))]
            Stage::Tunnel(tunnel, _) => match tunnel.handle_input(bytes) {
                Ok(None) => {}
                Ok(Some(rest)) => self.pass_proxy(now, &rest),
                Err(failure) => self.end_opening(failure),
            },
            #[cfg(feature = "tls")]
            Stage::Handshake(..) | Stage::Secure(..) => return self.read_secured(now, bytes, is_early),
            Stage::Plain(inner) => return inner.handle_input(now, bytes, is_early),
            Stage::Over => {}
        }
        false
    }

    /// Whether the end of the one request under way has not left TLS.
    fn holds_back(&self) -> bool {
        match &self.stage {
            #[cfg(feature = "tls")]
            Stage::Secure(tls, inner) => tls.holds_back() && !inner!(inner, inner => inner.is_multiplexed()),
            _ => false,
        }
    }

    /// Notes the time of a fact.
    fn note(&mut self, now: Instant) {
        let _ = now;
        #[cfg(feature = "tls")]
        {
            self.now = now;
        }
    }

    fn inner(&self) -> Option<&Inner> {
        match &self.stage {
            #[cfg(feature = "tls")]
            Stage::Secure(_, inner) => Some(inner),
            Stage::Plain(inner) => Some(inner),
            _ => None,
        }
    }

    fn inner_mut(&mut self) -> Option<&mut Inner> {
        match &mut self.stage {
            #[cfg(feature = "tls")]
            Stage::Secure(_, inner) => Some(inner),
            Stage::Plain(inner) => Some(inner),
            _ => None,
        }
    }

    fn opening(&self) -> Option<&Opening> {
        match &self.stage {
            #[cfg(any(feature = "http", feature = "http2"))]
            Stage::Tunnel(_, opening) => Some(opening),
            #[cfg(feature = "tls")]
            Stage::Handshake(_, opening) => Some(opening),
            _ => None,
        }
    }
}

/// A protocol of ALPN that this side may have asked for.
#[cfg(feature = "tls")]
fn known_alpn(alpn: &[u8]) -> Option<&'static str> {
    match alpn {
        b"h2" => Some("h2"),
        b"http/1.1" => Some("http/1.1"),
        _ => None,
    }
}

#[cfg(feature = "tls")]
impl Session {
    /// Takes bytes of a connection under TLS, or on the way there.
    fn read_secured(&mut self, now: Instant, mut bytes: &[u8], is_early: bool) -> bool {
        let mut is_refused = false;
        while !bytes.is_empty() {
            let (Stage::Handshake(tls, _) | Stage::Secure(tls, _)) = &mut self.stage else {
                return is_refused;
            };
            let read = tls.read(&mut bytes);
            if read.is_ok() && matches!(self.stage, Stage::Handshake(..)) {
                self.finish_handshake(now);
            }
            if let Stage::Secure(tls, inner) = &mut self.stage {
                tls.plaintext(|piece| is_refused |= inner.handle_input(now, piece, is_early));
            }
            match (read, &mut self.stage) {
                (Ok(Read::Some), _) => {}
                (Ok(Read::End), Stage::Secure(_, inner)) => {
                    // What may still come is nothing of the peer's.
                    inner!(inner, inner => inner.handle_eof(now, "the collector closed the connection"));
                    return is_refused;
                }
                (Ok(Read::End), _) => {
                    self.handle_eof(now, "the collector closed the connection");
                    return is_refused;
                }
                (Err(failure), Stage::Secure(tls, inner)) => {
                    let words = failure.message.clone();
                    // A client certificate is judged after our side of the handshake is done, and before the peer says
                    // anything (RFC 8446, section 4.4.2.4).
                    if !failure.is_retryable && !tls.is_heard() {
                        self.refusal = Some(failure);
                    }
                    inner!(inner, inner => inner.handle_eof(now, &words));
                    return is_refused;
                }
                (Err(failure), _) => {
                    self.end_opening(failure);
                    return is_refused;
                }
            }
        }
        is_refused
    }

    /// Opens the protocol once the handshake is done.
    fn finish_handshake(&mut self, now: Instant) {
        let Stage::Handshake(tls, opening) = &self.stage else {
            return;
        };
        if tls.is_handshaking() {
            return;
        }
        let Some(version) = Version::negotiated(&opening.lane, tls.alpn()) else {
            let failure = tls.no_protocol();
            return self.end_opening(failure);
        };
        match Inner::open(version, &opening.lane, now) {
            Ok(inner) => {
                if let Stage::Handshake(tls, _) = core::mem::replace(&mut self.stage, Stage::Over) {
                    self.stage = Stage::Secure(tls, inner);
                }
            }
            Err(why) => self.end_opening(Failure::fatal(why)),
        }
    }

    fn transmit_secured(&mut self) -> Option<Vec<Bytes>> {
        if let Stage::Secure(tls, inner) = &mut self.stage {
            while tls.has_room() {
                match inner!(inner, inner => inner.poll_transmit()) {
                    Some(pieces) => tls.queue(pieces),
                    None => break,
                }
            }
        }
        let (Stage::Handshake(tls, _) | Stage::Secure(tls, _)) = &mut self.stage else {
            return None;
        };
        match tls.poll_transmit() {
            Ok(bytes) => bytes.map(|bytes| vec![bytes]),
            Err(failure) => {
                self.handle_eof(self.now, &failure.message);
                None
            }
        }
    }
}

impl Opening {
    #[cfg(any(feature = "http", feature = "http2", feature = "tls"))]
    fn new(lane: &Lane, now: Instant) -> Self {
        Self {
            lane: Box::new(lane.clone()),
            until: now + lane.connect_timeout,
        }
    }

    fn may_multiplex(&self) -> bool {
        self.lane.is_grpc || (self.lane.endpoint.scheme() == Scheme::Https && cfg!(feature = "http2"))
    }
}
