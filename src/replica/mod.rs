//! The replica's side: its tables, where it stands, how it follows.

pub mod create;
pub mod definition;
pub mod difference;
