//! Undoes a start that was refused after its first files were created, because another program has changed one of the others.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

use rustix::fs::AtFlags;

use crate::storage::changes::mtime;
use crate::storage::files::Storage;
use crate::storage::marker::{self, Marker};
use crate::storage::open::{Access, file_name};
use crate::storage::ownership::FileAction;
use crate::storage::set_aside::{FileSetAside, MAX_SET_ASIDE};
use crate::storage::snapshot::{FileSnapshot, identity, is_same};
use crate::storage::survey::{Survey, has_data};

/// A file that btsync has just created and that may be removed.
enum UnusedFile {
    /// It has a temporary name.
    SetAside(FileSetAside),
    /// There is no such file any more.
    Gone,
    /// It is another one, or somebody uses it.
    Stays,
}

impl Storage {
    /// Undoes [`Storage::create_files`] and [`Storage::record_ownership`] after they or [`Storage::resize_files`] have refused a
    /// file: removes created files that hold no data, and restores the `earlier` marker, with its time and the notes of the stop,
    /// or removes it. `survey` is the one that [`Storage::create_files`] updated. Folders that it created and
    /// that are empty again are removed, too.
    pub fn roll_back(&self, actions: &[FileAction], survey: &Survey, earlier: Option<Marker>) {
        let mut new_marker = earlier.unwrap_or_default();
        new_marker.used_existing.clear();
        // Before the marker was written, a file to be replaced may still be the user's.
        let is_marked = self.safeguards.writable_identities.is_some();
        let created = |(file, action): (usize, &FileAction)| match action {
            FileAction::Create => Some((file, *survey.file(file)?)),
            _ => None,
        };
        let gone = self.remove_unused(actions.iter().enumerate().filter_map(created));
        for ((file, spec), action) in self.layout.files().iter().enumerate().zip(actions) {
            let Some(seen) = survey.file(file) else { continue };
            let stays = match action {
                FileAction::Create => !gone.contains(&file),
                FileAction::Copy | FileAction::ReplaceEmpty => is_marked,
                FileAction::Leave | FileAction::Continue | FileAction::Compare | FileAction::Ignore => false,
            };
            if stays {
                new_marker.created.insert(marker::path_hash(&spec.path), seen.identity);
                new_marker.mtimes_at_stop.remove(&marker::path_hash(&spec.path));
            }
        }
        self.note_resized(&mut new_marker);
        let part_file = survey.part_file.filter(|part_file| part_file.size == 0 && !self.placement.is_foreign());
        self.remove_unused(part_file.map(|part_file| (self.layout.files().len(), part_file)).into_iter());
        if let Err(error) = self.release_with(new_marker) {
            log::debug!("{error}; the marker stays as it is");
            self.release();
        }
        for folder in std::mem::take(&mut *self.safeguards.created_folders.lock()).iter().rev() {
            // A folder that is not empty stays.
            let above = self.root.folder_of(folder);
            let _ = above.and_then(|above| rustix::fs::unlinkat(above, file_name(folder), AtFlags::REMOVEDIR));
        }
    }

    /// Records how this start leaves the files that it has given another length: the change is not another program's.
    fn note_resized(&self, new_marker: &mut Marker) {
        for (file, spec) in
            self.layout.files().iter().enumerate().filter(|(file, _)| self.cache.last_write_times(*file).is_some())
        {
            let path_hash = marker::path_hash(&spec.path);
            let found = self.root.metadata(self.name(file)).ok().filter(|found| !self.is_edited_since(file, found));
            if let Some(found) = found {
                new_marker.modified_at = 0; // The change is later than the marker's former time.
                new_marker.mtimes_at_stop.entry(path_hash).and_modify(|at| *at = mtime(&found).max(0));
            }
        }
    }

