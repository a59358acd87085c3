use super::*;

fn set(value: &[u8]) -> Change {
    Change::set(digest(value), None)
}

/// Of a request that was sent in this epoch after all others were answered.
fn at(epoch: u64) -> Sent {
    Sent {
        epoch,
        answered: u64::MAX,
    }
}

/// A barrier has passed for everything up to this request.
fn pass(unproved: &mut AcknowledgedWrites, requests: u64) {
    let mut after = Vec::new();
    while let Some(last) = unproved.passed(requests, &after).pop() {
        after = last;
    }
}

fn doubtful(unproved: &AcknowledgedWrites, epoch: u64) -> Vec<Vec<u8>> {
    let (mut keys, mut after) = (Vec::new(), Vec::new());
    while let (doubtful, Some(last)) = unproved.doubtful(epoch, &after) {
        keys.extend(doubtful.into_iter().map(|of| of.key));
        after = last;
    }
    keys
}

/// Looks at a key in this epoch, which holds this.
fn recheck(unproved: &mut AcknowledgedWrites, epoch: u64, key: &[u8], found: Option<&[u8]>) {
    let number = unproved.entries[key].number;
    let key = key.to_vec();
    unproved.rechecked(epoch, &Doubtful { key, number }, found.map(digest));
}

#[test]
fn what_a_barrier_has_passed_is_forgotten_and_what_came_after_is_not() {
    let mut unproved = AcknowledgedWrites::default();
    unproved.note(at(0), [(b"p:a".to_vec(), Some(set(b"1")))].into_iter());
    let covered = unproved.requests();
    unproved.note(at(0), [(b"p:b".to_vec(), Some(set(b"1")))].into_iter());
    pass(&mut unproved, covered);
    assert_eq!(doubtful(&unproved, u64::MAX), [b"p:b"]);
}

#[test]
fn a_barrier_is_due_once_more_is_remembered_than_memory_is_spent_on() {
    let mut unproved = AcknowledgedWrites::default();
    let many =
        |from: usize, to| (from..to).map(|number| (number.to_be_bytes().to_vec(), Some(set(b"1"))));
    unproved.note(at(0), many(0, MUCH));
    assert!(!unproved.is_much());
    unproved.note(at(0), many(MUCH, MUCH + 1));
    assert!(unproved.is_much());
}

#[test]
fn what_a_barrier_has_passed_is_forgotten_in_turns_in_which_more_may_come() {
    let mut unproved = AcknowledgedWrites::default();
    let keys =
        |from: usize, to| (from..to).map(|number| (number.to_be_bytes().to_vec(), Some(set(b"1"))));
    unproved.note(at(0), keys(0, 2 * PAGE + 1));
    assert_eq!(unproved.doubtful(1, b"").0.len(), PAGE);
    assert_eq!(doubtful(&unproved, 1).len(), 2 * PAGE + 1);
    let covered = unproved.requests();
    let page = unproved.passed(covered, b"");
    assert_eq!((page.len(), unproved.entries.len()), (PAGE, PAGE + 1));
    unproved.note(at(0), keys(2 * PAGE, 2 * PAGE + 2));
    let page = unproved.passed(covered, page.last().unwrap());
    assert_eq!((page.len(), unproved.entries.len()), (PAGE, 2));
    assert_eq!(unproved.passed(covered, page.last().unwrap()).len(), 2);
    assert_eq!(unproved.entries.len(), 2);
}

#[test]
fn a_connection_vouches_for_what_was_sent_after_it_was_opened() {
    let mut unproved = AcknowledgedWrites::default();
    let sent = unproved.now();
    let opened = unproved.begin_epoch();
    unproved.note(sent, [(b"p:a".to_vec(), Some(set(b"1")))].into_iter());
    let sent = unproved.now();
    unproved.note(sent, [(b"p:b".to_vec(), Some(set(b"1")))].into_iter());
    assert_eq!(doubtful(&unproved, opened), [b"p:a"]);
    recheck(&mut unproved, opened, b"p:a", Some(b"1"));
    assert_eq!(doubtful(&unproved, opened), [] as [Vec<u8>; 0]);
    unproved.note(at(0), [(b"p:c".to_vec(), Some(set(b"1")))].into_iter());
    assert_eq!(doubtful(&unproved, opened), [b"p:c"]);
}

