//! The record on a real disk. Times are set into the past so that tests do not have to wait for the clock's tick.

use std::fs::{File, FileTimes};
use std::io::IoSlice;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use super::*;
use crate::storage::{CheckProgress, FileSpec, Layout, check_rest};
use crate::types::{BLOCK_SIZE, PieceIndex, Sha1Hash};

mod blocks;

const HASH: InfoHash = InfoHash([3; 20]);

/// These pieces, and no blocks of others.
fn pieces(have: Bitfield) -> (Bitfield, Vec<PartialPiece>) {
    (have, Vec::new())
}

/// A folder with the files `a` and `b`, 100 bytes each, in pieces of 50; and a folder for records.
struct StoreFixture {
    dir: tempfile::TempDir,
    storage: Storage,
}

impl StoreFixture {
    fn new() -> StoreFixture {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |path: &str| FileSpec { path: path.into(), length: 100, is_pad: false };
        let layout = Layout::new(50, vec![file("a"), file("b")]).expect("a layout");
        let storage = Storage::new(dir.path().join("out"), layout, 4);
        storage.prepare().expect("two files");
        StoreFixture { dir, storage }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("out").join(name)
    }

    fn resume_store(&self) -> ResumeStore {
        self.resume_store_unless(false).expect("a resume store")
    }

    fn resume_store_unless(&self, stop: bool) -> Option<ResumeStore> {
        let (records, out, stop) =
            (self.dir.path().join("records"), self.dir.path().join("out"), AtomicBool::new(stop));
        ResumeStore::new(&records, HASH, &out, &self.storage, &stop)
    }

    /// A run that writes everything and leaves a record.
    fn fill(&self) {
        let resume_store = self.resume_store();
        self.storage.write_vectored_at(0, &[IoSlice::new(&[1; 200])]).expect("room");
        resume_store.finish(&self.storage, pieces(Bitfield::full(4)), |_| false);
    }

    fn trusted_pieces(&self) -> Vec<u32> {
        self.resume_store().load_trusted_pieces(&self.storage).iter().map(|piece| piece.0).collect()
    }

    fn decoded(&self) -> ResumeData {
        let bytes = fs::read(self.record()).expect("a record");
        ResumeData::decode(&bytes, self.storage.layout()).expect("our record")
    }

    fn record(&self) -> PathBuf {
        let mut entries = fs::read_dir(self.dir.path().join("records")).expect("records");
        entries.next().expect("a record").expect("an entry").path()
    }
}

#[test]
fn recorded_pieces_are_trusted_again_and_again() {
    let fixture = StoreFixture::new();
    fixture.fill();
    assert_eq!(fixture.trusted_pieces(), [0, 1, 2, 3]);
    // A run that changes nothing keeps what the record says, even if it writes the record anew.
    let mut resume_store = fixture.resume_store();
    assert!(resume_store.load_trusted_pieces(&fixture.storage).is_full());
    assert_eq!(resume_store.due((4, 0)), None, "there is nothing new to say");
    resume_store.save(&fixture.storage, pieces(Bitfield::full(4)), Duration::ZERO);
    assert_eq!(fixture.trusted_pieces(), [0, 1, 2, 3]);
}

#[test]
fn a_file_that_was_touched_is_not_believed() {
    let fixture = StoreFixture::new();
    fixture.fill();
    let modified = fs::metadata(fixture.file("b")).expect("b").modified().expect("a time");
    let file = File::options().write(true).open(fixture.file("b")).expect("b");
    std::os::unix::fs::FileExt::write_all_at(&file, &[9], 0).expect("room");
    // A program that sets the modification time back is detected by the change time, which no program can set.
    file.set_times(FileTimes::new().set_modified(modified)).expect("times");
    assert_eq!(fs::metadata(fixture.file("b")).expect("b").modified().expect("a time"), modified);
    assert_eq!(fixture.trusted_pieces(), [0, 1]);
}

