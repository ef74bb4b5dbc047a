//! Files that get another time while btsync downloads other parts of the torrent.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::Allocation;
use crate::storage::edits::tests::{begun, let_a_tick_pass, write_at};
use crate::util::atomics::Counter;

fn touch(dir: &TempDir, at: SystemTime) {
    let path = dir.path().join("b");
    let_a_tick_pass(&path);
    File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
}

/// A download with a block of the second file. The check of contents returns the value of the flag; the counter counts its calls.
fn touched(dir: &TempDir) -> (Storage, Arc<Counter>, Arc<Flag>) {
    let it = begun(dir, Allocation::Sparse, || ());
    let (calls, is_ours) = (Arc::new(Counter::default()), Arc::new(Flag::new(true)));
    let (counted, answer) = (calls.clone(), is_ours.clone());
    it.set_content_check(move |file| {
        assert_eq!(file, 1);
        counted.add(1);
        Ok(answer.is_set())
    });
    write_at(&it, 100).unwrap();
    (it, calls, is_ours)
}

#[test]
fn a_new_time_ends_no_run_if_the_content_is_still_btsyncs() {
    let dir = tempdir().unwrap();
    let (it, calls, is_ours) = touched(&dir);
    touch(&dir, SystemTime::now());
    for offset in [110, 120, 0] {
        write_at(&it, offset).unwrap();
    }
    assert_eq!(calls.get(), 1, "once for each new time");
    touch(&dir, SystemTime::now() - Duration::from_secs(3600));
    write_at(&it, 130).unwrap();
    assert_eq!(calls.get(), 2);
    is_ours.set(false);
    touch(&dir, SystemTime::now());
    for _ in 0..2 {
        let refused = write_at(&it, 140);
        assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Changed, .. })), "{refused:?}");
    }
    assert_eq!(calls.get(), 3);
}

#[test]
fn a_program_that_keeps_setting_the_time_does_not_keep_btsync_hashing() {
    let dir = tempdir().unwrap();
    let (it, calls, _) = touched(&dir);
    for _ in 0..MAX_CHECKS {
        touch(&dir, SystemTime::now());
        write_at(&it, 110).unwrap();
    }
    touch(&dir, SystemTime::now());
    assert!(write_at(&it, 110).is_err());
    assert_eq!(calls.get(), u64::from(MAX_CHECKS));
}

#[test]
fn a_check_that_the_stop_ends_refuses_no_file() {
    let dir = tempdir().unwrap();
    let it = begun(&dir, Allocation::Sparse, || ());
    write_at(&it, 100).unwrap();
    it.set_content_check(|_| Err(StorageError::io(Operation::Read, Path::new("b"))(io::ErrorKind::Interrupted.into())));
    touch(&dir, SystemTime::now());
    assert!(write_at(&it, 110).unwrap_err().is_interrupted());
    assert!(!it.cache.is_refused(1));
}

#[test]
fn the_wait_ends_when_the_times_of_the_file_system_go_on() {
    let (second, millisecond) = (1_000_000_000, 1_000_000);
    let wait = |changed: i64, now: i64| time_until_past(changed, now).map(|rest| rest.as_millis());
    let fine = 7 * second + 5;
    assert_eq!(wait(fine, fine), Some(20));
    assert_eq!(wait(fine, fine + 19 * millisecond), Some(1));
    assert_eq!(wait(fine, fine + 20 * millisecond), None);
    let (odd, even) = (7 * second, 8 * second);
    assert_eq!([wait(odd, odd), wait(even, even)], [Some(1020), Some(2020)]);
    assert_eq!([wait(odd, odd + second + 20 * millisecond), wait(even, even + 3 * second)], [None; 2]);
    assert_eq!(wait(even, even - 1), None, "the clock was set back");
}

#[test]
fn files_that_were_just_changed_are_looked_at_when_another_change_would_show() {
    let dir = tempdir().unwrap();
    let it = begun(&dir, Allocation::Sparse, || ());
    let survey = it.survey(&AtomicBool::new(false)).unwrap();
    survey.wait_until_edits_show();
    assert!(survey.files.iter().flatten().all(|seen| clock() - seen.changed_at() >= CLOCK_TICK));
    assert!(!survey.wait_until_edits_show());
}
