//! Zstandard (RFC 8878).

use super::DecodeError;
use super::decode::{Out, WINDOW_BYTES_MAX};
use super::encode::{Encode, Idle};
use alloc::vec::Vec;
use zstd::stream::raw::{DParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

/// The level that Zstandard takes unless told otherwise.
const LEVEL: i32 = 3;

pub(super) static IDLE: Idle<Zstd> = Idle::new();

/// An encoder.
pub(super) struct Zstd(Encoder<'static>);

impl Encode for Zstd {
    fn create() -> Self {
        Self(Encoder::new(LEVEL).expect("a level that exists"))
    }

    fn begin(&mut self, len: usize) {
        let began = self.0.reinit();
        began.expect("a session can always be left");
        let told = self.0.set_pledged_src_size(u64::try_from(len).ok());
        told.expect("the length is told at the beginning of a frame");
    }

    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let mut input = InBuffer::around(input);
        let len = out.len();
        let run = self.0.run(&mut input, &mut OutBuffer::around_pos(out, len));
        run.expect("Zstandard takes any input while it has memory");
        input.pos()
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        let len = out.len();
        let left = self.0.finish(&mut OutBuffer::around_pos(out, len), false);
        left.expect("Zstandard ends a message of the length it was told") == 0
    }
}

/// A decoder of frames, one after the other.
#[derive(Default)]
pub(super) struct Unzstd {
    decoder: Option<Decoder<'static>>,
    /// A frame has begun and not ended.
    is_open: bool,
}

impl Unzstd {
    pub(super) fn push(&mut self, input: &[u8], out: &mut Out<'_>) -> Result<(), DecodeError> {
        if input.is_empty() {
            return Ok(());
        }
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            place => place.insert(decoder().map_err(|error| DecodeError::malformed("zstd", &error))?),
        };
        let mut input = InBuffer::around(input);
        loop {
            let before = input.pos();
            let mut room = OutBuffer::around(out.room());
            let capacity = room.capacity();
            let left = decoder
                .run(&mut input, &mut room)
                .map_err(|error| DecodeError::malformed("zstd", &error))?;
            let made = room.pos();
            let is_stuck = input.pos() == before && made == 0;
            out.took(made)?;
            self.is_open = left != 0;
            // With the room not filled, everything that the input gives was written.
            let is_taken = input.pos() == input.src.len();
            if is_taken && (made < capacity || left == 0) {
                return Ok(());
            }
            if is_stuck {
                return Err(DecodeError::malformed("zstd", &"the stream does not go on"));
            }
        }
    }

    pub(super) const fn is_complete(&self) -> bool {
        !self.is_open
    }
}

fn decoder() -> std::io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_BYTES_MAX.ilog2()))?;
    Ok(decoder)
}
