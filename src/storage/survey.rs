//! Examines the existing files at the torrent's paths before btsync creates anything: facts for [`decide`]. Only reads.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::storage::CHUNK;
use crate::storage::check::hash_zeros;
use crate::storage::earlier_run::EarlierRun;
use crate::storage::error::{Operation, StorageError};
use crate::storage::files::Storage;
use crate::storage::layout::{FileSpec, Span};
use crate::storage::lock::is_write_action;
use crate::storage::off_limits::find_aliased_file;
use crate::storage::ownership::{Evidence, ExistingFile, FileAction, FileFacts, OwnershipClaim, Refusal, decide};
use crate::storage::snapshot::FileSnapshot;
use crate::storage::stop_check::StopCheck;
use crate::types::{BLOCK_SIZE, Bitfield, PieceIndex, Sha1Hash};

/// The unit of a file that a failing system writes entirely or not at all.
pub(super) const PAGE: u64 = 4096;
/// The link count recorded for a file outside the download folder that a symbolic link points to: it is read and never written.
const OUTSIDE: u64 = u64::MAX;

/// The torrent's files as they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// By file number; `None` for padding, missing files, and unwanted files that lie in the part file.
    pub files: Vec<Option<FileSnapshot>>,
    /// Bytes that may be right: of files, each counted up to its length in the torrent, and of the part file.
    pub bytes: u64,
    /// The part file; `None` if there is none.
    pub part_file: Option<FileSnapshot>,
}

impl Survey {
    /// The file as it was found.
    pub fn file(&self, number: usize) -> Option<&FileSnapshot> {
        self.files.get(number)?.as_ref()
    }

    /// The first file that differs in a later survey; the part file's number is the number of files.
    pub fn differs(&self, later: &Survey) -> Option<usize> {
        let file = self.files.iter().zip(&later.files).position(|(before, now)| before != now);
        file.or_else(|| (self != later).then_some(self.files.len()))
    }
}

impl Storage {
    /// Examines the existing files at the torrent's paths. Skips the rest if `stop` becomes true.
    ///
    /// # Errors
    /// If something blocks a wanted file for good: a folder at its path, a link that leads out, or a file at a folder's path.
    /// Also if another program has created a file with our part file's name since [`Storage::select`].
    pub fn survey(&self, stop: &dyn StopCheck) -> Result<Survey, StorageError> {
        let mut survey = Survey::default();
        // Most files of a torrent are in few folders, none of which exists at the first start: do not search them for each file.
        let mut missing: Option<&Path> = None;
        for (number, spec) in self.layout.files().iter().enumerate() {
            let looks = !spec.is_pad && self.placement.has_own_file(number) && !stop.is_stopped();
            let seen = match spec.path.parent() {
                _ if !looks => None,
                Some(folder) if missing == Some(folder) => None,
                folder => {
                    let seen = self.snapshot_of(&spec.path, self.wants(number))?;
                    if let Some(folder) = folder.filter(|folder| seen.is_none() && !self.is_folder(folder)) {
                        missing = Some(folder);
                    }
                    seen
                }
            };
            survey.bytes += seen.map_or(0, |seen| seen.size.min(spec.length));
            survey.files.push(seen);
        }
        survey.part_file = self.find_part_file()?;
        let mut files = 0..self.layout.files().len();
        if let Some(FileSnapshot { size: bytes, .. }) = survey.part_file
            && files.any(|file| self.placement.uses_part_file(&self.layout, file))
        {
            self.placement.set_part_file_length(bytes);
            survey.bytes += bytes;
        }
        Ok(survey)
    }

