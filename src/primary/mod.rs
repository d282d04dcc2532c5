//! The primary: capture, and reading what it captured.

pub mod batch;
pub mod delta;
pub mod source;
