use super::super::map_refresh::tests::{config, halved, is_halved, place, will_be_told};
use super::*;

/// Connections to a cluster of two servers that are away.
fn to_halved() -> (Arc<Connections>, Arc<Cluster>) {
    let connections = Connections::new(config());
    let cluster = Arc::clone(connections.topology.cluster().unwrap());
    is_halved(&cluster);
    (connections, cluster)
}

fn pass(number: u8, route: Vec<Arc<Node>>, states: SlotStates) -> Pass {
    Pass {
        number,
        route,
        slots: Arc::new(SlotSet::all()),
        missed: SlotSet::none(),
        states,
        asked: Instant::now(),
    }
}

fn owned_by(number: u32) -> SlotStates {
    SlotStates::of_owners(|_| Some(number))
}

fn at(scan: u64, pass: u8, index: u32, cursor: u64) -> Place {
    Place {
        cursor,
        index,
        pass,
        scan,
    }
}

#[test]
fn a_place_is_told_by_a_number_whatever_the_servers_cursor_is() {
    for cursor in [0, 1, u64::MAX] {
        let place = Place {
            cursor,
            index: 7,
            pass: PASSES,
            scan: 3_000_000_000,
        };
        assert_eq!(Place::unpack(place.pack()), place);
    }
}

#[tokio::test]
async fn the_walk_that_was_gone_on_with_longest_ago_is_forgotten() {
    let (scans, slots) = (Scans::default(), Arc::new(SlotSet::all()));
    let begin = || {
        let slots = Arc::clone(&slots);
        scans.begin(Pass {
            slots,
            ..pass(0, Vec::new(), SlotStates::default())
        })
    };
    let first: Vec<_> = (0..SCANS).map(|_| begin()).collect();
    assert!(first.iter().all(|number| scans.find(*number).is_some()));
    let one_more = begin();
    assert!(!first.contains(&one_more) && scans.find(one_more).is_some());
    let left = first.iter().filter(|number| scans.find(**number).is_some());
    assert_eq!(left.count(), SCANS - 1);
    assert!(scans.find(first[0]).is_none());
    scans.end(one_more);
    assert!(scans.find(one_more).is_none() && scans.find(first[1]).is_some());
}

