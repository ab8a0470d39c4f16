//! One connection of the collector that speaks HTTP/1.1 (RFC 9112), sans-IO.
//!
//! One call at a time: what the client sends before it has its answer waits, up to a limit.

use super::Ending;
use super::base::{Base, Verdict, text_fields};
use super::framing::Framing;
use super::head::{self, BodyForm, RequestHead};
use super::speech::Speech;
use crate::testing::collector::answer::{Answer, Delimited, RawAnswer};
use crate::testing::collector::call::{HttpVersion, Plan, Refusal};
use crate::testing::collector::reply;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::{Buf, BytesMut};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

/// The connection's side of the server.
pub(super) struct Http1 {
    ingress: BytesMut,
    egress: Vec<u8>,
    state: State,
    /// Calls begun, for their numbers.
    begun: u32,
    is_draining: bool,
    end: Ending,
}

enum State {
    /// Before a call.
    Head,
    /// The request is arriving.
    Body(Box<Receiving>),
    /// The answer is due later.
    Delayed {
        until: Instant,
        answer: Answer,
        turn: Turn,
    },
    /// The body of the answer is being said.
    Saying(Box<Saying>),
    /// Nothing more is said before the client goes.
    Silent,
    Over,
}

struct Receiving {
    plan: Result<Plan, Refusal>,
    headers: Vec<(String, String)>,
    framing: Framing,
    body: BytesMut,
    /// Bytes that have come of it, thrown away ones counted.
    arrived: usize,
    turn: Turn,
}

/// What the request says about its answer.
#[derive(Clone, Copy)]
struct Turn {
    plan: Option<Plan>,
    is_head_request: bool,
    closes: bool,
}

struct Saying {
    speech: Speech,
    form: BodyForm,
    trailers: Vec<(HeaderName, HeaderValue)>,
    ends: bool,
    closes: bool,
}

/// Bytes that may wait while a call is answered.
const WAITING_BYTES_MAX: usize = 1 << 20;

impl Http1 {
    pub(super) fn new(is_draining: bool) -> Self {
        Self {
            ingress: BytesMut::new(),
            egress: Vec::new(),
            state: State::Head,
            begun: 0,
            is_draining,
            end: Ending::Open,
        }
    }

    pub(super) fn handle_input(&mut self, base: &mut Base, now: Instant, bytes: &[u8]) {
        self.ingress.extend_from_slice(bytes);
        self.advance(base, now);
        let is_waiting = !matches!(self.state, State::Head | State::Body(_) | State::Over);
        if is_waiting && self.ingress.len() > WAITING_BYTES_MAX {
            self.close(base, Ending::Closed);
        }
    }

    pub(super) fn handle_eof(&mut self, base: &mut Base, now: Instant) {
        self.advance(base, now);
        self.close(base, Ending::Closed);
    }

    pub(super) fn handle_timeout(&mut self, base: &mut Base, now: Instant) {
        self.advance(base, now);
    }

    /// Ends the connection after the call under way, at once where there is none.
    pub(super) fn drain(&mut self, base: &Base) {
        self.is_draining = true;
        if matches!(self.state, State::Head) && self.ingress.is_empty() {
            self.close(base, Ending::Closed);
        }
    }

