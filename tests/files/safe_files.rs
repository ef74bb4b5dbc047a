//! btsync never changes the user's files: files with the torrent's names, longer ones, hard-linked ones, those that another
//! process is downloading. Each test runs btsync on a folder that a careless client would damage.

mod excluded;
mod not_refused;
mod replaced;
mod resumed;
mod shared;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::case_fs::{self, has_case_fs};
use crate::common::netns::{can_trace, in_network_namespace, installed, not_run};
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::seeder::{FakePeer, Gate};
use crate::common::user::User;
use crate::common::{PATIENCE, TestDir, btsync, free_port, until};

/// Bytes in a piece, which has four blocks.
const PIECE: usize = 64 * 1024;

/// A torrent, a peer that has it, and a folder.
struct DownloadTest {
    temp: TestDir,
    payload: Payload,
    gate: Arc<Gate>,
    peer: FakePeer,
    out: PathBuf,
}

impl DownloadTest {
    /// A test whose peer serves `blocks` blocks.
    fn new(payload: Payload, blocks: usize) -> DownloadTest {
        let (temp, gate) = (TestDir::new(), Gate::new(0));
        let peer = FakePeer::honest(&payload, &gate);
        gate.grant(blocks);
        let out = temp.folder("out");
        DownloadTest { temp, payload, gate, peer, out }
    }

    /// A test with a single file of 20 pieces.
    fn single(blocks: usize) -> DownloadTest {
        DownloadTest::new(Payload::single("payload.bin", 20 * PIECE - 77, PIECE), blocks)
    }

    fn file(&self) -> PathBuf {
        self.out.join("payload.bin")
    }

    fn marker(&self) -> PathBuf {
        self.out.join(format!(".{}.btsync", self.payload.hex()))
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = btsync();
        command.arg(self.temp.torrent(&self.payload, "http://127.0.0.1:9/announce")).arg(&self.out);
        command.args(["--no-dht", "--no-lsd", "--bt-exclude-tracker", "*", "--peer", &self.peer.addr.to_string()]);
        command.args(["--listen-port", &free_port().to_string()]).args(more);
        command.env("XDG_CACHE_HOME", self.temp.path("cache"));
        command
    }

    fn start(&self, name: &str, more: &[&str]) -> Running {
        self.temp.start(name, &mut self.command(more))
    }

    /// The download must end with this code and its last line contain these words, without a request to the peer or a change on
    /// disk.
    fn refuses(&self, code: i32, words: &[&str]) {
        let (before, served) = (snapshot(&self.out), self.gate.served());
        let mut refused = self.start("refused", &[]);
        refused.expect_exit(code);
        let said = refused.log();
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("btsync: ") && words.iter().all(|word| last.contains(word)), "{said}");
        assert_eq!(snapshot(&self.out), before, "something was touched");
        assert_eq!(self.gate.served(), served, "a peer was asked first");
    }

    fn completes(&self, more: &[&str]) -> String {
        self.gate.open();
        let mut running = self.start("completes", more);
        running.expect_exit(0);
        assert_eq!(self.payload.difference(&self.out), None);
        assert!(!self.marker().exists(), "the marker of a complete download");
        running.log()
    }

    /// A download that has received the granted blocks and waits for more.
    fn begun(&self, blocks: usize) -> Running {
        let running = self.start("begun", &[]);
        until("some is there", || self.gate.served() == blocks && self.payload.right_pieces(&self.out) == blocks / 4);
        running
    }
}

fn kill(mut running: Running) {
    running.signal("KILL");
    assert_eq!(running.end_within(PATIENCE), None);
}

/// Everything below a folder: content, and times of the last change.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, i64, i64, u64)> {
    let mut all = BTreeMap::new();
    let found = fs::symlink_metadata(folder).expect("a folder");
    all.insert(folder.to_owned(), (Vec::new(), found.ctime(), found.ctime_nsec(), found.ino()));
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(snapshot(&path));
        } else {
            let found = fs::symlink_metadata(&path).expect("a file");
            let content = fs::read(&path).expect("a file");
            all.insert(path, (content, found.ctime(), found.ctime_nsec(), found.ino()));
        }
    }
    all
}

