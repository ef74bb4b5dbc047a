//! Names of files that are not complete yet, where the user wants to tell them apart (`--incomplete-suffix`): each has a suffix until
//! all that is wanted of the torrent is there, and then gets its own name.
//!
//! A process may die between any two of these steps. A file that has its own name already is complete; one with the suffix is
//! found by that name, and the names are given when the next run finds everything there.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::error::{Doing, StorageError};
use super::files::Storage;
use super::layout::Layout;
use super::ownership::Refusal;
use super::seen::{identity, is_same};

/// The bytes that a name may have; what the common file systems allow.
const NAME_MAX: usize = 255;

impl Layout {
    /// The same with unfinished files named by a suffix: those for which `is_unfinished` says so of their number, their own path and
    /// the one with the suffix. A file keeps its name where the other one would be too long, or is that of another file or folder.
    #[must_use]
    pub fn with_unfinished(mut self, suffix: &str, is_unfinished: impl Fn(usize, &Path, &Path) -> bool) -> Layout {
        let ends = |path: &&Path| path.as_os_str().as_encoded_bytes().ends_with(suffix.as_bytes());
        let paths = self.files().iter().filter(|spec| !spec.pad).map(|spec| spec.path.as_path());
        let taken: HashSet<PathBuf> = paths.flat_map(Path::ancestors).filter(ends).map(Path::to_owned).collect();
        let files = self.files().iter().enumerate().filter(|(_, spec)| !spec.pad && spec.length > 0);
        let named = files.filter_map(|(file, spec)| {
            let mut name: OsString = spec.path.file_name()?.to_owned();
            name.push(suffix);
            let path = spec.path.with_file_name(&name);
            let fits = name.len() <= NAME_MAX && !taken.contains(&path);
            (fits && is_unfinished(file, &spec.path, &path)).then_some((file, path))
        });
        let named: Vec<(usize, PathBuf)> = named.collect();
        for (file, path) in named {
            let own = self.files().get(file).map(|spec| spec.path.clone()).unwrap_or_default();
            if self.redirect(file, &path).is_ok() {
                self.set_final_name(file, own);
            }
        }
        self
    }
}

impl Storage {
    /// Gives the wanted files their own names. To be called when all that is wanted is there.
    ///
    /// # Errors
    /// Where a file cannot be renamed, as where another file has that name by now; where it is not the file that btsync has written.
    pub fn take_final_names(&self) -> Result<(), StorageError> {
        for (file, own) in self.layout.final_names() {
            // An earlier call may have come to this file and found no descriptor for the next one.
            if *file < self.final_names.load(Ordering::Acquire) || !self.wants(*file) {
                continue;
            }
            if let Some(Some(ours)) = self.writable.as_ref().and_then(|writable| writable.get(*file)) {
                let found = self.root.metadata_inside(self.name(*file));
                let found = found.map_err(|error| self.failed(Doing::Rename, *file, error))?;
                if !is_same(*ours, identity(&found)) {
                    return Err(self.in_the_way(*file, Refusal::Appeared));
                }
            }
            // The time of its last change is that of a write of ours.
            let _writing = self.cache().writing(*file);
            if let Err(error) = self.root.rename_to_new(self.name(*file), own) {
                return Err(StorageError::io(Doing::Rename, &self.root.path().join(self.name(*file)))(error));
            }
            self.final_names.store(file + 1, Ordering::Release);
        }
        self.final_names.store(self.layout.files().len(), Ordering::Release);
        Ok(())
    }

    /// Whether no file has the name of an unfinished one any more.
    pub fn has_final_names(&self) -> bool {
        self.layout.final_names().is_empty() || self.final_names.load(Ordering::Acquire) >= self.layout.files().len()
    }
}

impl super::open::Root {
    /// Gives a file another name, which nothing must have.
    fn rename_to_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.rename_with(from, to, rustix::fs::RenameFlags::NOREPLACE) {
            // A file system that cannot tell.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::NOSYS)) => {
                if self.metadata_inside(to).is_ok() { Err(Errno::EXIST.into()) } else { self.rename(from, to) }
            }
            renamed => renamed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::IoSlice;

