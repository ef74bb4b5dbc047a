//! The schedule under a made-up clock.

use super::*;

const A: &str = "http://a/announce";
const B: &str = "http://b/announce";
const C: &str = "https://c/announce";

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Each URL a tier of its own, so that the order is known.
fn tiers(urls: &[&str]) -> Tiers {
    let tiers = urls.iter().map(|url| vec![(*url).to_owned()]).collect();
    Tiers::new(tiers, &mut fastrand::Rng::with_seed(1))
}

fn begin(t: &mut Tiers, now: Duration) -> Option<(String, Option<AnnounceEvent>)> {
    t.begin(now).map(|job| (job.url, job.event))
}

/// What [`begin`] gives for a job at `url`.
macro_rules! job {
    ($url:expr) => {
        Some((String::from($url), None))
    };
    ($url:expr, $event:ident) => {
        Some((String::from($url), Some(AnnounceEvent::$event)))
    };
}

#[test]
fn only_what_we_speak_is_kept_and_each_url_once() {
    let list = vec![
        vec![A.to_owned(), "udp://u:1".to_owned(), "wss://v".to_owned(), String::new()],
        vec![A.to_owned(), format!(" {B} ")],
        vec!["wss://w/".to_owned()],
        vec!["HTTP://c/x".to_owned()],
    ];
    let t = Tiers::new(list, &mut fastrand::Rng::with_seed(1));
    assert_eq!(t.unsupported(), ["wss://v", "wss://w/"]);
    let urls: Vec<Vec<&str>> = t.order.iter().map(|tier| tier.iter().map(|t| t.url.as_str()).collect()).collect();
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
            let mut t = Tiers::new(list, &mut fastrand::Rng::with_seed(seed));
            t.begin(s(0)).unwrap().url
        })
        .collect();
    assert_eq!(firsts, HashSet::from([A.to_owned(), B.to_owned()]));
}

#[test]
fn fail_over_goes_on_at_once_and_the_next_round_begins_at_the_first_tier() {
    let mut t = tiers(&[A, B, C]);
    assert_eq!(begin(&mut t, s(0)), job!(A, Started));
    assert_eq!(begin(&mut t, s(0)), None, "one at a time");
    assert_eq!(t.next_due(), OVERTAKE, "unless it takes too long");
    assert_eq!(t.failed(s(5), A), s(0));
    assert_eq!(begin(&mut t, s(5)), job!(B, Started));
    assert_eq!(t.answered(s(6), B, s(1800), Some(s(60)), None), s(1800));
    assert_eq!(begin(&mut t, s(1805)), None);
    assert_eq!(begin(&mut t, s(1806)), job!(A, Started));
    assert_eq!(t.failed(s(1807), A), s(0));
    assert_eq!(begin(&mut t, s(1807)), job!(B), "B knows us");
}

#[test]
fn who_answers_goes_to_the_front_of_its_tier() {
    let list = vec![vec![A.to_owned(), B.to_owned(), C.to_owned()]];
    let mut t = Tiers::new(list, &mut fastrand::Rng::with_seed(3));
    let order: Vec<String> = t.trackers().map(|t| t.url.clone()).collect();
    for url in &order[..2] {
        assert_eq!(begin(&mut t, s(0)), job!(url, Started));
        t.failed(s(0), url);
    }
    assert_eq!(begin(&mut t, s(0)), job!(order[2].as_str(), Started));
    t.answered(s(0), &order[2], s(100), None, None);
    let after: Vec<String> = t.trackers().map(|t| t.url.clone()).collect();
    assert_eq!(after, [order[2].clone(), order[0].clone(), order[1].clone()]);
    assert_eq!(begin(&mut t, s(100)), job!(order[2].as_str()));
}

#[test]
fn back_off_doubles_from_15_s_to_30_min_and_ends_with_an_answer() {
    let mut t = tiers(&[A, B]);
    let mut now = s(0);
    for expected in [15, 30, 60, 120, 240, 480, 960, 1800, 1800, 1800] {
        assert_eq!(begin(&mut t, now), job!(A, Started));
        assert_eq!(t.failed(now, A), s(0));
        assert_eq!(begin(&mut t, now), job!(B, Started));
        let wait = t.failed(now, B);
        assert!(wait >= s(expected).mul_f64(0.9) && wait <= s(expected).mul_f64(1.1), "{expected}: {wait:?}");
        t.want_peers(now);
        assert_eq!(t.next_due(), now + wait, "wanting peers does not end a back-off");
        assert_eq!(begin(&mut t, now + wait.mul_f64(0.999)), None);
        now += wait;
    }
    begin(&mut t, now).unwrap();
    t.answered(now, A, s(100), None, None);
    assert_eq!(begin(&mut t, now + s(100)), job!(A));
    t.failed(now + s(100), A);
    begin(&mut t, now + s(100)).unwrap();
    assert!(t.failed(now + s(100), B) <= s(15).mul_f64(1.1));
}

