//! Decides what to do with each existing file: collects what its bytes say about its origin, for [`decide`]. Only reads.

use std::ops::Range;

use crate::storage::check::hash_zeros;
use crate::storage::earlier_run::EarlierRun;
use crate::storage::error::StorageError;
use crate::storage::files::Storage;
use crate::storage::layout::Span;
use crate::storage::lock::is_write_action;
use crate::storage::off_limits::find_aliased_file;
use crate::storage::ownership::{Evidence, ExistingFile, FileAction, FileFacts, OwnershipClaim, Refusal, decide};
use crate::storage::snapshot::FileSnapshot;
use crate::storage::stop_check::StopCheck;
use crate::storage::survey::{OUTSIDE, PAGE, Survey};
use crate::types::{BLOCK_SIZE, Bitfield, PieceIndex, Sha1Hash};

impl Storage {
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
            let mut action = decide(&self.facts(number, input, &zeros)?, input.may_overwrite);
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
            found.is_link = self.root.may_be_link(self.name(number));
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
            self.add_piece(&mut evidence, piece, (number, claim), seen, (input, zeros))?;
        }
        Ok(evidence)
    }

    /// Adds what the bytes of one piece say.
    fn add_piece(
        &self,
        evidence: &mut Evidence,
        piece: PieceIndex,
        (number, claim): (usize, OwnershipClaim),
        seen: &FileSnapshot,
        (input, zeros): (&DecisionInput<'_>, &ZeroPieces),
    ) -> Result<(), StorageError> {
        let size = self.layout.piece_size(piece);
        let spans: Vec<Span> = self.layout.spans(self.layout.offset(piece, 0), u64::from(size)).collect();
        let Some(own) = spans.iter().find(|span| span.file == number) else { return Ok(()) };
        let upto = (own.offset + own.len).min(seen.size);
        // The resume data may vouch for this file's part of the piece even if another part has changed.
        let right = input.have.has(piece) || (input.vouched)(number, piece);
        let whole = right && own.len == u64::from(self.layout.piece_length());
        if whole && input.hashes.get(piece.as_usize()).is_some_and(|hash| *hash != zeros.full) {
            evidence.verified += 1;
            return Ok(());
        }
        let data = self.has_data_in(number, own.offset, upto, input)?;
        if right {
            evidence.verified += u32::from(data);
            return Ok(());
        }
        let mut others = spans.iter().filter(|span| span.file != number);
        let absent = others.try_fold(false, |any, span| Ok(any || self.is_absent(span, input)?))?;
        // A piece that cannot be hashed does not count as this file's fault.
        evidence.failed += u32::from(data && !absent);
        evidence.unhashable += u32::from(data && absent);
        // Another client may have left a piece partly downloaded.
        evidence.may_be_right &= data && absent && !self.has_zero_page(number, whole_pages(own), u64::MAX, input)?;
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
        Ok(())
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
    pub may_overwrite: bool,
    /// Set if the result is no longer needed.
    pub stop: &'a dyn StopCheck,
}

/// The pages of a file that lie entirely in this part of it.
fn whole_pages(span: &Span) -> Range<u64> {
    span.offset.div_ceil(PAGE)..(span.offset + span.len) / PAGE
}

#[cfg(test)]
mod tests;
