//! A torrent's position in the order in which torrents were named, which decides between torrents that have the same file.

use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::client::Client;
use crate::client::ClientError;
use crate::client::file_owners::{FileOwner, TakenFile, WriteAnswer};
use crate::storage::{FileIdentity, Layout, StopCheck};
use crate::types::InfoHash;
use crate::util::paths::resolved;

/// A position in that order; later torrents do not write to this torrent's files. While it is reserved, they wait for it.
pub struct ClaimPosition {
    client: Arc<Client>,
    position: u64,
    /// The name under which the user added the torrent.
    name: String,
}

impl Client {
    /// The next position, for a torrent that was added as `name`. If it is local, such as a torrent file on disk, later
    /// torrents wait until its files are known. A magnet link or a URL may take long, so no torrent waits for it.
    pub fn claim_position(self: &Arc<Client>, name: &str, is_local: bool) -> ClaimPosition {
        let position = self.next_position.next();
        if is_local {
            self.owners.lock().reserve(position);
        }
        ClaimPosition { client: self.clone(), position, name: name.to_owned() }
    }
}

impl ClaimPosition {
    /// Tells the client which files the torrent has. `incomplete`: the layout that they have as long as they are incomplete, if that
    /// is another one.
    pub(crate) fn add_torrent(
        &self,
        info_hash: InfoHash,
        out_dir: &Path,
        layout: &Layout,
        incomplete: Option<&Layout>,
    ) {
        let files = layout.files().iter().enumerate().filter(|(_, file)| !file.is_pad);
        let files = files.map(|(number, file)| (number, file.path.as_path()));
        let suffixed =
            incomplete.into_iter().flat_map(|layout| layout.final_names().iter().map(move |it| (layout, it.0)));
        let names = suffixed.filter_map(|(layout, number)| Some((number, layout.files().get(number)?.path.as_path())));
        let owner = FileOwner { info_hash, name: self.name.clone() };
        let folder = resolved(out_dir); // may access the disk, which must not hold up other torrents: before the lock
        self.client.owners.lock().add_torrent(self.position, owner, &folder, files, names);
        self.client.owners_changed.notify_all();
    }

    /// Tells the client which files still have the names of incomplete ones, by the layout; with `None`, none has.
    pub(crate) fn retain_incomplete_names(&self, info_hash: InfoHash, layout: Option<&Layout>) {
        let renamed = layout.map_or(&[][..], Layout::final_names);
        let is_kept = |number: usize| renamed.binary_search_by_key(&number, |(file, _)| *file).is_ok();
        self.client.owners.lock().retain_incomplete_names(info_hash, is_kept);
        self.client.owners_changed.notify_all();
    }

    /// Tells the client how the torrent's files, by their indices, are identified on disk.
    pub(crate) fn add_identities(
        &self,
        info_hash: InfoHash,
        files: impl Iterator<Item = (usize, FileIdentity, PathBuf)>,
    ) {
        self.client.owners.lock().add_identities(info_hash, files);
    }

    /// Checks that no other torrent writes to the files.
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] if one does.
    pub(crate) fn check_not_written(&self, info_hash: InfoHash, layout: &Layout) -> Result<(), ClientError> {
        let result = self.client.owners.lock().check_not_written(info_hash);
        result.map_err(|taken| self.file_taken(info_hash, layout, taken))
    }

    /// Declares that the torrent only reads its files.
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] if another torrent writes to one of them.
    pub(crate) fn claim_for_reading(&self, info_hash: InfoHash, layout: &Layout) -> Result<(), ClientError> {
        let result = self.client.owners.lock().claim_for_reading(info_hash);
        self.client.owners_changed.notify_all();
        result.map_err(|taken| self.file_taken(info_hash, layout, taken))
    }

    /// Waits until the torrent may write to its files; false if it has to stop first. The thread that sets `stop` then calls
    /// [`Client::wake_stopped_torrents`].
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] if another torrent has one of them.
    pub(crate) fn claim_for_writing(
        &self,
        info_hash: InfoHash,
        layout: &Layout,
        stop: &dyn StopCheck,
    ) -> Result<bool, ClientError> {
        let mut owners = self.client.owners.lock();
        loop {
            match owners.claim_for_writing(info_hash) {
                WriteAnswer::Granted => {
                    self.client.owners_changed.notify_all();
                    return Ok(true);
                }
                WriteAnswer::Refused(taken) => return Err(self.file_taken(info_hash, layout, taken)),
                WriteAnswer::Wait if stop.is_stopped() => return Ok(false),
                WriteAnswer::Wait => self.client.owners_changed.wait(&mut owners),
            }
        }
    }

    fn file_taken(&self, info_hash: InfoHash, layout: &Layout, taken: TakenFile) -> ClientError {
        let TakenFile { number, is_incomplete_name, owner } = taken;
        let incomplete = layout.files().get(number).map(|file| file.path.as_path()).filter(|_| is_incomplete_name);
        let path = incomplete.or_else(|| layout.final_name(number)).map(Path::to_owned);
        let (mut ours, mut theirs) = (self.name.clone(), owner.name);
        if ours == theirs {
            (ours, theirs) = (format!("{ours} ({info_hash})"), format!("{theirs} ({})", owner.info_hash));
        }
        ClientError::FileTaken { path: path.unwrap_or_default(), ours, theirs }
    }
}

impl fmt::Debug for ClaimPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClaimPosition({})", self.position)
    }
}

impl Drop for ClaimPosition {
    fn drop(&mut self) {
        self.client.owners.lock().end_reservation(self.position);
        self.client.owners_changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::client::ClientConfig;
    use crate::storage::FileSpec;

    #[test]
    fn a_stop_ends_the_wait_for_an_earlier_torrent() {
        let client = Client::for_one_torrent(&ClientConfig::default());
        let (_earlier, later) = (client.claim_position("earlier", true), client.claim_position("later", true));
        let file = FileSpec { path: "a".into(), length: 1, is_pad: false };
        let (layout, hash, stop) = (Layout::new(1, vec![file]).unwrap(), InfoHash([1; 20]), AtomicBool::new(false));
        later.add_torrent(hash, Path::new("out"), &layout, None);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| later.claim_for_writing(hash, &layout, &stop).unwrap());
            std::thread::sleep(Duration::from_millis(20)); // a stop before the wait must work, too
            assert!(!waits.is_finished(), "the earlier torrent may have this file");
            stop.store(true, Ordering::Relaxed);
            client.wake_stopped_torrents();
            assert!(!waits.join().unwrap());
        });
    }
}
