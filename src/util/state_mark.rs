//! The names of btsync's own folders, and the mark by which everybody recognises the state folder of a service, wherever it is.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use crate::util::atomic_file::open_regular;
use crate::util::descriptors::with_retry;

/// The file that a service locks.
pub const LOCK: &str = "lock";
/// The content of that file.
pub const MARK: &[u8] = b"This folder has the state of `btsync serve`, which locks this file.\n";

/// The folder of the torrents in a state folder.
pub const TORRENTS: &str = "torrents";
/// The folder of the resume data in a state folder, and in btsync's cache folder.
pub const RESUME: &str = "resume";
/// The folder in a state folder that records torrent files which downloads created.
pub const DOWNLOADED_TORRENTS: &str = "downloaded-torrents";

/// The name of btsync's own folders in the user's configuration, cache and state folders.
pub const BTSYNC: &str = "btsync";
/// The state folder of a service, in btsync's own state folder.
pub const SERVE: &str = "serve";
/// The folder in btsync's cache folder that records torrent files which downloads created.
pub const BROUGHT: &str = "brought";
/// The folder in btsync's cache folder that records downloads whose completion is not reported yet.
pub const PENDING: &str = "pending";

/// The names of the folders that btsync makes in its own ones.
pub const OWN_FOLDERS: [&str; 5] = [BROUGHT, DOWNLOADED_TORRENTS, PENDING, RESUME, TORRENTS];

/// How often to try again to read the file while no descriptor is free.
const MAX_ATTEMPTS: usize = 100;

/// Whether a folder has the mark. A crash may have cut it.
///
/// # Errors
/// If the file cannot be read.
pub fn is_marked(folder: &Path) -> io::Result<bool> {
    let path = folder.join(LOCK);
    if length(&path).is_none() {
        return Ok(false);
    }
    let mut content = Vec::new();
    if let Some(file) = open_regular(&path)? {
        file.take(MARK.len() as u64 + 1).read_to_end(&mut content)?;
    }
    Ok(!content.is_empty() && MARK.starts_with(&content))
}

/// Whether a folder is the state folder of a service, also one of an earlier version, which left the file empty. The mark alone does not
/// count, as a torrent could put it into a download folder; a folder that cannot be examined does.
pub fn is_state_folder(folder: &Path) -> bool {
    let Some(length) = length(&folder.join(LOCK)) else { return false };
    let mut attempts = 0..MAX_ATTEMPTS;
    let mut has_mark = || length == 0 || with_retry(|| is_marked(folder), || attempts.next().is_some()).unwrap_or(true);
    [TORRENTS, RESUME].iter().all(|name| folder.join(name).is_dir()) && has_mark()
}

/// The length of a regular file that is no link.
pub fn length(path: &Path) -> Option<u64> {
    path.symlink_metadata().ok().filter(fs::Metadata::is_file).map(|found| found.len())
}
