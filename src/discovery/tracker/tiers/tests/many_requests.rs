//! How many requests the trackers of a torrent can cause, at themselves or where they redirect to.

use super::*;
use crate::discovery::tracker::tiers::tracker::SHORTEST_INTERVAL;

const LOCAL: &str = "http://10.77.0.1:6969/announce";

/// A tracker responds without new peers and asks for the shortest interval.
fn heard_with_short_interval(t: &mut AnnounceList, now: Duration, url: &str) {
    let terms = AnnounceTerms { interval: s(2), min_interval: Some(s(2)), tracker_id: None };
    t.answered(now, url, terms, false);
}

#[test]
fn a_response_of_one_tracker_does_not_end_the_back_off_of_another() {
    let mut t = tiers(&[LOCAL, A]);
    let (mut answered, mut failed) = (0, 0);
    for now in (0..3600).map(s) {
        t.want_peers(now, true, true);
        while let Some((url, _)) = next_job(&mut t, now) {
            if url == LOCAL {
                answered += 1;
                heard_with_short_interval(&mut t, now, LOCAL);
            } else {
                failed += 1;
                t.failed(now, A, None);
            }
        }
    }
    assert!(answered > 1000, "{answered}");
    assert!((7..=9).contains(&failed), "{failed}");

    // A's own response ends it.
    let now = s(7200);
    assert_eq!(next_job(&mut t, now), job!(LOCAL));
    heard_with_short_interval(&mut t, now, LOCAL);
    assert_eq!(next_job(&mut t, now), job!(A, Started));
    heard_of_nobody(&mut t, now, A);
    assert_eq!(next_job(&mut t, now), None);
    let now = s(8200);
    t.want_peers(now, true, true);
    while let Some((url, _)) = next_job(&mut t, now) {
        t.failed(now, &url, None);
    }
    let again = t.trackers().find(|t| t.url == A).unwrap().contact_at();
    assert!(again > now && again < now + s(17), "{again:?}");
}

#[test]
fn only_local_trackers_and_those_of_the_user_may_ask_for_short_intervals() {
    let next = |mut t: AnnounceList| {
        t.want_peers(s(0), true, true);
        let url = t.next_job(s(0)).unwrap().url;
        heard_with_short_interval(&mut t, s(0), &url);
        t.want_peers(s(1), true, true);
        t.next_due()
    };
    for public in [A, "udp://203.0.113.5:80", "http://[2a00::1]/announce", "http://10.0.0.1@203.0.113.5/announce"] {
        assert_eq!(next(tiers(&[public])), SHORTEST_INTERVAL, "{public}");
    }
    for local in [LOCAL, "udp://127.0.0.1:80", "http://[fd00::1]:6969/announce", "http://localhost/announce"] {
        assert_eq!(next(tiers(&[local])), s(2), "{local}");
    }
    assert_eq!(next(tiers(&[A]).allow_short_intervals()), s(2));
}
