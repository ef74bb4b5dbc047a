//! `--watch`: btsync starts the torrents that appear in a folder, except what is not a regular file and what a download created.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use crate::common::fleet::{Swarm, code, fleet, stderr, watching};
use crate::common::netns::{isolated, not_run};
use crate::common::payload::Payload;
use crate::common::{Stage, until};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

#[test]
fn what_appears_in_a_watched_folder_is_begun() {
    let stage = Stage::new();
    let names = ["there", "moved", "written", "linked", "magnet"];
    let [there, moved, written, linked, magnet] = names.map(|name| Swarm::new(&stage, name, usize::MAX));
    let folder = stage.folder("in");
    let at = |name: &str| folder.join(name);
    fs::copy(&there.torrent, at("there.torrent")).expect("a copy");
    fs::write(at("notes.txt"), "not for us").expect("a file");
    let mut running = watching(&stage, &["out"]);
    running.says("there: complete");
    fs::rename(&moved.torrent, at("moved.torrent")).expect("moved");
    running.says("moved: complete");
    fs::hard_link(&linked.torrent, at("linked.torrent")).expect("linked");
    running.says("linked: complete");

    let bytes = written.bytes();
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    fs::write(at("written.torrent"), first).expect("half of it");
    running.says("written.torrent: ");
    running.says("looked at again when it changes");
    assert!(!written.was_announced_to());
    let mut file = fs::OpenOptions::new().append(true).open(at("written.torrent")).expect("the file");
    file.write_all(rest).expect("the rest of it");
    drop(file);
    running.says("written: complete");

    let link = magnet.payload.magnet(&format!("&tr={}\n", magnet.tracker.url("127.0.0.1")));
    fs::write(at("link.magnet"), link).expect("a link");
    until("the link is followed", || magnet.was_announced_to());
    // Its seeder does not send metadata.
    running.signal("INT");
    running.ends_with(7);
    for swarm in [&there, &moved, &written, &linked] {
        swarm.is_at(&stage.path("out"));
    }
    assert!(at("there.torrent").is_file() && at("moved.torrent").is_file(), "nothing is done to the files");
}

#[test]
fn a_watch_that_is_stopped_when_all_is_whole_ends_with_0() {
    let stage = Stage::new();
    let swarm = Swarm::new(&stage, "one", usize::MAX);
    fs::write(stage.folder("in").join("bad.torrent"), "hello").expect("a file");
    let mut running = watching(&stage, &["one.torrent", "elsewhere"]);
    running.says("one: complete");
    running.says("bad.torrent");
    assert!(running.runs(), "it waits for more");
    running.terminate(0);
    swarm.is_at(&stage.path("elsewhere"));
    let output = fleet(&stage).args(["--watch", "nowhere"]).output().expect("btsync runs");
    assert_eq!(code(&output), Some(15), "{}", stderr(&output));
}

/// Creates a pipe without a writer.
fn make_pipe(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
}

/// Files that block or never end do not delay the others, whether they exist at the start or are swapped in.
#[test]
fn pipes_devices_and_sockets_in_a_watched_folder_are_passed_over() {
    let stage = Stage::new();
    let [gated, waiting, last] = ["gated", "waiting", "last"].map(|name| Swarm::new(&stage, name, 2));
    let folder = stage.folder("in");
    let at = |name: &str| folder.join(name);
    make_pipe(&at("a.torrent"));
    make_pipe(&stage.path("pipe"));
    for (name, target) in
        [("b.torrent", "../pipe"), ("c.magnet", "../pipe"), ("d.torrent", "/dev/zero"), ("e.torrent", ".")]
    {
        symlink(target, at(name)).expect("a link");
    }
    let _socket = UnixListener::bind(at("f.torrent")).expect("a socket");
    let mut running = watching(&stage, &["out", "--max-concurrent", "1"]);
    fs::rename(&gated.torrent, at("gated.torrent")).expect("moved");
    until("the first is under way", || gated.gate.served() == 2);
    for swarm in [&waiting, &last] {
        let name = swarm.torrent.file_name().expect("a name");
        fs::rename(&swarm.torrent, folder.join(name)).expect("moved");
    }
    // Once btsync has looked at a file that was added later, it has seen the last one too.
    fs::write(at("nonsense.torrent"), "hello").expect("a file");
    running.says("nonsense.torrent: ");
    make_pipe(&stage.path("swapped"));
    fs::rename(stage.path("swapped"), at("waiting.torrent")).expect("swapped in");
    gated.gate.open();
    last.gate.open();
    running.says("waiting.torrent: cannot be read: not a regular file any more");
    running.says("last: complete");
    assert!(!waiting.was_announced_to());
    running.terminate(15);
}

