//! Links and runs otlp-embed without the standard library: a dependency that brought it in would define the panic
//! handler a second time and break the build.
//!
//! `otlp-embed-no-std URL` exports over OTLP/HTTP to a collector at an address of IPv4. The exit code is the number of the
//! check that failed.
#![no_std]
#![no_main]

extern crate alloc;

mod device;
mod host;
mod memory;

use alloc::format;
use core::ffi::{c_char, c_int};
use core::panic::PanicInfo;
use core::time::Duration;
use device::Exporter;
use host::Host;
use otlp_embed::endpoint::Endpoint;
use otlp_embed::export::{Action, Engine, Fact};
use otlp_embed::time::Instant;
use otlp_embed::{Code, Config, DropReason, Request, Resource, TraceBatch, policy};

const BATCHES: u64 = 50;
const SPANS: u64 = 100;
/// Telemetry that may wait for its verdict, in bytes.
const TELEMETRY_BYTES_MAX: usize = 64 << 10;

// Without std nobody else asks for the C library, which calls `main`.
#[link(name = "c")]
unsafe extern "C" {
    safe fn abort() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    abort()
}

// `alloc` as shipped names what would unwind; with `panic = "abort"` nothing does, and nothing calls these.
// SAFETY: no other library of the program defines either.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    abort()
}

// SAFETY: the program has one `main`, which the C runtime calls with these arguments.
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, vector: *const *const c_char) -> c_int {
    memory::begin();
    let url = host::argument(count, vector, 1);
    let checks = [
        Endpoint::parse_grpc("http://[::1]")
            .is_ok_and(|endpoint| format!("{endpoint}") == "http://[::1]:4317"),
        Endpoint::parse_grpc("ftp://collector").is_err_and(|error| error.is_misuse()),
        format!("{:?}", Config::new().with_header("authorization", "secret"))
            .find("secret")
            .is_none(),
        policy::is_retryable(Code::UNAVAILABLE, false) && !policy::is_retryable(Code::INTERNAL, false),
        request(2).items() == 2 && request(2).encoded_len() > 100,
        keeps_its_deadline(),
        url.is_some_and(exports),
    ];
    checks
        .iter()
        .position(|passed| !passed)
        .map_or(0, |at| at as c_int + 1)
}

fn request(spans: u64) -> Request {
    let resource = Resource::builder().attr("service.name", "device").build();
    let mut batch = TraceBatch::new(&resource);
    batch.scope("no-std", "1.0");
    for id in 1..=spans {
        batch
            .span(u128::from(id).to_be_bytes(), id.to_be_bytes(), "measure")
            .attr("celsius", 21.5)
            .times(1..2)
            .end();
    }
    batch.finish()
}

/// The engine asks for the name, gets no answer, and gives its verdict on time, exact about every item.
fn keeps_its_deadline() -> bool {
    let config = Config::new().with_timeout(Duration::from_secs(3));
    let Ok(mut engine) = <Engine>::new(config, 1) else {
        return false;
    };
    let export = engine.submit(Instant::ZERO, request(2));
    let asks = matches!(engine.poll_action(), Some(Action::Resolve(_, name)) if &*name.host == "localhost");
    let in_time = engine.poll_timeout() == Some(Instant::from_millis(3_000));
    engine.handle(Instant::from_millis(3_000), Fact::Timeout);
    let told = engine.poll_outcome().is_some_and(|(id, verdict)| {
        id == export && verdict.is_err_and(|error| error.drop_reason() == Some(DropReason::Deadline))
    });
    asks && in_time && told && engine.stats().is_conserved() && engine.stats().dropped_total() == 2
}

/// Batch after batch reaches the collector, over one connection.
fn exports(url: &str) -> bool {
    let config = Config::new()
        .with_endpoint(url)
        .with_memory_limit(TELEMETRY_BYTES_MAX);
    let exporter = match Exporter::new(config, Host::new()) {
        Ok(exporter) => exporter,
        Err(error) => return complain(&error),
    };
    let mut exporter = exporter;
    for _ in 0..BATCHES {
        match exporter.export(request(SPANS)) {
            Ok(outcome) if outcome.delivered() == SPANS => {}
            Ok(outcome) => {
                host::say(&format!("{} of {SPANS} delivered\n", outcome.delivered()));
                return false;
            }
            Err(error) => return complain(&error),
        }
    }
    host::say(&format!(
        "{BATCHES} batches of {SPANS} spans delivered; {} bytes of memory in use at most\n",
        memory::most_used()
    ));
    true
}

fn complain(error: &otlp_embed::Error) -> bool {
    host::say(&format!("{error}\n"));
    false
}
