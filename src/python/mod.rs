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

/// Finds what is found at first use before this process forks: a search that another thread is in the middle of would
/// never end in the child. Registered with `os.register_at_fork`.
#[pyo3::pyfunction]
fn prepare_fork(py: pyo3::Python<'_>) {
    use pyo3::prelude::*;

    // A module that is imported now could have hooks of its own run for one half of the fork.
    let imported = |name| {
        let modules = py.import("sys").and_then(|sys| sys.getattr("modules"));
        modules.is_ok_and(|modules| modules.contains(name).unwrap_or(false))
    };
    // What fails here fails again, and is told, where it is needed.
    if imported("asyncio") {
        let _ = bridge::get_running_loop(py);
        let _ = single_flight_task::functions(py);
    }
    if imported(exceptions::MODULE) {
        let _ = exceptions::classes(py);
    }
    if imported("json") {
        let _ = json::loads::function(py);
    }
}

#[pyo3::pymodule(name = "_core")]
mod core {
    use pyo3::prelude::*;
    use pyo3::types::IntoPyDict;

    #[pymodule_export]
    use super::bridge::{close_at_exit, note_fork};
    #[pymodule_export]
    use super::classes::file_work::{FileWork, JsonFile, file_of};
    #[pymodule_export]
    use super::classes::kv_store::{BlockingKvStore, KvStore};
    #[pymodule_export]
    use super::classes::metrics_dict::metrics;
    #[pymodule_export]
    use super::prepare_fork;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::panics::silence_expected();
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let py = module.py();
        let close = module.getattr("close_at_exit")?;
        py.import("atexit")?.call_method1("register", (close,))?;
        if let Ok(register) = py.import("os")?.getattr("register_at_fork") {
            let hooks = [("before", "prepare_fork"), ("after_in_child", "note_fork")];
            let hooks = hooks.map(|(when, name)| Ok((when, module.getattr(name)?)));
            let hooks = hooks.into_iter().collect::<PyResult<Vec<_>>>()?;
            let hooks = hooks.into_py_dict(py)?;
            register.call((), Some(&hooks))?;
        }
        Ok(())
    }
}
