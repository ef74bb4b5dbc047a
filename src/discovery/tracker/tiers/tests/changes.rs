//! Trackers that are replaced, and announces that the user asks for.

use super::*;

fn replace(t: &mut AnnounceList, now: Duration, urls: &[&str]) {
    let before = t.take_trackers().collect();
    t.replace(before, urls.iter().map(|url| vec![(*url).to_owned()]).collect(), now);
}

/// For each tracker: its URL, when the next announce is due, when one may be made, and whether one is under way.
fn facts(t: &AnnounceList) -> Vec<(&str, Option<u64>, Option<u64>, bool)> {
    let seconds = |due: Option<Duration>| due.map(|due| due.as_secs());
    t.facts().map(|f| (f.url, seconds(f.next), seconds(f.earliest), f.is_announcing)).collect()
}

#[test]
fn what_is_shown_of_a_tracker_follows_its_announces() {
    let mut t = tiers(&[A, B]);
    assert_eq!(facts(&t), [(A, Some(0), Some(0), false), (B, None, Some(0), false)], "B only if A fails");
    assert_eq!(next_job(&mut t, s(1)), job!(A, Started));
    assert_eq!(facts(&t), [(A, None, Some(0), true), (B, None, Some(0), false)]);
    heard(&mut t, s(2), A, s(1800), Some(s(300)), None);
    assert_eq!(facts(&t), [(A, Some(1802), Some(302), false), (B, None, Some(0), false)]);
    assert_eq!(next_job(&mut t, s(1802)), job!(A));
    t.failed(s(1803), A, None);
    let [(_, Some(1815..1820), Some(1815..1820), false), (_, Some(1803), Some(0), false)] = facts(&t)[..] else {
        panic!("B replaces A: {:?}", facts(&t))
    };
    assert_eq!(next_job(&mut t, s(1803)), job!(B, Started));
    t.failed(s(1804), B, Some(Retry::Never));
    assert_eq!(facts(&t)[1], (B, None, None, false));
    t.stop_jobs();
    assert!(t.facts().all(|facts| facts.next.is_none()));
}

#[test]
fn an_announce_that_is_asked_for_waits_for_the_minimum_interval() {
    let mut t = tiers(&[A, B]);
    assert_eq!(next_job(&mut t, s(0)), job!(A, Started));
    heard(&mut t, s(0), A, s(1800), Some(s(300)), None);
    for now in [s(10), s(200)] {
        t.reannounce(now);
        assert_eq!((t.next_due(), next_job(&mut t, now)), (s(300), None), "not to B either");
    }
    assert_eq!(next_job(&mut t, s(300)), job!(A));
    heard(&mut t, s(301), A, s(1800), Some(s(300)), None);
    assert_eq!(t.next_due(), s(2101));
    t.reannounce(s(900));
    assert_eq!(next_job(&mut t, s(900)), job!(A));
    assert_eq!(next_job(&mut t, s(900)), None, "once");
}

#[test]
fn a_tracker_that_fails_is_asked_again_at_most_every_15_seconds() {
    let mut t = tiers(&[A]);
    let mut now = s(0);
    for _ in 0..8 {
        assert_eq!(next_job(&mut t, now), job!(A, Started));
        t.failed(now, A, None);
        t.reannounce(now);
        assert!((now + s(13)..=now + s(15)).contains(&t.next_due()));
        assert_eq!(next_job(&mut t, now + s(13)), None);
        now += s(15);
    }
    assert_eq!(next_job(&mut t, now), job!(A, Started));
    t.failed(now, A, Some(Retry::After(s(3600))));
    t.reannounce(now);
    assert_eq!(t.next_due(), now + s(3600), "the tracker's own wish holds");
}

#[test]
fn a_tracker_that_stays_keeps_its_state_and_a_new_one_is_asked_at_once() {
    let mut t = tiers(&[A, B]);
    assert_eq!(next_job(&mut t, s(0)), job!(A, Started));
    heard(&mut t, s(0), A, s(1800), Some(s(300)), Some(b"id".to_vec()));
    replace(&mut t, s(100), &[C, A]);
    assert_eq!(next_job(&mut t, s(100)), job!(C, Started));
    assert_eq!(next_job(&mut t, s(100)), None);
    heard(&mut t, s(101), C, s(2000), None, None);
    let next = t.next_job(s(1800)).expect("A is due");
    assert_eq!((next.url.as_str(), next.event, next.tracker_id), (A, None, Some(b"id".to_vec())));
    heard(&mut t, s(1801), A, s(1800), None, None);
    replace(&mut t, s(1900), &[C]);
    assert!(t.facts().all(|facts| facts.url == C));
    assert_eq!(next_job(&mut t, s(2000)), None);
    assert_eq!(next_job(&mut t, s(2101)), job!(C));
    let stops: Vec<String> = t.stop_jobs().into_iter().map(|job| job.url).collect();
    assert_eq!(stops, [C], "A gets no further announce");
}

