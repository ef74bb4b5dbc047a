use super::*;

const PACKET: usize = 1000;
const RTT: u64 = 100_000;

/// A window of 100 packets after slow start, and the time.
fn grown() -> (Ledbat, UtpTime) {
    let mut ledbat = Ledbat::new(60_000, PACKET);
    while ledbat.window() < 100 * PACKET {
        give(&mut ledbat, UtpTime(0), 0, true);
    }
    ledbat.ssthresh = ledbat.window;
    ledbat.is_slow_start = false;
    (ledbat, UtpTime(0))
}

/// Acknowledges one packet that was delayed.
fn give(ledbat: &mut Ledbat, now: UtpTime, delay: u32, is_cwnd_limited: bool) {
    ledbat.add_delay(delay);
    ledbat.on_ack(&WindowAck { now, bytes: PACKET, is_cwnd_limited, round_trip: RTT, max_payload: PACKET });
}

/// Acknowledges a whole window.
fn round(ledbat: &mut Ledbat, now: &mut UtpTime, delay: u32) {
    *now = now.after(RTT);
    for _ in 0..ledbat.window() / PACKET {
        give(ledbat, *now, delay, true);
    }
}

#[test]
fn slow_start_doubles_the_window_until_a_queue_builds() {
    let (mut ledbat, mut now) = (Ledbat::new(60_000, PACKET), UtpTime(0));
    for expected in [8, 16, 32] {
        round(&mut ledbat, &mut now, 5_000);
        assert_eq!(ledbat.window(), expected * PACKET);
    }
    round(&mut ledbat, &mut now, 16_000);
    assert!(ledbat.is_slow_start, "it was shorter in this round trip");
    round(&mut ledbat, &mut now, 16_000);
    round(&mut ledbat, &mut now, 16_000);
    assert!(!ledbat.is_slow_start);
    assert!((64 * PACKET..140 * PACKET).contains(&ledbat.window()), "{ledbat:?}");
    let mut ledbat = Ledbat::new(60_000, PACKET);
    (0..DELAY_FILTER).for_each(|_| give(&mut ledbat, UtpTime(1), 31_000, true));
    assert!(!ledbat.is_slow_start);
}

#[test]
fn one_packet_is_gained_per_round_trip_below_the_target_and_much_lost_above() {
    let (mut ledbat, mut now) = grown();
    let before = ledbat.window();
    round(&mut ledbat, &mut now, 0);
    assert!((before + 990..=before + 1000).contains(&ledbat.window()), "{ledbat:?}");
    let before = ledbat.window();
    round(&mut ledbat, &mut now, 30_000);
    round(&mut ledbat, &mut now, 30_000);
    assert!((before + 900..=before + 1100).contains(&ledbat.window()), "half a packet each: {ledbat:?}");
    let before = ledbat.window();
    for _ in 0..5 {
        round(&mut ledbat, &mut now, 120_000);
    }
    assert!(ledbat.window() < before / 4, "{ledbat:?}");
    for _ in 0..50 {
        round(&mut ledbat, &mut now, 900_000);
    }
    assert_eq!(ledbat.window(), 2 * PACKET);
}

#[test]
fn a_single_late_packet_is_no_queue() {
    let (mut ledbat, now) = grown();
    give(&mut ledbat, now, 0, true);
    let before = ledbat.window();
    give(&mut ledbat, now, 500_000, true);
    assert!(ledbat.window() >= before);
}

#[test]
fn an_unused_window_does_not_grow() {
    let (mut ledbat, now) = grown();
    let before = ledbat.window();
    (0..1000).for_each(|_| give(&mut ledbat, now, 0, false));
    assert_eq!(ledbat.window(), before);
}

#[test]
fn a_loss_with_a_queue_halves_the_window_and_without_costs_a_fifth() {
    let (mut ledbat, mut now) = grown();
    ledbat.lost(now, PACKET);
    assert_eq!(ledbat.window(), 80 * PACKET);
    (0..DELAY_FILTER).for_each(|_| ledbat.add_delay(20_000));
    ledbat.lost(now, PACKET);
    assert_eq!(ledbat.window(), 40 * PACKET);
    assert!((9_000.0..11_000.0).contains(&ledbat.target(now)), "half of what made the queue overflow");
    let before = ledbat.window();
    round(&mut ledbat, &mut now, 20_000);
    assert!(ledbat.window() < before * 3 / 4, "{ledbat:?}");
    assert!(ledbat.target(now.after(SHALLOW_QUEUE_MEMORY)) > 59_000.0);
    (0..DELAY_FILTER).for_each(|_| ledbat.add_delay(0));
    let before = ledbat.window();
    ledbat.lost(now, PACKET);
    assert_eq!(ledbat.window(), before / 2, "the queue has overflowed lately");
    ledbat.lost(now, PACKET);
    assert!(ledbat.target(now) > 59_000.0, "but losses without a queue have other causes");
    let before = ledbat.window();
    ledbat.lost(now, PACKET);
    ledbat.undo_loss();
    ledbat.undo_loss();
    assert_eq!(ledbat.window(), before);
    (0..20).for_each(|_| ledbat.lost(now, PACKET));
    assert_eq!(ledbat.window(), 2 * PACKET);
}

#[test]
fn a_timeout_starts_again_up_to_half_the_window() {
    let (mut ledbat, mut now) = grown();
    ledbat.timed_out(PACKET);
    assert_eq!(ledbat.window(), PACKET);
    for _ in 0..6 {
        round(&mut ledbat, &mut now, 0);
    }
    assert!((50 * PACKET..52 * PACKET).contains(&ledbat.window()), "{ledbat:?}");
}

#[test]
fn a_queue_that_is_never_empty_makes_the_window_small_for_a_moment() {
    let (mut ledbat, mut now) = (Ledbat::new(60_000, PACKET), UtpTime(0));
    for delay in [0, 0, 0, 20_000, 20_000] {
        round(&mut ledbat, &mut now, delay);
    }
    let before = ledbat.window();
    let mut small = 0;
    for _ in 0..600 {
        round(&mut ledbat, &mut now, 20_000);
        small += u32::from(ledbat.window() == 2 * PACKET);
    }
    assert!((4..=9).contains(&small), "three times in a minute: {small}");
    assert!(ledbat.window() > before);
}
