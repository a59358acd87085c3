//! A walk over all keys of a cluster by SCAN, one page at a time, its place told by one number.
//!
//! A cursor of SCAN means something to the server that gave it alone, so a walk scans one server after the other. A
//! key that MIGRATE takes from one to another meanwhile may be on neither while it is scanned. So the servers are asked
//! where each slot is and which are being migrated, before the first scan, after the last, and now and then between. A
//! server that keys leave is scanned before the one they go to. The slots whose keys may have been missed all the same,
//! since they were moved during the walk, are scanned again where they are then, and they alone: whatever else moves
//! has been met. So a walk takes two passes as a rule while slots are being moved, however many and however long. One
//! that has not met all after [`PASSES`] ends in an error.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::Value;
use tokio::time::{Instant, sleep};

use super::Cluster;
use super::hash_slot::slot_of;
use super::slot_migrations::{Report, SlotSet, SlotStates};
use crate::client::node::Node;
use crate::client::protocol::request::{Request, command};
use crate::client::{Connections, Reply, deadline};
use crate::config::endpoint::Endpoint;
use crate::error::{Error, Kind, Result};
use crate::log_events::Event;
use crate::mutex::Mutex;

/// How often the servers are walked over before it is given up.
const PASSES: u8 = 8;
/// Between two passes while servers contradict one another; doubled each time.
const PAUSE: Duration = Duration::from_millis(50);
/// Time after which it is asked again where the slots are, however long a pass takes: one that leaves and returns in
/// between is seen by its owner's epoch, but not one whose move was broken off and undone.
const LONG: Duration = Duration::from_secs(1);
/// Walks that are remembered. Nobody says when one is given up; what is kept of it takes some 10 kB.
const SCANS: usize = 1024;

const INDEX_BITS: u32 = 20;
const PASS_BITS: u32 = 8;
const SCAN_BITS: u32 = 36;

/// Where a walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// The server's own cursor.
    cursor: u64,
    /// Which of the servers of this pass.
    index: u32,
    pass: u8,
    /// The walk's number, from 1.
    scan: u64,
}

impl Place {
    fn unpack(packed: u128) -> Self {
        let bits = |shift: u32, bits: u32| {
            let mask = (1_u128 << bits) - 1;
            u64::try_from((packed >> shift) & mask).unwrap_or(0)
        };
        Self {
            #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
            cursor: packed as u64,
            index: u32::try_from(bits(64, INDEX_BITS)).unwrap_or(0),
            pass: u8::try_from(bits(64 + INDEX_BITS, PASS_BITS)).unwrap_or(0),
            scan: bits(64 + INDEX_BITS + PASS_BITS, SCAN_BITS),
        }
    }

    fn pack(self) -> u128 {
        let part =
            |number: u64, shift: u32, bits: u32| (u128::from(number) & ((1 << bits) - 1)) << shift;
        u128::from(self.cursor)
            | part(self.index.into(), 64, INDEX_BITS)
            | part(self.pass.into(), 64 + INDEX_BITS, PASS_BITS)
            | part(self.scan, 64 + INDEX_BITS + PASS_BITS, SCAN_BITS)
    }
}

/// The walks under way.
#[derive(Default)]
pub(super) struct Scans(Mutex<Known>);

#[derive(Default)]
struct Known {
    last: u64,
    scans: HashMap<u64, Scan>,
}

struct Scan {
    used: Instant,
    pass: Arc<tokio::sync::Mutex<Pass>>,
}

/// What one walk knows of the pass that it is in.
struct Pass {
    number: u8,
    /// The servers to scan, in order.
    route: Vec<Arc<Node>>,
    /// Whose keys are looked for.
    slots: Arc<SlotSet>,
    /// Those of them whose keys may have been missed in this pass.
    missed: SlotSet,
    /// Where the slots were when it was asked last.
    states: SlotStates,
    asked: Instant,
}

impl Scans {
    fn begin(&self, pass: Pass) -> u64 {
        let mut known = self.0.lock();
        if known.scans.len() >= SCANS {
            let oldest = known.scans.iter().min_by_key(|(_, scan)| scan.used);
            if let Some(oldest) = oldest.map(|(number, _)| *number) {
                known.scans.remove(&oldest);
            }
        }
        known.last += 1;
        let (number, pass) = (known.last, Arc::new(tokio::sync::Mutex::new(pass)));
        let used = Instant::now();
        known.scans.insert(number, Scan { used, pass });
        number
    }

    fn find(&self, number: u64) -> Option<Arc<tokio::sync::Mutex<Pass>>> {
        let mut known = self.0.lock();
        let scan = known.scans.get_mut(&number)?;
        scan.used = Instant::now();
        Some(Arc::clone(&scan.pass))
    }

