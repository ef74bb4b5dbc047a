//! `--watch`: btsync starts the torrents that appear in a folder, except what is not a regular file and what a download created.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use crate::common::batch::{Swarm, code, offline_btsync, stderr, watching};
use crate::common::case_fs::{self, has_case_fs};
use crate::common::netns::{in_network_namespace, not_run};
use crate::common::payload::Payload;
use crate::common::{TestDir, until};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

#[test]
fn torrents_in_a_watched_folder_are_started() {
    let temp = TestDir::new();
    let names = ["there", "moved", "written", "linked", "magnet"];
    let [there, moved, written, linked, magnet] = names.map(|name| Swarm::new(&temp, name, usize::MAX));
    let folder = temp.folder("in");
    let at = |name: &str| folder.join(name);
    fs::copy(&there.torrent, at("there.torrent")).expect("a copy");
    fs::write(at("notes.txt"), "not for us").expect("a file");
    let mut running = watching(&temp, &["out"]);
    running.wait_for_output("there: complete");
    fs::rename(&moved.torrent, at("moved.torrent")).expect("moved");
    running.wait_for_output("moved: complete");
    fs::hard_link(&linked.torrent, at("linked.torrent")).expect("linked");
    running.wait_for_output("linked: complete");

    let bytes = written.bytes();
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    fs::write(at("written.torrent"), first).expect("half of it");
    running.wait_for_output("written.torrent: ");
    running.wait_for_output("btsync reads it again when it changes");
    assert!(!written.has_announces());
    let mut file = fs::OpenOptions::new().append(true).open(at("written.torrent")).expect("the file");
    file.write_all(rest).expect("the rest of it");
    drop(file);
    running.wait_for_output("written: complete");

    let link = magnet.payload.magnet(&format!("&tr={}\n", magnet.tracker.url("127.0.0.1")));
    fs::write(at("link.magnet"), link).expect("a link");
    until("the link is followed", || magnet.has_announces());
    // Its seeder does not send metadata.
    running.signal("INT");
    running.expect_exit(7);
    for swarm in [&there, &moved, &written, &linked] {
        swarm.assert_complete_in(&temp.path("out"));
    }
    assert!(at("there.torrent").is_file() && at("moved.torrent").is_file(), "nothing is done to the files");
}

#[test]
fn a_watch_that_is_stopped_when_all_is_whole_ends_with_0() {
    let temp = TestDir::new();
    let swarm = Swarm::new(&temp, "one", usize::MAX);
    fs::write(temp.folder("in").join("bad.torrent"), "hello").expect("a file");
    let mut running = watching(&temp, &["one.torrent", "elsewhere"]);
    running.wait_for_output("one: complete");
    running.wait_for_output("bad.torrent");
    assert!(running.is_running(), "it waits for more");
    running.terminate(0);
    swarm.assert_complete_in(&temp.path("elsewhere"));
    let output = offline_btsync(&temp).args(["--watch", "nowhere"]).output().expect("btsync runs");
    assert_eq!(code(&output), Some(15), "{}", stderr(&output));
}

/// Creates a pipe without a writer.
fn make_pipe(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
}

/// Files that block or never end do not delay the others, whether they exist at the start or are swapped in.
#[test]
fn pipes_devices_and_sockets_in_a_watched_folder_are_passed_over() {
    let temp = TestDir::new();
    let [gated, waiting, last] = ["gated", "waiting", "last"].map(|name| Swarm::new(&temp, name, 2));
    let folder = temp.folder("in");
    let at = |name: &str| folder.join(name);
    make_pipe(&at("a.torrent"));
    make_pipe(&temp.path("pipe"));
    for (name, target) in
        [("b.torrent", "../pipe"), ("c.magnet", "../pipe"), ("d.torrent", "/dev/zero"), ("e.torrent", ".")]
    {
        symlink(target, at(name)).expect("a link");
    }
    let _socket = UnixListener::bind(at("f.torrent")).expect("a socket");
    let mut running = watching(&temp, &["out", "--max-concurrent", "1"]);
    fs::rename(&gated.torrent, at("gated.torrent")).expect("moved");
    until("the first is under way", || gated.gate.served() == 2);
    for swarm in [&waiting, &last] {
        let name = swarm.torrent.file_name().expect("a name");
        fs::rename(&swarm.torrent, folder.join(name)).expect("moved");
    }
    // Once btsync has looked at a file that was added later, it has seen the last one too.
    fs::write(at("nonsense.torrent"), "hello").expect("a file");
    running.wait_for_output("nonsense.torrent: ");
    make_pipe(&temp.path("swapped"));
    fs::rename(temp.path("swapped"), at("waiting.torrent")).expect("swapped in");
    gated.gate.open();
    last.gate.open();
    running.wait_for_output("waiting.torrent: cannot be read: it is no longer a regular file");
    running.wait_for_output("last: complete");
    assert!(!waiting.has_announces());
    running.terminate(15);
}

