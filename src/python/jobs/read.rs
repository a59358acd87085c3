//! Reads: one id, or many in pieces that are decoded while the next ones are on their way.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::{about, forgiven, unasked};
use crate::error::Result;
use crate::python::asker::Asker;
use crate::python::bridge::{Job, Reply, Spawner, Step};
use crate::python::json::{Failure, Projected, decode, decode_fields};
use crate::single_flight::Landing;
use crate::store::{Call, Pace, WINDOW};

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
        spawn.run(move || async move { Reply::Landed(store.join_flight(&id, task).await) });
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

    fn resume(&mut self, py: Python<'_>, spawn: &Spawner<'_>, reply: Reply) -> PyResult<Step> {
        match (reply, &self.asker) {
            (Reply::Found(Ok(None)), Some(asker)) => Ok(self.join(asker, spawn)),
            (Reply::Found(found), _) => self.given(py, found),
            (Reply::Landed(Landing::Value(json)), _) => self.given(py, Ok(Some(json))),
            (Reply::Landed(landing), Some(asker)) => {
                if let Landing::Lead(lease) = landing {
                    asker.keep(py, lease);
                }
                self.given(py, Ok(None::<Bytes>))
            }
            _ => Err(unasked()),
        }
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
    let found = found.map_err(|error| about(store, id, error));
    let Some(found) = forgiven(store, found)? else {
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
        Err(Failure::Refused(error)) => forgiven(store, Err(about(store, id, error))),
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

/// Local copies decoded in one turn of the loop: about a millisecond, and then others have theirs.
const TURN_COPIES: usize = 128;

/// The values of many ids, in order: local copies in turns, the rest in pieces.
pub(in crate::python) struct GetMany {
    store: Call,
    fields: Option<Fields>,
    /// Says of a value whether the caller has a use for it.
    usable: Option<Py<PyAny>>,
    values: Vec<Option<Py<PyAny>>>,
    copies: VecDeque<(usize, String, Arc<[u8]>)>,
    /// Whether another turn was asked for.
    turning: bool,
    /// What is asked of the server.
    ids: Arc<[String]>,
    /// Where its values belong; None: all in order.
    places: Option<Vec<usize>>,
    pace: Pace,
    sent: usize,
    in_flight: usize,
    failed: Option<PyErr>,
}

impl GetMany {
    pub(in crate::python) fn new(
        store: Call,
        ids: Vec<String>,
        fields: Option<Fields>,
        usable: Option<Py<PyAny>>,
    ) -> Self {
        let values = std::iter::repeat_with(|| None).take(ids.len()).collect();
        let mut copies = VecDeque::new();
        let (mut rest, mut places) = (Vec::new(), Vec::new());
        if store.has_copies() {
            for (index, id) in ids.into_iter().enumerate() {
                if let Some(json) = store.local(&id) {
                    copies.push_back((index, id, json));
                } else {
                    rest.push(id);
                    places.push(index);
                }
            }
        } else {
            rest = ids;
        }
        let pace = Pace::of(&store);
        Self {
            places: (!copies.is_empty()).then_some(places),
            store,
            fields,
            usable,
            values,
            copies,
            turning: false,
            ids: rest.into(),
            pace,
            sent: 0,
            in_flight: 0,
            failed: None,
        }
    }

    fn fill_window(&mut self, spawn: &Spawner<'_>) {
        while self.in_flight < WINDOW && self.sent < self.ids.len() && self.failed.is_none() {
            let from = self.sent;
            let to = self.ids.len().min(from + self.pace.piece());
            let (store, ids) = (Arc::clone(&self.store), Arc::clone(&self.ids));
            spawn.run_piece(&self.store, move || async move {
                Reply::FoundPiece(from, store.get_piece(&ids[from..to]).await)
            });
            self.sent = to;
            self.in_flight += 1;
        }
    }

    /// The value of one id as the caller gets it.
    fn given(
        &self,
        py: Python<'_>,
        id: &str,
        found: Result<Option<impl AsRef<[u8]>>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let (fields, usable) = (self.fields.as_ref(), self.usable.as_ref());
        let value = value_of(py, &self.store, id, found, fields, usable)?;
        Ok(value.map(Bound::unbind))
    }

    fn take_piece(
        &mut self,
        py: Python<'_>,
        from: usize,
        piece: Vec<Result<Option<Bytes>>>,
    ) -> PyResult<()> {
        for (index, found) in (from..).zip(piece) {
            let place = self.places.as_ref().map_or(index, |places| places[index]);
            self.values[place] = self.given(py, &self.ids[index], found)?;
        }
        Ok(())
    }

    fn take_copies(&mut self, py: Python<'_>) -> PyResult<()> {
        for _ in 0..TURN_COPIES {
            let Some((place, id, json)) = self.copies.pop_front() else {
                break;
            };
            self.values[place] = self.given(py, &id, Ok(Some(json)))?;
        }
        Ok(())
    }

    fn note(&mut self, taken: PyResult<()>) {
        if let Err(error) = taken {
            self.copies.clear();
            self.failed.get_or_insert(error);
        }
    }

    fn next(&mut self, py: Python<'_>) -> PyResult<Step> {
        if !self.copies.is_empty() && !self.turning {
            self.turning = true;
            return Ok(Step::Again);
        }
        if self.in_flight > 0 || self.turning {
            return Ok(Step::Wait);
        }
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(Step::Done(
                PyList::new(py, std::mem::take(&mut self.values))?
                    .into_any()
                    .unbind(),
            )),
        }
    }
}

impl Job for GetMany {
    fn call(&self) -> &Call {
        &self.store
    }

    fn start(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        self.fill_window(spawn);
        let taken = self.take_copies(py);
        self.note(taken);
        self.next(py)
    }

    fn resume(&mut self, py: Python<'_>, spawn: &Spawner<'_>, reply: Reply) -> PyResult<Step> {
        let taken = match reply {
            Reply::Turn => {
                self.turning = false;
                self.take_copies(py)
            }
            Reply::FoundPiece(from, piece) => {
                self.in_flight -= 1;
                if let Ok(found) = &piece {
                    self.pace.learn(found);
                }
                // The next piece is asked for first, so that it travels while this one is decoded.
                self.fill_window(spawn);
                match forgiven(&self.store, piece) {
                    Ok(Some(piece)) => self.take_piece(py, from, piece),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                }
            }
            _ => return Err(unasked()),
        };
        self.note(taken);
        self.next(py)
    }
}
