//! The parts of [`Storage`](crate::storage::Storage) that belong together: what it knows of the torrent's marker, and what keeps it
//! from writing to the user's files.

use std::collections::BTreeSet;
use std::path::PathBuf;

use parking_lot::Mutex;

use crate::storage::edits::KnownTimes;
use crate::storage::lock::MarkerLock;
use crate::storage::marker::Marker;
use crate::storage::marker_notes::MarkerNotes;
use crate::storage::pinned_files::PinnedFiles;
use crate::storage::touched::TouchedFiles;
use crate::util::atomics::Flag;

/// The torrent's marker.
#[derive(Debug, Default)]
pub(crate) struct MarkerState {
    /// The right to write, if this process has taken it.
    pub(super) lock: Option<MarkerLock>,
    /// The marker as last read or written.
    pub(crate) content: Option<Marker>,
    /// What has been appended to the marker, or is still to be appended.
    pub(super) notes: MarkerNotes,
}

/// Which files btsync may write to, and how it notices that another program has changed them.
#[derive(Debug, Default)]
pub(super) struct Safeguards {
    /// The identity of each file that may be written to; `None` before that is decided, while the caller vouches for the files.
    pub(super) writable_identities: Option<Vec<Option<u64>>>,
    /// Files kept open, and existing files that btsync writes to.
    pub(super) pinned: PinnedFiles,
    /// The times of the files, by which edits are noticed.
    pub(super) times: KnownTimes,
    /// Files whose modification time another program has set, although their content may be unchanged.
    pub(super) touched: TouchedFiles,
    /// Whether btsync also replaces files without data that another program has open: the user gave them.
    pub(super) may_replace_open: Flag,
    /// The folders that this run has created, relative to the download folder.
    pub(super) created_folders: Mutex<BTreeSet<PathBuf>>,
    /// The files that the torrent marks as executable and btsync has not made so.
    pub(super) plain_files: Mutex<Vec<usize>>,
}
