//! What is encoded is what `prost` encodes, byte by byte.

#[path = "../../support/mod.rs"]
mod support;

use proptest::prelude::*;
use support::fuzz::encode_roundtrip;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_spans_are_as_prost_encodes_them(data in prop::collection::vec(any::<u8>(), 0..3_000)) {
        encode_roundtrip::spans(&data);
    }
}
