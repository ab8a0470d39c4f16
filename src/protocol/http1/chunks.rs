//! The chunked transfer coding (RFC 9112, section 7.1).
//!
//! Owns the lines between the pieces of a body, which it takes only as the grammar has them: where two readers could
//! disagree on the end of a body, one of them would take the rest for another answer.

/// Bytes of extensions and trailers of one body: nobody reads them.
const ASIDE_BYTES_MAX: usize = 16 << 10;

/// Digits of a chunk's size: what fits 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

/// A chunked body that is being read.
pub(super) struct Chunks {
    phase: Phase,
    /// Bytes of extensions and trailers so far.
    aside: usize,
}

/// What the next byte is.
///
/// ```text
/// Size ──(CR)──> SizeEnd ──(size > 0)──> Data ──> DataCr ──> DataLf ──> Size
///   └──> Extension ─^    └──(size = 0)──> LineStart ──(CR)──> LastLf ──> done
///                                            │ ^
///                                            v │
///                                     Line ──> LineEnd
/// ```
enum Phase {
    /// A digit of a chunk's size, of which so many have come.
    Size { size: u64, digits: u8 },
    /// Something behind the size that is ignored.
    Extension { size: u64 },
    /// The LF of the line with the size.
    SizeEnd { size: u64 },
    /// Data, with so many bytes to come.
    Data { left: u64 },
    /// The CR behind the data.
    DataCr,
    /// The LF behind the data.
    DataLf,
    /// The first byte of a trailer, or the CR of the empty line.
    LineStart,
    /// A trailer.
    Line,
    /// The LF of a trailer.
    LineEnd,
    /// The LF of the empty line.
    LastLf,
}

/// What a piece of input holds.
pub(super) enum Step<'a> {
    /// Bytes of the body.
    Data(&'a [u8]),
    /// Nothing: the input is used up.
    More,
    /// The end of the body.
    Done,
}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self {
            phase: SIZE,
            aside: 0,
        }
    }

    /// Takes bytes off the front of `input`, up to the next piece of the body.
    ///
    /// # Errors
    ///
    /// In words, when the coding is broken.
    pub(super) fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, &'static str> {
        while let Some((&byte, rest)) = input.split_first() {
            if let Phase::Data { left } = &mut self.phase {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                let (data, rest) = input.split_at(count);
                *input = rest;
                *left -= count as u64;
                if *left == 0 {
                    self.phase = Phase::DataCr;
                }
                return Ok(Step::Data(data));
            }
            *input = rest;
            match self.next(byte)? {
                Some(phase) => self.phase = phase,
                None => return Ok(Step::Done),
            }
        }
        Ok(Step::More)
    }

    /// What comes after `byte`; `None` when the body is over.
    fn next(&mut self, byte: u8) -> Result<Option<Phase>, &'static str> {
        let phase = match (&self.phase, byte) {
            (&Phase::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS_MAX {
                    return Err("the size of a chunk has too many digits");
                }
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                Phase::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (&Phase::Size { size, digits: 1.. } | &Phase::Extension { size }, b'\r') => {
                Phase::SizeEnd { size }
            }
            (&Phase::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => Phase::Extension { size },
            (&Phase::Extension { size }, _) if byte != b'\n' => {
                self.count_aside()?;
                Phase::Extension { size }
            }
            (Phase::SizeEnd { size: 0 }, b'\n') => Phase::LineStart,
            (&Phase::SizeEnd { size }, b'\n') => Phase::Data { left: size },
            (Phase::DataCr, b'\r') => Phase::DataLf,
            (Phase::DataLf, b'\n') => SIZE,
            (Phase::LineStart, b'\r') => Phase::LastLf,
            (Phase::Line, b'\r') => Phase::LineEnd,
            (Phase::LineStart | Phase::Line, _) if byte != b'\n' => {
                self.count_aside()?;
                Phase::Line
            }
            (Phase::LineEnd, b'\n') => Phase::LineStart,
            (Phase::LastLf, b'\n') => return Ok(None),
            _ => return Err("the chunks of the body are malformed"),
        };
        Ok(Some(phase))
    }

    fn count_aside(&mut self) -> Result<(), &'static str> {
        self.aside += 1;
        if self.aside > ASIDE_BYTES_MAX {
            return Err("the body has too many chunk extensions or trailers");
        }
        Ok(())
    }
}

const SIZE: Phase = Phase::Size { size: 0, digits: 0 };

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// The body and what is left behind it.
    type Read = Option<(Vec<u8>, Vec<u8>)>;

    fn read(input: &[u8], cut: usize) -> Result<Read, &'static str> {
        let mut chunks = Chunks::new();
        let mut body = Vec::new();
        let (first, second) = input.split_at(cut.min(input.len()));
        for (part, rest) in [(first, second), (second, &b""[..])] {
            let mut part = part;
            loop {
                match chunks.step(&mut part)? {
                    Step::Data(data) => body.extend_from_slice(data),
                    Step::More => break,
                    Step::Done => return Ok(Some((body, [part, rest].concat()))),
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn a_body_is_read_over_any_cut() {
        for (input, body, rest) in [
            (&b"0\r\n\r\n"[..], &b""[..], &b""[..]),
            (b"5\r\nhello\r\n0\r\n\r\nmore", b"hello", b"more"),
            (
                b"2;a=b\r\nhe\r\n3 \t; c=\"d\"\r\nllo\r\n000;x\r\nx: y\r\nz: \r\n\r\n",
                b"hello",
                b"",
            ),
            (
                b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
                b"01234567890123456789",
                b"",
            ),
        ] {
            for cut in 0..=input.len() {
                let read = read(input, cut).expect("well-formed").expect("whole");
                assert_eq!((&*read.0, &*read.1), (body, rest), "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        for input in [
            &b"\r\n"[..],
            b";x\r\n",
            b" 5\r\nhello",
            b"5\nhello",
            b"5\r\nhello\n",
            b"5\r\nhelloX",
            b"5\r\nhello\r\r",
            b"5;\n",
            b"5\rX",
            b"-1\r\n",
            b"0x5\r\n",
            b"G\r\n",
            b"00000000000000005\r\n",
            b"0\r\n\n",
            b"0\r\nx: y\n",
            b"0\r\nx: y\r\r",
            b"0\r\n\r\r",
        ] {
            assert!(read(input, 0).is_err(), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn extensions_and_trailers_end_soon() {
        let endless = |start: &[u8], more: &[u8]| {
            let mut chunks = Chunks::new();
            let mut start = start;
            while !matches!(chunks.step(&mut start), Ok(Step::More)) {}
            (0..100_000).find(|_| {
                let mut more = more;
                loop {
                    match chunks.step(&mut more) {
                        Ok(Step::More) => return false,
                        Ok(_) => {}
                        Err(_) => return true,
                    }
                }
            })
        };
        assert!(
            endless(b"1;", b"xxxx").is_some_and(|at| at <= ASIDE_BYTES_MAX / 4),
            "spec 52"
        );
        assert!(
            endless(b"0\r\n", b"a: b\r\n").is_some_and(|at| at <= ASIDE_BYTES_MAX / 4),
            "spec 52"
        );
        assert!(
            endless(b"", b"1;ab\r\nx\r\n").is_some_and(|at| at <= ASIDE_BYTES_MAX / 2),
            "spec 52"
        );
    }
}
