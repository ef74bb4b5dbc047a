//! Seeds that do not run: the client announces them with a few threads, and a peer that connects has the program start its seed.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use crate::common::payload::Payload;
use crate::common::tracker::Tracker;
use crate::common::{PATIENCE, TestDir, until};
use btsync::client::{DormantGuard, DormantSeed, WakeFn, WakeReason};
use btsync::discovery::tracker::announce::{AnnouncedPayload, RegisteredTracker};
use btsync::discovery::tracker::dormant::{DormantAnnounce, DormantTracker};
use btsync::metainfo::Metainfo;
use btsync::net::bind::Bind;
use btsync::torrent::{AddOptions, Client, Outcome, SeedGoal, Stage, TorrentHandle, TorrentIdentity};
use btsync::types::{Encryption, InfoHash};

use crate::common::netns::alone_in_process;

fn client(host: u8) -> Arc<Client> {
    let bind = Bind::Address([127, 0, 0, host].into());
    Client::builder().listen_ports(0..=0).bind(bind).dht(None).lsd(false).build().expect("a client")
}

fn seed(info_hash: InfoHash, tracker: &str) -> DormantSeed {
    DormantSeed {
        announce: DormantAnnounce {
            info_hash,
            identity: TorrentIdentity::generate(None),
            payload: AnnouncedPayload::default(),
            left: 0,
            is_private: false,
            user_agent: None,
        },
        tiers: vec![vec![DormantTracker { url: tracker.into(), is_trusted: false }]],
        uses_dht: true,
        uses_lsd: false,
        encryption: Encryption::Allow,
        registered_at: None,
    }
}

/// A function that reports its calls.
fn wake() -> (WakeFn, Receiver<()>) {
    let (tell, woken) = channel();
    (Arc::new(move |_| _ = tell.send(())), woken)
}

fn events(tracker: &Tracker, info_hash: InfoHash) -> Vec<String> {
    let of_torrent = tracker.announces().into_iter().filter(|announce| announce.info_hash == info_hash.0);
    of_torrent.map(|announce| announce.event).collect()
}

fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim_end() == name).count()
}

#[test]
fn many_dormant_seeds_are_announced_by_a_few_threads_and_say_when_they_stop() {
    alone_in_process("many_dormant_seeds_are_announced_by_a_few_threads_and_say_when_they_stop", || {
        let (client, tracker) = (client(121), Tracker::start(&[]));
        let url = tracker.url("127.0.0.1");
        let hash = |n: u8| InfoHash([n; 20]);
        let guards: Vec<DormantGuard> =
            (0..200).map(|n| client.register_dormant(seed(hash(n), &url), wake().0)).collect();
        until("each is announced", || {
            assert!(threads("dormant") <= 4);
            (0..200).all(|n| events(&tracker, hash(n)).first().is_some_and(|event| event == "started"))
        });
        let announce = tracker.announces().remove(0);
        assert_eq!((announce.addr.port(), announce.left), (client.port().expect("it listens"), 0));
        until("the results are shown", || guards.iter().all(|guard| guard.trackers()[0].last_announce.is_some()));
        let view = &guards[7].trackers()[0];
        assert!(view.url == url && view.tier == 0 && matches!(view.last_result, Some(Ok(_))) && view.seeds.is_some());
        // The tracker asks for an announce every three seconds.
        until("they are announced again", || events(&tracker, hash(3)).len() > 1);
        assert_eq!(events(&tracker, hash(3))[1], "");
        assert_eq!((threads("read"), threads("torrent")), (0, 0));
        let (stop, drop_silently): (Vec<_>, Vec<_>) = guards.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
        drop(drop_silently);
        for (_, guard) in stop {
            guard.stop();
        }
        until("those say that they stop", || {
            (0..200).step_by(2).all(|n| events(&tracker, hash(n)).last().is_some_and(|event| event == "stopped"))
        });
        assert!((1..200).step_by(2).all(|n| events(&tracker, hash(n)).iter().all(|event| event != "stopped")));
        drop(client);
        until("no thread is left", || threads("dormant") == 0);
    });
}

