//! btsync never changes the user's files: files with the torrent's names, longer ones, hard-linked ones, those that another
//! process is downloading. Each test runs btsync on a folder that a careless client would damage.

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
use crate::common::netns::{in_network_namespace, installed, not_run};
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
fn a_complete_file_that_was_edited_since_is_mended_only_where_most_of_it_is_right() {
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
            assert!(said.contains(&format!("payload.bin was there before: {words}\n")), "{said}");
            assert_eq!(test.gate.served() - served, pieces * 4);
        }
    }
    // In an unfinished download btsync replaces only its own data, and reports nothing.
    let test = DownloadTest::single(8);
    kill(test.begun(8));
    assert!(!test.completes(&[]).contains("was there before"));
}

#[test]
fn a_complete_file_of_which_too_much_was_edited_since_is_left_alone() {
    let append = |test: &DownloadTest| {
        let mut file = File::options().append(true).open(test.file()).expect("the file");
        file.write_all(b"mine").expect("room");
    };
    let refused: [(UserEdit<'_>, &str); 4] = [
        (&|test| spoil(test, &(0..10).collect::<Vec<_>>()), "most of it is not from this torrent"),
        (&|test| fs::write(test.file(), "rewritten").expect("room"), "most of it is not from this torrent"),
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
    assert!(test.completes(&[]).contains("too long: cut"));
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
    assert_eq!(test.gate.served(), 4, "what was right was copied");
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
fn a_neighbour_that_turns_out_to_differ_ends_it_and_stays_as_it_is() {
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
        assert!(said.contains("three/b: it was there before and is not as the torrent has it"), "{said}");
        assert!(fs::read(&b).expect("b") == vec![b'x'; 9_000]);
    }
    test.completes(&["--overwrite"]);
}

#[test]
fn what_another_client_left_is_gone_on_with_where_more_pieces_are_right_than_wrong() {
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

#[test]
fn the_marker_or_the_resume_data_alone_is_enough_to_resume() {
    for lost in ["marker", "cache"] {
        let files = [("a", 5 * PIECE), ("b", 5 * PIECE)];
        let test = DownloadTest::new(Payload::tree("two", &files, PIECE), 6);
        let mut running = test.start("begun", &["--sequential"]);
        until("a piece and a half are there", || test.gate.served() == 6 && test.payload.right_pieces(&test.out) == 1);
        until("the half is", || fs::read(test.out.join("two/a")).expect("a")[PIECE..].iter().any(|byte| *byte != 0));
        if lost == "marker" {
            // The resume data describes the files at the stop, and nobody has changed them since.
            running.terminate(7);
            fs::remove_file(test.marker()).expect("a marker");
        } else {
            // Data of an unfinished piece, in a file in which no piece verifies.
            let b = File::options().write(true).open(test.out.join("two/b")).expect("b");
            b.write_all_at(&[7; 1000], 0).expect("room");
            kill(running);
            fs::remove_dir_all(test.temp.path("cache")).expect("a cache");
        }
        test.completes(&[]);
    }
}

#[test]
fn where_both_are_lost_or_the_record_is_out_of_date_the_pieces_tell() {
    for both in [true, false] {
        let test = DownloadTest::single(8);
        let running = test.begun(8);
        kill(running);
        fs::remove_file(test.marker()).expect("a marker");
        if both {
            fs::remove_dir_all(test.temp.path("cache")).expect("a cache");
        }
        test.completes(&[]);
    }
}

/// The user overwrites most of a complete file and appends to it.
fn overwrite_as_user(path: &Path) {
    let file = File::options().write(true).open(path).expect("the file");
    let length = file.metadata().expect("the file").len();
    file.write_all_at(&vec![b'x'; length as usize * 3 / 4], 0).expect("room");
    file.write_all_at(b"my notes", length).expect("room");
}

/// Resume data of the unfinished download survives its completion by another process that did not know of the data.
#[test]
fn a_record_from_before_the_completion_makes_nothing_ours() {
    for killed in [false, true] {
        let test = DownloadTest::single(8);
        let mut running = test.begun(8);
        if killed {
            kill(running);
        } else {
            running.terminate(7);
        }
        test.gate.open();
        let mut elsewhere = test.command(&[]);
        elsewhere.env("XDG_CACHE_HOME", test.temp.path("another"));
        test.temp.start("elsewhere", &mut elsewhere).expect_exit(0);
        assert!(!test.marker().exists());
        overwrite_as_user(&test.file());
        test.refuses(13, &["payload.bin"]);
    }
}

#[test]
fn a_process_that_is_killed_after_the_completion_leaves_nothing_that_makes_the_file_ours() {
    let test = DownloadTest::single(8);
    let running = test.start("seeds", &["--seed"]);
    until("some is there", || test.payload.right_pieces(&test.out) == 2);
    test.gate.open();
    until("it is complete", || !test.marker().exists() && test.payload.difference(&test.out).is_none());
    kill(running);
    overwrite_as_user(&test.file());
    test.refuses(13, &["payload.bin"]);
}

#[test]
fn a_file_that_is_complete_is_the_users_while_others_of_the_torrent_are_not() {
    let test = DownloadTest::new(Payload::tree("two", &[("a", 5 * PIECE), ("b", 5 * PIECE)], PIECE), 8);
    kill(test.begun(8));
    test.gate.open();
    for _ in 0..2 {
        test.start("a", &["--select", "a"]).expect_exit(0);
        assert!(test.marker().exists(), "for the other file");
    }
    overwrite_as_user(&test.out.join("two/a"));
    test.refuses(13, &["two/a"]);
}

/// A download of two files, the first complete and the second not.
fn half_done() -> (DownloadTest, Running, PathBuf) {
    let test = DownloadTest::new(Payload::tree("two", &[("a", 5 * PIECE), ("b", 5 * PIECE)], PIECE), 24);
    let running = test.start("begun", &["--sequential"]);
    until("the first is there", || test.gate.served() == 24 && test.payload.right_pieces(&test.out) == 6);
    let a = test.out.join("two/a");
    (test, running, a)
}

#[test]
fn a_complete_file_of_a_download_that_was_stopped_or_killed_is_the_users() {
    for killed in [false, true] {
        for edit in ["rewritten", "shorter", "tagged in a library"] {
            let (test, mut running, a) = half_done();
            if killed {
                kill(running);
            } else {
                running.terminate(7);
            }
            let file = File::options().write(true).open(&a).expect("a");
            match edit {
                "rewritten" => file.write_all_at(&vec![b'x'; 5 * PIECE], 0).expect("room"),
                "shorter" => fs::write(&a, "five years of work").expect("room"),
                _ => {
                    fs::hard_link(&a, test.temp.path("library")).expect("a link");
                    file.write_all_at(b"my tags", 0).expect("room");
                }
            }
            test.refuses(13, &["two/a"]);
        }
    }
}

#[test]
fn a_document_saved_over_what_was_given_up_is_the_users() {
    for length in [17_000, 20 * PIECE - 77, 25 * PIECE] {
        let test = DownloadTest::single(0);
        let mut running = test.start("begun", &[]);
        until("it is made", || fs::metadata(test.marker()).is_ok_and(|marker| marker.len() > 0));
        running.terminate(7);
        let made = fs::metadata(test.file()).expect("it").ino();
        fs::write(test.file(), vec![b'x'; length]).expect("room");
        assert_eq!(fs::metadata(test.file()).expect("it").ino(), made, "saved in place");
        test.refuses(13, &["payload.bin"]);
    }
}

/// Puts data into a file in place that could be of partly downloaded pieces, with a time of long ago: as `cp -p` does.
fn copy_over_keeping_the_time(path: &Path) {
    let length = fs::metadata(path).expect("the file").len() as usize;
    let mut data = vec![b'x'; length];
    data.chunks_mut(PIECE).for_each(|piece| piece[8192..12_288].fill(0));
    let file = File::options().write(true).open(path).expect("the file");
    file.write_all_at(&data, 0).expect("room");
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(300_000);
    file.set_modified(long_ago).expect("a time");
}

#[test]
fn a_users_file_that_keeps_its_time_is_the_users() {
    let test = DownloadTest::single(0);
    let mut running = test.start("begun", &[]);
    until("it is made", || fs::metadata(test.marker()).is_ok_and(|marker| marker.len() > 0));
    running.terminate(7);
    copy_over_keeping_the_time(&test.file());
    test.refuses(13, &["payload.bin", "most of it"]);
}

/// What makes a complete file the user's lasts longer than the resume data, and longer than runs that do not want the file.
#[test]
fn a_complete_file_that_was_changed_is_the_users_also_without_a_record_and_after_other_runs() {
    let (test, mut running, a) = half_done();
    running.terminate(7);
    copy_over_keeping_the_time(&a);
    let before = fs::metadata(test.marker()).expect("a marker").ino();
    let mut other = test.start("other", &["--select", "b"]);
    until("the marker is another", || fs::metadata(test.marker()).is_ok_and(|marker| marker.ino() != before));
    other.terminate(7);
    fs::remove_dir_all(test.temp.path("cache")).expect("the resume data");
    test.refuses(13, &["two/a"]);
}

#[test]
fn an_edit_of_a_file_that_is_yet_to_come_is_noticed_when_the_run_ends() {
    let (test, mut running, a) = half_done();
    copy_over_keeping_the_time(&a.with_file_name("b"));
    running.terminate(7);
    test.refuses(13, &["two/b"]);
}

#[test]
fn what_one_run_has_refused_the_next_one_refuses_too() {
    let (test, mut running, a) = half_done();
    let file = File::options().write(true).open(&a).expect("a");
    let now = std::time::SystemTime::now();
    while file.metadata().expect("a").modified().expect("a time") <= now {
        file.write_all_at(b"mine", 0).expect("room");
    }
    test.gate.open();
    running.expect_exit(13);
    test.refuses(13, &["two/a", "has changed it during the download"]);
    let mut given = test.start("given", &["--overwrite"]);
    given.expect_exit(0);
    assert_eq!(test.payload.difference(&test.out), None);
}

#[test]
fn a_document_saved_over_a_file_that_is_yet_to_come_is_not_written_to() {
    let (test, mut running, a) = half_done();
    let b = a.with_file_name("b");
    fs::write(&b, vec![b'x'; 9 * PIECE]).expect("room");
    test.gate.open();
    running.expect_exit(13);
    assert_eq!(fs::read(&b).expect("b"), vec![b'x'; 9 * PIECE]);
    test.refuses(13, &["two/b"]);
}

#[test]
fn what_is_appended_to_a_complete_file_meanwhile_stays_and_is_told() {
    let (test, mut running, a) = half_done();
    File::options().append(true).open(&a).and_then(|mut file| file.write_all(b"my notes")).expect("room");
    test.gate.open();
    running.expect_exit(0);
    assert!(running.log().contains("a is 8 bytes longer than the torrent says"), "{}", running.log());
    assert!(fs::read(&a).expect("a").ends_with(b"my notes"));
}

#[test]
fn a_file_that_our_own_output_goes_to_is_not_written_to() {
    let test = DownloadTest::single(0);
    let log = File::create(test.file()).expect("a file");
    let output = test.command(&["--stop-timeout", "20"]).stdout(log).output().expect("btsync runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(13) && said.contains("the output of btsync goes to it"), "{said}");
}

/// A disk image, say: one piece is right, and the others look partly downloaded.
fn copy_blocks_of_zeros(test: &DownloadTest) {
    let mut data = vec![b'x'; test.payload.content().len()];
    data.chunks_mut(PIECE).for_each(|piece| piece[..PIECE / 4].fill(0));
    data[..PIECE].copy_from_slice(&test.payload.content()[..PIECE]);
    File::options().write(true).open(test.file()).and_then(|file| file.write_all_at(&data, 0)).expect("room");
}

#[test]
fn a_file_that_was_there_before_stays_the_users_however_often_it_is_gone_on_with() {
    type Edit = fn(&DownloadTest);
    let edits: [(Edit, &str); 4] = [
        (|test| copy_blocks_of_zeros(test), "most of it"),
        (|test| overwrite_as_user(&test.file()), "longer"),
        (|test| spoil(test, &(0..12).collect::<Vec<_>>()), "most of it"),
        (|test| fs::hard_link(test.file(), test.temp.path("backup")).expect("a link"), "hard links"),
    ];
    for (edit, words) in edits {
        let test = DownloadTest::single(0);
        test.payload.write_files(&test.out);
        spoil(&test, &[3]);
        let mut running = test.start("begun", &[]);
        until("it is marked", || fs::metadata(test.marker()).is_ok_and(|marker| marker.len() > 0));
        running.terminate(7);
        edit(&test);
        test.refuses(13, &["payload.bin", words]);
    }
}

/// An earlier download created the file but wrote no data; then another torrent completes a file at the same place.
#[test]
fn what_another_torrent_has_completed_meanwhile_is_not_ours_also_by_way_of_another_folder() {
    let test = DownloadTest::new(Payload::of("payload.bin", &vec![b'x'; 20 * PIECE - 77], PIECE), 0);
    let running = test.start("first", &[]);
    until("its files are made", || fs::metadata(test.marker()).is_ok_and(|marker| marker.len() > 0));
    kill(running);
    // The same file, as `out/payload.bin` below the test folder.
    let payload = Payload::tree("out", &[("payload.bin", 20 * PIECE - 77)], PIECE);
    let gate = Gate::new(usize::MAX);
    let peer = FakePeer::honest(&payload, &gate);
    let second = DownloadTest { temp: TestDir::new(), payload, gate, peer, out: test.temp.path("") };
    second.start("second", &[]).expect_exit(0);
    assert_eq!(second.payload.difference(&second.out), None);
    test.refuses(13, &["payload.bin"]);
}

#[test]
fn a_file_that_the_user_put_in_the_place_of_ours_is_the_users() {
    let test = DownloadTest::single(8);
    let running = test.begun(8);
    kill(running);
    assert!(test.marker().exists());
    // Deleted and created again by another program; the new inode may have the same number.
    fs::remove_file(test.file()).expect("the file");
    fs::write(test.file(), vec![b'x'; 20 * PIECE - 77]).expect("room");
    test.refuses(13, &["payload.bin"]);
}

#[test]
fn a_file_that_is_replaced_while_it_comes_is_not_written_to() {
    let files: Vec<(String, usize)> = (0..200).map(|n| (format!("{n:03}"), PIECE)).collect();
    let files: Vec<(&str, usize)> = files.iter().map(|(name, size)| (name.as_str(), *size)).collect();
    let test = DownloadTest::new(Payload::tree("many", &files, PIECE), 8);
    let mut running = test.begun(8);
    let last = test.out.join("many/199");
    for (path, _) in test.payload.paths_with_content(&test.out) {
        if fs::read(&path).expect("a file").iter().all(|byte| *byte == 0) {
            fs::remove_file(&path).expect("a file");
            fs::write(&path, "mine").expect("room");
        }
    }
    test.gate.open();
    running.expect_exit(13);
    let mine = test
        .payload
        .paths_with_content(&test.out)
        .into_iter()
        .filter(|(path, _)| fs::read(path).expect("it") == b"mine");
    assert!(mine.count() > 100, "{}", last.display());
}

/// A file system in user space may assign new inode numbers at any time, and has no creation times.
#[test]
fn what_takes_the_place_of_ours_is_the_users_also_where_numbers_do_not_last() {
    const TEST: &str = "what_takes_the_place_of_ours_is_the_users_also_where_numbers_do_not_last";
    if !has_case_fs(TEST) {
        return;
    }
    in_network_namespace(TEST, &[], || {
        for blocks in [0, 8] {
            let test = DownloadTest::single(0);
            let _mounted = case_fs::mount(&test.temp, &test.out, &test.temp.folder("backing"), 9_000_000);
            let mine = test.out.join("mine");
            fs::write(&mine, vec![b'x'; 20 * PIECE - 77]).expect("room");
            let old = File::options().write(true).open(&mine).expect("the file");
            old.set_modified(std::time::UNIX_EPOCH).expect("a time");
            drop(old);
            let mut running = test.start("begun", &[]);
            until("it is made", || fs::metadata(test.marker()).is_ok_and(|marker| marker.len() > 0));
            test.gate.grant(blocks);
            until("some is there", || test.payload.right_pieces(&test.out) == blocks / 4);
            fs::rename(&mine, test.file()).expect("the user's file");
            test.gate.open();
            running.expect_exit(13);
            assert!(fs::read(test.file()).expect("it").iter().all(|byte| *byte == b'x'), "{blocks}");
            case_fs::unmount(&test.out);
        }
    });
}

/// The same with more files than btsync keeps open; the replaced file is a closed one.
#[test]
fn what_takes_the_place_of_one_of_very_many_is_the_users_also_where_numbers_do_not_last() {
    const TEST: &str = "what_takes_the_place_of_one_of_very_many_is_the_users_also_where_numbers_do_not_last";
    if !has_case_fs(TEST) {
        return;
    }
    in_network_namespace(TEST, &[], || {
        let files: Vec<(String, usize)> = (0..80).map(|n| (format!("{n:02}"), PIECE)).collect();
        let files: Vec<(&str, usize)> = files.iter().map(|(name, size)| (name.as_str(), *size)).collect();
        for is_moved in [true, false] {
            let test = DownloadTest::new(Payload::tree("many", &files, PIECE), 0);
            let _mounted = case_fs::mount(&test.temp, &test.out, &test.temp.folder("backing"), 9_000_000);
            let mut running = test.start("begun", &[]);
            until("it is made", || fs::metadata(test.marker()).is_ok_and(|marker| marker.len() > 0));
            running.wait_for_output("listening");
            let last = test.out.join("many/79");
            if is_moved {
                let mine = test.out.join("mine");
                fs::write(&mine, vec![b'x'; PIECE]).expect("room");
                fs::rename(&mine, &last).expect("the user's file");
            }
            test.gate.open();
            running.expect_exit(if is_moved { 13 } else { 0 });
            let there = fs::read(&last).expect("it");
            assert_eq!(there.iter().all(|byte| *byte == b'x'), is_moved);
            case_fs::unmount(&test.out);
        }
    });
}

#[test]
fn an_edit_of_what_is_verified_while_it_runs_is_not_told_as_complete() {
    let files: Vec<(String, usize)> = (0..20).map(|n| (format!("{n:02}"), PIECE)).collect();
    let files: Vec<(&str, usize)> = files.iter().map(|(name, size)| (name.as_str(), *size)).collect();
    let test = DownloadTest::new(Payload::tree("many", &files, PIECE), 8);
    let mut running = test.begun(8);
    let there = test.payload.paths_with_content(&test.out).into_iter();
    let mut right = there.filter(|(path, content)| fs::read(path).expect("a file") == *content);
    let (path, _) = right.next().expect("two of them");
    let file = File::options().write(true).open(&path).expect("it");
    let now = std::time::SystemTime::now();
    while file.metadata().expect("it").modified().expect("a time") <= now {
        file.write_all_at(b"mine", 0).expect("room");
    }
    test.gate.open();
    running.expect_exit(13);
    assert!(running.log().contains("another program is writing to it"), "{}", running.log());
    assert!(fs::read(path).expect("it").starts_with(b"mine") && test.marker().exists());
}

#[test]
fn a_file_that_is_replaced_while_it_comes_is_not_told_as_complete() {
    let test = DownloadTest::single(8);
    let mut running = test.begun(8);
    let mine = test.out.join("mine");
    fs::write(&mine, vec![b'x'; 21 * PIECE]).expect("room");
    fs::rename(&mine, test.file()).expect("a name");
    test.gate.open();
    running.expect_exit(13);
    assert!(running.log().contains("another program has put another file in its place"), "{}", running.log());
    assert_eq!(fs::read(test.file()).expect("it"), vec![b'x'; 21 * PIECE]);
    assert!(test.marker().exists());
}

/// Starts btsync on a file to which another program appends zeros constantly. Returns whether btsync noticed; if it started
/// between two appends, it may resume the file as before.
fn is_left_to_its_writer() -> bool {
    let test = DownloadTest::single(0);
    test.gate.open();
    write_pieces(&test, &(0..19).collect::<Vec<_>>());
    let over = Arc::new(AtomicBool::new(false));
    let (file, stop) = (File::options().append(true).open(test.file()).expect("the file"), over.clone());
    let writer = thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            (&file).write_all(&[0; 16]).expect("room");
            thread::sleep(Duration::from_micros(100));
        }
        file.metadata().expect("the file").len()
    });
    let mut running = test.start("refused", &[]);
    let ended = running.end_within(PATIENCE);
    over.store(true, Ordering::Relaxed);
    let written = writer.join().expect("the writer");
    let said = running.log();
    if ended == Some(0) || said.contains("too long: cut") {
        return false;
    }
    assert!(ended == Some(13) && said.contains("another program is writing to it"), "{said}");
    assert_eq!(fs::metadata(test.file()).expect("the file").len(), written, "nothing was cut");
    assert_eq!(fs::read_dir(&test.out).expect("it").count(), 1, "no marker is left behind");
    true
}

/// What btsync knows about the file is outdated before it has the lock.
#[test]
fn a_file_that_another_program_keeps_writing_to_is_left_to_it() {
    assert!((0..20).any(|_| is_left_to_its_writer()));
}

/// If the check takes less than one tick of the file system's clock, file times do not show a write.
#[test]
fn a_complete_file_that_another_program_writes_to_is_not_told_as_complete() {
    assert!((0..20).any(|_| is_refused_while_it_is_written()));
}

fn is_refused_while_it_is_written() -> bool {
    let test = DownloadTest::single(0);
    test.payload.write_files(&test.out);
    let over = Arc::new(AtomicBool::new(false));
    let (file, stop) = (File::options().write(true).open(test.file()).expect("the file"), over.clone());
    let same = test.payload.content();
    let writer = thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            file.write_all_at(&same[..1], 0).expect("room");
            thread::sleep(Duration::from_micros(100));
        }
    });
    let mut running = test.start("refused", &[]);
    let ended = running.end_within(PATIENCE);
    over.store(true, Ordering::Relaxed);
    writer.join().expect("the writer");
    let said = running.log();
    assert!(ended == Some(0) || (ended == Some(13) && said.contains("another program is writing to it")), "{said}");
    test.completes(&[]);
    ended == Some(13)
}

