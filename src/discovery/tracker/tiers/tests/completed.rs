//! When `completed` is sent.

use super::*;

#[test]
fn completed_is_sent_again_until_it_is_accepted() {
    let mut t = tiers(&[A]);
    next_job(&mut t, s(0)).unwrap();
    heard(&mut t, s(0), A, s(1000), None, None);
    t.completed();
    assert!(t.has_unsent_completed());
    assert_eq!(next_job(&mut t, s(1)), job!(A, Completed));
    assert!(!t.has_unsent_completed(), "it is on its way");
    let wait = t.failed(s(1), A, None);
    assert!(!t.has_unsent_completed(), "not while A is left alone");
    assert!(wait > s(13) && next_job(&mut t, s(2)).is_none(), "back-off holds for events too");
    assert_eq!(next_job(&mut t, s(1) + wait), job!(A, Completed));
}

#[test]
fn completed_while_started_is_under_way_follows_it() {
    let mut t = tiers(&[A]);
    assert_eq!(next_job(&mut t, s(0)), job!(A, Started));
    t.completed();
    assert!(!t.has_unsent_completed());
    assert_eq!(heard(&mut t, s(1), A, s(1000), None, None), s(0));
    assert!(t.has_unsent_completed());
    assert_eq!(next_job(&mut t, s(1)), job!(A, Completed));
    heard(&mut t, s(2), A, s(1000), None, None);
    assert_eq!(t.next_due(), s(1002));
}

#[test]
fn completed_before_any_tracker_answered_is_not_sent() {
    let mut t = tiers(&[A]);
    t.completed();
    assert_eq!(next_job(&mut t, s(0)), job!(A, Started));
    heard(&mut t, s(1), A, s(1000), None, None);
    assert_eq!(t.next_due(), s(1001));
    assert_eq!(next_job(&mut t, s(1001)), job!(A));
}
