//! The schedule, driven by a simulated clock.

use super::*;
use crate::discovery::tracker::error::Retry;
use crate::discovery::tracker::tiers::rounds::OVERTAKE_AFTER;

const A: &str = "http://a/announce";
const B: &str = "http://b/announce";
const C: &str = "https://c/announce";

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One tier per URL, so that the order is known.
fn tiers(urls: &[&str]) -> AnnounceList {
    let tiers = urls.iter().map(|url| vec![(*url).to_owned()]).collect();
    AnnounceList::new(tiers, &mut fastrand::Rng::with_seed(1))
}

fn next_job(t: &mut AnnounceList, now: Duration) -> Option<(String, Option<AnnounceEvent>)> {
    t.next_job(now).map(|job| (job.url, job.event))
}

/// A tracker responds with new peers.
fn heard(
    t: &mut AnnounceList,
    now: Duration,
    url: &str,
    interval: Duration,
    min_interval: Option<Duration>,
    tracker_id: Option<Vec<u8>>,
) -> Duration {
    t.answered(now, url, AnnounceTerms { interval, min_interval, tracker_id }, true)
}

/// A tracker responds without new peers.
fn heard_of_nobody(t: &mut AnnounceList, now: Duration, url: &str) -> Duration {
    t.answered(now, url, AnnounceTerms { interval: s(1000), ..AnnounceTerms::default() }, false)
}

/// The result of [`next_job`] for a job at `url`.
macro_rules! job {
    ($url:expr) => {
        Some((String::from($url), None))
    };
    ($url:expr, $event:ident) => {
        Some((String::from($url), Some(AnnounceEvent::$event)))
    };
}

mod changes;
mod completed;
mod many_requests;
mod more_trackers;

#[test]
fn only_supported_schemes_are_kept_and_each_url_once() {
    let list = vec![
        vec![A.to_owned(), "udp://u:1".to_owned(), "wss://v".to_owned(), String::new()],
        vec![A.to_owned(), format!(" {B} ")],
        vec!["wss://w/".to_owned()],
        vec!["HTTP://c/x".to_owned()],
    ];
    let t = AnnounceList::new(list, &mut fastrand::Rng::with_seed(1));
    assert_eq!(t.unsupported(), ["wss://v", "wss://w/"]);
    let urls: Vec<Vec<&str>> = t.tiers.iter().map(|tier| tier.iter().map(|t| t.url.as_str()).collect()).collect();
    let [first, others @ ..] = urls.as_slice() else { panic!("no tier") };
    assert!(first.len() == 2 && first.contains(&A) && first.contains(&"udp://u:1"), "{first:?}");
    assert_eq!(others, [vec![B], vec!["HTTP://c/x"]]);
    let none = tiers(&["wss://u:1"]);
    assert!(none.is_empty() && none.next_due() == Duration::MAX);
}

#[test]
fn a_tier_is_shuffled_the_tiers_are_not() {
    let firsts: HashSet<String> = (0..50)
        .map(|seed| {
            let list = vec![vec![A.to_owned(), B.to_owned()], vec![C.to_owned()]];
            let mut t = AnnounceList::new(list, &mut fastrand::Rng::with_seed(seed));
            t.next_job(s(0)).unwrap().url
        })
        .collect();
    assert_eq!(firsts, HashSet::from([A.to_owned(), B.to_owned()]));
}

#[test]
fn fail_over_goes_on_at_once_and_the_next_round_begins_at_the_first_tier() {
    let mut t = tiers(&[A, B, C]);
    assert_eq!(next_job(&mut t, s(0)), job!(A, Started));
    assert_eq!(next_job(&mut t, s(0)), None, "one at a time");
    assert_eq!(t.next_due(), OVERTAKE_AFTER, "unless it takes too long");
    assert_eq!(t.failed(s(5), A, None), s(0));
    assert_eq!(next_job(&mut t, s(5)), job!(B, Started));
    assert_eq!(heard(&mut t, s(6), B, s(1800), Some(s(60)), None), s(1800));
    assert_eq!(next_job(&mut t, s(1805)), None);
    assert_eq!(next_job(&mut t, s(1806)), job!(A, Started));
    assert_eq!(t.failed(s(1807), A, None), s(0));
    assert_eq!(next_job(&mut t, s(1807)), job!(B), "B knows us");
}

#[test]
fn a_tracker_that_answers_moves_to_the_front_of_its_tier() {
    let list = vec![vec![A.to_owned(), B.to_owned(), C.to_owned()]];
    let mut t = AnnounceList::new(list, &mut fastrand::Rng::with_seed(3));
    let order: Vec<String> = t.trackers().map(|t| t.url.clone()).collect();
    for url in &order[..2] {
        assert_eq!(next_job(&mut t, s(0)), job!(url, Started));
        t.failed(s(0), url, None);
    }
    assert_eq!(next_job(&mut t, s(0)), job!(order[2].as_str(), Started));
    heard(&mut t, s(0), &order[2], s(100), None, None);
    let after: Vec<String> = t.trackers().map(|t| t.url.clone()).collect();
    assert_eq!(after, [order[2].clone(), order[0].clone(), order[1].clone()]);
    assert_eq!(next_job(&mut t, s(100)), job!(order[2].as_str()));
}

