//! JSON of every signal: what upstream reads and writes, and back without a loss.

use super::arbitrary::{self, Input};
use super::signal::{Logs, Messages, Metrics, Profiles, Traces, each_signal, reencode};
use super::{Bytes, cut};
use otlp_embed::testing::wire;
use otlp_embed::{Request, Signal};
use proptest::prelude::*;
use prost::Message;
use serde_json::Value;

fn json(signal: Signal, pieces: Vec<Bytes>) -> String {
    let request = Request::from_segments(signal, 1, pieces);
    let body = wire::json_from_wire(signal, request.body()).expect("a request");
    let chunks = body.segments();
    assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), body.len());
    String::from_utf8(chunks.concat()).expect("text")
}

fn json_of(signal: Signal, bytes: &[u8]) -> String {
    json(signal, cut(bytes, &[]))
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// Whatever `prost` makes of the bytes is in their JSON.
fn says_the_same<M: Messages>(bytes: &[u8]) {
    let message = M::read(bytes).expect("a message");
    same::<M>(&message, &read::<M>(&json_of(M::SIGNAL, bytes)));
}

fn read<M: Messages>(text: &str) -> M {
    let bytes = wire::json_to_wire(M::SIGNAL, text.as_bytes());
    M::read(&bytes.unwrap_or_else(|error| panic!("{error}: {text}"))).expect("a message")
}

/// Compared as JSON, which does not tell one NaN from another, and shows where they differ.
fn same<M: Messages>(one: &M, other: &M) {
    let of = |message: &M| parsed(&json_of(M::SIGNAL, &reencode(message)));
    if let Some(difference) = difference(&of(one), &of(other)) {
        panic!("{:?}{difference}", M::SIGNAL);
    }
}

fn difference(one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => {
            let mut fields = one.iter().zip(other.values());
            fields.find_map(|((name, one), other)| Some(format!(".{name}{}", difference(one, other)?)))
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let mut elements = one.iter().zip(other).enumerate();
            elements.find_map(|(at, (one, other))| Some(format!("[{at}]{}", difference(one, other)?)))
        }
        _ => (one != other).then(|| format!(": {one} but {other}")),
    }
}

/// Upstream reads ours, and we read upstream's.
fn upstream_agrees<M: Messages>(message: &M) {
    same::<M>(
        message,
        &read::<M>(&serde_json::to_string(message).expect("their JSON")),
    );
    let ours = json_of(M::SIGNAL, &reencode(message));
    let theirs = serde_json::from_str(&ours).unwrap_or_else(|error| panic!("{error}: {ours}"));
    same::<M>(message, &theirs);
}

fn enclose(inner: &[u8], numbers: &[u8]) -> Vec<u8> {
    numbers.iter().fold(inner.to_vec(), |inner, number| {
        let mut bytes = vec![number << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
        bytes.extend(inner);
        bytes
    })
}

fn encoded(message: arbitrary::Made<impl Message>) -> Vec<u8> {
    message.map(|message| message.encode_to_vec()).unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn out_and_in_again_loses_nothing(
        data in prop::collection::vec(any::<u8>(), 0..4_000),
        cuts in prop::collection::vec(0..50usize, 0..40),
    ) {
        each_signal!(M => {
            let bytes = reencode(&M::arbitrary(&mut Input::new(&data)));
            let text = json_of(M::SIGNAL, &bytes);
            parsed(&text);
            prop_assert!(text == json(M::SIGNAL, cut(&bytes, &cuts)));
            let message = M::read(&bytes).expect("a message");
            let back = read::<M>(&text);
            same::<M>(&message, &back);
            prop_assert!(reencode(&back) == bytes);
        });
    }

    #[test]
    fn upstream_reads_and_writes_the_same(data in prop::collection::vec(any::<u8>(), 0..4_000)) {
        // Not profiles: upstream writes their bytes as arrays and their 64-bit integers as numbers, against the
        // specification.
        upstream_agrees(&Traces::arbitrary(&mut Input::plain(&data)));
        upstream_agrees(&Logs::arbitrary(&mut Input::plain(&data)));
        upstream_agrees(&Metrics::arbitrary(&mut Input::plain(&data)));
    }

    /// Spec 6, and what `prost` does with fields that come twice or apart: the last scalar wins, messages are merged.
    #[test]
    fn repeated_and_scattered_fields_are_merged(
        data in prop::collection::vec(any::<u8>(), 0..3_000),
        more in prop::collection::vec(any::<u8>(), 0..3_000),
    ) {
        let (one, two) = (&mut Input::new(&data), &mut Input::new(&more));
        let span = [encoded(arbitrary::span(one)), encoded(arbitrary::span(two))].concat();
        says_the_same::<Traces>(&enclose(&span, &[2, 2, 1]));
        let log = [encoded(arbitrary::log_record(one)), encoded(arbitrary::log_record(two))].concat();
        says_the_same::<Logs>(&enclose(&log, &[2, 2, 1]));
        let body = [encoded(arbitrary::value(one, 3)), encoded(arbitrary::value(two, 3))].concat();
        says_the_same::<Logs>(&enclose(&body, &[5, 2, 2, 1]));
        let metric = [encoded(arbitrary::metric(one)), encoded(arbitrary::metric(two))].concat();
        says_the_same::<Metrics>(&enclose(&metric, &[2, 2, 1]));
        let point = [encoded(arbitrary::exponential(one)), encoded(arbitrary::exponential(two))].concat();
        says_the_same::<Metrics>(&enclose(&point, &[1, 10, 2, 2, 1]));
        let profile = [encoded(arbitrary::profile(one)), encoded(arbitrary::profile(two))].concat();
        says_the_same::<Profiles>(&enclose(&profile, &[2, 2, 1]));
        each_signal!(M => {
            let bytes = [
                reencode(&M::arbitrary(&mut Input::new(&data))),
                reencode(&M::arbitrary(&mut Input::new(&more))),
            ];
            says_the_same::<M>(&bytes.concat());
        });
    }

    #[test]
    fn whatever_prost_decodes_has_json(
        data in prop::collection::vec(any::<u8>(), 0..2_000),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        each_signal!(M => {
            let mut bytes = reencode(&M::arbitrary(&mut Input::new(&data)));
            if !bytes.is_empty() {
                for (at, byte) in &changes {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            if M::read(&bytes).is_ok() {
                says_the_same::<M>(&bytes);
            }
        });
    }
}
