//! `all_keys`: every id of a namespace, and the walk by SCAN that finds them where there is no registry.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

use super::KvStore;
use crate::client::deadline;
use crate::error::Result;
use crate::log_events::Event;
use crate::memory;

/// COUNT of a SCAN: the server is busy for about 0.7 ms a call, and more would save little.
const SCAN_COUNT: usize = 1000;

/// One page of a SCAN: the cursor to go on with (0 at the end), and the keys. On a cluster the cursor
/// says which server the walk is at, too.
pub type Page = (u128, Vec<Vec<u8>>);

/// The pages of a walk through a namespace.
pub(super) struct OwnPages<'store> {
    store: &'store KvStore,
    /// None at the end.
    cursor: Option<u128>,
}

impl OwnPages<'_> {
    /// The keys of the next page; None at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>> {
        let Some(cursor) = self.cursor else {
            return Ok(None);
        };
        let (next, keys) = self.store.own_page(cursor).await?;
        self.cursor = (next != 0).then_some(next);
        Ok(Some(keys))
    }
}

impl KvStore {
    /// Every id, each once, in no order.
    pub async fn all_keys(&self) -> Result<Vec<String>> {
        match self.ids_on_server().await {
            Err(error) => self.list_instead(error).await,
            ids => ids,
        }
    }

    /// Every id of the namespace by the server alone, and not by the files.
    pub(super) async fn ids_on_server(&self) -> Result<Vec<String>> {
        if self.registry.is_on() {
            self.registered_ids().await
        } else {
            self.scanned_ids().await
        }
    }

    pub(super) async fn scanned_ids(&self) -> Result<Vec<String>> {
        let mut ids = HashSet::new();
        let mut pages = self.own_pages();
        while let Some(keys) = pages.next().await? {
            let found = self.ids_of(&keys).into_iter();
            memory::grown::<String>(ids.try_reserve(found.len()), ids.len() + found.len())?;
            ids.extend(found.map(str::to_owned));
        }
        memory::listed(ids.into_iter())
    }

    /// The ids of keys. The pattern of a SCAN is escaped; the prefix is checked again all the same
    /// before anything is deleted.
    pub(crate) fn ids_of<'key>(&self, keys: &'key [Vec<u8>]) -> Vec<&'key str> {
        let ids = keys.iter().map(|key| self.config.keyspace.id_of(key));
        let ids: Vec<_> = ids.flatten().collect();
        if ids.len() != keys.len() {
            self.report_foreign(keys);
        }
        ids
    }

    /// Reports once, that keys of the namespace are passed over: no id is spelled so.
    fn report_foreign(&self, keys: &[Vec<u8>]) {
        let keyspace = &self.config.keyspace;
        let foreign = keys.iter().find(|key| {
            key.starts_with(keyspace.prefix().as_bytes()) && keyspace.id_of(key).is_none()
        });
        if let Some(key) = foreign
            && !self.met_foreign.swap(true, Relaxed)
        {
            self.report(
                Event::ForeignKeys,
                &format!(
                    "keys that are no UTF-8, such as '{}', are no ids and are skipped: another program writes under this redis_key_prefix",
                    key.escape_ascii()
                ),
            );
        }
    }

    /// A walk through the keys of this namespace and what else its pattern matches.
    pub(super) fn own_pages(&self) -> OwnPages<'_> {
        OwnPages {
            store: self,
            cursor: Some(0),
        }
    }

    /// The next page of such a walk.
    pub(crate) async fn own_page(&self, cursor: u128) -> Result<Page> {
        deadline::restart();
        self.scan(
            cursor,
            self.config.keyspace.pattern().as_bytes(),
            SCAN_COUNT,
        )
        .await
    }

    /// One page of a SCAN with any pattern, over every key of the database.
    pub async fn scan(&self, cursor: u128, pattern: &[u8], count: usize) -> Result<Page> {
        self.memory_for_batch()?;
        let count = count.to_string();
        let arguments: [&[u8]; 4] = [b"MATCH", pattern, b"COUNT", count.as_bytes()];
        self.asked(self.connections.scan(cursor, &arguments)).await
    }
}

#[cfg(test)]
mod tests {
    use crate::log_events::Event;
    use crate::store::tests::{open, settings};

    #[test]
    fn a_key_that_spells_no_id_is_passed_over_and_told_once() {
        let store = open(settings());
        let own = |rest: &[u8]| [b"nano_graphrag:docs:", rest].concat();
        let told = || {
            let notices = store.notices().into_iter();
            let lines = notices.map(|notice| {
                assert_eq!(notice.event, Event::ForeignKeys);
                notice.line
            });
            lines.collect::<Vec<_>>()
        };
        let keys = [own(b"a"), own("é".as_bytes())];
        assert_eq!(store.ids_of(&keys), ["a", "é"]);
        let keys = [own(b""), b"nano_graphrag:other:b".to_vec()];
        assert_eq!(store.ids_of(&keys), [""]);
        assert_eq!(told(), [] as [String; 0]);
        let keys = [own(b"b"), own(b"\xff")];
        assert_eq!(store.ids_of(&keys), ["b"]);
        let lines = told();
        let line = lines.first().unwrap();
        assert!(line.starts_with("docs: "), "{line}");
        assert!(line.contains(r"'nano_graphrag:docs:\xff'"), "{line}");
        assert_eq!((store.ids_of(&keys), lines.len()), (vec!["b"], 1));
        assert_eq!(told(), [] as [String; 0]);
    }
}
