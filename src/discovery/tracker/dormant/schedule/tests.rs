//! The schedule with a simulated clock.

use super::*;
use crate::discovery::tracker::announce::{AnnounceResponse, AnnouncedPayload, TorrentIdentity};
use crate::discovery::tracker::error::Retry;
use crate::types::{InfoHash, PeerId};

const A: &str = "http://a.test/announce";
const B: &str = "http://b.test/announce";
const C: &str = "udp://c.test:1";

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn torrent(number: u64) -> DormantAnnounce {
    let mut info_hash = [0; 20];
    info_hash[..8].copy_from_slice(&number.to_be_bytes());
    DormantAnnounce {
        info_hash: InfoHash(info_hash),
        identity: TorrentIdentity { peer_id: PeerId([1; 20]), key: 7 },
        payload: AnnouncedPayload::default(),
        left: 0,
        is_private: false,
        user_agent: None,
    }
}

/// One tier per URL, so that the order is known.
fn tiers(urls: &[&str]) -> Vec<Vec<DormantTracker>> {
    urls.iter().map(|url| vec![DormantTracker { url: (*url).into(), is_trusted: false }]).collect()
}

fn answer(interval: u64) -> AnnounceResponse {
    AnnounceResponse {
        peers: Vec::new(),
        private_dropped: 0,
        names: Vec::new(),
        interval: s(interval),
        min_interval: None,
        complete: Some(3),
        incomplete: Some(1),
        warning: None,
        tracker_id: None,
        external_ip: None,
    }
}

/// The next job if no torrent runs.
fn next(schedule: &mut DormantSchedule, now: u64) -> Option<DormantJob> {
    schedule.next_job(s(now), |_| false)
}

fn sent(uploaded: u64) -> AnnouncedPayload {
    AnnouncedPayload { uploaded, downloaded: 0 }
}

fn asked(job: &DormantJob) -> (&str, Option<AnnounceEvent>) {
    (&job.tracker.url, job.event)
}

fn due(schedule: &DormantSchedule, id: DormantId) -> u64 {
    schedule.entries.get(&id).expect("it is there").due.as_secs()
}

#[test]
fn a_seed_announces_to_the_first_tracker_that_answers_at_its_interval() {
    let mut schedule = DormantSchedule::default();
    let id = schedule.add(torrent(1), &tiers(&[A, "wss://not.supported/", B, A]), s(5));
    assert_eq!(schedule.tracker_status(id).iter().map(|tracker| tracker.tier).collect::<Vec<_>>(), [0, 2]);
    let job = next(&mut schedule, 5).expect("it is due at once");
    assert_eq!(asked(&job), (A, Some(AnnounceEvent::Started)));
    assert!(next(&mut schedule, 5).is_none() && schedule.tracker_status(id)[0].is_announcing);
    schedule.finished(&job, Err(TrackerError::Refused("no".into())), s(6));
    let job = next(&mut schedule, 6).expect("the next tier");
    assert_eq!(asked(&job), (B, Some(AnnounceEvent::Started)));
    schedule.finished(&job, Ok(AnnounceResponse { tracker_id: Some(b"x".to_vec()), ..answer(1800) }), s(7));
    assert!((1807..1900).contains(&due(&schedule, id)), "the interval, and a little more");
    let trackers = schedule.tracker_status(id);
    assert_eq!(
        (trackers[1].last.as_ref().map(|last| last.leechers), trackers[1].earliest),
        (Some(Some(1)), Some(s(67)))
    );
    // The next round begins with the first tier again, and the one that knows it gets no `started`.
    let job = next(&mut schedule, 1900).expect("it is due");
    assert_eq!(asked(&job), (A, Some(AnnounceEvent::Started)));
    schedule.finished(&job, Err(TrackerError::Refused("no".into())), s(1900));
    let job = next(&mut schedule, 1900).expect("the next tier");
    assert_eq!((asked(&job), job.tracker_id.as_deref()), ((B, None), Some(&b"x"[..])));
    schedule.remove(id, false);
    schedule.finished(&job, Ok(answer(10)), s(1901));
    assert!(schedule.is_empty() && schedule.next_due(s(0)).is_none(), "it is gone");
}

