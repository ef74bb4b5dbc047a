//! The part file itself: its name, whether the file of that name is btsync's, and its length. `placement.rs` says which bytes it
//! holds.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::storage::decision::DecisionInput;
use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::open::Access;
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::resume::Stamp;
use crate::storage::snapshot::{FileSnapshot, identity};
use crate::storage::survey::{Survey, has_data};
use crate::types::{InfoHash, PieceIndex};

impl Storage {
    /// The part file's path. libtorrent's part file has the same default name but another format; btsync leaves such a file
    /// alone, as it does a symbolic link or a file with other hard links, and uses another name.
    pub(super) fn part_file_name(&self, usual: &Path) -> PathBuf {
        let is_foreign = matches!(self.part_file(usual), Err(StorageError::InTheWay { .. }));
        if is_foreign { usual.with_extension("btsync.parts") } else { usual.to_owned() }
    }

    /// The metadata of the part file of this name, if there is one and it can be opened; an error if it is not btsync's.
    fn part_file(&self, name: &Path) -> Result<Option<Metadata>, StorageError> {
        let path = || self.root.path().join(name);
        let appeared = || StorageError::InTheWay { path: path(), why: Refusal::Appeared, more: 0 };
        let file = match self.root.open_own(name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(Errno::LOOP) => return Err(appeared()),
            Err(errno @ (Errno::MFILE | Errno::NFILE)) => {
                return Err(StorageError::io(Operation::Open, &path())(errno.into()));
            }
            Err(_) => return Ok(None),
        };
        let mut head = [0; 8];
        let theirs = [self.layout.piece_count().to_be_bytes(), self.layout.piece_length().to_be_bytes()];
        let found = file.metadata().ok().filter(|found| found.is_file() && found.nlink() == 1);
        let found = found.ok_or_else(appeared)?;
        let is_theirs = file.read_exact_at(&mut head, 0).is_ok() && head == theirs.concat()[..];
        if is_theirs { Err(appeared()) } else { Ok(Some(found)) }
    }

    /// Looks for the part file and returns its snapshot.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] if another program's file has its name by now.
    pub(super) fn find_part_file(&self) -> Result<Option<FileSnapshot>, StorageError> {
        let name = self.placement.name();
        if name.as_os_str().is_empty() {
            return Ok(None);
        }
        let found = self.part_file(name)?;
        self.placement.set_identity(found.as_ref().map(identity));
        Ok(found.as_ref().map(FileSnapshot::of))
    }

    /// Decides what to do with the part file, given the `actions` for the torrent's files: leave, create, continue or
    /// replace it. `is_ours`: the marker or the resume data says that btsync made it. If it is another program's and not needed,
    /// btsync neither writes to it nor removes it from now on.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] if it is needed and another program's; the system's error if it cannot be read.
    pub fn decide_part_file(
        &self,
        input: &DecisionInput<'_>,
        actions: &[FileAction],
        is_ours: bool,
    ) -> Result<FileAction, StorageError> {
        self.placement.set_foreign(false);
        let is_needed = self.needs_part_file(input, actions);
        let Some(seen) = &input.survey.part_file else {
            return Ok(if is_needed { FileAction::Create } else { FileAction::Leave });
        };
        if is_ours {
            return Ok(FileAction::Continue);
        }
        let file_index = self.layout.files().len();
        let evidence =
            self.part_file_evidence(seen, input).map_err(|error| self.failed(Operation::Read, file_index, error))?;
        match evidence {
            // `stop` may have cut the last examination short.
            _ if input.stop.is_stopped() => Ok(FileAction::Leave),
            None => Ok(if is_needed { FileAction::ReplaceEmpty } else { FileAction::Continue }),
            Some((right, wrong)) if right > wrong => Ok(FileAction::Continue),
            Some(_) if is_needed && input.may_overwrite => Ok(FileAction::ReplaceEmpty),
            Some(_) if is_needed => Err(self.in_the_way(file_index, Refusal::Foreign)),
            Some(_) => {
                self.placement.set_foreign(true);
                Ok(FileAction::Leave)
            }
        }
    }

    /// Whether a piece to be downloaded has bytes of a file without its own file on disk, or of one that is not written to.
    fn needs_part_file(&self, input: &DecisionInput<'_>, actions: &[FileAction]) -> bool {
        let piece_length = u64::from(self.layout.piece_length());
        (0..self.layout.files().len()).any(|file| {
            let action = actions.get(file);
            let is_in_part_file =
                matches!(action, Some(FileAction::Ignore | FileAction::Compare)) || !self.placement.has_own_file(file);
            is_in_part_file
                && self.placement.part_ranges(&self.layout, file).any(|kept| {
                    let piece = PieceIndex(((self.layout.start_of(file) + kept.within) / piece_length) as u32);
                    // An ignored file's own bytes of a piece are not used any more.
                    let is_there = input.have.has(piece) && action != Some(&FileAction::Ignore);
                    input.wanted.has(piece) && !is_there
                })
        })
    }

