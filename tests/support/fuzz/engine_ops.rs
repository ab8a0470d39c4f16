//! Arbitrary facts against the engine, checked by a small model that knows what the peer did and nothing of how the
//! engine works.
//!
//! After every fact: each export has one outcome at most and in time, its items are where the peer's behaviour puts
//! them, no request is sent twice at a time or earlier than its backoff allows, the account agrees with the outcomes,
//! and the work is bounded.

#[path = "engine_watch.rs"]
mod engine_watch;

use bytes::Bytes;
use engine_watch::Watch;
use otlp_embed::encode::Signal;
use otlp_embed::export::{Action, ConnId, Engine, ExportId, ExportState, Fact};
use otlp_embed::testing::{Command, Frame, Scripted};
use otlp_embed::time::Instant;
use otlp_embed::{Code, Config, DropReason, Error, Outcome, Request, Stats};
use std::collections::BTreeMap;
use std::time::Duration;

const MEMORY_LIMIT: usize = 1_500;
const TIMEOUT: Duration = Duration::from_secs(10);
/// The shortest wait that the default policy knows.
const WAIT_MIN: Duration = Duration::from_millis(100);
const OPS_MAX: usize = 2_000;
const HEADER: usize = 8;

/// Plays the bytes.
///
/// # Panics
///
/// Where the engine and the model disagree.
pub fn run(data: &[u8]) {
    play(data);
}

/// Plays the bytes and gives back the account at the end, so that a test can tell that something happened.
#[allow(dead_code)]
pub fn play(data: &[u8]) -> Stats {
    let mut input = Reader(data);
    let setup = input.byte();
    let mut model = Model::new(setup, u64::from(input.byte()));
    for _ in 0..OPS_MAX {
        if input.0.is_empty() {
            break;
        }
        model.step(&mut input);
    }
    model.finish();
    model.engine.stats()
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// The next byte, 0 once there is none.
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(b, rest)| (*b, rest));
        self.0 = rest;
        first
    }

    /// An index into a list, one of the last few as a rule: they are the interesting ones.
    fn recent(&mut self, len: usize, few: usize) -> Option<usize> {
        let byte = usize::from(self.byte());
        let few = if byte < 240 { few.min(len) } else { len };
        (len > 0).then(|| len - 1 - byte % few)
    }
}

struct Model {
    watch: Watch,
    engine: Engine<Scripted>,
    /// Signals go two ways.
    has_lanes: bool,
    /// Connections carry one call after the other.
    is_serial: bool,
    /// Connections that facts are mostly about: the last so many.
    few: usize,
    now: Instant,
    is_shut: bool,
    ids: Vec<ConnId>,
    wires: Vec<Wire>,
    exports: Vec<Export>,
    by_id: BTreeMap<ExportId, usize>,
    duplicates: u64,
    /// What the next outcome of an export must say, where the peer or the caller has decided it.
    decided: BTreeMap<usize, Decided>,
}

#[derive(Default)]
struct Wire {
    calls: Vec<Call>,
    queued: u64,
    sent: u64,
    is_closed: bool,
    is_draining: bool,
    is_answered: bool,
    /// The rest of a command of which the peer has sent the beginning.
    rest: Option<(Vec<u8>, Command)>,
}

struct Call {
    export: usize,
    end: u64,
    is_live: bool,
}

