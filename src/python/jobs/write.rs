//! Writes: every value is seen to be JSON before the first one leaves; a batch goes out in pieces.

use std::collections::VecDeque;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{about, forgiven, unasked};
use crate::error::{Error, Result};
use crate::python::bridge::{Job, Reply, Spawner, Step};
use crate::python::ids::Id;
use crate::python::json::{Failure, encode};
use crate::store::{KvStore, PIECE_BYTES, PIECE_ITEMS, WINDOW};
use crate::value::admit;

/// Values encoded in one turn of the loop: a few milliseconds, and then others have theirs.
const TURN_ITEMS: usize = 2048;
const TURN_BYTES: usize = 4 << 20;
/// Encoded bytes kept from the check until they are sent. What is beyond is encoded a second
/// time, so that a batch of any size takes bounded memory.
const KEPT_BYTES: usize = 16 << 20;

/// Bytes of room for the JSON of the first value.
const FIRST_ROOM: usize = 2048;

/// And the most that is set aside for one that was not seen yet.
const MOST_ROOM: usize = 1 << 20;

/// A batch on its way: checked as a whole, then sent piece by piece.
pub(in crate::python) struct Upsert {
    store: Arc<KvStore>,
    items: Vec<(String, Py<PyAny>)>,
    checked: usize,
    kept: VecDeque<Vec<u8>>,
    kept_bytes: usize,
    sent: usize,
    in_flight: usize,
    failed: Option<Error>,
    unconfirmed: Vec<String>,
    /// Bytes the last value took: the next one begins with so much room.
    room: usize,
}

/// The job that writes `data`, a dict of id to value; the inner error is an id that is none.
pub(in crate::python) fn upsert(
    store: Arc<KvStore>,
    data: &Bound<'_, PyAny>,
) -> PyResult<Result<Upsert>> {
    let Ok(data) = data.cast::<PyDict>() else {
        let found = data.get_type().name()?.to_string();
        return Err(PyTypeError::new_err(format!(
            "upsert takes a dict of id to value, not {found}"
        )));
    };
    let mut items = Vec::with_capacity(data.len());
    for (id, value) in data {
        match id.extract::<Id>()?.0 {
            Ok(id) => items.push((id, value.unbind())),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(Upsert {
        store,
        items,
        checked: 0,
        kept: VecDeque::new(),
        kept_bytes: 0,
        sent: 0,
        in_flight: 0,
        failed: None,
        unconfirmed: Vec::new(),
        room: FIRST_ROOM,
    }))
}

impl Upsert {
    fn encoded(&mut self, py: Python<'_>, index: usize) -> Result<Vec<u8>, Failure> {
        let (id, value) = &self.items[index];
        // Values of one batch are of a size, and growing is what costs.
        let mut json = Vec::with_capacity(self.room + self.room / 4);
        encode(value.bind(py), &mut json)
            .and_then(|()| Ok(admit(&json, self.store.config().max_value_bytes)?))
            .map_err(|failure| failure.map(|error| about(&self.store, id, error)))?;
        self.room = json.len().min(MOST_ROOM);
        Ok(json)
    }

    /// Encodes on until the turn is over. What was encoded is kept for as long as it is not much.
    fn check(&mut self, py: Python<'_>) -> Result<(), Failure> {
        let (mut items, mut bytes) = (0, 0);
        while self.checked < self.items.len() && items < TURN_ITEMS && bytes < TURN_BYTES {
            let json = self.encoded(py, self.checked)?;
            items += 1;
            bytes += json.len();
            if self.kept.len() == self.checked && self.kept_bytes < KEPT_BYTES {
                self.kept_bytes += json.len();
                self.kept.push_back(json);
            }
            self.checked += 1;
        }
        Ok(())
    }

    fn fill_window(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<()> {
        while self.in_flight < WINDOW && self.sent < self.items.len() && self.failed.is_none() {
            match self.piece(py) {
                Ok(mut piece) => {
                    self.in_flight += 1;
                    if self.items.len() == 1
                        && let Some(only) = piece.pop()
                    {
                        spawn.write(&self.store, only);
                        return Ok(());
                    }
                    let store = Arc::clone(&self.store);
                    spawn.run_piece(&self.store, async move {
                        let outcomes = store.put_piece(&piece).await;
                        Reply::StoredPiece(piece.into_iter().map(|(id, _)| id).collect(), outcomes)
                    });
                }
                // Someone changed the value while its batch was on its way.
                Err(Failure::Refused(error)) => self.failed = Some(error),
                Err(Failure::Raised(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn piece(&mut self, py: Python<'_>) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let (mut piece, mut bytes) = (Vec::new(), 0);
        while self.sent < self.items.len() && piece.len() < PIECE_ITEMS && bytes < PIECE_BYTES {
            let json = match self.kept.pop_front() {
                Some(json) => json,
                None => match self.encoded(py, self.sent) {
                    Ok(json) => json,
                    Err(_) if !piece.is_empty() => break, // met again as the first of the next piece
                    Err(error) => return Err(error),
                },
            };
            bytes += json.len();
            piece.push((self.items[self.sent].0.clone(), json));
            self.sent += 1;
        }
        Ok(piece)
    }

    fn note(&mut self, ids: Vec<String>, outcomes: Result<Vec<Result<()>>>) {
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.failed.get_or_insert(error);
                self.unconfirmed.extend(ids);
                return;
            }
        };
        for (id, outcome) in ids.into_iter().zip(outcomes) {
            if let Err(error) = outcome {
                self.failed.get_or_insert(error);
                self.unconfirmed.push(id);
            }
        }
    }

    fn next(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        if self.checked < self.items.len() {
            match self.check(py) {
                Ok(()) => {}
                Err(Failure::Refused(error)) => {
                    forgiven(py, &self.store, Err::<(), _>(error))?;
                    return Ok(Step::Done(py.None()));
                }
                Err(Failure::Raised(error)) => return Err(error),
            }
            if self.checked < self.items.len() {
                return Ok(Step::Again);
            }
        }
        self.fill_window(py, spawn)?;
        if self.in_flight > 0 {
            return Ok(Step::Wait);
        }
        let outcome = match self.failed.take() {
            None => Ok(()),
            Some(error) => {
                let never_sent = self.items[self.sent..].iter().map(|(id, _)| id.clone());
                self.unconfirmed.extend(never_sent);
                let error = match &*self.items {
                    [(id, _)] => error.about(id),
                    _ => error,
                };
                Err(error.with_unconfirmed(std::mem::take(&mut self.unconfirmed)))
            }
        };
        forgiven(py, &self.store, outcome)?;
        Ok(Step::Done(py.None()))
    }
}

impl Job for Upsert {
    fn start(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        self.next(py, spawn)
    }

    fn resume(&mut self, py: Python<'_>, spawn: &Spawner<'_>, reply: Reply) -> PyResult<Step> {
        match reply {
            Reply::StoredPiece(ids, outcomes) => {
                self.in_flight -= 1;
                self.note(ids, outcomes);
            }
            Reply::Stored(outcome) => {
                self.in_flight -= 1;
                let id = self.items[0].0.clone();
                self.note(vec![id], Ok(vec![outcome]));
            }
            Reply::Turn => {}
            _ => return Err(unasked()),
        }
        self.next(py, spawn)
    }
}
