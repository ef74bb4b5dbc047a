//! The part file itself: its name, whether the file of that name is ours, and its end. `parts` says what lies in it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use rustix::fs::OFlags;
use rustix::io::Errno;
use sha1::{Digest, Sha1};

use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::open::Access;
use crate::storage::ownership::{FileAction, Refusal};
use crate::storage::resume::Stamp;
use crate::storage::snapshot::{FileSnapshot, identity};
use crate::storage::survey::{DecisionInput, Survey, has_data};
use crate::types::{PieceHash, PieceIndex};

/// Bytes hashed at once.
const CHUNK: usize = 64 * 1024;

impl Storage {
    /// Where the part file lies. The usual name is also that of libtorrent's part file, which has another form; what is that, a link
    /// or a file with other names is somebody else's, and stays as it is.
    pub(super) fn part_file_name(&self, usual: &Path) -> PathBuf {
        if self.part_file(usual).is_err() { usual.with_extension("btsync.parts") } else { usual.to_owned() }
    }

    /// The part file of this name, where one is there and can be looked at; an error where it is somebody else's.
    fn part_file(&self, name: &Path) -> Result<Option<Metadata>, Refusal> {
        let file = match self.root.open_own(name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(Errno::LOOP) => return Err(Refusal::Appeared),
            Err(_) => return Ok(None),
        };
        let mut head = [0; 8];
        let theirs = [self.layout.piece_count().to_be_bytes(), self.layout.piece_length().to_be_bytes()];
        let found = file.metadata().ok().filter(|found| found.is_file() && found.nlink() == 1);
        let found = found.ok_or(Refusal::Appeared)?;
        let is_theirs = file.read_exact_at(&mut head, 0).is_ok() && head == theirs.concat()[..];
        if is_theirs { Err(Refusal::Appeared) } else { Ok(Some(found)) }
    }

    /// Looks for the part file; how it looks, where it is there.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] where another program's file has its name by now.
    pub(super) fn find_part_file(&self) -> Result<Option<FileSnapshot>, StorageError> {
        let name = self.selection.name();
        if name.as_os_str().is_empty() {
            return Ok(None);
        }
        let found = self.part_file(name).map_err(|why| self.in_the_way(self.layout.files().len(), why))?;
        self.selection.set_identity(found.as_ref().map(identity));
        Ok(found.as_ref().map(FileSnapshot::of))
    }

    /// What is to be done with the part file, where `steps` are done with the torrent's files: it is left alone, made, continued, or
    /// replaced by a new one. `is_ours`: the marker or the resume data says that btsync made it. Where it is not and is not needed, it is
    /// neither written to nor removed from now on.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] where it is needed and another program's; what the system says where it cannot be read.
    pub fn decide_part_file(
        &self,
        input: &DecisionInput<'_>,
        steps: &[FileAction],
        is_ours: bool,
    ) -> Result<FileAction, StorageError> {
        self.selection.set_foreign(false);
        let is_needed = self.needs_part_file(input, steps);
        let Some(seen) = &input.survey.parts else {
            return Ok(if is_needed { FileAction::Make } else { FileAction::Leave });
        };
        if is_ours {
            return Ok(FileAction::Continue);
        }
        let slot = self.layout.files().len();
        let evidence = self.parts_evidence(seen, input).map_err(|error| self.failed(Operation::Read, slot, error))?;
        match evidence {
            // What was looked at last may not have been looked at to its end.
            _ if input.stop.load(Relaxed) => Ok(FileAction::Leave),
            None => Ok(if is_needed { FileAction::Renew } else { FileAction::Continue }),
            Some((right, wrong)) if right > wrong => Ok(FileAction::Continue),
            Some(_) if is_needed && input.overwrite => Ok(FileAction::Renew),
            Some(_) if is_needed => Err(self.in_the_way(slot, Refusal::Foreign)),
            Some(_) => {
                self.selection.set_foreign(true);
                Ok(FileAction::Leave)
            }
        }
    }

    /// Whether a piece that is to be fetched has bytes of a file that has no file of its own, or of one that is not written to.
    fn needs_part_file(&self, input: &DecisionInput<'_>, steps: &[FileAction]) -> bool {
        let piece_length = u64::from(self.layout.piece_length());
        (0..self.layout.files().len()).any(|file| {
            let step = steps.get(file);
            let is_in_part_file =
                matches!(step, Some(FileAction::Ignore | FileAction::Compare)) || !self.selection.has_own_file(file);
            is_in_part_file
                && self.selection.kept(&self.layout, file).any(|kept| {
                    let piece = PieceIndex(((self.layout.start_of(file) + kept.within) / piece_length) as u32);
                    // What an ignored file has of a piece is not used any more.
                    let is_there = input.have.has(piece) && step != Some(&FileAction::Ignore);
                    input.wanted.has(piece) && !is_there
                })
        })
    }

