//! Decides which files btsync may write to. Pure: facts about the existing files in, decisions out.
//!
//! An existing file belongs to the user until something shows that it is an unfinished part of this download:
//! - the resume data says that nobody has changed it since btsync wrote to it;
//! - the marker says that btsync made it, and its pieces do not contradict that;
//! - it looks as an earlier run left it, and so do the other files;
//! - it holds no data;
//! - more of its pieces verify than do not.
//!
//! btsync changes nothing on disk before it has decided on every file, so a single refusal leaves all files as they are.

use std::fmt;

use crate::types::InfoHash;

/// The facts about one of the torrent's files before anything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Whether the user wants the file.
    pub is_wanted: bool,
    /// Whether every wanted piece of the file is on disk and verified: there is nothing to write.
    pub is_complete: bool,
    /// Whether the resume data says that nobody has changed the file since btsync wrote to it.
    pub is_ours: bool,
    /// Weaker evidence from the marker or the resume data that btsync made the file.
    pub claim: OwnershipClaim,
    /// The existing file; `None` if there is none.
    pub found: Option<ExistingFile>,
}

/// What the marker or the resume data says about a file without proving that it is still the one that btsync made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnershipClaim {
    /// Nothing.
    #[default]
    None,
    /// A download of this file was begun: the marker names its path, but on a file system whose inode numbers do not last; or the
    /// marker or the resume data names the file, which was changed since.
    StartedHere,
    /// The marker names the file by an inode number that the file system may have reused.
    MadeButReusable,
    /// The marker says that btsync made this very file, but its metadata differs from the resume data: btsync may have written to
    /// it until it was killed, or another program may have done so since.
    MadeButChanged,
    /// An earlier run refused to continue the file because another program had changed it.
    Refused,
}

/// A file that existed before this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExistingFile {
    /// The number of hard links to it.
    pub links: u64,
    /// Whether the path is a symbolic link to it.
    pub is_link: bool,
    /// What its content says about its origin; only needed if [`FileFacts::needs_evidence`] says so.
    pub evidence: Evidence,
}

/// What the bytes of a file say about its origin. Zero bytes say nothing: every client's preallocated file begins with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent observations")]
pub struct Evidence {
    /// Whether any byte of the file is not zero.
    pub has_data: bool,
    /// Whether any byte past the length that the torrent gives the file is not zero.
    pub has_data_past_end: bool,
    /// Pieces that verify and in which the file has non-zero bytes.
    pub verified: u32,
    /// Pieces that could be hashed, do not verify, and in which the file has non-zero bytes.
    pub failed: u32,
    /// Pieces that cannot be hashed because another file's part of them is missing, and in which the file has non-zero bytes.
    pub unhashable: u32,
    /// Those of the failed and unhashable pieces that contain a whole block of zeros, as a partly downloaded piece does. Only
    /// counted if there is a [`OwnershipClaim`]. For [`OwnershipClaim::MadeButReusable`] a page of zeros is enough, or a piece that the
    /// file shares with another file; for [`OwnershipClaim::MadeButChanged`] a page of zeros or missing bytes anywhere in the
    /// piece.
    pub partial: u32,
    /// Whether the file and the others that the marker names look as an earlier run left them (`earlier_run.rs`).
    pub fits_earlier_run: bool,
    /// Whether the file has its full length, and no block or page of zeros in its own part of the pieces that do not verify: if it
    /// is the torrent's, it lacks no data. Only examined if it fits an earlier run.
    pub seems_whole: bool,
    /// Whether a part file of this torrent exists, so that the file probably comes from a run with another selection.
    pub has_part_file: bool,
    /// Whether the file may well match the torrent: it has the right length, other files of the torrent exist and verify or there
    /// is a part file, and all of its pieces that do not verify cannot be hashed because another file's part of them is missing,
    /// and have no gap in this file.
    pub may_be_right: bool,
}

/// What btsync does with a file before the download starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAction {
    /// Nothing: the file is complete, or neither exists nor is wanted. btsync reads it and never writes to it.
    Leave,
    /// Create it; it must not exist.
    Create,
    /// Write to it; extend or truncate it first.
    Continue,
    /// Copy it, give the copy its name and write to the copy. The file's other hard links, or the target of a symbolic link, keep
    /// the old content.
    Copy,
    /// The file holds no data: give its name to a new file and write to that. The old one may have been made by another download,
    /// which would take the content of this download for its own.
    ReplaceEmpty,
    /// Read it, but do not write to it: data from peers for its undecided pieces goes to the part file, and is compared with this
    /// file once all of these pieces are complete. If it differs, a wanted file ends the download, and an unwanted one is left alone.
    Compare,
    /// Neither read nor write it, as if it did not exist: needed bytes of it go to the part file.
    Ignore,
}

