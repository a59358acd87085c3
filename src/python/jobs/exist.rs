//! Which of many ids do not exist: asked in pieces, answered with the caller's own strings.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PySet, PyString};

use super::{forgiven, unasked};
use crate::python::bridge::{Job, Reply, Spawner, Step};
use crate::store::{Call, KEY_PIECE, WINDOW};

/// The set of those ids that do not exist.
pub(in crate::python) struct FilterKeys {
    store: Call,
    ids: Vec<Py<PyString>>,
    missing: Option<Py<PySet>>,
    sent: usize,
    in_flight: usize,
}

impl FilterKeys {
    pub(in crate::python) fn new(store: Call, ids: Vec<Py<PyString>>) -> Self {
        Self {
            store,
            ids,
            missing: None,
            sent: 0,
            in_flight: 0,
        }
    }

    fn fill_window(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<()> {
        while self.in_flight < WINDOW && self.sent < self.ids.len() {
            let (from, to) = (self.sent, self.ids.len().min(self.sent + KEY_PIECE));
            let ids = self.ids[from..to].iter().map(|id| id.to_str(py));
            let probe = self.store.probe(&ids.collect::<PyResult<Vec<_>>>()?);
            let store = Arc::clone(&self.store);
            spawn.run(move || async move { Reply::Exist(from, store.exist(probe).await) });
            self.sent = to;
            self.in_flight += 1;
        }
        Ok(())
    }

    fn next(&mut self, py: Python<'_>) -> PyResult<Step> {
        if self.in_flight > 0 {
            return Ok(Step::Wait);
        }
        let missing = match self.missing.take() {
            Some(missing) => missing,
            None => PySet::empty(py)?.unbind(),
        };
        Ok(Step::Done(missing.into_any()))
    }

    fn take_piece(&mut self, py: Python<'_>, from: usize, exist: &[bool]) -> PyResult<()> {
        let missing = match &self.missing {
            Some(missing) => missing.bind(py),
            None => self.missing.insert(PySet::empty(py)?.unbind()).bind(py),
        };
        for (id, exists) in self.ids[from..].iter().zip(exist) {
            if !exists {
                missing.add(id)?;
            }
        }
        Ok(())
    }
}

impl Job for FilterKeys {
    fn call(&self) -> &Call {
        &self.store
    }

    fn start(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        self.fill_window(py, spawn)?;
        self.next(py)
    }

    fn resume(&mut self, py: Python<'_>, spawn: &Spawner<'_>, reply: Reply) -> PyResult<Step> {
        let Reply::Exist(from, exist) = reply else {
            return Err(unasked());
        };
        self.in_flight -= 1;
        let Some(exist) = forgiven(&self.store, exist)? else {
            // Nothing is known of the rest, nor is it asked after: all are unknown.
            return Ok(Step::Done(PySet::new(py, &self.ids)?.into_any().unbind()));
        };
        self.fill_window(py, spawn)?;
        self.take_piece(py, from, &exist)?;
        self.next(py)
    }
}
