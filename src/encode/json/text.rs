//! Text in chunks, and values as JSON has them.

use crate::encode::pool::{self, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, Pool};
use crate::encode::reader::{Fault, Reader, each_str};
use alloc::sync::Arc;
use alloc::vec::Vec;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use core::fmt::{self, Write};

/// Text that grows chunk by chunk; what is written stays where it is.
pub(super) struct Chunks {
    pool: Option<Arc<Pool>>,
    /// Initialised all over, written up to `used`.
    chunk: Vec<u8>,
    used: usize,
    done: Vec<Bytes>,
    /// Bytes in chunks before this one, kept or not.
    done_bytes: usize,
    /// Text beyond this length is measured and not kept.
    bytes_max: usize,
}

impl Chunks {
    /// Room for the JSON of an encoded request of that length, of at most so many bytes.
    pub(super) fn new(encoded_len: usize, bytes_max: usize) -> Self {
        let pool = shared_pool();
        // Names and quotes about double the size of most requests.
        let len = encoded_len
            .saturating_mul(2)
            .clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let chunk = take(pool.as_ref(), len);
        Self {
            pool,
            chunk,
            used: 0,
            done: Vec::new(),
            done_bytes: 0,
            bytes_max,
        }
    }

    /// The text, or its length where that is beyond the limit.
    pub(super) fn finish(mut self) -> Result<Vec<Bytes>, usize> {
        self.flush();
        match self.done_bytes {
            len if len > self.bytes_max => Err(len),
            _ => Ok(self.done),
        }
    }

    #[inline]
    pub(super) fn put(&mut self, text: &[u8]) {
        match self.chunk.get_mut(self.used..self.used + text.len()) {
            Some(to) => {
                to.copy_from_slice(text);
                self.used += text.len();
            }
            None => self.put_across(text),
        }
    }

    fn put_across(&mut self, mut text: &[u8]) {
        while !text.is_empty() {
            if self.used == self.chunk.len() {
                self.flush();
                self.chunk = take(
                    self.pool.as_ref(),
                    CHUNK_BYTES_MAX.min(self.grown_len(text.len())),
                );
            }
            let len = text.len().min(self.chunk.len() - self.used);
            let (now, rest) = text.split_at(len);
            self.chunk[self.used..self.used + len].copy_from_slice(now);
            self.used += len;
            text = rest;
        }
    }

    /// The size of the next chunk: as much as there is already.
    fn grown_len(&self, wanted: usize) -> usize {
        self.done_bytes.max(wanted).max(CHUNK_BYTES_MIN)
    }

    fn flush(&mut self) {
        let chunk = core::mem::take(&mut self.chunk);
        let used = core::mem::take(&mut self.used);
        self.done_bytes = self.done_bytes.saturating_add(used);
        let is_too_long = self.done_bytes > self.bytes_max;
        if is_too_long {
            self.done.clear();
        }
        if used == 0 || is_too_long {
            if let Some(pool) = &self.pool {
                pool.put(chunk);
            }
        } else {
            self.done
                .push(pool::freeze(chunk, self.pool.as_ref()).slice(..used));
        }
    }

    /// Writes what fits on a few lines: numbers.
    fn put_fmt(&mut self, text: fmt::Arguments<'_>) {
        // Writing to chunks does not fail.
        let _ = self.write_fmt(text);
    }

    pub(super) fn unsigned(&mut self, mut value: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.put(&digits[at..]);
    }

    pub(super) fn signed(&mut self, value: i64) {
        if value < 0 {
            self.put(b"-");
        }
        self.unsigned(value.unsigned_abs());
    }

    /// The shortest number that reads back as the same double.
    pub(super) fn double(&mut self, value: f64) {
        if value.is_nan() {
            self.put(b"\"NaN\"");
        } else if value.is_infinite() {
            self.put(if value > 0.0 {
                b"\"Infinity\""
            } else {
                b"\"-Infinity\""
            });
        } else if value == 0.0 || (1e-5..1e16).contains(&value.abs()) {
            self.put_fmt(format_args!("{value}"));
        } else {
            self.put_fmt(format_args!("{value:e}"));
        }
    }

    pub(super) fn string(&mut self, from: Reader<'_>) -> Result<(), Fault> {
        self.put(b"\"");
        each_str(from, |text| self.escaped(text))?;
        self.put(b"\"");
        Ok(())
    }

