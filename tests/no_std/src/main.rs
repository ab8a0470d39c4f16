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
use otlp_embed::time::Instant;
use otlp_embed::{Code, Config, policy};

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
        format!("{:?}", Config::new().with_header("authorization", "secret"))
            .find("secret")
            .is_none(),
        Instant::from_millis(1_500) - Instant::ZERO == Duration::from_millis(1_500),
        policy::is_retryable(Code::UNAVAILABLE, false) && !policy::is_retryable(Code::INTERNAL, false),
    ];
    checks
        .iter()
        .position(|passed| !passed)
        .map_or(0, |at| at as c_int + 1)
}
