//! Credentials that change: asked for each attempt, asked again after a refusal, never shown.

#[path = "support/world.rs"]
mod world;

use otlp_embed::export::{CredentialHeaders, ExportState, Fact};
use otlp_embed::protocol::Failure;
use otlp_embed::testing::Command;
use otlp_embed::{Code, Config, Credentials, CredentialsError, DropReason};
use std::sync::{Arc, Mutex};
use world::*;

/// A source that gives one token after the other and notes what was refused.
#[derive(Default)]
struct Tokens {
    script: Mutex<Vec<Result<&'static str, &'static str>>>,
    refused: Mutex<Vec<String>>,
}

struct Source(Arc<Tokens>);

impl Credentials for Source {
    fn headers(&self) -> Result<Vec<(String, String)>, CredentialsError> {
        let mut script = self.0.script.lock().unwrap();
        let next = if script.len() > 1 {
            script.remove(0)
        } else {
            script[0]
        };
        Ok(vec![(
            "x-token".into(),
            next.map_err(CredentialsError::from)?.into(),
        )])
    }

    fn rejected(&self, headers: &[(String, String)]) {
        self.0.refused.lock().unwrap().push(headers[0].1.clone());
    }
}

/// The last entry is given for ever.
fn tokens(script: &[Result<&'static str, &'static str>]) -> (Config, Arc<Tokens>) {
    let tokens = Arc::new(Tokens {
        script: Mutex::new(script.to_vec()),
        refused: Mutex::default(),
    });
    (config().with_credentials(Source(tokens.clone())), tokens)
}

fn sent(world: &World) -> Vec<String> {
    world
        .calls(0)
        .into_iter()
        .map(|(_, credentials)| credentials)
        .collect()
}

const UNAUTHENTICATED: fn(u16) -> Command = |call| Command::status(call, Code::UNAUTHENTICATED);

#[test]
fn a_closure_is_a_source_of_bearer_tokens() {
    let mut world = World::new(config().with_credentials(|| String::from("abc")));
    world.submit(request(1));
    assert_eq!(sent(&world), ["authorization=Bearer abc"]);
}

#[test]
fn each_attempt_asks_anew() {
    let (config, _) = tokens(&[Ok("one"), Ok("two"), Ok("three")]);
    let mut world = World::new(config);
    let id = world.submit(request(1));
    world.say(0, Command::status(0, Code::UNAVAILABLE));
    world.advance_to_timer();
    world.say(
        0,
        Command::Refuse {
            call: 1,
            is_retryable: true,
        },
    );
    assert_eq!(sent(&world), ["x-token=one", "x-token=two", "x-token=three"]);
    world.say(0, Command::ok(2));
    assert!(world.outcome(id).is_ok());
}

#[test]
fn a_refused_value_is_told_and_another_is_tried_once() {
    let (config, tokens) = tokens(&[Ok("old"), Ok("new")]);
    let mut world = World::new(config);
    let id = world.submit(request(3));
    world.say(0, UNAUTHENTICATED(0));
    assert_eq!(*tokens.refused.lock().unwrap(), ["old"]);
    assert_eq!(sent(&world), ["x-token=old", "x-token=new"]);
    world.say(0, Command::ok(1));
    let outcome = world.outcome(id).expect("the new value is good");
    assert_eq!((outcome.delivered(), outcome.attempts()), (3, 2));
}

#[test]
fn the_same_value_is_not_tried_twice() {
    let (config, tokens) = tokens(&[Ok("old")]);
    let mut world = World::new(config);
    let id = world.submit(request(3));
    world.say(0, UNAUTHENTICATED(0));
    let error = world.error(id);
    assert_eq!((error.counts().rejected, error.attempts()), (3, 1));
    assert_eq!(error.grpc_status(), Some(Code::UNAUTHENTICATED));
    assert_eq!(sent(&world).len(), 1);
    assert_eq!(*tokens.refused.lock().unwrap(), ["old"]);
}

#[test]
fn a_second_refusal_is_final() {
    let (config, tokens) = tokens(&[Ok("a"), Ok("b"), Ok("c"), Ok("d")]);
    let mut world = World::new(config);
    let id = world.submit(request(3));
    world.say(0, UNAUTHENTICATED(0));
    // A failure between the two changes nothing.
    world.say(0, Command::status(1, Code::UNAVAILABLE));
    world.advance_to_timer();
    world.say(0, UNAUTHENTICATED(2));
    let error = world.error(id);
    assert_eq!((error.counts().rejected, sent(&world).len()), (3, 3));
    assert_eq!(*tokens.refused.lock().unwrap(), ["a"]);
}

#[test]
fn without_a_source_a_refusal_is_final() {
    let mut world = World::new(config());
    let id = world.submit(request(3));
    world.say(0, UNAUTHENTICATED(0));
    assert_eq!(world.error(id).counts().rejected, 3);
}

#[test]
fn a_source_that_has_none_is_asked_again_with_backoff() {
    let (config, _) = tokens(&[Err("the vault is sealed"), Err("the vault is sealed"), Ok("good")]);
    let mut world = World::new(config);
    let id = world.submit(request(2));
    assert_eq!(world.state(id), Some(ExportState::Init));
    let first = world.advance_to_timer();
    let second = world.advance_to_timer();
    assert!((ms(100)..=ms(200)).contains(&first), "spec 17: {first:?}");
    assert!((ms(200)..=ms(400)).contains(&second), "spec 17: {second:?}");
    world.say(0, Command::ok(0));
    assert_eq!(world.outcome(id).expect("in the end").attempts(), 3);

    let (config, _) = tokens(&[Err("the vault is sealed")]);
    let mut world = World::new(config);
    let id = world.submit(request(2));
    world.advance(ms(10_000));
    let error = world.error(id);
    assert_eq!(error.counts().dropped, 2);
    assert!(error.to_string().contains("the vault is sealed"), "{error}");
    assert!(error.to_string().contains("with_credentials"), "{error}");
    assert!(world.ids.is_empty(), "nothing is sent without credentials");
    assert!(world.stats().last_error.expect("recorded").contains("vault"));
}

