//! The HTTP door. So far: who may enter.

pub mod guard;
pub mod names;
pub mod tokens;
