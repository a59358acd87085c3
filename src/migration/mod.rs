//! Long work between files and the server, a step at a time: whoever does it may report and stop in
//! between.

mod export;
mod migrate;
mod plan;
mod steps;
mod verify;

pub use export::{Export, Exported};
pub use migrate::{Copies, Copying};
pub use plan::{Check, Checked};
pub use steps::{Progress, Step};
pub use verify::{Compared, Comparison, Differences};
