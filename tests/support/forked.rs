//! Code that runs in a child process.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Far more than a child needs.
const CHILD_SECONDS_MAX: libc::c_uint = 20;

/// Runs `child` in a child process. Fails when it panics, or is killed since it does not end.
#[allow(unsafe_code, reason = "there is no other way to fork")]
pub fn forked(child: impl FnOnce()) {
    // SAFETY: the child runs Rust code with the locks that its thread holds, which are none, and leaves without running
    // anything of the parent's.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "no process can be forked");
    if pid == 0 {
        // SAFETY: both calls take numbers and touch no memory. The alarm ends a child that hangs.
        unsafe { libc::alarm(CHILD_SECONDS_MAX) };
        let passed = catch_unwind(AssertUnwindSafe(child)).is_ok();
        // SAFETY: as above; nothing is run at this exit.
        unsafe { libc::_exit(i32::from(!passed)) };
    }
    let mut status = 0;
    // SAFETY: the place for the status outlives the call.
    let waited = unsafe { libc::waitpid(pid, &mut status, 0) };
    assert_eq!(waited, pid);
    assert_eq!(status, 0, "the child panicked, or was killed since it hung");
}
