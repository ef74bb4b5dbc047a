//! Torrent files (BEP 3): read, checked against everything a stranger could write into one, made, and edited.
//! Pure but for [`Torrent::read`] and [`create()`], which touch the disk; knows nothing of peers, trackers or terminals.

pub mod create;
mod decode;
mod distinct;
pub mod edit;
pub mod glob;
mod hashing;
pub mod magnet;
pub mod paths;
pub mod select;
pub mod torrent;
mod tree;

pub use crate::bencode::guard::RawError;
pub use create::{CreateError, CreateOptions, Created, Plan, create};
pub use edit::{Edit, edit};
pub use glob::{Glob, GlobError};
pub use magnet::{Magnet, MagnetError, PeerAddress};
pub use paths::{PathError, printable, safe_component};
pub use select::{Pattern, SelectError, Selection};
pub use torrent::{FileEntry, Makes, Torrent, TorrentError};

#[cfg(test)]
mod create_tests;
#[cfg(test)]
mod tests;
