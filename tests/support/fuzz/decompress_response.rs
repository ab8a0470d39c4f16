//! Arbitrary bytes as a compressed answer: never more than the limit, never a panic, and the same however it is cut.

use super::input::Input;
use otlp_embed::coding::Decoder;

/// Decodes what `data` describes, at once and in pieces.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let coding = ["gzip", "zstd", "identity"][usize::from(input.byte().unwrap_or(0)) % 3];
    let max = usize::from(input.byte().unwrap_or(0)) * 300;
    let cut = usize::from(input.byte().unwrap_or(0)) + 1;
    let message = input.bytes(usize::MAX);
    let whole = read(coding, message.chunks(message.len().max(1)), max);
    let pieces = read(coding, message.chunks(cut), max);
    // Which of two faults is met first depends on the cut; whether there is one does not.
    assert_eq!(whole.is_ok(), pieces.is_ok(), "{whole:?}, {pieces:?}");
    if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
        assert_eq!(whole, pieces);
    }
}

fn read<'a>(
    coding: &str,
    pieces: impl Iterator<Item = &'a [u8]>,
    max: usize,
) -> Result<Vec<u8>, otlp_embed::coding::DecodeError> {
    let mut decoder = Decoder::new(coding).expect("built in");
    let mut out = Vec::new();
    for piece in pieces {
        let decoded = decoder.decode(piece, &mut out, max);
        assert!(
            out.len() <= max && out.capacity() <= max,
            "{} of {max}",
            out.capacity()
        );
        decoded?;
    }
    decoder.finish()?;
    Ok(out)
}
