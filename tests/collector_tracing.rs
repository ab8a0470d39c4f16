//! The collector's thread says nothing to the application's `tracing` subscriber.

#[path = "support/collector_client.rs"]
#[allow(dead_code, reason = "shared with the tests in memory")]
mod collector_client;

use collector_client::{bytes_of_one_export, message};
use otlp_embed::testing::{Answer, Collector};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The names of the threads that said something.
static SPEAKERS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Listener;

impl Listener {
    fn note(&self) {
        let name = thread::current().name().unwrap_or_default().to_owned();
        SPEAKERS.lock().unwrap().push(name);
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        self.note();
        Id::from_u64(1)
    }

    fn event(&self, _: &Event<'_>) {
        self.note();
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn h2_is_not_heard_on_the_collectors_thread() {
    tracing::subscriber::set_global_default(Listener).unwrap();
    // The client's own `h2` is heard: the subscriber listens.
    let bytes = bytes_of_one_export(&Collector::builder(), &message(&["a"]));
    assert!(!SPEAKERS.lock().unwrap().is_empty());

    let collector = Collector::builder()
        .answer(Answer::CloseConnection)
        .start()
        .unwrap();
    let mut socket = TcpStream::connect(collector.addr()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.write_all(&bytes).unwrap();
    socket.read_to_end(&mut Vec::new()).unwrap();
    drop(collector);
    let speakers = SPEAKERS.lock().unwrap();
    assert!(
        !speakers.iter().any(|name| name == "otlp-collector"),
        "{speakers:?}"
    );
}