struct Export {
    id: ExportId,
    items: u64,
    deadline: Instant,
    /// Some attempt was sent whole and never answered.
    is_silent: bool,
    live: Option<(usize, usize)>,
    not_before: Instant,
    is_settled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Decided {
    Success { rejected: u64 },
    Rejected,
    Cancelled,
    Shutdown,
    MemoryLimit,
    Empty,
    Fatal,
}

impl Model {
    fn new(setup: u8, seed: u64) -> Self {
        let mut config = Config::new()
            .with_protocol(otlp_embed::Protocol::Grpc)
            .with_memory_limit(MEMORY_LIMIT)
            .with_timeout(TIMEOUT);
        config = match setup & 3 {
            0 => config.with_endpoint("http://collector:4317"),
            1 => config.with_endpoint("http://[::1]:4317"),
            _ => config
                .with_addresses(["10.0.0.1:1", "[::1]:2", "10.0.0.3:3"].map(|a| a.parse().expect("valid"))),
        };
        if setup & 4 != 0 {
            config = config.with_header("scripted-lazy", "1");
        }
        if setup & 8 != 0 {
            config = config.with_header("scripted-limit", "2");
        }
        if setup & 16 != 0 {
            let mut policy = otlp_embed::policy::RetryPolicy::default();
            policy.attempts_max = 2;
            config = config.with_retry_policy(policy);
        }
        let (has_lanes, is_serial) = (setup & 32 != 0, setup & 64 != 0);
        if is_serial {
            config = config.with_header("scripted-serial", "1");
        }
        let mut settings = config.settings().expect("the settings work");
        settings.lanes[0].is_grpc = !is_serial;
        if setup & 128 != 0 {
            // Longer than a call may last, so that what drains is not piled up.
            settings.lanes[0].max_connection_age = Some(TIMEOUT * 6 / 5);
        }
        if has_lanes {
            let mut lane = settings.lanes[0].clone();
            // What it can do shows only once it is open.
            lane.is_grpc = true;
            lane.endpoint_name = "http://second:4317".into();
            settings.lanes.push(lane);
            settings.routes[1..].iter_mut().for_each(|route| route.lane = 1);
        }
        let mut engine = Engine::with_settings(settings, seed);
        Self {
            watch: Watch::new(seed, &mut engine),
            engine,
            has_lanes,
            is_serial,
            few: if has_lanes || is_serial { 6 } else { 2 },
            now: Instant::from_millis(5_000),
            is_shut: false,
            ids: Vec::new(),
            wires: Vec::new(),
            exports: Vec::new(),
            by_id: BTreeMap::new(),
            duplicates: 0,
            decided: BTreeMap::new(),
        }
    }

    fn step(&mut self, input: &mut Reader<'_>) {
        let op = input.byte();
        let arg = input.byte();
        match op % 16 {
            0 | 1 => self.submit(input, arg),
            2 | 3 => self.on_wire(input, |id, _| Fact::Connected(id)),
            4 => self.on_wire(input, |id, _| Fact::ConnectFailed(id, "refused")),
            5 => {
                let all =
                    ["[::1]:1", "[::2]:1", "10.0.0.1:1", "10.0.0.2:1"].map(|a| a.parse().expect("valid"));
                self.on_wire(input, |id, _| Fact::Resolved(id, &all[..usize::from(arg % 5)]));
            }
            6 => self.on_wire(input, |id, _| Fact::ResolveFailed(id, "no such host")),
            7 | 8 => self.sent(input, arg),
            9..=11 => self.say(input, arg),
            12 => {
                let passed = Duration::from_millis(u64::from(arg) * 7);
                self.now = self.now + passed;
                self.fact(Fact::Timeout);
            }
            13 => {
                if let Some(at) = self.engine.poll_timeout() {
                    self.now = self.now.max(at);
                }
                self.fact(Fact::Timeout);
            }
            14 => self.cancel(input),
            _ => self.rare(input, arg),
        }
    }

    fn rare(&mut self, input: &mut Reader<'_>, arg: u8) {
        match arg {
            0..=99 => self.gone(input, Fact::Eof),
            100..=199 => self.gone(input, |id| Fact::Failed(id, "reset by peer")),
            // A clock that stands still or runs backwards.
            200..=229 => {
                let now = core::mem::replace(&mut self.now, Instant::ZERO);
                self.engine.handle(self.now, Fact::Timeout);
                self.now = now;
                self.after();
            }
            230..=250 => self.on_wire(input, |id, wire| match wire.is_closed {
                true => Fact::Input(id, b"late"),
                false => Fact::Timeout,
            }),
            251..=254 => self.fact(Fact::Timeout),
            255 => {
                for (at, export) in self.exports.iter().enumerate() {
                    if !export.is_settled {
                        self.decided.entry(at).or_insert(Decided::Shutdown);
                    }
                }
                self.is_shut = true;
                self.fact(Fact::Shutdown);
            }
        }
    }