/// A torrent whose only file is itself a torrent, or contains a magnet link.
fn torrent_containing(temp: &TestDir, name: &str, content: &[u8]) -> Swarm {
    Swarm::with_payload(temp, Payload::of(name, content, 32 * 1024), usize::MAX)
}

/// Whether this file system supports extended attributes.
fn keeps_marks(folder: &Path) -> bool {
    fs::write(folder.join("attributes"), "").expect("a file");
    rustix::fs::setxattr(folder.join("attributes"), "user.btsync.test", b"1", XattrFlags::empty()).is_ok()
}

/// Removes the mark, as if the file system had no extended attributes.
fn remove_mark(path: &Path) {
    // Fails if the file system has none, and then there is nothing to remove.
    let _ = rustix::fs::removexattr(path, "user.btsync.downloaded");
}

/// Waits until btsync has seen everything so far: it adds another torrent and waits until that one starts.
struct NextTorrent<'a>(&'a TestDir, u8);

impl NextTorrent<'_> {
    fn wait_until_started(&mut self, running: &mut crate::common::process::Running) {
        self.1 += 1;
        let swarm = Swarm::new(self.0, &format!("later{}", self.1), usize::MAX);
        let name = swarm.torrent.file_name().expect("a name");
        // Renamed in one step within the folder, so that it is complete when it appears.
        let copy = self.0.path("in/.copy");
        fs::copy(&swarm.torrent, &copy).expect("a copy");
        fs::rename(copy, self.0.path("in").join(name)).expect("moved");
        running.wait_for_output(&format!("later{}: complete", self.1));
    }
}

#[test]
fn torrents_among_a_downloads_files_are_not_started() {
    let temp = TestDir::new();
    let [inner, linked] = ["inner", "linked"].map(|name| Swarm::new(&temp, name, usize::MAX));
    let link = linked.payload.magnet(&format!("&tr={}\n", linked.tracker.url("127.0.0.1")));
    let torrent = torrent_containing(&temp, "evil.torrent", &inner.bytes());
    let magnet = torrent_containing(&temp, "evil.magnet", link.as_bytes());
    let folder = temp.folder("in");
    for (swarm, name) in [(&torrent, "x1.torrent"), (&magnet, "x2.torrent")] {
        fs::rename(&swarm.torrent, folder.join(name)).expect("moved");
    }
    let mut next = NextTorrent(&temp, 0);
    let begun = || inner.has_announces() || linked.has_announces();
    let mut running = watching(&temp, &["in"]);
    running.wait_for_output("evil.torrent: complete");
    running.wait_for_output("evil.magnet: complete");
    next.wait_until_started(&mut running);
    assert!(!begun(), "{}", running.log());
    running.terminate(0);

    // In the next run they exist from the start, without marks, and sort before the torrents that created them.
    remove_mark(&folder.join("evil.torrent"));
    remove_mark(&folder.join("evil.magnet"));
    let mut running = watching(&temp, &["in"]);
    next.wait_until_started(&mut running);
    assert!(!begun(), "{}", running.log());
    // A copy belongs to the user.
    fs::copy(folder.join("evil.torrent"), temp.path("copy")).expect("a copy");
    fs::rename(temp.path("copy"), folder.join("copy.torrent")).expect("moved");
    running.wait_for_output("inner: complete");
    assert!(!linked.has_announces());
    running.terminate(0);
}

#[test]
fn files_of_a_torrent_that_runs_are_not_begun_even_without_a_mark() {
    let temp = TestDir::new();
    let inner = Swarm::new(&temp, "inner", usize::MAX);
    let torrent = torrent_containing(&temp, "evil.torrent", &inner.bytes());
    let folder = temp.folder("in");
    // Named on the command line, and through another name of the folder.
    symlink("in", temp.path("same")).expect("a link");
    let mut running = watching(&temp, &[torrent.torrent.to_str().expect("a plain path"), "same"]);
    running.wait_for_output("evil.torrent: complete");
    remove_mark(&folder.join("evil.torrent"));
    drop(fs::OpenOptions::new().append(true).open(folder.join("evil.torrent")).expect("the file"));
    symlink("evil.torrent", folder.join("link.torrent")).expect("a link");
    NextTorrent(&temp, 0).wait_until_started(&mut running);
    assert!(!inner.has_announces(), "{}", running.log());
    running.terminate(0);
}

