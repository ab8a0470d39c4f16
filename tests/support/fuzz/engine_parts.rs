//! Exports in parts, with credentials, against a peer that refuses sizes and values: whatever it answers, every item has
//! the place that the answers give it.

use otlp_embed::export::{
    Action, Authorization, ConnId, CredentialHeaders, Engine, ExportId, Fact, Managed, Remainder,
};
use otlp_embed::protocol::Failure;
use otlp_embed::testing::{Command, Frame, Scripted};
use otlp_embed::time::Instant;
use otlp_embed::{Code, Config, Error, ItemCounts, Outcome, Request, Resource, Signal, Stats, TraceBatch};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const OPS_MAX: usize = 1_000;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Open calls at which the peer answers before more is submitted, so that an input cannot make the model slow.
const OPEN_MAX: usize = 200;

/// Plays the bytes.
///
/// # Panics
///
/// Where the engine and the model disagree.
pub fn run(data: &[u8]) {
    play(data);
}

/// Plays the bytes and gives back the account at the end.
#[allow(dead_code)]
pub fn play(data: &[u8]) -> Stats {
    play_as(data, None).engine.stats()
}

/// As [`play`], most exports being somebody else's, who exports again what comes back: the account of the engine and that
/// somebody's at the end.
#[allow(dead_code)]
pub fn play_managed(data: &[u8]) -> (Stats, Owner) {
    let model = play_as(data, Some(Owner::default()));
    (model.engine.stats(), model.owned.expect("as it was given"))
}

fn play_as(data: &[u8], owned: Option<Owner>) -> Model {
    let mut input = data.iter().copied();
    let mut model = Model::new(input.next().unwrap_or(0), owned);
    for _ in 0..OPS_MAX {
        let Some(op) = input.next() else { break };
        model.step(op, &mut || input.next().unwrap_or(0));
    }
    model.finish();
    model
}

/// Somebody who keeps an account of his own, and what it says.
#[derive(Debug, Default)]
pub struct Owner {
    /// Items that he gave to the engine, each once.
    pub submitted: u64,
    /// Items whose fate is settled.
    pub settled: ItemCounts,
    /// Items that came back, ever.
    pub returned: u64,
    /// Exports of which a part was settled, and the rest came back.
    pub divided: u64,
    /// Items that he exports no more.
    pub given_up: u64,
    /// What came back and was not exported again.
    held: Vec<Remainder>,
}

struct Model {
    engine: Engine<Scripted>,
    has_credentials: bool,
    now: Instant,
    next_span: u64,
    exports: BTreeMap<ExportId, Export>,
    owner: BTreeMap<u64, ExportId>,
    calls: Vec<Call>,
    /// Spans of calls that are open.
    under_way: BTreeSet<u64>,
    /// Spans whose fate an answer has sealed.
    sealed: BTreeSet<u64>,
    asked: Vec<(ExportId, Authorization)>,
    conns: BTreeMap<ConnId, usize>,
    /// Items of calls that were accepted, ever.
    delivered: u64,
    /// Exports that the engine books itself and that have their outcome.
    settled: u64,
    /// Spans that were sent whole, in a call that ended without an answer.
    doubtful: BTreeSet<u64>,
    /// Items of exports that the engine books itself.
    booked: u64,
    owned: Option<Owner>,
}

struct Export {
    managed: Option<Managed>,
    items: u64,
    delivered: u64,
    rejected: u64,
    /// Items that were sent whole in a call that ended without an answer.
    doubtful: u64,
    /// From when on it may end with calls under way.
    ends: Instant,
}

impl Export {
    /// Whether its owner has another endpoint.
    fn is_single(&self) -> bool {
        self.managed.is_some_and(|managed| managed.is_single)
    }
}

struct Call {
    conn: ConnId,
    number: u16,
    export: ExportId,
    spans: Vec<u64>,
    is_open: bool,
}

/// What else came out of the engine and waits for its turn.
enum Answer {
    Connected(ConnId),
    Sent(ConnId, usize),
}