#[test]
fn a_value_that_cannot_be_sent_is_named_without_being_shown() {
    for (name, value) in [
        ("x-key", "hunter2\r\nx-evil: 1"),
        ("x key", "hunter2"),
        ("host", "hunter2"),
        ("x-bin", "hunter2 in no base64"),
    ] {
        struct Odd(&'static str, &'static str);
        impl Credentials for Odd {
            fn headers(&self) -> Result<Vec<(String, String)>, CredentialsError> {
                Ok(vec![(self.0.into(), self.1.into())])
            }
        }
        let mut world = World::new(config().with_credentials(Odd(name, value)));
        let id = world.submit(request(2));
        let error = world.error(id);
        assert_eq!(error.drop_reason(), Some(DropReason::NotRetryable));
        assert!(error.is_credentials() && !error.is_retryable());
        let shown = format!("{error} {error:?} {:?}", world.stats());
        assert!(shown.contains(&format!("{name:?}")), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(world.ids.is_empty());
    }
}

#[test]
fn a_panic_in_the_source_costs_one_export() {
    let count = Arc::new(Mutex::new(0));
    let config = config().with_credentials(move || {
        let mut count = count.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *count += 1;
        assert!(*count != 1, "the first call fails on purpose");
        String::from("fine")
    });
    let mut world = World::new(config);
    let id = world.submit(request(2));
    let error = world.error(id);
    assert_eq!((error.counts().dropped, error.is_retryable()), (2, false));
    assert!(error.to_string().contains("panicked"), "{error}");
    let id = world.submit(request(1));
    world.say(0, Command::ok(0));
    assert!(world.outcome(id).is_ok());
}

#[test]
fn an_export_may_end_while_its_credentials_are_asked_for() {
    let (config, _) = tokens(&[Ok("late")]);
    let mut world = World::new(config.with_timeout(ms(1_000)));
    world.asks = false;
    let cancelled = world.submit(request(1));
    let expired = world.submit(request(2));
    world.fact(Fact::Cancel(cancelled));
    assert_eq!(world.error(cancelled).counts().dropped, 1);
    world.advance(ms(1_000));
    let error = world.error(expired);
    assert!(
        error.is_timeout() && error.to_string().contains("credentials"),
        "spec 49: {error}"
    );
    let down = world.submit(request(4));
    world.fact(Fact::Shutdown);
    assert!(world.error(down).is_shutdown());
    assert_eq!(world.asked.len(), 3);
    // The answers come too late, and one that was never asked for.
    let headers = CredentialHeaders::new(vec![("x-token".into(), "late".into())]);
    for id in [cancelled, expired, down] {
        world.fact(Fact::Authorized(id, &headers));
        world.fact(Fact::AuthorizeFailed(id, &Failure::fatal("late")));
    }
    assert!(world.outcomes.is_empty() && world.ids.is_empty());
    assert!(world.engine.is_idle());
}

#[test]
fn an_answer_nobody_asked_for_changes_nothing() {
    let (config, _) = tokens(&[Ok("good")]);
    let mut world = World::new(config);
    let id = world.submit(request(1));
    let evil = CredentialHeaders::new(vec![("x-token".into(), "evil".into())]);
    world.fact(Fact::Authorized(id, &evil));
    world.fact(Fact::AuthorizeFailed(id, &Failure::fatal("evil")));
    assert_eq!(world.state(id), Some(ExportState::WaitingResponse));
    world.say(0, Command::status(0, Code::UNAVAILABLE));
    world.fact(Fact::Authorized(id, &evil));
    world.advance_to_timer();
    assert_eq!(sent(&world), ["x-token=good", "x-token=good"]);
    world.say(0, Command::ok(1));
    assert!(world.outcome(id).is_ok());
}

#[test]
fn secrets_are_not_shown() {
    let (config, _) = tokens(&[Ok("hunter2")]);
    let mut world = World::new(config.clone());
    world.asks = false;
    let id = world.submit(request(1));
    let (_, authorization) = world.asked.pop().expect("asked");
    let headers = authorization.ask().expect("given");
    let shown = format!(
        "{config:?} {authorization:?} {headers:?} {:?}",
        Fact::Authorized(id, &headers)
    );
    assert!(!shown.contains("hunter2") && shown.contains("x-token"), "{shown}");
}

#[test]
fn every_part_of_an_export_is_authorized() {
    let (config, tokens) = tokens(&[Ok("old"), Ok("old"), Ok("old"), Ok("new")]);
    let mut world = World::with_settings(config, |settings| settings.request_bytes_max = 1_100);
    let id = world.submit(spans(3, 1_000));
    assert_eq!(sent(&world), ["x-token=old"; 3]);
    for call in 0..3 {
        world.say(0, UNAUTHENTICATED(call));
    }
    assert_eq!(tokens.refused.lock().unwrap().len(), 3);
    for call in 3..6 {
        world.say(0, Command::ok(call));
    }
    assert_eq!(world.outcome(id).expect("delivered").delivered(), 3);
}
