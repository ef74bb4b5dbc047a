//! An unfinished download that was copied with its times, as a move to another disk does it, and what may lie in its place.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use sha1::{Digest, Sha1};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::storage::marker::MarkerNote;
use crate::storage::ownership::{OwnershipClaim, Refusal};
use crate::storage::resume::CLOCK_TICK;
use crate::storage::{CheckProgress, FileSpec, Layout, check, marker_name};
use crate::types::Bitfield;

mod forged_markers;

const HASH: InfoHash = InfoHash([1; 20]);
const PIECE: usize = 32 << 10;
const BLOCK: usize = 16 << 10;
/// Two pieces of their own, then one piece of three files.
const FILES: [(&str, usize); 4] = [("big", 2 * PIECE), ("one", 20_000), ("two", 5000), ("rest", PIECE - 25_000)];

fn storage(dir: &TempDir) -> Storage {
    storage_of(dir, &FILES)
}

fn storage_of(dir: &TempDir, files: &[(&str, usize)]) -> Storage {
    let spec = |(path, length): &(&str, usize)| FileSpec { path: path.into(), length: *length as u64, is_pad: false };
    let layout = Layout::new(PIECE as u32, files.iter().map(spec).collect()).unwrap();
    Storage::new(dir.path().to_owned(), layout, 4)
}

fn content() -> Vec<u8> {
    (0..3 * PIECE).map(|at| (at % 251) as u8 + 1).collect()
}

fn of(number: usize) -> Vec<u8> {
    let start = FILES[..number].iter().map(|(_, length)| length).sum::<usize>();
    content()[start..start + FILES[number].1].to_vec()
}

/// A download that was stopped: the first file is complete, and one block of the second is there.
fn stopped() -> TempDir {
    let (dir, no) = (tempdir().unwrap(), AtomicBool::new(false));
    let mut it = storage(&dir);
    let (mut survey, actions) = (it.survey(&no).unwrap(), [FileAction::Create; 4]);
    it.lock(&HASH).unwrap();
    it.create_files(&actions, &mut survey, &no).unwrap();
    it.record_ownership(&HASH, &actions, &survey, false).unwrap();
    it.resize_files(&actions, &survey, &no).unwrap();
    for (number, length) in [(0, 2 * PIECE), (1, BLOCK)] {
        let offset = it.layout().start_of(number);
        it.write_vectored_at(offset, &[std::io::IoSlice::new(&of(number)[..length])]).unwrap();
    }
    it.close();
    it.unlock();
    dir
}

fn modified(path: PathBuf) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

fn set_modified(path: PathBuf, at: SystemTime) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(at)).unwrap();
}

/// Copies the download with its times.
fn moved() -> TempDir {
    copied(&stopped(), &FILES.map(|(name, _)| name))
}

fn copied(from: &TempDir, names: &[&str]) -> TempDir {
    let (to, marker) = (tempdir().unwrap(), marker_name(&HASH));
    for name in names.iter().map(PathBuf::from).chain([marker.clone()]) {
        let copy = to.path().join(&name);
        fs::copy(from.path().join(&name), &copy).unwrap();
        set_modified(copy, modified(from.path().join(&name)));
    }
    // The move takes longer than a tick of the clock.
    let marker = to.path().join(&marker);
    let at = modified(marker.clone());
    let is_later = |found: fs::Metadata| (found.ctime(), found.ctime_nsec()) > (found.mtime(), found.mtime_nsec());
    while !is_later(fs::metadata(&marker).unwrap()) {
        set_modified(marker.clone(), at);
    }
    to
}

fn decide(it: &mut Storage, claim: OwnershipClaim) -> (Survey, Result<Vec<FileAction>, StorageError>) {
    let no = AtomicBool::new(false);
    it.marker.content = it.read_marker(&HASH).unwrap();
    let survey = it.survey(&no).unwrap();
    let hashes: Vec<Sha1Hash> = content().chunks(PIECE).map(|piece| Sha1::digest(piece).into()).collect();
    let have = check(it, &hashes, 1, &CheckProgress::default(), &no).unwrap();
    let decided = it.decide(&DecisionInput {
        survey: &survey,
        hashes: &hashes,
        have: &have,
        wanted: &Bitfield::full(3),
        ours: &|_, _| false,
        claim: &|number, _| if number == 1 { claim } else { OwnershipClaim::None },
        of_earlier_run: &|number, seen| it.is_of_earlier_run(&HASH, number, seen),
        vouched: &|_, _| false,
        may_overwrite: false,
        stop: &no,
    });
    (survey, decided)
}

