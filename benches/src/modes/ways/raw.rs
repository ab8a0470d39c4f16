//! The same bytes through a socket without any protocol: what the machine can do.

use super::{Meter, Result};
use crate::modes::settings::Settings;
use crate::modes::workload::Workload;
use crate::timing::now;
use otlp_embed::Request;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Instant;

pub(super) fn one_after_another(address: &str, settings: &Settings) -> Result {
    let mut stream = connect(address)?;
    let mut workload = Workload::new(0);
    let mut warm_up = 0;
    for _ in 0..settings.warm_up_requests() {
        let request = workload.request(settings.batch);
        warm_up += request.items();
        write(&mut stream, &request)?;
        stream.read_exact(&mut [0])?;
    }
    let mut meter = Meter::start(settings, warm_up);
    for number in 0..settings.requests() {
        let request = workload.request(settings.spans_of(number));
        meter.count(request.items(), request.encoded_len());
        let begun = now();
        write(&mut stream, &request)?;
        stream.read_exact(&mut [0])?;
        meter.record(begun);
    }
    Ok(meter.finish())
}

/// One thread writes, another reads the answers.
pub(super) fn many_at_a_time(address: &str, settings: &Settings) -> Result {
    let mut stream = connect(address)?;
    let mut workload = Workload::new(0);
    let mut warm_up = 0;
    for _ in 0..settings.warm_up_requests() {
        let request = workload.request(settings.batch);
        warm_up += request.items();
        write(&mut stream, &request)?;
        stream.read_exact(&mut [0])?;
    }
    let mut meter = Meter::start(settings, warm_up);
    // One is held by the reader, so that the channel has room for the others.
    let (sent, answered) = mpsc::sync_channel::<()>(settings.in_flight.saturating_sub(1));
    let mut answers = stream.try_clone()?;
    let reader = std::thread::spawn(move || -> io::Result<Vec<Instant>> {
        let mut ends = Vec::new();
        for () in answered {
            answers.read_exact(&mut [0])?;
            ends.push(now());
        }
        Ok(ends)
    });
    let mut begins = Vec::with_capacity(settings.requests() as usize);
    for number in 0..settings.requests() {
        let request = workload.request(settings.spans_of(number));
        meter.count(request.items(), request.encoded_len());
        begins.push(now());
        sent.send(())?;
        write(&mut stream, &request)?;
    }
    drop(sent);
    let ends = reader.join().map_err(|_| "the reader of answers panicked")??;
    let mut measured = meter.finish();
    measured.latencies = begins.iter().zip(ends).map(|(begun, end)| end - *begun).collect();
    Ok(measured)
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Writes a request behind its length.
fn write(stream: &mut TcpStream, request: &Request) -> io::Result<()> {
    let head = (request.encoded_len() as u32).to_be_bytes();
    let segments: Vec<_> = request.segments().collect();
    let mut slices = vec![IoSlice::new(&head)];
    slices.extend(segments.iter().map(|segment| IoSlice::new(segment)));
    let mut slices = &mut slices[..];
    while !slices.is_empty() {
        let count = stream.write_vectored(slices)?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut slices, count);
    }
    Ok(())
}