#[test]
fn a_check_that_changes_no_file_takes_pieces_from_the_record_and_nothing_else() {
    let fixture = StoreFixture::new();
    let mut resume_store = fixture.resume_store();
    let owned = vec![(0, 7), (1, 8)];
    resume_store.set_owned_files(owned.clone(), &fixture.storage, &Bitfield::new(4));
    fixture.storage.write_vectored_at(0, &[IoSlice::new(&[1; 200])]).expect("room");
    let mut have = Bitfield::full(4);
    have.clear(PieceIndex(3));
    resume_store.finish(&fixture.storage, pieces(have.clone()), |_| false);
    let before = fixture.decoded();
    have.clear(PieceIndex(1));
    fixture.resume_store().drop_failed_pieces(&fixture.storage, &have);
    assert_eq!(fixture.trusted_pieces(), [0, 2]);
    let now = fixture.decoded();
    assert_eq!((now.owned_files, now.files), (Some(owned), before.files.clone()));
    // The next run hashes the pieces of a file that another program has changed, so the record may stay as it is.
    fs::write(fixture.file("a"), [2; 100]).expect("written");
    have.clear(PieceIndex(0));
    fixture.resume_store().drop_failed_pieces(&fixture.storage, &have);
    assert_eq!((fixture.decoded().have.count(), fixture.decoded().files), (2, before.files));
}

#[test]
fn another_file_by_the_same_name_is_not_believed() {
    let fixture = StoreFixture::new();
    fixture.fill();
    fs::copy(fixture.file("a"), fixture.file("new")).expect("a copy");
    fs::rename(fixture.file("new"), fixture.file("a")).expect("the copy in its place");
    assert_eq!(fixture.trusted_pieces(), [2, 3]);
}

#[test]
fn damaged_records_and_those_of_another_boot_are_not_believed() {
    let fixture = StoreFixture::new();
    fixture.fill();
    let path = fixture.record();
    let right = fs::read(&path).expect("a record");
    for damaged in [&right[..right.len() / 2], b"", b"junk", &[&right[..], b"x"].concat()] {
        fs::write(&path, damaged).expect("room");
        assert_eq!(fixture.trusted_pieces(), [0; 0]);
    }
    let mut record = ResumeData::decode(&right, fixture.storage.layout()).expect("our record");
    record.boot = "another".to_owned();
    fs::write(&path, record.encode()).expect("room");
    assert_eq!(fixture.trusted_pieces(), [0; 0]);
    record = ResumeData::decode(&right, fixture.storage.layout()).expect("our record");
    record.info_hash = InfoHash([4; 20]);
    fs::write(&path, record.encode()).expect("room");
    assert_eq!(fixture.trusted_pieces(), [0; 0]);
    fs::write(&path, &right).expect("room");
    assert_eq!(fixture.trusted_pieces(), [0, 1, 2, 3], "and the right one still is");
}

#[test]
fn files_that_another_program_wrote_after_us_are_not_recorded() {
    let fixture = StoreFixture::new();
    let resume_store = fixture.resume_store();
    fixture.storage.write_vectored_at(0, &[IoSlice::new(&[1; 200])]).expect("room");
    let file = File::options().write(true).open(fixture.file("a")).expect("a");
    // As if long after our write, or after the clock was set back.
    file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).expect("times");
    resume_store.finish(&fixture.storage, pieces(Bitfield::full(4)), |_| false);
    assert_eq!(fixture.trusted_pieces(), [2, 3]);
}

#[test]
fn a_file_changed_during_its_check_is_not_recorded_even_if_we_write_to_it_later() {
    let fixture = StoreFixture::new();
    let mut resume_store = fixture.resume_store();
    resume_store.skip_trusted_pieces();
    resume_store.baseline = stamps(&fixture.storage); // as if the files had existed for long
    fs::write(fixture.file("a"), [7; 90]).expect("room");
    resume_store.checked(&fixture.storage, &AtomicBool::new(false));
    fixture.storage.write_vectored_at(0, &[IoSlice::new(&[1; 200])]).expect("room");
    resume_store.finish(&fixture.storage, pieces(Bitfield::full(4)), |_| false);
    assert_eq!(fixture.trusted_pieces(), [2, 3]);
}

