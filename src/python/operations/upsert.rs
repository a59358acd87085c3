//! Writes: every value is seen to be JSON before the first one leaves; a batch goes out in batches.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyString};

use super::time_slice::Turn;
use super::unasked;
use crate::error::{Error, Result};
use crate::memory;
use crate::python::bridge::{Completion, Job, Spawner, Step};
use crate::python::id_arguments::{AT_ONCE, checked};
use crate::python::json::{Failure, encoded};
use crate::store::{BATCH_BYTES, BATCH_ITEMS, Batch, Call, Recorded, Swap, WINDOW};

/// Encoded bytes kept from the check until they are sent. What is beyond is encoded a second
/// time, so that a batch of any size takes bounded memory.
const KEPT_BYTES: usize = 16 << 20;

/// Bytes of room for a value's JSON in a batch that has none yet.
const FIRST_CAPACITY: usize = 2048;

/// A batch on its way: checked as a whole, then sent batch by batch.
pub(in crate::python) struct Upsert {
    store: Call,
    /// None once all was read.
    given: Option<Items>,
    /// What is in no batch yet. The first so many of them were checked.
    items: VecDeque<(Py<PyString>, Py<PyAny>)>,
    checked: usize,
    /// Whether there is only one item.
    alone: bool,
    kept: VecDeque<Batch>,
    kept_bytes: usize,
    /// Bytes the last batch took: the next one begins with so much room.
    capacity: usize,
    in_flight: usize,
    failed: Option<Error>,
    unconfirmed: Vec<String>,
    swapping: Swapping,
    /// What was confirmed, for the stream of changes.
    recorded: Option<Recorded>,
}

/// Whether what is written takes the place of all that was there.
enum Swapping {
    No,
    /// Once all is checked; these are the ids.
    Wanted(HashSet<String>),
    /// The turn is waited for.
    Beginning,
    Begun(Swap),
    /// All is written, and the rest is being deleted; or both at once.
    Ending,
}

/// What an upsert is asked to write: the first [`AT_ONCE`] items are read at once, the others by
/// [`Self::read`].
pub(in crate::python) struct Items {
    given: VecDeque<(Py<PyString>, Py<PyAny>)>,
    /// Why one of the ids cannot be one.
    refused: Option<Error>,
    rest: Option<Py<PyIterator>>,
}

impl Items {
    pub(in crate::python) fn of(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let Ok(data) = data.cast::<PyDict>() else {
            let found = data.get_type().name()?.to_string();
            return Err(PyTypeError::new_err(format!(
                "upsert takes a dict of id to value, not {found}"
            )));
        };
        let data = if data.is_exact_instance_of::<PyDict>() {
            data.clone()
        } else {
            // A subclass gives what it gives to a dict, as that of the host is.
            let copy = PyDict::new(data.py());
            copy.update(data.as_mapping())?;
            copy
        };
        let mut given = VecDeque::new();
        memory::grown::<(Py<PyString>, Py<PyAny>)>(given.try_reserve(data.len()), data.len())?;
        let mut items = Self {
            given,
            refused: None,
            rest: None,
        };
        if data.len() > AT_ONCE {
            items.rest = Some(
                data.call_method0(intern!(data.py(), "items"))?
                    .try_iter()?
                    .unbind(),
            );
            items.read(data.py())?;
        } else {
            for (id, value) in &data {
                if !items.add(&id, value)? {
                    break;
                }
            }
        }
        Ok(items)
    }