#[test]
fn a_lost_change_outlives_barriers_until_it_is_made_good() {
    let mut unproved = AcknowledgedWrites::default();
    for key in [b"p:a", b"p:b", b"p:c"] {
        unproved.note(at(0), [(key.to_vec(), Some(set(b"1")))].into_iter());
        recheck(&mut unproved, 1, key, None);
    }
    pass(&mut unproved, u64::MAX);
    assert_eq!(unproved.lost(b"p:").len(), 3);
    assert_eq!(unproved.lost(b"q:"), [] as [&str; 0]);
    unproved.note(at(0), [(b"p:a".to_vec(), Some(set(b"1")))].into_iter());
    unproved.note(
        at(0),
        [(b"p:b".to_vec(), Some(Change::Deleted))].into_iter(),
    );
    recheck(&mut unproved, 1, b"p:c", Some(b"1"));
    assert_eq!(unproved.lost(b"p:"), [] as [&str; 0]);
    assert!(unproved.unshown.is_empty());
}

#[test]
fn a_drop_takes_the_place_of_what_was_under_its_prefix() {
    let mut unproved = AcknowledgedWrites::default();
    unproved.note(at(0), [(b"p:a".to_vec(), Some(set(b"1")))].into_iter());
    recheck(&mut unproved, 1, b"p:a", None);
    unproved.note_drop(at(0), b"p:");
    assert_eq!(unproved.lost(b"p:"), [] as [&str; 0]);
    assert_eq!(unproved.doubtful_drops(1), [(b"p:".to_vec(), 2)]);
    pass(&mut unproved, 2);
    assert_eq!(unproved.doubtful_drops(1), []);
}

#[test]
fn a_drop_is_contradicted_by_a_key_that_was_not_written_since() {
    let mut unproved = AcknowledgedWrites::default();
    unproved.note_drop(at(0), b"p:");
    unproved.note_sending(b"p:", [b"p:a".to_vec()].into_iter());
    unproved.note_sending(b"q:", [b"q:b".to_vec()].into_iter());
    assert!(!unproved.contradicts_drop(b"p:", 1, b"p:a"));
    assert!(unproved.contradicts_drop(b"p:", 1, b"p:b"));
    let target = Target::Keys(vec![b"p:b".to_vec()]);
    unproved.begin(&target);
    assert!(!unproved.contradicts_drop(b"p:", 1, b"p:b"));
    unproved.end(&target);
    assert!(unproved.contradicts_drop(b"p:", 1, b"p:b"));
    unproved.rechecked_drop(1, b"p:", 1, None);
    assert_eq!(unproved.doubtful_drops(1), []);
    assert_eq!(unproved.doubtful_drops(2).len(), 1);
}

#[test]
fn a_lost_drop_is_reported_once_and_forgotten_with_the_next() {
    let mut unproved = AcknowledgedWrites::default();
    unproved.note_drop(at(0), b"p:");
    unproved.rechecked_drop(1, b"p:", 1, Some("b".to_owned()));
    let lost = unproved.lost_drop(b"p:", 0).unwrap();
    assert_eq!((lost.number, lost.remaining.as_str()), (1, "b"));
    assert!(unproved.lost_drop(b"p:", 1).is_none());
    assert!(unproved.lost_drop(b"q:", 0).is_none());
    assert_eq!(unproved.doubtful_drops(u64::MAX), []);
    unproved.note_drop(at(1), b"p:");
    assert!(unproved.lost_drop(b"p:", 0).is_none());
    unproved.rechecked_drop(2, b"p:", 1, Some("b".to_owned())); // of the drop before
    assert!(unproved.lost_drop(b"p:", 0).is_none());
}

#[test]
fn a_value_shows_itself_and_an_expired_one_its_absence() {
    let [one, two] = [b"1", b"2"].map(|value| Some(digest(value)));
    assert!(set(b"1").is_shown_by(one));
    assert!(!set(b"1").is_shown_by(two) && !set(b"1").is_shown_by(None));
    let expired = Change::set(digest(b"1"), Some(0));
    assert!(expired.is_shown_by(None) && !expired.is_shown_by(two));
    assert!(Change::Deleted.is_shown_by(None) && !Change::Deleted.is_shown_by(one));
}

