//! What the README and MIGRATING.md of `otlp-embed` show, compiled: `build.rs` makes the modules of [`blocks`] from the pages
//! themselves, so that neither can differ from the other. `tests/blocks.rs` runs each.

use std::cell::RefCell;
use std::collections::HashMap;

/// The blocks, named after their headings.
pub mod blocks {
    include!(concat!(env!("OUT_DIR"), "/blocks.rs"));
}

thread_local! {
    static ENDPOINTS: RefCell<HashMap<String, String>> = RefCell::default();
}

/// Has blocks that name `printed`, called by this thread, use the endpoint `real`.
pub fn set_endpoint(printed: &str, real: impl Into<String>) {
    ENDPOINTS.with_borrow_mut(|endpoints| endpoints.insert(printed.into(), real.into()));
}

/// The endpoint that stands for one that a block names: the one set by this thread, or that of the environment, which whole
/// programs are given.
///
/// # Panics
///
/// There is neither: the block would talk to whatever listens on this machine.
pub fn endpoint(printed: &str) -> String {
    let set = ENDPOINTS.with_borrow(|endpoints| endpoints.get(printed).cloned());
    set.or_else(|| std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok())
        .unwrap_or_else(|| panic!("the test sets no endpoint for {printed}"))
}
