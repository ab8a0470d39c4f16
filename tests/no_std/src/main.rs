//! Links and runs otlp-embed without the standard library: a dependency that brought it in would define the panic
//! handler a second time and break the build. The exit code is the number of the check that failed.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use core::ffi::{c_char, c_int};
use core::panic::PanicInfo;
use core::time::Duration;
use libc_alloc::LibcAlloc;
use otlp_embed::endpoint::Endpoint;
use otlp_embed::export::{Action, Engine, Fact};
use otlp_embed::protocol;
use otlp_embed::time::Instant;
use otlp_embed::{Code, Config, DropReason, Request, Resource, TraceBatch, policy};

#[global_allocator]
static ALLOCATOR: LibcAlloc = LibcAlloc;

// Without std nobody else asks for the C library, which has malloc and calls `main`.
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
extern "C" fn main(_arguments: c_int, _vector: *const *const c_char) -> c_int {
    let checks = [
        Endpoint::parse_grpc("http://[::1]")
            .is_ok_and(|endpoint| format!("{endpoint}") == "http://[::1]:4317"),
        Endpoint::parse_grpc("ftp://collector").is_err_and(|error| error.is_misuse()),
        format!("{:?}", Config::new().with_protocol(otlp_embed::Protocol::Grpc).with_header("authorization", "secret"))
            .find("secret")
            .is_none(),
        policy::is_retryable(Code::UNAVAILABLE, false) && !policy::is_retryable(Code::INTERNAL, false),
        request().items() == 2 && request().encoded_len() > 100,
        keeps_its_deadline(),
    ];
    checks
        .iter()
        .position(|passed| !passed)
        .map_or(0, |at| at as c_int + 1)
}

fn request() -> Request {
    let resource = Resource::builder().attr("service.name", "device").build();
    let mut batch = TraceBatch::new(&resource);
    batch.scope("no-std", "1.0");
    for id in 1..=2 {
        batch
            .span([id; 16], [id; 8], "measure")
            .attr("celsius", 21.5)
            .times(1..2)
            .end();
    }
    batch.finish()
}

/// The engine asks for the name, gets no answer, and gives its verdict on time, exact about every item.
fn keeps_its_deadline() -> bool {
    let config = Config::new().with_protocol(otlp_embed::Protocol::Grpc).with_timeout(Duration::from_secs(3));
    let Ok(mut engine) = Engine::<protocol::Default>::new(config, 1) else {
        return false;
    };
    let export = engine.submit(Instant::ZERO, request());
    let asks = matches!(engine.poll_action(), Some(Action::Resolve(_, name)) if &*name.host == "localhost");
    let in_time = engine.poll_timeout() == Some(Instant::from_millis(3_000));
    engine.handle(Instant::from_millis(3_000), Fact::Timeout);
    let told = engine.poll_outcome().is_some_and(|(id, verdict)| {
        id == export && verdict.is_err_and(|error| error.drop_reason() == Some(DropReason::Deadline))
    });
    asks && in_time && told && engine.stats().is_conserved() && engine.stats().dropped_total() == 2
}
