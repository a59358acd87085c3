//! `all_keys`: the list of every id, made a turn of the loop at a time.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyList;

use super::time_slice::Turn;
use super::unasked;
use crate::python::bridge::{Completion, Job, Spawner, Step};
use crate::python::packed_strings::Packed;
use crate::store::Call;

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
