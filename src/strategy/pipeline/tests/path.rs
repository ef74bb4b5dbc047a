//! Paths that change or vary, and blocks that arrive in parts.

use crate::strategy::pipeline::tests::{Link, MIB, MS, SECOND, block, blocks, stated};
use crate::strategy::pipeline::*;

/// A path with varying round trip times of up to two hundred milliseconds, without reordering.
#[test]
fn jitter_does_not_keep_the_depth_at_that_of_the_shortest_round_trip() {
    let mut link = Link::new(stated(2000), MS * 20, 50.0 * MIB);
    let mut rng = fastrand::Rng::with_seed(3);
    let mut seen = link.asked;
    while link.now < SECOND * 20 {
        assert!(link.step());
        let (new, mut last) = (link.asked - seen, Duration::ZERO);
        let old = link.coming.len() - new as usize;
        for (number, (at, _)) in link.coming.iter_mut().enumerate() {
            let held_up = if number >= old { MS * rng.u32(..180) } else { Duration::ZERO };
            last = last.max(*at + held_up);
            *at = last;
        }
        seen = link.asked;
    }
    let second = link.bytes_between(SECOND * 18, SECOND * 20) / 2.0;
    assert!(second >= 20.0 * MIB, "{} MiB/s", second / MIB);
    assert!(link.requests.len() <= 2000);
}

#[test]
fn a_short_path_that_has_become_long_is_found_out() {
    let mut link = Link::new(stated(2000), MS / 2, 40.0 * MIB);
    link.run_until(SECOND * 3);
    let before = link.requests.len();
    link.rtt = MS * 150;
    link.run_until(SECOND * 40);
    let rate = link.bytes_between(SECOND * 38, SECOND * 40) / 2.0;
    assert!(rate >= 36.0 * MIB, "{} MiB/s, {} outstanding where there were {before}", rate / MIB, link.requests.len());
}

#[test]
fn a_short_path_is_looked_at_again_every_ten_seconds_at_no_cost() {
    let mut link = Link::new(stated(2000), MS, 40.0 * MIB);
    let mut emptied = 0;
    while link.now < SECOND * 61 {
        assert!(link.step());
        emptied += u32::from(link.coming.len() == link.requests.len() && link.requests.sent_while_empty(link.now));
    }
    assert!((4..=6).contains(&emptied), "the queue ran empty {emptied} times in a minute");
    assert!(link.bytes_between(SECOND * 31, SECOND * 61) >= 30.0 * 39.0 * MIB);
}

impl RequestPipeline {
    /// Whether the oldest request was sent just now, with none outstanding.
    fn sent_while_empty(&self, now: Duration) -> bool {
        now > SECOND * 2 && self.queue.front().is_some_and(|front| front.is_unqueued && front.at == now)
    }
}

#[test]
fn a_block_that_comes_slowly_is_waited_for_and_one_that_drips_is_not() {
    for (rate, waits) in [(1024, true), (600, true), (100, false), (1, false), (0, false)] {
        let mut requests = stated(500);
        requests.add(SECOND, &blocks(0..2));
        let mut lost = Vec::new();
        for second in (1..40u32).take_while(|second| second * rate < BLOCK_SIZE) {
            let now = SECOND + SECOND * second;
            if rate > 0 {
                requests.note_partial_block(now, u64::from(second * rate));
            }
            if requests.next_deadline().is_some_and(|at| at <= now) {
                lost.extend(requests.expire(now));
            }
        }
        assert_eq!(lost.contains(&block(0)), !waits, "at {rate} B/s");
    }
}

#[test]
fn first_requests_to_a_very_slow_peer_are_taken_back_before_its_first_block() {
    let mut requests = RequestPipeline::new(DEFAULT_REQQ);
    requests.add(SECOND, &blocks(0..64));
    for second in 2..=5 {
        assert_eq!(requests.expire(SECOND * second), []);
        requests.note_partial_block(SECOND * second, u64::from(second - 1) * 1024);
    }
    assert_eq!(requests.expire(SECOND * 5), blocks(1..64), "it takes sixteen seconds for the first");
    assert!(!requests.is_stalled());
    assert_eq!((requests.want(), requests.end_game_limit().least), (0, 1));
}

#[test]
fn a_limit_of_ours_is_no_slowness_of_the_peer() {
    let mut requests = stated(500);
    requests.add(SECOND, &blocks(0..64));
    for second in 2..10 {
        requests.note_rate_limited(SECOND * second);
        requests.note_partial_block(SECOND * second, 1000);
        assert_eq!(requests.expire(SECOND * second), []);
    }
}

#[test]
fn the_picker_is_asked_again_when_it_said() {
    let mut requests = stated(500);
    assert_eq!(requests.next_deadline(), None);
    requests.set_repick_at(Some(SECOND * 3));
    assert_eq!(requests.next_deadline(), Some(SECOND * 3));
    assert!(
        !requests.is_repick_due(SECOND * 2)
            && requests.is_repick_due(SECOND * 3)
            && !requests.is_repick_due(SECOND * 4)
    );
    assert_eq!(requests.next_deadline(), None);
    requests.set_repick_at(Some(SECOND * 99));
    requests.add(SECOND * 4, &blocks(0..1));
    assert_eq!(requests.next_deadline(), Some(SECOND * 4 + FIRST_BLOCK), "whichever comes first");
}

#[test]
fn the_pick_context_has_the_measured_times_of_a_peer() {
    let mut requests = stated(500);
    assert_eq!(requests.pick_context(SECOND, 512 * 1024).answer_time, None);
    assert!(requests.is_fast(512 * 1024) && !requests.is_fast(1 << 20), "of large pieces only once that is known");
    requests.add(SECOND, &blocks(0..4));
    requests.take(SECOND + MS * 30, &block(0));
    requests.received(SECOND + MS * 30, 1, u64::from(BLOCK_SIZE));
    assert_eq!(requests.pick_context(SECOND, 1 << 20).answer_time, Some(MS * 30), "the time measured so far");
    requests.rounds.rate = Some(f64::from(BLOCK_SIZE) * 10.0);
    let pick_context = requests.pick_context(SECOND, 1 << 20);
    // Three outstanding requests and this one, at a tenth of a second each.
    assert_eq!((pick_context.answer_time, pick_context.per_block), (Some(MS * 430), MS * 100));
    assert_eq!((requests.is_fast(2 << 20), requests.is_fast(4 << 20)), (true, false));
}
