//! Arbitrary bytes as requests that others encoded: what is accepted is what `prost` decodes, and parts lose nothing.

use super::input::Input;
use super::skeleton::{self, Item};
use bytes::Bytes;
use otlp_embed::pb::collector::ExportTraceServiceRequest;
use otlp_embed::testing::wire;
use otlp_embed::{Request, Signal};
use prost::Message;

/// Counts and splits a request of the input: the signal, a cap, the width of pieces, the message.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut byte = || input.byte().unwrap_or(0);
    let signal = Signal::ALL[usize::from(byte() % 4)];
    let bytes_max = usize::from(byte()) << (byte() % 8);
    let width = usize::from(byte()).max(1);
    let bytes = input.0;
    let pieces = || bytes.chunks(width).map(Bytes::copy_from_slice).collect();
    match Request::from_encoded(signal, bytes.to_vec()) {
        Ok(request) => {
            let items = skeleton::items(signal, bytes).expect("prost refuses what was accepted");
            assert_eq!(request.items(), items.len() as u64);
            let parts = parts(
                &Request::from_segments(signal, request.items(), pieces()),
                bytes_max,
            );
            conserves(&items, &parts, signal);
        }
        Err(error) => {
            assert!(error.is_misuse());
            // Whatever is claimed stays claimed.
            parts(&Request::from_segments(signal, 3, pieces()), bytes_max);
        }
    }
    if signal == Signal::Traces {
        let ours = Request::from_encoded(signal, bytes.to_vec()).is_ok();
        assert_eq!(ours, ExportTraceServiceRequest::decode(bytes).is_ok());
    }
}

/// Splits a request and checks what has to hold whatever its bytes are.
fn parts(request: &Request, bytes_max: usize) -> Vec<Request> {
    let parts: Vec<_> = wire::split(request, bytes_max).collect();
    let items: u64 = parts.iter().map(|(part, _)| part.items()).sum();
    assert_eq!(items, request.items());
    for (part, fits) in &parts {
        assert_eq!(*fits, part.encoded_len() <= bytes_max);
        assert!(*fits || part.items() == 1 || parts.len() == 1);
        let len: usize = part.segments().map(|segment| segment.len()).sum();
        assert_eq!(len, part.encoded_len());
    }
    parts.into_iter().map(|(part, _)| part).collect()
}

/// Every item once, in order, in what enclosed it.
fn conserves(items: &[Item], parts: &[Request], signal: Signal) {
    let mut found = Vec::new();
    for part in parts {
        let bytes = part.segments().collect::<Vec<_>>().concat();
        let again = Request::from_encoded(signal, bytes.clone()).expect("a part that is a request");
        assert_eq!(again.items(), part.items());
        found.extend(skeleton::items(signal, &bytes).expect("a part that prost decodes"));
    }
    assert_eq!(found, items);
}
