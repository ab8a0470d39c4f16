//! Compressed messages that mean harm: bombs, garbage, ends too early and too late.

#[path = "../../support/mod.rs"]
mod support;

use bytes::Bytes;
use otlp_embed::coding::{DecodeError, Decoder, compress, decode};
use otlp_embed::encode::Signal;
use otlp_embed::{Compression, Request};
use proptest::prelude::*;
use support::fuzz::decompress_response;

const CODINGS: [(&str, Compression); 2] = [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)];

fn packed(compression: Compression, plain: &[u8]) -> Vec<u8> {
    let request = Request::from_segments(Signal::Traces, 1, vec![Bytes::copy_from_slice(plain)]);
    compress(compression, request.body()).segments().concat()
}

#[test]
fn a_bomb_stops_at_the_limit_in_length_and_in_memory() {
    for (coding, compression) in CODINGS {
        let bomb = packed(compression, &vec![0; 4 << 20]);
        assert!(bomb.len() < 10_000, "{coding}: {}", bomb.len());
        for max in [0, 1, 1_000, 1 << 20] {
            let mut decoder = Decoder::new(coding).expect("built in");
            let mut out = Vec::new();
            let error = decoder.decode(&bomb, &mut out, max);
            assert_eq!(
                error,
                Err(DecodeError::TooLarge),
                "spec 3, 4, 52: {coding} to {max}"
            );
            assert!(out.len() <= max && out.capacity() <= max, "{}", out.capacity());
            assert_eq!(decoder.decode(&[], &mut out, max), Err(DecodeError::TooLarge));
            assert_eq!(decoder.finish(), Err(DecodeError::TooLarge));
        }
        assert_eq!(decode(coding, &bomb, 4 << 20).map(|out| out.len()), Ok(4 << 20));
    }
}

#[test]
fn the_limit_itself_is_allowed() {
    for (coding, compression) in CODINGS {
        for len in [0, 1, 8_191, 8_192, 8_193, 100_000] {
            let plain = vec![b'x'; len];
            let packed = packed(compression, &plain);
            assert_eq!(decode(coding, &packed, len), Ok(plain));
            if len > 0 {
                assert_eq!(decode(coding, &packed, len - 1), Err(DecodeError::TooLarge));
            }
        }
    }
    assert_eq!(decode("identity", b"abc", 3).as_deref(), Ok(&b"abc"[..]));
    assert_eq!(decode("identity", b"abc", 2), Err(DecodeError::TooLarge));
}

#[test]
fn a_message_cut_anywhere_is_truncated() {
    for (coding, compression) in CODINGS {
        let whole = packed(compression, &b"to be or not to be ".repeat(40));
        for end in 1..whole.len() {
            assert_eq!(
                decode(coding, &whole[..end], 10_000),
                Err(DecodeError::Truncated),
                "{coding} at {end}"
            );
        }
        assert_eq!(
            decode(coding, &[], 10),
            Ok(Vec::new()),
            "no byte at all is an empty message"
        );
    }
}

#[test]
fn what_follows_the_end_is_another_member_or_an_error() {
    for (coding, compression) in CODINGS {
        let (one, two) = (packed(compression, b"one,"), packed(compression, b"two"));
        let both = [&one[..], &two].concat();
        assert_eq!(
            decode(coding, &both, 100).as_deref(),
            Ok(&b"one,two"[..]),
            "{coding}"
        );
        assert_eq!(
            decode(coding, &both, 6),
            Err(DecodeError::TooLarge),
            "all members count"
        );
        for garbage in [
            &b"\0\0\0\0\0\0\0\0\0\0"[..],
            b"garbage!",
            b"\x1f\x8c1234567",
            b"(\xb5/\xff1234567",
        ] {
            let error = decode(coding, &[&one[..], garbage].concat(), 100).expect_err("garbage");
            assert!(matches!(error, DecodeError::Malformed(_)), "{coding}: {error:?}");
        }
        for end in one.len() + 1..both.len() {
            assert_eq!(
                decode(coding, &both[..end], 100),
                Err(DecodeError::Truncated),
                "{coding} at {end}"
            );
        }
    }
}

#[test]
fn a_flipped_bit_is_noticed_or_harmless() {
    let plain = b"every bit of a message counts, and so does its checksum".repeat(3);
    let whole = packed(Compression::Gzip, &plain);
    let mut harmless = 0;
    for at in 0..whole.len() * 8 {
        let mut bent = whole.clone();
        bent[at / 8] ^= 1 << (at % 8);
        if let Ok(out) = decode("gzip", &bent, 10_000) {
            assert_eq!(out, plain, "bit {at}");
            harmless += 1;
        }
    }
    // Fields of the head that nobody reads (time, extra flags, system), and what fills up the last byte of the stream.
    assert!(harmless <= 6 * 8 + 7 + 1, "{harmless}");
}

#[test]
fn members_without_content_do_not_go_on_for_ever() {
    let empty = packed(Compression::Gzip, b"");
    assert_eq!(decode("gzip", &empty.repeat(900), 1 << 20), Ok(Vec::new()));
    let error = decode("gzip", &empty.repeat(2_000), 1 << 20).expect_err("too many");
    assert!(matches!(error, DecodeError::Malformed(_)), "spec 52: {error:?}");
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0].repeat(10_000);
    assert_eq!(
        decode("zstd", &skippable, 10_000),
        Err(DecodeError::TooLarge),
        "spec 52"
    );
}

#[test]
fn a_window_beyond_8_mib_is_refused() {
    // A frame head without a content size, its window 2^41 bytes, and the beginning of a block.
    let mut head = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 31 << 3];
    head.extend([0; 64]);
    let error = decode("zstd", &head, 1 << 20).expect_err("a window of 2 TiB");
    assert!(matches!(error, DecodeError::Malformed(_)), "spec 52: {error:?}");
}

#[test]
fn a_head_that_never_ends_is_too_large() {
    // A file name without an end.
    let mut head = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255];
    head.extend([b'x'; 100_000]);
    assert_eq!(
        decode("gzip", &head, 10_000),
        Err(DecodeError::TooLarge),
        "spec 52"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Bytes of a message overwritten, cut and repeated: the same verdict however it comes, within the limit.
    #[test]
    fn a_message_that_was_tampered_with_is_read_alike_in_any_pieces(
        plain in prop::collection::vec(0_u8..4, 0..2_000),
        wounds in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in any::<prop::sample::Index>(),
        head in any::<[u8; 3]>(),
        which in 0_usize..2,
    ) {
        let mut message = packed(CODINGS[which].1, &plain);
        for (at, byte) in wounds {
            let at = at.index(message.len());
            message[at] = byte;
        }
        let repeated = message[..end.index(message.len())].to_vec();
        message.extend(repeated);
        decompress_response::run(&[&[which as u8, head[1], head[2]], &message[..]].concat());
    }
}
