//! The files of a torrent are opened again while it runs: other files are wanted, or they are in another folder.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common::payload::Payload;
use crate::common::tracker::Tracker;
use crate::common::{PATIENCE, TestDir, until};
use btsync::metainfo::{FilePattern, Metainfo, Selection};
use btsync::net::bind::Bind;
use btsync::torrent::{AddOptions, Client, Event, Limits, Outcome, SeedGoal, Stage, TorrentHandle};

const PIECE: usize = 64 * 1024;
/// Files whose ends lie in the middle of pieces.
const FILES: [(&str, usize); 4] = [("a", 5 * PIECE / 2), ("b", 9 * PIECE / 4), ("c", PIECE / 3), ("d", 4 * PIECE + 11)];

fn client(host: u8) -> Arc<Client> {
    let bind = Bind::Address([127, 0, 0, host].into());
    Client::builder().listen_ports(0..=0).bind(bind).dht(None).lsd(false).build().expect("a client")
}

fn selection(names: &[&str]) -> Selection {
    let pattern = |name: &&str| name.parse::<FilePattern>().expect("a pattern");
    Selection { select: names.iter().map(pattern).collect(), ..Selection::default() }
}

fn options(folder: &Path) -> AddOptions {
    AddOptions::new(folder).seed(SeedGoal::forever())
}

/// A seed, and what a download from it needs.
struct Seeded {
    temp: TestDir,
    payload: Payload,
    metainfo: Metainfo,
    tracker: Tracker,
    seed: TorrentHandle,
    addr: SocketAddr,
}

impl Seeded {
    fn new(host: u8) -> Seeded {
        let (temp, payload, seeder) = (TestDir::new(), Payload::tree("tree", &FILES, PIECE), client(host));
        let tracker = Tracker::start(&[]);
        let metainfo = Metainfo::parse(&payload.torrent(&tracker.url("127.0.0.1"))).expect("a torrent");
        let folder = temp.folder_with("seed", &payload);
        let seed_options = options(&folder).exclude_trackers(vec!["*".into()]);
        let seed = seeder.add(metainfo.clone(), seed_options).expect("a thread");
        until("it seeds", || seed.snapshot().stage == Stage::Seeding);
        let addr = SocketAddr::from(([127, 0, 0, host], seeder.port().expect("it listens")));
        Seeded { temp, payload, metainfo, tracker, seed, addr }
    }

    fn has(&self, folder: &str, name: &str) -> bool {
        let (got, want) = (self.temp.path(folder).join("tree").join(name), self.temp.path("seed/tree").join(name));
        std::fs::read(got).is_ok_and(|got| got == std::fs::read(want).expect("the seed's file"))
    }

    fn exists(&self, folder: &str, name: &str) -> bool {
        self.temp.path(folder).join("tree").join(name).exists()
    }
}

impl Drop for Seeded {
    fn drop(&mut self) {
        self.seed.stop();
        let _ = self.seed.wait();
    }
}

fn is_complete(torrent: &TorrentHandle) -> bool {
    torrent.snapshot().stage == Stage::Seeding
}