/// Writes some pieces into a file of the full length, with holes elsewhere.
fn write_pieces(test: &DownloadTest, pieces: &[usize]) {
    let content = test.payload.content();
    let file = File::create(test.file()).expect("a file");
    file.set_len(content.len() as u64).expect("a length");
    for piece in pieces {
        let range = piece * PIECE..((piece + 1) * PIECE).min(content.len());
        file.write_all_at(&content[range.clone()], range.start as u64).expect("room");
    }
}

fn spoil(test: &DownloadTest, pieces: &[usize]) {
    let file = File::options().write(true).open(test.file()).expect("the file");
    for piece in pieces {
        file.write_all_at(b"mine, not the torrent's", (piece * PIECE) as u64).expect("room");
    }
}

/// The user overwrites most of a complete file and appends to it.
fn overwrite_as_user(path: &Path) {
    let file = File::options().write(true).open(path).expect("the file");
    let length = file.metadata().expect("the file").len();
    file.write_all_at(&vec![b'x'; length as usize * 3 / 4], 0).expect("room");
    file.write_all_at(b"my notes", length).expect("room");
}

#[test]
fn a_torrent_with_an_empty_file_does_not_empty_the_users() {
    let payload = Payload::tree("Documents", &[("letter.txt", 70_000), ("thesis.odt", 0)], PIECE);
    let test = DownloadTest::new(payload, 0);
    fs::create_dir(test.out.join("Documents")).expect("a folder");
    let thesis = test.out.join("Documents/thesis.odt");
    fs::write(&thesis, "five years of work").expect("room");
    test.refuses(13, &["Documents/thesis.odt", "--overwrite"]);
    // An empty file already matches the torrent.
    fs::write(&thesis, "").expect("room");
    test.completes(&[]);
}

#[test]
fn files_of_the_torrents_names_are_left_alone_unless_the_user_gives_them() {
    for (size, option) in [(20 * PIECE - 77, "--overwrite"), (1000, "--allow-overwrite"), (30 * PIECE, "--overwrite")] {
        let test = DownloadTest::single(0);
        fs::write(test.file(), vec![b'x'; size]).expect("room");
        test.refuses(13, &["payload.bin", "--overwrite"]);
        test.completes(&[option]);
    }
}

#[test]
fn one_file_in_the_way_keeps_all_others_from_being_made() {
    let test =
        DownloadTest::new(Payload::tree("many", &[("a/1", 100_000), ("b/2", 100_000), ("c/3", 100_000)], PIECE), 0);
    fs::create_dir_all(test.out.join("many/c")).expect("folders");
    fs::write(test.out.join("many/c/3"), "mine").expect("room");
    test.refuses(13, &["many/c/3"]);
    assert!(!test.out.join("many/a").exists());
}

#[test]
fn a_complete_file_with_appended_data_is_used_as_it_is_and_an_incomplete_one_is_not_touched() {
    let test = DownloadTest::single(0);
    test.payload.write_files(&test.out);
    let mut log = File::options().append(true).open(test.file()).expect("the file");
    log.write_all(b"Nov 27 04:00:00 host: appended\n").expect("room");
    let before = snapshot(&test.out);
    let mut seeded = test.start("seeded", &[]);
    seeded.expect_exit(0);
    assert!(seeded.log().contains("payload.bin is 31 bytes longer than the torrent says"), "{}", seeded.log());
    assert_eq!(snapshot(&test.out), before);
    spoil(&test, &[3]);
    test.refuses(13, &["payload.bin", "longer"]);
}

/// A complete download that the user has changed since.
fn completed_then_edited(edit: &dyn Fn(&DownloadTest)) -> DownloadTest {
    let test = DownloadTest::single(0);
    test.completes(&[]);
    edit(&test);
    test
}

