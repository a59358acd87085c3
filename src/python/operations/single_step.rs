//! A call of one step: a future, and what its outcome is in Python; of many ids, once they are read.

use std::sync::Arc;
use std::vec;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::time_slice::Turn;
use super::unasked;
use crate::error::{Error, Result};
use crate::python::bridge::{Completion, Convert, Job, Spawner, Step};
use crate::python::id_arguments::Ids;
use crate::python::packed_strings::Packed;
use crate::stack;
use crate::store::{Call, KEY_BATCH, KvStore};

type Pending = std::pin::Pin<Box<dyn Future<Output = Result<Convert>> + Send>>;

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

fn convert<T>(value: T) -> Convert
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

    fn fail(&mut self, py: Python<'_>, error: Error) -> PyResult<Py<PyAny>> {
        let Some(otherwise) = self.otherwise.take() else {
            return Err(error.into());
        };
        self.call.forgiven(Err::<(), _>(error))?;
        otherwise(py)
    }
}

type Body = Box<dyn FnOnce(Arc<KvStore>, Packed) -> Pending + Send>;

/// One future on many ids, whose failure is raised whatever the outage policy.
pub(in crate::python) struct OnceWithIds {
    call: Call,
    given: Ids,
    rest: Option<vec::IntoIter<Py<PyString>>>,
    ids: Packed,
    body: Option<Body>,
}

impl OnceWithIds {
    pub(in crate::python) fn new<T, F>(
        call: Call,
        given: Ids,
        body: impl FnOnce(Arc<KvStore>, Vec<String>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        Self {
            call,
            given,
            rest: None,
            ids: Packed::default(),
            body: Some(Box::new(|store, ids| {
                stack::on_large_stack(|| -> Pending {
                    Box::pin(async move { body(store, ids.into_strings()).await.map(convert) })
                })
            })),
        }
    }
}

impl Job for OnceWithIds {
    fn call(&self) -> &Call {
        &self.call
    }

    fn start(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        if self.rest.is_none() {
            if !self.given.read(py)? {
                return Ok(Step::Again);
            }
            let (ids, wrong) = self.given.take();
            if let Some(error) = wrong {
                return Err(error.in_namespace(&self.call.config().namespace).into());
            }
            self.ids = Packed::with_room(ids.len());
            self.rest = Some(ids.into_iter());
        }
        let mut turn = Turn::begin();
        for id in self.rest.iter_mut().flatten() {
            let id = id.to_str(py)?;
            self.ids.push(id);
            if turn.is_over_after(id.len()) {
                return Ok(Step::Again);
            }
        }
        if let Some(body) = self.body.take() {
            let (store, ids) = (Arc::clone(&self.call), std::mem::take(&mut self.ids));
            let many = ids.len() > KEY_BATCH;
            let pending = body(store, ids);
            let completion = || async move { Completion::Done(pending.await) };
            if many {
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
        spawn: &Spawner<'_>,
        completion: Completion,
    ) -> PyResult<Step> {
        match completion {
            Completion::Turn => self.start(py, spawn),
            Completion::Done(outcome) => outcome?(py).map(Step::Done),
            _ => Err(unasked()),
        }
    }
}