    use super::*;
    use crate::storage::{FileSpec, Step, StorageErrorKind};
    use crate::types::InfoHash;

    fn layout(files: &[(&str, u64)]) -> Layout {
        let file = |(path, length): &(&str, u64)| FileSpec { path: path.into(), length: *length, pad: false };
        Layout::new(16, files.iter().map(file).collect()).unwrap()
    }

    fn names(layout: &Layout) -> Vec<String> {
        layout.files().iter().map(|spec| spec.path.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn unfinished_files_have_a_suffix_that_is_nobodys_name() {
        let long = "x".repeat(251);
        let files = [("t/a", 3), ("t/a.part", 3), ("t/b", 3), ("t/b.part/c", 3), ("t/empty", 0), (long.as_str(), 3)];
        let named = layout(&files).with_unfinished(".part", |_, _, _| true);
        assert_eq!(names(&named), ["t/a", "t/a.part.part", "t/b", "t/b.part/c.part", "t/empty", long.as_str()]);
        let one = layout(&files[..3]).with_unfinished("~", |file, _, path| file == 2 && path == Path::new("t/b~"));
        assert_eq!(names(&one), ["t/a", "t/a.part", "t/b~"]);
    }

    #[test]
    fn names_are_given_at_the_end_and_replace_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(&[("t/a", 3), ("t/b", 3)]).with_unfinished(".part", |_, _, _| true);
        let storage = Storage::new(dir.path().to_owned(), layout, 4);
        storage.prepare().unwrap();
        storage.write_vectored_at(0, &[IoSlice::new(b"aaabbb")]).unwrap();
        let at = |name: &str| fs::read(dir.path().join("t").join(name)).ok();
        assert_eq!((at("a"), at("a.part")), (None, Some(b"aaa".to_vec())));
        fs::write(dir.path().join("t/b"), "mine").unwrap();
        assert_eq!(storage.take_final_names().unwrap_err().kind(), StorageErrorKind::Exists);
        assert!(!storage.has_final_names());
        assert_eq!((at("b"), at("b.part")), (Some(b"mine".to_vec()), Some(b"bbb".to_vec())));
    }

    #[test]
    fn files_are_read_by_their_own_names_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(&[("t/a", 3), ("t/b", 3)]).with_unfinished(".part", |_, _, _| true);
        let storage = Storage::new(dir.path().to_owned(), layout, 4);
        storage.prepare().unwrap();
        storage.write_vectored_at(0, &[IoSlice::new(b"aaabbb")]).unwrap();
        storage.take_final_names().unwrap();
        storage.close();
        let mut buf = [0; 6];
        storage.read_exact_at(0, &mut buf).unwrap();
        assert_eq!(&buf, b"aaabbb");
        assert!(storage.confirm().is_ok() && storage.stamp(1).is_some() && storage.has_final_names());
        assert_eq!(fs::read_dir(dir.path().join("t")).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_took_the_place_of_ours_gets_no_other_name() {
        let dir = tempfile::tempdir().unwrap();
        let no = std::sync::atomic::AtomicBool::new(false);
        let layout = layout(&[("a", 6)]).with_unfinished(".part", |_, _, _| true);
        let mut storage = Storage::new(dir.path().to_owned(), layout, 4);
        let mut survey = storage.survey(&no).unwrap();
        storage.make(&[Step::Make], &mut survey, &no).unwrap();
        storage.mark(&InfoHash([1; 20]), &[Step::Make], &survey, false).unwrap();
        let (mine, ours) = (dir.path().join("mine"), dir.path().join("a.part"));
        // Files are told apart by the time when they were made, which the system counts in ticks.
        let born = |path: &Path| fs::metadata(path).and_then(|found| found.created()).unwrap();
        while !mine.exists() || born(&mine) <= born(&ours) {
            let _ = fs::remove_file(&mine);
            fs::write(&mine, "mine").unwrap();
        }
        fs::rename(mine, ours).unwrap();
        let refused = storage.take_final_names();
        assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Appeared, .. })), "{refused:?}");
        assert_eq!(fs::read(dir.path().join("a.part")).unwrap(), b"mine");
    }
}
