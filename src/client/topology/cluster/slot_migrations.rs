//! Where the keys of each slot are, as the servers that have them say: at one, or on their way to another.
//!
//! CLUSTER SLOTS names one primary for each slot, even while MIGRATE takes its keys to another server, one by one. Only
//! the two servers know of that. Each says so in CLUSTER NODES, of its own slots and no others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::hash_slot::SLOTS;
use crate::config::endpoint::Endpoint;

/// Where the keys of one slot are. Servers go by their numbers in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// All at one server; None: at none that was asked.
    At(Option<u32>),
    /// Some still at the first server, the others at the second already.
    Migrating(u32, u32),
    /// The servers contradict one another.
    Unclear,
}

impl State {
    /// Whether keys were taken from one server to another at most, and that in one direction, while the slot's state
    /// went from this one to `after`. If so, a scan of the first server and then of the second has met them all; so has
    /// a scan of the one server that they did not leave.
    fn is_covered_until(self, after: Self) -> bool {
        match (self, after) {
            (Self::At(one), Self::At(other)) => one == other,
            (Self::Migrating(from, to), Self::Migrating(still_from, still_to)) => {
                (from, to) == (still_from, still_to)
            }
            (Self::Migrating(_, to), Self::At(owner)) => owner == Some(to),
            _ => false,
        }
    }
}

/// A set of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotSet(Box<[bool]>);

impl SlotSet {
    pub(super) fn none() -> Self {
        Self(vec![false; SLOTS.into()].into())
    }

    pub(super) fn all() -> Self {
        Self(vec![true; SLOTS.into()].into())
    }

    pub(super) fn contains(&self, slot: u16) -> bool {
        self.0.get(usize::from(slot)).is_some_and(|has| *has)
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.0.contains(&true)
    }

    pub(super) fn insert(&mut self, slot: u16) {
        if let Some(has) = self.0.get_mut(usize::from(slot)) {
            *has = true;
        }
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = u16> {
        (0..SLOTS).filter(|slot| self.contains(*slot))
    }
}

/// The state of every slot at one moment, as nearly as several servers can be asked at once.
#[derive(Clone, Debug, Default)]
pub(super) struct SlotStates {
    /// Runs of slots of one owner: the first slot of each.
    owners: Vec<(u16, Option<u32>)>,
    /// Those of which there is more to say than the owner.
    others: BTreeMap<u16, State>,
    /// Of each server that owns slots: it has a higher one each time it takes over slots, as a rule.
    epochs: BTreeMap<u32, u64>,
    /// Whether the servers were allowed to say which slots are being migrated.
    pub(super) tells_migrations: bool,
}

/// What a server says in CLUSTER NODES of itself, and where the others are.
#[derive(Debug, Default)]
pub(super) struct Report {
    id: String,
    epoch: u64,
    owned: Vec<(u16, u16)>,
    /// Slots on their way to the server of this id, and from it.
    migrating: Vec<(u16, String)>,
    importing: Vec<(u16, String)>,
    addresses: HashMap<String, Vec<Endpoint>>,
}

impl Report {
    /// Reads the answer of the server at `asked`; None if it is of another form.
    pub(super) fn read(text: &str, asked: &Endpoint) -> Option<Self> {
        let mut report = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (id, address, flags) = (words.next()?, words.next()?, words.next()?);
            let addresses = endpoints(address, asked);
            report.addresses.insert(id.to_owned(), addresses);
            if flags.split(',').any(|flag| flag == "myself") {
                id.clone_into(&mut report.id);
                report.epoch = words.nth(3)?.parse().ok()?;
                for slots in words.skip(1) {
                    report.read_slots(slots)?;
                }
            }
        }
        (!report.id.is_empty()).then_some(report)
    }

    /// `1`, `1-9`, `[1->-ID]` or `[1-<-ID]`.
    fn read_slots(&mut self, slots: &str) -> Option<()> {
        let Some(marked) = slots.strip_prefix('[') else {
            let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
            self.owned.push((first.parse().ok()?, last.parse().ok()?));
            return Some(());
        };
        let marked = marked.strip_suffix(']')?;
        if let Some((slot, to)) = marked.split_once("->-") {
            self.migrating.push((slot.parse().ok()?, to.to_owned()));
        } else {
            let (slot, from) = marked.split_once("-<-")?;
            self.importing.push((slot.parse().ok()?, from.to_owned()));
        }
        Some(())
    }

