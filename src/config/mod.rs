//! The validated settings of one store, as the core has them.

mod core_settings;
pub mod durability;
pub mod endpoint;

pub use core_settings::*;
