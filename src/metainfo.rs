//! Torrent files (BEP 3): parse and validate untrusted ones, create new ones, edit existing ones; also magnet links.
//! Only [`Metainfo::read`], [`Metainfo::read_from`] and [`CreatePlan`] touch the disk. This module knows nothing of peers, trackers or terminals.

pub mod create;
mod create_error;
mod decode;
pub mod edit;
mod error;
pub mod glob;
mod hashing;
pub mod magnet;
pub mod paths;
pub mod select;
mod source_files;
pub mod torrent;
mod unique_paths;

pub use crate::bencode::validate::BencodeError;
pub use crate::util::printable_text::printable;
#[cfg(any(test, feature = "internals"))]
pub use create::create;
pub use create::{CreateOptions, CreatePlan, CreatedTorrent};
pub use create_error::CreateError;
pub use edit::TorrentEdit;
pub use error::MetainfoError;
pub use glob::{Glob, GlobError};
pub use magnet::{Magnet, MagnetError, PeerAddress};
pub(crate) use paths::is_own_file;
pub use paths::{PathError, safe_component};
pub use select::{FilePattern, SelectError, Selection};
pub use torrent::{FileEntry, FileRoot, Metainfo, SpecialEntry, TorrentVersion, V2Hashes};

/// The largest torrent file accepted, in bytes: enough for one and a half million pieces or half a million files.
pub const TORRENT_FILE_MAX: usize = 32 << 20;

/// The most pieces of a torrent with a v2 half (BEP 52), whose info dictionary does not grow with them.
pub(crate) const V2_PIECES_MAX: u32 = 1 << 21;

#[cfg(test)]
mod tests;