#[test]
fn a_tracker_that_is_away_costs_one_announce_for_all_its_torrents() {
    let mut schedule = DormantSchedule::default();
    let ids: Vec<_> = (0..1000).map(|n| schedule.add(torrent(n), &tiers(&[A, B]), s(0))).collect();
    let lone: Vec<_> = (1000..2000).map(|n| schedule.add(torrent(n), &tiers(&[A]), s(0))).collect();
    let first = next(&mut schedule, 0).expect("due");
    let second = next(&mut schedule, 0).expect("due");
    assert!(next(&mut schedule, 0).is_none(), "two announces to a host at a time");
    schedule.finished(&first, Err(TrackerError::Timeout), s(15));
    schedule.finished(&second, Err(TrackerError::Timeout), s(15));
    let mut announces = 0;
    while let Some(job) = next(&mut schedule, 16) {
        assert_eq!(&*job.tracker.url, B, "the other host is asked, and the first one left alone");
        announces += 1;
        schedule.finished(&job, Ok(answer(1800)), s(16));
    }
    assert_eq!(announces, ids.len());
    assert!(lone.iter().all(|id| due(&schedule, *id) > 16), "they wait");
    // One torrent tries the host again; the others wait for the result.
    let mut tries = 0;
    let mut now = 17;
    while now < 24 * 3600 {
        while let Some(job) = schedule.next_job(s(now), |_| false) {
            if &*job.tracker.url == A {
                tries += 1;
                assert!(next(&mut schedule, now).is_none_or(|other| &*other.tracker.url == B));
                schedule.finished(&job, Err(TrackerError::Timeout), s(now + 15));
            } else {
                schedule.finished(&job, Ok(answer(1800)), s(now));
            }
        }
        now = schedule.next_due(s(now)).map_or(now + 60, |due| due.as_secs().max(now + 1));
    }
    assert!((20..120).contains(&tries), "{tries} announces in a day, instead of a hundred thousand");
}

#[test]
fn a_private_tracker_that_refuses_for_good_is_not_asked_again() {
    let mut schedule = DormantSchedule::default();
    let id = schedule.add(torrent(1), &tiers(&[A]), s(0));
    let job = next(&mut schedule, 0).expect("due");
    let never = TrackerError::Refused("unregistered".into()).later(Some(Retry::Never));
    schedule.finished(&job, Err(never), s(1));
    assert!(schedule.next_due(s(0)).is_none() && next(&mut schedule, 1_000_000).is_none());
    assert_eq!((schedule.reannounce(id, s(2)), schedule.tracker_status(id)[0].next), (None, None));
    schedule.set_trackers(id, &tiers(&[A]), s(3));
    let job = next(&mut schedule, 3).expect("the user wants it");
    let later = TrackerError::Refused("busy".into()).later(Some(Retry::After(s(7200))));
    schedule.finished(&job, Err(later), s(4));
    assert_eq!(due(&schedule, id), 7204);
}

#[test]
fn a_torrent_that_runs_announces_itself_and_comes_back_where_it_was() {
    let mut schedule = DormantSchedule::default();
    let id = schedule.add(torrent(1), &tiers(&[A, B]), s(0));
    assert!(schedule.next_job(s(0), |_| true).is_none());
    assert_eq!(due(&schedule, id), 60, "it is looked at again");
    schedule.note_run_ended(id, Some((B, s(900))), sent(5), s(100));
    assert!(next(&mut schedule, 899).is_none());
    let job = next(&mut schedule, 900).expect("due");
    assert_eq!(asked(&job), (A, Some(AnnounceEvent::Started)), "the first tier comes first");
    schedule.finished(&job, Err(TrackerError::Timeout), s(901));
    let job = next(&mut schedule, 901).expect("due");
    assert_eq!(asked(&job), (B, None), "it knows the torrent");
    schedule.note_run_ended(id, None, sent(6), s(902));
    schedule.finished(&job, Ok(answer(1800)), s(903));
    schedule.remove(id, true);
    assert_eq!(schedule.next_stopped(s(904)).map(|job| job.event), Some(Some(AnnounceEvent::Stopped)));
    assert!(schedule.is_empty());
}

