use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn candidate(key: u32) -> TurnoverCandidate {
    let key = PeerKey(key);
    TurnoverCandidate {
        key,
        since: Duration::ZERO,
        is_interesting: true,
        is_interested: true,
        down_rate: 0,
        up_rate: 0,
    }
}

#[test]
fn pauses_double_up_to_half_an_hour_and_success_forgives() {
    let (mut record, mut rng) = (PeerRecord::default(), fastrand::Rng::with_seed(1));
    let mut pauses = |record: &mut PeerRecord, worked| {
        record.disconnected(SECOND * 1000, worked, &mut rng);
        [false, true].map(|needed| record.dialable_from(needed).as_secs_f64() - 1000.0)
    };
    for n in 0..40 {
        for (seen, (first, times)) in pauses(&mut record, false).into_iter().zip([(30.0, n), (2.0, (n - 2).max(0))]) {
            let expected = (first * 2f64.powi(times)).min(1800.0);
            assert!((expected * 0.75..=expected * 1.25).contains(&seen), "{seen} after failure {n}");
        }
    }
    assert_eq!(record.unreached_for(SECOND * 1500), SECOND * 500);
    record.reached(SECOND);
    assert_eq!((record.unreached_for(SECOND * 1500), record.last_seen()), (Duration::ZERO, Some(SECOND)));
    assert!(pauses(&mut record, true)[0] < 40.0);
}

#[test]
fn a_peer_that_gave_something_is_dialed_again_soon_unless_we_dropped_it() {
    let (mut record, mut rng) = (PeerRecord::default(), fastrand::Rng::with_seed(1));
    record.record_delivered(SECOND, 1 << 20, 1 << 20);
    record.disconnected(SECOND * 10, true, &mut rng);
    assert!((SECOND * 11..SECOND * 13).contains(&record.dialable_from(false)));
    record.dropped();
    assert!(record.dialable_from(false) > SECOND * 30);
    record.disconnected(SECOND * 50, true, &mut rng);
    assert!(record.dialable_from(false) < SECOND * 53);
}

#[test]
fn a_breach_of_the_protocol_costs_a_minute_and_then_more() {
    let mut record = PeerRecord::default();
    record.record_delivered(SECOND, 1 << 20, 1 << 20);
    record.note_violation(SECOND);
    assert_eq!(record.dialable_from(true), SECOND * 61);
    assert!(!record.is_banned(SECOND * 2));
    record.note_violation(SECOND * 100);
    assert_eq!(record.dialable_from(true), SECOND * 220);
    (0..40).for_each(|_| record.note_violation(Duration::ZERO));
    assert_eq!(record.dialable_from(true), MAX_BAN);
}

#[test]
fn a_peer_that_answers_in_another_way_is_dialed_at_once_unless_dials_fail() {
    let (mut record, mut rng) = (PeerRecord::default(), fastrand::Rng::with_seed(1));
    record.disconnected(SECOND * 10, true, &mut rng);
    assert!(record.dialable_from(false) > SECOND * 20);
    record.note_sign_of_life();
    assert_eq!(record.dialable_from(false), Duration::ZERO);
    record.disconnected(SECOND * 12, false, &mut rng);
    record.note_sign_of_life();
    assert!(record.dialable_from(false) > SECOND * 40, "it is heard, but cannot be reached");
}

#[test]
fn bans_end_and_grow() {
    let mut record = PeerRecord::default();
    record.ban(SECOND);
    assert!(record.is_banned(SECOND * 3600) && record.dialable_from(true) == SECOND * 3601);
    assert!(!record.is_banned(SECOND * 3601));
    record.ban(SECOND * 4000);
    assert_eq!(record.banned_until(), Some(SECOND * (4000 + 7200)));
    (0..40).for_each(|_| record.ban(Duration::ZERO));
    assert_eq!(record.banned_until(), Some(MAX_BAN));
}

#[test]
fn fast_uploaders_come_first_and_failing_peers_last() {
    let mut fast = PeerRecord::default();
    fast.reached(SECOND);
    fast.record_delivered(SECOND, 50 << 20, 1 << 20);
    fast.disconnected(SECOND, true, &mut fastrand::Rng::with_seed(1));
    let mut slow = fast.clone();
    slow.best_rate = 5000;
    let (fresh, mut dead, mut corrupt, mut late) =
        (PeerRecord::default(), PeerRecord::default(), PeerRecord::default(), PeerRecord::default());
    dead.disconnected(SECOND, false, &mut fastrand::Rng::with_seed(1));
    corrupt.hash_failed();
    late.timed_out(5);
    fast.timed_out(5); // negligible compared with what it delivered
    let ranks = [fast.rank(0), slow.rank(0), fresh.rank(9), fresh.rank(8), late.rank(9), corrupt.rank(9), dead.rank(9)];
    assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
}

#[test]
fn a_full_table_changes_slowly_and_keeps_the_peers_that_upload() {
    let mut turnover = Turnover::default();
    let mut table: Vec<TurnoverCandidate> = (0..100).map(candidate).collect();
    for o in &mut table[..40] {
        o.down_rate = 100 + u64::from(o.key.0) * 1000;
    }
    let uploaders: Vec<PeerKey> = table.iter().filter(|o| o.down_rate >= Turnover::GOOD).map(|o| o.key).collect();
    table[70].is_interesting = false;
    (table[71].is_interesting, table[71].is_interested) = (false, false);
    assert_eq!(turnover.pick(SECOND * 89, false, &table), None, "all are new");
    let (mut dropped, mut next) = (Vec::new(), 100);
    for second in 90..3690u32 {
        if let Some(key) = turnover.pick(SECOND * second, false, &table) {
            dropped.push((second, key));
            table.retain(|o| o.key != key);
            table.push(TurnoverCandidate { since: SECOND * second, ..candidate(next) });
            next += 1;
        }
    }
    assert_eq!(dropped[0].1, PeerKey(71));
    assert_eq!(dropped[1].1, PeerKey(70));
    assert!(dropped.windows(4).all(|d| d[3].0 - d[0].0 >= 60), "at most three a minute");
    assert!(dropped.len() > 100, "{}", dropped.len());
    assert!(uploaders.iter().all(|key| table.iter().any(|o| o.key == *key)));
}

#[test]
fn a_seed_keeps_peers_that_download() {
    let mut table: Vec<TurnoverCandidate> = (0..10).map(candidate).collect();
    for o in &mut table[..9] {
        o.up_rate = 5000;
    }
    table[0].is_interested = false;
    let mut turnover = Turnover::default();
    assert_eq!(turnover.pick(SECOND * 100, true, &table), Some(PeerKey(9)));
    table.pop();
    assert_eq!(turnover.pick(SECOND * 100, true, &table), None, "all give well");
}