    fn end(&self, number: u64) {
        self.0.lock().scans.remove(&number);
    }
}

/// One page of a walk that is about to be asked for.
pub(in crate::client) struct Page {
    place: Place,
    /// The server; None where the pass is over by now, since another call has asked for the same page.
    pub(in crate::client) node: Option<Arc<Node>>,
    /// Whose keys are looked for; None in the first pass: all.
    slots: Option<Arc<SlotSet>>,
}

impl Page {
    /// The server's own cursor.
    pub(in crate::client) fn cursor(&self) -> u64 {
        self.place.cursor
    }

    /// Leaves out the keys that an earlier pass has met.
    pub(in crate::client) fn keep_new(&self, keys: &mut Vec<Vec<u8>>) {
        if let Some(slots) = &self.slots {
            keys.retain(|key| slots.contains(slot_of(key)));
        }
    }
}

impl Cluster {
    /// The page at the place that this number tells; 0 begins a walk.
    pub(in crate::client) async fn page(
        self: &Arc<Self>,
        connections: &Arc<Connections>,
        packed: u128,
    ) -> Result<Page> {
        let mut place = Place::unpack(packed);
        if packed == 0 {
            let states = self.slot_states(connections).await?;
            let pass = Pass::new(self, 0, SlotSet::all(), states);
            place.scan = self.scans.begin(pass);
        }
        let pass = self.scans.find(place.scan).ok_or_else(forgotten)?;
        let pass = pass.lock().await;
        let index = usize::try_from(place.index).unwrap_or(usize::MAX);
        let node = pass.route.get(index).cloned();
        Ok(Page {
            place,
            node: node.filter(|_| place.pass == pass.number),
            slots: (place.pass > 0).then(|| Arc::clone(&pass.slots)),
        })
    }

    /// Whether this server has no slot any more, by what the others say now.
    pub(in crate::client) async fn has_lost(self: &Arc<Self>, node: &Arc<Node>) -> Result<bool> {
        self.refresh().await?;
        let map = self.known();
        Ok(map.nodes().iter().all(|known| !Arc::ptr_eq(known, node)))
    }

    /// The number of the place after this page, whose server has given this cursor; 0 at the end.
    pub(in crate::client) async fn after(
        self: &Arc<Self>,
        connections: &Arc<Connections>,
        page: &Page,
        cursor: u64,
    ) -> Result<u128> {
        let place = page.place;
        let pass = self.scans.find(place.scan).ok_or_else(forgotten)?;
        let mut pass = pass.lock().await;
        let at = |cursor, index, pass| {
            let scan = place.scan;
            let next = Place {
                cursor,
                index,
                pass,
                scan,
            };
            next.pack()
        };
        if place.pass != pass.number {
            return Ok(at(0, 0, pass.number));
        }
        let next = place.index + u32::from(cursor == 0);
        let is_over = usize::try_from(next).is_ok_and(|next| next >= pass.route.len());
        if is_over || pass.asked.elapsed() > LONG {
            pass.note(self.slot_states(connections).await?);
        }
        if !is_over {
            return Ok(at(cursor, next, pass.number));
        }
        if pass.missed.is_empty() {
            self.scans.end(place.scan);
            return Ok(0);
        }
        *pass = self.next_pass(connections, &pass).await?;
        Ok(at(0, 0, pass.number))
    }

    /// The pass over what may have been missed in this one.
    async fn next_pass(
        self: &Arc<Self>,
        connections: &Arc<Connections>,
        pass: &Pass,
    ) -> Result<Pass> {
        if pass.number + 1 == PASSES {
            return Err(self.never_at_rest(&pass.missed));
        }
        let mut states = pass.states.clone();
        if states.is_unclear(&pass.missed) {
            sleep(PAUSE * (1 << pass.number)).await;
            deadline::restart();
            states = self.slot_states(connections).await?;
        }
        Ok(Pass::new(
            self,
            pass.number + 1,
            pass.missed.clone(),
            states,
        ))
    }

    fn never_at_rest(&self, slots: &SlotSet) -> Error {
        let few: Vec<_> = slots.slots().take(3).map(|slot| slot.to_string()).collect();
        let message = format!(
            "{}: slots were moved again each time they were walked over ({} of them, {}{}), so that ids may have been missed: see CLUSTER NODES on each server, and try again when no slot is being moved to and fro",
            self.entry().endpoint(),
            slots.slots().count(),
            few.join(", "),
            if slots.slots().nth(3).is_some() {
                ", ..."
            } else {
                ""
            },
        );
        Error::new(Kind::Unavailable, message)
    }

