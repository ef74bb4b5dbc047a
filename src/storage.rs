//! Storage: maps a torrent's bytes to files, and reads and writes those files.
//!
//! [`Layout`] (pure) maps pieces to spans of files. [`Storage`] reads and writes those spans with `pread` and `pwritev`, keeps a
//! bounded number of files open and never leaves its root folder.
//!
//! Before btsync creates anything, [`Storage::survey`] examines the existing files and [`decide`] (pure) says which of them
//! btsync may write to; [`Storage::lock`] keeps other processes from writing to them. [`check`] hashes the files on disk with all
//! cores, [`flaws`] reports what is wrong with them, and [`resume`] (pure) is the data that makes the next check unnecessary. If
//! only some files are selected ([`Storage::select`]), the bytes of unwanted files in shared pieces go to a part file.
//!
//! Nothing here knows peers or torrents' state. A peer's reader thread writes from the hot path: no block costs an allocation,
//! and no lock is held across I/O.

#[cfg(feature = "service")]
mod begun_files;
mod cache;
mod changes;
mod check;
mod compared_files;
mod completion;
mod creation;
#[cfg(feature = "service")]
mod data_files;
mod decision;
mod disk_space;
mod download_mark;
mod earlier_run;
mod edits;
mod empty_files;
mod error;
mod exact_files;
mod failed_piece;
mod file_rights;
mod files;
mod flaws;
mod folder_mark;
mod fs_limits;
mod ignored_files;
mod incomplete_names;
mod late_errors;
mod layout;
mod lock;
mod marker;
mod marker_entries;
mod marker_notes;
mod merkle_check;
mod off_limits;
mod open;
mod open_elsewhere;
mod other_downloads;
mod own_folder;
mod ownership;
mod page_cache;
mod part_file;
mod pinned_files;
mod placement;
mod prepare;
mod private_folders;
mod release;
mod replace;
pub mod resume;
mod resume_format;
mod rollback;
mod safeguards;
mod samples;
mod served_files;
mod set_aside;
mod slices;
mod snapshot;
mod special_entries;
mod stop_check;
mod survey;
mod sync;
mod touched;

pub(crate) use cache::clock;
pub use check::{CheckProgress, check, check_pieces, check_rest, hash_blocks, hash_range};
#[cfg(feature = "service")]
pub use data_files::{FileEvidence, FileJobError, KeptFile, MovedFile};
pub use decision::DecisionInput;
#[cfg(feature = "service")]
pub use download_mark::ReportUnmarked;
pub use download_mark::{has_download_mark, permanent_identity};
pub use error::{Operation, StorageError, StorageErrorKind};
pub use files::Storage;
pub use flaws::{Flaw, flaws, lengths};
pub use layout::{FileSpec, Layout, LayoutError, Span, Spans};
pub use marker::{is_reserved, marker_name};
pub use merkle_check::check_v2;
pub use ownership::{Evidence, ExistingFile, FileAction, FileFacts, OwnershipClaim, Refusal, decide};
pub use placement::part_name;
pub use prepare::{Allocation, PreparedFiles};
pub(crate) use private_folders::PrivateFolders;
pub use served_files::DoubtfulPiece;
#[cfg(feature = "service")]
pub(crate) use snapshot::identity;
pub use snapshot::{FileIdentity, FileSnapshot};
pub use special_entries::SpecialEntries;
pub use stop_check::StopCheck;
pub use survey::Survey;

/// The number of bytes of a file that are read, compared, hashed or copied at once.
const CHUNK: usize = 64 * 1024;