    pub(super) fn hex(&mut self, mut from: Reader<'_>) {
        self.put(b"\"");
        while let Some(chunk) = from.next_chunk() {
            for byte in chunk {
                self.put(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        self.put(b"\"");
    }

    pub(super) fn base64(&mut self, mut from: Reader<'_>) {
        self.put(b"\"");
        // Three bytes make four characters; only at the very end there may be fewer.
        let mut bytes = [0; 3 * 64];
        let mut len = 0;
        while let Some(mut chunk) = from.next_chunk() {
            while !chunk.is_empty() {
                let (now, rest) = chunk.split_at(chunk.len().min(bytes.len() - len));
                bytes[len..len + now.len()].copy_from_slice(now);
                len += now.len();
                chunk = rest;
                if len == bytes.len() {
                    self.base64_of(&bytes);
                    len = 0;
                }
            }
        }
        self.base64_of(&bytes[..len]);
        self.put(b"\"");
    }

    fn base64_of(&mut self, bytes: &[u8]) {
        let mut text = [0; 4 * 64];
        // At most as many bytes as the text has room for.
        let len = STANDARD.encode_slice(bytes, &mut text).unwrap_or_default();
        self.put(&text[..len]);
    }

    fn escaped(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while let Some(at) = rest.iter().position(|byte| needs_escape(*byte)) {
            self.put(&rest[..at]);
            match rest[at] {
                b'"' => self.put(b"\\\""),
                b'\\' => self.put(b"\\\\"),
                b'\n' => self.put(b"\\n"),
                b'\r' => self.put(b"\\r"),
                b'\t' => self.put(b"\\t"),
                control => {
                    let (high, low) = (usize::from(control >> 4), usize::from(control & 15));
                    self.put(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
                }
            }
            rest = &rest[at + 1..];
        }
        self.put(rest);
    }
}

impl Write for Chunks {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn take(pool: Option<&Arc<Pool>>, len: usize) -> Vec<u8> {
    match pool {
        Some(pool) => pool.take(len),
        None => alloc::vec![0; len],
    }
}

/// The chunks of all requests that are sent as JSON come from one pool.
#[cfg(feature = "std")]
fn shared_pool() -> Option<Arc<Pool>> {
    static POOL: std::sync::OnceLock<Arc<Pool>> = std::sync::OnceLock::new();
    Some(POOL.get_or_init(Arc::default).clone())
}

#[cfg(not(feature = "std"))]
fn shared_pool() -> Option<Arc<Pool>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;

    fn written(write: impl FnOnce(&mut Chunks)) -> String {
        let mut chunks = Chunks::new(0, usize::MAX);
        write(&mut chunks);
        String::from_utf8(chunks.finish().unwrap_or_default().concat()).unwrap_or_default()
    }

    #[test]
    fn doubles_read_back_as_they_were() {
        let some = [
            0.0,
            -0.0,
            1.0,
            -1.5,
            0.1,
            1e-5,
            9.999e-6,
            1e15,
            1e16,
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
            9_007_199_254_740_993.0,
            core::f64::consts::PI,
        ];
        for value in some {
            let text = written(|chunks| chunks.double(value));
            let read: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            assert_eq!(read.as_f64().map(f64::to_bits), Some(value.to_bits()), "{text}");
            assert!(text.len() < 25, "{text}");
        }
        assert_eq!(written(|chunks| chunks.double(f64::NAN)), "\"NaN\"");
        assert_eq!(written(|chunks| chunks.double(f64::INFINITY)), "\"Infinity\"");
        assert_eq!(
            written(|chunks| chunks.double(f64::NEG_INFINITY)),
            "\"-Infinity\""
        );
    }

    #[test]
    fn integers_at_their_ends() {
        assert_eq!(written(|chunks| chunks.unsigned(0)), "0");
        assert_eq!(
            written(|chunks| chunks.unsigned(u64::MAX)),
            "18446744073709551615"
        );
        assert_eq!(written(|chunks| chunks.signed(i64::MIN)), "-9223372036854775808");
    }

    #[test]
    fn strings_are_escaped_wherever_they_are_cut() {
        let text: String = (0..0x180u32).filter_map(char::from_u32).collect::<String>() + "\u{2028}😀";
        for len in 1..9 {
            let pieces: Vec<Bytes> = text.as_bytes().chunks(len).map(Bytes::copy_from_slice).collect();
            let json = written(|chunks| assert!(chunks.string(Reader::new(&pieces)).is_ok()));
            assert_eq!(serde_json::from_str::<String>(&json).ok().as_ref(), Some(&text));
        }
    }

    #[test]
    fn bytes_are_as_the_library_encodes_them_wherever_they_are_cut() {
        for len in (0..10).chain(185..200).chain([400]) {
            let bytes: Vec<u8> = (0..len).map(|byte| byte as u8 ^ 0x5a).collect();
            for cut in [1, 2, 3, 191, 192, 500] {
                let pieces: Vec<Bytes> = bytes.chunks(cut).map(Bytes::copy_from_slice).collect();
                let text = written(|chunks| chunks.base64(Reader::new(&pieces)));
                assert_eq!(text.trim_matches('"'), STANDARD.encode(&bytes));
                let text = written(|chunks| chunks.hex(Reader::new(&pieces)));
                let expected: String = bytes.iter().map(|byte| alloc::format!("{byte:02x}")).collect();
                assert_eq!(text.trim_matches('"'), expected);
            }
        }
    }

    #[test]
    fn chunks_grow_and_hold_what_was_written() {
        let text = vec![b'x'; 3_000_000];
        let mut chunks = Chunks::new(10, text.len());
        for piece in text.chunks(7_001) {
            chunks.put(piece);
        }
        let done = chunks.finish().unwrap_or_default();
        assert_eq!(done.concat(), text);
        assert!(done.len() < 16, "{} chunks", done.len());
        assert!(done.iter().all(|chunk| chunk.len() <= CHUNK_BYTES_MAX));
    }

    #[test]
    fn text_beyond_the_limit_is_measured_and_not_kept() {
        let mut chunks = Chunks::new(10, 1_000_000);
        for _ in 0..3_000 {
            chunks.put(&[b'x'; 1_000]);
            let kept: usize = chunks.done.iter().map(Bytes::len).sum();
            assert!(kept <= 1_000_000, "{kept} bytes are kept");
        }
        assert_eq!(chunks.finish().err(), Some(3_000_000));
    }
}
