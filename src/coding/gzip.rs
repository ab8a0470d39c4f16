//! gzip (RFC 1952).

use super::DecodeError;
use super::decode::{Out, WINDOW_BYTES_MAX};
use super::encode::{Encode, Idle};
use alloc::vec::Vec;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The largest window, in the logarithm to base 2, which every decoder supports.
const WINDOW_BITS: u8 = 15;
const _: () = assert!(1 << WINDOW_BITS <= WINDOW_BYTES_MAX);

/// Members of one message. Each needs a decoder of its own, which costs more than the few bytes of an empty member.
const MEMBERS_MAX: u32 = 1_000;

pub(super) static IDLE: Idle<Gzip> = Idle::new();

/// An encoder at the usual level.
pub(super) struct Gzip(Compress);

impl Encode for Gzip {
    fn create() -> Self {
        Self(Compress::new_gzip(Compression::default(), WINDOW_BITS))
    }

    fn begin(&mut self, _: usize) {
        self.0.reset();
    }

    fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let before = self.0.total_in();
        let pushed = self.0.compress_vec(input, out, FlushCompress::None);
        pushed.expect("deflate takes any input while there is room for output");
        usize::try_from(self.0.total_in() - before).expect("no more than the input")
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        let finished = self.0.compress_vec(&[], out, FlushCompress::Finish);
        finished.expect("deflate ends whenever there is room for output") == Status::StreamEnd
    }
}

/// A decoder of members, one after the other.
#[derive(Default)]
pub(super) struct Gunzip {
    /// The member that has begun and not ended.
    member: Option<Decompress>,
    members: u32,
}

impl Gunzip {
    pub(super) fn push(&mut self, mut input: &[u8], out: &mut Out<'_>) -> Result<(), DecodeError> {
        loop {
            if self.member.is_none() {
                if input.is_empty() {
                    return Ok(());
                }
                self.begin()?;
            }
            let Some(member) = &mut self.member else {
                return Ok(());
            };
            let room = out.room();
            let (taken, made) = (member.total_in(), member.total_out());
            let status = member
                .decompress(input, room, FlushDecompress::None)
                .map_err(|error| DecodeError::malformed("gzip", &error))?;
            let of = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
            let (taken, made) = (of(member.total_in() - taken), of(member.total_out() - made));
            input = input.get(taken..).unwrap_or_default();
            let is_stuck = taken == 0 && made == 0;
            out.took(made)?;
            if status == Status::StreamEnd {
                self.member = None;
            } else if is_stuck {
                // All input is taken, and all that it gives was written.
                return match input {
                    [] => Ok(()),
                    _ => Err(DecodeError::malformed("gzip", &"the stream does not go on")),
                };
            }
        }
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.member.is_none()
    }

    fn begin(&mut self) -> Result<(), DecodeError> {
        self.members += 1;
        if self.members > MEMBERS_MAX {
            return Err(DecodeError::malformed("gzip", &"more than 1000 members"));
        }
        self.member = Some(Decompress::new_gzip(WINDOW_BITS));
        Ok(())
    }
}
