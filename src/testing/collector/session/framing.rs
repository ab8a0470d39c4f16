//! How the body of an HTTP/1.1 request is delimited (RFC 9112, section 6): read with as little trust as a server needs.

use bytes::{Buf, BytesMut};
use http::{HeaderMap, StatusCode, header};

/// A line that tells a chunk's size, with its extensions, has at most so many bytes.
const SIZE_LINE_BYTES_MAX: usize = 1024;
/// Trailers, which are read and thrown away, have at most so many bytes.
const TRAILER_BYTES_MAX: usize = 16 << 10;

/// Where in its body a request is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// `Content-Length`: so many bytes are still to come.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked(Chunk),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Before the line with a size.
    Size,
    /// So many bytes of a chunk are still to come.
    Data(u64),
    /// Before the line end after a chunk.
    End,
    /// After the last chunk, with so many bytes of trailers read.
    Trailers(usize),
    /// Everything has come.
    Over,
}

impl Framing {
    /// How the body of a request with these fields is delimited.
    pub(super) fn of(fields: &HeaderMap) -> Result<Self, StatusCode> {
        let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
        let mut encodings = fields.get_all(header::TRANSFER_ENCODING).iter();
        match (lengths.next(), encodings.next()) {
            // A request that can be read in two ways is how requests are smuggled.
            (Some(_), Some(_)) => Err(StatusCode::BAD_REQUEST),
            (None, None) => Ok(Self::Length(0)),
            (Some(length), None) => {
                let text = length.to_str().map_err(|_| StatusCode::BAD_REQUEST)?;
                let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                let others_agree = lengths.all(|other| other == length);
                let bytes = text.parse().ok().filter(|_| is_number && others_agree);
                bytes.map(Self::Length).ok_or(StatusCode::BAD_REQUEST)
            }
            (None, Some(encoding)) => {
                let is_chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
                if is_chunked && encodings.next().is_none() {
                    Ok(Self::Chunked(Chunk::Size))
                } else {
                    Err(StatusCode::NOT_IMPLEMENTED)
                }
            }
        }
    }

    /// Moves what is of the body from `input` to `body`; tells whether it is over.
    ///
    /// # Errors
    ///
    /// Where the chunks are malformed.
    pub(super) fn read(&mut self, input: &mut BytesMut, body: &mut BytesMut) -> Result<bool, StatusCode> {
        match self {
            Self::Length(left) => {
                move_bytes(left, input, body);
                Ok(*left == 0)
            }
            Self::Chunked(chunk) => chunk.read(input, body),
        }
    }
}

impl Chunk {
    fn read(&mut self, input: &mut BytesMut, body: &mut BytesMut) -> Result<bool, StatusCode> {
        loop {
            match self {
                Self::Size => {
                    let Some(line) = take_line(input, SIZE_LINE_BYTES_MAX)? else {
                        return Ok(false);
                    };
                    *self = match size_of(&line)? {
                        0 => Self::Trailers(0),
                        size => Self::Data(size),
                    };
                }
                Self::Data(left) => {
                    move_bytes(left, input, body);
                    if *left > 0 {
                        return Ok(false);
                    }
                    *self = Self::End;
                }
                Self::End => match take_line(input, 0)? {
                    None => return Ok(false),
                    Some(line) if line.is_empty() => *self = Self::Size,
                    Some(_) => return Err(StatusCode::BAD_REQUEST),
                },
                Self::Trailers(read) => {
                    let Some(line) = take_line(input, TRAILER_BYTES_MAX - *read)? else {
                        return Ok(false);
                    };
                    *self = if line.is_empty() {
                        Self::Over
                    } else {
                        Self::Trailers((*read + line.len() + 2).min(TRAILER_BYTES_MAX))
                    };
                }
                Self::Over => return Ok(true),
            }
        }
    }
}

fn move_bytes(left: &mut u64, input: &mut BytesMut, body: &mut BytesMut) {
    let count = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    body.extend_from_slice(&input[..count]);
    input.advance(count);
    *left -= count as u64;
}