    pub(super) fn take_egress(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.egress)
    }

    pub(super) fn has_egress(&self) -> bool {
        !self.egress.is_empty()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Delayed { until, .. } => Some(*until),
            State::Saying(saying) => saying.speech.due(),
            _ => None,
        }
    }

    pub(super) fn end(&self) -> Ending {
        self.end
    }

    pub(super) fn calls(&self) -> usize {
        usize::from(!matches!(self.state, State::Head | State::Over))
    }

    fn advance(&mut self, base: &mut Base, now: Instant) {
        loop {
            let state = core::mem::replace(&mut self.state, State::Over);
            let is_stuck = match state {
                State::Head => self.read_head(base),
                State::Body(receiving) => self.read_body(base, now, receiving),
                State::Delayed { until, answer, turn } if until <= now => {
                    self.answer(base, now, answer, turn);
                    false
                }
                State::Saying(saying) => self.say(base, now, saying),
                State::Delayed { .. } | State::Silent | State::Over => {
                    self.state = state;
                    true
                }
            };
            if is_stuck {
                return;
            }
        }
    }

    /// Begins a call; tells whether more input is needed for it.
    fn read_head(&mut self, base: &mut Base) -> bool {
        match head::read(&self.ingress) {
            Ok(Some(head)) => {
                self.ingress.advance(head.bytes);
                self.begin(base, head);
                false
            }
            Ok(None) => {
                self.state = State::Head;
                true
            }
            Err(status) => {
                self.refuse_and_close(base, Refusal::Http(status), false);
                true
            }
        }
    }

    fn begin(&mut self, base: &mut Base, head: RequestHead) {
        self.begun = self.begun.saturating_add(1);
        let is_head_request = head.method == Method::HEAD;
        let (version, settings) = (HttpVersion::Http1, &base.settings);
        let plan = Plan::new(version, &head.method, &head.path, &head.fields, settings);
        let framing = match Framing::of(&head.fields) {
            Ok(framing) => framing,
            Err(status) => return self.refuse_and_close(base, Refusal::Http(status), is_head_request),
        };
        let mut plan = plan;
        if let (Ok(known), Framing::Length(length)) = (&plan, &framing) {
            if let Err(refusal) = known.check_length(*length, base.settings.message_bytes_max) {
                return self.refuse_and_close(base, refusal, is_head_request);
            }
            // A client that has a body tells how long it is (RFC 9110, section 8.6).
            if !head.fields.contains_key(header::CONTENT_LENGTH) {
                plan = Err(Refusal::Http(StatusCode::LENGTH_REQUIRED));
            }
        }
        match head.fields.get(header::EXPECT).map(HeaderValue::as_bytes) {
            None => {}
            Some(expected) if expected.eq_ignore_ascii_case(b"100-continue") => match plan {
                Ok(_) => self.egress.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"),
                // Whether the body comes after all is not known.
                Err(refusal) => return self.refuse_and_close(base, refusal, is_head_request),
            },
            Some(_) => {
                let refusal = Refusal::Http(StatusCode::EXPECTATION_FAILED);
                return self.refuse_and_close(base, refusal, is_head_request);
            }
        }
        self.state = State::Body(Box::new(Receiving {
            headers: text_fields(&head.method, &head.path, &[], &head.fields),
            turn: Turn {
                plan: plan.as_ref().ok().copied(),
                is_head_request,
                closes: head.closes,
            },
            plan,
            framing,
            body: BytesMut::new(),
            arrived: 0,
        }));
    }

    /// Goes on with the body; tells whether more input is needed for it.
    fn read_body(&mut self, base: &mut Base, now: Instant, mut receiving: Box<Receiving>) -> bool {
        let bytes_max = base.settings.message_bytes_max;
        let before = receiving.body.len();
        let is_head_request = receiving.turn.is_head_request;
        let is_over = match receiving.framing.read(&mut self.ingress, &mut receiving.body) {
            Ok(is_over) => is_over,
            Err(status) => {
                self.refuse_and_close(base, Refusal::Http(status), is_head_request);
                return true;
            }
        };
        receiving.arrived += receiving.body.len() - before;
        let size = match &receiving.plan {
            Ok(plan) => plan.check_size(&receiving.body, bytes_max),
            Err(refusal) if receiving.arrived > bytes_max => Err(refusal.clone()),
            Err(_) => {
                receiving.body.clear();
                Ok(())
            }
        };
        if let Err(refusal) = size {
            self.refuse_and_close(base, refusal, is_head_request);
            return true;
        }
        if !is_over {
            self.state = State::Body(receiving);
            return true;
        }
        self.receive(base, now, *receiving);
        false
    }

    /// Records a request that has arrived whole, and answers it.
    fn receive(&mut self, base: &mut Base, now: Instant, call: Receiving) {
        let Receiving {
            plan,
            headers,
            body,
            turn,
            ..
        } = call;
        let read = plan.and_then(|plan| {
            let arrived = plan.read(body.freeze(), &base.settings)?;
            Ok((plan, arrived))
        });
        match read {
            Ok((plan, arrived)) => {
                let Verdict { answer, is_last } =
                    base.receive(HttpVersion::Http1, self.begun, plan, headers, arrived);
                self.is_draining |= is_last;
                self.answer(base, now, answer, turn);
            }
            Err(refusal) => {
                base.count_invalid();
                self.speak(base, now, reply::refuse(refusal), turn);
            }
        }
    }

    fn answer(&mut self, base: &mut Base, now: Instant, answer: Answer, turn: Turn) {
        match answer {
            Answer::Delay(delay, answer) => {
                self.state = State::Delayed {
                    until: now + delay,
                    answer: *answer,
                    turn,
                };
            }
            Answer::Never => self.state = State::Silent,
            Answer::Drain(answer) => {
                self.is_draining = true;
                self.answer(base, now, *answer, turn);
            }
            Answer::GoAway { .. } | Answer::CloseConnection => self.close(base, Ending::Closed),
            Answer::Reset(_) | Answer::AbortConnection => self.close(base, Ending::Aborted),
            Answer::Cut(bytes, answer) => match *answer {
                Answer::Delay(delay, answer) => {
                    let cut = Answer::Cut(bytes, answer);
                    self.answer(base, now, Answer::Delay(delay, Box::new(cut)), turn);
                }
                answer => {
                    let mark = self.egress.len();
                    self.answer(base, now, answer, turn);
                    self.egress.truncate(mark.saturating_add(bytes));
                    self.close(base, Ending::Cut);
                }
            },
            Answer::Bytes(bytes) => {
                self.egress.extend_from_slice(&bytes);
                self.finish(base, turn.closes);
            }
            answer => {
                let raw = turn.plan.and_then(|plan| reply::compose(plan, answer));
                // Every answer that is no deed has its words.
                let raw = raw.unwrap_or_else(|| reply::plain(500));
                self.speak(base, now, raw, turn);
            }
        }
    }

    /// Begins to say an answer.
    fn speak(&mut self, base: &mut Base, now: Instant, mut raw: RawAnswer, turn: Turn) {
        let closes = turn.closes || self.is_draining || raw.delimited == Delimited::Close;
        let form = head::write(&raw, turn.is_head_request, closes, &mut self.egress);
        let saying = Box::new(Saying {
            speech: Speech::new(now, &mut raw),
            form,
            trailers: raw.trailers,
            ends: raw.ends,
            closes,
        });
        self.say(base, now, saying);
    }

    /// Says what is due; tells whether the rest has to wait.
    fn say(&mut self, base: &mut Base, now: Instant, mut saying: Box<Saying>) -> bool {
        if saying.form == BodyForm::Nothing {
            self.finish(base, saying.closes);
            return false;
        }
        while let Some(piece) = saying.speech.next(now) {
            match saying.form {
                BodyForm::Chunks => head::write_chunk(&piece, &mut self.egress),
                _ => self.egress.extend_from_slice(&piece),
            }
        }
        if !saying.speech.is_over() {
            self.state = State::Saying(saying);
            return true;
        }
        if !saying.ends {
            self.state = State::Silent;
            return true;
        }
        if saying.form == BodyForm::Chunks {
            head::write_last_chunk(&saying.trailers, &mut self.egress);
        }
        self.finish(base, saying.closes);
        false
    }

    /// The call is over.
    fn finish(&mut self, base: &Base, closes: bool) {
        self.state = State::Head;
        if closes || self.is_draining {
            self.close(base, Ending::Closed);
        }
    }

    fn refuse_and_close(&mut self, base: &Base, refusal: Refusal, is_head_request: bool) {
        base.count_invalid();
        let raw = reply::refuse(refusal);
        let form = head::write(&raw, is_head_request, true, &mut self.egress);
        if form != BodyForm::Nothing {
            raw.data
                .iter()
                .for_each(|piece| self.egress.extend_from_slice(piece));
        }
        self.state = State::Head;
        self.close(base, Ending::Closed);
    }

    fn close(&mut self, base: &Base, end: Ending) {
        let state = core::mem::replace(&mut self.state, State::Over);
        if !matches!(state, State::Head | State::Over) {
            base.count_cancelled(1);
        }
        self.ingress.clear();
        if self.end == Ending::Open || end == Ending::Aborted {
            self.end = end;
        }
    }
}
