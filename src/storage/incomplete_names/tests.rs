//! Names of incomplete files, and the renames at the end, in real folders.

use std::fs;
use std::io::IoSlice;

use super::*;
use crate::storage::StorageErrorKind;
use crate::types::InfoHash;

fn layout(files: &[(&str, u64)]) -> Layout {
    let file = |(path, length): &(&str, u64)| FileSpec { path: path.into(), length: *length, is_pad: false };
    Layout::new(16, files.iter().map(file).collect()).unwrap()
}

fn names(layout: &Layout) -> Vec<String> {
    layout.files().iter().map(|spec| spec.path.to_string_lossy().into_owned()).collect()
}

#[test]
fn unfinished_files_have_a_suffix_that_is_nobodys_name() {
    let long = "x".repeat(251);
    let files = [("t/a", 3), ("t/a.part", 3), ("t/b", 3), ("t/b.part/c", 3), ("t/empty", 0), (long.as_str(), 3)];
    let named = layout(&files).with_incomplete_suffix(".part", |_, _, _| true);
    assert_eq!(names(&named), ["t/a", "t/a.part.part", "t/b", "t/b.part/c.part", "t/empty", long.as_str()]);
    let one = layout(&files[..3]).with_incomplete_suffix("~", |file, _, path| file == 2 && path == Path::new("t/b~"));
    assert_eq!(names(&one), ["t/a", "t/a.part", "t/b~"]);
    let watched = layout(&[("t/a", 3), ("t/a.", 3), ("t/a.T", 3)]);
    let suffixes = [".torrent", "torrent", "orrent", ".MAGNET"];
    let changed = suffixes.map(|suffix| names(&watched.clone().with_incomplete_suffix(suffix, |_, _, _| true)));
    assert!(changed.iter().flatten().all(|name| !is_watched_name(Path::new(name))), "{changed:?}");
}

/// A later download into the torrent's own folder would believe such a file.
#[test]
fn no_suffix_makes_a_name_of_btsyncs_own() {
    let own = format!("t/.{}", "0123456789".repeat(4));
    for suffix in [".btsync", ".parts", ".btsync.new", ".BTSync.NEW", ".bt\u{17f}ync", ".btsync.parts"] {
        let named = layout(&[(&own, 3), ("t/a", 3)]).with_incomplete_suffix(suffix, |_, _, _| true);
        assert_eq!(names(&named), [own.clone(), format!("t/a{suffix}")]);
    }
    let named = layout(&[(&own, 3)]).with_incomplete_suffix(".part", |_, _, _| true);
    assert_eq!(names(&named), [format!("{own}.part")]);
}

#[test]
fn names_are_given_at_the_end_and_replace_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&[("t/a", 3), ("t/b", 3)]).with_incomplete_suffix(".part", |_, _, _| true);
    let storage = Storage::new(dir.path().to_owned(), layout, 4);
    storage.prepare().unwrap();
    storage.write_vectored_at(0, &[IoSlice::new(b"aaabbb")]).unwrap();
    let at = |name: &str| fs::read(dir.path().join("t").join(name)).ok();
    assert_eq!((at("a"), at("a.part")), (None, Some(b"aaa".to_vec())));
    fs::write(dir.path().join("t/b"), "mine").unwrap();
    assert_eq!(storage.apply_final_names().unwrap_err().kind(), StorageErrorKind::Exists);
    assert!(!storage.has_final_names());
    assert_eq!((at("b"), at("b.part")), (Some(b"mine".to_vec()), Some(b"bbb".to_vec())));
}

#[test]
fn a_file_that_replaces_ours_at_the_last_moment_gets_its_name_back() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let layout = layout(&[("a", 6)]).with_incomplete_suffix(".part", |_, _, _| true);
    let storage = Storage::new(dir.path().to_owned(), layout, 4);
    storage.prepare().unwrap();
    let seen = storage.check_incomplete_file(0).unwrap();
    assert!(seen.is_some());
    fs::rename(at("a.part"), at("ours")).unwrap();
    fs::write(at("a.part"), "theirs").unwrap();
    let refused = storage.rename_to_final(0, Path::new("a"), seen);
    assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Replaced, .. })), "{refused:?}");
    assert!(fs::read(at("a.part")).unwrap() == b"theirs" && !at("a").exists());
    fs::rename(at("ours"), at("a.part")).unwrap();
    storage.rename_to_final(0, Path::new("a"), seen).unwrap();
    assert!(at("a").exists() && !at("a.part").exists());
}

