//! Files of the user's that are not selected.

#![allow(clippy::wildcard_imports, reason = "the fixtures of the module above")]

use super::*;

/// `b` shares one piece with `a` and one with `c`.
fn three() -> Payload {
    Payload::tree("three", &[("a", PIECE + 40_000), ("b", 3 * PIECE), ("c", 2 * PIECE)], PIECE)
}

/// The user's file, which no run may change.
struct Excluded {
    path: PathBuf,
    before: (Vec<u8>, i64, i64, u64),
}

impl Excluded {
    fn new(test: &DownloadTest, bytes: &[u8]) -> Excluded {
        let folder = test.out.join("three");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("b"), bytes).expect("room");
        let before = snapshot(&folder).remove(&folder.join("b")).expect("b");
        Excluded { path: folder.join("b"), before }
    }

    fn check(&self, test: &DownloadTest, when: &str) {
        let folder = self.path.parent().expect("a folder");
        assert!(snapshot(folder)[&self.path] == self.before, "b was touched: {when}");
        let right = test.payload.content();
        let (a, c) = (fs::read(folder.join("a")).expect("a"), fs::read(folder.join("c")).expect("c"));
        assert!(a == right[..a.len()] && a.len() == PIECE + 40_000 && c == right[right.len() - c.len()..], "{when}");
    }
}

fn b_of(test: &DownloadTest) -> Vec<u8> {
    test.payload.content()[PIECE + 40_000..][..3 * PIECE].to_vec()
}

#[test]
fn an_edit_of_an_excluded_file_stays_and_the_others_are_downloaded() {
    for (name, edits) in [("start", &[10][..]), ("end", &[3 * PIECE - 10]), ("both", &[10, 3 * PIECE - 10])] {
        for selected_before in [true, false] {
            let test = DownloadTest::new(three(), usize::MAX);
            if selected_before {
                test.start("before", &["--select", "1,2"]).expect_exit(0);
            }
            let mut b = b_of(&test);
            for at in edits {
                b[*at] ^= 1;
            }
            let excluded = Excluded::new(&test, &b);
            let when = format!("{name} {selected_before}");
            test.start("excluded", &["--exclude", "b"]).expect_exit(0);
            excluded.check(&test, &when);
            // Everything is there, so no peer is asked.
            let served = test.gate.served();
            for lost in [false, true] {
                if lost {
                    fs::remove_dir_all(test.temp.path("cache")).expect("a cache");
                }
                test.start("again", &["--exclude", "b"]).expect_exit(0);
                excluded.check(&test, &format!("{when} again"));
                assert_eq!(test.gate.served(), served, "{when}");
            }
        }
    }
}

/// The part file has the other files' bytes of the shared pieces.
#[test]
fn an_excluded_file_that_was_not_edited_is_used_and_not_written_to() {
    let test = DownloadTest::new(three(), usize::MAX);
    test.start("b", &["--select", "b"]).expect_exit(0);
    let excluded = Excluded::new(&test, &b_of(&test));
    let served = test.gate.served();
    test.start("the others", &["--exclude", "b"]).expect_exit(0);
    excluded.check(&test, "equal");
    // A whole piece of `a`, and one of `c`, which ends with a shorter piece: the shared pieces are there.
    assert_eq!(test.gate.served() - served, 4 + (2 * PIECE - 24_000).div_ceil(16 * 1024));
    assert_eq!(fs::read_dir(&test.out).expect("it").count(), 1, "the part file is needed no more");
    test.completes(&[]);
}

#[test]
fn an_excluded_file_of_zeros_stays_the_users_until_it_is_selected() {
    for (name, length) in [("whole", 3 * PIECE), ("shorter", 1000)] {
        for options in [&["--exclude", "b"][..], &["--exclude", "b", "--overwrite"]] {
            let test = DownloadTest::new(three(), usize::MAX);
            let excluded = Excluded::new(&test, &vec![0; length]);
            test.start("excluded", options).expect_exit(0);
            excluded.check(&test, name);
            test.completes(&[]);
        }
    }
}