impl Model {
    fn new(setup: u8, owned: Option<Owner>) -> Self {
        let has_credentials = setup & 1 != 0;
        let mut config = Config::new()
            .with_protocol(otlp_embed::Protocol::Grpc)
            .with_timeout(TIMEOUT)
            .with_endpoint("http://127.0.0.1:4317");
        if has_credentials {
            config = config.with_credentials(|| String::from("not asked"));
        }
        if setup & 2 != 0 {
            config = config.with_retry_policy(otlp_embed::policy::RetryPolicy::never());
        }
        let mut settings = config.settings().expect("the settings work");
        settings.request_bytes_max = [64 << 20, 20_000, 3_000, 700][usize::from(setup >> 2) % 4];
        if setup & 16 != 0 {
            settings.memory_limit_bytes = 30_000;
        }
        Self {
            engine: Engine::with_settings(settings, u64::from(setup)),
            has_credentials,
            now: Instant::from_millis(1_000),
            next_span: 1,
            exports: BTreeMap::new(),
            owner: BTreeMap::new(),
            calls: Vec::new(),
            under_way: BTreeSet::new(),
            sealed: BTreeSet::new(),
            asked: Vec::new(),
            conns: BTreeMap::new(),
            delivered: 0,
            settled: 0,
            doubtful: BTreeSet::new(),
            booked: 0,
            owned,
        }
    }

    fn step(&mut self, op: u8, byte: &mut impl FnMut() -> u8) {
        match op % 16 {
            0 | 1 if self.under_way.len() < OPEN_MAX => {
                let (count, payload) = (byte() % 12, usize::from(byte()) * 20);
                let managed = match self.owned {
                    Some(_) => [None, Some(false), Some(false), Some(true)][usize::from(byte()) % 4],
                    None => None,
                };
                self.submit(count, payload, managed);
            }
            2 if self.owned.is_some() && self.under_way.len() < OPEN_MAX => self.submit_again(byte()),
            11 => {
                self.now = self.now + Duration::from_millis(u64::from(byte()) * 20);
                self.fact(Fact::Timeout);
            }
            12 => {
                self.now = self.engine.poll_timeout().map_or(self.now, |at| at.max(self.now));
                self.fact(Fact::Timeout);
            }
            13 => {
                let at = usize::from(byte()) % self.exports.len().max(1);
                if let Some((&id, export)) = self.exports.iter_mut().nth(at) {
                    export.ends = self.now;
                    self.fact(Fact::Cancel(id));
                }
            }
            14 => self.authorize(byte()),
            15 => match (byte(), self.conns.keys().next().copied()) {
                (0..=3, _) => {
                    self.exports
                        .values_mut()
                        .for_each(|export| export.ends = self.now);
                    self.fact(Fact::Shutdown);
                }
                (4..=60, Some(conn)) => {
                    for at in 0..self.calls.len() {
                        if self.calls[at].conn == conn {
                            if self.calls[at].is_open {
                                self.doubtful.extend(&self.calls[at].spans);
                            }
                            self.leave(at, false);
                        }
                    }
                    self.fact(Fact::Eof(conn));
                }
                _ => self.fact(Fact::Timeout),
            },
            op => self.answer(op, byte),
        }
    }

    /// Submits so many spans; for somebody else where it is told whether he has another endpoint.
    fn submit(&mut self, count: u8, payload: usize, managed: Option<bool>) {
        let mut batch = TraceBatch::new(&Resource::builder().attr("service.name", "shop").build());
        batch.scope("lib", "1.0");
        let payload = "x".repeat(payload);
        let first = self.next_span;
        for _ in 0..count {
            let id = self.next_span.to_be_bytes();
            self.next_span += 1;
            batch.span([1; 16], id, "work").attr("payload", &*payload).end();
        }
        let managed = managed.map(|is_single| Managed {
            unanswered: false,
            is_single,
        });
        match (&mut self.owned, managed) {
            (Some(owner), Some(_)) => owner.submitted += u64::from(count),
            _ => self.booked += u64::from(count),
        }
        let spans: Vec<u64> = (first..self.next_span).collect();
        self.export(batch.finish(), &spans, managed);
    }

    /// Exports again something of what came back, or gives it up.
    fn submit_again(&mut self, byte: u8) {
        let Some(owner) = self.owned.as_mut().filter(|owner| !owner.held.is_empty()) else {
            return;
        };
        let remainder = owner.held.swap_remove(usize::from(byte) % owner.held.len());
        if byte >= 240 {
            owner.given_up += remainder.items();
            return;
        }
        let managed = Managed {
            unanswered: remainder.unanswered,
            is_single: byte & 1 == 0,
        };
        for request in remainder.requests {
            let spans = spans_of(&request.segments().collect::<Vec<_>>().concat());
            self.export(request, &spans, Some(managed));
        }
    }

    fn export(&mut self, request: Request, spans: &[u64], managed: Option<Managed>) {
        let items = request.items();
        let id = match managed {
            Some(managed) => self.engine.submit_managed(self.now, request, managed),
            None => self.engine.submit(self.now, request),
        };
        self.owner.extend(spans.iter().map(|&span| (span, id)));
        let export = Export {
            managed,
            items,
            delivered: 0,
            rejected: 0,
            doubtful: managed.map_or(0, |managed| u64::from(managed.unanswered) * items),
            ends: self.now + TIMEOUT,
        };
        self.exports.insert(id, export);
        self.after();
    }