/// There may be very many files, and nothing waits any longer for them to be examined.
#[test]
fn after_a_stop_no_file_is_looked_at_and_nothing_is_vouched_for() {
    let fixture = StoreFixture::new();
    assert!(fixture.resume_store_unless(true).is_none());
    let mut resume_store = fixture.resume_store();
    resume_store.checked(&fixture.storage, &AtomicBool::new(true));
    fixture.storage.write_vectored_at(0, &[IoSlice::new(&[1; 200])]).expect("room");
    resume_store.finish(&fixture.storage, pieces(Bitfield::full(4)), |_| false);
    assert_eq!(fixture.trusted_pieces(), [0_u32; 0]);
}

/// A stop cuts the record of a torrent with very many files short, and what the record says is still right.
#[test]
fn only_files_that_were_not_examined_in_time_are_hashed_again() {
    let fixture = StoreFixture::new();
    let layout = fixture.storage.layout();
    let in_first: Vec<u32> =
        layout.pieces_of(0).filter(|piece| !layout.pieces_of(1).any(|other| other == *piece)).collect();
    assert!(!in_first.is_empty() && layout.files().len() > 1);
    let resume_store = fixture.resume_store();
    fixture.storage.write_vectored_at(0, &[IoSlice::new(&[1; 200])]).expect("room");
    resume_store.finish(&fixture.storage, pieces(Bitfield::full(4)), |file| file > 0);
    assert_eq!(fixture.trusted_pieces(), in_first);
    // Without a stop, no file is late.
    let stop = AtomicBool::new(false);
    let mut is_late = skip_after_stop(&stop);
    assert!(!is_late(0) && !is_late(usize::MAX));
}

#[test]
fn pieces_that_the_record_covers_are_not_hashed() {
    let fixture = StoreFixture::new();
    let (progress, stop) = (CheckProgress::default(), AtomicBool::new(false));
    let mut known = Bitfield::new(4);
    known.set(PieceIndex(2));
    let wrong: [Sha1Hash; 4] = [[0; 20]; 4];
    let have = check_rest(&fixture.storage, &wrong, &known, 2, &progress, &stop).expect("readable files");
    assert_eq!(have.iter().collect::<Vec<_>>(), [PieceIndex(2)]);
    assert_eq!(progress.done.get(), 200);
}

#[test]
fn files_too_fresh_for_one_record_are_in_the_next() {
    let fixture = StoreFixture::new();
    let mut resume_store = fixture.resume_store();
    fixture.storage.write_vectored_at(0, &[IoSlice::new(&[1; 200])]).expect("room");
    resume_store.save(&fixture.storage, pieces(Bitfield::full(4)), Duration::ZERO);
    assert_eq!(resume_store.due((4, 0)), None);
    resume_store.finish(&fixture.storage, pieces(Bitfield::full(4)), |_| false);
    assert_eq!(fixture.trusted_pieces(), [0, 1, 2, 3]);
    // Blocks that complete no piece change the files, but not which pieces are right.
    let mut resume_store = fixture.resume_store();
    assert!(resume_store.load_trusted_pieces(&fixture.storage).is_full());
    fixture.storage.write_vectored_at(0, &[IoSlice::new(&[1; 10])]).expect("room");
    resume_store.finish(&fixture.storage, pieces(Bitfield::full(4)), |_| false);
    assert_eq!(fixture.trusted_pieces(), [0, 1, 2, 3]);
}