    /// Where the servers are that slots are on their way to or from.
    pub(super) fn partners(&self) -> impl Iterator<Item = &[Endpoint]> {
        let ids = self.migrating.iter().chain(&self.importing);
        ids.filter_map(|(_, id)| self.addresses.get(id).map(Vec::as_slice))
    }
}

/// `HOST:PORT@BUS`, and perhaps `,HOSTNAME` and more: how else it is reached comes first.
fn endpoints(address: &str, asked: &Endpoint) -> Vec<Endpoint> {
    let (address, names) = address.split_once(',').unwrap_or((address, ""));
    let address = address.split('@').next().unwrap_or_default();
    let Some((host, port)) = address.rsplit_once(':') else {
        return Vec::new();
    };
    let Ok(port) = port.parse() else {
        return Vec::new();
    };
    let name = names.split(',').next().unwrap_or_default();
    let name = (!name.is_empty() && !name.contains('=')).then_some(name);
    let hosts = name.into_iter().chain([host]);
    hosts
        .filter_map(|host| asked.neighbour(host, port))
        .collect()
}

impl SlotStates {
    /// What servers say of their own slots, each with its number. `number_of` finds that of a server that did not
    /// answer itself.
    pub(super) fn new(
        reports: &[(u32, Report)],
        number_of: impl Fn(&[Endpoint]) -> Option<u32>,
    ) -> Self {
        let own: HashMap<&str, u32> = reports
            .iter()
            .map(|(number, report)| (report.id.as_str(), *number))
            .collect();
        let mut owners = vec![None; SLOTS.into()];
        let mut by_epoch: Vec<&(u32, Report)> = reports.iter().collect();
        // Two may say that they have a slot until the one has heard of the other: the later one counts.
        by_epoch.sort_by_key(|(_, report)| report.epoch);
        for (number, report) in by_epoch {
            for &(first, last) in &report.owned {
                for slot in first..=last.min(SLOTS - 1) {
                    owners[usize::from(slot)] = Some(*number);
                }
            }
        }
        let mut others: BTreeMap<u16, State> = BTreeMap::new();
        for (number, report) in reports {
            let find = |id: &String| {
                let known = own.get(id.as_str()).copied();
                known.or_else(|| number_of(report.addresses.get(id)?))
            };
            let leaving = report.migrating.iter();
            let leaving = leaving.map(|(slot, to)| (*slot, Some(*number), find(to)));
            let coming = report.importing.iter();
            let coming = coming.map(|(slot, from)| (*slot, find(from), Some(*number)));
            for (slot, from, to) in leaving.chain(coming) {
                let state = match (from, to) {
                    (Some(from), Some(to)) => State::Migrating(from, to),
                    _ => State::Unclear,
                };
                let said = others.entry(slot).or_insert(state);
                if *said != state {
                    *said = State::Unclear;
                }
            }
        }
        for (slot, state) in &mut others {
            let owner = owners.get(usize::from(*slot)).copied().flatten();
            if let State::Migrating(from, to) = *state
                && owner.is_none_or(|owner| owner != from && owner != to)
            {
                *state = State::Unclear;
            }
        }
        Self {
            owners: runs(&owners),
            others,
            epochs: reports
                .iter()
                .map(|(number, report)| (*number, report.epoch))
                .collect(),
            tells_migrations: true,
        }
    }

    /// Where the slots are by a map, which does not say which of them are being migrated.
    pub(super) fn of_owners(owner: impl Fn(u16) -> Option<u32>) -> Self {
        let owners: Vec<_> = (0..SLOTS).map(owner).collect();
        Self {
            owners: runs(&owners),
            ..Self::default() // `tells_migrations` is false
        }
    }

    /// The state of each slot, in order.
    fn states(&self) -> Vec<State> {
        let mut states = vec![State::At(None); SLOTS.into()];
        for &(first, owner) in &self.owners {
            states[usize::from(first)..].fill(State::At(owner));
        }
        for (&slot, &state) in &self.others {
            if let Some(place) = states.get_mut(usize::from(slot)) {
                *place = state;
            }
        }
        states
    }

