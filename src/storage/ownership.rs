//! Which files btsync may write to. Pure: facts about the files that stand where a torrent's files go, decisions out.
//!
//! A file that was there before belongs to somebody until something shows that it is an unfinished part of this download: the
//! marker names it as made by btsync, it looks as an earlier run left it, it holds no data, or more of its pieces verify than do
//! not. Nothing on disk changes before the decision for every file is made, so a single refusal leaves all of them as they are.

use std::fmt;

use crate::types::InfoHash;

/// What is known of one of the torrent's files before anything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether the user wants the file.
    pub is_wanted: bool,
    /// Whether all that is wanted of it is on disk and verified: there is nothing to write.
    pub is_complete: bool,
    /// Whether the marker says that btsync made the file, or the resume data that nobody has changed it since btsync wrote to it.
    pub is_ours: bool,
    /// What else speaks for its being ours.
    pub claim: Claim,
    /// What stands in its place; `None` where nothing does.
    pub found: Option<ExistingFile>,
}

/// What the marker or the resume data says of a file without proving that it is still the one that btsync made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Claim {
    /// Nothing.
    #[default]
    None,
    /// The marker names its path, of a file system whose numbers say nothing later, or the resume data names the file, which was changed
    /// since: a download of it was begun.
    Begun,
    /// The marker names it by a number that the file system may have given again.
    Made,
}

/// A file that was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExistingFile {
    /// How many names it has in the file system.
    pub links: u64,
    /// Whether its name is that of a symbolic link to it.
    pub is_link: bool,
    /// What is in it; needed only where [`Facts::needs_evidence`] says so.
    pub evidence: Evidence,
}

/// What the bytes of a file say about its origin. Bytes that are zero say nothing: any client's file begins with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Whether any byte of it is not zero.
    pub has_data: bool,
    /// Whether a byte behind the length that the torrent gives the file is not zero.
    pub has_data_past_end: bool,
    /// Pieces that verify and in which the file has bytes other than zero.
    pub right: u32,
    /// Pieces that could be hashed, do not verify, and in which the file has bytes other than zero.
    pub wrong: u32,
    /// Pieces that cannot be hashed, as another file's part of them is missing, and in which the file has bytes other than zero.
    pub unknown: u32,
    /// Those of the wrong and the unknown pieces in which a whole block is zero, as in a piece that has come only in part. Looked for only
    /// where a [`Claim`] is made; with [`Claim::Made`] a page is enough, and so is a neighbour in the same piece.
    pub begun: u32,
    /// Whether it may well be as the torrent has it: it has its length, other files of the torrent are there and right, and of
    /// its pieces those that do not verify cannot, as another file's part of them is missing.
    pub may_be_right: bool,
}

/// What is done with a file before the download begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAction {
    /// Nothing: it is complete, or neither there nor wanted. It is read and never written.
    Leave,
    /// It is made; it must not be there.
    Make,
    /// It is written to, extended or cut.
    Continue,
    /// A copy takes its name and is written to; the other names of the file, or what a link led to, keep the old content.
    Copy,
    /// It holds no data: a new file takes its name and is written to. The old one may be what another download has made, which
    /// would take the content of this one for its own.
    Renew,
    /// It is read and not written to: what peers send of its undecided pieces goes to the part file, and is compared with it when
    /// all of them are there.
    Compare,
    /// It is neither read nor written, as if it were not there: what is needed of it goes to the part file.
    Ignore,
}

/// Why btsync does not write to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Most of what it holds is not the torrent's.
    Foreign,
    /// It is longer than the torrent says, and what is behind is data.
    Longer,
    /// It has other names.
    Linked,
    /// It is a symbolic link to a file that holds nothing.
    Pointer,
    /// It was not there a moment ago.
    Appeared,
    /// Another file has taken its name while it was downloaded.
    Replaced,
    /// It has the name of a file of btsync's own.
    NotOurs,
    /// It is not as it was a moment ago.
    Changed,
    /// It was taken to be right, and is not.
    Differs,
    /// The unfinished download of another torrent has made it.
    Unfinished(InfoHash),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Foreign => f.write_str("it was there before and most of it is not from this torrent"),
            Refusal::Longer => f.write_str("it was there before and is longer than the torrent says"),
            Refusal::Linked => {
                f.write_str("it is not complete, and it has other names (hard links) that would change too")
            }
            Refusal::Pointer => f.write_str("it is a symbolic link to an empty file that would change"),
            Refusal::Appeared => f.write_str("another program has just made it"),
            Refusal::Replaced => f.write_str("another program has put another file in its place"),
            Refusal::NotOurs => f.write_str("btsync needs this name for a file of its own, and did not make this one"),
            Refusal::Changed => f.write_str("another program is writing to it"),
            Refusal::Differs => f.write_str("it was there before and is not as the torrent has it"),
            Refusal::Unfinished(hash) => write!(f, "it belongs to the unfinished download of {hash}"),
        }
    }
}

impl Refusal {
    /// What the user can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Refusal::NotOurs => "move it away, or choose another folder",
            Refusal::Replaced => "move it away to go on, or choose another folder",
            _ => "--overwrite replaces it, another folder keeps it",
        }
    }
}

impl Facts {
    /// Whether [`decide`] looks at the evidence.
    pub fn needs_evidence(&self) -> bool {
        self.found.is_some() && !self.is_complete && !self.is_ours
    }
}

/// What may be done with a file; `overwrite`: the user gave btsync the files that are in the way.
///
/// # Errors
/// Where btsync would have to write to a file that it did not make and that the user did not give it.
pub fn decide(facts: &Facts, overwrite: bool) -> Result<FileAction, Refusal> {
    let Some(found) = &facts.found else {
        return Ok(if facts.is_wanted { FileAction::Make } else { FileAction::Leave });
    };
    if facts.is_complete {
        return Ok(FileAction::Leave);
    }
    if facts.is_ours {
        return Ok(FileAction::Continue);
    }
    let refusal = refusal(found, facts.claim);
    match refusal {
        None if !found.evidence.has_data => Ok(FileAction::Renew),
        None => Ok(FileAction::Continue),
        Some(_) if !facts.is_wanted => Ok(FileAction::Ignore),
        Some(Refusal::Foreign | Refusal::Linked) if found.evidence.may_be_right && !overwrite => {
            Ok(FileAction::Compare)
        }
        // Nobody has named what a link leads to.
        Some(_) if overwrite => {
            Ok(if found.links > 1 || found.is_link { FileAction::Copy } else { FileAction::Continue })
        }
        Some(refusal) => Err(refusal),
    }
}

/// Why an incomplete file cannot be taken for an unfinished part of this download; `None` where it can.
fn refusal(found: &ExistingFile, claim: Claim) -> Option<Refusal> {
    let Evidence { has_data, has_data_past_end, right, wrong, unknown, begun, .. } = found.evidence;
    let against = match claim {
        Claim::None => wrong + unknown,
        Claim::Begun => (wrong + unknown).saturating_sub(begun),
        // A piece that lacks nothing and does not verify has come from elsewhere.
        Claim::Made => wrong.saturating_sub(begun),
    };
    if found.links > 1 {
        Some(Refusal::Linked)
    } else if has_data_past_end {
        Some(Refusal::Longer)
    } else if has_data && right <= against {
        Some(Refusal::Foreign)
    } else if found.is_link && !has_data {
        Some(Refusal::Pointer)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
