//! Creates the torrent's files and folders once it is decided which files btsync may write to (`ownership.rs`).

use std::collections::HashSet;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::storage::cache::OpenFile;
use crate::storage::download_mark;
use crate::storage::error::{Operation, StorageError, shown};
use crate::storage::files::Storage;
use crate::storage::layout::FileSpec;
use crate::storage::open::Access;
use crate::storage::ownership::FileAction;
use crate::storage::prepare::Allocation;
use crate::storage::set_aside::{FileSetAside, MAX_SET_ASIDE, ReplacedOriginal};
use crate::storage::snapshot::FileSnapshot;
use crate::storage::stop_check::StopCheck;
use crate::storage::survey::Survey;
use crate::util::paths::is_watched_name;

impl Storage {
    /// Creates the files to be created, with their folders, and replaces those to be replaced by a copy; updates `survey` to
    /// match. Does not write to existing files. Call [`Storage::record_ownership`] next: a file that a dying process leaves
    /// behind here holds no data and belongs to nobody.
    ///
    /// # Errors
    /// The system's error; [`StorageError::InTheWay`] if a file has just appeared; with [`Allocation::Falloc`] also
    /// [`StorageError::NoSpace`], before any file is created.
    pub fn create_files(
        &self,
        actions: &[FileAction],
        survey: &mut Survey,
        stop: &dyn StopCheck,
    ) -> Result<(), StorageError> {
        if self.allocation == Allocation::Falloc {
            self.check_disk_space(self.unallocated(stop))?;
        }
        // Files to be replaced come first: until the old ones are removed, a kill leaves them under temporary names.
        let is_replaced = |action: FileAction| matches!(action, FileAction::Copy | FileAction::ReplaceEmpty);
        let mut replaced = Vec::new();
        let made = self.make_files(actions, survey, (&is_replaced, stop), &mut replaced);
        let removed = self.remove_replaced(replaced);
        made.and(removed)?;
        self.make_files(actions, survey, (&|action| !is_replaced(action), stop), &mut Vec::new())?;
        if !stop.is_stopped() {
            self.create_special_entries(stop);
        }
        Ok(())
    }

    /// Creates or replaces the files whose action is `selected`. Adds the old files that wait for their removal to `replaced`.
    fn make_files(
        &self,
        actions: &[FileAction],
        survey: &mut Survey,
        (is_selected, stop): (&dyn Fn(FileAction) -> bool, &dyn StopCheck),
        replaced: &mut Vec<ReplacedOriginal>,
    ) -> Result<(), StorageError> {
        let mut known = HashSet::new();
        let is_layered = self.is_layered();
        let files = self.layout.files().iter().enumerate().zip(actions.iter().copied());
        for ((file, spec), action) in files.filter(|(_, action)| is_selected(*action)) {
            if stop.is_stopped() {
                return Ok(());
            }
            if action == FileAction::Continue && is_layered {
                self.copy_up(file, survey);
            }
            let mut old = None;
            let made = match action {
                FileAction::Leave | FileAction::Compare | FileAction::Ignore => continue,
                FileAction::Continue => match self.mark_continued(file, spec) {
                    Some(marked) => marked,
                    None => continue,
                },
                FileAction::Create => {
                    self.create_folders(spec.path.parent(), &mut known)?;
                    self.create_file(file, spec, self.has_bytes_to_restore(survey))?
                }
                FileAction::Copy | FileAction::ReplaceEmpty => {
                    let made;
                    (made, old) = self.replace_file(file, spec, (action, survey.file(file)))?;
                    made
                }
            };
            let found = made.file.metadata().map_err(|error| self.failed(Operation::Open, file, error))?;
            let ours = FileSnapshot::of(&found);
            if let Some(seen) = survey.files.get_mut(file) {
                let seen = seen.replace(ours);
                let old = old.zip(seen).map(|(name, seen)| FileSetAside { number: file, name, seen });
                replaced.extend(old.map(|old| ReplacedOriginal { old, ours }));
            }
            self.safeguards.pinned.keep(file, made.file);
            if replaced.len() >= MAX_SET_ASIDE {
                self.remove_replaced(std::mem::take(replaced))?;
            }
        }
        Ok(())
    }

    fn create_folders<'a>(&self, folder: Option<&'a Path>, known: &mut HashSet<&'a Path>) -> Result<(), StorageError> {
        let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
        if known.insert(folder) {
            self.create_folders(folder.parent(), known)?;
            if self.root.create_folder(folder)? {
                self.safeguards.created_folders.lock().insert(folder.to_owned());
            }
        }
        Ok(())
    }

    /// Whether a file may be executable: not in a folder of the user's, from which programs may run files by their names alone, such as
    /// `bin` or `.git/hooks`.
    fn may_be_executable(&self, path: &Path) -> bool {
        let top = path.iter().next().map_or(path, Path::new);
        top == path || self.safeguards.created_folders.lock().contains(top)
    }

    /// Tells the user which files btsync did not make executable.
    pub(super) fn note_plain_files(&self) -> Option<String> {
        let plain = std::mem::take(&mut *self.safeguards.plain_files.lock());
        let path = &self.layout.files().get(*plain.first()?)?.path;
        let folder = shown(path.iter().next().map_or(path, Path::new));
        let more = if plain.len() > 1 { format!(" (and {} more)", plain.len() - 1) } else { String::new() };
        Some(format!("the folder {folder} existed before, so {}{more} is not made executable", shown(path)))
    }

    /// Creates a file. If the part file may have data for it, the file stays empty until that was copied.
    fn create_file(&self, file: usize, spec: &FileSpec, has_part_file: bool) -> Result<OpenFile, StorageError> {
        let handle = self.root.open(&spec.path, Access::New)?;
        download_mark::set_download_mark(&handle.file, self.layout.final_name(file).unwrap_or(&spec.path));
        if self.layout.is_executable(file) && !self.may_be_executable(&spec.path) {
            self.safeguards.plain_files.lock().push(file);
        } else if self.layout.is_executable(file) {
            let found = handle.file.metadata().map_err(|error| self.failed(Operation::Open, file, error))?;
            // Executable for everyone who may read it under the umask.
            let mode = found.mode() | (found.mode() & 0o444) >> 2;
            if let Err(error) = handle.file.set_permissions(Permissions::from_mode(mode)) {
                log::debug!("cannot make {} executable: {error}", shown(&spec.path));
            }
        }
        if !has_part_file {
            self.resize(file, &handle.file, 0, spec.length)?;
        }
        Ok(handle)
    }

    /// Marks an existing file if its name requires that, because the download will put the torrent's data into it.
    fn mark_continued(&self, file: usize, spec: &FileSpec) -> Option<OpenFile> {
        let name = self.layout.final_name(file).unwrap_or(&spec.path);
        if !self.wants(file) || !is_watched_name(name) {
            return None;
        }
        // If it cannot be opened, the first write reports why.
        let there = self.root.open(&spec.path, Access::Read).ok()?;
        // A mark changes the file's ctime for other programs, so set it only once.
        if download_mark::has_download_mark(&there.file) {
            return None;
        }
        download_mark::set_download_mark(&there.file, name);
        Some(there)
    }
}