/// Whether the second file is continued.
fn is_continued(dir: &TempDir, claim: OwnershipClaim) -> bool {
    match decide(&mut storage(dir), claim).1 {
        Ok(actions) => actions[1] == FileAction::Continue,
        Err(StorageError::InTheWay { why: Refusal::Foreign, .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_download_that_was_moved_is_resumed_and_named_by_its_new_files() {
    let dir = moved();
    let (no, mut it) = (AtomicBool::new(false), storage(&dir));
    let (mut survey, decided) = decide(&mut it, OwnershipClaim::None);
    let actions = decided.unwrap();
    assert_eq!(actions, [FileAction::Leave, FileAction::Continue, FileAction::ReplaceEmpty, FileAction::ReplaceEmpty]);
    it.lock(&HASH).unwrap();
    it.create_files(&actions, &mut survey, &no).unwrap();
    it.record_ownership(&HASH, &actions, &survey, false).unwrap();
    it.unlock();
    let marker = it.read_marker(&HASH).unwrap().unwrap();
    assert!(
        marker.is_unfinished_file(Path::new("one"), survey.file(1).unwrap().identity)
            && !marker.has_path(Path::new("big"))
    );
    assert!(marker.earliest_write > 0 && is_continued(&dir, OwnershipClaim::MadeButChanged));
}

/// Most of it verifies, but a file of the user's would only be read.
#[test]
fn an_unfinished_file_that_was_moved_and_is_not_wanted_is_btsyncs() {
    let (files, actions) = ([("m", 2 * PIECE + 1000), ("n", PIECE - 1000)], [FileAction::Create; 2]);
    let (from, no) = (tempdir().unwrap(), AtomicBool::new(false));
    let mut it = storage_of(&from, &files);
    let mut survey = it.survey(&no).unwrap();
    it.lock(&HASH).unwrap();
    it.create_files(&actions, &mut survey, &no).unwrap();
    it.record_ownership(&HASH, &actions, &survey, false).unwrap();
    it.resize_files(&actions, &survey, &no).unwrap();
    it.write_vectored_at(0, &[std::io::IoSlice::new(&content()[..2 * PIECE])]).unwrap();
    it.close();
    it.unlock();
    let dir = copied(&from, &["m"]);
    for has_marker in [true, false] {
        if !has_marker {
            fs::remove_file(dir.path().join(marker_name(&HASH))).unwrap();
        }
        let mut it = storage_of(&dir, &files).select(&[false, true], &crate::storage::part_name(&HASH));
        let actions = decide(&mut it, OwnershipClaim::None).1.unwrap();
        let expected = if has_marker { FileAction::Continue } else { FileAction::Compare };
        assert_eq!(actions, [expected, FileAction::Create]);
    }
}

#[test]
fn small_files_are_resumed_without_a_piece_of_their_own_where_others_verify() {
    // The file system may have reused the inode numbers, or the permissions were changed after a kill.
    for claim in [OwnershipClaim::MadeButReusable, OwnershipClaim::StartedHere] {
        let dir = stopped();
        assert!(is_continued(&dir, claim));
        fs::write(dir.path().join("big"), vec![7; 2 * PIECE]).unwrap();
        assert!(!is_continued(&dir, claim), "no piece verifies");
    }
}

/// What a case does to a copied download.
type Change<'a> = &'a dyn Fn(&TempDir);

/// Each case changes a copied download. Whatever is not as btsync left it is the user's.
#[test]
fn a_copy_of_a_marker_makes_no_file_of_the_users_ours() {
    let in_dir = |dir: &TempDir, name: &str| dir.path().join(name);
    let shift = |dir: &TempDir, name: &str, by: fn(SystemTime) -> SystemTime| {
        set_modified(in_dir(dir, name), by(modified(in_dir(dir, name))));
    };
    let refill = |dir: &TempDir, name: &str, bytes: &[u8]| {
        let at = modified(in_dir(dir, name));
        fs::write(in_dir(dir, name), bytes).unwrap();
        set_modified(in_dir(dir, name), at);
    };
    let marker = marker_name(&HASH);
    let marker = marker.to_str().unwrap();
    let cases: [(&str, Change<'_>); 8] = [
        ("it was changed later", &|dir| shift(dir, "one", |at| at + Duration::from_secs(9))),
        ("it is older than the download", &|dir| shift(dir, "one", |at| at - Duration::from_secs(9))),
        ("it has another length", &|dir| refill(dir, "one", &vec![7; 19_999])),
        ("it ends with a block, but files have their full length", &|dir| refill(dir, "one", &vec![7; BLOCK])),
        ("a piece that lacks nothing is wrong", &|dir| {
            for (name, length) in &FILES[1..] {
                refill(dir, name, &vec![7; *length]);
            }
        }),
        ("no piece verifies", &|dir| refill(dir, "big", &vec![0; 2 * PIECE])),
        ("the marker was copied without its time", &|dir| {
            let bytes = fs::read(in_dir(dir, marker)).unwrap();
            fs::write(in_dir(dir, marker), bytes).unwrap();
        }),
        ("it was edited while btsync ran", &|dir| {
            let made = storage(dir).read_marker(&HASH).unwrap().unwrap().created[&marker::path_hash(Path::new("one"))];
            let edited = MarkerNote::Edited(marker::path_hash(Path::new("one")), made).line();
            refill(dir, marker, &[fs::read(in_dir(dir, marker)).unwrap(), edited.into_bytes()].concat());
        }),
    ];
    for (name, change) in cases {
        let dir = moved();
        assert!(is_continued(&dir, OwnershipClaim::None), "{name}: before");
        change(&dir);
        assert!(!is_continued(&dir, OwnershipClaim::None), "{name}");
    }
}

#[test]
fn complete_files_of_a_moved_download_get_their_final_names() {
    let (dir, no) = (moved(), AtomicBool::new(false));
    let mut it = storage(&dir);
    let mut marker = it.read_marker(&HASH).unwrap().unwrap();
    let path_hash = marker::path_hash(Path::new("big"));
    marker.apply(MarkerNote::Completed(path_hash, marker.created[&path_hash], i64::MAX));
    it.marker.content = Some(marker);
    let survey = it.survey(&no).unwrap();
    let knows = |it: &Storage| {
        let identity = survey.file(0).unwrap().identity;
        it.marker.content.as_ref().unwrap().is_created_file(Path::new("big"), identity)
    };
    assert!(!knows(&it));
    it.adopt_moved_files(&HASH, &survey);
    assert!(knows(&it));
}

/// A killed process had not recorded them as complete.
#[test]
fn complete_files_of_a_moved_download_get_their_final_names_whether_recorded_as_complete_or_not() {
    let marks = |dir: &TempDir, actions: &[FileAction; 4], have: &Bitfield| {
        let mut it = storage(dir);
        it.marker.content = it.read_marker(&HASH).unwrap();
        let survey = it.survey(&AtomicBool::new(false)).unwrap();
        it.adopt_moved_whole_files(&HASH, actions, &survey, have);
        let marker = it.marker.content.take().unwrap();
        let identity = |number: usize| survey.file(number).unwrap().identity;
        [0, 1].map(|number| marker.is_completed_file(Path::new(FILES[number].0), identity(number)))
    };
    let (leave, mut have) = ([FileAction::Leave; 4], Bitfield::new(3));
    have.set(PieceIndex(0));
    assert_eq!(marks(&moved(), &leave, &have), [false; 2], "it is not complete");
    have.set(PieceIndex(1));
    assert_eq!(marks(&moved(), &leave, &have), [true, false]);
    assert_eq!(
        marks(&moved(), &[FileAction::Continue; 4], &have),
        [false; 2],
        "a file that is written to gets another entry"
    );
    let dir = moved();
    set_modified(dir.path().join("big"), SystemTime::now());
    assert_eq!(marks(&dir, &leave, &have), [false; 2], "another file of that name");
}

#[test]
fn coarse_times_are_not_before_the_beginning() {
    let earliest_write = 1_700_000_001_500_000_000;
    assert!(
        is_not_before(earliest_write, earliest_write) && is_not_before(earliest_write - CLOCK_TICK, earliest_write)
    );
    assert!(!is_not_before(earliest_write - CLOCK_TICK - 1, earliest_write));
    assert!(is_not_before(1_700_000_000_000_000_000, earliest_write), "FAT");
    assert!(!is_not_before(1_699_999_998_000_000_000, earliest_write));
}

/// A part file with blocks of one piece that is not complete: no piece tells whose it is.
#[test]
fn a_part_file_that_was_moved_is_btsyncs_if_its_times_say_so() {
    let (from, no) = (tempdir().unwrap(), AtomicBool::new(false));
    let part_name = crate::storage::part_name(&HASH);
    let wanted = [true, true, false, true];
    let mut it = storage(&from).select(&wanted, &part_name);
    let mut survey = it.survey(&no).unwrap();
    let action = |wanted| if wanted { FileAction::Create } else { FileAction::Leave };
    let actions = wanted.map(action);
    it.lock(&HASH).unwrap();
    it.create_part_file(FileAction::Create, &mut survey).unwrap();
    it.create_files(&actions, &mut survey, &no).unwrap();
    it.record_ownership(&HASH, &actions, &survey, false).unwrap();
    it.resize_files(&actions, &survey, &no).unwrap();
    it.write_vectored_at(it.layout().start_of(2), &[std::io::IoSlice::new(&of(2))]).unwrap();
    it.close();
    it.unlock();
    // What happens to the copies of the part file and of the marker, and whether the part file is btsync's then.
    let hour = Duration::from_secs(3600);
    for (part_file_later, keeps_marker_time, is_ours) in
        [(None, true, true), (Some(hour), true, false), (None, false, false)]
    {
        let to = tempdir().unwrap();
        for name in [marker_name(&HASH), part_name.clone()] {
            let (old, copy) = (from.path().join(&name), to.path().join(&name));
            fs::copy(&old, &copy).unwrap();
            let is_marker = name != part_name;
            let at = modified(old) + part_file_later.filter(|_| !is_marker).unwrap_or_default();
            if is_marker && !keeps_marker_time {
                continue;
            }
            set_modified(copy.clone(), at);
            // The move takes longer than a tick of the clock.
            let is_past =
                |found: fs::Metadata| (found.ctime(), found.ctime_nsec()) > (found.mtime(), found.mtime_nsec());
            while is_marker && !is_past(fs::metadata(&copy).unwrap()) {
                set_modified(copy.clone(), at);
            }
        }
        let mut it = storage(&to).select(&wanted, &part_name);
        it.marker.content = it.read_marker(&HASH).unwrap();
        let seen = it.survey(&no).unwrap().part_file.unwrap();
        assert_eq!(
            it.may_be_of_earlier_run(&HASH, &part_name, &seen),
            is_ours,
            "{part_file_later:?} {keeps_marker_time}"
        );
    }
}

#[test]
fn files_of_one_move_have_old_times_and_are_moved_within_a_day() {
    let moved =
        |mtime: i64, ctime: i64| FileSnapshot { mtime: (mtime, 0), ctime: (ctime, 0), ..FileSnapshot::default() };
    let (day, marker) = (24 * 3600, moved(1_000, 1_000_000));
    assert!(may_be_moved_together(&marker, &moved(900, 1_000_000 - day)));
    assert!(may_be_moved_together(&marker, &moved(900, 1_000_000 + day)));
    assert!(!may_be_moved_together(&marker, &moved(900, 1_000_001 + day)), "it came later");
    assert!(!may_be_moved_together(&marker, &moved(900, 999_999 - day)), "it was there before");
    assert!(!may_be_moved_together(&marker, &moved(1_000_000, 1_000_000)), "it was written here");
    assert!(!may_be_moved_together(&moved(1_000_000, 1_000_000), &moved(900, 1_000_000)), "the marker was");
}

/// Nothing needs to be written to it, so a forged marker cannot make btsync write to a file of the user's that looks like that.
#[test]
fn a_moved_file_that_lacks_no_data_is_compared_and_gets_its_final_name() {
    for is_right in [true, false] {
        let (dir, no) = (moved(), AtomicBool::new(false));
        let one = dir.path().join("one");
        let at = modified(one.clone());
        fs::write(&one, if is_right { of(1) } else { vec![7; 20_000] }).unwrap();
        set_modified(one, at);
        let mut it = storage(&dir);
        let (mut survey, decided) = decide(&mut it, OwnershipClaim::None);
        let actions = decided.unwrap();
        assert_eq!(actions[1], FileAction::Compare);
        let (number, path, have) = (1, Path::new("one"), Bitfield::new(3));
        it.adopt_moved_whole_files(&HASH, &actions, &survey, &have);
        it.lock(&HASH).unwrap();
        it.create_files(&actions, &mut survey, &no).unwrap();
        it.record_ownership(&HASH, &actions, &survey, false).unwrap();
        let (marker, seen) = (it.read_marker(&HASH).unwrap().unwrap(), survey.file(number).unwrap());
        assert!(marker.is_created_file(path, seen.identity), "it gets its final name");
        assert!(!marker.is_unfinished_file(path, seen.identity) && !marker.is_completed_and_unchanged(path, seen));
    }
}
