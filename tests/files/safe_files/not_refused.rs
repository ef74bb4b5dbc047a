//! Files that btsync made and must not take for the user's, whatever happened to the download.

#![allow(clippy::wildcard_imports, reason = "the fixtures of the module above")]

use super::*;
use crate::common::seeder::{block, full_bitfield};
use crate::common::wire::id;

/// A peer that sends a piece with one wrong byte and then waits.
fn liar(payload: &Payload) -> FakePeer {
    let (theirs, content) = (payload.clone(), payload.content());
    FakePeer::new(payload.info_hash(), move |mut wire| {
        wire.send(id::BITFIELD, &full_bitfield(theirs.pieces()))?;
        wire.send(id::UNCHOKE, &[])?;
        let mut first = None;
        loop {
            let (piece, begin, length) = wire.next_request()?;
            if *first.get_or_insert(piece) == piece {
                let mut bytes = block(&theirs, &content, piece, begin, length).to_vec();
                bytes[0] ^= 1;
                wire.send_block(piece, begin, &bytes)?;
            }
        }
    })
}

/// The wrong piece fills its file, and no other piece has come.
#[test]
fn a_wrong_piece_of_a_peer_and_a_kill_leave_a_download_that_is_resumed() {
    for files in [&[("1.jpg", PIECE), ("2.jpg", PIECE), ("3.jpg", PIECE)][..], &[("1.jpg", 5000), ("2.jpg", PIECE)]] {
        let test = DownloadTest::new(Payload::tree("photos", files, PIECE), 0);
        let liar = liar(&test.payload);
        let mut running = test.start("poisoned", &["--sequential", "--peer", &liar.addr.to_string()]);
        running.wait_for_output("sent wrong data");
        kill(running);
        test.completes(&[]);
    }
}

/// A file with one complete piece and one incomplete, which does not speak for itself without marker and resume data.
#[test]
fn an_incomplete_file_is_remembered_by_a_run_that_does_not_want_it() {
    for lost in ["marker", "cache"] {
        let test = DownloadTest::new(Payload::tree("two", &[("g", PIECE), ("j", 5 * PIECE)], PIECE), 6);
        let mut running = test.start("begun", &["--select", "j", "--sequential"]);
        until("a piece and a half are there", || {
            let has_data = |bytes: &[u8]| bytes.iter().any(|byte| *byte != 0);
            test.gate.served() == 6
                && fs::read(test.out.join("two/j")).is_ok_and(|j| has_data(&j[..PIECE]) && has_data(&j[PIECE..]))
        });
        running.terminate(7);
        test.gate.open();
        test.start("the other file", &["--select", "g"]).expect_exit(0);
        if lost == "marker" {
            fs::remove_file(test.marker()).expect("a marker");
        } else {
            fs::remove_dir_all(test.temp.path("cache")).expect("a cache");
        }
        test.completes(&[]);
    }
}

/// The user has a file under the name of one that is not selected. It shares a piece with a selected file, and its bytes of that piece
/// are in the part file.
#[test]
fn a_users_file_beside_a_complete_one_keeps_no_later_run_from_using_it() {
    let files = [("w", PIECE), ("x", PIECE + 3000), ("y", PIECE + 3000), ("z", 2 * PIECE)];
    for change in ["another selection", "times", "cache", "both"] {
        let test = DownloadTest::new(Payload::tree("four", &files, PIECE), usize::MAX);
        fs::create_dir(test.out.join("four")).expect("a folder");
        let (x, y) = (test.out.join("four/x"), test.out.join("four/y"));
        fs::write(&y, vec![b'm'; PIECE]).expect("room");
        test.start("x", &["--select", "x"]).expect_exit(0);
        if change == "times" {
            File::options().write(true).open(&x).expect("x").set_modified(std::time::UNIX_EPOCH).expect("a time");
        } else {
            test.start("w", &["--select", "w"]).expect_exit(0);
        }
        if change == "cache" || change == "both" {
            fs::remove_dir_all(test.temp.path("cache")).expect("a cache");
        }
        if change == "both" {
            let part_file = test.out.join(format!(".{}.parts", test.payload.hex()));
            fs::remove_file(part_file).expect("a part file");
        }
        test.start("x again", &["--select", "x"]).expect_exit(0);
        test.start("more", &["--select", "2,4"]).expect_exit(0);
        assert_eq!(fs::read(&y).expect("y"), vec![b'm'; PIECE], "{change}");
    }
}

/// Another program has completed the files of a download of which a part file is left.
#[test]
fn a_part_file_that_no_file_needs_is_removed_also_if_nothing_is_downloaded() {
    for lost in [false, true] {
        let files = [("x", PIECE + 3000), ("y", PIECE + 3000)];
        let test = DownloadTest::new(Payload::tree("two", &files, PIECE), usize::MAX);
        let part_file = test.out.join(format!(".{}.parts", test.payload.hex()));
        test.start("x", &["--select", "x"]).expect_exit(0);
        assert!(part_file.exists());
        test.start("x again", &["--select", "x"]).expect_exit(0);
        assert!(part_file.exists(), "it is needed");
        let served = test.gate.served();
        test.payload.write_files(&test.out);
        if lost {
            fs::remove_dir_all(test.temp.path("cache")).expect("a cache");
            // Of another program with the same name, it stays.
            let ours = fs::read(&part_file).expect("the part file");
            fs::write(&part_file, "the user's").expect("room");
            test.completes(&[]);
            assert_eq!(fs::read(&part_file).expect("the file"), b"the user's");
            fs::write(&part_file, ours).expect("room");
        }
        test.completes(&[]);
        assert!(!part_file.exists() && test.gate.served() == served);
    }
}