    fn submit(&mut self, input: &mut Reader<'_>, arg: u8) {
        let serial = self.exports.len();
        let items = u64::from(arg % 8);
        let len = HEADER + usize::from(input.byte()) * usize::from(arg >> 6);
        let mut body = (serial as u64).to_le_bytes().to_vec();
        body.resize(len, b'.');
        let signal = if self.has_lanes {
            Signal::ALL[usize::from(arg >> 4) & 3]
        } else {
            Signal::Traces
        };
        let cut = body.len() / 2;
        let (head, tail) = (
            Bytes::from(body[..cut].to_vec()),
            Bytes::from(body[cut..].to_vec()),
        );
        let mut request = Request::from_segments(signal, items, vec![head, tail]);
        let mut timeout = TIMEOUT;
        if arg & 8 != 0 {
            timeout = Duration::from_millis(u64::from(input.byte()) * 10);
            request = request.with_timeout(timeout);
        }
        let held = self.engine.stats().bytes_in_flight as usize;
        if self.is_shut {
            self.decided.insert(serial, Decided::Shutdown);
        } else if len > MEMORY_LIMIT - held {
            self.decided.insert(serial, Decided::MemoryLimit);
        } else if items == 0 {
            self.decided.insert(serial, Decided::Empty);
        }
        let id = self.engine.submit(self.now, request);
        self.by_id.insert(id, serial);
        self.exports.push(Export {
            id,
            items,
            deadline: self.now + timeout,
            is_silent: false,
            live: None,
            not_before: Instant::ZERO,
            is_settled: false,
        });
        assert_eq!(self.engine.deadline(id), Some(self.now + timeout));
        self.after();
    }

    fn cancel(&mut self, input: &mut Reader<'_>) {
        let Some(at) = input.recent(self.exports.len(), 8) else {
            return;
        };
        if !self.exports[at].is_settled {
            self.decided.insert(at, Decided::Cancelled);
        }
        self.fact(Fact::Cancel(self.exports[at].id));
    }

    fn on_wire<'f>(&mut self, input: &mut Reader<'_>, fact: impl FnOnce(ConnId, &Wire) -> Fact<'f>) {
        if let Some(at) = input.recent(self.ids.len(), self.few) {
            let fact = fact(self.ids[at], &self.wires[at]);
            self.fact(fact);
        }
    }

    fn gone(&mut self, input: &mut Reader<'_>, fact: impl FnOnce(ConnId) -> Fact<'static>) {
        let Some(at) = input.recent(self.ids.len(), self.few) else {
            return;
        };
        self.end_all(at);
        self.fact(fact(self.ids[at]));
    }

    fn sent(&mut self, input: &mut Reader<'_>, arg: u8) {
        let Some(at) = input.recent(self.ids.len(), self.few) else {
            return;
        };
        let count = if arg >= 128 { usize::MAX } else { usize::from(arg) };
        let wire = &mut self.wires[at];
        wire.sent = wire.sent.saturating_add(count as u64).min(wire.queued);
        self.fact(Fact::Sent(self.ids[at], count));
    }

    /// The peer says something on an open connection.
    fn say(&mut self, input: &mut Reader<'_>, arg: u8) {
        let Some(at) = input.recent(self.ids.len(), self.few) else {
            return;
        };
        if let Some((rest, command)) = self.wires[at].rest.take() {
            return self.deliver(at, &rest, command);
        }
        // The peer only speaks of calls that it has heard of.
        let number = input.recent(self.wires[at].calls.len(), 4);
        let call = number.map(|number| u16::try_from(number).expect("few calls"));
        let draining = self
            .wires
            .iter()
            .filter(|w| w.is_draining && !w.is_closed)
            .count();
        let command = match (arg % 16, call) {
            (0..=5, Some(call)) => Command::ok(call),
            (6, Some(call)) => Command::Answer {
                call,
                code: 0,
                rejected: u32::from(input.byte()),
                retry_after_ms: 0,
            },
            (7 | 8, Some(call)) => Command::Answer {
                call,
                code: input.byte() % 20,
                rejected: 0,
                retry_after_ms: u32::from(input.byte()) * 10,
            },
            (9, Some(call)) => Command::Refuse {
                call,
                is_retryable: arg & 16 != 0,
            },
            (10, Some(call)) => Command::Reset {
                call,
                is_retryable: arg & 16 != 0,
            },
            (11, _) => Command::Limit(u32::from(input.byte() % 4)),
            (12, _) if draining < 4 => Command::Drain(u16::from(input.byte() % 8)),
            (13, _) => Command::Die,
            (14, _) => Command::Hold,
            _ => Command::Go,
        };
        let bytes = command.encode();
        if arg & 32 != 0 && !self.wires[at].is_closed {
            let cut = usize::from(arg >> 6) + 1;
            self.wires[at].rest = Some((bytes[cut..].to_vec(), command));
            // Before the connection is open, the engine ignores the bytes; then the rest must not come either.
            if self.wires[at].calls.is_empty() {
                self.wires[at].rest = None;
                return;
            }
            return self.fact(Fact::Input(self.ids[at], &bytes[..cut]));
        }
        self.deliver(at, &bytes, command);
    }

