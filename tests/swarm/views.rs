//! What a program sees of peers and trackers, and what it changes of the trackers while a torrent runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::common::payload::Payload;
use crate::common::tracker::Tracker;
use crate::common::{TestDir, until};
use btsync::metainfo::Metainfo;
use btsync::net::bind::Bind;
use btsync::torrent::{
    AddOptions, Client, Limits, Outcome, PeerSource, SeedGoal, Stage, TorrentHandle, TrackerState, TrackerView,
};

const PIECE: usize = 64 * 1024;

fn client(host: u8) -> Arc<Client> {
    let bind = Bind::Address([127, 0, 0, host].into());
    Client::builder().listen_ports(0..=0).bind(bind).dht(None).lsd(false).build().expect("a client")
}

fn metainfo(payload: &Payload, announce: &str) -> Metainfo {
    Metainfo::parse(&payload.torrent(announce)).expect("a torrent")
}

/// The trackers that have answered.
fn answered(torrent: &TorrentHandle) -> Vec<TrackerView> {
    let is_answered = |view: &TrackerView| matches!(view.last_result, Some(TrackerState::Answered { .. }));
    torrent.trackers().into_iter().filter(is_answered).collect()
}

#[test]
fn peers_are_shown_with_their_source_and_rates() {
    let (temp, payload) = (TestDir::new(), Payload::single("x", 40 * PIECE, PIECE));
    let (seeder, leecher, tracker) = (client(101), client(102), Tracker::start(&[]));
    let seed = AddOptions::new(temp.folder_with("seed", &payload)).seed(SeedGoal::forever());
    let seed = seeder.add(metainfo(&payload, &tracker.url("127.0.0.1")), seed).expect("a thread");
    until("the seed is known", || answered(&seed).len() == 1);
    let limits = Limits { down: 2 * PIECE as u64, up: 0 };
    // Another tracker: the seed must not hear of the leecher and connect to it first.
    let knows_seed = Tracker::start(&[SocketAddr::from(([127, 0, 0, 101], seeder.port().expect("it listens")))]);
    let of_leecher = metainfo(&payload, &knows_seed.url("127.0.0.1"));
    let download = leecher.add(of_leecher, AddOptions::new(temp.path("copy")).limits(limits)).expect("a thread");
    until("data arrives", || download.snapshot().down_rate > 0 && seed.snapshot().up_rate > 0);
    let (of_leecher, of_seed) = (download.peers(), seed.peers());
    assert_eq!((of_leecher.len(), of_leecher[0].source), (1, Some(PeerSource::Tracker)));
    assert_eq!((of_seed.len(), of_seed[0].source), (1, Some(PeerSource::Incoming)));
    let mut availability = Vec::new();
    download.availability(&mut availability);
    assert_eq!(availability, [1; 40]);
    until("the peers have rates", || {
        let rate = |peers: Vec<btsync::torrent::PeerView>, of: fn(&btsync::torrent::PeerView) -> u64| {
            peers.first().is_some_and(|peer| of(peer) > 0)
        };
        rate(download.peers(), |peer| peer.down_rate) && rate(seed.peers(), |peer| peer.up_rate)
    });
    download.set_torrent_limits(Limits::default());
    assert_eq!(download.wait().expect("no error"), Outcome::Completed);
    seed.stop();
    seed.wait().expect("no error");
    let [view] = &seed.trackers()[..] else { panic!("one tracker") };
    assert!(!view.is_announcing && view.next_announce.is_none(), "it has stopped: {view:?}");
}

#[test]
fn trackers_are_shown_with_their_answers_and_replaced_while_the_torrent_runs() {
    let (temp, payload) = (TestDir::new(), Payload::single("x", PIECE, PIECE));
    let (client, trackers) = (client(103), [(); 3].map(|()| Tracker::without_repeats(&[])));
    let [first, second, third] = [0, 1, 2].map(|n| trackers[n].url("127.0.0.1"));
    let seed = AddOptions::new(temp.folder_with("seed", &payload)).seed(SeedGoal::forever());
    let seed = client.add(metainfo(&payload, &first), seed).expect("a thread");
    until("the tracker answers", || answered(&seed).len() == 1);
    let [view] = &seed.trackers()[..] else { panic!("one tracker") };
    assert_eq!((&view.url, view.tier, view.is_announcing), (&first, 0, false));
    assert!(view.last_announce.is_some_and(|at| at <= SystemTime::now()) && view.next_announce.is_some());

    seed.set_trackers(vec![vec!["wss://not.supported/".into()], vec![second.clone()], vec![first.clone()]]);
    until("the new tracker answers", || answered(&seed).len() == 2);
    let urls: Vec<_> = seed.trackers().into_iter().map(|view| (view.url, view.tier)).collect();
    assert_eq!(urls, [(second.clone(), 1), (first.clone(), 2)]);
    seed.set_trackers(vec![vec![third.clone()]]);
    until("the last tracker answers", || answered(&seed).iter().any(|view| view.url == third));
    assert_eq!(seed.trackers().len(), 1);
    let before = [0, 1].map(|n| trackers[n].announces().len());
    seed.stop();
    seed.wait().expect("no error");
    assert_eq!([0, 1].map(|n| trackers[n].announces().len()), before, "they are removed");
    let is_last = |event: &str| trackers[2].announces().last().is_some_and(|announce| announce.event == event);
    until("the tracker that is left has read that it stops", || is_last("stopped"));
}

#[test]
fn a_torrent_starts_with_the_trackers_of_its_options_and_announces_when_asked() {
    let (temp, payload) = (TestDir::new(), Payload::single("x", PIECE, PIECE));
    let (client, tracker, of_torrent) = (client(104), Tracker::start(&[]), Tracker::start(&[]));
    // A path that a torrent may not name at a local address.
    let url = format!("http://127.0.0.1:{}/announce?mine=1", tracker.port());
    let options = AddOptions::new(temp.folder_with("seed", &payload)).seed(SeedGoal::forever());
    let options = options.tracker_tiers(Some(vec![vec![url.clone()]]));
    let seed = client.add(metainfo(&payload, &of_torrent.url("127.0.0.1")), options).expect("a thread");
    until("the tracker answers", || answered(&seed).len() == 1);
    assert_eq!((seed.snapshot().stage, seed.trackers()[0].url.as_str()), (Stage::Seeding, url.as_str()));
    let wait = seed.reannounce().expect("a tracker");
    assert!(wait < Duration::from_secs(70), "{wait:?}");
    until("it announces again", || tracker.announces().len() > 1);
    assert!(of_torrent.announces().is_empty());
    seed.stop();
    seed.wait().expect("no error");
}
