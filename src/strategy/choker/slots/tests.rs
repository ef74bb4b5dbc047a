//! The number of slots on links of all kinds, with a simulated clock.

use super::*;

const KIB: u64 = 1024;

/// Simulates `demand` peers that each take up to `each` bytes per second, on a link with the rate `link`. Returns the number of
/// slots at the start of every round.
fn run(slots: &mut Slots, seeding: bool, demand: usize, link: u64, each: u64, rounds: usize) -> Vec<usize> {
    let limit = if slots.limit == 0 { link } else { link.min(slots.limit) };
    let (mut now, mut sent) = (Duration::from_secs(1000), 0);
    slots.set_seeding(seeding);
    (0..rounds)
        .map(|_| {
            let before = slots.count();
            for _ in 0..10 {
                let served = demand.min(slots.count());
                let upload_rate = limit.min(each * served as u64);
                let active = served;
                if now.as_secs().is_multiple_of(10) || slots.early_round_in().is_some() {
                    slots.observe(now, seeding, Load { demand, served, active, upload_rate, sent });
                }
                sent += upload_rate;
                now += Duration::from_secs(1);
            }
            before
        })
        .collect()
}

#[test]
fn a_fast_link_serves_all() {
    let mut slots = Slots::new();
    assert!(slots.count() >= 8);
    assert!(run(&mut slots, true, 200, 1 << 30, 1 << 24, 60)[2..].iter().all(|n| *n == 256), "within twenty seconds");
    let mut slots = Slots::new();
    assert_eq!(run(&mut slots, false, 500, 1 << 30, 1 << 24, 10).last(), Some(&256));
}

#[test]
fn a_very_fast_link_serves_all_within_a_tenth_of_a_second() {
    let mut slots = Slots::new();
    slots.set_seeding(true);
    let (mut now, mut sent) = (Duration::from_secs(1000), 0);
    for _ in 0..3 {
        let served = slots.count().min(20);
        slots.observe(now, true, Load { demand: 20, served, active: served, upload_rate: 1 << 30, sent });
        sent += 50 << 20;
        now += slots.early_round_in().unwrap_or_default();
    }
    assert!(slots.count() >= 20);
}

#[test]
fn a_slow_link_ends_with_slots_that_are_worth_having_and_does_not_hunt() {
    let mut slots = Slots::new();
    let seen = run(&mut slots, true, 600, 100 * KIB, 1 << 20, 360);
    assert!(seen.iter().all(|n| (4..=6).contains(n)), "{seen:?}");
    let changes = seen[40..].windows(2).filter(|w| w[0] != w[1]).count();
    assert!(changes <= 14, "{changes} changes in 53 minutes: {seen:?}");
    let mut slots = Slots::new();
    let seen = run(&mut slots, false, 600, 10 * KIB, 1 << 20, 100);
    assert!(seen[10..].iter().all(|n| (8..=10).contains(n)), "{seen:?}");
}

#[test]
fn peers_that_take_little_get_more_slots() {
    let mut slots = Slots::new();
    assert_eq!(run(&mut slots, false, 600, 1 << 30, 2 * KIB, 60).last(), Some(&256));
    let mut slots = Slots::new();
    assert_eq!(run(&mut slots, true, 600, 1 << 30, 2 * KIB, 40).last(), Some(&256));
}

#[test]
fn a_seed_with_a_slow_uplink_keeps_the_slots_few() {
    for (line, most) in [(125_000, 5), (250_000, 10), (1_000_000, 40)] {
        let mut slots = Slots::new();
        let seen = run(&mut slots, true, 60, line, 1 << 20, 30);
        assert!(seen.iter().all(|n| (4..=most).contains(n)), "{line} B/s: {seen:?}");
    }
}

/// Every fourth second, 200 kilobytes that a lost packet had held up are acknowledged at once.
#[test]
fn a_burst_of_acknowledgements_opens_no_slots() {
    let mut slots = Slots::new();
    let mut sent = 0;
    for second in 0..30 {
        sent += if second % 4 == 3 { 230_000 } else { 83_000 };
        let load = Load { demand: 60, served: slots.count(), active: 4, upload_rate: 119_000, sent };
        slots.observe(Duration::from_secs(100 + second), true, load);
        assert!(slots.count() <= 5, "{} after {second} s", slots.count());
    }
}

#[test]
fn a_peer_that_takes_nothing_has_no_part_in_the_uplink() {
    let mut slots = Slots::new();
    for second in 0..30 {
        let load = Load { demand: 300, served: slots.count(), active: 0, upload_rate: 0, sent: 0 };
        slots.observe(Duration::from_secs(second), true, load);
    }
    assert_eq!(slots.count(), 256, "so that others have their turn");
}

#[test]
fn a_download_that_is_done_goes_on_with_its_slots() {
    let mut slots = Slots::new();
    run(&mut slots, false, 99, 1 << 30, 1 << 20, 3);
    let before = slots.count();
    slots.set_seeding(true);
    assert!(before > 16 && slots.count() == before, "{before}");
}

#[test]
fn bytes_that_only_fill_buffers_open_no_slots() {
    let mut slots = Slots::new();
    slots.set_seeding(true);
    let (mut sent, mut served) = (0, 0);
    for second in 0..60 {
        // Each newly unchoked peer takes 4 MiB at once; after that, all share 125 kB/s.
        sent += slots.count().saturating_sub(served) as u64 * 4096 * KIB + 125_000;
        served = slots.count();
        let load = Load { demand: 60, served, active: served, upload_rate: 125_000, sent };
        slots.observe(Duration::from_secs(100 + second), true, load);
        assert!(slots.count() <= 5, "{} after {second} s", slots.count());
    }
}

#[test]
fn slots_that_became_slow_are_fewer_though_nobody_waits() {
    let mut slots = Slots::new();
    // A download serves sixteen peers from the start: 6 kB/s each.
    let seen = run(&mut slots, false, 16, 100_000, 1 << 20, 60);
    assert_eq!(seen.last(), Some(&8), "{seen:?}");
    let mut slots = Slots::new();
    run(&mut slots, true, 60, 1 << 30, 1 << 20, 5);
    assert_eq!(slots.count(), 64, "for sixty");
    let seen = run(&mut slots, true, 60, 125_000, 1 << 20, 60);
    assert!(*seen.last().expect("rounds") <= 8, "{seen:?}");
}

#[test]
fn peers_that_want_little_keep_their_slots() {
    let mut slots = Slots::new();
    let seen = run(&mut slots, false, 16, 1 << 30, 2 * KIB, 100);
    assert!(seen[20..].iter().all(|n| *n == 16), "{seen:?}");
}

#[test]
fn a_limit_sets_the_number_at_once() {
    let mut slots = Slots::new();
    slots.set_limit(10 * KIB);
    assert_eq!(slots.count(), 2);
    slots.set_limit(320 * KIB);
    assert_eq!(slots.count(), 10);
    let seen = run(&mut slots, false, 600, 1 << 30, 1 << 24, 100);
    assert!(seen.iter().all(|n| (8..=16).contains(n)), "{seen:?}");
    slots.set_limit(0);
    assert_eq!(slots.count(), 16);
}

#[test]
fn while_nobody_waits_nothing_changes() {
    let mut slots = Slots::new();
    assert!(run(&mut slots, false, 16, 1 << 30, 1 << 24, 50).iter().all(|n| *n == 16));
    assert!(run(&mut slots, false, 99, 0, 0, 50).iter().all(|n| *n == 16), "nothing flows");
}