    /// Asks every server where its slots are.
    async fn slot_states(self: &Arc<Self>, connections: &Arc<Connections>) -> Result<SlotStates> {
        self.refresh().await?;
        let mut reports: Vec<(u32, Report)> = Vec::new();
        // Once more where a server has named one that was not known: it may have no slot yet.
        for _ in 0..2 {
            let (_, servers) = self.servers();
            let asked = |number: u32| reports.iter().any(|(known, _)| *known == number);
            let unasked: Vec<_> = servers
                .into_iter()
                .filter(|(number, _)| !asked(*number))
                .collect();
            let said = unasked
                .iter()
                .map(|(_, node)| self.report(connections, node));
            for ((number, node), said) in unasked.iter().zip(join_all(said).await) {
                match said? {
                    Said::Slots(report) => reports.push((*number, report)),
                    Said::Gone => {}
                    Said::Refused(why) => {
                        connections.warn_of_slow_scans(node.endpoint(), &why);
                        return Ok(self.states_by_map());
                    }
                }
            }
            for partner in reports.iter().flat_map(|(_, report)| report.partners()) {
                if let ([place, ..], None) = (partner, self.number_of(partner)) {
                    self.at(place);
                }
            }
        }
        let by_map = self.states_by_map();
        Ok(SlotStates::new(&reports, |partner| self.number_of(partner)).unless_unknown(&by_map))
    }

    fn states_by_map(&self) -> SlotStates {
        let map = self.known();
        SlotStates::of_owners(|slot| map.number_of_owner(slot))
    }

    /// The number of the server that is reached in one of these ways.
    fn number_of(&self, endpoints: &[Endpoint]) -> Option<u32> {
        let map = self.known();
        let mut known = map.numbered_nodes();
        let found = known.find(|(_, node)| endpoints.contains(node.endpoint()));
        found.map(|(number, _)| number)
    }

    async fn report(
        self: &Arc<Self>,
        connections: &Arc<Connections>,
        node: &Arc<Node>,
    ) -> Result<Said> {
        let nodes = Request::resendable([command("CLUSTER", [&b"NODES"[..]])]);
        let reply = match connections.send_to(node, &nodes).await {
            Ok(replies) => replies.into_iter().next().unwrap_or_default(),
            Err(error) if error.found_no_server() => {
                let is_gone = self.has_lost(node).await? || !self.known().has_slots(node);
                return if is_gone { Ok(Said::Gone) } else { Err(error) };
            }
            Err(error) => return Err(error),
        };
        if let Reply::Other(Value::ServerError(error)) = &reply {
            return Ok(Said::Refused(error.code().to_owned()));
        }
        let text: Option<String> = redis::from_redis_value(reply.value()?).ok();
        let report = text.and_then(|text| Report::read(&text, node.endpoint()));
        Ok(report.map_or_else(|| Said::Refused("unreadable".to_owned()), Said::Slots))
    }
}

/// What a server says when it is asked where its slots are.
enum Said {
    Slots(Report),
    /// It is no server of the cluster any more, or has no slot.
    Gone,
    /// It does not say, and why.
    Refused(String),
}

impl Pass {
    fn new(cluster: &Cluster, number: u8, slots: SlotSet, states: SlotStates) -> Self {
        let map = cluster.known();
        let all: Vec<_> = map.numbered_nodes().map(|(number, _)| number).collect();
        let route = states.route(&slots, &all);
        let route = route
            .iter()
            .filter_map(|number| map.numbered(*number).cloned());
        Self {
            number,
            route: route.collect(),
            // Nobody says which are being migrated: if keys went one way during the first pass and the second, they
            // were met where they were in the one or where they are in the other.
            missed: if number == 0 && !states.tells_migrations {
                SlotSet::all()
            } else {
                SlotSet::none()
            },
            slots: Arc::new(slots),
            states,
            asked: Instant::now(),
        }
    }

    /// Learns where the slots are now.
    fn note(&mut self, states: SlotStates) {
        self.states
            .add_missed(&states, &self.slots, &mut self.missed);
        self.states = states;
        self.asked = Instant::now();
    }
}

impl Connections {
    fn warn_of_slow_scans(&self, endpoint: &Endpoint, why: &str) {
        if self.is_new(b"cluster nodes") {
            self.notices.push(
                Event::PermissionMissing,
                format!(
                    "{endpoint}: CLUSTER NODES is refused ({why}), which says what slots are being moved, so that whoever lists or drops all ids walks over every key twice: grant +cluster|nodes, as the line of doctor --acl does"
                ),
            );
        }
    }
}

fn forgotten() -> Error {
    let message = format!(
        "this walk over the keys is not known any more, since {SCANS} others were gone on with after it or it has ended: begin again with cursor 0"
    );
    Error::new(Kind::Operation, message)
}

#[cfg(test)]
mod tests;