    /// Of the pieces with non-zero bytes in the part file: how many verify and how many do not; `None` if it holds no data.
    fn part_file_evidence(&self, seen: &FileSnapshot, input: &DecisionInput<'_>) -> io::Result<Option<(u32, u32)>> {
        let file = self.root.open_own(self.placement.name(), OFlags::RDONLY)?;
        let (mut right, mut wrong) = (0, 0);
        let mut end = 0;
        for (at, piece) in self.placement.slots(&self.layout) {
            let size = u64::from(self.layout.piece_size(piece));
            end = at + u64::from(self.layout.piece_length());
            if !has_data(&file, at, (at + size).min(seen.size), input.stop)? {
                continue;
            }
            let is_right =
                self.is_vouched(piece, input) || self.is_right_with(&file, (at, piece), input.hashes, input.stop)?;
            *(if is_right { &mut right } else { &mut wrong }) += 1;
        }
        // Data past the last slot cannot come from btsync.
        wrong += u32::from(has_data(&file, end, seen.size, input.stop)?);
        Ok(Some((right, wrong)).filter(|found| *found != (0, 0)))
    }

    /// Whether a piece that includes the part file's bytes has been verified, now or when the resume data was written.
    fn is_vouched(&self, piece: PieceIndex, input: &DecisionInput<'_>) -> bool {
        let size = u64::from(self.layout.piece_size(piece));
        let spans = self.layout.spans(self.layout.offset(piece, 0), size);
        let mut apart = spans.filter(|span| !self.placement.has_own_file(span.file));
        apart.any(|span| input.have.has(piece) || (input.vouched)(span.file, piece))
    }

    /// Creates the part file, or replaces one that holds no data or that the user allowed to overwrite. Call it before the marker
    /// names the part file.
    ///
    /// # Errors
    /// The system's error; [`StorageError::InTheWay`] if another program has just created it or written to it.
    pub fn create_part_file(&self, action: FileAction, survey: &mut Survey) -> Result<(), StorageError> {
        let (name, file_index) = (self.placement.name(), self.layout.files().len());
        match (action, &survey.part_file) {
            (FileAction::Create, _) => {}
            (FileAction::ReplaceEmpty, Some(seen)) => {
                let failed = |error| self.failed(Operation::Open, file_index, error);
                let now = self.root.metadata_inside(name).map_err(failed)?;
                let old = seen.is_untouched(&now).then(|| self.set_aside(file_index, name, seen)).transpose();
                let Some(old) = old.map_err(failed)?.flatten() else {
                    return Err(self.in_the_way(file_index, Refusal::Changed));
                };
                if let Some(used) = self.remove_set_aside(vec![old]).first() {
                    self.give_back(used);
                    return Err(self.in_the_way(file_index, Refusal::OpenElsewhere));
                }
            }
            _ => return Ok(()),
        }
        let made = self.root.open(name, Access::New)?.file.metadata();
        let made = made.map_err(|error| self.failed(Operation::Open, file_index, error))?;
        self.placement.set_identity(Some(identity(&made)));
        self.placement.set_part_file_length(0);
        survey.part_file = Some(FileSnapshot::of(&made));
        Ok(())
    }

    /// The part file's name and identity, if btsync may write to it.
    pub(super) fn owned_part_file(&self, survey: &Survey) -> Option<(&Path, u64)> {
        let seen = survey.part_file.as_ref().filter(|_| !self.placement.is_foreign())?;
        Some((self.placement.name(), seen.identity))
    }

    /// Whether the part file may hold bytes to be copied back into the torrent's files.
    pub(super) fn has_bytes_to_restore(&self, survey: &Survey) -> bool {
        !self.placement.is_foreign() && survey.part_file.is_some_and(|part_file| part_file.size > 0)
    }

    /// The part file's path relative to the download folder, and its metadata.
    pub fn part_file_stamp(&self) -> Option<(&Path, Stamp)> {
        let name = Some(self.placement.name()).filter(|name| !name.as_os_str().is_empty())?;
        Some((name, Stamp::of(&self.root.metadata_inside(name).ok()?)?))
    }

    /// Whether the part file has bytes of a file that has no own file on disk.
    pub fn uses_part_file(&self) -> bool {
        (0..self.layout.files().len()).any(|file| self.placement.uses_part_file(&self.layout, file))
    }

    /// Removes a part file that is btsync's and that no file needs. An obstacle does no harm.
    pub fn remove_leftover_part_file(&mut self, info_hash: &InfoHash) {
        // Another process that has the lock may be about to fill it.
        if self.is_locked() || self.lock(info_hash).is_ok() {
            self.remove_part_file();
        }
    }

    /// Removes the part file, unless another file has its name by now.
    pub(super) fn remove_part_file(&self) {
        let name = self.placement.name();
        match self.root.metadata_inside(name) {
            Ok(found) if self.placement.matches_part_file(&found) && !self.placement.is_foreign() => {
                if let Err(error) = self.root.remove_if(name, &FileSnapshot::of(&found)) {
                    log::debug!("{}: cannot be removed: {error}", name.display());
                }
            }
            _ => log::debug!("{}: not removed, because it is no longer the part file", name.display()),
        }
    }
}