#[test]
fn a_copy_of_a_marker_proves_nothing_and_a_copy_of_the_folder_resumes_by_its_pieces() {
    let test = DownloadTest::single(8);
    kill(test.begun(8));
    fs::remove_dir_all(test.temp.path("cache")).expect("a cache");
    let copy = test.temp.path("copy");
    assert!(Command::new("cp").arg("-r").arg(&test.out).arg(&copy).status().expect("cp").success());
    fs::remove_dir_all(&test.out).expect("the original");
    assert!(Command::new("cp").arg("-r").arg(&copy).arg(&test.out).status().expect("cp").success());
    spoil(&test, &[17, 18, 19]);
    test.refuses(13, &["payload.bin", "most of it"]);
    fs::copy(copy.join("payload.bin"), test.file()).expect("a copy");
    test.completes(&[]);
}

#[test]
fn a_file_that_is_not_wanted_and_not_ours_is_left_alone() {
    let test = DownloadTest::new(Payload::tree("two", &[("a", PIECE + 100), ("b", 2 * PIECE)], PIECE), 0);
    fs::create_dir(test.out.join("two")).expect("a folder");
    let b = test.out.join("two/b");
    fs::write(&b, "mine").expect("room");
    let before = fs::metadata(&b).expect("b");
    test.gate.open();
    test.start("a", &["--select", "a"]).expect_exit(0);
    assert!(fs::read(test.out.join("two/a")).expect("a") == test.payload.paths_with_content(&test.out)[0].1);
    assert_eq!(fs::read(&b).expect("b"), b"mine");
    assert_eq!(fs::metadata(&b).expect("b").ctime_nsec(), before.ctime_nsec());
    assert!(!test.marker().exists());
    test.refuses(13, &["two/b"]);
}

