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
fn who_rejects_all_is_asked_for_one_block_until_one_comes() {
    let mut requests = stated(2000);
    requests.add(SECOND, &blocks(0..3));
    assert_eq!(requests.reject(&block(0)), RejectOutcome::OutstandingRequest);
    requests.note_all_rejected();
    assert!(requests.want() > 1, "others are still waited for");
    for number in 1..3 {
        assert_eq!(requests.reject(&block(number)), RejectOutcome::OutstandingRequest);
    }
    requests.note_all_rejected();
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
    requests.take_unwritten_on_choke();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests.next_deadline(), Some(SECOND + FIRST_BLOCK));
    assert_eq!(requests.expire(SECOND + FIRST_BLOCK), blocks(2..3));
    assert_eq!(requests.expire(SECOND + FIRST_BLOCK * 2), blocks(1..2));
}