#[test]
fn the_user_may_ask_for_an_announce_after_the_minimum_interval() {
    let mut schedule = DormantSchedule::default();
    let id = schedule.add(torrent(1), &tiers(&[A]), s(0));
    let job = next(&mut schedule, 0).expect("due");
    assert_eq!(schedule.reannounce(id, s(1)), Some(s(1)), "it is under way");
    schedule.finished(&job, Ok(AnnounceResponse { min_interval: Some(s(300)), ..answer(1800) }), s(2));
    assert_eq!(schedule.reannounce(id, s(10)), Some(s(302)));
    assert!(next(&mut schedule, 301).is_none());
    assert!(next(&mut schedule, 302).is_some());
    let partial = schedule.add(DormantAnnounce { left: 5, ..torrent(2) }, &tiers(&[B]), s(400));
    let job = next(&mut schedule, 400).expect("due");
    schedule.finished(&job, Ok(answer(60)), s(400));
    let at = due(&schedule, partial) + 1;
    let job = next(&mut schedule, at).expect("due");
    assert_eq!(asked(&job), (B, Some(AnnounceEvent::Paused)), "a partial seed (BEP 21)");
}

#[test]
fn replaced_trackers_take_over_at_once_unless_one_that_knows_the_torrent_stays() {
    let mut schedule = DormantSchedule::default();
    let id = schedule.add(torrent(1), &tiers(&[A, B]), s(0));
    let job = next(&mut schedule, 0).expect("due");
    schedule.finished(&job, Ok(answer(1800)), s(1));
    schedule.set_trackers(id, &tiers(&[C, A]), s(10));
    assert!(due(&schedule, id) > 1000, "A stays and knows it");
    schedule.set_trackers(id, &tiers(&[C]), s(20));
    let job = next(&mut schedule, 20).expect("due");
    assert_eq!(asked(&job), (C, Some(AnnounceEvent::Started)));
    // A result of a tracker that is gone does not count.
    schedule.set_trackers(id, &tiers(&[B]), s(21));
    schedule.finished(&job, Ok(answer(5)), s(22));
    assert!(due(&schedule, id) > 22 && schedule.tracker_status(id)[0].last.is_none());
    schedule.set_trackers(id, &[], s(23));
    assert!(schedule.next_due(s(0)).is_none() && schedule.reannounce(id, s(24)).is_none());
    schedule.remove(id, true);
    assert!(schedule.is_empty(), "no tracker knows it");
}

#[test]
fn torrents_that_stop_are_announced_unless_their_host_is_away() {
    let mut schedule = DormantSchedule::default();
    let ids: Vec<_> = (0..6).map(|n| schedule.add(torrent(n), &tiers(&[if n < 5 { A } else { B }]), s(0))).collect();
    while let Some(job) = next(&mut schedule, 0) {
        schedule.finished(&job, Ok(answer(1800)), s(0));
    }
    for id in ids {
        schedule.remove(id, true);
    }
    let first = schedule.next_stopped(s(1)).expect("one");
    let second = schedule.next_stopped(s(1)).expect("two");
    let other = schedule.next_stopped(s(1)).expect("the other host");
    assert_eq!([&first, &second, &other].map(|job| &*job.tracker.url), [A, A, B]);
    assert!(schedule.next_stopped(s(1)).is_none() && schedule.has_stopped(), "the rest wait");
    schedule.finished(&first, Err(TrackerError::Timeout), s(2));
    assert!(schedule.next_stopped(s(2)).is_none() && !schedule.has_stopped(), "the host is away");
    schedule.finished(&second, Ok(answer(1)), s(2));
    assert!(schedule.is_empty());
}

