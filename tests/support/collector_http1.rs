//! A client of HTTP/1.1 that says what it is told and reads with care, coupled in memory to a session of the collector.

use otlp_embed::testing::collector::{Builder, Fate, ServerSession};
use otlp_embed::time::Instant;
use std::time::Duration;

/// A session and everything it has said that was not taken yet.
pub struct Client {
    pub session: ServerSession,
    pub now: Instant,
    /// Bytes that are handed over at one time.
    pub chunk: usize,
    unread: Vec<u8>,
}

/// An answer that came whole.
#[derive(Debug, PartialEq)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Client {
    pub fn new(builder: &Builder) -> Self {
        Self {
            session: builder.session(3),
            now: Instant::ZERO,
            chunk: usize::MAX,
            unread: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(self.chunk.min(bytes.len().max(1))) {
            self.session.handle_input(self.now, chunk);
            self.collect();
        }
    }

    pub fn advance(&mut self, duration: Duration) {
        self.now = self.now + duration;
        if self.session.poll_timeout().is_some_and(|at| at <= self.now) {
            self.session.handle_timeout(self.now);
        }
        self.collect();
    }

    pub fn disconnect(&mut self) {
        self.session.handle_eof(self.now);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(bytes) = self.session.poll_transmit() {
            self.unread.extend(bytes);
        }
    }

    /// Everything that was said and not taken.
    pub fn unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }

    /// The next answer, interim ones included; nothing where it has not come whole.
    pub fn response(&mut self) -> Option<Response> {
        let is_over = self.session.fate() != Fate::Open;
        let (response, length) = read_response(&self.unread, is_over)?;
        self.unread.drain(..length);
        Some(response)
    }

    /// Sends a request and takes the answer.
    pub fn post(&mut self, path: &str, content_type: &str, body: &[u8]) -> Response {
        self.send(&request(path, &[("Content-Type", content_type)], body));
        self.response().expect("an answer comes at once")
    }
}

impl Response {
    /// A field of the head, its name in any letter case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A request with `Content-Length`.
pub fn request(path: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: test\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    [head.as_bytes(), body].concat()
}

fn read_response(bytes: &[u8], is_over: bool) -> Option<(Response, usize)> {
    let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..head_end - 4].to_vec()).expect("heads here are text");
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .expect("a status line")
        .parse()
        .expect("a status");
    let mut response = Response {
        status,
        head,
        body: Vec::new(),
    };
    let rest = &bytes[head_end..];
    let length = if status < 200 || status == 204 || status == 304 {
        0
    } else if let Some(length) = response.field("content-length") {
        let length = length.parse().expect("a length");
        response.body = rest.get(..length)?.to_vec();
        length
    } else if response.field("transfer-encoding") == Some("chunked") {
        let (body, length) = read_chunks(rest)?;
        response.body = body;
        length
    } else if is_over {
        response.body = rest.to_vec();
        rest.len()
    } else {
        return None;
    };
    Some((response, head_end + length))
}

/// The data of all chunks, and how long they are with trailers and everything; those trailers follow the data.
fn read_chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line_end = at + bytes[at..].windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..line_end]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a size in hexadecimal");
        at = line_end + 2;
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.get(at..at + size)?);
        assert_eq!(bytes.get(at + size..at + size + 2)?, b"\r\n");
        at += size + 2;
    }
    loop {
        let length = bytes[at..].windows(2).position(|window| window == b"\r\n")?;
        let trailer = &bytes[at..at + length];
        at += length + 2;
        if trailer.is_empty() {
            return Some((body, at));
        }
        body.extend_from_slice(trailer);
    }
}