    /// The source of credentials answers.
    fn authorize(&mut self, byte: u8) {
        if self.asked.is_empty() {
            return;
        }
        let (id, _) = self.asked.remove(usize::from(byte) % self.asked.len());
        let headers = |value: &str| CredentialHeaders::new(vec![("x-token".into(), value.into())]);
        match byte >> 4 {
            0 => self.fact(Fact::AuthorizeFailed(id, &Failure::retryable("not yet"))),
            1 => self.fact(Fact::AuthorizeFailed(id, &Failure::fatal("never"))),
            2 => self.fact(Fact::Authorized(id, &headers("ev\nil"))),
            n => self.fact(Fact::Authorized(id, &headers(["one", "two"][usize::from(n) % 2]))),
        }
    }

    /// The peer answers one of the open calls.
    fn answer(&mut self, op: u8, byte: &mut impl FnMut() -> u8) {
        let open: Vec<usize> = (0..self.calls.len())
            .filter(|&at| self.calls[at].is_open)
            .collect();
        let Some(&at) = open.get(usize::from(byte()) % open.len().max(1)) else {
            return;
        };
        let (call, items) = (self.calls[at].number, self.calls[at].spans.len() as u64);
        let arg = byte();
        let command = match op {
            6 => Command::TooLarge {
                call,
                max: u32::from(arg) * 40 + 1,
            },
            7 => Command::TooLarge { call, max: 0 },
            8 => Command::Answer {
                call,
                code: arg % 17,
                rejected: 0,
                retry_after_ms: if arg >= 200 { 300 } else { 0 },
            },
            9 if arg & 1 == 0 => Command::Refuse {
                call,
                is_retryable: arg & 2 == 0,
            },
            9 => Command::Reset {
                call,
                is_retryable: arg & 2 == 0,
            },
            10 => Command::Answer {
                call,
                code: 0,
                rejected: arg.into(),
                retry_after_ms: 0,
            },
            _ => Command::ok(call),
        };
        match command {
            Command::Answer {
                code,
                rejected,
                retry_after_ms,
                ..
            } => {
                let code = Code::from_u32(code.into());
                let is_first_refusal = code == Code::UNAUTHENTICATED && self.has_credentials;
                let is_final =
                    !otlp_embed::policy::is_retryable(code, retry_after_ms > 0) && !is_first_refusal;
                let export = self.exports.get_mut(&self.calls[at].export).expect("not settled");
                if code == Code::OK {
                    let rejected = u64::from(rejected).min(items);
                    export.rejected += rejected;
                    export.delivered += items - rejected;
                    if export.managed.is_none() {
                        self.delivered += items - rejected;
                    }
                } else if is_final {
                    export.rejected += items;
                }
                self.leave(at, is_final);
            }
            Command::Reset { is_retryable, .. } => self.doubt(at, !is_retryable),
            // Another endpoint may take what this one does not.
            Command::Refuse { is_retryable, .. } => {
                let goes_on = self.exports[&self.calls[at].export].is_single();
                self.leave(at, !is_retryable && !goes_on);
            }
            // A single record cannot be made smaller.
            _ => self.leave(at, items == 1),
        }
        let conn = self.calls[at].conn;
        self.fact(Fact::Input(conn, &command.encode()));
    }

    /// A call ended without an answer; the socket had taken all of it.
    fn doubt(&mut self, at: usize, is_sealed: bool) {
        self.leave(at, is_sealed);
        let call = &self.calls[at];
        self.doubtful.extend(&call.spans);
        if let Some(export) = self.exports.get_mut(&call.export) {
            export.doubtful += call.spans.len() as u64;
        }
    }

    fn leave(&mut self, at: usize, is_sealed: bool) {
        let call = &mut self.calls[at];
        if core::mem::take(&mut call.is_open) {
            for span in &call.spans {
                self.under_way.remove(span);
                if is_sealed {
                    self.sealed.insert(*span);
                }
            }
        }
    }

    fn fact(&mut self, fact: Fact<'_>) {
        if let Fact::Eof(conn) = fact {
            for call in &self.calls {
                if call.conn == conn {
                    if let Some(export) = self.exports.get_mut(&call.export) {
                        export.doubtful += call.spans.len() as u64;
                    }
                }
            }
        }
        self.engine.handle(self.now, fact);
        self.after();
    }

