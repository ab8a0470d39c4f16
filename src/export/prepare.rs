//! What is done to a request before it is sent: splitting, JSON, compression. It takes time and is done outside every lock.

use crate::coding;
use crate::config::{Compression, Protocol, Route, Settings};
#[cfg(feature = "json")]
use crate::encode::json;
use crate::encode::{Body, Request, Signal, split};
use crate::error::{Error, Kind};
use crate::outcome::{DropReason, ItemCounts};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The smallest size that is learned from refusals.
pub(crate) const CAP_BYTES_MIN: usize = 4 << 10;

/// Makes requests ready for an engine. Clones share what the engine learns about the collectors.
#[derive(Clone)]
pub(crate) struct Preparer {
    settings: Arc<Settings>,
    caps: Arc<Caps>,
}

/// The sizes that collectors were found to take, by [`Signal::index`]; each signal has one destination.
struct Caps([AtomicUsize; Signal::ALL.len()]);

/// A request that is ready to be sent.
pub(crate) struct Prepared {
    /// As it was given.
    pub(crate) request: Request,
    pub(crate) parts: Parts,
}

/// What a request became.
pub(crate) enum Parts {
    /// One part, the request itself.
    One(Part),
    /// Any number, some of which may be refused.
    Many(Vec<Result<Part, Refused>>),
}

/// A request of one call, with what is sent of it.
pub(crate) struct Part {
    request: Request,
    /// What goes on the wire.
    body: Body,
    /// The length of that before compression.
    plain_len: usize,
}

/// A part that is not sent.
pub(crate) struct Refused {
    pub(crate) request: Request,
    pub(crate) error: Error,
}

impl Preparer {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        let max = settings.request_bytes_max;
        Self {
            settings,
            caps: Arc::new(Caps(Signal::ALL.map(|_| AtomicUsize::new(max)))),
        }
    }

    /// The largest request of a signal that is made: the setting, or less where the collector refused that.
    pub(crate) fn request_bytes_max(&self, signal: Signal) -> usize {
        self.caps.0[signal.index()].load(Ordering::Relaxed)
    }

    /// Whether a signal goes out over gRPC, and the largest request of it that is worth gathering: of more than the memory
    /// limit none is taken, and a quarter leaves room for what is made of it for the wire, and for others beside it.
    #[cfg(feature = "std")]
    pub(crate) fn limits(&self, signal: Signal) -> (bool, usize) {
        let is_grpc = self.settings.route(signal).protocol == Protocol::Grpc;
        let held_max = (self.settings.memory_limit_bytes / 4).max(1);
        (is_grpc, self.request_bytes_max(signal).min(held_max))
    }

    /// The time of an export of a signal, with its retries.
    #[cfg(feature = "opentelemetry_0_33")]
    pub(crate) fn timeout(&self, signal: Signal) -> core::time::Duration {
        self.settings.route(signal).timeout
    }

    /// The collector takes no more than so many bytes of a signal.
    pub(crate) fn learn(&self, signal: Signal, bytes_max: usize) {
        let bytes_max = bytes_max.max(CAP_BYTES_MIN);
        self.caps.0[signal.index()].fetch_min(bytes_max, Ordering::Relaxed);
    }

    /// Whether [`prepare`](Self::prepare) has work to do, which may take long.
    #[cfg(feature = "std")]
    pub(crate) fn has_work(&self, request: &Request) -> bool {
        !self.is_ready(request, self.request_bytes_max(request.signal()))
    }

    /// Makes a request ready. One that is to be sent as it is costs no allocation.
    pub(crate) fn prepare(&self, request: Request) -> Prepared {
        let bytes_max = self.request_bytes_max(request.signal());
        let parts = if self.is_ready(&request, bytes_max) {
            Parts::One(Part::plain(request.clone()))
        } else {
            Parts::Many(self.make(&request, bytes_max))
        };
        Prepared { request, parts }
    }

    /// Whether it is sent as it is, or refused.
    fn is_ready(&self, request: &Request, bytes_max: usize) -> bool {
        let route = self.settings.route(request.signal());
        let len = request.encoded_len();
        let is_plain = route.protocol != Protocol::HttpJson && route.compression == Compression::None;
        let is_hopeless = len > self.settings.memory_limit_bytes || request.is_empty();
        is_hopeless || (is_plain && len <= bytes_max)
    }

    /// Parts of a request of at most `bytes_max` bytes each, or of a single record. What the engine has learned splits, but
    /// only what the setting forbids is refused.
    pub(crate) fn make(&self, request: &Request, bytes_max: usize) -> Vec<Result<Part, Refused>> {
        let route = self.settings.route(request.signal());
        let bytes_max = match route.protocol {
            // JSON is at least twice as long as a rule: what would only be found out to be too long is not written.
            Protocol::HttpJson => bytes_max.min(self.settings.request_bytes_max / 2),
            _ => bytes_max,
        };
        let mut made = Vec::new();
        let mut open = Vec::from([(request.clone(), bytes_max)]);
        while let Some((request, bytes_max)) = open.pop() {
            for piece in pieces(&request, bytes_max) {
                match self.make_one(piece) {
                    Made::Done(part) => made.push(part),
                    // Its JSON is longer than the setting allows: smaller ones may not be.
                    Made::Smaller(piece, bytes_max) => open.push((piece, bytes_max)),
                }
            }
        }
        made
    }

    fn make_one(&self, request: Request) -> Made {
        let route = self.settings.route(request.signal());
        let max = self.settings.request_bytes_max;
        if request.encoded_len() > max {
            return Made::Done(Err(too_large(request, max, route)));
        }
        let plain = match written(&request, route, max) {
            Ok(plain) => plain,
            Err(error) => {
                let error = dropped(error, &request, DropReason::NotRetryable, route);
                return Made::Done(Err(Refused { request, error }));
            }
        };
        let plain = match plain {
            Ok(plain) => plain,
            Err(plain_len) => {
                let scaled = scaled(max, request.encoded_len(), plain_len).min(request.encoded_len() - 1);
                return match is_divisible(&request, scaled) {
                    true => Made::Smaller(request, scaled),
                    false => Made::Done(Err(too_large(request, max, route))),
                };
            }
        };
        let plain_len = plain.len();
        Made::Done(Ok(Part {
            body: coding::compress(route.compression, &plain),
            request,
            plain_len,
        }))
    }
}

