//! What several tests share.
#![allow(dead_code, reason = "each test uses its own part")]

pub mod fuzz;
pub mod groups;
pub mod messages;
pub mod messages_logs;
pub mod messages_metrics;
