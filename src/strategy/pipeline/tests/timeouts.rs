//! How long blocks are waited for.

use super::*;

#[test]
fn the_first_block_has_ten_seconds() {
    let mut requests = stated(500);
    requests.add(SECOND * 5, &blocks(0..3));
    assert_eq!(requests.next_deadline(), Some(SECOND * 15));
    assert!(requests.expire(MS * 14_999).is_empty());
    assert_eq!(requests.expire(SECOND * 15), blocks(1..3), "it may be at the first");
    assert!(requests.is_stalled() && !requests.is_fast(BLOCK_SIZE));
    assert_eq!((requests.want(), requests.next_deadline()), (0, Some(SECOND * 25)));
    assert_eq!(requests.expire(SECOND * 25), blocks(0..1));
    assert_eq!(requests.want(), 1, "one at a time");
    requests.add(SECOND * 25, &blocks(3..4));
    assert_eq!((requests.want(), requests.next_deadline()), (0, Some(SECOND * 35)));
    requests.take(SECOND * 26, &block(3));
    requests.received(SECOND * 26, 1, u64::from(BLOCK_SIZE));
    assert!(!requests.is_stalled() && requests.is_fast(BLOCK_SIZE));
    assert_eq!(requests.want(), RESTART + 1);
}

#[test]
fn a_first_block_that_takes_sixteen_seconds_without_a_sign_of_it_is_waited_for() {
    let mut requests = RequestPipeline::new(DEFAULT_REQQ);
    requests.add(SECOND, &blocks(0..INITIAL_DEPTH as u32));
    assert_eq!(requests.expire(SECOND * 11).len(), INITIAL_DEPTH - 1);
    assert!(requests.take(SECOND * 17, &block(0)).is_some());
    requests.received(SECOND * 17, 1, u64::from(BLOCK_SIZE));
    assert_eq!((requests.round_rate(), requests.want()), (Some(1024.0), 1), "it is known to be slow");
    for number in 1..5 {
        let now = SECOND * (17 + (number - 1) * 16);
        requests.add(now, &[block(number)]);
        assert_eq!(requests.expire(now + SECOND * 15), [], "on schedule");
        assert!(requests.take(now + SECOND * 16, &block(number)).is_some());
        requests.received(now + SECOND * 16, 1, u64::from(BLOCK_SIZE));
        assert_eq!(requests.want(), 1);
    }
}

#[test]
fn a_stall_after_a_good_start_is_noticed_soon() {
    let mut link = Link::new(stated(500), MS * 20, 10.0 * MIB);
    link.run_until(SECOND * 3);
    let (outstanding, last) = (link.requests.len(), *link.got.last().expect("blocks came"));
    assert!(outstanding > 0);
    let deadline = link.requests.next_deadline().expect("requests are outstanding");
    assert_eq!(deadline, last + MIN_STALL);
    assert!(link.requests.expire(deadline.saturating_sub(MS)).is_empty());
    assert_eq!(link.requests.expire(deadline).len(), outstanding);
    assert!(link.requests.is_stalled());
    // A late block is a sign of life although its request is no longer outstanding.
    let late = link.coming[0].1;
    assert_eq!(link.requests.take(deadline + MS, &late), None);
    link.requests.received(deadline + MS, 1, u64::from(BLOCK_SIZE));
    assert!(!link.requests.is_stalled());
}

#[test]
fn one_dropped_request_is_taken_back_alone() {
    let mut link = Link::new(stated(500), MS * 20, 10.0 * MIB);
    link.drops = vec![300];
    let mut lost = Vec::new();
    while link.now < SECOND * 12 && link.step() {
        if link.requests.next_deadline().is_some_and(|at| at <= link.now) {
            lost.extend(link.requests.expire(link.now));
        }
    }
    assert_eq!(lost, [block(300)]);
    assert!(!link.requests.is_stalled());
}

#[test]
fn an_old_request_expires_while_few_others_come() {
    let mut requests = stated(500);
    requests.add(SECOND, &blocks(0..2));
    // One block per second, each requested when the previous one arrives; the first request is never answered.
    for number in 1..30 {
        let now = SECOND * (number + 1);
        requests.take(now, &block(number));
        requests.received(now, 1, u64::from(BLOCK_SIZE));
        let lost = requests.expire(now);
        assert_eq!(lost.is_empty(), number != 10, "after {number} s: {lost:?}");
        requests.add(now, &[block(number + 1)]);
    }
    assert_eq!(requests.len(), 1);
}

#[test]
fn a_pause_without_requests_is_no_stall() {
    let mut link = Link::new(stated(500), MS * 20, 10.0 * MIB);
    link.run_until(SECOND * 2);
    link.requests.remove_all();
    link.requests.add(SECOND * 500, &blocks(0..1));
    assert!(link.requests.expire(SECOND * 501).is_empty());
    assert_eq!(link.requests.next_deadline(), Some(SECOND * 510));
}

/// A guess of 2,000 that is halved to 1,000 does not show that the peer queues many requests; on the contrary, it dropped some.
#[test]
fn only_a_limit_that_the_peer_states_allows_many_requests_after_its_first_blocks() {
    let (mut guessed, now) = (RequestPipeline::new(MAX_REQQ), SECOND + MS * 50);
    guessed.add(SECOND, &blocks(0..40));
    for number in 1..40 {
        guessed.take(now, &block(number));
    }
    assert_eq!(guessed.expire(now), [block(0)], "the others overtook it");
    let mut stated = stated(LARGE_REQQ);
    stated.add(SECOND, &blocks(0..1));
    stated.take(now, &block(0));
    assert_eq!((guessed.limit, stated.limit), (1000, 1000));
    assert_eq!(guessed.first_depth(now, SECOND, 100), INITIAL_MAX);
    assert_eq!(stated.first_depth(now, SECOND, 100), INITIAL_MAX_LARGE_REQQ);
}