    /// Of the pieces of which the part file has bytes other than zero, how many verify and how many do not; `None` where it holds no data.
    fn parts_evidence(&self, seen: &FileSnapshot, input: &DecisionInput<'_>) -> io::Result<Option<(u32, u32)>> {
        let file = self.root.open_own(self.selection.name(), OFlags::RDONLY)?;
        let (mut right, mut wrong) = (0, 0);
        let mut end = 0;
        for (at, piece) in self.selection.slots(&self.layout) {
            let size = u64::from(self.layout.piece_size(piece));
            end = at + u64::from(self.layout.piece_length());
            if !has_data(&file, at, (at + size).min(seen.size), input.stop)? {
                continue;
            }
            let is_right = self.is_vouched(piece, input) || self.is_right_with(&file, at, piece, input)?;
            *(if is_right { &mut right } else { &mut wrong }) += 1;
        }
        // Behind the last piece's there is no room in it.
        wrong += u32::from(has_data(&file, end, seen.size, input.stop)?);
        Ok(Some((right, wrong)).filter(|found| *found != (0, 0)))
    }

    /// Whether the part file's bytes of a piece were hashed with all others and are right, now or when the resume data was written.
    fn is_vouched(&self, piece: PieceIndex, input: &DecisionInput<'_>) -> bool {
        let size = u64::from(self.layout.piece_size(piece));
        let spans = self.layout.spans(self.layout.offset(piece, 0), size);
        let mut apart = spans.filter(|span| !self.selection.has_own_file(span.file));
        apart.any(|span| input.have.has(piece) || (input.vouched)(span.file, piece))
    }

    /// Whether a piece is right with all the bytes that the part file has of it, and others from the torrent's own files.
    fn is_right_with(&self, parts: &File, at: u64, piece: PieceIndex, input: &DecisionInput<'_>) -> io::Result<bool> {
        let begins = self.layout.offset(piece, 0);
        let mut sha = Sha1::new();
        let mut buf = vec![0; CHUNK];
        for span in self.layout.spans(begins, u64::from(self.layout.piece_size(piece))) {
            let start = at + (self.layout.start_of(span.file) + span.offset - begins);
            let is_pad = self.layout.files().get(span.file).is_some_and(|spec| spec.pad);
            let is_kept = has_data(parts, start, start + span.len, input.stop)?;
            let own = if is_pad || is_kept { None } else { self.root.open(self.name(span.file), Access::Read).ok() };
            let (source, from) = own.as_ref().map_or((parts, start), |own| (&own.file, span.offset));
            let mut done = 0;
            while done < span.len && !input.stop.load(Relaxed) {
                let room = buf.len().min(usize::try_from(span.len - done).unwrap_or(usize::MAX));
                let part = buf.get_mut(..room).unwrap_or_default();
                let count = if is_pad { 0 } else { source.read_at(part, from + done)? };
                // Padding, and what lies behind a file's end, is zeros.
                part.iter_mut().skip(count).for_each(|byte| *byte = 0);
                sha.update(&*part);
                done += part.len() as u64;
            }
        }
        let hash: PieceHash = sha.finalize().into();
        Ok(input.hashes.get(piece.at()) == Some(&hash))
    }

    /// Makes the part file, or a new one in the place of one that holds no data or that the user gave, before the marker names it.
    ///
    /// # Errors
    /// What the system refuses; [`StorageError::InTheWay`] where another program has just made it or written to it.
    pub fn create_part_file(&self, step: FileAction, survey: &mut Survey) -> Result<(), StorageError> {
        let (name, slot) = (self.selection.name(), self.layout.files().len());
        match (step, &survey.parts) {
            (FileAction::Make, _) => {}
            (FileAction::Renew, Some(seen)) => {
                let now = self.root.metadata_inside(name).map_err(|error| self.failed(Operation::Open, slot, error))?;
                if !seen.is_untouched(&now) {
                    return Err(self.in_the_way(slot, Refusal::Changed));
                }
                self.root.remove(name).map_err(|error| self.failed(Operation::Open, slot, error))?;
            }
            _ => return Ok(()),
        }
        let made = self.root.open(name, Access::New)?.file.metadata();
        let made = made.map_err(|error| self.failed(Operation::Open, slot, error))?;
        self.selection.set_identity(Some(identity(&made)));
        self.selection.set_end(0);
        survey.parts = Some(FileSnapshot::of(&made));
        Ok(())
    }

    /// The part file's name and identity, where btsync may write to it.
    pub(super) fn owned_part_file(&self, survey: &Survey) -> Option<(&Path, u64)> {
        let seen = survey.parts.as_ref().filter(|_| !self.selection.is_foreign())?;
        Some((self.selection.name(), seen.identity))
    }

    /// Whether the part file may hold bytes of the torrent's files that are to be taken back.
    pub(super) fn fills(&self, survey: &Survey) -> bool {
        !self.selection.is_foreign() && survey.parts.is_some_and(|parts| parts.size > 0)
    }

    /// How the part file looks from outside, and its name from the download folder on.
    pub fn part_file_stamp(&self) -> Option<(&Path, Stamp)> {
        let name = Some(self.selection.name()).filter(|name| !name.as_os_str().is_empty())?;
        Some((name, Stamp::of(&self.root.metadata_inside(name).ok()?)?))
    }

    /// Removes the part file, unless another file has its name by now.
    pub(super) fn remove_part_file(&self) {
        let name = self.selection.name();
        match self.root.metadata_inside(name) {
            Ok(found) if self.selection.matches_part_file(&found) && !self.selection.is_foreign() => {
                let removed = self.root.remove(name);
                removed.unwrap_or_else(|error| log::debug!("{}: cannot be removed: {error}", name.display()));
            }
            _ => log::debug!("{}: is not the part file any more, and stays", name.display()),
        }
    }
}
