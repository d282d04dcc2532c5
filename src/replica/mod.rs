//! A replica: where it stands, and what brings it forward.

pub mod apply;
pub mod catch_up;
//pub mod copy;
//pub mod join;
pub mod state;
