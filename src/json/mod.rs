//! JSON text: its grammar, how strings and numbers are written, and documents written anew.

#[cfg(any(strings_in_place, test))]
mod code_points;
pub(crate) mod cursor;
mod escape_string;
mod plain_text;
mod rewrite;
mod write_float;

#[cfg(strings_in_place)]
pub(crate) use code_points::{Measure, Unit, Width, write_code_points};
pub(crate) use escape_string::write_utf8;
#[cfg(strings_in_place)]
pub(crate) use escape_string::{LoneSurrogate, write_string};
pub(crate) use plain_text::{copy_plain, escaped_prefix, plain_prefix};
#[cfg(feature = "python")]
pub(crate) use rewrite::SLACK;
pub(crate) use rewrite::{Layout, rewrite, rewrite_first};
pub(crate) use write_float::write_float;