enum Made {
    Done(Result<Part, Refused>),
    /// To be split to this size.
    Smaller(Request, usize),
}

impl Part {
    /// A request that is sent as it is.
    pub(crate) fn plain(request: Request) -> Self {
        Self {
            body: request.body().clone(),
            plain_len: request.encoded_len(),
            request,
        }
    }

    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    pub(crate) fn body(&self) -> &Body {
        &self.body
    }

    /// What counts against the memory limit: the message, and what was made of it for the wire.
    pub(crate) fn held_bytes(&self) -> usize {
        let message = self.request.encoded_len();
        let made = if self.body.is_same(self.request.body()) {
            0
        } else {
            self.body.len()
        };
        message + made
    }

    /// A size on the wire, as the peer counts it, as a size of encoded messages like this one. A peer counts before or after
    /// compression, which shows where it names the size that it saw.
    pub(crate) fn encoded_size(&self, wire: u64, seen: Option<u64>) -> usize {
        let seen = seen.and_then(|seen| usize::try_from(seen).ok());
        let seen = match seen {
            Some(seen) if seen == self.body.len() => seen,
            _ => self.plain_len,
        };
        scaled(
            usize::try_from(wire).unwrap_or(usize::MAX),
            self.request.encoded_len(),
            seen,
        )
    }
}

impl Prepared {
    /// What counts against the memory limit.
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.parts {
            Parts::One(part) => part.held_bytes(),
            Parts::Many(parts) => parts.iter().flatten().map(Part::held_bytes).sum(),
        }
    }
}

/// The message in the form of its route, not compressed, or its length where that is more than `bytes_max`. A form that is
/// not built in is refused with the configuration.
#[cfg_attr(
    not(feature = "json"),
    allow(unused_variables, reason = "only JSON is longer than the request")
)]
fn written(request: &Request, route: &Route, bytes_max: usize) -> Result<Result<Body, usize>, Error> {
    match route.protocol {
        #[cfg(feature = "json")]
        Protocol::HttpJson => json::from_wire(request.signal(), request.body(), bytes_max),
        _ => Ok(Ok(request.body().clone())),
    }
}

/// `value × to ÷ from`, rounded down.
fn scaled(value: usize, to: usize, from: usize) -> usize {
    let scaled = value as u128 * to as u128 / from.max(1) as u128;
    usize::try_from(scaled).unwrap_or(usize::MAX)
}

/// The pieces of a request of at most so many bytes each, or of one record. A request that cannot be taken apart without
/// losing count of its items stays whole.
fn pieces(request: &Request, bytes_max: usize) -> Vec<Request> {
    if request.encoded_len() <= bytes_max {
        return Vec::from([request.clone()]);
    }
    let pieces: Vec<Request> = split::split(request, bytes_max)
        .into_iter()
        .map(|piece| match piece {
            split::Part::Fits(piece) | split::Part::TooLarge(piece) => piece,
        })
        .collect();
    let items: u64 = pieces.iter().map(Request::items).sum();
    if items == request.items() && !pieces.iter().any(Request::is_empty) {
        pieces
    } else {
        Vec::from([request.clone()])
    }
}

fn is_divisible(request: &Request, bytes_max: usize) -> bool {
    request.items() > 1 && pieces(request, bytes_max).len() > 1
}

fn too_large(request: Request, max: usize, route: &Route) -> Refused {
    let text = format!(
        "a record of {} bytes is larger by itself than the {max} bytes that a request may have; make it smaller, or raise \
         with_request_limit",
        request.encoded_len()
    );
    let error = Error::new(Kind::TooLarge, text);
    Refused {
        error: dropped(error, &request, DropReason::TooLarge, route),
        request,
    }
}

/// The error of a request that is not sent.
fn dropped(error: Error, request: &Request, reason: DropReason, route: &Route) -> Error {
    let counts = ItemCounts {
        dropped: request.items(),
        ..ItemCounts::default()
    };
    error
        .with_counts(counts)
        .with_drop_reason(reason)
        .with_endpoint(route.endpoint_name.clone())
}
