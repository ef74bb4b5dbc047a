//! Requests under our own rate limit.

use super::*;

#[test]
fn a_peer_that_our_limit_delays_is_not_late() {
    let mut requests = stated(500);
    requests.add(SECOND, &blocks(0..8));
    // One block every thirty seconds, much longer than any peer may be silent.
    let mut now = SECOND;
    for number in 0..6 {
        for _ in 0..300 {
            now += 100 * MS;
            requests.note_rate_limited(now);
            assert!(requests.expire(now).is_empty(), "at {now:?}");
        }
        assert!(requests.take(now, &block(number)).is_some());
        requests.received(now, 1, BLOCK_SIZE.into());
    }
    // From now on the peer itself is silent.
    assert_eq!(requests.expire(now + 20 * SECOND), blocks(6..8));
}

#[test]
fn requests_that_our_limit_delays_are_not_taken_back() {
    // A fast peer suddenly delivers one block per second: too slow for its requests, unless our own limit is the cause.
    for held in [false, true] {
        let mut requests = stated(500);
        let (mut now, mut lost) = (SECOND, 0);
        requests.add(now, &blocks(0..200));
        for number in 0..100 {
            now += if number < 40 { 10 * MS } else { SECOND };
            if held {
                requests.note_rate_limited(now);
            }
            requests.take(now, &block(number));
            requests.received(now, 1, BLOCK_SIZE.into());
            lost += requests.expire(now).len();
        }
        assert_eq!(lost == 0, held, "{lost} lost");
    }
}

#[test]
fn under_a_limit_little_is_asked_for_at_first() {
    let ahead = 3.0 * MIB / f64::from(BLOCK_SIZE);
    for (peers, limit, depth) in
        [(1, 0, INITIAL_MAX_LARGE_REQQ), (1, MIB as u64, ahead as usize), (48, MIB as u64, 4), (300, 20_000, 2)]
    {
        let mut requests = RequestPipeline::new(DEFAULT_REQQ);
        requests.limit_start_by_rate(peers, limit);
        requests.set_limit(2000);
        assert_eq!(
            (requests.start, requests.depth()),
            (depth, depth.min(INITIAL_DEPTH)),
            "{peers} peers at {limit} B/s"
        );
    }
    let mut late = stated(500);
    late.add(SECOND, &blocks(0..1));
    let before = late.depth();
    late.limit_start_by_rate(1, 1);
    assert_eq!(late.depth(), before, "only the start is bounded");
}
