//! What goes wrong around a pipeline and what stands beside it: futures that are dropped at any await, code of the application's
//! that panics, parties that are gone, ends that come at a bad time, runtimes that go first. Each has a defined end, nobody
//! waits for ever, and the accounts hold. Everything runs under a watchdog.

#[path = "../conformance/adapters.rs"]
#[allow(dead_code, reason = "not every adapter is needed")]
mod adapters;
#[path = "../support/batches.rs"]
#[allow(dead_code, reason = "not all of it is needed")]
mod batches;
#[path = "../../examples/support/executor.rs"]
#[allow(dead_code, reason = "not all of it is needed")]
mod executor;
#[path = "../support/sources.rs"]
#[allow(dead_code, reason = "not all of it is needed")]
mod sources;

mod dropped;
mod executors;
mod gone;
mod panics;
mod runtimes_gone;
mod shutdowns;
mod support;