#[test]
fn a_lost_change_is_forgotten_with_one_that_is_not_known() {
    let mut unproved = AcknowledgedWrites::default();
    for key in [b"p:a", b"p:b"] {
        unproved.note(at(0), [(key.to_vec(), Some(set(b"1")))].into_iter());
        recheck(&mut unproved, 1, key, None);
    }
    for left in [1, 0] {
        let [key, none] = [
            format!("p:{}", if left == 1 { "a" } else { "b" }),
            "p:c".into(),
        ];
        let unknown = [key, none].map(|key| (key.into_bytes(), None));
        unproved.note(at(0), unknown.into_iter());
        assert_eq!(
            (unproved.lost(b"p:").len(), unproved.unshown.len()),
            (left, left)
        );
    }
    assert_eq!(doubtful(&unproved, u64::MAX), [] as [Vec<u8>; 0]);
}

#[test]
fn lost_drops_are_counted_so_that_who_comes_later_is_not_told_of_them() {
    let mut unproved = AcknowledgedWrites::default();
    for count in 1..3 {
        unproved.note_drop(at(0), b"p:");
        let (_, number) = unproved.doubtful_drops(1).remove(0);
        unproved.rechecked_drop(1, b"p:", number, Some("a".to_owned()));
        assert_eq!(unproved.drops_lost_so_far(), count);
        assert!(unproved.lost_drop(b"p:", count - 1).is_some());
        assert!(unproved.lost_drop(b"p:", count).is_none());
    }
}

#[test]
fn a_drop_after_what_a_barrier_has_passed_is_still_to_be_proved() {
    let mut unproved = AcknowledgedWrites::default();
    unproved.note_drop(at(0), b"p:");
    let covered = unproved.requests();
    unproved.note_drop(at(0), b"q:");
    pass(&mut unproved, covered);
    assert_eq!(unproved.doubtful_drops(u64::MAX), [(b"q:".to_vec(), 2)]);
}

/// What a key may hold so that a look at it finds no loss: nothing, or one of these values.
fn accepted(unproved: &mut AcknowledgedWrites, key: &[u8]) -> Vec<Option<&'static [u8]>> {
    let values: [&[u8]; 4] = [b"0", b"1", b"2", b"3"];
    let mut found: Vec<Option<&[u8]>> = vec![None];
    found.extend(values.map(Some));
    let mut epochs = 9..; // each of another server, so that nobody has changed it since
    found.retain(|found| {
        recheck(unproved, epochs.next().unwrap(), key, *found);
        unproved.lost(key).is_empty()
    });
    found
}

#[test]
fn of_changes_that_were_under_way_at_once_each_may_be_the_last() {
    let (a, mut unproved) = (b"p:a", AcknowledgedWrites::default());
    let mut note = |sent, change| {
        unproved.note(sent, [(a.to_vec(), change)].into_iter());
        accepted(&mut unproved, a)
    };
    let answered = |answered| Sent { epoch: 0, answered };
    assert_eq!(note(answered(0), Some(set(b"0"))), [Some(&b"0"[..])]);
    assert_eq!(note(answered(1), Some(set(b"1"))), [Some(&b"1"[..])]);
    let both: [Option<&[u8]>; 2] = [Some(b"1"), Some(b"2")];
    assert_eq!(note(answered(1), Some(set(b"2"))), both);
    // After the first of the two, and at once with the second.
    assert_eq!(note(answered(2), Some(Change::Deleted)), [None, both[1]]);
    assert_eq!(note(answered(2), Some(Change::Deleted)), [None, both[1]]);
    assert_eq!(note(answered(5), Some(set(b"3"))), [Some(&b"3"[..])]);
    assert_eq!(note(answered(5), None).len(), 5);
    assert_eq!(note(answered(5), Some(set(b"0"))).len(), 5);
    assert_eq!(note(answered(8), Some(set(b"0"))), [Some(&b"0"[..])]);
    assert!(unproved.rivals.is_empty());
}