    /// Removes files that btsync has just created: those that are still the files that were seen, and that nobody has written to or
    /// has open for writing. Returns the numbers of those that are gone.
    pub(super) fn remove_unused(&self, files: impl Iterator<Item = (usize, FileSnapshot)>) -> HashSet<usize> {
        let (mut gone, mut set_aside) = (HashSet::new(), Vec::new());
        for (number, seen) in files {
            match self.set_unused_aside(number, &seen) {
                UnusedFile::SetAside(file) => set_aside.push(file),
                UnusedFile::Gone => drop(gone.insert(number)),
                UnusedFile::Stays => {}
            }
            if set_aside.len() >= MAX_SET_ASIDE {
                self.remove_unused_aside(std::mem::take(&mut set_aside), &mut gone);
            }
        }
        self.remove_unused_aside(set_aside, &mut gone);
        gone
    }

    /// Gives a file a temporary name if it is the one that was seen and holds no data.
    fn set_unused_aside(&self, number: usize, seen: &FileSnapshot) -> UnusedFile {
        let name = self.name(number);
        let Ok(handle) = self.root.open(name, Access::Read) else { return UnusedFile::Gone };
        let Ok(found) = handle.file.metadata() else { return UnusedFile::Stays };
        let is_unused = is_same(seen.identity, identity(&found))
            && has_data(&handle.file, 0, found.len(), &AtomicBool::new(false)).is_ok_and(|has_data| !has_data);
        if !is_unused {
            return UnusedFile::Stays;
        }
        let seen = FileSnapshot::of(&found);
        if let Ok(set_aside) = self.set_aside(number, name, &seen) {
            return set_aside.map_or(UnusedFile::Stays, UnusedFile::SetAside);
        }
        // A full disk may have no room for the other name, and some file systems of FUSE do not rename.
        let is_free = !self.root.is_open_elsewhere(name, &found);
        let is_gone = is_free && self.root.remove_if(name, &seen).is_ok_and(|is_removed| is_removed);
        if is_gone { UnusedFile::Gone } else { UnusedFile::Stays }
    }