#[test]
fn files_that_are_not_wanted_do_not_spoil_the_belief_in_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let (out, records) = (dir.path().join("out"), dir.path().join("records"));
    let file = |path: &str, length| FileSpec { path: path.into(), length, is_pad: false };
    // The second piece is in `a` and `b`, the third in `b` alone.
    let layout = Layout::new(50, vec![file("a", 75), file("b", 75), file("c", 50)]).expect("a layout");
    let prepared = |wanted: &[bool]| {
        let storage = Storage::new(out.clone(), layout.clone(), 4).select(wanted, Path::new(".parts"));
        storage.prepare().expect("files");
        storage
    };
    let resume_store = |storage: &Storage| {
        ResumeStore::new(&records, HASH, &out, storage, &AtomicBool::new(false)).expect("a resume store")
    };
    let trusted_pieces = |storage: &Storage| {
        resume_store(storage).load_trusted_pieces(storage).iter().map(|piece| piece.0).collect::<Vec<_>>()
    };
    let some = [true, false, true];
    let storage = prepared(&some);
    let first = resume_store(&storage);
    storage.write_vectored_at(0, &[IoSlice::new(&[1; 100])]).expect("room");
    storage.write_vectored_at(150, &[IoSlice::new(&[1; 50])]).expect("room");
    let mut have = Bitfield::full(4);
    have.clear(PieceIndex(2));
    first.finish(&storage, pieces(have.clone()), |_| false);
    assert_eq!(trusted_pieces(&prepared(&some)), [0, 1, 3]);
    // A run that changes nothing has nothing new to record.
    let storage = prepared(&some);
    let mut second = resume_store(&storage);
    assert_eq!(second.load_trusted_pieces(&storage), have);
    assert_eq!(second.due((3, 0)), None);
    let parts = File::options().write(true).open(out.join(".parts")).expect("a part file");
    parts.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).expect("times");
    assert_eq!(trusted_pieces(&prepared(&some)), [0, 3], "the part file has been touched");
    assert_eq!(trusted_pieces(&prepared(&[true; 3])), [0, 3], "and b has only just been made of it");
    assert!(!out.join(".parts").exists() && out.join("b").exists());
}

#[test]
fn after_a_clock_that_was_set_back_nothing_is_recorded() {
    let fixture = StoreFixture::new();
    let mut resume_store = fixture.resume_store();
    fixture.storage.write_vectored_at(0, &[IoSlice::new(&[1; 200])]).expect("room");
    // As if the clock had been an hour ahead at the start.
    resume_store.started.0.wall += 3_600_000_000_000;
    resume_store.finish(&fixture.storage, pieces(Bitfield::full(4)), |_| false);
    assert_eq!(fixture.trusted_pieces(), [0; 0]);
    fixture.fill();
    assert_eq!(fixture.trusted_pieces(), [0, 1, 2, 3], "and the next run's record is as good as ever");
}

#[test]
fn a_record_with_times_in_the_future_is_not_trusted() {
    let fixture = StoreFixture::new();
    fixture.fill();
    let mut record = fixture.decoded();
    let tomorrow = SystemTime::now() + Duration::from_secs(24 * 60 * 60);
    let file = File::options().write(true).open(fixture.file("a")).expect("a");
    file.set_times(FileTimes::new().set_modified(tomorrow)).expect("times");
    for (number, stamp) in &mut record.files {
        *stamp = fixture.storage.stamp(*number as usize).expect("a file");
    }
    fs::write(fixture.record(), record.encode()).expect("room");
    assert_eq!(fixture.trusted_pieces(), [2, 3]);
}

#[test]
fn bytes_sent_add_up_over_runs() {
    let fixture = StoreFixture::new();
    fixture.fill();
    for run in 0..3 {
        let mut resume_store = fixture.resume_store();
        assert_eq!(resume_store.uploaded_before(), run * 1000);
        assert!(resume_store.load_trusted_pieces(&fixture.storage).is_full());
        assert_eq!(resume_store.due((4, 0)), None);
        resume_store.set_uploaded(600);
        assert_eq!(resume_store.due((4, 0)), Some(UPLOAD_ONLY_SAVE_DELAY));
        resume_store.save(&fixture.storage, pieces(Bitfield::full(4)), Duration::ZERO);
        assert_eq!(resume_store.due((4, 0)), None, "it is written");
        resume_store.set_uploaded(1000);
        assert_eq!(resume_store.due((4, 0)), Some(SAVE_INTERVAL + UPLOAD_ONLY_SAVE_DELAY));
        resume_store.finish(&fixture.storage, pieces(Bitfield::full(4)), |_| false);
    }
}

