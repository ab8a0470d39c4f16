//! What the quickstart is made of: a shop to watch, its signals, and a table to print.

pub mod logs;
pub mod metrics;
pub mod received;
pub mod shop;
pub mod table;
pub mod terminal;
pub mod traces;
