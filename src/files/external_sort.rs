//! Sorting ids, however many: what is more than the memory allowed lies in temporary files.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::vec;

use crate::error::{Error, Kind, Result};
use crate::memory;

/// Bytes of ids that are sorted in memory.
const RUN_BYTES: usize = 32 << 20;
/// Bytes that an item takes beside its id.
const ITEM_BYTES: usize = 96;
/// Bytes read at a time of each file.
const CHUNK: usize = 64 * 1024;

/// An id, and what is known of it. Sorted by the id, then by the rest in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// The id. Bytes in UTF-8 sort as Python sorts text.
    pub id: String,
    /// Which it is among the items of one source.
    pub number: u64,
    /// Of its value.
    pub digest: u128,
}

/// Items on their way to be sorted.
pub struct Sorter {
    items: Vec<Item>,
    bytes: usize,
    most: usize,
    runs: Vec<File>,
}

impl Default for Sorter {
    fn default() -> Self {
        Self::within(RUN_BYTES)
    }
}

impl Sorter {
    fn within(most: usize) -> Self {
        Self {
            items: Vec::new(),
            bytes: 0,
            most,
            runs: Vec::new(),
        }
    }

    /// Takes an item.
    pub fn push(&mut self, item: Item) -> Result<()> {
        self.bytes += item.id.len() + ITEM_BYTES;
        memory::reserve(&mut self.items, 1)?;
        self.items.push(item);
        if self.bytes >= self.most {
            self.spill().map_err(|error| no_room(&error))?;
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        self.items.sort_unstable();
        let mut file = BufWriter::with_capacity(CHUNK, tempfile::tempfile()?);
        for item in self.items.drain(..) {
            file.write_all(&(item.id.len() as u64).to_le_bytes())?;
            file.write_all(item.id.as_bytes())?;
            file.write_all(&item.number.to_le_bytes())?;
            file.write_all(&item.digest.to_le_bytes())?;
        }
        let mut file = file.into_inner()?;
        file.rewind()?;
        self.runs.push(file);
        self.bytes = 0;
        Ok(())
    }

    /// All items in order.
    pub fn sorted(mut self) -> Result<Sorted> {
        self.items.sort_unstable();
        let mut sorted = Sorted {
            runs: self.runs.into_iter().map(Run::of).collect(),
            next: BinaryHeap::new(),
            last: self.items.into_iter(),
        };
        for run in 0..=sorted.runs.len() {
            sorted.advance(run)?;
        }
        Ok(sorted)
    }
}

/// Items in order.
pub struct Sorted {
    runs: Vec<Run>,
    /// The first item of each run; of what was left in memory, too.
    next: BinaryHeap<Reverse<(Item, usize)>>,
    last: vec::IntoIter<Item>,
}

impl Sorted {
    /// The next item; None after the last.
    pub fn next_item(&mut self) -> Result<Option<Item>> {
        let Some(Reverse((item, run))) = self.next.pop() else {
            return Ok(None);
        };
        self.advance(run)?;
        Ok(Some(item))
    }

    /// The next id with the last of its items; None after the last.
    pub fn next_id(&mut self) -> Result<Option<Item>> {
        let Some(mut item) = self.next_item()? else {
            return Ok(None);
        };
        loop {
            if self.next.peek().is_none_or(|top| top.0.0.id != item.id) {
                return Ok(Some(item));
            }
            if let Some(later) = self.next_item()? {
                item = later;
            }
        }
    }

    fn advance(&mut self, run: usize) -> Result<()> {
        let item = match self.runs.get_mut(run) {
            Some(run) => run.next().map_err(|error| no_room(&error))?,
            None => self.last.next(),
        };
        self.next.extend(item.map(|item| Reverse((item, run))));
        Ok(())
    }
}

/// One sorted file.
struct Run(BufReader<File>);

impl Run {
    fn of(file: File) -> Self {
        Self(BufReader::with_capacity(CHUNK, file))
    }

    fn next(&mut self) -> io::Result<Option<Item>> {
        let mut word = [0; 8];
        match self.0.read_exact(&mut word) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let length = usize::try_from(u64::from_le_bytes(word)).map_err(io::Error::other)?;
        let mut id = vec![0; length];
        self.0.read_exact(&mut id)?;
        self.0.read_exact(&mut word)?;
        let mut digest = [0; 16];
        self.0.read_exact(&mut digest)?;
        Ok(Some(Item {
            id: String::from_utf8(id).map_err(io::Error::other)?,
            number: u64::from_le_bytes(word),
            digest: u128::from_le_bytes(digest),
        }))
    }
}

fn no_room(error: &io::Error) -> Error {
    let directory = std::env::temp_dir();
    let message = format!(
        "ids cannot be sorted in {}: {error}; make room there, or set TMPDIR",
        directory.display()
    );
    Error::new(Kind::File, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_sorted_whether_they_fit_into_memory_or_not() {
        for most in [100, 1000, 1 << 20] {
            let mut sorter = Sorter::within(most);
            for number in 0..500_u64 {
                let id = format!("{}", (number * 7919) % 400);
                let digest = u128::from(number) << 70;
                sorter.push(Item { id, number, digest }).unwrap();
            }
            let mut in_order = sorter.sorted().unwrap();
            let mut items = Vec::new();
            while let Some(item) = in_order.next_item().unwrap() {
                items.push(item);
            }
            assert_eq!(items.len(), 500);
            assert!(items.is_sorted());
        }
    }

    #[test]
    fn of_equal_ids_the_last_one_counts() {
        for most in [1, 1 << 20] {
            let mut sorter = Sorter::within(most);
            for (number, id) in ["b", "a", "b", "c", "b", "a"].into_iter().enumerate() {
                let (id, number) = (id.to_owned(), number as u64);
                sorter
                    .push(Item {
                        id,
                        number,
                        digest: 0,
                    })
                    .unwrap();
            }
            let mut in_order = sorter.sorted().unwrap();
            let mut found = Vec::new();
            while let Some(item) = in_order.next_id().unwrap() {
                found.push((item.id, item.number));
            }
            let expected = [("a", 5), ("b", 4), ("c", 3)];
            assert_eq!(found, expected.map(|(id, number)| (id.to_owned(), number)));
        }
    }
}
