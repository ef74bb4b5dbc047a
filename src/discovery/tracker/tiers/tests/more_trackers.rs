//! When a torrent that needs peers asks further trackers.

use super::*;

#[test]
fn silent_trackers_are_overtaken_and_still_heard() {
    let s = Duration::from_secs;
    let urls = ["udp://a/announce", "udp://b/announce", "http://c/announce"];
    let mut tiers = AnnounceList::new(urls.map(|url| vec![url.to_owned()]).to_vec(), &mut fastrand::Rng::with_seed(1));
    let begun = |tiers: &mut AnnounceList, now| tiers.next_job(s(now)).map(|job| job.url);
    assert_eq!(begun(&mut tiers, 0).as_deref(), Some(urls[0]));
    assert_eq!((tiers.next_due(), begun(&mut tiers, 2)), (s(3), None));
    assert_eq!(begun(&mut tiers, 3).as_deref(), Some(urls[1]));
    assert_eq!(begun(&mut tiers, 6).as_deref(), Some(urls[2]));
    assert_eq!((tiers.next_due(), begun(&mut tiers, 60)), (Duration::MAX, None), "all have been asked");
    // The second responds: the round is over, and the late responses of the others still count.
    heard(&mut tiers, s(7), urls[1], s(1800), None, None);
    assert_eq!(tiers.next_due(), s(1807), "two are still under way, and only the one that answered is due");
    tiers.failed(s(15), urls[0], None);
    heard(&mut tiers, s(16), urls[2], s(900), None, None);
    assert_eq!(tiers.next_due(), s(916));
    assert_eq!(tiers.stop_jobs().len(), 2, "both know us");

    // If all fail, the round ends with the last failure.
    let mut tiers = AnnounceList::new(urls.map(|url| vec![url.to_owned()]).to_vec(), &mut fastrand::Rng::with_seed(1));
    (0..3).for_each(|n| assert!(begun(&mut tiers, n * 3).is_some()));
    tiers.failed(s(30), urls[0], None);
    tiers.failed(s(33), urls[2], None);
    assert_eq!(tiers.next_due(), Duration::MAX);
    tiers.failed(s(36), urls[1], None);
    assert!(tiers.next_due() > s(36 + 13) && tiers.next_due() < s(36 + 17), "{:?}", tiers.next_due());
}

#[test]
fn where_no_peer_is_known_a_long_list_of_silent_trackers_is_gone_through_in_half_a_minute() {
    let urls: Vec<String> = (0..40).map(|n| format!("http://{n}/")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let asked = |needs_peers, no_candidates, private| {
        let mut t = tiers(&urls);
        if private {
            t.ask_one_at_a_time();
        }
        t.want_peers(s(0), needs_peers, no_candidates);
        // None responds, and none times out within half a minute.
        (0..30).filter(|second| t.next_job(s(*second)).is_some()).count()
    };
    assert_eq!(asked(true, true, false), 30);
    // With candidates to connect to, or for a private torrent, the faster pace does not apply.
    assert_eq!([asked(true, false, false), asked(false, true, false), asked(true, true, true)], [6; 3]);
}

#[test]
fn where_nobody_new_is_named_the_next_tier_is_asked_at_once() {
    let mut t = tiers(&[A, B, C]);
    t.want_peers(s(0), true, true);
    assert_eq!(next_job(&mut t, s(0)), job!(A, Started));
    assert_eq!(heard_of_nobody(&mut t, s(1), A), s(0));
    assert_eq!(next_job(&mut t, s(1)), job!(B, Started));
    heard(&mut t, s(2), B, s(1000), None, None);
    assert_eq!(next_job(&mut t, s(2)), None, "B named somebody");
    // The next round reaches C, because neither A nor B names new peers.
    t.want_peers(s(70), true, true);
    assert_eq!(next_job(&mut t, s(70)), job!(A));
    heard_of_nobody(&mut t, s(71), A);
    assert_eq!(next_job(&mut t, s(71)), job!(B));
    t.failed(s(72), B, None);
    assert_eq!(next_job(&mut t, s(72)), job!(C, Started));
    heard_of_nobody(&mut t, s(73), C);
    assert_eq!(next_job(&mut t, s(73)), None);
    assert!(t.next_due() > s(80), "all have been asked: {:?}", t.next_due());
    assert_eq!(t.stop_jobs().len(), 3);
}

#[test]
fn a_private_torrent_asks_the_next_tier_only_when_the_current_one_fails() {
    let mut t = tiers(&[A, B]);
    t.ask_one_at_a_time();
    t.want_peers(s(0), true, true);
    assert_eq!(next_job(&mut t, s(0)), job!(A, Started));
    assert_eq!(heard_of_nobody(&mut t, s(1), A), s(1000));
    assert_eq!(next_job(&mut t, s(30)), None);
    assert_eq!(next_job(&mut t, s(1001)), job!(A));
    t.failed(s(1002), A, None);
    assert_eq!(next_job(&mut t, s(1002)), job!(B, Started));
    heard_of_nobody(&mut t, s(1003), B);
    assert_eq!(t.next_due(), s(2003), "neither is kept up beside the other");
}

#[test]
fn without_need_of_peers_no_further_tracker_is_asked() {
    let mut t = tiers(&[A, B]);
    assert_eq!(next_job(&mut t, s(0)), job!(A, Started));
    assert_eq!(heard_of_nobody(&mut t, s(1), A), s(1000));
    assert_eq!(next_job(&mut t, s(1)), None);
    // A round ends when the torrent needs no peers any more.
    t.want_peers(s(100), true, true);
    assert_eq!(next_job(&mut t, s(100)), job!(A));
    heard_of_nobody(&mut t, s(101), A);
    t.want_peers(s(101), false, false);
    assert_eq!(next_job(&mut t, s(101)), None);
    assert_eq!(t.next_due(), s(1101));
}

#[test]
fn trackers_of_later_tiers_are_asked_if_no_peer_can_be_reached() {
    let mut t = tiers(&[A, B, C]);
    t.want_peers(s(0), true, false);
    assert_eq!(next_job(&mut t, s(0)), job!(A, Started));
    heard(&mut t, s(1), A, s(1800), None, None);
    assert_eq!(next_job(&mut t, s(30)), None, "the first tracker named new peers");
    t.ask_further_trackers(s(31));
    assert_eq!(next_job(&mut t, s(31)), job!(B, Started));
    heard(&mut t, s(32), B, s(1800), None, None);
    assert_eq!(next_job(&mut t, s(32)), None);
    // The regular announces go on.
    assert_eq!(next_job(&mut t, s(1801)), job!(A));
    let mut private = tiers(&[A, B]);
    private.ask_one_at_a_time();
    private.want_peers(s(0), true, true);
    assert_eq!(next_job(&mut private, s(0)), job!(A, Started));
    heard(&mut private, s(1), A, s(1800), Some(s(1800)), None);
    private.ask_further_trackers(s(31));
    assert_eq!(next_job(&mut private, s(31)), None);
}