/// Why btsync refuses to write to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Most of its content is not from this torrent.
    Foreign,
    /// It is longer than the torrent says, and the excess is not all zeros.
    Longer,
    /// It has other hard links.
    Linked,
    /// It is a symbolic link to a file without data.
    LinkToEmpty,
    /// Another program has just created it.
    Appeared,
    /// Another file took its name during the download.
    Replaced,
    /// btsync needs this name for a file of its own, and did not make this one.
    NotOurs,
    /// Another program has just changed it.
    Changed,
    /// Another program changed it while an earlier run downloaded it.
    EditedEarlier,
    /// Another program has it open for writing.
    OpenElsewhere,
    /// It holds no data and belongs to another user, whose programs may have it open.
    OtherOwner,
    /// Two files of the torrent are this one file on disk.
    TwoFiles,
    /// btsync's own input or output is redirected to it.
    IsOurOutput,
    /// It is in a folder of btsync's own files, or a link in place of one.
    InPrivateFolder,
    /// It was complete before, and is not now.
    Damaged,
    /// It was assumed to match the torrent, and does not.
    Differs,
    /// It belongs to the unfinished download of another torrent.
    Unfinished(InfoHash),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Foreign => f.write_str("it existed before, and too few of its pieces verify"),
            Refusal::Longer => f.write_str("it is longer than the torrent says"),
            Refusal::Linked => {
                f.write_str("it is not complete, and it has other names (hard links), which would change too")
            }
            Refusal::LinkToEmpty => f.write_str("it is a symbolic link to an empty file, which would change"),
            Refusal::Appeared => f.write_str("another program has just created it"),
            Refusal::Replaced => f.write_str("another program has put another file in its place"),
            Refusal::NotOurs => {
                f.write_str("btsync needs this name for a file of its own, and did not create this one")
            }
            Refusal::Changed => f.write_str("another program is writing to it"),
            Refusal::EditedEarlier => f.write_str("another program changed it during the download"),
            Refusal::OpenElsewhere => f.write_str("another program has it open for writing"),
            Refusal::OtherOwner => f.write_str("it belongs to another user"),
            Refusal::TwoFiles => f.write_str("another file of the torrent is the same file on disk"),
            Refusal::IsOurOutput => f.write_str("btsync's input or output is redirected to it"),
            Refusal::InPrivateFolder => f.write_str("one of btsync's own files or folders is there"),
            Refusal::Damaged => f.write_str("it was complete before, and some of its pieces no longer verify"),
            Refusal::Differs => f.write_str("it existed before and differs from the torrent"),
            Refusal::Unfinished(hash) => write!(f, "it belongs to the unfinished download of {hash}"),
        }
    }
}

impl Refusal {
    /// What the user can do about it, with the punctuation before; empty if overwriting the file is the way out.
    pub fn advice(self) -> &'static str {
        match self {
            Refusal::NotOurs => "; move it away, or choose another folder",
            Refusal::IsOurOutput => "; choose another folder, or redirect the input or output elsewhere",
            Refusal::InPrivateFolder | Refusal::TwoFiles => "; choose another folder",
            Refusal::Damaged => "; to download these pieces again, verify the torrent, then start it",
            Refusal::Replaced => "; move it away to resume, or choose another folder",
            _ => "",
        }
    }
}

impl FileFacts {
    /// Whether [`decide`] uses the evidence.
    pub fn needs_evidence(&self) -> bool {
        self.found.is_some() && !self.is_complete && !self.is_ours
    }

    /// Whether the content of the file counts against it.
    pub fn seems_foreign(&self) -> bool {
        self.found.is_some_and(|found| refusal(&found, self.claim) == Some(Refusal::Foreign))
    }

    /// Whether [`decide`] only uses the evidence about data past the file's end.
    pub fn needs_end(&self) -> bool {
        self.found.is_some() && !self.is_complete && self.is_ours
    }
}