#[tokio::test]
async fn a_page_has_all_keys_at_first_and_in_later_passes_those_that_may_have_been_missed() {
    let (connections, cluster) = to_halved();
    let keys = || vec![b"a".to_vec(), b"b".to_vec(), b"{a}c".to_vec()];
    for number in 0..3 {
        let mut slots = SlotSet::none();
        slots.insert(slot_of(b"a"));
        let scan = cluster.scans.begin(Pass {
            slots: Arc::new(slots),
            ..pass(number, cluster.nodes(), SlotStates::default())
        });
        let asked = at(scan, number, 1, 77).pack();
        let page = cluster.page(&connections, asked).await.unwrap();
        assert_eq!(page.cursor(), 77);
        assert_eq!(*page.node.as_ref().unwrap().endpoint(), place("two"));
        let mut met = keys();
        page.keep_new(&mut met);
        let expected = if number == 0 {
            keys()
        } else {
            vec![b"a".to_vec(), b"{a}c".to_vec()]
        };
        assert_eq!(met, expected);
        let over = at(scan, number + 1, 1, 77).pack();
        assert!(
            cluster
                .page(&connections, over)
                .await
                .unwrap()
                .node
                .is_none()
        );
    }
    let unknown = at(99, 0, 0, 1).pack();
    assert!(cluster.page(&connections, unknown).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn where_slots_are_is_asked_at_the_end_of_a_pass_and_where_it_takes_long() {
    let (connections, cluster) = to_halved();
    let begin = || cluster.scans.begin(pass(0, cluster.nodes(), owned_by(1)));
    let page = |scan, index, cursor| Page {
        place: at(scan, 0, index, cursor),
        node: None,
        slots: None,
    };
    for (index, waited, is_asked) in [
        (0, Duration::ZERO, false),
        (0, LONG, false),
        (0, LONG + Duration::from_millis(1), true),
        (1, Duration::ZERO, true),
    ] {
        let scan = begin();
        sleep(waited).await;
        let after = cluster.after(&connections, &page(scan, index, 1), 0).await;
        // Nobody is there to be asked.
        assert_eq!(after.is_err(), is_asked, "{index} {waited:?}");
        let after = cluster.after(&connections, &page(scan, index, 1), 5).await;
        assert_eq!(after.is_err(), waited > LONG);
        if let Ok(after) = after {
            assert_eq!(Place::unpack(after), at(scan, 0, index, 5));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_walk_ends_when_nothing_was_missed_and_else_goes_on_with_that() {
    // No server of it is known, so that none can contradict the others.
    let connections = Connections::new(config());
    let cluster = Arc::clone(connections.topology.cluster().unwrap());
    let nobody = SlotStates::default();
    let page = |scan, pass| Page {
        place: at(scan, pass, 0, 3),
        node: None,
        slots: None,
    };
    let scan = cluster.scans.begin(pass(0, Vec::new(), nobody.clone()));
    will_be_told(&cluster, Ok(()));
    assert_eq!(
        cluster
            .after(&connections, &page(scan, 0), 0)
            .await
            .unwrap(),
        0
    );
    assert!(cluster.scans.find(scan).is_none());
    let scan = cluster.scans.begin(pass(0, Vec::new(), owned_by(1)));
    will_be_told(&cluster, Ok(()));
    let next = cluster
        .after(&connections, &page(scan, 0), 0)
        .await
        .unwrap();
    assert_eq!(Place::unpack(next), at(scan, 1, 0, 0));
    // A page that another call has asked for leads to the same place.
    assert_eq!(
        cluster
            .after(&connections, &page(scan, 0), 9)
            .await
            .unwrap(),
        next
    );
    let second = cluster.scans.find(scan).unwrap();
    let second = second.lock().await;
    assert!(second.slots.slots().eq(SlotSet::all().slots()) && second.missed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn passes_are_numbered_and_their_pauses_double_until_the_walk_is_given_up() {
    let (connections, cluster) = to_halved();
    let clear = owned_by(1);
    let unclear = || SlotStates::default().unless_unknown(&clear);
    for number in 0..PASSES {
        let before = Pass {
            missed: SlotSet::all(),
            ..pass(number, Vec::new(), clear.clone())
        };
        match cluster.next_pass(&connections, &before).await {
            Ok(next) => assert_eq!(next.number, number + 1),
            Err(error) => {
                assert_eq!(number, PASSES - 1);
                assert!(
                    error.to_string().contains("moved again each time"),
                    "{error}"
                );
            }
        }
        assert_eq!(
            number == PASSES - 1,
            cluster.next_pass(&connections, &before).await.is_err()
        );
        if number < PASSES - 1 {
            let before = Pass {
                states: unclear(),
                ..before
            };
            let began = Instant::now();
            // It is asked anew, and nobody is there.
            assert!(cluster.next_pass(&connections, &before).await.is_err());
            let pause = PAUSE * 2_u32.pow(number.into());
            let waited = began.elapsed();
            assert!(
                (pause..pause * 3 / 2).contains(&waited),
                "{number} {waited:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_gone_where_it_has_no_slot_by_what_the_others_say() {
    let (connections, cluster) = to_halved();
    let one = Arc::clone(&cluster.nodes()[0]);
    let guest = cluster.at(&place("guest"));
    let left = Node::new(cluster.config.at(place("left")));
    for (node, has_left, is_gone) in [
        (&one, false, false),
        (&guest, false, true),
        (&left, true, true),
    ] {
        will_be_told(&cluster, Ok(()));
        assert_eq!(cluster.has_lost(node).await.unwrap(), has_left);
        will_be_told(&cluster, Ok(()));
        let said = cluster.report(&connections, node).await;
        assert_eq!(
            matches!(said, Ok(Said::Gone)),
            is_gone,
            "{}",
            node.endpoint()
        );
        // Nobody can say.
        assert!(cluster.has_lost(node).await.is_err());
        assert!(cluster.report(&connections, node).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_asked_for_another_reason_is_not_gone() {
    let mut config = config();
    config.credentials.password_file = Some("/nobody/password".into());
    let connections = Connections::new(config.clone());
    let cluster = Arc::clone(connections.topology.cluster().unwrap());
    let left = Node::new(config.at(place("left")));
    will_be_told(&cluster, Ok(()));
    let said = cluster.report(&connections, &left).await;
    assert!(said.is_err_and(|error| !error.found_no_server()));
}

#[tokio::test]
async fn slots_are_with_their_owners_by_the_map_where_nobody_may_say_more() {
    let cluster = halved();
    let half = |slots: std::ops::Range<u16>| {
        let mut set = SlotSet::none();
        for slot in slots {
            set.insert(slot);
        }
        set
    };
    let states = cluster.states_by_map();
    assert_eq!(states.route(&half(0..8_192), &[]), [1]);
    assert_eq!(states.route(&half(8_192..16_384), &[]), [2]);
    for (ways, number) in [
        (vec!["one"], Some(1)),
        (vec!["name", "two"], Some(2)),
        (vec!["name"], None),
        (vec![], None),
    ] {
        let ways: Vec<_> = ways.into_iter().map(place).collect();
        assert_eq!(cluster.number_of(&ways), number);
    }
}

#[tokio::test]
async fn what_moved_between_two_looks_may_have_been_missed() {
    let mut one = pass(0, Vec::new(), owned_by(1));
    one.note(owned_by(1));
    assert!(one.missed.is_empty());
    one.note(SlotStates::of_owners(|slot| {
        Some(if slot < 3 { 2 } else { 1 })
    }));
    assert_eq!(one.missed.slots().collect::<Vec<_>>(), [0, 1, 2]);
    // What has been missed once stays so.
    one.note(owned_by(1));
    assert_eq!(one.missed.slots().collect::<Vec<_>>(), [0, 1, 2]);
}

#[tokio::test]
async fn that_walks_are_slow_without_a_permission_is_told_once() {
    let (connections, _) = to_halved();
    for told in [1, 0, 0] {
        connections.warn_of_slow_scans(&place("one"), "NOPERM");
        let notices = connections.take_notices();
        assert_eq!(notices.len(), told);
        let events = notices.iter().map(|said| said.event);
        assert!(events.eq(vec![Event::PermissionMissing; told]));
    }
}
