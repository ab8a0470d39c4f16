//! What the quickstart is made of: a shop to trace, and a table to print.

pub mod encode;
pub mod shop;
pub mod table;
pub mod terminal;