    /// Allows reading files outside the download folder that the user's symbolic links point to; [`Storage::survey`] does that
    /// too. Skips the rest if `stop` becomes true.
    pub fn allow_links_outside(&self, stop: &dyn StopCheck) {
        let goes_on = |_: &&FileSpec| !stop.is_stopped();
        for spec in self.layout.files().iter().take_while(goes_on).filter(|spec| !spec.is_pad) {
            let inside = self.root.metadata_inside(&spec.path);
            if inside.is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::LOOP)) {
                // If that fails, the read reports why.
                let _ = self.root.allow_outside(&spec.path);
            }
        }
    }

    fn is_folder(&self, name: &Path) -> bool {
        name.as_os_str().is_empty() || self.root.metadata(name).is_ok_and(|found| found.is_dir())
    }

    fn snapshot_of(&self, name: &Path, wanted: bool) -> Result<Option<FileSnapshot>, StorageError> {
        let path = || self.root.path().join(name);
        let inside = self.root.metadata_inside(name);
        if inside.as_ref().is_err_and(|error| Errno::from_io_error(error) == Some(Errno::LOOP))
            && let Ok(found) = self.root.allow_outside(name)
        {
            return Ok(Some(FileSnapshot { links: OUTSIDE, ..FileSnapshot::of(&found) }));
        }
        match inside {
            Ok(found) if found.is_file() => Ok(Some(FileSnapshot::of(&found))),
            _ if !wanted => Ok(None),
            Ok(_) => Err(StorageError::NotAFile { path: path() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::LOOP) => Err(StorageError::Escapes { path: path() }),
                Some(Errno::NOTDIR) => Err(StorageError::NotAFolder { path: self.blocking_parent(name) }),
                _ => Err(StorageError::io(Operation::Open, &path())(error)),
            },
        }
    }

    /// The file that blocks one of the folders above this name.
    fn blocking_parent(&self, name: &Path) -> PathBuf {
        let mut above: Vec<&Path> = name.ancestors().skip(1).filter(|name| !name.as_os_str().is_empty()).collect();
        above.reverse();
        let found = above.into_iter().find(|name| self.root.metadata(name).is_ok_and(|found| !found.is_dir()));
        self.root.path().join(found.unwrap_or(Path::new("")))
    }

    /// Decides what to do with each file so that all `wanted` pieces can be downloaded, given the pieces in `have`. If `stop`
    /// becomes true, the result is to leave all files alone.
    ///
    /// # Errors
    /// [`StorageError::InTheWay`] with the first file that btsync may not write to; the system's error for a file that cannot be
    /// read.
    pub fn decide(&self, input: &DecisionInput<'_>) -> Result<Vec<FileAction>, StorageError> {
        let (mut actions, mut refused) = (Vec::with_capacity(self.layout.files().len()), Vec::new());
        let zeros = hash_zeros(self.layout.piece_length());
        // Ignore a short last piece: its zeros have another hash.
        let full = |piece: &PieceIndex| self.layout.piece_size(*piece) == self.layout.piece_length();
        let mut right = input.have.iter().filter(full).filter_map(|piece| input.hashes.get(piece.as_usize()));
        let is_begun = right.any(|hash| *hash != zeros);
        let zeros = ZeroPieces { is_begun, full: zeros, run: EarlierRun::new(zeros) };
        for (number, spec) in self.layout.files().iter().enumerate() {
            if spec.is_pad || input.stop.is_stopped() {
                actions.push(FileAction::Leave);
                continue;
            }
            let mut action = decide(&self.facts(number, input, &zeros)?, input.overwrite);
            if action.is_ok_and(is_write_action) && self.layout.is_read_only(number) {
                // The piece that it shares with a file to be downloaded cannot be hashed yet.
                let has_length = input.survey.file(number).is_some_and(|seen| seen.size == spec.length);
                action = if has_length { Ok(FileAction::Compare) } else { Err(Refusal::Changed) };
            }
            actions.push(action.unwrap_or(FileAction::Leave));
            refused.extend(action.err().map(|why| (number, why)));
        }
        if input.stop.is_stopped() {
            // `stop` may have cut the last examination short.
            return Ok(vec![FileAction::Leave; self.layout.files().len()]);
        }
        let twice = || find_aliased_file(&actions, input.survey).map(|number| (number, Refusal::TwoFiles));
        match refused.first().copied().or_else(twice) {
            Some((number, why)) => {
                let path = self.root.path().join(self.name(number));
                if input.survey.file(number).is_some_and(|seen| seen.links == OUTSIDE) {
                    return Err(StorageError::Escapes { path });
                }
                Err(StorageError::InTheWay { path, why, more: refused.len().saturating_sub(1) })
            }
            None => Ok(actions),
        }
    }

    fn facts(&self, number: usize, input: &DecisionInput<'_>, zeros: &ZeroPieces) -> Result<FileFacts, StorageError> {
        let seen = input.survey.file(number);
        let mut facts = FileFacts {
            is_wanted: self.wants(number),
            is_complete: self.is_complete(number, seen, input),
            is_ours: seen.is_some_and(|seen| (input.ours)(number, seen)),
            claim: seen.map_or(OwnershipClaim::None, |seen| (input.claim)(number, seen)),
            found: seen.map(|seen| ExistingFile { links: seen.links, is_link: false, evidence: Evidence::default() }),
        };
        if facts.needs_evidence()
            && let (Some(found), Some(seen)) = (&mut facts.found, seen)
        {
            found.is_link = self.root.is_link(self.name(number));
            found.evidence = self.evidence((number, facts.claim), seen, input, zeros)?;
            // btsync only reads an unwanted file, unless it is its own.
            let is_unwanted = !facts.is_wanted && facts.claim == OwnershipClaim::None;
            if (is_unwanted || facts.seems_foreign())
                && let Some(found) = &mut facts.found
            {
                found.evidence.fits_earlier_run = self.fits_earlier_run(number, seen, input, &zeros.run)?;
                found.evidence.seems_whole =
                    found.evidence.fits_earlier_run && self.seems_whole(number, seen, input)?;
            }
        } else if facts.needs_end()
            && let (Some(found), Some(seen), Some(spec)) = (&mut facts.found, seen, self.layout.files().get(number))
        {
            found.evidence.has_data_past_end = self.has_data_in(number, spec.length, seen.size, input)?;
        }
        Ok(facts)
    }

    /// Whether every wanted piece of a file is on disk. A file whose length in the torrent is 0 must be empty: no piece says
    /// anything about its content.
    fn is_complete(&self, number: usize, seen: Option<&FileSnapshot>, input: &DecisionInput<'_>) -> bool {
        let Some(spec) = self.layout.files().get(number) else { return true };
        let mut pieces = self.layout.pieces_of(number).map(PieceIndex).filter(|piece| input.wanted.has(*piece));
        let all = pieces.all(|piece| input.have.has(piece));
        match seen {
            Some(seen) if self.wants(number) => all && seen.size >= spec.length && (spec.length > 0 || seen.size == 0),
            Some(_) => all,
            None => false,
        }
    }

    /// What the bytes of a file say about its origin.
    fn evidence(
        &self,
        (number, claim): (usize, OwnershipClaim),
        seen: &FileSnapshot,
        input: &DecisionInput<'_>,
        zeros: &ZeroPieces,
    ) -> Result<Evidence, StorageError> {
        let Some(spec) = self.layout.files().get(number) else { return Ok(Evidence::default()) };
        let has_data = |from, upto| self.has_data_in(number, from, upto, input);
        let mut evidence = Evidence {
            has_data_past_end: has_data(spec.length, seen.size)?,
            has_data: has_data(0, seen.size)?,
            // What is missing of its pieces may be in the part file.
            has_part_file: input.survey.part_file.is_some(),
            may_be_right: (zeros.is_begun || input.survey.part_file.is_some()) && seen.size == spec.length,
            ..Evidence::default()
        };
        if !evidence.has_data || evidence.has_data_past_end {
            evidence.may_be_right = false;
            return Ok(evidence);
        }
        for piece in self.layout.pieces_of(number).map(PieceIndex) {
            let size = self.layout.piece_size(piece);
            let spans: Vec<Span> = self.layout.spans(self.layout.offset(piece, 0), u64::from(size)).collect();
            let Some(own) = spans.iter().find(|span| span.file == number) else { continue };
            let upto = (own.offset + own.len).min(seen.size);
            // The resume data may vouch for this file's part of the piece even if another part has changed.
            let right = input.have.has(piece) || (input.vouched)(number, piece);
            let whole = right && own.len == u64::from(self.layout.piece_length());
            if whole && input.hashes.get(piece.as_usize()).is_some_and(|hash| *hash != zeros.full) {
                evidence.verified += 1;
                continue;
            }
            let data = has_data(own.offset, upto)?;
            if right {
                evidence.verified += u32::from(data);
                continue;
            }
            let mut others = spans.iter().filter(|span| span.file != number);
            let absent = others.try_fold(false, |any, span| Ok(any || self.is_absent(span, input)?))?;
            // A piece that cannot be hashed does not count as this file's fault.
            evidence.failed += u32::from(data && !absent);
            evidence.unhashable += u32::from(data && absent);
            // Another client may have left a piece partly downloaded.
            evidence.may_be_right &=
                data && absent && !self.has_zero_page(number, whole_pages(own), u64::MAX, input)?;
            let is_begun = data
                && match claim {
                    OwnershipClaim::None | OwnershipClaim::Refused => false,
                    OwnershipClaim::MadeButChanged => self.is_partial(piece, input)?,
                    OwnershipClaim::StartedHere => self.lacks_block((number, piece), own, input)?,
                    // The missing bytes may be in another file's part of the piece.
                    OwnershipClaim::MadeButReusable => {
                        own.len < u64::from(size) || self.has_zero_page(number, whole_pages(own), u64::MAX, input)?
                    }
                };
            evidence.partial += u32::from(is_begun);
        }
        Ok(evidence)
    }

    /// Whether this piece has a whole block of zeros, or one past the end of the file. Only looks at blocks that lie entirely in
    /// this file.
    fn lacks_block(
        &self,
        (number, piece): (usize, PieceIndex),
        own: &Span,
        input: &DecisionInput<'_>,
    ) -> Result<bool, StorageError> {
        let size = self.layout.piece_size(piece);
        let base = self.layout.offset(piece, 0);
        for begin in (0..size).step_by(BLOCK_SIZE as usize) {
            let from = base + u64::from(begin);
            let upto = from + u64::from(BLOCK_SIZE.min(size - begin));
            let start = self.layout.start_of(number);
            let is_within = from >= start + own.offset && upto <= start + own.offset + own.len;
            if is_within && !self.has_data_in(number, from - start, upto - start, input)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether these bytes of another file are missing: there is no such file, it is too short, it is an unfinished one of ours
    /// or an unwanted one of another program, or the range has no data.
    fn is_absent(&self, span: &Span, input: &DecisionInput<'_>) -> Result<bool, StorageError> {
        if self.layout.files().get(span.file).is_some_and(|file| file.is_pad) {
            return Ok(false);
        }
        match input.survey.file(span.file).filter(|seen| seen.size >= span.offset + span.len) {
            Some(seen)
                if !(input.ours)(span.file, seen)
                    && (input.claim)(span.file, seen) != OwnershipClaim::MadeButChanged
                    && !self.is_of_other_program(span, input) =>
            {
                Ok(!self.has_data_in(span.file, span.offset, span.offset + span.len, input)?)
            }
            _ => Ok(true),
        }
    }

    pub(super) fn has_data_in(
        &self,
        number: usize,
        from: u64,
        upto: u64,
        input: &DecisionInput<'_>,
    ) -> Result<bool, StorageError> {
        if from >= upto {
            return Ok(false);
        }
        let file = self.handle(number, false)?;
        has_data(&file.file, from, upto, input.stop).map_err(|error| self.failed(Operation::Read, number, error))
    }
}

/// What is known about pieces of zeros.
struct ZeroPieces {
    /// The hash of a full-length piece of zeros.
    full: Sha1Hash,
    /// Whether any full-length piece verifies that is not all zeros: then some of the torrent is on disk.
    is_begun: bool,
    /// What the files say together about an earlier run.
    run: EarlierRun,
}

/// The input of [`Storage::decide`].
pub struct DecisionInput<'a> {
    /// The files as they were found.
    pub survey: &'a Survey,
    /// The hashes of all pieces.
    pub hashes: &'a [Sha1Hash],
    /// The verified pieces.
    pub have: &'a Bitfield,
    /// The wanted pieces.
    pub wanted: &'a Bitfield,
    /// Whether the resume data says that nobody has changed the file since btsync wrote to it, and the marker does not refuse it.
    pub ours: &'a dyn Fn(usize, &FileSnapshot) -> bool,
    /// Weaker evidence from the marker or the resume data.
    pub claim: &'a dyn Fn(usize, &FileSnapshot) -> OwnershipClaim,
    /// Whether the marker names the file, and its length and times are such as an earlier run may have left them.
    pub of_earlier_run: &'a dyn Fn(usize, &FileSnapshot) -> bool,
    /// Whether the resume data vouches for the file's own bytes in this piece.
    pub vouched: &'a dyn Fn(usize, PieceIndex) -> bool,
    /// Whether the user allowed btsync to overwrite existing files.
    pub overwrite: bool,
    /// Set if the result is no longer needed.
    pub stop: &'a dyn StopCheck,
}

/// The pages of a file that lie entirely in this part of it.
fn whole_pages(span: &Span) -> Range<u64> {
    span.offset.div_ceil(PAGE)..(span.offset + span.len) / PAGE
}

/// Whether any byte in this range of a file is not zero. Does not read holes. Returns `true` once `stop` is set.
pub(super) fn has_data(file: &File, from: u64, upto: u64, stop: &dyn StopCheck) -> io::Result<bool> {
    let mut at = from;
    let mut buf = Vec::new();
    while at < upto {
        at = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.max(at),
            Err(Errno::NXIO) => return Ok(false),
            // A file system without support for holes: treat everything as data.
            Err(_) => at,
        };
        let room = usize::try_from(upto.saturating_sub(at)).map_or(CHUNK, |left| left.min(CHUNK));
        if room == 0 {
            return Ok(false); // a hole
        }
        buf.resize(room, 0);
        let count = match file.read_at(&mut buf, at) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if count == 0 {
            return Ok(false);
        }
        if stop.is_stopped() || buf.iter().take(count).any(|byte| *byte != 0) {
            return Ok(true);
        }
        at += count as u64;
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