    /// Adds to `missed` those of the slots whose keys a scan along the route, between the two moments, may have missed.
    pub(super) fn add_missed(&self, after: &Self, slots: &SlotSet, missed: &mut SlotSet) {
        let states = self.states().into_iter().zip(after.states());
        for (slot, (before, now)) in (0..SLOTS).zip(states) {
            // It may have been elsewhere in between.
            let has_returned = match now {
                State::At(Some(owner)) => self.epochs.get(&owner) != after.epochs.get(&owner),
                _ => false,
            };
            let is_covered = before.is_covered_until(now) && !(has_returned && before == now);
            if slots.contains(slot) && !is_covered {
                missed.insert(slot);
            }
        }
    }

    /// These states, with every slot unclear whose owner by the map did not say that it has it.
    pub(super) fn unless_unknown(mut self, by_map: &Self) -> Self {
        let states = self.states().into_iter().zip(by_map.states());
        for (slot, (state, owned)) in (0..SLOTS).zip(states) {
            if state == State::At(None) && owned != State::At(None) {
                self.others.insert(slot, State::Unclear);
            }
        }
        self
    }

    /// Whether the servers contradict one another about any of the slots.
    pub(super) fn is_unclear(&self, slots: &SlotSet) -> bool {
        let mut others = self.others.iter();
        others.any(|(slot, state)| *state == State::Unclear && slots.contains(*slot))
    }

    /// The servers to scan for the keys of some slots, in an order in which every server that keys leave comes before
    /// the one they go to; one that keys both leave and come to, twice. `all` is every server.
    pub(super) fn route(&self, slots: &SlotSet, all: &[u32]) -> Vec<u32> {
        let (mut sources, mut others, mut targets) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let states = (0..SLOTS).zip(self.states());
        for (_, state) in states.filter(|(slot, _)| slots.contains(*slot)) {
            match state {
                State::At(owner) => others.extend(owner),
                State::Migrating(from, to) => {
                    sources.insert(from);
                    targets.insert(to);
                }
                State::Unclear => others.extend(all),
            }
        }
        others.retain(|other| !sources.contains(other) && !targets.contains(other));
        sources.into_iter().chain(others).chain(targets).collect()
    }
}

