//! The primary: capture, and reading what it captured.

pub mod batch;
pub mod capture;
pub mod delta;
pub mod gate;
pub mod install;
pub mod keys;
pub mod look;
pub mod reader;
pub mod rows;
pub mod source;
pub mod tables;
pub mod trim;