/// A torrent whose only file is itself a torrent, or contains a magnet link.
fn producer(stage: &Stage, name: &str, content: &[u8]) -> Swarm {
    Swarm::of(stage, Payload::of(name, content, 32 * 1024), usize::MAX)
}

/// Whether this file system supports extended attributes.
fn keeps_marks(folder: &Path) -> bool {
    fs::write(folder.join("attributes"), "").expect("a file");
    rustix::fs::setxattr(folder.join("attributes"), "user.btsync.test", b"1", XattrFlags::empty()).is_ok()
}

/// Removes the mark, as if the file system had no extended attributes.
fn unmark(path: &Path) {
    // Fails if the file system has none, and then there is nothing to remove.
    let _ = rustix::fs::removexattr(path, "user.btsync.downloaded");
}

/// Waits until btsync has seen everything so far: it adds another torrent and waits until that one starts.
struct Later<'a>(&'a Stage, u8);

impl Later<'_> {
    fn comes(&mut self, running: &mut crate::common::process::Running) {
        self.1 += 1;
        let swarm = Swarm::new(self.0, &format!("later{}", self.1), usize::MAX);
        let name = swarm.torrent.file_name().expect("a name");
        // Renamed in one step within the folder, so that it is complete when it appears.
        let copy = self.0.path("in/.copy");
        fs::copy(&swarm.torrent, &copy).expect("a copy");
        fs::rename(copy, self.0.path("in").join(name)).expect("moved");
        running.says(&format!("later{}: complete", self.1));
    }
}

#[test]
fn what_a_download_brings_into_the_watched_folder_is_not_begun() {
    let stage = Stage::new();
    let [inner, linked] = ["inner", "linked"].map(|name| Swarm::new(&stage, name, usize::MAX));
    let link = linked.payload.magnet(&format!("&tr={}\n", linked.tracker.url("127.0.0.1")));
    let torrent = producer(&stage, "evil.torrent", &inner.bytes());
    let magnet = producer(&stage, "evil.magnet", link.as_bytes());
    let folder = stage.folder("in");
    for (swarm, name) in [(&torrent, "x1.torrent"), (&magnet, "x2.torrent")] {
        fs::rename(&swarm.torrent, folder.join(name)).expect("moved");
    }
    let mut later = Later(&stage, 0);
    let begun = || inner.was_announced_to() || linked.was_announced_to();
    let mut running = watching(&stage, &["in"]);
    running.says("evil.torrent: complete");
    running.says("evil.magnet: complete");
    later.comes(&mut running);
    assert!(!begun(), "{}", running.log());
    running.terminate(0);

    // In the next run they exist from the start, without marks, and sort before the torrents that created them.
    unmark(&folder.join("evil.torrent"));
    unmark(&folder.join("evil.magnet"));
    let mut running = watching(&stage, &["in"]);
    later.comes(&mut running);
    assert!(!begun(), "{}", running.log());
    // A copy belongs to the user.
    fs::copy(folder.join("evil.torrent"), stage.path("copy")).expect("a copy");
    fs::rename(stage.path("copy"), folder.join("copy.torrent")).expect("moved");
    running.says("inner: complete");
    assert!(!linked.was_announced_to());
    running.terminate(0);
}

#[test]
fn files_of_a_torrent_that_runs_are_not_begun_even_without_a_mark() {
    let stage = Stage::new();
    let inner = Swarm::new(&stage, "inner", usize::MAX);
    let torrent = producer(&stage, "evil.torrent", &inner.bytes());
    let folder = stage.folder("in");
    // Named on the command line, and through another name of the folder.
    symlink("in", stage.path("same")).expect("a link");
    let mut running = watching(&stage, &[torrent.torrent.to_str().expect("a plain path"), "same"]);
    running.says("evil.torrent: complete");
    unmark(&folder.join("evil.torrent"));
    drop(fs::OpenOptions::new().append(true).open(folder.join("evil.torrent")).expect("the file"));
    symlink("evil.torrent", folder.join("link.torrent")).expect("a link");
    Later(&stage, 0).comes(&mut running);
    assert!(!inner.was_announced_to(), "{}", running.log());
    running.terminate(0);
}

