//! What is looked at once, beside the first call, and reported in the log.

mod once;
mod server_settings;
mod working_dir;

pub(crate) use once::StartupChecks;