/// Two files that share a piece, of which only the first is wanted, and the path of the part file.
fn with_parts(blocks: usize) -> (DownloadTest, PathBuf) {
    let test = DownloadTest::new(Payload::tree("two", &[("a", 2 * PIECE + 100), ("b", 2 * PIECE)], PIECE), blocks);
    let parts = test.out.join(format!(".{}.parts", test.payload.hex()));
    (test, parts)
}

#[test]
fn a_users_file_of_the_part_files_name_is_neither_written_nor_removed() {
    let (test, parts) = with_parts(0);
    fs::write(&parts, vec![b'x'; PIECE]).expect("room");
    let before = snapshot(&test.out);
    let mut refused = test.start("refused", &["--select", "two/a"]);
    refused.expect_exit(13);
    assert!(refused.log().contains(".parts: it was there before and most of it is not"), "{}", refused.log());
    assert_eq!(snapshot(&test.out), before);
    // The part file is not needed if everything is wanted.
    test.completes(&[]);
    assert!(fs::read(&parts).expect("it") == vec![b'x'; PIECE]);
}

#[test]
fn a_part_file_is_gone_on_with_by_the_marker_alone_the_record_alone_or_its_pieces_alone() {
    for lost in ["cache", "marker", "both"] {
        // Some blocks of the shared piece are on disk.
        let (test, parts) = with_parts(if lost == "both" { 12 } else { 10 });
        let mut running = test.start("begun", &["--select", "two/a", "--sequential"]);
        if lost == "both" {
            running.expect_exit(0);
        } else {
            until("all that was granted is there", || test.gate.served() == 10);
            let has_data = || fs::read(&parts).is_ok_and(|found| found.iter().any(|byte| *byte != 0));
            until("some is in the part file", has_data);
            if lost == "cache" { kill(running) } else { running.terminate(7) }
        }
        for (what, path) in [("cache", test.temp.path("cache")), ("marker", test.marker())] {
            if lost == "both" || lost == what {
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
        }
        if lost == "both" {
            File::options()
                .write(true)
                .open(test.out.join("two/a"))
                .expect("a")
                .write_all_at(b"spoilt", 0)
                .expect("room");
        }
        test.gate.open();
        test.start("again", &["--select", "two/a"]).expect_exit(0);
        test.completes(&[]);
        assert!(!parts.exists(), "{lost}");
    }
}

#[test]
fn of_two_processes_with_the_same_download_the_second_ends_with_11() {
    let test = DownloadTest::single(8);
    let mut first = test.begun(8);
    let mut second = test.start("second", &[]);
    second.expect_exit(11);
    let said = second.log();
    assert!(said.lines().last().is_some_and(|line| line.contains("the same file is being downloaded")), "{said}");
    test.gate.open();
    first.expect_exit(0);
    assert_eq!(test.payload.difference(&test.out), None);
    test.completes(&[]);
}

/// Another torrent with a file of the same name; its piece length differs, hence its info-hash too.
fn conflicting_torrent() -> Payload {
    Payload::single("payload.bin", 20 * PIECE - 77, PIECE / 2)
}

#[test]
fn two_torrents_do_not_write_to_one_file() {
    let test = DownloadTest::single(0);
    let running = test.start("first", &["-v"]);
    until("its files are made", || fs::metadata(test.marker()).is_ok_and(|marker| marker.len() > 0));
    let gate = Gate::new(usize::MAX);
    let peer = FakePeer::honest(&conflicting_torrent(), &gate);
    let other =
        DownloadTest { temp: TestDir::new(), payload: conflicting_torrent(), gate, peer, out: test.out.clone() };
    let mut second = other.start("second", &[]);
    second.expect_exit(11);
    assert!(second.log().contains(test.marker().file_name().unwrap().to_str().unwrap()), "{}", second.log());
    assert!(!other.marker().exists());
    // Also when the first download's data is in the way.
    test.gate.grant(8);
    until("some is there", || test.payload.right_pieces(&test.out) == 2);
    other.start("third", &[]).expect_exit(11);
    assert!(!other.marker().exists());
    kill(running);
    let mut second = other.start("second", &[]);
    second.expect_exit(13);
    assert!(second.log().contains("belongs to the unfinished download of"), "{}", second.log());
    other.completes(&["--overwrite"]);
    // The file is no longer the one that the first download created.
    overwrite_as_user(&test.file());
    test.refuses(13, &["payload.bin"]);
    fs::remove_file(test.marker()).expect("a marker");
}

#[test]
fn a_name_is_given_by_nobody_but_the_process_that_has_the_lock() {
    const SUFFIX: &str = "--incomplete-suffix=.part";
    let test = DownloadTest::new(Payload::tree("two", &[("a", 2 * PIECE), ("b", 5 * PIECE)], PIECE), 8);
    let mut first = test.start("first", &[SUFFIX, "--sequential"]);
    let content = test.payload.content();
    let is_there = || fs::read(test.out.join("two/a.part")).is_ok_and(|found| found == content[..2 * PIECE]);
    until("the first file is there", is_there);
    test.start("second", &[SUFFIX, "--select=1"]).expect_exit(11);
    assert!(is_there() && test.marker().exists());
    kill(first);
    test.start("third", &[SUFFIX, "--select=1"]).expect_exit(0);
    assert!(test.out.join("two/a").exists() && test.marker().exists(), "the other file is not complete");
    first = test.start("fourth", &[SUFFIX]);
    test.gate.open();
    first.expect_exit(0);
    assert_eq!(test.payload.difference(&test.out), None);
}

#[test]
fn two_downloads_of_one_file_by_way_of_different_folders_do_not_meet_in_it() {
    let test = DownloadTest::single(8);
    let mut first = test.begun(8);
    // The same file, as `out/payload.bin` below the test folder.
    let payload = Payload::tree("out", &[("payload.bin", 20 * PIECE - 77), ("other", PIECE)], PIECE);
    let gate = Gate::new(usize::MAX);
    let peer = FakePeer::honest(&payload, &gate);
    let second = DownloadTest { temp: TestDir::new(), payload, gate, peer, out: test.temp.path("") };
    let mut running = second.start("second", &["--overwrite"]);
    running.expect_exit(11);
    assert!(running.log().contains("payload.bin"), "{}", running.log());
    test.gate.open();
    first.expect_exit(0);
    assert_eq!(test.payload.difference(&test.out), None);
}

#[test]
fn a_process_whose_marker_goes_stops_writing() {
    for replaced in [false, true] {
        let test = DownloadTest::single(8);
        let mut running = test.begun(8);
        let before = fs::read(test.file()).expect("the file");
        fs::remove_file(test.marker()).expect("a marker");
        if replaced {
            fs::write(test.marker(), "").expect("room");
        }
        // btsync checks the marker at most every half second.
        std::thread::sleep(Duration::from_millis(600));
        test.gate.open();
        running.expect_exit(11);
        assert!(running.log().contains("was deleted or replaced"), "{}", running.log());
        assert!(fs::read(test.file()).expect("the file") == before, "it went on writing");
        if replaced {
            assert!(test.marker().exists(), "the marker is somebody else's");
        }
        test.completes(&[]);
    }
}

#[test]
fn what_is_complete_is_seeded_by_several_processes_without_a_write_in_its_folder() {
    let test = DownloadTest::new(Payload::edge_cases(), 0);
    test.payload.write_files(&test.out);
    let before = snapshot(&test.out);
    let mut seeds: Vec<Running> = (0..3).map(|n| test.start(&format!("seed{n}"), &["--seed"])).collect();
    for seed in &mut seeds {
        seed.wait_for_output("complete");
    }
    for seed in &mut seeds {
        seed.terminate(0);
    }
    assert_eq!(snapshot(&test.out), before);
}

#[test]
fn read_only_media_are_seeded() {
    const TEST: &str = "read_only_media_are_seeded";
    in_network_namespace(TEST, &["mount"], || {
        let test = DownloadTest::new(Payload::edge_cases(), 0);
        let mount = |options: &str| {
            let line = format!("mount {options} tmpfs '{}'", test.out.display());
            assert!(Command::new("sh").args(["-c", &line]).status().expect("sh").success(), "{line}");
        };
        mount("-t tmpfs -o size=16m");
        test.payload.write_files(&test.out);
        mount("-o remount,ro");
        test.start("seed", &["--seed-time", "0"]).expect_exit(0);
        test.start("seed", &["--fsync"]).expect_exit(0);
    });
}

#[test]
fn files_of_another_user_are_seeded() {
    const TEST: &str = "files_of_another_user_are_seeded";
    if !installed(TEST, &["setpriv"]) {
        return;
    }
    let test = DownloadTest::single(0);
    let user = User::of(&test.temp);
    if user.id().is_none() {
        return not_run(TEST, "it takes root to have a second user");
    }
    test.payload.write_files(&test.out);
    fs::set_permissions(test.file(), Permissions::from_mode(0o444)).expect("a mode");
    user.download(&test.temp, &test.payload, &test.out, &[&test.peer], (&[], &[])).expect_exit(0);
}

/// Whether strace works; if not, reports the test as not run.
fn can_trace(test: &str) -> bool {
    if !installed(test, &["strace"]) {
        return false;
    }
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if !traced {
        not_run(test, "this machine lets nobody trace a process");
    }
    traced
}

/// The download under strace with these options.
fn traced(test: &DownloadTest, options: &[&str], more: &[&str]) -> Running {
    let command = test.command(more);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(test.temp.path("trace")).args(options).arg(command.get_program());
    strace.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    test.temp.start("traced", &mut strace)
}

#[test]
fn a_kill_at_any_step_of_the_start_is_resumed_from() {
    const TEST: &str = "a_kill_at_any_step_of_the_start_is_resumed_from";
    if !can_trace(TEST) {
        return;
    }
    let mut killed = 0;
    // The system calls that change something; strace kills btsync at the first, second or third call of a kind.
    for call in ["mkdirat", "flock", "ftruncate", "renameat", "unlinkat", "pwritev", "fallocate"] {
        for nth in 1..4 {
            let test =
                DownloadTest::new(Payload::tree("tree", &[("a/1", 3 * PIECE), ("b/2", 100_000), ("c", 0)], PIECE), 0);
            test.gate.open();
            let kill = format!("inject={call}:signal=SIGKILL:when={nth}");
            let mut running =
                traced(&test, &["-e", &format!("trace={call}"), "-e", &kill], &["--file-allocation", "sparse"]);
            let ended = running.end_within(PATIENCE);
            assert!(ended != Some(13) && ended != Some(11), "{call} {nth}: {}", running.log());
            killed += usize::from(ended != Some(0));
            if nth == 2 {
                let _ = fs::remove_dir_all(test.temp.path("cache"));
            }
            test.completes(&[]);
            assert_eq!(fs::read_dir(&test.out).expect("it").count(), 1, "{call} {nth}: something was left behind");
        }
    }
    assert!(killed >= 10, "only {killed} were killed");
}

#[test]
fn a_file_system_without_locks_is_warned_of_and_used() {
    const TEST: &str = "a_file_system_without_locks_is_warned_of_and_used";
    if !can_trace(TEST) {
        return;
    }
    let test = DownloadTest::single(0);
    test.gate.open();
    let mut running = traced(&test, &["-e", "trace=flock", "-e", "inject=flock:error=ENOLCK"], &[]);
    running.expect_exit(0);
    assert!(running.log().contains("this file system has no locks"), "{}", running.log());
    assert_eq!(test.payload.difference(&test.out), None);
}

#[test]
fn with_fsync_everything_is_on_the_disk_before_it_ends() {
    const TEST: &str = "with_fsync_everything_is_on_the_disk_before_it_ends";
    if !can_trace(TEST) {
        return;
    }
    let synced = |more: &[&str]| {
        let test = DownloadTest::new(Payload::tree("tree", &[("a/1", 100_000), ("a/2", 70_000), ("b", 0)], PIECE), 0);
        test.gate.open();
        traced(&test, &["-y", "-e", "trace=fsync,fdatasync"], more).expect_exit(0);
        fs::read_to_string(test.temp.path("trace")).expect("a trace")
    };
    let trace = synced(&["--fsync"]);
    let names = ["/out/tree/a/1>", "/out/tree/a/2>", "/out/tree/b>", "/out/tree/a>", "/out/tree>", "/out>", "</>"];
    for name in names {
        assert!(trace.lines().any(|line| line.contains(name) && line.contains("= 0")), "{name}: {trace}");
    }
    assert!(!synced(&[]).contains("/out/"), "who does not ask does not wait");
}
