//! The binding: the export list. See `_core.pyi` for what each name means.

mod asker;
mod bridge;
#[cfg(feature = "bench")]
pub use json::codec;
mod exceptions;
mod files;
mod ids;
mod jobs;
mod json;
mod log;
mod metrics;
mod packed;
mod settings;
mod stats;
mod store;

#[pyo3::pymodule(name = "_core")]
mod core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::bridge::close_at_exit;
    #[pymodule_export]
    use super::files::{FileWork, JsonFile, file_of};
    #[pymodule_export]
    use super::metrics::metrics;
    #[pymodule_export]
    use super::store::{BlockingKvStore, KvStore};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let close = module.getattr("close_at_exit")?;
        module
            .py()
            .import("atexit")?
            .call_method1("register", (close,))?;
        Ok(())
    }
}