#[test]
fn back_off_doubles_from_15_s_to_30_min_and_ends_with_an_answer() {
    let mut t = tiers(&[A, B]);
    let mut now = s(0);
    for expected in [15, 30, 60, 120, 240, 480, 960, 1800, 1800, 1800] {
        assert_eq!(next_job(&mut t, now), job!(A, Started));
        assert_eq!(t.failed(now, A, None), s(0));
        assert_eq!(next_job(&mut t, now), job!(B, Started));
        let wait = t.failed(now, B, None);
        assert!(wait >= s(expected).mul_f64(0.9) && wait <= s(expected).mul_f64(1.1), "{expected}: {wait:?}");
        t.want_peers(now, true, true);
        assert_eq!(t.next_due(), now + wait, "wanting peers does not end a back-off");
        assert_eq!(next_job(&mut t, now + wait.mul_f64(0.999)), None);
        now += wait;
    }
    next_job(&mut t, now).unwrap();
    heard(&mut t, now, A, s(100), None, None);
    assert_eq!(next_job(&mut t, now + s(100)), job!(A));
    t.failed(now + s(100), A, None);
    next_job(&mut t, now + s(100)).unwrap();
    assert!(t.failed(now + s(100), B, None) <= s(15).mul_f64(1.1));
}

#[test]
fn wanting_peers_respects_the_min_interval() {
    for (interval, min, bound) in [(1800, Some(300), 300), (1800, None, 60), (40, None, 40), (100, Some(500), 500)] {
        let mut t = tiers(&[A]);
        t.want_peers(s(0), true, true);
        next_job(&mut t, s(10)).unwrap();
        heard(&mut t, s(10), A, s(interval), min.map(s), None);
        t.want_peers(s(11), true, true);
        assert_eq!(t.next_due(), s(10 + bound), "{interval} {min:?}");
        t.want_peers(s(10_000), true, true);
        assert_eq!(t.next_due(), s(10 + bound), "never later than it was");
    }
    let mut late = tiers(&[A]);
    next_job(&mut late, s(0)).unwrap();
    heard(&mut late, s(0), A, s(1800), Some(s(60)), None);
    late.want_peers(s(700), true, true);
    assert_eq!(late.next_due(), s(700));
}

#[test]
fn one_tracker_is_not_asked_early_because_another_has_a_short_interval() {
    let mut t = tiers(&[A, B]);
    next_job(&mut t, s(0)).unwrap();
    heard(&mut t, s(0), A, s(600), Some(s(600)), None);
    t.completed();
    assert_eq!(next_job(&mut t, s(1)), job!(A, Completed));
    t.failed(s(2), A, None);
    assert_eq!(next_job(&mut t, s(2)), job!(B, Started));
    heard(&mut t, s(2), B, s(30), Some(s(30)), None);
    let again = t.next_due();
    assert!(again > s(13) && again < s(19), "`completed` still waits for A, and comes after a back-off: {again:?}");
    assert_eq!(next_job(&mut t, again), job!(A, Completed));
    heard(&mut t, s(32), A, s(600), Some(s(600)), None);
    t.due = s(62);
    assert_eq!(next_job(&mut t, s(62)), job!(B));
    t.failed(s(63), B, None);
    assert!(t.next_due() > s(63) && t.next_due() < s(80), "A's turn has not come: back-off");
}

#[test]
fn where_all_wait_for_their_min_interval_nothing_is_due_before() {
    let mut t = tiers(&[A]);
    next_job(&mut t, s(0)).unwrap();
    heard(&mut t, s(0), A, s(600), Some(s(600)), None);
    t.due = s(40);
    assert_eq!(next_job(&mut t, s(40)), None);
    assert_eq!(t.next_due(), s(600));
}

