//! Compression and decompression of whole messages: any pieces in, bounded chunks out, the same bytes again.

use bytes::Bytes;
use otlp_embed::coding::{ACCEPT_ENCODING, DecodeError, Decoder, compress, decode};
use otlp_embed::encode::{Body, Signal};
use otlp_embed::{Compression, Request};
use proptest::prelude::*;

const BOTH: [Compression; 2] = [Compression::Gzip, Compression::Zstd];

fn body(pieces: Vec<Vec<u8>>) -> Body {
    let pieces = pieces.into_iter().map(Bytes::from).collect();
    Request::from_segments(Signal::Traces, 1, pieces).body().clone()
}

fn bytes(body: &Body) -> Vec<u8> {
    body.segments().concat()
}

/// Bytes that do not shrink.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn coding(compression: Compression) -> &'static str {
    compression.content_coding().expect("a compression")
}

#[test]
fn nothing_is_shared_as_it_is() {
    let plain = body(vec![b"abc".to_vec(), b"def".to_vec()]);
    let same = compress(Compression::None, &plain);
    assert_eq!(same.segments()[0].as_ptr(), plain.segments()[0].as_ptr());
    assert_eq!((same.len(), Compression::None.content_coding()), (6, None));
}

#[test]
fn a_message_has_the_form_of_its_coding() {
    let plain = body(vec![b"spans ".repeat(10_000), noise(100_000), b"more".to_vec()]);
    for (compression, magic) in [
        (Compression::Gzip, &[0x1f, 0x8b, 8][..]),
        (Compression::Zstd, &[0x28, 0xb5, 0x2f, 0xfd]),
    ] {
        let packed = bytes(&compress(compression, &plain));
        assert!(packed.starts_with(magic), "spec 29, 39: {compression:?}");
        assert_eq!(
            decode(coding(compression), &packed, plain.len()),
            Ok(bytes(&plain))
        );
    }
}

#[test]
fn chunks_are_bounded_and_repetition_shrinks() {
    for compression in BOTH {
        let large = compress(compression, &body(vec![noise(300_000), noise(300_000)]));
        assert!(
            large.segments().iter().all(|chunk| chunk.len() <= 16 << 10),
            "no block of the message's size"
        );
        assert!(large.segments().len() > 18);
        let small = compress(compression, &body(vec![b"attribute".repeat(100_000)]));
        assert!(small.len() < 9_000, "{compression:?}: {}", small.len());
        assert!(small.len() > 20);
    }
}

#[test]
fn an_encoder_forgets_its_last_message() {
    for compression in BOTH {
        let first = bytes(&compress(
            compression,
            &body(vec![b"the one and only".repeat(50)]),
        ));
        for len in [0, 1, 100_000] {
            let other = body(vec![noise(len)]);
            let other_bytes = bytes(&compress(compression, &other));
            assert_eq!(
                decode(coding(compression), &other_bytes, len).as_ref(),
                Ok(&bytes(&other))
            );
        }
        let again = bytes(&compress(
            compression,
            &body(vec![b"the one and only".repeat(50)]),
        ));
        assert_eq!(first, again);
    }
}

#[test]
fn threads_compress_at_the_same_time() {
    std::thread::scope(|scope| {
        for number in 0..8_u8 {
            scope.spawn(move || {
                for compression in [BOTH, BOTH].concat() {
                    let plain = body(vec![vec![number; 50_000], noise(usize::from(number) * 999)]);
                    let packed = bytes(&compress(compression, &plain));
                    assert_eq!(decode(coding(compression), &packed, 1 << 20), Ok(bytes(&plain)));
                }
            });
        }
    });
}

#[test]
fn codings_are_named_as_peers_name_them() {
    assert_eq!(ACCEPT_ENCODING, "gzip,zstd,identity");
    for name in ["gzip", "x-gzip", "GZIP", " zstd ", "identity", ""] {
        assert!(Decoder::new(name).is_ok(), "{name}");
    }
    for name in ["br", "gzip, gzip", "deflate", "\u{1f600}", &"x".repeat(10_000)] {
        let error = Decoder::new(name).expect_err("not known");
        assert!(matches!(error, DecodeError::Unsupported(_)) && error.to_string().len() < 800);
    }
    assert!(BOTH.iter().all(|compression| compression.is_built_in()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// However a message is cut before and after compression, it comes back.
    #[test]
    fn any_pieces_come_back(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3_000), 0..6),
        repeat in 1_usize..20,
        cut in 1_usize..5_000,
        which in 0_usize..2,
    ) {
        let plain = body(pieces.into_iter().map(|piece| piece.repeat(repeat)).collect());
        let packed = bytes(&compress(BOTH[which], &plain));
        let mut decoder = Decoder::new(coding(BOTH[which])).expect("built in");
        let mut out = Vec::new();
        for piece in packed.chunks(cut) {
            decoder.decode(piece, &mut out, plain.len()).expect("within the limit");
        }
        decoder.finish().expect("a whole message");
        prop_assert_eq!(out, bytes(&plain));
    }
}
