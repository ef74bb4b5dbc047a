//! Requests that the peer rejects, or keeps across a choke.

use super::*;

#[test]
fn a_reject_takes_its_request_and_no_other_and_one_out_of_nowhere_is_known() {
    let mut requests = stated(2000);
    requests.add(SECOND, &blocks(0..10));
    assert_eq!(requests.reject(&block(4)), RejectOutcome::OutstandingRequest);
    assert_eq!(requests.len(), 9);
    assert_eq!(requests.reject(&block(4)), RejectOutcome::Unrequested);
    // A cancelled request may still be rejected, once.
    assert!(requests.remove(&block(5)));
    assert_eq!(requests.reject(&block(5)), RejectOutcome::Cancelled);
    assert_eq!(requests.reject(&block(5)), RejectOutcome::Unrequested);
    assert_eq!(requests.expire(SECOND + FIRST_BLOCK).len(), 7, "the oldest is waited for once more");
    assert_eq!(requests.expire(SECOND + FIRST_BLOCK * 2).len(), 1);
    for number in (0..4).chain(6..10) {
        assert_eq!(requests.reject(&block(number)), RejectOutcome::Cancelled);
    }
    assert_eq!(requests.reject(&block(0)), RejectOutcome::Unrequested);
}

#[test]
fn a_peer_that_rejects_everything_is_asked_for_one_block_until_one_comes() {
    let mut requests = stated(2000);
    requests.add(SECOND, &blocks(0..3));
    assert_eq!(requests.reject(&block(0)), RejectOutcome::OutstandingRequest);
    requests.stall_if_none_left();
    assert!(requests.want() > 1, "others are still waited for");
    for number in 1..3 {
        assert_eq!(requests.reject(&block(number)), RejectOutcome::OutstandingRequest);
    }
    requests.stall_if_none_left();
    assert_eq!(requests.want(), 1);
    requests.add(SECOND * 2, &blocks(3..4));
    requests.take(SECOND * 3, &block(3));
    requests.received(SECOND * 3, 1, u64::from(BLOCK_SIZE));
    assert!(requests.want() > 1);
}

#[test]
fn a_choke_by_a_fast_peer_keeps_requests_until_they_are_late() {
    let mut requests = stated(2000);
    requests.add(SECOND, &blocks(0..3));
    requests.take(SECOND, &block(0));
    requests.received(SECOND, 1, u64::from(BLOCK_SIZE));
    requests.on_choked(true);
    assert_eq!(requests.len(), 2);
    assert_eq!(requests.next_deadline(), Some(SECOND + FIRST_BLOCK));
    assert_eq!(requests.expire(SECOND + FIRST_BLOCK), blocks(2..3));
    assert_eq!(requests.expire(SECOND + FIRST_BLOCK * 2), blocks(1..2));
}

#[test]
fn a_choke_before_the_first_block_makes_the_pipeline_small_and_blocks_make_it_deep_again() {
    let mut link = Link::new(stated(2000), MS * 100, 20.0 * MIB);
    (0..5000).for_each(|_| assert!(link.step()));
    let deep = link.requests.depth();
    assert!(deep > 200, "{deep}");
    // A client that chokes us after some blocks, as each does from time to time.
    link.requests.on_choked(false);
    assert_eq!(link.requests.depth(), deep);
    for most in [8, 4, 2, 1, 1, 1] {
        link.requests.add(link.now, &blocks(0..link.requests.want() as u32));
        link.requests.on_choked(false);
        assert!(link.requests.want() <= most, "{} instead of {most}", link.requests.want());
    }
    link.coming.clear();
    link.refill();
    let began = link.now;
    while link.requests.depth() < deep / 2 {
        assert!(link.step());
    }
    let took = link.now.saturating_sub(began);
    assert!(took < MS * 1200, "after {took:?}");
}