#[test]
fn started_until_accepted_completed_once_stopped_to_those_that_know_us() {
    let mut t = tiers(&[A, B, C]);
    for now in [0, 100] {
        assert_eq!(next_job(&mut t, s(now)), job!(A, Started));
        t.failed(s(now), A, None);
        assert_eq!(next_job(&mut t, s(now)), job!(B, Started));
        t.failed(s(now), B, None);
        assert_eq!(next_job(&mut t, s(now)), job!(C, Started));
        t.failed(s(now), C, None);
    }
    next_job(&mut t, s(200)).unwrap();
    t.failed(s(200), A, None);
    next_job(&mut t, s(200)).unwrap();
    heard(&mut t, s(200), B, s(1000), None, Some(b"id".to_vec()));
    t.completed();
    assert_eq!(t.next_due(), s(0), "an event waits for no interval");
    let job = t.next_job(s(201)).unwrap();
    assert_eq!(
        (job.url.as_str(), job.event, job.tracker_id),
        (B, Some(AnnounceEvent::Completed), Some(b"id".to_vec()))
    );
    heard(&mut t, s(201), B, s(1000), None, None);
    t.completed();
    assert_eq!(t.next_due(), s(1201), "once");
    assert_eq!(next_job(&mut t, s(1201)), job!(A, Started), "A never heard of us");
    heard(&mut t, s(1201), A, s(1000), None, None);
    assert_eq!(next_job(&mut t, s(2201)), job!(A), "no completed: it knew us whole from the start");
    let stops = t.stop_jobs();
    let urls: Vec<&str> = stops.iter().map(|j| j.url.as_str()).collect();
    assert_eq!(urls, [A, B]);
    assert!(stops.iter().all(|j| j.event == Some(AnnounceEvent::Stopped)));
    assert_eq!(stops[1].tracker_id.as_deref(), Some(b"id".as_slice()));
    assert!(t.stop_jobs().is_empty() && t.next_job(s(99_999)).is_none() && t.next_due() == Duration::MAX);
}

#[test]
fn an_answer_nobody_asked_for_changes_nothing() {
    let mut t = tiers(&[A, B]);
    heard(&mut t, s(0), B, s(1000), None, None);
    t.failed(s(0), A, None);
    assert_eq!(next_job(&mut t, s(0)), job!(A, Started));
    heard(&mut t, s(1), B, s(1000), None, None);
    assert_eq!(t.next_due(), OVERTAKE_AFTER, "A is still under way");
    assert_eq!(t.stop_jobs(), []);
}

#[test]
fn every_tracker_that_knows_us_gets_regular_announces() {
    let mut t = tiers(&[A, B]);
    t.want_peers(s(0), true, true);
    next_job(&mut t, s(0)).unwrap();
    heard_of_nobody(&mut t, s(0), A);
    next_job(&mut t, s(0)).unwrap();
    heard_of_nobody(&mut t, s(10), B);
    t.want_peers(s(20), false, false);
    assert_eq!(next_job(&mut t, s(1000)), job!(A));
    heard(&mut t, s(1000), A, s(1000), None, None);
    assert_eq!(next_job(&mut t, s(1010)), job!(B), "or B would forget us");
    let wait = t.failed(s(1011), B, None);
    assert!(wait >= s(13) && wait < s(17), "{wait:?}");
}

#[test]
fn completed_reaches_everyone_even_while_another_is_silent() {
    let mut t = tiers(&[A, B, C]);
    t.want_peers(s(0), true, true);
    assert_eq!(next_job(&mut t, s(0)), job!(A, Started)); // and never responds
    assert_eq!(next_job(&mut t, s(3)), job!(B, Started));
    heard_of_nobody(&mut t, s(4), B);
    assert_eq!(next_job(&mut t, s(6)), job!(C, Started));
    heard(&mut t, s(7), C, s(1000), None, None);
    t.completed();
    assert!(t.has_unsent_completed());
    assert_eq!(next_job(&mut t, s(8)), job!(B, Completed));
    assert_eq!(next_job(&mut t, s(8)), job!(C, Completed));
    assert!(!t.has_unsent_completed() && next_job(&mut t, s(8)).is_none());
    heard(&mut t, s(9), B, s(1000), None, None);
    // C's is lost: it is sent once more before stopping.
    t.failed(s(9), C, None);
    let told: Vec<_> = t.stop_jobs().into_iter().map(|job| (job.url, job.event.unwrap())).collect();
    let expected = [(C, AnnounceEvent::Completed), (B, AnnounceEvent::Stopped), (C, AnnounceEvent::Stopped)];
    assert_eq!(told, expected.map(|(url, event)| (url.to_owned(), event)));
}

#[test]
fn a_tracker_that_wants_to_be_left_alone_is() {
    let mut t = tiers(&[A, B]);
    next_job(&mut t, s(0)).unwrap();
    t.failed(s(0), A, Some(Retry::After(s(3600))));
    assert_eq!(next_job(&mut t, s(0)), job!(B, Started));
    let wait = t.failed(s(0), B, None);
    assert!(wait < s(17));
    assert_eq!(next_job(&mut t, wait), job!(B, Started), "and not A");
    t.failed(wait, B, Some(Retry::Never));
    assert_eq!(t.next_due(), s(3600));
    assert_eq!(next_job(&mut t, s(3600)), job!(A, Started));
    t.failed(s(3600), A, Some(Retry::Never));
    assert_eq!((t.next_due(), next_job(&mut t, s(99_999))), (Duration::MAX, None));
}
