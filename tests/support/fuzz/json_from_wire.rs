//! Arbitrary requests as JSON, and arbitrary text as requests.

use super::input::Input;
use bytes::Bytes;
use otlp_embed::pb::collector::ExportTraceServiceRequest;
use otlp_embed::testing::wire::{json_from_wire, json_to_wire};
use otlp_embed::{Request, Signal};
use prost::Message;
use serde_json::Value;

/// Turns the input into JSON and back: whether it is text, the signal, the width of pieces, then the message.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut byte = || input.byte().unwrap_or(0);
    let kind = byte();
    let signal = Signal::ALL[usize::from(kind >> 1) % 4];
    let width = usize::from(byte()).max(1);
    if kind & 1 == 1 {
        text(signal, input.0);
    } else {
        message(signal, input.0, width);
    }
}

fn text(signal: Signal, text: &[u8]) {
    if let Ok(bytes) = json_to_wire(signal, text) {
        assert!(std::str::from_utf8(text).is_ok());
        message(signal, &bytes, usize::MAX);
    }
}

fn message(signal: Signal, bytes: &[u8], width: usize) {
    let pieces = bytes.chunks(width).map(Bytes::copy_from_slice).collect();
    let request = Request::from_encoded(signal, bytes.to_vec());
    let body = Request::from_segments(signal, 0, pieces);
    let json = json_from_wire(signal, body.body());
    // What another member of a `oneof` replaces is not looked at: there may be text where there is no request.
    assert!(json.is_ok() || request.is_err());
    let Ok(json) = json else { return };
    let json = json.segments().concat();
    let first = Parsed::of(&json);
    let Ok(request) = request else { return };
    let Ok(again) = json_to_wire(signal, &json) else {
        assert!(
            first.is_deep(),
            "our own is refused: {}",
            String::from_utf8_lossy(&json)
        );
        return;
    };
    assert_eq!(
        Request::from_encoded(signal, again.clone())
            .map(|request| request.items())
            .ok(),
        Some(request.items())
    );
    // Defaults that were written out are gone by now, and nothing else.
    let second = json_of(signal, &again);
    let third = json_to_wire(signal, second.as_bytes()).expect("our own, once more");
    assert_eq!(second, json_of(signal, &third));
    if signal == Signal::Traces {
        let canonical = ExportTraceServiceRequest::decode(bytes).expect("what was accepted");
        let canonical = json_of(signal, &canonical.encode_to_vec());
        let ours = ExportTraceServiceRequest::decode(&again[..]).expect("what was encoded");
        assert_eq!(canonical, json_of(signal, &ours.encode_to_vec()));
    }
}

fn json_of(signal: Signal, bytes: &[u8]) -> String {
    let body = Request::from_segments(signal, 0, vec![Bytes::copy_from_slice(bytes)]);
    let json = json_from_wire(signal, body.body()).expect("what was encoded");
    String::from_utf8(json.segments().concat()).expect("text")
}

/// JSON, or that it is too deep for the parser.
enum Parsed {
    Whole,
    TooDeep,
}

impl Parsed {
    fn of(json: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(json) {
            Ok(_) => Self::Whole,
            Err(error) if error.to_string().starts_with("recursion limit") => Self::TooDeep,
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(json)),
        }
    }

    fn is_deep(&self) -> bool {
        matches!(self, Self::TooDeep)
    }
}
