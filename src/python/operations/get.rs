//! Reads: one id, or many in batches that are decoded while the next ones are on their way.

use std::collections::VecDeque;
use std::iter::Enumerate;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use super::time_slice::Turn;
use super::unasked;
use crate::error::{Error, Result};
use crate::local_single_flight::Landing;
use crate::python::bridge::{Completion, Job, Spawner, Step};
use crate::python::id_arguments::{AT_ONCE, Ids, owned, shed};
use crate::python::json::{Failure, Projected, decode, decode_fields};
use crate::python::single_flight_task::Asker;
use crate::store::{BatchSizer, Call, WINDOW};

/// The value of one id, or None.
pub(in crate::python) struct GetOne {
    pub(in crate::python) store: Call,
    pub(in crate::python) id: String,
    /// Who waits, where it misses, for the value that another makes; None: nobody does.
    pub(in crate::python) asker: Option<Asker>,
}

impl GetOne {
    fn given(&self, py: Python<'_>, found: Result<Option<impl AsRef<[u8]>>>) -> PyResult<Step> {
        let value = value_of(py, &self.store, &self.id, found, None, None)?;
        Ok(Step::Done(value.map_or_else(|| py.None(), Bound::unbind)))
    }

    /// Waits for whoever makes the value that is not there.
    fn join(&self, asker: &Asker, spawn: &Spawner<'_>) -> Step {
        let (store, id, task) = (Arc::clone(&self.store), self.id.clone(), asker.number);
        spawn.run(move || async move { Completion::Landed(store.join_flight(&id, task).await) });
        Step::Wait
    }
}

impl Job for GetOne {
    fn call(&self) -> &Call {
        &self.store
    }

    fn start(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        if let Some(asker) = &self.asker {
            self.store.asks(asker.number, &self.id);
        }
        if let Some(json) = self.store.local(&self.id) {
            return self.given(py, Ok(Some(json)));
        }
        spawn.read(&self.store, self.id.clone());
        Ok(Step::Wait)
    }

    fn resume(
        &mut self,
        py: Python<'_>,
        spawn: &Spawner<'_>,
        completion: Completion,
    ) -> PyResult<Step> {
        match (completion, &self.asker) {
            // Where its loop waits with it, so would the task that it waits for.
            (Completion::Found(Ok(None)), Some(asker)) if !spawn.blocks() => {
                Ok(self.join(asker, spawn))
            }
            (Completion::Found(found), _) => self.given(py, found),
            (Completion::Landed(Landing::Value(json)), _) => self.given(py, Ok(Some(json))),
            (Completion::Landed(landing), Some(asker)) => {
                if let Landing::Lead(lease) = landing {
                    asker.keep(py, lease);
                }
                self.given(py, Ok(None::<Bytes>))
            }
            _ => Err(unasked()),
        }
    }

    fn fail(&mut self, py: Python<'_>, error: Error) -> PyResult<Py<PyAny>> {
        self.store.forgiven(Err::<(), _>(error.about(&self.id)))?;
        Ok(py.None())
    }
}

/// What an id holds, decoded, or the fields of it, under the outage policy; nothing, and a miss, where
/// the caller has no use for it.
fn value_of<'py>(
    py: Python<'py>,
    store: &Call,
    id: &str,
    found: Result<Option<impl AsRef<[u8]>>>,
    fields: Option<&Fields>,
    usable: Option<&Py<PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(found) = store.forgiven(found.map_err(|error| error.about(id)))? else {
        return Ok(None);
    };
    if found.is_none() || usable.is_none() {
        store.counters().found(found.is_some());
    }
    let Some(json) = found else {
        return Ok(None);
    };
    let decoded = match fields {
        None => decode(py, json.as_ref()).map(Some),
        Some(fields) => fields.decode(py, store, id, json.as_ref()),
    };
    if let Some(usable) = usable {
        let value = match &decoded {
            Ok(value) => value.as_ref(),
            Err(_) => None,
        };
        let used = match value {
            Some(value) => usable.bind(py).call1((value,))?.is_truthy()?,
            None => false,
        };
        store.counters().found(used);
        if value.is_some() && !used {
            return Ok(None);
        }
    }
    match decoded {
        Ok(value) => Ok(value),
        Err(Failure::Refused(error)) => Ok(store.forgiven(Err(error.about(id)))?),
        Err(Failure::Raised(error)) => Err(error),
    }
}

