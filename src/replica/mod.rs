//! A replica: where it stands, and what brings it forward.

pub mod alter;
pub mod apply;
pub mod at_once;
pub mod catch_up;
pub mod chunk;
pub mod copy;
pub mod create;
pub mod definition;
pub mod difference;
pub mod empty;
pub mod filled;
pub mod followed;
mod install;
pub mod isolate;
pub mod join;
mod leave;
mod made;
pub mod moves;
pub mod nameless;
pub mod names;
pub mod reading;
pub mod sending;
pub mod session;
mod shelf;
pub mod state;
