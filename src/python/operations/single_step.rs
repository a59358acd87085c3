//! A call of one step: a future, and what its outcome is in Python.

use std::sync::Arc;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use super::unasked;
use crate::error::{Error, Result};
use crate::python::bridge::{Completion, Convert, Job, Spawner, Step};
use crate::stack;
use crate::store::{Call, KvStore};

pub(super) type Pending = std::pin::Pin<Box<dyn Future<Output = Result<Convert>> + Send>>;

/// One future and the conversion of its outcome.
pub(in crate::python) struct Once {
    call: Call,
    pending: Option<Pending>,
    /// Whether it is long work, which the runtime's threads do.
    long: bool,
    /// What the caller gets for a failure that the outage policy forgives; None: it is raised.
    otherwise: Option<Convert>,
}

impl Once {
    /// `body` on the store, its outcome turned into Python by pyo3.
    pub(in crate::python) fn new<T, F>(call: Call, body: impl FnOnce(Arc<KvStore>) -> F) -> Self
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        let pending = stack::on_large_stack(|| -> Pending {
            let future = body(Arc::clone(&call));
            Box::pin(async move { future.await.map(convert) })
        });
        Self {
            call,
            pending: Some(pending),
            long: false,
            otherwise: None,
        }
    }

    /// A call that failed before anything was sent.
    pub(in crate::python) fn failed(call: Call, error: Error, otherwise: Option<Convert>) -> Self {
        Self {
            call,
            pending: Some(Box::pin(async move { Err(error) })),
            long: false,
            otherwise,
        }
    }

    /// Has it done where it keeps no event loop waiting: a walk through the namespace.
    pub(in crate::python) fn long(mut self) -> Self {
        self.long = true;
        self
    }

    /// Gives `value` for a failure that the outage policy forgives.
    pub(in crate::python) fn or<T>(mut self, value: T) -> Self
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        self.otherwise = Some(convert(value));
        self
    }
}

pub(super) fn convert<T>(value: T) -> Convert
where
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    Box::new(|py| value.into_py_any(py))
}

impl Job for Once {
    fn call(&self) -> &Call {
        &self.call
    }

    fn start(&mut self, _py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        if let Some(pending) = self.pending.take() {
            let completion = || async move { Completion::Done(pending.await) };
            if self.long {
                spawn.run_apart(completion);
            } else {
                spawn.run(completion);
            }
        }
        Ok(Step::Wait)
    }

    fn resume(
        &mut self,
        py: Python<'_>,
        _spawn: &Spawner<'_>,
        completion: Completion,
    ) -> PyResult<Step> {
        let Completion::Done(outcome) = completion else {
            return Err(unasked());
        };
        let convert = match self.otherwise.take() {
            Some(otherwise) => self.call.forgiven(outcome)?.unwrap_or(otherwise),
            None => outcome?,
        };
        convert(py).map(Step::Done)
    }
}
