//! Long work between files and the server, a step at a time: whoever does it may report and stop in
//! between.

mod export;
mod migrate;
mod steps;
mod verify;

pub use export::{Export, Exported};
pub use migrate::{Check, Checked, Copies, Copying};
pub use steps::{Progress, Step};
pub use verify::{Compared, Comparison, Differences};