#[test]
fn other_files_become_wanted_while_the_torrent_runs_and_trackers_do_not_notice() {
    let it = Seeded::new(111);
    let leecher = client(112);
    let out = it.temp.path("out");
    let wanted =
        options(&out).peers(vec![it.addr]).files(selection(&["a"])).resume_folder(Some(it.temp.folder("resume")));
    let torrent = leecher.add(it.metainfo.clone(), wanted).expect("a thread");
    until("a is complete", || is_complete(&torrent));
    assert!(it.has("out", "a") && !it.exists("out", "b"));
    let first = torrent.snapshot();

    torrent.select_files(selection(&["b", "d"]));
    until("b and d are wanted", || torrent.files().len() == 2);
    until("b and d are complete", || is_complete(&torrent));
    assert!(it.has("out", "a") && it.has("out", "b") && it.has("out", "d") && !it.exists("out", "c"));
    let second = torrent.snapshot();
    assert!(second.downloaded > first.downloaded && second.total > first.total, "{first:?} {second:?}");

    torrent.select_files(Selection::default());
    until("all is wanted", || torrent.files().len() == 4);
    until("all is complete", || is_complete(&torrent));
    assert!(FILES.iter().all(|(name, _)| it.has("out", name)));
    let total = it.payload.content().len() as u64;
    let third = torrent.snapshot();
    assert_eq!((third.have, third.wasted), (total, 0));
    assert!((total..total + 65536).contains(&third.downloaded), "nothing is fetched twice: {third:?}");
    let left_over: Vec<_> =
        std::fs::read_dir(&out).expect("the folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left_over, ["tree"], "neither a marker nor a part file");

    // A selection that no file fits changes nothing.
    torrent.select_files(selection(&["nothing"]));
    let events = torrent.events();
    let completed = std::iter::from_fn(|| events.recv()).filter(|event| *event == Event::Completed);
    assert_eq!(completed.take(4).count(), 4, "once for each selection");
    until("it seeds again", || is_complete(&torrent));
    assert_eq!(torrent.files().len(), 4);
    torrent.stop();
    assert_eq!(torrent.wait().expect("no error"), Outcome::StoppedComplete);
    let events: Vec<_> = it.tracker.announces().into_iter().map(|announce| announce.event).collect();
    let counts = ["started", "completed", "stopped"].map(|event| events.iter().filter(|it| *it == event).count());
    assert_eq!((counts, events.first().map(String::as_str)), ([1, 1, 1], Some("started")), "{events:?}");
}

#[test]
fn events_before_the_reopening_are_about_the_files_before() {
    let it = Seeded::new(126);
    let empty = it.temp.folder("empty");
    let total = it.payload.content().len() as u64;
    it.seed.reopen(move |options| options.folder(empty));
    let events = it.seed.events();
    let before: Vec<Event> = events.iter().take_while(|event| !matches!(event, Event::Reopening { .. })).collect();
    assert!(before.contains(&Event::Checked { have: total, total }), "{before:?}");
    let checked = events.iter().find(|event| matches!(event, Event::Checked { .. }));
    assert_eq!(checked, Some(Event::Checked { have: 0, total }));
}

#[test]
fn a_download_goes_on_in_another_folder_with_the_same_peers() {
    let it = Seeded::new(113);
    let leecher = client(114);
    let limits = Limits { down: 2 * PIECE as u64, up: 0 };
    let options = options(&it.temp.path("here")).peers(vec![it.addr]).limits(limits);
    let torrent = leecher.add(it.metainfo.clone(), options).expect("a thread");
    until("pieces are verified", || torrent.snapshot().have > 2 * PIECE as u64);
    let (from, to) = (it.temp.path("here"), it.temp.path("there"));
    let target = to.clone();
    torrent.reopen(move |options| {
        std::fs::rename(&from, &target).expect("nothing writes to the files");
        options.folder(target)
    });
    torrent.set_torrent_limits(Limits::default());
    until("all is complete", || to.exists() && is_complete(&torrent));
    assert!(FILES.iter().all(|(name, _)| it.has("there", name)) && !it.temp.path("here").exists());
    assert!(torrent.snapshot().downloaded < 2 * it.payload.content().len() as u64);
    torrent.stop();
    assert_eq!(torrent.wait().expect("no error"), Outcome::StoppedComplete);
}

#[test]
fn a_change_before_the_files_are_open_counts_and_one_after_the_end_does_not() {
    let it = Seeded::new(115);
    let torrent = client(116).prepare(it.metainfo.clone(), options(&it.temp.path("out")).peers(vec![it.addr]));
    let handle = torrent.handle();
    handle.select_files(selection(&["c"]));
    let runs = thread::spawn(move || torrent.run());
    until("c is complete", || is_complete(&handle));
    assert!(it.has("out", "c") && !it.exists("out", "a"));
    handle.stop();
    assert_eq!(runs.join().expect("no panic").expect("no error"), Outcome::StoppedComplete);
    handle.select_files(Selection::default());
    assert!(!it.exists("out", "a"));
}

/// Where the process that is killed finds its seed and its folder.
const SEED: &str = "BTSYNC_TEST_REOPEN_SEED";
const FOLDER: &str = "BTSYNC_TEST_REOPEN_FOLDER";

/// Exists once the process has recorded a change.
const RUNS: &str = "runs";

/// Changes the selection again and again, until it is killed.
fn change_for_ever(seed: SocketAddr, folder: &Path) -> ! {
    let bytes = std::fs::read(folder.join("torrent")).expect("the torrent");
    let metainfo = Metainfo::parse(&bytes).expect("a torrent");
    let limits = Limits { down: 4 * PIECE as u64, up: 0 };
    let options =
        options(&folder.join("out")).peers(vec![seed]).limits(limits).resume_folder(Some(folder.join("resume")));
    let torrent = client(118).add(metainfo, options.exclude_trackers(vec!["*".into()])).expect("a thread");
    let mut rng = fastrand::Rng::new();
    loop {
        let names: Vec<&str> = FILES.iter().map(|(name, _)| *name).filter(|_| rng.bool()).collect();
        torrent.select_files(selection(&names));
        thread::sleep(Duration::from_millis(rng.u64(1..120)));
        if std::fs::read_dir(folder.join("resume")).expect("a folder").next().is_some() {
            std::fs::write(folder.join(RUNS), "").expect("room");
        }
    }
}

#[test]
fn a_kill_at_any_moment_of_a_change_loses_no_file() {
    if let (Ok(seed), Some(folder)) = (std::env::var(SEED), std::env::var_os(FOLDER)) {
        change_for_ever(seed.parse().expect("an address"), Path::new(&folder));
    }
    let it = Seeded::new(117);
    std::fs::write(it.temp.path("torrent"), it.payload.torrent("http://127.0.0.1:1/announce")).expect("room");
    std::fs::create_dir(it.temp.path("resume")).expect("a folder");
    let mut rng = fastrand::Rng::new();
    for _ in 0..12 {
        let test = "reopen::a_kill_at_any_moment_of_a_change_loses_no_file";
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", test]).env(SEED, it.addr.to_string()).env(FOLDER, it.temp.path(""));
        let mut changes = it.temp.start("changes", &mut command);
        until("it makes changes", || it.temp.path(RUNS).exists());
        thread::sleep(Duration::from_millis(rng.u64(0..700)));
        changes.signal("KILL");
        assert_eq!(changes.end_within(PATIENCE), None, "it runs for ever");
        std::fs::remove_file(it.temp.path(RUNS)).expect("it is there");
    }
    let resume = it.temp.path("resume");
    let options = options(&it.temp.path("out")).peers(vec![it.addr]).resume_folder(Some(resume));
    let torrent = client(119).add(it.metainfo.clone(), options).expect("a thread");
    until("all is complete", || is_complete(&torrent) || torrent.snapshot().stage == Stage::Stopping);
    assert!(FILES.iter().all(|(name, _)| it.has("out", name)));
    torrent.stop();
    assert_eq!(torrent.wait().expect("no error"), Outcome::StoppedComplete);
}