#[test]
fn a_thousand_torrents_take_little_memory() {
    let shared: Vec<String> = (0..5).map(|n| format!("http://tracker{n}.test:6969/announce")).collect();
    let urls: Vec<&str> = shared.iter().map(String::as_str).collect();
    let mut schedule = DormantSchedule::default();
    (0..1000).for_each(|n| _ = schedule.add(torrent(n), &tiers(&urls), s(0)));
    assert_eq!((schedule.len(), schedule.trackers.len()), (1000, 5), "URLs are kept once");
    let of_entry = size_of::<Entry>() + size_of::<DormantAnnounce>() + 16;
    let of_trackers = 5 * size_of::<(Arc<DormantTracker>, u32)>();
    let of_result = size_of::<DormantResult>();
    let of_maps = 2 * size_of::<(Duration, DormantId)>() + size_of::<DormantId>();
    assert!(of_entry + of_trackers + of_result + of_maps < 800, "{of_entry} {of_trackers} {of_result}");
}

#[test]
fn urls_of_torrents_that_are_gone_are_forgotten() {
    let mut schedule = DormantSchedule::default();
    for n in 0..1000 {
        let id = schedule.add(torrent(n), &tiers(&[&format!("http://host{n}.test/announce")]), s(n));
        let job = next(&mut schedule, n).expect("due");
        schedule.finished(&job, Err(TrackerError::Timeout), s(n));
        schedule.remove(id, true);
    }
    assert!(schedule.trackers.len() < 200, "{}", schedule.trackers.len());
}

#[test]
fn a_run_learns_which_tracker_counts_on_its_torrent_and_what_was_sent() {
    let mut schedule = DormantSchedule::default();
    let id = schedule.add(torrent(1), &tiers(&[A, B]), s(0));
    assert_eq!(schedule.registered(id, s(0)), None);
    let job = next(&mut schedule, 0).expect("due");
    schedule.finished(&job, Ok(answer(1800)), s(1));
    let (url, due) = schedule.registered(id, s(100)).expect("it has answered");
    assert!(url == A && (s(1801)..s(1900)).contains(&due), "{due:?}");
    schedule.note_run_ended(id, Some((A, s(500))), sent(7000), s(200));
    assert_eq!(schedule.registered(id, s(600)), Some((A.to_owned(), s(600))));
    let job = next(&mut schedule, 600).expect("due");
    assert_eq!((job.event, job.torrent.payload), (None, sent(7000)));
    assert_eq!(schedule.registered(id, s(601)), Some((A.to_owned(), s(661))), "an announce is under way");
}

/// A tracker that got `stopped` first would count the torrent again.
#[test]
fn stopped_waits_for_the_announce_that_is_under_way() {
    let mut schedule = DormantSchedule::default();
    let id = schedule.add(torrent(1), &tiers(&[A, B]), s(0));
    let started = next(&mut schedule, 0).unwrap();
    schedule.finished(&started, Ok(answer(1800)), s(1));
    let regular = next(&mut schedule, 4000).unwrap();
    schedule.remove(id, true);
    assert!(schedule.has_stopped() && next(&mut schedule, 4000).is_none());
    schedule.finished(&regular, Err(TrackerError::Timeout), s(4015));
    // The host is left alone for a while, as it did not answer; `stopped` then is left out.
    let id = schedule.add(torrent(2), &tiers(&[B]), s(4015));
    let started = next(&mut schedule, 4015).unwrap();
    assert_eq!(asked(&started), (B, Some(AnnounceEvent::Started)));
    schedule.remove(id, true);
    assert!(next(&mut schedule, 4015).is_none());
    schedule.finished(&started, Ok(AnnounceResponse { tracker_id: Some(b"x".to_vec()), ..answer(1800) }), s(4016));
    let stopped = next(&mut schedule, 4016).unwrap();
    assert_eq!(asked(&stopped), (B, Some(AnnounceEvent::Stopped)));
    assert_eq!(stopped.tracker_id.as_deref(), Some(&b"x"[..]));
    schedule.finished(&stopped, Ok(answer(1800)), s(4017));
    assert!(next(&mut schedule, 9000).is_none() && schedule.is_empty());
    // One that has accepted nothing gets nothing.
    let id = schedule.add(torrent(3), &tiers(&[C]), s(9000));
    let started = next(&mut schedule, 9000).unwrap();
    schedule.remove(id, true);
    schedule.finished(&started, Err(TrackerError::Refused("no".into())), s(9001));
    assert!(next(&mut schedule, 9001).is_none() && schedule.is_empty());
}