#[test]
fn wanting_peers_respects_the_min_interval() {
    for (interval, min, bound) in [(1800, Some(300), 300), (1800, None, 60), (40, None, 40), (100, Some(500), 500)] {
        let mut t = tiers(&[A]);
        t.want_peers(s(0));
        begin(&mut t, s(10)).unwrap();
        t.answered(s(10), A, s(interval), min.map(s), None);
        t.want_peers(s(11));
        assert_eq!(t.next_due(), s(10 + bound), "{interval} {min:?}");
        t.want_peers(s(10_000));
        assert_eq!(t.next_due(), s(10 + bound), "never later than it was");
    }
    let mut late = tiers(&[A]);
    begin(&mut late, s(0)).unwrap();
    late.answered(s(0), A, s(1800), Some(s(60)), None);
    late.want_peers(s(700));
    assert_eq!(late.next_due(), s(700));
}

#[test]
fn one_tracker_is_not_asked_early_because_another_has_a_short_interval() {
    let mut t = tiers(&[A, B]);
    begin(&mut t, s(0)).unwrap();
    t.answered(s(0), A, s(600), Some(s(600)), None);
    t.completed();
    assert_eq!(begin(&mut t, s(1)), job!(A, Completed));
    t.failed(s(2), A);
    assert_eq!(begin(&mut t, s(2)), job!(B, Started));
    t.answered(s(2), B, s(30), Some(s(30)), None);
    assert_eq!(t.next_due(), s(32), "`completed` still waits for A, but not before the next round");
    assert_eq!(begin(&mut t, s(32)), job!(A, Completed));
    t.answered(s(32), A, s(600), Some(s(600)), None);
    t.due = s(62);
    assert_eq!(begin(&mut t, s(62)), job!(B));
    t.failed(s(63), B);
    assert!(t.next_due() > s(63) && t.next_due() < s(80), "A's turn has not come: back-off");
}

#[test]
fn where_all_wait_for_their_min_interval_nothing_is_due_before() {
    let mut t = tiers(&[A]);
    begin(&mut t, s(0)).unwrap();
    t.answered(s(0), A, s(600), Some(s(600)), None);
    t.due = s(40);
    assert_eq!(begin(&mut t, s(40)), None);
    assert_eq!(t.next_due(), s(600));
}

#[test]
fn started_until_accepted_completed_once_stopped_to_those_that_know_us() {
    let mut t = tiers(&[A, B, C]);
    for now in [0, 100] {
        assert_eq!(begin(&mut t, s(now)), job!(A, Started));
        t.failed(s(now), A);
        assert_eq!(begin(&mut t, s(now)), job!(B, Started));
        t.failed(s(now), B);
        assert_eq!(begin(&mut t, s(now)), job!(C, Started));
        t.failed(s(now), C);
    }
    begin(&mut t, s(200)).unwrap();
    t.failed(s(200), A);
    begin(&mut t, s(200)).unwrap();
    t.answered(s(200), B, s(1000), None, Some(b"id".to_vec()));
    t.completed();
    assert_eq!(t.next_due(), s(0), "an event waits for no interval");
    let job = t.begin(s(201)).unwrap();
    assert_eq!(
        (job.url.as_str(), job.event, job.tracker_id),
        (B, Some(AnnounceEvent::Completed), Some(b"id".to_vec()))
    );
    t.answered(s(201), B, s(1000), None, None);
    t.completed();
    assert_eq!(t.next_due(), s(1201), "once");
    assert_eq!(begin(&mut t, s(1201)), job!(A, Started), "A never heard of us");
    t.answered(s(1201), A, s(1000), None, None);
    assert_eq!(begin(&mut t, s(2201)), job!(A), "no completed: it knew us whole from the start");
    let stops = t.stop_jobs();
    let urls: Vec<&str> = stops.iter().map(|j| j.url.as_str()).collect();
    assert_eq!(urls, [A, B]);
    assert!(stops.iter().all(|j| j.event == Some(AnnounceEvent::Stopped)));
    assert_eq!(stops[1].tracker_id.as_deref(), Some(b"id".as_slice()));
    assert!(t.stop_jobs().is_empty() && t.begin(s(99_999)).is_none() && t.next_due() == Duration::MAX);
}