/// The top-level keys a caller asked for: anything that answers `in`.
pub(in crate::python) struct Fields(pub(in crate::python) Py<PyAny>);

impl Fields {
    /// The dict of just these fields; None for a falsy value, as the JSON backend has it.
    fn decode<'py>(
        &self,
        py: Python<'py>,
        store: &Call,
        id: &str,
        json: &[u8],
    ) -> Result<Option<Bound<'py, PyAny>>, Failure> {
        let value = match decode_fields(py, json, |name| self.0.bind(py).contains(name))? {
            Projected::Chosen(fields) => return Ok(Some(fields.into_any())),
            Projected::Other(value) => value,
        };
        if !value.is_truthy().map_err(Failure::Raised)? {
            return Ok(None);
        }
        let type_name = value.get_type().name().map_err(Failure::Raised)?;
        Err(Failure::Raised(PyAttributeError::new_err(format!(
            "fields were asked of a {type_name}, which has none (namespace '{}', id '{}')",
            store.config().namespace,
            id.escape_debug(),
        ))))
    }
}

/// Values that came of the ids from an index on, and are not decoded yet.
struct Chunk {
    index: usize,
    values: vec::IntoIter<Result<Option<Bytes>>>,
}

/// A local copy, its id, and where its value belongs.
type Copied = (usize, Py<PyString>, Arc<[u8]>);

/// The values of many ids, in order: local copies, and batches that the server is asked for.
pub(in crate::python) struct GetMany {
    store: Call,
    fields: Option<Fields>,
    /// Says of a value whether the caller has a use for it.
    usable: Option<Py<PyAny>>,
    given: Ids,
    /// Ids that were not looked for among the local copies yet.
    unseen: Enumerate<vec::IntoIter<Py<PyString>>>,
    copies: VecDeque<Copied>,
    /// What is asked of the server.
    ids: Vec<Py<PyString>>,
    /// Where its values belong; None: all in order.
    places: Option<Vec<usize>>,
    /// What the caller gets; None until all ids were read.
    list: Option<Py<PyList>>,
    /// Whether requests may leave: it is known what is asked of the server.
    begun: bool,
    came: VecDeque<Chunk>,
    /// Whether another turn was asked for.
    turning: bool,
    batch_sizer: BatchSizer,
    sent: usize,
    in_flight: usize,
    failed: Option<PyErr>,
}

impl GetMany {
    pub(in crate::python) fn new(
        store: Call,
        given: Ids,
        fields: Option<Fields>,
        usable: Option<Py<PyAny>>,
    ) -> Self {
        let batch_sizer = BatchSizer::of(&store);
        Self {
            store,
            fields,
            usable,
            given,
            unseen: Vec::new().into_iter().enumerate(),
            copies: VecDeque::new(),
            ids: Vec::new(),
            places: None,
            list: None,
            begun: false,
            came: VecDeque::new(),
            turning: false,
            batch_sizer,
            sent: 0,
            in_flight: 0,
            failed: None,
        }
    }

    /// Sorts some of the ids by whether there is a local copy.
    fn look_for_copies(&mut self, py: Python<'_>) -> PyResult<()> {
        for (place, id) in self.unseen.by_ref().take(AT_ONCE) {
            if let Some(json) = self.store.local(id.to_str(py)?) {
                self.copies.push_back((place, id, json));
            } else {
                self.ids.push(id);
                self.places.get_or_insert_default().push(place);
            }
        }
        Ok(())
    }

