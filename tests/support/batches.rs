//! Batches whose spans are told apart.

use otlp_embed::{Request, encode::Signal};

fn field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag << 3 | 2);
    let mut n = bytes.len();
    while n > 127 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
    out.extend_from_slice(bytes);
}
pub fn batch(first: u64, count: u64) -> Request {
    batch_with(first, count, "")
}
pub fn batch_with(first: u64, count: u64, payload: &'static str) -> Request {
    let mut scope = vec![];
    for id in first..first + count {
        let mut trace_id = [7; 16];
        trace_id[..8].copy_from_slice(&(id + 1).to_be_bytes());
        let mut span = vec![];
        field(&mut span, 1, &trace_id);
        field(&mut span, 2, &(id + 1).to_be_bytes());
        field(&mut span, 5, b"work");
        field(&mut span, 3, payload.as_bytes());
        field(&mut scope, 2, &span);
    }
    let mut rs = vec![];
    field(&mut rs, 2, &scope);
    let mut all = vec![];
    field(&mut all, 1, &rs);
    Request::from_segments(Signal::Traces, count, vec![all.into()])
}