    /// Reads on. True once that was all. A dict that was changed meanwhile says so.
    fn read(&mut self, py: Python<'_>) -> PyResult<bool> {
        let Some(rest) = &self.rest else {
            return Ok(true);
        };
        let mut rest = rest.bind(py).clone();
        for _ in 0..AT_ONCE {
            let Some(item) = rest.next() else {
                self.rest = None;
                return Ok(true);
            };
            let (id, value) = item?.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            if !self.add(&id, value)? {
                self.rest = None;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// False if the id cannot be one.
    fn add(&mut self, id: &Bound<'_, PyAny>, value: Bound<'_, PyAny>) -> PyResult<bool> {
        match checked(id)? {
            Ok(id) => self.given.push_back((id.clone().unbind(), value.unbind())),
            Err(error) => self.refused = Some(error),
        }
        Ok(self.refused.is_none())
    }
}

impl Upsert {
    pub(in crate::python) fn new(store: Call, given: Items) -> Self {
        let alone = given.given.len() == 1;
        Self {
            recorded: store.record("upsert"),
            store,
            alone,
            given: Some(given),
            items: VecDeque::new(),
            checked: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
            capacity: if alone { 0 } else { FIRST_CAPACITY },
            in_flight: 0,
            failed: None,
            unconfirmed: Vec::new(),
            swapping: Swapping::No,
        }
    }

    /// A write of these items in place of all that is there.
    pub(in crate::python) fn in_place_of_all(store: Call, items: Items) -> Self {
        let mut ids = HashSet::new();
        // Room for all, if there is memory: it would keep the loop waiting while it grows.
        let _ = ids.try_reserve(items.given.capacity());
        Self {
            swapping: Swapping::Wanted(ids),
            ..Self::new(store, items)
        }
    }

    /// The JSON of an item, handed to `take` if it may be stored.
    fn encoded<T>(
        &self,
        py: Python<'_>,
        index: usize,
        take: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T, Failure> {
        let (id, value) = &self.items[index];
        let max = self.store.config().max_value_bytes;
        let id = id.to_str(py).map_err(Failure::Raised)?;
        encoded(value.bind(py), max, |json| Ok(take(json)?))
            .map_err(|failure| failure.map(|error| error.about(id)))
    }

    /// Checks on until the turn is over. Batches that were made so are kept while they are not much.
    fn check(&mut self, py: Python<'_>) -> Result<(), Failure> {
        let mut turn = Turn::begin();
        while self.checked < self.items.len() {
            let bytes = if self.checked == 0 && self.kept_bytes < KEPT_BYTES {
                let chunk = self.next_batch(py)?;
                let bytes = chunk.json_bytes();
                self.kept_bytes += bytes;
                self.kept.push_back(chunk);
                bytes
            } else {
                self.checked += 1;
                self.encoded(py, self.checked - 1, |json| Ok(json.len()))?
            };
            if turn.is_over_after(bytes) {
                break;
            }
        }
        Ok(())
    }

    /// The next items as one request.
    fn next_batch(&mut self, py: Python<'_>) -> Result<Batch, Failure> {
        if !self.alone {
            memory::look_for_batch()?;
        }
        let mut chunk = Batch::new(self.capacity);
        while !self.items.is_empty()
            && chunk.len() < BATCH_ITEMS
            && chunk.json_bytes() < BATCH_BYTES
        {
            let id = self.items[0].0.to_str(py).map_err(Failure::Raised)?;
            let id = id.to_owned();
            let store = &self.store;
            let added = self.encoded(py, 0, |json| chunk.add(store, id, json));
            match added {
                Ok(()) => drop(self.items.pop_front()),
                Err(_) if !chunk.is_empty() => break, // met again as the first of the next batch
                Err(failure) => return Err(failure),
            }
            self.checked = self.checked.saturating_sub(1);
        }
        self.capacity = chunk.json_bytes() + chunk.json_bytes() / 8;
        Ok(chunk)
    }

    fn fill_window(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<()> {
        while self.in_flight < WINDOW && self.failed.is_none() {
            let chunk = match self.kept.pop_front() {
                Some(chunk) => chunk,
                None if self.items.is_empty() => return Ok(()),
                None => match self.next_batch(py) {
                    Ok(chunk) => chunk,
                    // Someone changed the value while its batch was on its way.
                    Err(Failure::Refused(error)) => {
                        self.failed = Some(error);
                        return Ok(());
                    }
                    Err(Failure::Raised(error)) => return Err(error),
                },
            };
            self.in_flight += 1;
            if self.alone {
                spawn.write(&self.store, chunk);
            } else {
                let store = Arc::clone(&self.store);
                spawn.run_batch(&self.store, move || async move {
                    let (ids, outcomes) = store.upsert(chunk).await;
                    Completion::StoredBatch(ids, outcomes)
                });
            }
        }
        Ok(())
    }

    /// Begins what has to be begun before the first write; whether that is to be waited for.
    fn begin_swap(&mut self, spawn: &Spawner<'_>) -> bool {
        match std::mem::replace(&mut self.swapping, Swapping::No) {
            Swapping::Wanted(ids) => {
                self.swapping = Swapping::Beginning;
                let store = Arc::clone(&self.store);
                let kept = self.kept.iter().map(|batch| batch.bytes(&store));
                let bytes = self.items.is_empty().then(|| kept.sum());
                // Apart, as all that looks at every id of what may be a very large set at once.
                spawn.run_apart(move || async move {
                    Completion::Swapping(store.begin_swap(ids, bytes).await)
                });
                return true;
            }
            Swapping::Begun(swap) if swap.is_whole() => {
                self.swapping = Swapping::Ending;
                self.in_flight += 1;
                let batches = self.kept.drain(..).collect();
                // Apart: so many bytes are moved at once that a loop would be kept waiting.
                spawn.run_apart(move || async move {
                    let (ids, outcomes) = swap.replace(batches).await;
                    Completion::StoredBatch(ids, outcomes)
                });
                return true;
            }
            Swapping::Begun(swap) => {
                // Nothing more of it is written where another writer may have its turn.
                if let Err(error) = swap.check() {
                    self.failed.get_or_insert(error);
                }
                self.swapping = Swapping::Begun(swap);
            }
            other => self.swapping = other,
        }
        false
    }

    /// Ends it after the last write; whether that is to be waited for.
    fn end_swap(&mut self, spawn: &Spawner<'_>) -> bool {
        if self.failed.is_some() {
            self.swapping = Swapping::No;
        }
        match std::mem::replace(&mut self.swapping, Swapping::Ending) {
            Swapping::Begun(swap) => {
                spawn.run_apart(move || async move { Completion::Swapped(swap.end().await) });
                true
            }
            other => {
                self.swapping = other;
                false
            }
        }
    }

    fn swap_begun(&mut self, begun: Result<Swap>) {
        match begun {
            Ok(swap) => self.swapping = Swapping::Begun(swap),
            Err(error) => {
                self.swapping = Swapping::No;
                self.failed = Some(error);
            }
        }
    }

    fn note(&mut self, id: String, outcome: Result<()>) {
        match (outcome, &mut self.recorded) {
            (Ok(()), Some(recorded)) => recorded.own(id),
            (Ok(()), None) => {}
            (Err(error), _) => {
                self.failed.get_or_insert(error);
                self.unconfirmed.push(id);
            }
        }
    }

    fn note_batch(&mut self, ids: Vec<String>, outcomes: Result<Vec<Result<()>>>) {
        match outcomes {
            Ok(outcomes) => {
                for (id, outcome) in ids.into_iter().zip(outcomes) {
                    self.note(id, outcome);
                }
            }
            Err(error) => {
                self.failed.get_or_insert(error);
                self.unconfirmed.extend(ids);
            }
        }
    }

    /// Adds the ids of which no write was sent to those that are not confirmed; false if there is no memory for them.
    fn list_never_sent(&mut self, py: Python<'_>) -> PyResult<bool> {
        let kept = self.kept.iter().map(Batch::len).sum::<usize>();
        let more = kept + self.items.len();
        if memory::reserve_texts(&mut self.unconfirmed, more).is_err() {
            return Ok(false);
        }
        let never_sent = self.kept.drain(..).flat_map(Batch::into_ids);
        self.unconfirmed.extend(never_sent);
        for (id, _) in self.items.drain(..) {
            self.unconfirmed.push(id.to_str(py)?.to_owned());
        }
        Ok(true)
    }

    fn next(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        if let Some(given) = &mut self.given {
            let all_read = given.read(py)?;
            if let Swapping::Wanted(ids) = &mut self.swapping {
                let read = given.given.len();
                memory::grown::<String>(ids.try_reserve(read - ids.len()), read)?;
                memory::look_for_batch()?;
                for (id, _) in given.given.range(ids.len()..) {
                    ids.insert(id.to_str(py)?.to_owned());
                }
            }
            if !all_read {
                return Ok(Step::Again);
            }
            if let Some(error) = given.refused.take() {
                self.store.forgiven(Err::<(), _>(error))?;
                return Ok(Step::Done(py.None()));
            }
            self.items = std::mem::take(&mut given.given);
            self.given = None;
        }
        if self.checked < self.items.len() {
            match self.check(py) {
                Ok(()) => {}
                Err(Failure::Refused(error)) => {
                    self.store.forgiven(Err::<(), _>(error))?;
                    return Ok(Step::Done(py.None()));
                }
                Err(Failure::Raised(error)) => return Err(error),
            }
            if self.checked < self.items.len() {
                return Ok(Step::Again);
            }
        }
        if self.begin_swap(spawn) {
            return Ok(Step::Wait);
        }
        self.fill_window(py, spawn)?;
        if self.in_flight > 0 || self.end_swap(spawn) {
            return Ok(Step::Wait);
        }
        let outcome = match self.failed.take() {
            None => Ok(()),
            Some(error) if self.list_never_sent(py)? => {
                let error = match &*self.unconfirmed {
                    [id] if self.alone => error.about(id),
                    _ => error,
                };
                Err(error.with_unconfirmed(std::mem::take(&mut self.unconfirmed)))
            }
            Some(error) => Err(error.without_unconfirmed()),
        };
        self.store.forgiven(outcome)?;
        Ok(Step::Done(py.None()))
    }
}

impl Job for Upsert {
    fn call(&self) -> &Call {
        &self.store
    }

    fn start(&mut self, py: Python<'_>, spawn: &Spawner<'_>) -> PyResult<Step> {
        self.next(py, spawn)
    }

    fn resume(
        &mut self,
        py: Python<'_>,
        spawn: &Spawner<'_>,
        completion: Completion,
    ) -> PyResult<Step> {
        match completion {
            Completion::StoredBatch(ids, outcomes) => {
                self.in_flight -= 1;
                self.note_batch(ids, outcomes);
            }
            Completion::Stored(id, outcome) => {
                self.in_flight -= 1;
                self.note(id, outcome);
            }
            Completion::Swapping(begun) => self.swap_begun(begun),
            Completion::Swapped(outcome) => {
                self.swapping = Swapping::No;
                if let Err(error) = outcome {
                    self.failed = Some(error);
                }
            }
            Completion::Turn => {}
            _ => return Err(unasked()),
        }
        self.next(py, spawn)
    }

    fn fail(&mut self, py: Python<'_>, error: Error) -> PyResult<Py<PyAny>> {
        self.store.forgiven(Err::<(), _>(error))?;
        Ok(py.None())
    }
}
