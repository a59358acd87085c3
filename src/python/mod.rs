//! The binding: the export list. See `_core.pyi` for what each name means.

mod bridge;
mod classes;
mod exceptions;
mod id_arguments;
mod json;
mod operations;
mod packed_strings;
mod python_logging;
mod single_flight_task;

#[cfg(feature = "bench")]
pub use json::bench_entry as codec;

#[pyo3::pymodule(name = "_core")]
mod core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::bridge::close_at_exit;
    #[pymodule_export]
    use super::classes::file_work::{FileWork, JsonFile, file_of};
    #[pymodule_export]
    use super::classes::kv_store::{BlockingKvStore, KvStore};
    #[pymodule_export]
    use super::classes::metrics_dict::metrics;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::panics::silence_expected();
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let close = module.getattr("close_at_exit")?;
        module
            .py()
            .import("atexit")?
            .call_method1("register", (close,))?;
        Ok(())
    }
}