    fn deliver(&mut self, at: usize, bytes: &[u8], command: Command) {
        self.learn(at, command);
        self.fact(Fact::Input(self.ids[at], bytes));
    }

    /// What a command means for the calls of its connection.
    fn learn(&mut self, at: usize, command: Command) {
        let live = |model: &Self, call: u16| {
            let call = usize::from(call);
            let found = model.wires[at].calls.get(call).filter(|c| c.is_live);
            found.map(|found| (call, found.export))
        };
        match command {
            Command::Answer {
                call,
                code,
                rejected,
                retry_after_ms,
            } => {
                let Some((call, export)) = live(self, call) else {
                    return;
                };
                self.book_duplicate(export);
                self.close_call(at, call);
                self.wires[at].is_answered = true;
                let code = Code::from_u32(code.into());
                if code == Code::OK {
                    let rejected = u64::from(rejected).min(self.exports[export].items);
                    self.decided.insert(export, Decided::Success { rejected });
                } else if !otlp_embed::policy::is_retryable(code, retry_after_ms > 0) {
                    self.decided.insert(export, Decided::Rejected);
                } else {
                    let hint = Duration::from_millis(retry_after_ms.into());
                    self.exports[export].not_before = self.now + hint.max(WAIT_MIN);
                }
            }
            Command::Refuse { call, is_retryable } => {
                let Some((call, export)) = live(self, call) else {
                    return;
                };
                self.close_call(at, call);
                if !is_retryable {
                    self.decided.insert(export, Decided::Fatal);
                }
            }
            Command::Reset { call, is_retryable } => {
                let Some((call, export)) = live(self, call) else {
                    return;
                };
                self.end_gone(at, call);
                if !is_retryable {
                    self.decided.insert(export, Decided::Fatal);
                }
            }
            Command::Drain(first) => {
                self.wires[at].is_draining = true;
                for call in usize::from(first)..self.wires[at].calls.len() {
                    self.close_call(at, call);
                }
            }
            Command::Die => self.end_all(at),
            Command::TooLarge { .. } => unreachable!("the peer of this model never says so"),
            Command::Limit(_) | Command::Hold | Command::Go => {}
        }
    }

    /// A connection ends, and every call on it without an answer.
    fn end_all(&mut self, at: usize) {
        let is_stale = self.is_serial && self.wires[at].is_answered;
        for call in 0..self.wires[at].calls.len() {
            let Call { export, is_live, .. } = self.wires[at].calls[call];
            self.end_gone(at, call);
            if is_stale && is_live {
                // The peer may have closed it before the call: that is resent at once.
                self.exports[export].not_before = self.now;
            }
        }
    }

    /// A call ends without an answer.
    fn end_gone(&mut self, at: usize, call: usize) {
        let Call { export, end, is_live } = self.wires[at].calls[call];
        if !is_live {
            return;
        }
        if end <= self.wires[at].sent {
            self.book_duplicate(export);
            self.exports[export].is_silent = true;
            self.exports[export].not_before = self.now + WAIT_MIN;
        }
        self.close_call(at, call);
    }