#[test]
fn a_write_that_was_under_way_with_a_drop_may_be_there_after_it_or_not() {
    let early = Sent {
        epoch: 0,
        answered: 1,
    };
    let mut unproved = AcknowledgedWrites::default();
    unproved.note(at(0), [(b"p:old".to_vec(), Some(set(b"1")))].into_iter());
    unproved.note(early, [(b"p:a".to_vec(), Some(set(b"1")))].into_iter());
    unproved.note(early, [(b"q:a".to_vec(), Some(set(b"1")))].into_iter());
    unproved.note_drop(early, b"p:");
    unproved.note(early, [(b"p:b".to_vec(), Some(set(b"1")))].into_iter());
    assert!(!unproved.entries.contains_key(&b"p:old"[..]));
    for key in [b"p:a", b"p:b"] {
        assert_eq!(accepted(&mut unproved, key), [None, Some(&b"1"[..])]);
        assert!(!unproved.contradicts_drop(b"p:", 4, key));
    }
    assert!(unproved.contradicts_drop(b"p:", 4, b"p:old"));
    recheck(&mut unproved, 1, b"q:a", None);
    assert_eq!(unproved.lost(b"q:"), ["a"]);
    unproved.note_drop(unproved.now(), b"p:");
    assert_eq!(unproved.entries.len() + unproved.rivals.len(), 1);
    unproved.note_broken_drop(early, b"p:");
    unproved.note(early, [(b"p:b".to_vec(), Some(set(b"1")))].into_iter());
    assert_eq!(accepted(&mut unproved, b"p:b"), [None, Some(&b"1"[..])]);
    assert_eq!(unproved.doubtful_drops(u64::MAX), []);
    unproved.rechecked_drop(9, b"p:", 6, None); // of the drop before
    assert_eq!(unproved.doubtful_drops(u64::MAX), []);
    recheck(&mut unproved, 9, b"p:b", None);
    pass(&mut unproved, u64::MAX);
    assert!(unproved.rivals.is_empty() && unproved.drops.is_empty());
}

#[test]
fn what_a_request_under_way_may_have_done_is_no_loss_until_it_is_over() {
    let mut unproved = AcknowledgedWrites::default();
    let both = Target::Keys([b"p:a", b"p:b"].map(|key| key.to_vec()).into());
    for target in [both, Target::Prefix(b"p:".to_vec())] {
        for key in [b"p:a", b"p:b", b"q:c"] {
            unproved.note(at(0), [(key.to_vec(), Some(set(b"1")))].into_iter());
        }
        let sent = unproved.now();
        unproved.begin(&target);
        unproved.begin(&target);
        unproved.end(&target);
        for key in [b"p:a", b"p:b", b"q:c"] {
            recheck(&mut unproved, 1, key, None);
        }
        assert_eq!(unproved.lost(b"p:"), [] as [&str; 0]);
        assert_eq!(unproved.lost(b"q:"), ["c"]);
        unproved.note(sent, [(b"p:a".to_vec(), Some(Change::Deleted))].into_iter());
        unproved.end(&target);
        pass(&mut unproved, u64::MAX);
        assert_eq!(doubtful(&unproved, 0), [b"p:b", b"q:c"]);
        recheck(&mut unproved, 1, b"p:b", None);
        assert_eq!(unproved.lost(b"p:"), ["b"]);
        recheck(&mut unproved, 1, b"p:b", Some(b"1"));
        assert!(unproved.keys_under_way.is_empty() && unproved.drops_under_way.is_empty());
    }
}

#[test]
fn what_a_barrier_has_passed_may_still_come_after_a_request_that_was_under_way() {
    let mut unproved = AcknowledgedWrites::default();
    let target = Target::Keys(vec![b"p:a".to_vec()]);
    unproved.begin(&target);
    let sent = unproved.now();
    let change = |change| [(b"p:a".to_vec(), Some(change))].into_iter();
    unproved.note(sent, change(Change::Deleted));
    pass(&mut unproved, u64::MAX);
    unproved.note(sent, change(set(b"1")));
    unproved.end(&target);
    assert_eq!(accepted(&mut unproved, b"p:a"), [None, Some(&b"1"[..])]);
}

#[test]
fn a_lost_change_is_told_until_the_key_changes_on_the_server_that_lost_it() {
    let (a, mut unproved) = (b"p:a", AcknowledgedWrites::default());
    unproved.note(at(0), [(a.to_vec(), Some(set(b"2")))].into_iter());
    for (epoch, found) in [(1, b"1"), (1, b"1"), (2, b"0"), (2, b"0")] {
        recheck(&mut unproved, epoch, a, Some(found));
        assert_eq!(unproved.lost(b"p:"), ["a"], "{epoch}");
    }
    recheck(&mut unproved, 2, a, Some(b"3"));
    assert!(unproved.unshown.is_empty() && unproved.entries.is_empty());
    // What a request that is under way may have done is no change by another.
    let target = Target::Prefix(b"p:".to_vec());
    unproved.note(at(0), [(a.to_vec(), Some(set(b"2")))].into_iter());
    unproved.begin(&target);
    recheck(&mut unproved, 1, a, Some(b"1"));
    unproved.end(&target);
    for _ in 0..2 {
        recheck(&mut unproved, 1, a, None);
        assert_eq!(unproved.lost(b"p:"), ["a"]);
    }
}