#[test]
fn a_pipe_in_the_records_place_is_not_waited_for_and_is_replaced() {
    let fixture = StoreFixture::new();
    fixture.fill();
    let record = fixture.record();
    fs::remove_file(&record).expect("the record");
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, &record, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
    assert!(fixture.trusted_pieces().is_empty());
    fixture.fill();
    assert!(fs::metadata(&record).expect("a record").is_file());
}

#[test]
fn a_record_names_no_file_from_the_moment_of_completion_on_and_is_due_again() {
    let fixture = StoreFixture::new();
    let mut resume_store = fixture.resume_store();
    resume_store.set_owned_files(vec![(0, 9)], &fixture.storage, &Bitfield::new(4));
    assert_eq!(fixture.decoded().owned_files, Some(vec![(0, 9)]));
    fixture.storage.write_vectored_at(0, &[IoSlice::new(&[1; 200])]).expect("room");
    resume_store.drop_complete_files(&fixture.storage, pieces(Bitfield::full(4)), Duration::from_secs(7));
    assert_eq!(fixture.decoded().owned_files, Some(Vec::new()));
    // The file that was written last could not be recorded yet.
    assert_eq!(resume_store.due((4, 0)), Some(Duration::from_secs(7) + SAVE_INTERVAL));
}

/// A run that does not want an incomplete file neither writes to it nor forgets that it is btsync's.
#[test]
fn a_run_that_leaves_an_incomplete_file_alone_keeps_its_entry() {
    let fixture = StoreFixture::new();
    let all = Bitfield::full(4);
    let mut first = Bitfield::new(4);
    (0..3).for_each(|piece| _ = first.set(PieceIndex(piece)));
    let begin = || {
        let mut resume_store = fixture.resume_store();
        resume_store.set_owned_files(vec![(0, 8), (1 | PREEXISTING, 9)], &fixture.storage, &Bitfield::new(4));
        fixture.storage.write_vectored_at(0, &[IoSlice::new(&[1; 150])]).expect("room");
        resume_store.finish(&fixture.storage, pieces(first.clone()), |_| false);
    };
    let owned = || fixture.decoded().owned_files.expect("a list");
    begin();
    assert_eq!(owned(), [(0, 8), (1 | PREEXISTING, 9)]);
    // The first file was completed, so it is not inherited; a run that wants nothing else leaves the rest as it is.
    let mut resume_store = fixture.resume_store();
    assert_eq!(resume_store.load_trusted_pieces(&fixture.storage), first);
    resume_store.set_owned_files(vec![(0, 8)], &fixture.storage, &first);
    assert_eq!(owned(), [(0, 8), (1 | PREEXISTING, 9)]);
    resume_store.drop_complete_files(&fixture.storage, pieces(first.clone()), Duration::ZERO);
    assert_eq!(owned(), [(1 | PREEXISTING, 9)]);
    let mut resume_store = fixture.resume_store();
    assert_eq!(resume_store.load_trusted_pieces(&fixture.storage), first);
    resume_store.finish(&fixture.storage, pieces(first.clone()), |_| false);
    assert_eq!(owned(), [(1 | PREEXISTING, 9)]);
    // The run writes to that file itself and completes it.
    let mut resume_store = fixture.resume_store();
    resume_store.set_owned_files(vec![(1, 9)], &fixture.storage, &first);
    assert_eq!(owned(), [(1, 9)]);
    resume_store.drop_complete_files(&fixture.storage, pieces(all), Duration::ZERO);
    assert_eq!(owned(), []);
    // Files that another program has touched are not inherited.
    begin();
    fs::set_permissions(fixture.file("b"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("b");
    fixture.resume_store().finish(&fixture.storage, pieces(first), |_| false);
    assert_eq!(owned(), []);
}