    fn close_call(&mut self, at: usize, call: usize) {
        let call = &mut self.wires[at].calls[call];
        if core::mem::take(&mut call.is_live) {
            self.exports[call.export].live = None;
        }
    }

    fn book_duplicate(&mut self, export: usize) {
        if self.exports[export].is_silent {
            self.duplicates += self.exports[export].items;
        }
    }

    fn fact(&mut self, fact: Fact<'_>) {
        self.engine.handle(self.now, fact);
        self.after();
        let late = self.engine.next_deadline().filter(|due| due.at <= self.now);
        assert_eq!(late, None, "a timer that is due has not fired");
    }

    fn after(&mut self) {
        let mut actions = Vec::new();
        while let Some(action) = self.engine.poll_action() {
            actions.push(action);
        }
        let live = self.exports.iter().filter(|export| !export.is_settled).count();
        let bound = 8 + 6 * (live + self.wires.len());
        assert!(
            actions.len() <= bound,
            "{} actions, {bound} at most",
            actions.len()
        );
        for action in actions {
            self.act(action);
        }
        while let Some((id, outcome)) = self.engine.poll_outcome() {
            self.settle(id, outcome);
        }
        self.check();
        self.watch.check(&mut self.engine, self.now);
    }

    fn act(&mut self, action: Action) {
        let (Action::Resolve(id, _) | Action::Connect(id, _) | Action::Transmit(id, _) | Action::Close(id)) =
            action
        else {
            panic!("an unknown action");
        };
        let at = self.ids.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.ids.push(id);
            self.wires.push(Wire::default());
            self.ids.len() - 1
        });
        assert!(!self.wires[at].is_closed, "an action on a closed connection");
        match action {
            Action::Transmit(_, pieces) => self.read_frames(at, &pieces.concat()),
            Action::Close(_) => self.wires[at].is_closed = true,
            _ => {}
        }
    }

    fn read_frames(&mut self, at: usize, mut bytes: &[u8]) {
        while let Some(frame) = Frame::decode(bytes) {
            bytes = &bytes[Frame::LEN..];
            match frame {
                Frame::Call(number, len) => {
                    let body = &bytes[..len as usize];
                    bytes = &bytes[len as usize..];
                    let wire = &mut self.wires[at];
                    wire.queued += Frame::LEN as u64 + u64::from(len);
                    let serial = body.first_chunk::<HEADER>().expect("a serial number");
                    let serial = usize::try_from(u64::from_le_bytes(*serial)).expect("a small number");
                    let call = Call {
                        export: serial,
                        end: wire.queued,
                        is_live: true,
                    };
                    let number = usize::from(number);
                    // A call that was held back and cancelled leaves a gap.
                    while wire.calls.len() < number {
                        wire.calls.push(Call {
                            export: serial,
                            end: u64::MAX,
                            is_live: false,
                        });
                    }
                    if number == wire.calls.len() {
                        wire.calls.push(call);
                    } else {
                        assert_eq!(wire.calls[number].end, u64::MAX, "a call number is used twice");
                        wire.calls[number] = call;
                    }
                    let export = &mut self.exports[serial];
                    assert_eq!(export.live, None, "a request is under way twice");
                    assert!(!export.is_settled, "a settled request is sent");
                    assert!(self.now < export.deadline, "a request is sent after its deadline");
                    assert!(
                        self.now >= export.not_before,
                        "a request is sent before its backoff"
                    );
                    export.live = Some((at, number));
                }
                Frame::Credentials(_, _) => panic!("nobody has credentials"),
                Frame::Cancel(number) => {
                    self.wires[at].queued += Frame::LEN as u64;
                    let _ = number;
                }
            }
        }
        assert!(bytes.is_empty(), "bytes that are no frame");
    }

    fn settle(&mut self, id: ExportId, outcome: Result<Outcome, Error>) {
        let serial = self.by_id.remove(&id).expect("one outcome an export");
        // A call that the engine ended itself.
        if let Some((at, call)) = self.exports[serial].live {
            self.end_gone(at, call);
        }
        let export = &mut self.exports[serial];
        export.is_settled = true;
        let items = export.items;
        let decided = self.decided.remove(&serial);
        let (counts, reason) = match &outcome {
            Ok(outcome) => (outcome.counts(), None),
            Err(error) => (error.counts(), error.drop_reason()),
        };
        assert_eq!(counts.total(), items, "all items have a place: {outcome:?}");
        match (decided, &outcome) {
            (Some(Decided::Success { rejected }), Ok(outcome)) => {
                assert_eq!(
                    (outcome.rejected(), outcome.delivered()),
                    (rejected, items - rejected)
                );
                return;
            }
            (Some(Decided::Empty), Ok(_)) => return,
            (Some(Decided::Rejected), Err(_)) => {
                assert_eq!(counts.rejected, items);
                return;
            }
            (Some(Decided::Success { .. } | Decided::Empty | Decided::Rejected), _) | (_, Ok(_)) => {
                panic!("{decided:?} became {outcome:?}")
            }
            (_, Err(error)) => {
                assert_eq!(
                    error.is_cancelled(),
                    decided == Some(Decided::Cancelled),
                    "{error}"
                );
                assert_eq!(error.is_shutdown(), decided == Some(Decided::Shutdown), "{error}");
                if error.is_timeout() {
                    assert!(export.deadline <= self.now, "{error} before the deadline");
                }
            }
        }
        if export.is_silent {
            assert_eq!((counts.unknown, reason), (items, None), "{outcome:?}");
            return;
        }
        assert_eq!(counts.dropped, items, "{outcome:?}");
        let expected: &[DropReason] = match decided {
            Some(Decided::Cancelled) => &[DropReason::Cancelled],
            Some(Decided::Shutdown) => &[DropReason::Shutdown],
            Some(Decided::MemoryLimit) => &[DropReason::MemoryLimit],
            Some(Decided::Fatal) => &[DropReason::NotRetryable],
            _ => &[DropReason::Deadline, DropReason::Attempts],
        };
        let is_expected = reason.is_some_and(|reason| expected.contains(&reason));
        assert!(is_expected || (items == 0 && reason.is_none()), "{outcome:?}");
    }

    fn check(&self) {
        let stats = self.engine.stats();
        assert!(stats.is_conserved(), "{stats:?}");
        let live = || self.exports.iter().filter(|export| !export.is_settled);
        assert_eq!(stats.exports_in_flight, live().count() as u64);
        assert_eq!(stats.in_flight, live().map(|export| export.items).sum::<u64>());
        assert_eq!(stats.possible_duplicates, self.duplicates);
        assert!(stats.bytes_in_flight <= MEMORY_LIMIT as u64);
        assert!(self.decided.is_empty(), "not settled: {:?}", self.decided);
        for export in live() {
            assert!(export.deadline > self.now, "a deadline was missed");
            let state = self.engine.state(export.id);
            let is_sent = export
                .live
                .is_some_and(|(at, call)| self.wires[at].calls[call].end <= self.wires[at].sent);
            match state {
                Some(ExportState::WaitingResponse) => assert!(is_sent),
                Some(ExportState::Sending) => assert!(!is_sent),
                Some(ExportState::Init | ExportState::Connecting) => assert_eq!(export.live, None),
                Some(ExportState::Done) | None => panic!("an export is done without an outcome"),
            }
        }
        for wire in self.wires.iter().filter(|wire| wire.is_closed) {
            assert!(
                wire.calls.iter().all(|call| !call.is_live),
                "a connection is closed under a call"
            );
        }
        let open = self.wires.iter().filter(|wire| !wire.is_closed).count();
        let lanes = if self.has_lanes { 2 } else { 1 };
        let usable = if self.is_serial { 4 } else { 1 };
        assert!(open <= lanes * (usable + 17), "{open} connections");
    }

    /// Whatever happened, every export has its verdict once its time is over.
    fn finish(&mut self) {
        for _ in 0..100_000 {
            match self.engine.poll_timeout() {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.fact(Fact::Timeout);
                }
                None => break,
            }
        }
        assert!(self.exports.iter().all(|export| export.is_settled));
        assert!(self.engine.is_idle());
        let exports = self.exports.len() as u64;
        self.watch.finish(&mut self.engine, self.now, exports);
    }
}
