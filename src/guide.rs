//! The guide for operators: what it does, how it is run, and what to do when something is wrong.
//!
//! It is text only; the [architecture](crate) says how the code works, and the README what is promised.

#[doc = include_str!("guide/how_it_works.md")]
pub mod how_it_works {}

#[doc = include_str!("guide/three_machines.md")]
pub mod three_machines {}

#[doc = include_str!("guide/changing.md")]
pub mod changing {}

#[doc = include_str!("guide/troubleshooting.md")]
pub mod troubleshooting {}

#[doc = include_str!("guide/json.md")]
pub mod json {}

#[doc = include_str!("guide/watching.md")]
pub mod watching {}

#[doc = include_str!("guide/log_events.md")]
pub mod log_events {}

#[doc = include_str!("guide/security.md")]
pub mod security {}

#[doc = include_str!("guide/comparison.md")]
pub mod comparison {}
