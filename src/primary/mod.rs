//! The primary: capture, and reading what it captured.

pub mod install;
pub mod tables;
pub mod capture;
pub mod gate;
pub mod delta;
pub mod batch;
pub mod source;
pub mod trim;
