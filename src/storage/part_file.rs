//! The part file itself: its name, whether the file of that name is ours, and its end. `parts` says what lies in it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use rustix::fs::OFlags;
use rustix::io::Errno;
use sha1::{Digest, Sha1};

use crate::storage::error::{Doing, StorageError};
use crate::storage::files::Storage;
use crate::storage::open::Access;
use crate::storage::ownership::{Refusal, Step};
use crate::storage::resume::Stamp;
use crate::storage::seen::{Seen, identity};
use crate::storage::survey::{Question, Survey, has_data};
use crate::types::{PieceHash, PieceIndex};

/// Bytes hashed at once.
const CHUNK: usize = 64 * 1024;

impl Storage {
    /// Where the part file lies. The usual name is also that of libtorrent's part file, which has another form; what is that, a link
    /// or a file with other names is somebody else's, and stays as it is.
    pub(super) fn part_place(&self, usual: &Path) -> PathBuf {
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
    pub(super) fn find_parts(&self) -> Result<Option<Seen>, StorageError> {
        let name = self.selection.name();
        if name.as_os_str().is_empty() {
            return Ok(None);
        }
        let found = self.part_file(name).map_err(|why| self.in_the_way(self.layout.files().len(), why))?;
        self.selection.set_identity(found.as_ref().map(identity));
        Ok(found.as_ref().map(Seen::of))
    }

    /// What is to be done with the part file, where `steps` are done with the torrent's files: it is left alone, made, continued, or
    /// replaced by a new one. `is_ours`: the marker or the resume data says that btsync made it. Where it is not and is not needed, it is
    /// neither written to nor removed from now on.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] where it is needed and another program's; what the system says where it cannot be read.
    pub fn decide_parts(&self, question: &Question<'_>, steps: &[Step], is_ours: bool) -> Result<Step, StorageError> {
        self.selection.set_foreign(false);
        let is_needed = self.needs_parts(question, steps);
        let Some(seen) = &question.survey.parts else { return Ok(if is_needed { Step::Make } else { Step::Leave }) };
        if is_ours {
            return Ok(Step::Continue);
        }
        let slot = self.layout.files().len();
        let evidence = self.parts_evidence(seen, question).map_err(|error| self.failed(Doing::Read, slot, error))?;
        match evidence {
            // What was looked at last may not have been looked at to its end.
            _ if question.stop.load(Relaxed) => Ok(Step::Leave),
            None => Ok(if is_needed { Step::Renew } else { Step::Continue }),
            Some((right, wrong)) if right > wrong => Ok(Step::Continue),
            Some(_) if is_needed && question.overwrite => Ok(Step::Renew),
            Some(_) if is_needed => Err(self.in_the_way(slot, Refusal::Foreign)),
            Some(_) => {
                self.selection.set_foreign(true);
                Ok(Step::Leave)
            }
        }
    }

    /// Whether a piece that is to be fetched has bytes of a file that has no file of its own, or of one that is not written to.
    fn needs_parts(&self, question: &Question<'_>, steps: &[Step]) -> bool {
        let piece_length = u64::from(self.layout.piece_length());
        (0..self.layout.files().len()).any(|file| {
            let step = steps.get(file);
            let is_apart = matches!(step, Some(Step::Ignore | Step::Compare)) || !self.selection.has_own(file);
            is_apart
                && self.selection.kept(&self.layout, file).any(|kept| {
                    let piece = PieceIndex(((self.layout.start_of(file) + kept.within) / piece_length) as u32);
                    // What an ignored file has of a piece is not used any more.
                    let is_there = question.have.has(piece) && step != Some(&Step::Ignore);
                    question.wanted.has(piece) && !is_there
                })
        })
    }

    /// Of the pieces of which the part file has bytes other than zero, how many verify and how many do not; `None` where it holds no data.
    fn parts_evidence(&self, seen: &Seen, question: &Question<'_>) -> io::Result<Option<(u32, u32)>> {
        let file = self.root.open_own(self.selection.name(), OFlags::RDONLY)?;
        let (mut right, mut wrong) = (0, 0);
        let mut end = 0;
        for (at, piece) in self.selection.slots(&self.layout) {
            let size = u64::from(self.layout.piece_size(piece));
            end = at + u64::from(self.layout.piece_length());
            if !has_data(&file, at, (at + size).min(seen.size), question.stop)? {
                continue;
            }
            let is_right = self.is_vouched(piece, question) || self.is_right_with(&file, at, piece, question)?;
            *(if is_right { &mut right } else { &mut wrong }) += 1;
        }
        // Behind the last piece's there is no room in it.
        wrong += u32::from(has_data(&file, end, seen.size, question.stop)?);
        Ok(Some((right, wrong)).filter(|found| *found != (0, 0)))
    }

    /// Whether the part file's bytes of a piece were hashed with all others and are right, now or when the resume data was written.
    fn is_vouched(&self, piece: PieceIndex, question: &Question<'_>) -> bool {
        let size = u64::from(self.layout.piece_size(piece));
        let spans = self.layout.spans(self.layout.offset(piece, 0), size);
        let mut apart = spans.filter(|span| !self.selection.has_own(span.file));
        apart.any(|span| question.have.has(piece) || (question.vouched)(span.file, piece))
    }

    /// Whether a piece is right with all the bytes that the part file has of it, and others from the torrent's own files.
    fn is_right_with(&self, parts: &File, at: u64, piece: PieceIndex, question: &Question<'_>) -> io::Result<bool> {
        let begins = self.layout.offset(piece, 0);
        let mut sha = Sha1::new();
        let mut buf = vec![0; CHUNK];
        for span in self.layout.spans(begins, u64::from(self.layout.piece_size(piece))) {
            let start = at + (self.layout.start_of(span.file) + span.offset - begins);
            let is_pad = self.layout.files().get(span.file).is_some_and(|spec| spec.pad);
            let is_kept = has_data(parts, start, start + span.len, question.stop)?;
            let own = if is_pad || is_kept { None } else { self.root.open(self.name(span.file), Access::Read).ok() };
            let (source, from) = own.as_ref().map_or((parts, start), |own| (&own.file, span.offset));
            let mut done = 0;
            while done < span.len && !question.stop.load(Relaxed) {
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
        Ok(question.hashes.get(piece.at()) == Some(&hash))
    }

    /// Makes the part file, or a new one in the place of one that holds no data or that the user gave, before the marker names it.
    ///
    /// # Errors
    /// What the system refuses; [`StorageError::InTheWay`] where another program has just made it or written to it.
    pub fn make_parts(&self, step: Step, survey: &mut Survey) -> Result<(), StorageError> {
        let (name, slot) = (self.selection.name(), self.layout.files().len());
        match (step, &survey.parts) {
            (Step::Make, _) => {}
            (Step::Renew, Some(seen)) => {
                let now = self.root.metadata_inside(name).map_err(|error| self.failed(Doing::Open, slot, error))?;
                if !seen.is_untouched(&now) {
                    return Err(self.in_the_way(slot, Refusal::Changed));
                }
                self.root.remove(name).map_err(|error| self.failed(Doing::Open, slot, error))?;
            }
            _ => return Ok(()),
        }
        let made = self.root.open(name, Access::New)?.file.metadata();
        let made = made.map_err(|error| self.failed(Doing::Open, slot, error))?;
        self.selection.set_identity(Some(identity(&made)));
        self.selection.set_end(0);
        survey.parts = Some(Seen::of(&made));
        Ok(())
    }

    /// The part file's name and identity, where btsync may write to it.
    pub(super) fn own_parts(&self, survey: &Survey) -> Option<(&Path, u64)> {
        let seen = survey.parts.as_ref().filter(|_| !self.selection.is_foreign())?;
        Some((self.selection.name(), seen.identity))
    }

    /// Whether the part file may hold bytes of the torrent's files that are to be taken back.
    pub(super) fn fills(&self, survey: &Survey) -> bool {
        !self.selection.is_foreign() && survey.parts.is_some_and(|parts| parts.size > 0)
    }

    /// How the part file looks from outside, and its name from the download folder on.
    pub fn parts_stamp(&self) -> Option<(&Path, Stamp)> {
        let name = Some(self.selection.name()).filter(|name| !name.as_os_str().is_empty())?;
        Some((name, Stamp::of(&self.root.metadata_inside(name).ok()?)?))
    }

    /// Removes the part file, unless another file has its name by now.
    pub(super) fn remove_parts(&self) {
        let name = self.selection.name();
        match self.root.metadata_inside(name) {
            Ok(found) if self.selection.is_parts(&found) && !self.selection.is_foreign() => {
                let removed = self.root.remove(name);
                removed.unwrap_or_else(|error| log::debug!("{}: cannot be removed: {error}", name.display()));
            }
            _ => log::debug!("{}: is not the part file any more, and stays", name.display()),
        }
    }
}
