//! Another program opens a file after btsync has looked who has it open, and before btsync replaces or removes it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::storage::open_elsewhere::tests::OtherProgram;
use crate::storage::{FileAction, FileSpec, Layout};

fn storage(dir: &Path, paths: &[&str]) -> Storage {
    let spec = |path: &&str| FileSpec { path: path.into(), length: 9, is_pad: false };
    Storage::new(dir.to_owned(), Layout::new(10, paths.iter().map(spec).collect()).unwrap(), 4)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_that_is_opened_before_its_replacement_keeps_its_name_and_what_is_written() {
    let (dir, no) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let log = dir.path().join("log");
    for name in ["log", "other"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let inode = fs::metadata(&log).unwrap().ino();
    let it = storage(dir.path(), &["folder/new", "log", "other"]);
    let actions = [FileAction::Create, FileAction::ReplaceEmpty, FileAction::ReplaceEmpty];
    let program = OtherProgram::python("f = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)", &[&log]);
    let refused = it.create_files(&actions, &mut it.survey(&no).unwrap(), &no);
    assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::OpenElsewhere, .. })), "{refused:?}");
    assert_eq!(fs::metadata(&log).unwrap().ino(), inode);
    assert_eq!(names(dir.path()), ["log", "other"], "nothing else was created, and nothing is left behind");
    // The user gives the file to btsync.
    it.safeguards.may_replace_open.set(true);
    it.create_files(&actions, &mut it.survey(&no).unwrap(), &no).unwrap();
    assert_ne!(fs::metadata(&log).unwrap().ino(), inode);
    drop(program);
    it.safeguards.may_replace_open.set(false);
    let inode = fs::metadata(&log).unwrap().ino();
    let actions = [FileAction::Leave, FileAction::ReplaceEmpty, FileAction::ReplaceEmpty];
    it.create_files(&actions, &mut it.survey(&no).unwrap(), &no).unwrap();
    assert_ne!(fs::metadata(&log).unwrap().ino(), inode, "nobody has it open any more");
    assert_eq!(names(dir.path()), ["folder", "log", "other"]);
}

#[test]
fn a_file_that_gets_data_while_it_has_a_temporary_name_stays() {
    let (dir, no) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let it = storage(dir.path(), &["a", "b"]);
    fs::write(dir.path().join("a"), "").unwrap();
    fs::write(dir.path().join("b"), "").unwrap();
    let seen = it.survey(&no).unwrap();
    let aside = |number: usize, name: &str| it.set_aside(number, Path::new(name), seen.file(number).unwrap()).unwrap();
    let files: Vec<FileSetAside> = [aside(0, "a"), aside(1, "b")].into_iter().flatten().collect();
    fs::write(dir.path().join(&files[1].name), "mine").unwrap();
    let used = it.remove_set_aside(files);
    assert_eq!(used.iter().map(|file| file.number).collect::<Vec<_>>(), [1]);
    it.give_back(&used[0]);
    assert_eq!((names(dir.path()), fs::read(dir.path().join("b")).unwrap()), (vec!["b".into()], b"mine".to_vec()));
}

#[test]
fn a_created_file_that_another_program_has_open_is_not_removed_again() {
    let (dir, no) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let it = storage(dir.path(), &["t/a", "t/b", "u/c"]);
    let mut survey = it.survey(&no).unwrap();
    it.create_files(&[FileAction::Create; 3], &mut survey, &no).unwrap();
    let opened = dir.path().join("t/b");
    let program = OtherProgram::python("f = os.open(sys.argv[1], os.O_RDWR)", &[&opened]);
    it.roll_back(&[FileAction::Create; 3], &survey, None);
    assert_eq!((names(dir.path()), names(&dir.path().join("t"))), (vec!["t".into()], vec!["b".into()]));
    drop(program);
    assert_eq!(it.remove_unused([(1, *survey.file(1).unwrap())].into_iter()).len(), 1);
    assert!(!opened.exists());
}