/// Tells the tracker that a leecher listens at a port.
fn announce_leecher(tracker: &Tracker, info_hash: InfoHash, port: u16) {
    let escaped = info_hash.0.iter().fold(String::new(), |text, byte| format!("{text}%{byte:02x}"));
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", tracker.port())).expect("it listens");
    let path = format!("/announce?info_hash={escaped}&port={port}&left=1&event=started");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("sent");
    stream.read_to_end(&mut Vec::new()).expect("an answer");
}

#[test]
fn leechers_that_a_tracker_names_wake_a_seed_that_nobody_can_reach() {
    let (seeder, tracker) = (client(125), Tracker::start(&[]));
    let (wanted, complete) = (InfoHash([1; 20]), InfoHash([2; 20]));
    announce_leecher(&tracker, wanted, 4321);
    let (tell, causes) = channel();
    let register = |info_hash: InfoHash| {
        let tell = tell.clone();
        let wake: WakeFn = Arc::new(move |reason| _ = tell.send((info_hash, reason)));
        seeder.register_dormant(seed(info_hash, &tracker.url("127.0.0.1")), wake)
    };
    let _guards = [complete, wanted].map(register);
    let (woken, reason) = causes.recv_timeout(PATIENCE).expect("it is woken");
    let WakeReason::Found(peers, _) = reason else { panic!("{reason:?}") };
    assert!(woken == wanted && peers == ["127.0.0.1:4321".parse().expect("an address")], "{peers:?}");
    until("they are announced again", || events(&tracker, wanted).len() > 2 && events(&tracker, complete).len() > 2);
    assert!(causes.try_recv().is_err(), "once, and only the one that a leecher wants");
}

/// Starts the seed of a payload with the identity that it has while it is dormant.
fn start(client: &Arc<Client>, temp: &TestDir, metainfo: &Metainfo, identity: TorrentIdentity) -> TorrentHandle {
    let options = AddOptions::new(temp.path("seed")).seed(SeedGoal::forever()).identity(Some(identity));
    client.add(metainfo.clone(), options).expect("a thread")
}

#[test]
fn a_peer_that_connects_for_a_dormant_seed_is_served_once_it_has_started() {
    let (temp, payload) = (TestDir::new(), Payload::single("x", 600_000, 32 * 1024));
    let tracker = Tracker::start(&[]);
    let metainfo = Metainfo::parse(&payload.torrent(&tracker.url("127.0.0.1"))).expect("a torrent");
    temp.folder_with("seed", &payload);
    let (seeder, (wake_first, woken)) = (client(122), wake());
    let dormant = seed(metainfo.info_hash, &tracker.url("127.0.0.1"));
    let identity = dormant.announce.identity;
    let guard = seeder.register_dormant(dormant, wake_first);
    until("it is announced", || !events(&tracker, metainfo.info_hash).is_empty());

    for (round, host) in [123, 124].into_iter().enumerate() {
        let leecher = client(host);
        let download = leecher.add(metainfo.clone(), AddOptions::new(temp.path(&format!("copy{round}")))).expect("it");
        let woken = if round == 0 {
            woken.recv_timeout(PATIENCE)
        } else {
            let (wake_again, woken) = wake();
            guard.rearm(wake_again);
            woken.recv_timeout(PATIENCE)
        };
        woken.expect("the leecher connects");
        let runs = start(&seeder, &temp, &metainfo, identity);
        assert_eq!(download.wait().expect("no error"), Outcome::Completed);
        assert_eq!(std::fs::read(temp.path(&format!("copy{round}/x"))).expect("it is there"), payload.content());
        until("it seeds", || runs.snapshot().stage == Stage::Seeding);
        runs.stop_quietly();
        assert_eq!(runs.wait().expect("no error"), Outcome::StoppedComplete);
        let url = runs.trackers()[0].url.clone();
        let registered_at = RegisteredTracker { url, next_announce_in: std::time::Duration::ZERO };
        guard.note_run_ended(Some(&registered_at), AnnouncedPayload::default());
    }
    let seeder_port = seeder.port().expect("it listens");
    let of_seeder = || {
        let of_torrent = tracker.announces().into_iter().filter(|announce| announce.addr.port() == seeder_port);
        of_torrent.map(|announce| announce.event).collect::<Vec<_>>()
    };
    assert!(of_seeder().iter().all(|event| event != "stopped"), "it only slept: {:?}", of_seeder());
    guard.stop();
    until("it stops", || of_seeder().last().is_some_and(|event| event == "stopped"));
}
