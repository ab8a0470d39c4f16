//! A day at the collector on a loopback socket: the collector has one bad hour after the other, and the pipeline that sends to
//! it all the while loses nothing, keeps within its memory and needs no help.
//!
//! [`story`] says what happens to the collector, [`producers`] write, [`ledger`] notes what arrived, [`watch`] holds the
//! pipeline to its law, and [`host`] brings them together.

pub mod host;
pub mod ledger;
pub mod producers;
pub mod settings;
pub mod story;
pub mod watch;