    fn after(&mut self) {
        loop {
            let mut answers = Vec::new();
            while let Some(action) = self.engine.poll_action() {
                match action {
                    Action::Connect(conn, _) => {
                        self.conns.insert(conn, 0);
                        answers.push(Answer::Connected(conn));
                    }
                    Action::Transmit(conn, pieces) => {
                        let bytes = pieces.concat();
                        self.read_frames(conn, &bytes);
                        answers.push(Answer::Sent(conn, bytes.len()));
                    }
                    Action::Close(conn) => {
                        self.conns.remove(&conn);
                    }
                    Action::Authorize(id, authorization) => {
                        assert!(self.has_credentials, "nobody has credentials");
                        self.asked.push((id, authorization));
                    }
                    other => panic!("not part of this world: {other:?}"),
                }
            }
            while let Some((id, outcome)) = self.engine.poll_outcome() {
                self.settle(id, outcome);
            }
            self.check();
            if answers.is_empty() {
                return;
            }
            for answer in answers {
                self.engine.handle(
                    self.now,
                    match answer {
                        Answer::Connected(conn) => Fact::Connected(conn),
                        Answer::Sent(conn, count) => Fact::Sent(conn, count),
                    },
                );
            }
        }
    }

    fn read_frames(&mut self, conn: ConnId, mut bytes: &[u8]) {
        let mut credentials = None;
        while let Some(frame) = Frame::decode(bytes) {
            bytes = &bytes[Frame::LEN..];
            match frame {
                Frame::Credentials(_, len) => {
                    credentials = Some(&bytes[..len as usize]);
                    bytes = &bytes[len as usize..];
                }
                Frame::Call(number, len) => {
                    let (body, rest) = bytes.split_at(len as usize);
                    bytes = rest;
                    match credentials.take() {
                        Some(text) => assert!([&b"x-token=one"[..], b"x-token=two"].contains(&text)),
                        None => assert!(!self.has_credentials, "sent without credentials"),
                    }
                    self.call(conn, number, body);
                }
                Frame::Cancel(number) => {
                    let known = self
                        .calls
                        .iter()
                        .position(|c| (c.conn, c.number) == (conn, number));
                    let known = known.expect("a call that was made");
                    // The socket takes all of a call at once.
                    self.doubtful.extend(&self.calls[known].spans);
                    self.leave(known, false);
                }
            }
        }
        assert!(bytes.is_empty(), "bytes that are no frame");
    }

    fn call(&mut self, conn: ConnId, number: u16, body: &[u8]) {
        let max = self.engine.settings().request_bytes_max;
        assert!(body.len() <= max, "spec 2: {} of {max}", body.len());
        let spans = spans_of(body);
        assert!(!spans.is_empty(), "spec 5");
        let export = self.owner[&spans[0]];
        for span in &spans {
            assert_eq!(self.owner[span], export, "one export a request");
            assert!(!self.sealed.contains(span), "sent after its answer: {span}");
            assert!(self.under_way.insert(*span), "under way twice: {span}");
        }
        assert!(self.exports.contains_key(&export), "a settled export is sent");
        self.calls.push(Call {
            conn,
            number,
            export,
            spans,
            is_open: true,
        });
    }

    fn settle(&mut self, id: ExportId, outcome: Result<Outcome, Error>) {
        let export = self.exports.remove(&id).expect("one outcome an export");
        self.settled += 1;
        let remainder = outcome.as_ref().err().and_then(Error::remainder).cloned();
        for at in 0..self.calls.len() {
            if self.calls[at].export == id {
                if self.calls[at].is_open {
                    self.doubtful.extend(&self.calls[at].spans);
                }
                // What comes back may be sent again.
                self.leave(at, remainder.is_none());
            }
        }
        if let (Some(remainder), Err(error)) = (&remainder, &outcome) {
            self.check_remainder(id, export.is_single(), remainder, error);
        }
        self.owner.retain(|_, owner| *owner != id);
        self.calls.retain(|call| call.export != id);
        let counts = match &outcome {
            Ok(outcome) => outcome.counts(),
            Err(error) => error.counts(),
        };
        let left = remainder.as_ref().map_or(0, Remainder::items);
        assert_eq!(counts.total() + left, export.items, "{outcome:?}");
        if let (Some(owner), true) = (&mut self.owned, export.managed.is_some()) {
            owner.settled += counts;
            owner.returned += left;
            owner.divided += u64::from(left > 0 && counts.total() > 0);
            owner.held.extend(remainder);
        } else {
            assert_eq!(left, 0, "the engine keeps its own items: {outcome:?}");
        }
        assert_eq!(counts.delivered, export.delivered, "{outcome:?}");
        assert!(
            counts.rejected >= export.rejected,
            "{} of {outcome:?}",
            export.rejected
        );
        match &outcome {
            Ok(_) => {
                assert_eq!((counts.dropped, counts.unknown), (0, 0), "{outcome:?}");
                assert_eq!(counts.rejected, export.rejected, "{outcome:?}");
            }
            Err(error) => {
                let is_final = export.ends <= self.now;
                let certain = export.items - export.delivered - export.rejected;
                // What was under way when the time was over is in doubt as well.
                assert!(
                    is_final || counts.unknown <= export.doubtful.min(certain),
                    "{error:?}"
                );
            }
        }
    }

