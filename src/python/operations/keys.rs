//! Every id, and one call on many: both become Python's, or the core's, a turn of the loop at a time.

use std::sync::Arc;
use std::vec;

use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use super::single_step::{Pending, convert};
use super::time_slice::Turn;
use super::unasked;
use crate::error::Result;
use crate::python::bridge::{Completion, Job, Spawner, Step};
use crate::python::ids::Ids;
use crate::python::packed_strings::Packed;
use crate::stack;
use crate::store::{Call, KEY_BATCH, KvStore};

/// The list of every id.
pub(in crate::python) struct AllKeys {
    call: Call,
    found: Packed,
    list: Option<Py<PyList>>,
}

impl AllKeys {
    pub(in crate::python) fn new(call: Call) -> Self {
        Self {
            call,
            found: Packed::default(),
            list: None,
        }
    }

    /// The list, as far as this turn gets.
    fn next(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        let list = match self.list.take() {
            Some(list) => list.into_bound(py),
            None => PyList::empty(py),
        };
        let mut turn = Turn::begin();
        while let Some(id) = self.found.take() {
            let bytes = id.len();
            list.append(id)?;
            if turn.is_over_after(bytes) {
                self.list = Some(list.unbind());
                return Ok(Step::Again);
            }
        }
        spawn.drop_apart(std::mem::take(&mut self.found));
        Ok(Step::Done(list.into_any().unbind()))
    }
}

impl Job for AllKeys {
    fn call(&self) -> &Call {
        &self.call
    }

    fn start(&mut self, _py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        let store = Arc::clone(&self.call);
        spawn.run_apart(move || async move {
            Completion::Ids(store.all_keys().await.map(Packed::from))
        });
        Ok(Step::Wait)
    }

    fn resume(
        &mut self,
        py: Python<'_>,
        spawn: &Spawner<'_>,
        completion: Completion,
    ) -> PyResult<Step> {
        match completion {
            Completion::Ids(found) => self.found = found?,
            Completion::Turn => {}
            _ => return Err(unasked()),
        }
        self.next(py, spawn)
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
