//! One workload exported in several ways, each in a process of its own, to a peer in another process.
//!
//! [`peer`] is what the exporters send to, [`workload`] what they send, [`ways`] how; [`measure`] says how long it took,
//! and [`host`] starts the processes and asks the peer whether everything arrived.

pub mod histogram;
pub mod host;
pub mod measure;
pub mod peer;
pub mod process;
pub mod settings;
pub mod ways;
pub mod workload;