#[test]
fn what_a_download_brought_is_not_begun_when_it_is_moved_there() {
    const TEST: &str = "what_a_download_brought_is_not_begun_when_it_is_moved_there";
    let stage = Stage::new();
    let folder = stage.folder("in");
    if !keeps_marks(&folder) {
        return not_run(TEST, "the file system of the temporary folder keeps no attributes");
    }
    let inner = Swarm::new(&stage, "inner", usize::MAX);
    let torrent = producer(&stage, "evil.torrent", &inner.bytes());
    let output = fleet(&stage).arg(&torrent.torrent).arg("elsewhere").output().expect("btsync runs");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let mut running = watching(&stage, &["out"]);
    fs::hard_link(stage.path("elsewhere/evil.torrent"), folder.join("linked.torrent")).expect("linked");
    symlink("../elsewhere/evil.torrent", folder.join("pointer.torrent")).expect("a link");
    Later(&stage, 0).comes(&mut running);
    fs::rename(stage.path("elsewhere/evil.torrent"), folder.join("moved.torrent")).expect("moved");
    Later(&stage, 1).comes(&mut running);
    assert!(!inner.was_announced_to(), "{}", running.log());
    running.terminate(0);
}

/// Without marks, only the download's resume data shows where the file came from.
#[test]
fn what_a_download_brought_is_not_begun_later_where_no_marks_are_kept() {
    const TEST: &str = "what_a_download_brought_is_not_begun_later_where_no_marks_are_kept";
    isolated(TEST, &["mount"], || {
        let stage = Stage::new();
        let folder = stage.folder("in");
        let mounted = Command::new("mount").args(["-t", "ramfs", "ramfs"]).arg(&folder).status();
        assert!(mounted.is_ok_and(|status| status.success()));
        assert!(!keeps_marks(&folder));
        let inner = Swarm::new(&stage, "inner", usize::MAX);
        let torrent = producer(&stage, "evil.torrent", &inner.bytes());
        let output = fleet(&stage).arg(&torrent.torrent).arg("in").output().expect("btsync runs");
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        symlink("evil.torrent", folder.join("pointer.torrent")).expect("a link");
        let mut running = watching(&stage, &["in"]);
        Later(&stage, 0).comes(&mut running);
        assert!(!inner.was_announced_to(), "{}", running.log());
        // A copy belongs to the user.
        fs::copy(folder.join("evil.torrent"), stage.path("copy")).expect("a copy");
        fs::copy(stage.path("copy"), folder.join("copy.torrent")).expect("a copy");
        running.says("inner: complete");
        running.terminate(0);
    });
}

/// On a file system that ignores case, another spelling is the same file.
#[test]
fn what_a_download_brought_is_not_begun_under_another_spelling_either() {
    const TEST: &str = "what_a_download_brought_is_not_begun_under_another_spelling_either";
    const PYTHON: &str = "/usr/bin/python3";
    let has_fuse = Command::new(PYTHON).args(["-c", "import fusepy"]).status().is_ok_and(|status| status.success());
    if !has_fuse || !Path::new("/dev/fuse").exists() {
        return not_run(TEST, "there is no FUSE, or no python3-fusepy; scripts/test-setup.sh installs it");
    }
    isolated(TEST, &[], || {
        let stage = Stage::new();
        let (mounted, backing) = (stage.folder("mounted"), stage.folder("backing"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/case_fs.py");
        let mut fs_process =
            stage.start("fs", Command::new(PYTHON).arg(script).args([&backing, &mounted]).arg("9000000"));
        until("the file system is mounted", || {
            assert!(fs_process.runs(), "{}", fs_process.log());
            fs::read_to_string("/proc/mounts").expect("procfs").contains("CaseFs")
        });
        fs::create_dir(mounted.join("in")).expect("a folder");
        symlink("mounted/in", stage.path("in")).expect("a link");
        let inner = Swarm::new(&stage, "inner", usize::MAX);
        let content = inner.bytes();
        let payload = Payload::tree("IN", &[("evil.torrent", content.len()), ("more", 100_000)], 16 * 1024);
        let payload = payload.with_first(&content);
        let outer = Swarm::of(&stage, payload, usize::MAX);
        for names in [&[outer.torrent.to_str().expect("a name"), "mounted"][..], &["elsewhere"]] {
            let mut running = watching(&stage, names);
            if names.len() > 1 {
                running.says("IN: complete");
            }
            Later(&stage, 0).comes(&mut running);
            assert!(!inner.was_announced_to(), "{}", running.log());
            running.terminate(0);
            fs::remove_file(stage.path("in/later1.torrent")).expect("it was there");
        }
    });
}