fn runs(owners: &[Option<u32>]) -> Vec<(u16, Option<u32>)> {
    let mut runs: Vec<(u16, Option<u32>)> = Vec::new();
    for (slot, owner) in (0..SLOTS).zip(owners) {
        if runs.last().is_none_or(|(_, last)| last != owner) {
            runs.push((slot, *owner));
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Endpoint {
        Endpoint::parse("redis://seed:7001").unwrap()
    }

    fn report(own: &str) -> Report {
        let others = "\
            a 10.0.0.1:7001@17001 master - 0 0 1 connected 0-1\n\
            b 10.0.0.2:7002@17002,two.example master - 0 0 2 connected 2\n\
            c 10.0.0.3:7003@17003,,shard-id=x slave b 0 0 2 connected\n";
        let line = |id: &str| format!("{id} :7001@17001 myself,master - 0 0 ");
        let (id, rest) = own.split_once(' ').unwrap();
        Report::read(&format!("{others}{}{rest}\n", line(id)), &asked()).unwrap()
    }

    fn states(reports: &[(u32, Report)]) -> SlotStates {
        let two = asked().neighbour("two.example", 7002);
        SlotStates::new(reports, |endpoints| {
            let is_two = endpoints
                .iter()
                .any(|endpoint| Some(endpoint) == two.as_ref());
            is_two.then_some(9)
        })
    }

    #[test]
    fn slots_are_read_and_those_that_are_being_migrated_as_well() {
        let owner = report("a 1 connected 0-7 9 [7->-b] [8-<-c]");
        assert_eq!((owner.epoch, &*owner.owned), (1, &[(0, 7), (9, 9)][..]));
        assert_eq!(owner.migrating, [(7, "b".to_owned())]);
        assert_eq!(owner.importing, [(8, "c".to_owned())]);
        let partners: Vec<_> = owner.partners().map(|one| one[0].to_string()).collect();
        assert_eq!(
            partners,
            ["redis://two.example:7002/0", "redis://10.0.0.3:7003/0"]
        );
        let seen = states(&[(4, owner)]).states();
        assert_eq!(seen[6], State::At(Some(4)));
        assert_eq!(seen[7], State::Migrating(4, 9));
        assert_eq!(seen[8], State::Unclear);
        assert_eq!(seen[10], State::At(None));
        for text in [
            "",
            "a h:1@2 master - 0 0 1 connected 1",
            "a h:1 myself - 0 0 x c",
            "a",
        ] {
            assert!(Report::read(text, &asked()).is_none(), "{text}");
        }
    }

    #[test]
    fn of_two_owners_the_later_one_counts_and_a_third_makes_it_unclear() {
        let both = || {
            vec![
                (1, report("a 5 connected 0-9")),
                (2, report("b 6 connected 9")),
            ]
        };
        assert_eq!(states(&both()).states()[9], State::At(Some(2)));
        let mut three = both();
        three.push((3, report("c 4 connected [9-<-a]")));
        assert_eq!(states(&three).states()[9], State::Unclear);
    }

    #[test]
    fn keys_that_went_one_way_once_are_covered_and_others_are_not() {
        let (one, two) = (State::At(Some(1)), State::At(Some(2)));
        let (there, back) = (State::Migrating(1, 2), State::Migrating(2, 1));
        for (before, after) in [(one, one), (there, there), (there, two)] {
            assert!(before.is_covered_until(after), "{before:?} {after:?}");
        }
        for (before, after) in [
            (one, two),
            (one, there),
            (there, one),
            (there, back),
            (two, back),
            (State::Unclear, State::Unclear),
            (State::At(None), one),
        ] {
            assert!(!before.is_covered_until(after), "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_server_that_keys_leave_is_scanned_before_the_one_they_go_to() {
        let from_one = states(&[
            (1, report("a 1 connected 0-4 [1->-b]")),
            (2, report("b 2 connected 5-9 [1-<-a] [6->-c]")),
            (3, report("c 3 connected 10-16383 [6-<-b]")),
        ]);
        assert_eq!(from_one.route(&SlotSet::all(), &[1, 2, 3]), [1, 2, 2, 3]);
        let mut some = SlotSet::none();
        some.insert(6);
        assert_eq!(from_one.route(&some, &[1, 2, 3]), [2, 3]);
        let mut later = SlotSet::none();
        let alone = states(&[(1, report("a 1 connected 0-4"))]);
        from_one.add_missed(&alone, &SlotSet::all(), &mut later);
        assert_eq!(later.slots().next(), Some(1));
        assert!(later.contains(6) && later.contains(10) && !later.contains(0));
        let mut returned = SlotSet::none();
        let again = states(&[(1, report("a 8 connected 0-4"))]);
        alone.add_missed(&again, &SlotSet::all(), &mut returned);
        assert_eq!(returned.slots().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_slot_is_unclear_where_its_owner_by_the_map_does_not_say_that_it_has_it() {
        let by_map = SlotStates::of_owners(|slot| (slot < 3).then_some(1));
        assert_eq!(
            by_map.states()[..4],
            [Some(1), Some(1), Some(1), None].map(State::At)
        );
        assert!(!by_map.tells_migrations);
        let said = states(&[(1, report("a 1 connected 0-1 [1->-b]"))]);
        let seen = said.unless_unknown(&by_map);
        let expected = [
            State::At(Some(1)),
            State::Migrating(1, 9),
            State::Unclear,
            State::At(None),
        ];
        assert_eq!(seen.states()[..4], expected);
        for (slots, is_unclear) in [(vec![], false), (vec![0, 1, 3], false), (vec![0, 2], true)] {
            let mut set = SlotSet::none();
            for slot in &slots {
                set.insert(*slot);
            }
            assert_eq!(seen.is_unclear(&set), is_unclear, "{slots:?}");
            assert_eq!(set.is_empty(), slots.is_empty());
        }
        assert!(!by_map.is_unclear(&SlotSet::all()) && !SlotSet::all().is_empty());
    }
}
