//! A collector to test against.