    fn fill_window(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<()> {
        // One batch may wait to be decoded besides those under way: more would pile up.
        while self.in_flight < WINDOW
            && self.came.len() <= 1
            && self.sent < self.ids.len()
            && self.failed.is_none()
        {
            let from = self.sent;
            let to = self.ids.len().min(from + self.batch_sizer.per_request());
            let ids = owned(py, &self.ids[from..to])?;
            let store = Arc::clone(&self.store);
            spawn.run_batch(&self.store, move || async move {
                Completion::FoundBatch(from, store.get_batch(&ids).await)
            });
            self.sent = to;
            self.in_flight += 1;
        }
        Ok(())
    }

    /// Puts the value of one id where it belongs.
    fn put(
        &self,
        py: Python<'_>,
        place: usize,
        id: &Py<PyString>,
        found: Result<Option<impl AsRef<[u8]>>>,
    ) -> PyResult<()> {
        let (fields, usable) = (self.fields.as_ref(), self.usable.as_ref());
        let value = value_of(py, &self.store, id.to_str(py)?, found, fields, usable)?;
        match (value, &self.list) {
            (Some(value), Some(list)) => list.bind(py).set_item(place, value),
            _ => Ok(()), // None stands there
        }
    }

    /// Decodes until the turn is over.
    fn decode_some(&mut self, py: Python<'_>) -> PyResult<()> {
        let mut turn = Turn::begin();
        while let Some(chunk) = self.came.front_mut() {
            let Some(found) = chunk.values.next() else {
                self.came.pop_front();
                continue;
            };
            let index = chunk.index;
            chunk.index += 1;
            let bytes = found.iter().flatten().map(Bytes::len).sum();
            let place = self.places.as_ref().map_or(index, |places| places[index]);
            self.put(py, place, &self.ids[index], found)?;
            if turn.is_over_after(bytes) {
                return Ok(());
            }
        }
        while let Some((place, id, json)) = self.copies.pop_front() {
            let bytes = json.len();
            self.put(py, place, &id, Ok(Some(json)))?;
            if turn.is_over_after(bytes) {
                break;
            }
        }
        Ok(())
    }

    /// Decodes what there is, and asks for what comes next.
    fn go_on(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        // The next batch is asked for first, so that it travels while this one is decoded.
        self.fill_window(py, spawn)?;
        let decoded = self.decode_some(py);
        self.note(decoded);
        self.fill_window(py, spawn)?;
        self.next()
    }

    fn note(&mut self, outcome: PyResult<()>) {
        if let Err(error) = outcome {
            self.came.clear();
            self.copies.clear();
            self.failed.get_or_insert(error);
        }
    }

    fn next(&mut self) -> PyResult<Step> {
        if self.came.is_empty() && self.copies.is_empty() {
            if self.in_flight > 0 {
                return Ok(Step::Wait);
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if shed(&mut self.ids) {
                let list = self.list.take().ok_or_else(unasked)?;
                return Ok(Step::Done(list.into_any()));
            }
        }
        self.turning = true;
        Ok(Step::Again)
    }
}

/// A list of so many None.
fn nones(py: Python<'_>, count: usize) -> PyResult<Py<PyList>> {
    let one = PyList::new(py, [py.None()])?;
    let many = one.into_sequence().repeat(count)?;
    Ok(many.cast_into::<PyList>()?.unbind())
}

impl Job for GetMany {
    fn call(&self) -> &Call {
        &self.store
    }

    fn start(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        if self.list.is_none() {
            if !self.given.read(py)? {
                return Ok(Step::Again);
            }
            let list = nones(py, self.given.len())?;
            let (ids, wrong) = self.given.take();
            if let Some(error) = wrong {
                self.store.forgiven(Err::<(), _>(error))?;
                return Ok(Step::Done(list.into_any()));
            }
            self.list = Some(list);
            if self.store.has_copies() {
                self.unseen = ids.into_iter().enumerate();
            } else {
                self.ids = ids;
            }
        }
        self.look_for_copies(py)?;
        if self.unseen.len() > 0 {
            return Ok(Step::Again);
        }
        self.begun = true;
        self.go_on(py, spawn)
    }

    fn resume(
        &mut self,
        py: Python<'_>,
        spawn: &Spawner<'_>,
        completion: Completion,
    ) -> PyResult<Step> {
        match completion {
            Completion::Turn if !self.begun => return self.start(py, spawn),
            Completion::Turn => self.turning = false,
            Completion::FoundBatch(index, chunk) => {
                self.in_flight -= 1;
                if let Ok(found) = &chunk {
                    self.batch_sizer.learn(found);
                }
                match self.store.forgiven(chunk) {
                    Ok(Some(values)) if self.failed.is_none() => self.came.push_back(Chunk {
                        index,
                        values: values.into_iter(),
                    }),
                    outcome => self.note(outcome.map(drop).map_err(PyErr::from)),
                }
            }
            _ => return Err(unasked()),
        }
        if self.turning {
            self.fill_window(py, spawn)?;
            return Ok(Step::Wait);
        }
        self.go_on(py, spawn)
    }

    fn fail(&mut self, py: Python<'_>, error: Error) -> PyResult<Py<PyAny>> {
        self.store.forgiven(Err::<(), _>(error))?;
        if let Some(list) = self.list.take() {
            return Ok(list.into_any());
        }
        while !self.given.read(py)? {}
        Ok(nones(py, self.given.len())?.into_any())
    }
}
