//! What one server says of the cluster, and how far it is believed.
//!
//! A server that is cut off from the others goes on naming itself the primary of its slots, long
//! after the majority has given them to its replica. It does say that for it the cluster is down,
//! and its epoch is older. One that was put at the address of another, from another cluster, knows
//! none of the servers that were known before.

use std::collections::HashSet;

use redis::Value;

use super::slots_reply::{self, Range};
use crate::client::info_field;
use crate::config::endpoint::Endpoint;

/// One server's answers to CLUSTER SLOTS and CLUSTER INFO.
#[derive(Default)]
pub(super) struct ServerView {
    pub(super) ranges: Vec<Range>,
    names: HashSet<Vec<u8>>,
    /// Whether the cluster is up, as far as it can tell.
    is_up: bool,
    epoch: u64,
}

/// What was believed last.
#[derive(Clone, Default)]
pub(super) struct TrustedView {
    names: HashSet<Vec<u8>>,
    epoch: u64,
}

impl ServerView {
    /// None if the slots are told in another form. `info` is no text where this user may not ask;
    /// the server is then believed unless it is `suspected`.
    pub(super) fn read(
        slots: Value,
        info: &Value,
        asked: &Endpoint,
        suspected: bool,
    ) -> Option<Self> {
        let names = slots_reply::names(&slots);
        let ranges = slots_reply::read(slots, asked)?;
        let Ok(info) = redis::from_redis_value_ref::<String>(info) else {
            return Some(Self {
                ranges,
                names,
                is_up: !suspected,
                epoch: 0,
            });
        };
        let of = |name| info_field(&info, name);
        Some(Self {
            ranges,
            names,
            is_up: of("cluster_state") == Some("ok"),
            epoch: of("cluster_current_epoch")
                .and_then(|epoch| epoch.parse().ok())
                .unwrap_or(0),
        })
    }

    /// Whether no other server needs to be asked.
    pub(super) fn is_certain(&self, trusted: &TrustedView) -> bool {
        self.is_up && self.epoch >= trusted.epoch && self.is_of(trusted)
    }

    /// Whether what was believed before is the better knowledge.
    pub(super) fn is_worse_than(&self, trusted: &TrustedView) -> bool {
        !self.is_up && (self.epoch < trusted.epoch || !self.is_of(trusted))
    }

    /// The better of the two, of which neither is certain.
    pub(super) fn or(self, other: Option<Self>, trusted: &TrustedView) -> Self {
        let rank = |view: &Self| (view.is_of(trusted), view.is_up, view.epoch);
        match other {
            Some(other) if rank(&other) >= rank(&self) => other,
            _ => self,
        }
    }

    /// Whether it is of the cluster that was known.
    fn is_of(&self, trusted: &TrustedView) -> bool {
        trusted.names.is_empty() || !self.names.is_disjoint(&trusted.names)
    }

    /// Where the servers are that it names.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        let ranges = self.ranges.iter();
        ranges.flat_map(|(_, _, primary, replicas)| std::iter::once(primary).chain(replicas))
    }

    pub(super) fn trusted(&self) -> TrustedView {
        TrustedView {
            names: self.names.clone(),
            epoch: self.epoch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str, state: &str, epoch: u64) -> ServerView {
        let server = vec![
            Value::BulkString(b"h".to_vec()),
            Value::Int(1),
            Value::BulkString(name.into()),
        ];
        let range = vec![Value::Int(0), Value::Int(16383), Value::Array(server)];
        let info = format!("cluster_state:{state}\r\ncluster_current_epoch:{epoch}\r\n");
        let asked = Endpoint::parse("redis://seed:1").unwrap();
        let slots = Value::Array(vec![Value::Array(range)]);
        ServerView::read(slots, &Value::BulkString(info.into()), &asked, false).unwrap()
    }

    #[test]
    fn a_server_is_believed_at_once_only_if_it_is_up_and_not_behind() {
        let trusted = view("a", "ok", 7).trusted();
        assert!(view("a", "ok", 7).is_certain(&trusted));
        assert!(view("a", "ok", 8).is_certain(&trusted));
        assert!(!view("a", "ok", 6).is_certain(&trusted));
        assert!(!view("a", "fail", 7).is_certain(&trusted));
        assert!(!view("b", "ok", 9).is_certain(&trusted));
        assert!(view("b", "ok", 0).is_certain(&TrustedView::default()));
    }

    #[test]
    fn of_two_the_one_of_this_cluster_that_is_up_and_newer_is_believed() {
        let trusted = view("a", "ok", 7).trusted();
        for (better, worse) in [
            (view("a", "fail", 7), view("b", "ok", 9)),
            (view("a", "ok", 6), view("a", "fail", 7)),
            (view("a", "ok", 6), view("a", "ok", 5)),
        ] {
            let expected = (better.names.clone(), better.is_up, better.epoch);
            let chosen = worse.or(Some(better), &trusted);
            assert_eq!((chosen.names, chosen.is_up, chosen.epoch), expected);
        }
        assert!(view("a", "fail", 6).is_worse_than(&trusted));
        assert!(!view("a", "fail", 7).is_worse_than(&trusted));
        assert!(!view("a", "ok", 6).is_worse_than(&trusted));
    }

    #[test]
    fn who_may_not_ask_for_more_believes_all_but_those_that_refused() {
        let asked = Endpoint::parse("redis://seed:1").unwrap();
        let empty = || Value::Array(Vec::new());
        let read = |suspected| ServerView::read(empty(), &Value::Nil, &asked, suspected).unwrap();
        assert!(read(false).is_certain(&TrustedView::default()));
        assert!(!read(true).is_certain(&TrustedView::default()));
    }

    #[test]
    fn of_two_the_better_is_believed_whichever_was_heard_first() {
        let trusted = view("a", "ok", 7).trusted();
        let views = || {
            ["a", "b"].into_iter().flat_map(|name| {
                let states = ["ok", "fail"].into_iter();
                states.flat_map(move |state| (5..9).map(move |epoch| view(name, state, epoch)))
            })
        };
        let shown = |view: ServerView| (view.names, view.is_up, view.epoch);
        for one in 0..views().count() {
            for other in 0..one {
                let nth = |place| views().nth(place).unwrap();
                let first = nth(one).or(Some(nth(other)), &trusted);
                let second = nth(other).or(Some(nth(one)), &trusted);
                assert_eq!(shown(first), shown(second), "{one} {other}");
            }
        }
        assert_eq!(
            shown(view("b", "fail", 1).or(None, &trusted)),
            shown(view("b", "fail", 1))
        );
    }
}
