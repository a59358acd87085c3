//! From the server to a file, ids sorted.

use std::sync::Arc;

use futures_util::future::join;

use super::steps::{Progress, Step, beside};
use crate::error::Result;
use crate::files::namespace_lock::check_owner;
use crate::files::{FileWriter, Item, Paths, Sorted, Sorter};
use crate::mutex::Mutex;
use crate::store::{BatchSizer, Fetched, KvStore};

/// What was written.
#[derive(Clone, Copy, Debug)]
pub struct Exported {
    /// How many ids.
    pub ids: u64,
    /// Bytes of the file.
    pub size: u64,
}

/// A namespace that is being written to its file.
pub struct Export {
    store: Arc<KvStore>,
    paths: Paths,
    state: State,
    batch_sizer: BatchSizer,
    dry: bool,
    found: u64,
    /// What was written, at the end.
    pub exported: Option<Exported>,
}

/// The file that was begun, None where nothing is written. It goes with the step that is broken off.
#[derive(Default)]
struct Begun(Arc<Mutex<Option<FileWriter>>>);

impl Drop for Begun {
    fn drop(&mut self) {
        // Waits for who still writes, so that the file is gone with this.
        drop(self.0.lock().take());
    }
}

enum State {
    Listing {
        cursor: u128,
        sorter: Sorter,
    },
    Writing {
        sorted: Sorted,
        writer: Begun,
        /// What was fetched and is to be written.
        fetched: Fetched,
        ids: u64,
    },
    Done,
}

impl Export {
    /// `dry` counts only. An error if dual writing has the file follow another workspace.
    pub fn new(store: Arc<KvStore>, paths: Paths, dry: bool) -> Result<Self> {
        if !dry {
            check_owner(&paths, store.config().keyspace.prefix())?;
        }
        Ok(Self {
            store,
            paths,
            state: State::Listing {
                cursor: 0,
                sorter: Sorter::default(),
            },
            batch_sizer: BatchSizer::default(),
            dry,
            found: 0,
            exported: None,
        })
    }

    /// Does the next step; None at the end.
    pub async fn step(&mut self) -> Result<Option<Progress>> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Listing { cursor, mut sorter } => {
                let next = list(&self.store, cursor, &mut sorter, &mut self.found).await?;
                self.state = if next == 0 {
                    let writer = Begun::default();
                    if !self.dry {
                        *writer.0.lock() = Some(FileWriter::begin(&self.paths.file)?);
                    }
                    State::Writing {
                        sorted: sorter.sorted()?,
                        writer,
                        fetched: Fetched::new(),
                        ids: 0,
                    }
                } else {
                    State::Listing {
                        cursor: next,
                        sorter,
                    }
                };
                Ok(Some(Progress {
                    step: Step::List,
                    done: self.found,
                    total: None,
                }))
            }
            State::Writing {
                mut sorted,
                writer,
                fetched,
                mut ids,
            } => {
                let mut batch = Vec::new();
                while batch.len() < self.batch_sizer.ids() {
                    match sorted.next_id()? {
                        Some(item) => batch.push(item.id),
                        None => break,
                    }
                }
                if batch.is_empty() && fetched.is_empty() {
                    let whole = writer.0.lock().take();
                    let size = whole.map(FileWriter::finish).transpose()?.unwrap_or(0);
                    self.exported = Some(Exported { ids, size });
                    return Ok(None);
                }
                let (store, shared) = (Arc::clone(&self.store), Arc::clone(&writer.0));
                let written =
                    beside(move || write(&store.config().namespace, fetched, &mut shared.lock()));
                let fetching = self.batch_sizer.fetch(&self.store, &batch);
                let (written, fetching) = join(written, fetching).await;
                ids += written?;
                self.state = State::Writing {
                    sorted,
                    writer,
                    fetched: batch.into_iter().zip(fetching?).collect(),
                    ids,
                };
                Ok(Some(Progress {
                    step: Step::Write,
                    done: ids,
                    total: Some(self.found),
                }))
            }
            State::Done => Ok(None),
        }
    }
}

/// Writes those of the ids that are still there; counts them.
fn write(namespace: &str, fetched: Fetched, writer: &mut Option<FileWriter>) -> Result<u64> {
    let mut written = 0;
    for (id, json) in fetched {
        let Some(json) = json? else {
            continue; // it has expired, or was deleted
        };
        if let Some(writer) = writer {
            writer
                .add(&id, &json)
                .map_err(|error| error.in_namespace(namespace))?;
        }
        written += 1;
    }
    Ok(written)
}

/// Takes one page of the namespace's ids; the cursor of the next page, 0 at the end.
async fn list(store: &KvStore, cursor: u128, sorter: &mut Sorter, found: &mut u64) -> Result<u128> {
    let (next, keys) = store.own_page(cursor).await?;
    for id in store.ids_of(&keys) {
        *found += 1;
        sorter.push(Item {
            id: id.to_owned(),
            number: 0,
            digest: 0,
        })?;
    }
    Ok(next)
}