/// Takes a line without its CRLF, which may have `bytes_max` bytes; nothing while it has not come whole.
fn take_line(input: &mut BytesMut, bytes_max: usize) -> Result<Option<BytesMut>, StatusCode> {
    let within = &input[..input.len().min(bytes_max + 2)];
    match within.iter().position(|byte| *byte == b'\n') {
        Some(end) if end > 0 && within[end - 1] == b'\r' => {
            let mut line = input.split_to(end + 1);
            line.truncate(end - 1);
            Ok(Some(line))
        }
        Some(_) => Err(StatusCode::BAD_REQUEST),
        None if within.len() == bytes_max + 2 => Err(StatusCode::BAD_REQUEST),
        None => Ok(None),
    }
}

fn size_of(line: &[u8]) -> Result<u64, StatusCode> {
    let end = line.iter().position(|byte| *byte == b';').unwrap_or(line.len());
    let digits = line[..end].trim_ascii_end();
    if !(1..=16).contains(&digits.len()) {
        return Err(StatusCode::BAD_REQUEST);
    }
    digits.iter().try_fold(0, |size, digit| {
        let digit = char::from(*digit).to_digit(16);
        digit
            .map(|digit| size << 4 | u64::from(digit))
            .ok_or(StatusCode::BAD_REQUEST)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(bytes: &[u8], piece: usize) -> Result<(bool, BytesMut, BytesMut), StatusCode> {
        let mut framing = Framing::Chunked(Chunk::Size);
        let (mut input, mut body) = (BytesMut::new(), BytesMut::new());
        let mut is_over = false;
        for piece in bytes.chunks(piece) {
            input.extend_from_slice(piece);
            is_over = framing.read(&mut input, &mut body)?;
        }
        Ok((is_over, body, input))
    }

    #[test]
    fn chunks_are_read_however_they_are_split() {
        let bytes = b"3\r\nabc\r\n00A ; name=value\r\n0123456789\r\n0\r\nx-trailer: 1\r\n\r\nnext";
        for piece in 1..bytes.len() {
            let (is_over, body, rest) = read(bytes, piece).expect("well formed");
            assert!(is_over, "pieces of {piece}");
            assert_eq!((&*body, &*rest), (&b"abc0123456789"[..], &b"next"[..]));
        }
        for length in 0..bytes.len() - 4 {
            let (is_over, _, _) = read(&bytes[..length], 7).expect("well formed as far as it goes");
            assert!(!is_over, "cut after {length}");
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        let long = [b"1;".to_vec(), alloc::vec![b'x'; 2000]].concat();
        let flood = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(5000)].concat();
        let cases: [&[u8]; 10] = [
            b"x\r\n",
            b"\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b"1\nA",
            b"1\r\nAB\r\n",
            b"11111111111111111\r\n",
            &long,
            &flood,
        ];
        for case in cases {
            let shown = case.escape_ascii();
            assert_eq!(read(case, 5).unwrap_err(), StatusCode::BAD_REQUEST, "{shown}");
        }
    }

    #[test]
    fn the_fields_tell_how_a_body_ends() {
        let of = |fields: &[(http::HeaderName, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(name, HeaderValue::from_str(value).expect("a valid value"));
            }
            Framing::of(&map)
        };
        let (length, encoding) = (header::CONTENT_LENGTH, header::TRANSFER_ENCODING);
        assert_eq!(of(&[]), Ok(Framing::Length(0)));
        assert_eq!(of(&[(length.clone(), "12")]), Ok(Framing::Length(12)));
        assert_eq!(
            of(&[(length.clone(), "12"), (length.clone(), "12")]),
            Ok(Framing::Length(12))
        );
        for bad in ["", "+1", "-1", "1,1", "1 ", "99999999999999999999"] {
            assert_eq!(
                of(&[(length.clone(), bad)]),
                Err(StatusCode::BAD_REQUEST),
                "{bad}"
            );
        }
        let differing = of(&[(length.clone(), "1"), (length.clone(), "2")]);
        assert_eq!(differing, Err(StatusCode::BAD_REQUEST));
        let both = of(&[(length, "1"), (encoding.clone(), "chunked")]);
        assert_eq!(both, Err(StatusCode::BAD_REQUEST));
        assert_eq!(
            of(&[(encoding.clone(), "Chunked")]),
            Ok(Framing::Chunked(Chunk::Size))
        );
        assert_eq!(
            of(&[(encoding, "gzip, chunked")]),
            Err(StatusCode::NOT_IMPLEMENTED)
        );
    }
}