/// What a user does to the files.
type UserEdit<'a> = &'a dyn Fn(&DownloadTest);

/// btsync reports the damaged pieces before it replaces them.
#[test]
fn a_complete_file_that_was_edited_is_repaired_only_if_most_of_it_is_right() {
    let resize = |test: &DownloadTest, size: usize| {
        let file = File::options().write(true).open(test.file()).expect("the file");
        file.set_len(size as u64).expect("a length");
    };
    let mended: [(UserEdit<'_>, &str, usize); 4] = [
        (&|test| spoil(test, &[3]), "1 of its 20 pieces does not verify and is downloaded again", 1),
        (&|test| spoil(test, &[3, 7, 19]), "3 of its 20 pieces do not verify and are downloaded again", 3),
        (&|test| resize(test, 12 * PIECE + 1000), "8 of its 20 pieces do not verify and are downloaded again", 8),
        // The last piece is followed by the user's zeros, which btsync truncates.
        (
            &|test| {
                spoil(test, &[19]);
                resize(test, 25 * PIECE);
            },
            "1 of its 20 pieces does not verify and is downloaded again",
            1,
        ),
    ];
    for (edit, words, pieces) in mended {
        // With the resume data of the complete download, and without.
        for forgotten in [false, true] {
            let test = completed_then_edited(edit);
            if forgotten {
                fs::remove_dir_all(test.temp.path("cache")).expect("a cache");
            }
            let served = test.gate.served();
            let said = test.completes(&[]);
            assert!(said.contains(&format!("payload.bin existed before: {words}\n")), "{said}");
            assert_eq!(test.gate.served() - served, pieces * 4);
        }
    }
    // In an unfinished download btsync replaces only its own data, and reports nothing.
    let test = DownloadTest::single(8);
    kill(test.begun(8));
    assert!(!test.completes(&[]).contains("existed before"));
}

#[test]
fn a_complete_file_of_which_too_much_was_edited_since_is_left_alone() {
    let append = |test: &DownloadTest| {
        let mut file = File::options().append(true).open(test.file()).expect("the file");
        file.write_all(b"mine").expect("room");
    };
    let refused: [(UserEdit<'_>, &str); 4] = [
        (&|test| spoil(test, &(0..10).collect::<Vec<_>>()), "too few of its pieces verify"),
        (&|test| fs::write(test.file(), "rewritten").expect("room"), "too few of its pieces verify"),
        (&|test| (append(test), spoil(test, &[3])).1, "longer than the torrent says"),
        // Bytes inserted at the front shift all others.
        (
            &|test| {
                let content = [b"mine", &*fs::read(test.file()).expect("the file")].concat();
                fs::write(test.file(), content).expect("room");
            },
            "longer than the torrent says",
        ),
    ];
    for (edit, words) in refused {
        let test = completed_then_edited(edit);
        test.refuses(13, &["payload.bin", words, "--overwrite"]);
        fs::remove_dir_all(test.temp.path("cache")).expect("a cache");
        test.refuses(13, &["payload.bin", words, "--overwrite"]);
    }
}

#[test]
fn zeros_behind_the_end_are_nobodys_data() {
    let test = DownloadTest::single(0);
    write_pieces(&test, &[0, 1, 2]);
    File::options().write(true).open(test.file()).expect("the file").set_len(21 * PIECE as u64).expect("a length");
    assert!(test.completes(&[]).contains("too long: truncated"));
}

#[test]
fn a_file_with_other_names_is_read_and_never_written() {
    let test = DownloadTest::single(0);
    test.payload.write_files(&test.out);
    let other = test.temp.path("library.bin");
    fs::hard_link(test.file(), &other).expect("a link");
    let before = snapshot(&test.out);
    test.start("seeded", &[]).expect_exit(0);
    assert_eq!(snapshot(&test.out), before);
    // One piece is wrong. Most pieces verify, but btsync still must not write to a file with other hard links.
    spoil(&test, &[7]);
    let (content, inode) = (fs::read(&other).expect("it"), fs::metadata(&other).expect("it").ino());
    test.refuses(13, &["payload.bin", "hard links", "--overwrite"]);
    test.completes(&["--overwrite"]);
    assert_eq!(test.gate.served(), 4, "right pieces were downloaded again");
    assert!(fs::read(&other).expect("it") == content, "the other name has changed");
    assert_eq!(fs::metadata(&other).expect("it").ino(), inode);
    assert_ne!(fs::metadata(test.file()).expect("it").ino(), inode);
    assert_eq!(fs::read_dir(&test.out).expect("it").count(), 1);
}

/// Three files: the second shares one piece with the end of the first and the start of the third.
fn neighbours() -> Payload {
    Payload::tree("three", &[("a", PIECE + 40_000), ("b", 9_000), ("c", 3 * PIECE)], PIECE)
}

#[test]
fn neighbours_of_a_missing_file_are_compared_and_not_written_to() {
    for killed in [false, true] {
        let test = DownloadTest::new(neighbours(), 0);
        test.payload.write_files(&test.out);
        let [a, b, c] = ["a", "b", "c"].map(|name| test.out.join("three").join(name));
        let library = test.temp.path("library");
        fs::hard_link(&b, &library).expect("a link");
        fs::remove_file(&a).expect("a");
        let before =
            [&b, &c].map(|path| fs::metadata(path).expect("a file")).map(|it| (it.mtime(), it.mtime_nsec(), it.ino()));
        if killed {
            test.gate.grant(6);
            let running = test.start("begun", &[]);
            until("some is served", || test.gate.served() == 6);
            kill(running);
            fs::remove_dir_all(test.temp.path("cache")).expect("a cache");
        }
        test.completes(&[]);
        let after = fs::metadata(&b).expect("b");
        assert_eq!((after.mtime(), after.mtime_nsec(), after.ino()), before[0], "b was written to");
        assert_eq!(fs::read_dir(&test.out).expect("it").count(), 1, "the part file is needed no more");
        test.completes(&[]);
    }
}

#[test]
fn a_neighbour_that_turns_out_to_differ_ends_the_download_and_stays_as_it_is() {
    let test = DownloadTest::new(neighbours(), 0);
    test.payload.write_files(&test.out);
    let [a, b] = ["a", "b"].map(|name| test.out.join("three").join(name));
    fs::remove_file(&a).expect("a");
    fs::write(&b, vec![b'x'; 9_000]).expect("room");
    test.gate.open();
    for _ in 0..2 {
        let mut running = test.start("differs", &[]);
        running.expect_exit(13);
        let said = running.log();
        assert!(said.contains("three/b: it existed before and differs from the torrent"), "{said}");
        assert!(fs::read(&b).expect("b") == vec![b'x'; 9_000]);
    }
    test.completes(&["--overwrite"]);
}

#[test]
fn a_file_of_another_client_is_resumed_if_more_pieces_are_right_than_wrong() {
    let test = DownloadTest::single(0);
    write_pieces(&test, &[0, 4, 9]);
    spoil(&test, &[1, 2, 3]);
    test.refuses(13, &["payload.bin"]);
    write_pieces(&test, &[0, 4, 9]);
    spoil(&test, &[1, 2]);
    test.completes(&[]);
    assert_eq!(test.gate.served(), 17 * 4);
}

#[test]
fn zeros_prove_nothing() {
    // A torrent of zeros except for its last piece, and a file with data where the torrent has zeros.
    let test = DownloadTest::single(0);
    let content = vec![0; test.payload.content().len()];
    fs::write(test.file(), &content).expect("room");
    test.completes(&[]);
    assert_eq!(test.gate.served(), 20 * 4, "a file of zeros is as good as none");
}