#[test]
fn a_late_answer_of_a_removed_tracker_changes_nothing() {
    let mut t = tiers(&[A, B]);
    assert_eq!(next_job(&mut t, s(0)), job!(A, Started));
    replace(&mut t, s(1), &[B]);
    assert_eq!((t.in_flight(), next_job(&mut t, s(1))), (0, job!(B, Started)));
    heard(&mut t, s(2), A, s(5), None, None);
    assert_eq!(facts(&t), [(B, None, Some(0), true)]);
    replace(&mut t, s(3), &[B, C]);
    assert_eq!(t.in_flight(), 1, "the announce to B is still under way");
    heard(&mut t, s(4), B, s(1800), None, None);
    replace(&mut t, s(5), &[]);
    assert_eq!((t.is_empty(), t.next_due(), next_job(&mut t, s(9999))), (true, Duration::MAX, None));
    t.reannounce(s(9999));
    replace(&mut t, s(10000), &[B]);
    assert_eq!(next_job(&mut t, s(10000)), job!(B, Started), "its state is gone");
}

#[test]
fn a_private_torrent_asks_a_new_tracker_only_if_its_own_is_removed_or_fails() {
    let mut t = tiers(&[A]);
    t.ask_one_at_a_time();
    assert_eq!(next_job(&mut t, s(0)), job!(A, Started));
    heard(&mut t, s(0), A, s(1800), None, None);
    replace(&mut t, s(10), &[A, B]);
    assert_eq!((next_job(&mut t, s(10)), t.next_due()), (None, s(1800)));
    replace(&mut t, s(20), &[B]);
    assert_eq!(next_job(&mut t, s(20)), job!(B, Started));
}

#[test]
fn no_change_makes_a_schedule_busy() {
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..300 {
        let mut t = tiers(&[A, B]);
        if rng.bool() {
            t.ask_one_at_a_time();
        }
        let (mut now, mut asked, mut changes) = (s(0), Vec::new(), 0);
        for _ in 0..400 {
            while let Some(job) = t.next_job(now) {
                asked.push((now, job.url));
            }
            match rng.u8(..12) {
                0 if changes < 20 => {
                    let urls: Vec<&str> = [A, B, C].into_iter().filter(|_| rng.bool()).collect();
                    replace(&mut t, now, &urls);
                    changes += 1;
                }
                1 => t.reannounce(now),
                2 => t.want_peers(now, rng.bool(), rng.bool()),
                3..=5 if !asked.is_empty() => {
                    let url = asked[rng.usize(..asked.len())].1.clone();
                    t.failed(now, &url, None);
                }
                6..=8 if !asked.is_empty() => {
                    let url = asked[rng.usize(..asked.len())].1.clone();
                    heard(&mut t, now, &url, s(600), Some(s(60)), None);
                }
                _ => {}
            }
            assert!(t.facts().count() <= 3 && t.in_flight() <= 3);
            now += s(rng.u64(1..5));
        }
        // Three trackers, each asked again after 15 seconds at the earliest; a change may ask a new one at once.
        let most = 3 * (now.as_secs() / 14) as usize + 3 * changes + 6;
        assert!(asked.len() <= most, "{} announces in {now:?}", asked.len());
    }
}

#[test]
fn a_tracker_that_counts_on_the_torrent_already_gets_no_second_started() {
    let mut t = tiers(&[A, B]);
    t.resume(B, s(900));
    assert_eq!((next_job(&mut t, s(899)), t.next_due()), (None, s(900)));
    assert_eq!(next_job(&mut t, s(900)), job!(A, Started), "another tracker comes first, as in each round");
    t.failed(s(901), A, None);
    assert_eq!(next_job(&mut t, s(901)), job!(B));
    heard(&mut t, s(902), B, s(1800), None, None);
    t.completed();
    assert_eq!(next_job(&mut t, s(903)), None, "it knows that the torrent is complete");
    let stops = t.stop_jobs();
    assert_eq!(
        stops.iter().map(|job| (job.url.as_str(), job.event)).collect::<Vec<_>>(),
        [(B, Some(AnnounceEvent::Stopped))]
    );
    let mut unknown = tiers(&[A]);
    unknown.resume(B, s(900));
    assert_eq!(next_job(&mut unknown, s(0)), job!(A, Started));
}