/// Decides what btsync does with a file. `may_overwrite`: the user allowed btsync to overwrite existing files.
///
/// # Errors
/// A [`Refusal`] if btsync would have to write to a file that it did not make and that the user did not allow it to overwrite.
pub fn decide(facts: &FileFacts, may_overwrite: bool) -> Result<FileAction, Refusal> {
    let Some(found) = &facts.found else {
        return Ok(if facts.is_wanted { FileAction::Create } else { FileAction::Leave });
    };
    if facts.is_complete {
        return Ok(FileAction::Leave);
    }
    let refusal = if facts.is_ours { write_refusal(found) } else { refusal(found, facts.claim) };
    // Whatever of it is right, the user may have changed the rest.
    let is_users = facts.claim == OwnershipClaim::None && !facts.is_ours && !found.evidence.fits_earlier_run;
    match refusal {
        // btsync continues a file that it made.
        None if facts.is_ours || facts.claim == OwnershipClaim::MadeButChanged => Ok(FileAction::Continue),
        _ if is_users && !facts.is_wanted => {
            Ok(if found.evidence.verified > 0 { FileAction::Compare } else { FileAction::Ignore })
        }
        None if !found.evidence.has_data => Ok(FileAction::ReplaceEmpty),
        // Blocks from peers would may_overwrite bytes that are probably right, before anything is verified.
        None if is_probably_right(&found.evidence, facts.claim) && !may_overwrite => Ok(FileAction::Compare),
        None if is_whole_by_times(&found.evidence, facts.claim) && !may_overwrite => Ok(FileAction::Compare),
        None => Ok(FileAction::Continue),
        Some(_) if !facts.is_wanted => Ok(FileAction::Ignore),
        Some(Refusal::Foreign | Refusal::Linked) if found.evidence.may_be_right && !may_overwrite => {
            Ok(FileAction::Compare)
        }
        // The user named the link, not its target: never may_overwrite the target.
        Some(_) if may_overwrite => {
            Ok(if found.links > 1 || found.is_link { FileAction::Copy } else { FileAction::Continue })
        }
        Some(refusal) => Err(refusal),
    }
}

/// Whether a file that no record calls btsync's own probably matches the torrent, but cannot be hashed as a whole yet.
fn is_probably_right(evidence: &Evidence, claim: OwnershipClaim) -> bool {
    let is_known = claim != OwnershipClaim::None || evidence.fits_earlier_run || evidence.has_part_file;
    evidence.may_be_right && !is_known
}

/// Whether only the times of a file call it btsync's, and it lacks no data if they are right. A stranger's marker can name any times.
fn is_whole_by_times(evidence: &Evidence, claim: OwnershipClaim) -> bool {
    evidence.fits_earlier_run && evidence.seems_whole && claim == OwnershipClaim::None
}

/// Why btsync must not write even to a file that it made: it never overwrites data past the file's end or a hard-linked file.
fn write_refusal(found: &ExistingFile) -> Option<Refusal> {
    if found.links > 1 {
        Some(Refusal::Linked)
    } else if found.evidence.has_data_past_end {
        Some(Refusal::Longer)
    } else {
        None
    }
}

/// Why an incomplete file does not count as an unfinished part of this download; `None` if it does.
fn refusal(found: &ExistingFile, claim: OwnershipClaim) -> Option<Refusal> {
    let Evidence { has_data, verified, failed, unhashable, partial, .. } = found.evidence;
    let is_foreign = match claim {
        OwnershipClaim::None | OwnershipClaim::Refused => verified <= failed + unhashable,
        OwnershipClaim::StartedHere => verified <= (failed + unhashable).saturating_sub(partial),
        // A piece that fails to verify without a gap in it was not left unfinished by btsync.
        OwnershipClaim::MadeButReusable => verified <= failed.saturating_sub(partial),
        // No piece needs to be complete yet, but complete ones must verify.
        OwnershipClaim::MadeButChanged => {
            (failed + unhashable).saturating_sub(partial) > 0
                && verified <= (failed + unhashable).saturating_sub(partial)
        }
    };
    if let Some(refusal) = write_refusal(found) {
        Some(refusal)
    } else if claim == OwnershipClaim::Refused {
        Some(Refusal::EditedEarlier)
    } else if has_data && is_foreign && !found.evidence.fits_earlier_run {
        Some(Refusal::Foreign)
    } else if found.is_link && !has_data {
        Some(Refusal::LinkToEmpty)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
