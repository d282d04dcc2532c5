//! A replica: where it stands, and what brings it forward.

pub mod apply;
pub mod catch_up;
pub mod create;
pub mod definition;
pub mod difference;
pub mod state;