#[test]
fn completed_is_sent_again_until_it_is_accepted() {
    let mut t = tiers(&[A]);
    begin(&mut t, s(0)).unwrap();
    t.answered(s(0), A, s(1000), None, None);
    t.completed();
    assert!(t.owes_completed());
    assert_eq!(begin(&mut t, s(1)), job!(A, Completed));
    assert!(!t.owes_completed(), "it is on its way");
    let wait = t.failed(s(1), A);
    assert!(!t.owes_completed(), "not while A is left alone");
    assert!(wait > s(13) && begin(&mut t, s(2)).is_none(), "back-off holds for events too");
    assert_eq!(begin(&mut t, s(1) + wait), job!(A, Completed));
}

#[test]
fn completed_while_started_is_under_way_follows_it() {
    let mut t = tiers(&[A]);
    assert_eq!(begin(&mut t, s(0)), job!(A, Started));
    t.completed();
    assert!(!t.owes_completed());
    assert_eq!(t.answered(s(1), A, s(1000), None, None), s(0));
    assert!(t.owes_completed());
    assert_eq!(begin(&mut t, s(1)), job!(A, Completed));
    t.answered(s(2), A, s(1000), None, None);
    assert_eq!(t.next_due(), s(1002));
}

#[test]
fn completed_before_any_tracker_answered_is_not_sent() {
    let mut t = tiers(&[A]);
    t.completed();
    assert_eq!(begin(&mut t, s(0)), job!(A, Started));
    t.answered(s(1), A, s(1000), None, None);
    assert_eq!(t.next_due(), s(1001));
    assert_eq!(begin(&mut t, s(1001)), job!(A));
}

#[test]
fn an_answer_nobody_asked_for_changes_nothing() {
    let mut t = tiers(&[A, B]);
    t.answered(s(0), B, s(1000), None, None);
    t.failed(s(0), A);
    assert_eq!(begin(&mut t, s(0)), job!(A, Started));
    t.answered(s(1), B, s(1000), None, None);
    assert_eq!(t.next_due(), OVERTAKE, "A is still under way");
    assert_eq!(t.stop_jobs(), []);
}

#[test]
fn silent_trackers_are_overtaken_and_still_heard() {
    let s = Duration::from_secs;
    let urls = ["udp://a/announce", "udp://b/announce", "http://c/announce"];
    let mut tiers = Tiers::new(urls.map(|url| vec![url.to_owned()]).to_vec(), &mut fastrand::Rng::with_seed(1));
    let begun = |tiers: &mut Tiers, now| tiers.begin(s(now)).map(|job| job.url);
    assert_eq!(begun(&mut tiers, 0).as_deref(), Some(urls[0]));
    assert_eq!((tiers.next_due(), begun(&mut tiers, 2)), (s(3), None));
    assert_eq!(begun(&mut tiers, 3).as_deref(), Some(urls[1]));
    assert_eq!(begun(&mut tiers, 6).as_deref(), Some(urls[2]));
    assert_eq!((tiers.next_due(), begun(&mut tiers, 60)), (Duration::MAX, None), "all have been asked");
    // The second answers: the round is over, and the others' words still count.
    tiers.answered(s(7), urls[1], s(1800), None, None);
    assert_eq!(tiers.next_due(), Duration::MAX, "two are still under way");
    tiers.failed(s(15), urls[0]);
    tiers.answered(s(16), urls[2], s(900), None, None);
    assert_eq!(tiers.next_due(), s(916));
    assert_eq!(tiers.stop_jobs().len(), 2, "both know us");

    // Where all fail, the round ends with the last of them.
    let mut tiers = Tiers::new(urls.map(|url| vec![url.to_owned()]).to_vec(), &mut fastrand::Rng::with_seed(1));
    (0..3).for_each(|n| assert!(begun(&mut tiers, n * 3).is_some()));
    tiers.failed(s(30), urls[0]);
    tiers.failed(s(33), urls[2]);
    assert_eq!(tiers.next_due(), Duration::MAX);
    tiers.failed(s(36), urls[1]);
    assert!(tiers.next_due() > s(36 + 13) && tiers.next_due() < s(36 + 17), "{:?}", tiers.next_due());
}
