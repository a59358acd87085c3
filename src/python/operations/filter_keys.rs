//! Which of many ids do not exist: asked in batches, answered with the caller's own strings.

use std::sync::Arc;
use std::vec;

use pyo3::prelude::*;
use pyo3::types::{PySet, PyString};

use super::unasked;
use crate::error::Error;
use crate::python::bridge::{Completion, Job, Spawner, Step};
use crate::python::id_arguments::{AT_ONCE, Ids, shed};
use crate::store::{Call, EXISTS_BATCH, EXISTS_WINDOW};

/// The set of those ids that do not exist.
pub(in crate::python) struct FilterKeys {
    store: Call,
    given: Ids,
    /// Whether all that was given was read.
    begun: bool,
    ids: Vec<Py<PyString>>,
    missing: Option<Py<PySet>>,
    /// All ids, once nothing can be said of any of them.
    unknown: Option<vec::IntoIter<Py<PyString>>>,
    sent: usize,
    in_flight: usize,
    /// Whether a turn is to come, before which there is no other.
    turn_comes: bool,
}

impl FilterKeys {
    pub(in crate::python) fn new(store: Call, given: Ids) -> Self {
        Self {
            store,
            given,
            begun: false,
            ids: Vec::new(),
            missing: None,
            unknown: None,
            sent: 0,
            in_flight: 0,
            turn_comes: false,
        }
    }

    /// Has as many requests under way, as long as there are ids to ask after.
    fn fill(&mut self, py: Python<'_>, spawn: &Spawner<'_>, window: usize) -> PyResult<()> {
        while self.in_flight < window && self.sent < self.ids.len() {
            let (from, to) = (self.sent, self.ids.len().min(self.sent + EXISTS_BATCH));
            let ids = self.ids[from..to].iter().map(|id| id.to_str(py));
            let exists_request = self
                .store
                .exists_request(&ids.collect::<PyResult<Vec<_>>>()?);
            let store = Arc::clone(&self.store);
            spawn.run(move || async move {
                Completion::Exists(from, store.exists(exists_request).await)
            });
            self.sent = to;
            self.in_flight += 1;
        }
        Ok(())
    }

    fn missing<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PySet>> {
        if let Some(missing) = &self.missing {
            return Ok(missing.bind(py).clone());
        }
        let empty = PySet::empty(py)?;
        self.missing = Some(empty.clone().unbind());
        Ok(empty)
    }

    fn next(&mut self, py: Python<'_>) -> PyResult<Step> {
        if self.in_flight > 0 {
            return Ok(Step::Wait);
        }
        if !shed(&mut self.ids) {
            return Ok(Step::Again);
        }
        Ok(Step::Done(self.missing(py)?.into_any().unbind()))
    }

    fn take_batch(&mut self, py: Python<'_>, from: usize, exist: &[bool]) -> PyResult<()> {
        let missing = self.missing(py)?;
        for (id, exists) in self.ids[from..].iter().zip(exist) {
            if !exists {
                missing.add(id)?;
            }
        }
        Ok(())
    }

    /// All ids, as far as this turn gets.
    fn next_unknown(&mut self, py: Python<'_>) -> PyResult<Step> {
        let missing = self.missing(py)?;
        let Some(unknown) = &mut self.unknown else {
            return Err(unasked());
        };
        for id in unknown.by_ref().take(AT_ONCE) {
            missing.add(id)?;
        }
        Ok(if unknown.len() > 0 {
            Step::Again
        } else {
            Step::Done(missing.into_any().unbind())
        })
    }

    /// The first step after a failure that is forgiven: nothing is known of the rest, nor is it asked
    /// after.
    fn none_known(&mut self, py: Python<'_>) -> PyResult<Step> {
        self.unknown = Some(std::mem::take(&mut self.ids).into_iter());
        if self.turn_comes {
            return Ok(Step::Wait);
        }
        self.next_unknown(py)
    }
}

impl Job for FilterKeys {
    fn call(&self) -> &Call {
        &self.store
    }

    fn start(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        if !self.given.read(py)? {
            return Ok(Step::Again);
        }
        self.begun = true;
        let (ids, wrong) = self.given.take();
        self.ids = ids;
        if let Some(error) = wrong {
            self.store.forgiven(Err::<(), _>(error))?;
            return self.none_known(py);
        }
        // One is sent by a loop before the next are made: the server answers it meanwhile.
        self.fill(py, spawn, 1)?;
        if self.sent < self.ids.len() {
            self.turn_comes = true;
            return Ok(Step::Again);
        }
        self.next(py)
    }

    fn resume(
        &mut self,
        py: Python<'_>,
        spawn: &Spawner<'_>,
        completion: Completion,
    ) -> PyResult<Step> {
        self.turn_comes &= !matches!(completion, Completion::Turn);
        let (from, exist) = match completion {
            Completion::Turn if !self.begun => return self.start(py, spawn),
            Completion::Turn if self.unknown.is_some() => return self.next_unknown(py),
            Completion::Turn => {
                self.fill(py, spawn, EXISTS_WINDOW)?;
                return self.next(py);
            }
            Completion::Exists(..) if self.unknown.is_some() => return Ok(Step::Wait), // for its turn
            Completion::Exists(from, exist) => (from, exist),
            _ => return Err(unasked()),
        };
        self.in_flight -= 1;
        let Some(exist) = self.store.forgiven(exist)? else {
            return self.none_known(py);
        };
        self.fill(py, spawn, EXISTS_WINDOW)?;
        self.take_batch(py, from, &exist)?;
        self.next(py)
    }

    fn fail(&mut self, py: Python<'_>, error: Error) -> PyResult<Py<PyAny>> {
        self.store.forgiven(Err::<(), _>(error))?;
        while !self.given.read(py)? {}
        let missing = self.missing(py)?;
        let (given, _) = self.given.take();
        for id in given
            .iter()
            .chain(&self.ids)
            .chain(self.unknown.iter().flat_map(vec::IntoIter::as_slice))
        {
            missing.add(id)?;
        }
        Ok(missing.into_any().unbind())
    }
}