    fn remove_unused_aside(&self, set_aside: Vec<FileSetAside>, gone: &mut HashSet<usize>) {
        let numbers: Vec<usize> = set_aside.iter().map(|file| file.number).collect();
        let used = self.remove_set_aside(set_aside);
        for file in &used {
            self.give_back(file);
        }
        gone.extend(numbers.into_iter().filter(|number| used.iter().all(|file| file.number != *number)));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::storage::Allocation;
    use crate::storage::marker::marker_name;
    use crate::storage::{FileSpec, Layout, Refusal, StorageError};
    use crate::types::InfoHash;

    const HASH: InfoHash = InfoHash([1; 20]);

    fn storage(dir: &Path) -> Storage {
        let spec = |path: &str| FileSpec { path: path.into(), length: 100, is_pad: false };
        Storage::new(dir.to_owned(), Layout::new(10, vec![spec("a"), spec("b"), spec("c")]).unwrap(), 4)
    }

    /// Starts with `a` and `c` to be created and `b` to be continued; another program appends to `b` at the last moment.
    fn refused(dir: &Path, overwrite: bool) -> Storage {
        let no = AtomicBool::new(false);
        let actions = [FileAction::Create, FileAction::Continue, FileAction::Create];
        let mut it = storage(dir);
        let mut survey = it.survey(&no).unwrap();
        let earlier = it.read_marker(&HASH).unwrap();
        it.marker.content = earlier.clone();
        it.lock(&HASH).unwrap();
        it.create_files(&actions, &mut survey, &no).unwrap();
        it.record_ownership(&HASH, &actions, &survey, overwrite).unwrap();
        File::options().append(true).open(dir.join("b")).unwrap().write_all(b"more").unwrap();
        let refused = it.resize_files(&actions, &survey, &no);
        assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Changed, .. })), "{refused:?}");
        it.roll_back(&actions, &survey, earlier);
        it
    }

    #[test]
    fn a_start_that_is_refused_at_the_last_moment_leaves_no_marker_and_no_file() {
        for overwrite in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("b"), "mine").unwrap();
            drop(refused(dir.path(), overwrite));
            let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, ["b"]);
            assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"minemore");
        }
    }

    #[test]
    fn files_of_an_earlier_run_stay_btsyncs_after_a_rollback() {
        let (dir, no) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let actions = [FileAction::Leave, FileAction::Create, FileAction::Leave];
        let mut it = storage(dir.path());
        let mut survey = it.survey(&no).unwrap();
        it.lock(&HASH).unwrap();
        it.create_files(&actions, &mut survey, &no).unwrap();
        it.record_ownership(&HASH, &actions, &survey, false).unwrap();
        drop(it);
        File::options().write(true).open(dir.path().join("b")).unwrap().set_len(4).unwrap();
        drop(refused(dir.path(), false));
        assert!(dir.path().join(marker_name(&HASH)).exists() && !dir.path().join("a").exists());
        let made = storage(dir.path()).read_marker(&HASH).unwrap().unwrap();
        assert!(made.is_unfinished_file(Path::new("b"), survey.file(1).unwrap().identity) && made.created.len() == 1);
    }

    /// With a later time and without the notes, an edit between the two runs would look as old as btsync's own writes.
    #[test]
    fn the_marker_that_comes_back_has_its_time_and_the_notes_of_the_stop() {
        let (dir, no) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let actions = [FileAction::Leave, FileAction::Create, FileAction::Leave];
        let mut it = storage(dir.path());
        let mut survey = it.survey(&no).unwrap();
        it.lock(&HASH).unwrap();
        it.create_files(&actions, &mut survey, &no).unwrap();
        it.record_ownership(&HASH, &actions, &survey, false).unwrap();
        it.unlock();
        let at = SystemTime::now() - Duration::from_secs(100);
        File::open(dir.path().join(marker_name(&HASH))).unwrap().set_modified(at).unwrap();
        let before = it.read_marker(&HASH).unwrap().unwrap();
        File::options().write(true).open(dir.path().join("b")).unwrap().set_len(4).unwrap();
        let edited = *it.survey(&no).unwrap().file(1).unwrap();
        drop(refused(dir.path(), false));
        let it = storage(dir.path());
        assert_eq!(it.read_marker(&HASH).unwrap().unwrap(), before);
        assert!(before.is_changed_after_stop(Path::new("b"), &edited));
        assert!(it.is_newer_than_marker(&HASH, &before, &edited, false));
    }

    #[test]
    fn a_file_that_the_refused_start_has_resized_is_no_file_that_others_changed() {
        let (dir, no) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let actions = [FileAction::Create, FileAction::Create, FileAction::Leave];
        let mut it = storage(dir.path()).with_allocation(Allocation::None);
        let mut survey = it.survey(&no).unwrap();
        it.lock(&HASH).unwrap();
        it.create_files(&actions, &mut survey, &no).unwrap();
        it.record_ownership(&HASH, &actions, &survey, false).unwrap();
        it.unlock();
        let earlier = it.read_marker(&HASH).unwrap();
        let actions = [FileAction::Continue, FileAction::Continue, FileAction::Create];
        let mut it = storage(dir.path());
        it.marker.content = earlier.clone();
        let mut survey = it.survey(&no).unwrap();
        it.lock(&HASH).unwrap();
        it.create_files(&actions, &mut survey, &no).unwrap();
        it.record_ownership(&HASH, &actions, &survey, false).unwrap();
        File::options().append(true).open(dir.path().join("b")).unwrap().write_all(b"more").unwrap();
        assert!(it.resize_files(&actions, &survey, &no).is_err());
        it.roll_back(&actions, &survey, earlier);
        let (marker, survey) = (it.read_marker(&HASH).unwrap().unwrap(), it.survey(&no).unwrap());
        let is_changed =
            |file: usize, path: &str| marker.is_changed_after_stop(Path::new(path), survey.file(file).unwrap());
        assert!(survey.file(0).unwrap().size == 100 && !is_changed(0, "a") && is_changed(1, "b"));
        assert!(!it.is_newer_than_marker(&HASH, &marker, survey.file(0).unwrap(), false));
    }
}