#[test]
fn a_downloaded_torrent_is_not_started_when_it_is_moved_into_the_watched_folder() {
    const TEST: &str = "a_downloaded_torrent_is_not_started_when_it_is_moved_into_the_watched_folder";
    let temp = TestDir::new();
    let folder = temp.folder("in");
    if !keeps_marks(&folder) {
        return not_run(TEST, "the file system of the temporary folder keeps no attributes");
    }
    let inner = Swarm::new(&temp, "inner", usize::MAX);
    let torrent = torrent_containing(&temp, "evil.torrent", &inner.bytes());
    let output = offline_btsync(&temp).arg(&torrent.torrent).arg("elsewhere").output().expect("btsync runs");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let mut running = watching(&temp, &["out"]);
    fs::hard_link(temp.path("elsewhere/evil.torrent"), folder.join("linked.torrent")).expect("linked");
    symlink("../elsewhere/evil.torrent", folder.join("pointer.torrent")).expect("a link");
    NextTorrent(&temp, 0).wait_until_started(&mut running);
    fs::rename(temp.path("elsewhere/evil.torrent"), folder.join("moved.torrent")).expect("moved");
    NextTorrent(&temp, 1).wait_until_started(&mut running);
    assert!(!inner.has_announces(), "{}", running.log());
    running.terminate(0);
}

/// Without marks, only the download's resume data shows where the file came from.
#[test]
fn a_downloaded_torrent_is_not_started_later_without_extended_attributes() {
    const TEST: &str = "a_downloaded_torrent_is_not_started_later_without_extended_attributes";
    in_network_namespace(TEST, &["mount"], || {
        let temp = TestDir::new();
        let folder = temp.folder("in");
        let mounted = Command::new("mount").args(["-t", "ramfs", "ramfs"]).arg(&folder).status();
        assert!(mounted.is_ok_and(|status| status.success()));
        assert!(!keeps_marks(&folder));
        let inner = Swarm::new(&temp, "inner", usize::MAX);
        let torrent = torrent_containing(&temp, "evil.torrent", &inner.bytes());
        let output = offline_btsync(&temp).arg(&torrent.torrent).arg("in").output().expect("btsync runs");
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        symlink("evil.torrent", folder.join("pointer.torrent")).expect("a link");
        let mut running = watching(&temp, &["in"]);
        NextTorrent(&temp, 0).wait_until_started(&mut running);
        assert!(!inner.has_announces(), "{}", running.log());
        // A copy belongs to the user.
        fs::copy(folder.join("evil.torrent"), temp.path("copy")).expect("a copy");
        fs::copy(temp.path("copy"), folder.join("copy.torrent")).expect("a copy");
        running.wait_for_output("inner: complete");
        running.terminate(0);
    });
}

/// On a file system that ignores case, another spelling is the same file.
#[test]
fn a_downloaded_torrent_is_not_started_under_another_spelling() {
    const TEST: &str = "a_downloaded_torrent_is_not_started_under_another_spelling";
    if !has_case_fs(TEST) {
        return;
    }
    in_network_namespace(TEST, &[], || {
        let temp = TestDir::new();
        let (mounted, backing) = (temp.folder("mounted"), temp.folder("backing"));
        let _mounted = case_fs::mount(&temp, &mounted, &backing, 9_000_000);
        fs::create_dir(mounted.join("in")).expect("a folder");
        symlink("mounted/in", temp.path("in")).expect("a link");
        let inner = Swarm::new(&temp, "inner", usize::MAX);
        let content = inner.bytes();
        let payload = Payload::tree("IN", &[("evil.torrent", content.len()), ("more", 100_000)], 16 * 1024);
        let payload = payload.with_first(&content);
        let outer = Swarm::with_payload(&temp, payload, usize::MAX);
        for names in [&[outer.torrent.to_str().expect("a name"), "mounted"][..], &["elsewhere"]] {
            let mut running = watching(&temp, names);
            if names.len() > 1 {
                running.wait_for_output("IN: complete");
            }
            NextTorrent(&temp, 0).wait_until_started(&mut running);
            assert!(!inner.has_announces(), "{}", running.log());
            running.terminate(0);
            fs::remove_file(temp.path("in/later1.torrent")).expect("it was there");
        }
    });
}

/// More files than wait for the scheduler at a time.
#[test]
fn all_of_a_hundred_files_in_a_watched_folder_are_read() {
    let temp = TestDir::new();
    let swarm = Swarm::new(&temp, "last", usize::MAX);
    let folder = temp.folder("in");
    for n in 0..100 {
        fs::write(folder.join(format!("{n:02}.torrent")), "hello").expect("a file");
    }
    fs::copy(&swarm.torrent, folder.join("last.torrent")).expect("a copy");
    let mut running = watching(&temp, &["out"]);
    running.wait_for_output("last: complete");
    assert_eq!((0..100).find(|n| !running.log().contains(&format!("{n:02}.torrent: "))), None);
    running.terminate(0);
}
