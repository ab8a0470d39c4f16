//! The other process: a collector, and a socket whose bytes are thrown away.

use super::measure::Figures;
use super::process;
use otlp_embed::testing::{Answer, Collector};
use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes that the raw socket reads at a time; the same as the collector.
const READ_BYTES: usize = 256 << 10;

/// Serves until its standard input ends. A client may have `streams` calls open at a time, where that is said.
///
/// It says where it listens, and then answers each line with one: `counters`, `clear`, `pace MICROSECONDS` (how long the
/// collector takes for an answer).
///
/// # Errors
///
/// Where it cannot listen, or whoever started it has gone.
pub fn serve(streams: Option<u32>) -> io::Result<()> {
    let mut builder = Collector::builder().keep_requests(false);
    if let Some(streams) = streams {
        builder = builder.max_concurrent_streams(streams);
    }
    let collector = builder.start()?;
    let raw = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut out = io::stdout().lock();
    writeln!(out, "{} {}", collector.endpoint(), raw.local_addr()?)?;
    out.flush()?;
    let raw_bytes = Arc::new(AtomicU64::new(0));
    let counted = raw_bytes.clone();
    std::thread::spawn(move || accept(&raw, &counted));
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        match (words.next(), words.next().and_then(|word| word.parse().ok())) {
            (Some("clear"), _) => {
                collector.clear();
                raw_bytes.store(0, Ordering::Relaxed);
            }
            (Some("pace"), Some(micros)) => {
                collector.answer(match micros {
                    0 => Answer::Ok,
                    micros => Answer::Ok.after(Duration::from_micros(micros)),
                });
            }
            _ => {}
        }
        let counters = collector.counters();
        let figures = Figures::default()
            .with("requests", counters.requests)
            .with("spans", counters.spans)
            .with("spans_accepted", counters.spans_accepted)
            .with("message_bytes", counters.message_bytes)
            .with("calls_invalid", counters.calls_invalid)
            .with("calls_cancelled", counters.calls_cancelled)
            .with("connections", counters.connections)
            .with("raw_bytes", raw_bytes.load(Ordering::Relaxed))
            .with("cpu_us", process::cpu().as_micros() as u64);
        writeln!(out, "{figures}")?;
        out.flush()?;
    }
    Ok(())
}

fn accept(listener: &TcpListener, bytes: &AtomicU64) {
    for stream in listener.incoming().flatten() {
        // The exporter's end of the connection tells whoever looks that it is gone.
        let _ = discard(stream, bytes);
    }
}

/// Reads requests, each behind its length in four bytes, and answers each with one byte.
fn discard(mut stream: TcpStream, bytes: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; READ_BYTES];
    // Bytes of the request that is being read, and those of its length that have come.
    let (mut left, mut head, mut head_len) = (0, [0; 4], 0);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let (mut read, mut answers) = (&buffer[..count], 0);
        while !read.is_empty() {
            if left == 0 {
                head[head_len] = read[0];
                (head_len, read) = (head_len + 1, &read[1..]);
                if head_len == head.len() {
                    (left, head_len) = (u32::from_be_bytes(head) as usize, 0);
                }
                continue;
            }
            let part = left.min(read.len());
            (left, read) = (left - part, &read[part..]);
            bytes.fetch_add(part as u64, Ordering::Relaxed);
            answers += usize::from(left == 0);
        }
        if answers > 0 {
            stream.write_all(&vec![1; answers])?;
        }
    }
}
