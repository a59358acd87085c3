//! Reads: one id, or many in pieces that are decoded while the next ones are on their way.

use std::sync::Arc;

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::{about, forgiven, unasked};
use crate::error::Result;
use crate::python::bridge::{Job, Reply, Spawner, Step};
use crate::python::json::{Failure, Projected, decode, decode_fields};
use crate::store::{KvStore, PIECE_ITEMS, WINDOW};

/// The value of one id, or None.
pub(in crate::python) struct GetOne {
    pub(in crate::python) store: Arc<KvStore>,
    pub(in crate::python) id: String,
}

impl Job for GetOne {
    fn start(&mut self, _py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        spawn.read(&self.store, self.id.clone());
        Ok(Step::Wait)
    }

    fn resume(&mut self, py: Python<'_>, _spawn: &Spawner<'_>, reply: Reply) -> PyResult<Step> {
        let Reply::Found(found) = reply else {
            return Err(unasked());
        };
        let value = value_of(py, &self.store, &self.id, found, None)?;
        Ok(Step::Done(value.map_or_else(|| py.None(), Bound::unbind)))
    }
}

/// What an id holds, decoded, or the fields of it, under the outage policy.
fn value_of<'py>(
    py: Python<'py>,
    store: &KvStore,
    id: &str,
    found: Result<Option<Vec<u8>>>,
    fields: Option<&Fields>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let found = found.map_err(|error| about(store, id, error));
    let Some(Some(json)) = forgiven(py, store, found)? else {
        return Ok(None);
    };
    let decoded = match fields {
        None => decode(py, &json).map(Some),
        Some(fields) => fields.decode(py, store, id, &json),
    };
    match decoded {
        Ok(value) => Ok(value),
        Err(Failure::Refused(error)) => forgiven(py, store, Err(about(store, id, error))),
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
        store: &KvStore,
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

/// The values of many ids, in order, in pieces.
pub(in crate::python) struct GetMany {
    store: Arc<KvStore>,
    ids: Arc<[String]>,
    fields: Option<Fields>,
    values: Vec<Option<Py<PyAny>>>,
    sent: usize,
    in_flight: usize,
    failed: Option<PyErr>,
}

impl GetMany {
    pub(in crate::python) fn new(
        store: Arc<KvStore>,
        ids: Vec<String>,
        fields: Option<Fields>,
    ) -> Self {
        let values = std::iter::repeat_with(|| None).take(ids.len()).collect();
        Self {
            store,
            ids: ids.into(),
            fields,
            values,
            sent: 0,
            in_flight: 0,
            failed: None,
        }
    }

    fn fill_window(&mut self, spawn: &Spawner<'_>) {
        while self.in_flight < WINDOW && self.sent < self.ids.len() && self.failed.is_none() {
            let (from, to) = (self.sent, self.ids.len().min(self.sent + PIECE_ITEMS));
            let (store, ids) = (Arc::clone(&self.store), Arc::clone(&self.ids));
            spawn
                .run(async move { Reply::FoundPiece(from, store.get_piece(&ids[from..to]).await) });
            self.sent = to;
            self.in_flight += 1;
        }
    }

    fn take_piece(
        &mut self,
        py: Python<'_>,
        from: usize,
        piece: Vec<Result<Option<Vec<u8>>>>,
    ) -> PyResult<()> {
        for (index, found) in (from..).zip(piece) {
            let id = &self.ids[index];
            let value = value_of(py, &self.store, id, found, self.fields.as_ref())?;
            self.values[index] = value.map(Bound::unbind);
        }
        Ok(())
    }

    fn next(&mut self, py: Python<'_>) -> PyResult<Step> {
        if self.in_flight > 0 {
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
    fn start(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        self.fill_window(spawn);
        self.next(py)
    }

    fn resume(&mut self, py: Python<'_>, spawn: &Spawner<'_>, reply: Reply) -> PyResult<Step> {
        let Reply::FoundPiece(from, piece) = reply else {
            return Err(unasked());
        };
        self.in_flight -= 1;
        // The next piece is asked for first, so that it travels while this one is decoded.
        self.fill_window(spawn);
        let taken = match forgiven(py, &self.store, piece) {
            Ok(Some(piece)) => self.take_piece(py, from, piece),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = taken {
            self.failed.get_or_insert(error);
        }
        self.next(py)
    }
}