    /// What comes back is what no answer has settled, each span once.
    fn check_remainder(&mut self, id: ExportId, is_single: bool, remainder: &Remainder, error: &Error) {
        assert!(
            is_single || error.is_retryable() || error.is_cancelled() || error.is_shutdown(),
            "{error:?}"
        );
        assert_eq!(remainder.requests.len(), 1, "traces are joined");
        let request = &remainder.requests[0];
        let spans = spans_of(&request.segments().collect::<Vec<_>>().concat());
        assert_eq!(spans.len() as u64, request.items(), "{error:?}");
        assert_eq!(
            spans.iter().collect::<BTreeSet<_>>().len(),
            spans.len(),
            "{error:?}"
        );
        for span in &spans {
            assert_eq!(self.owner[span], id, "another's span");
            assert!(!self.sealed.contains(span), "settled, and came back: {span}");
        }
        let is_doubtful = spans.iter().any(|span| self.doubtful.contains(span));
        assert_eq!(remainder.unanswered, is_doubtful, "{error:?}");
        if is_doubtful {
            // The next export is told so of all of them.
            self.doubtful.extend(spans);
        }
    }

    fn check(&self) {
        let stats = self.engine.stats();
        let items = |is_managed| {
            let exports = self.exports.values();
            let exports = exports.filter(move |export| export.managed.is_some() == is_managed);
            exports.map(|export| export.items).sum::<u64>()
        };
        // Parts are settled before the whole is.
        assert!(stats.in_flight <= items(false), "{stats:?}");
        assert_eq!(stats.accepted, self.booked, "{stats:?}");
        if let Some(owner) = &self.owned {
            let held: u64 = owner.held.iter().map(Remainder::items).sum();
            let settled = owner.settled.total() + owner.given_up;
            assert_eq!(owner.submitted, settled + held + items(true), "{owner:?}");
        }
        assert!(stats.is_conserved(), "{stats:?}");
        assert_eq!(stats.exports_in_flight, self.exports.len() as u64);
        assert_eq!(stats.delivered, self.delivered);
        let metrics = self.engine.self_metrics();
        assert_eq!(metrics.in_flight(Signal::Traces), stats.in_flight);
        assert_eq!(metrics.exported(Signal::Traces), stats.delivered);
        let failed: u64 = metrics.failed(Signal::Traces).map(|(_, items)| items).sum();
        assert_eq!(failed, stats.rejected + stats.dropped_total() + stats.unknown);
        let ended: u64 = metrics.exports(Signal::Traces).map(|(_, count, _)| count).sum();
        assert_eq!(
            ended, self.settled,
            "one duration an export, however many its parts"
        );
        assert!(self.engine.settings().memory_limit_bytes as u64 + 30_000 >= stats.bytes_in_flight);
        for id in self.exports.keys() {
            assert!(self.engine.state(*id).is_some());
        }
    }

    fn finish(&mut self) {
        for _ in 0..100_000 {
            let Some(at) = self.engine.poll_timeout() else {
                break;
            };
            self.now = self.now.max(at);
            self.fact(Fact::Timeout);
        }
        assert!(self.exports.is_empty() && self.engine.is_idle());
        let stats = self.engine.stats();
        assert_eq!((stats.in_flight, stats.bytes_in_flight), (0, 0), "{stats:?}");
        if let Some(owner) = &mut self.owned {
            owner.given_up += owner.held.drain(..).map(|left| left.items()).sum::<u64>();
            assert_eq!(owner.submitted, owner.settled.total() + owner.given_up);
        }
    }
}

/// The ids of the spans of a request.
fn spans_of(body: &[u8]) -> Vec<u64> {
    let request = otlp_embed::pb::collector::ExportTraceServiceRequest::decode(body).expect("a request");
    let scopes = request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans);
    let spans = scopes.flat_map(|scope| &scope.spans);
    spans
        .map(|span| u64::from_be_bytes(span.span_id.as_slice().try_into().expect("8 bytes")))
        .collect()
}