#[test]
fn a_file_that_may_be_complete_keeps_its_name_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.part"), "theirs").unwrap();
    for (action, kept) in [(FileAction::Compare, 1), (FileAction::Continue, 0)] {
        let layout = layout(&[("a", 6)]).with_incomplete_suffix(".part", |_, _, _| true);
        let mut storage = Storage::new(dir.path().to_owned(), layout, 4);
        let survey = storage.survey(&std::sync::atomic::AtomicBool::new(false)).unwrap();
        assert_eq!(storage.keep_unfinished_names(&[action], &survey).len(), kept, "{action:?}");
    }
}

#[test]
fn complete_files_that_are_not_ours_keep_the_names_that_they_have() {
    let no = std::sync::atomic::AtomicBool::new(false);
    let hash = InfoHash([1; 20]);
    let begin = |dir: &Path| {
        let layout = layout(&[("a", 6)]).with_incomplete_suffix(".part", |_, _, _| true);
        let mut storage = Storage::new(dir.to_owned(), layout, 4);
        let mut survey = storage.survey(&no).unwrap();
        storage.marker.content = storage.read_marker(&hash).unwrap();
        (survey.file(0).is_none(), storage.keep_unfinished_names(&[FileAction::Leave], &survey).len(), {
            if survey.file(0).is_none() {
                storage.lock(&hash).unwrap();
                storage.create_files(&[FileAction::Create], &mut survey, &no).unwrap();
                storage.record_ownership(&hash, &[FileAction::Create], &survey, false).unwrap();
            }
            storage.layout.final_names().len()
        })
    };
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(begin(dir.path()), (true, 0, 1));
    assert_eq!(begin(dir.path()), (false, 0, 1), "the marker names it");
    fs::hard_link(dir.path().join("a.part"), dir.path().join("b")).unwrap();
    assert_eq!(begin(dir.path()), (false, 1, 0), "it has another name");
    fs::remove_file(dir.path().join("a.part")).unwrap();
    std::os::unix::fs::symlink("b", dir.path().join("a.part")).unwrap();
    assert_eq!(begin(dir.path()), (false, 1, 0), "a link of the user's");
    fs::remove_file(dir.path().join("a.part")).unwrap();
    fs::write(dir.path().join("a.part"), "theirs").unwrap();
    assert_eq!(begin(dir.path()), (false, 1, 0), "another file");
}

#[test]
fn files_are_read_by_their_own_names_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let layout = layout(&[("t/a", 3), ("t/b", 3)]).with_incomplete_suffix(".part", |_, _, _| true);
    let storage = Storage::new(dir.path().to_owned(), layout, 4);
    storage.prepare().unwrap();
    storage.write_vectored_at(0, &[IoSlice::new(b"aaabbb")]).unwrap();
    // A stop takes effect before the first file.
    assert!(!storage.apply_final_names_until(&|| true).unwrap() && !storage.has_final_names());
    assert!(!storage.check_files_until(&|| true).unwrap());
    storage.apply_final_names().unwrap();
    storage.close();
    let mut buf = [0; 6];
    storage.read_exact_at(0, &mut buf).unwrap();
    assert_eq!(&buf, b"aaabbb");
    assert!(storage.check_files_in_place().is_ok() && storage.stamp(1).is_some() && storage.has_final_names());
    assert_eq!(fs::read_dir(dir.path().join("t")).unwrap().count(), 2);
}

#[test]
fn a_file_that_took_the_place_of_ours_gets_no_other_name() {
    let dir = tempfile::tempdir().unwrap();
    let no = std::sync::atomic::AtomicBool::new(false);
    let layout = layout(&[("a", 6)]).with_incomplete_suffix(".part", |_, _, _| true);
    let mut storage = Storage::new(dir.path().to_owned(), layout, 4);
    let mut survey = storage.survey(&no).unwrap();
    storage.create_files(&[FileAction::Create], &mut survey, &no).unwrap();
    storage.record_ownership(&InfoHash([1; 20]), &[FileAction::Create], &survey, false).unwrap();
    let (mine, ours) = (dir.path().join("mine"), dir.path().join("a.part"));
    // The creation time distinguishes files, and the system counts it in ticks.
    let born = |path: &Path| fs::metadata(path).and_then(|found| found.created()).unwrap();
    while !mine.exists() || born(&mine) <= born(&ours) {
        let _ = fs::remove_file(&mine);
        fs::write(&mine, "mine").unwrap();
    }
    fs::rename(mine, ours).unwrap();
    let refused = storage.apply_final_names();
    assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Replaced, .. })), "{refused:?}");
    assert_eq!(fs::read(dir.path().join("a.part")).unwrap(), b"mine");
}
