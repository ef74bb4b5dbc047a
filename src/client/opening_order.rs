//! A torrent's place in the order in which torrents were named, and its files among those of the others.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::ClientError;
use crate::client::Host;
use crate::client::file_owners::{Owner, WriteAnswer};
use crate::storage::{Layout, Trait, resolved};

use crate::types::InfoHash;

/// How often somebody who waits looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// A place in the order; later ones do not write to its files. While it is `expected`, they wait for it.
pub struct Turn {
    host: Arc<Host>,
    number: u64,
    /// What the torrent was named by.
    name: String,
}

impl Host {
    /// The next place in the order, for what was named by `name`. Where it `is_near`, as a .torrent on disk is, the torrents that
    /// come after it wait until its files are known; a link or a URL may take long, and has a turn that nobody waits for.
    pub fn turn(self: &Arc<Host>, name: &str, is_near: bool) -> Turn {
        let number = self.turns.fetch_add(1, Ordering::Relaxed);
        if is_near {
            self.owners.lock().expect(number);
        }
        Turn { host: self.clone(), number, name: name.to_owned() }
    }
}

impl Turn {
    /// The torrent's files are known from now on.
    pub(crate) fn enter(&self, info_hash: InfoHash, out_dir: &Path, layout: &Layout) {
        let files = layout.files().iter().enumerate().filter(|(_, file)| !file.pad);
        let files = files.map(|(number, file)| (number, file.path.as_path()));
        let owner = Owner { info_hash, name: self.name.clone() };
        let folder = resolved(out_dir); // asks the disk, which must keep no other torrent waiting
        self.host.owners.lock().enter(self.number, owner, &folder, files);
        self.host.changed.notify_all();
    }

    /// The torrent's files, by their numbers, are these on disk.
    pub(crate) fn identify(&self, info_hash: InfoHash, files: impl Iterator<Item = (usize, Trait)>) {
        self.host.owners.lock().identify(info_hash, files);
    }

    /// Whether no other torrent writes to the files.
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] where one does.
    pub(crate) fn is_free(&self, info_hash: InfoHash, layout: &Layout) -> Result<(), ClientError> {
        let result = self.host.owners.lock().is_free(info_hash);
        result.map_err(|(file, owner)| self.taken(info_hash, layout, file, owner))
    }

    /// The torrent only reads its files.
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] where another torrent writes to one of them.
    pub(crate) fn read(&self, info_hash: InfoHash, layout: &Layout) -> Result<(), ClientError> {
        let result = self.host.owners.lock().read(info_hash);
        self.host.changed.notify_all();
        result.map_err(|(file, owner)| self.taken(info_hash, layout, file, owner))
    }

    /// Waits until the torrent may write to its files; false where it is to stop before.
    ///
    /// # Errors
    /// [`ClientError::FileTaken`] where another torrent has one of them.
    pub(crate) fn write(&self, info_hash: InfoHash, layout: &Layout, stop: &AtomicBool) -> Result<bool, ClientError> {
        let mut owners = self.host.owners.lock();
        loop {
            match owners.write(info_hash) {
                WriteAnswer::Granted => {
                    self.host.changed.notify_all();
                    return Ok(true);
                }
                WriteAnswer::Refused(file, owner) => return Err(self.taken(info_hash, layout, file, owner)),
                WriteAnswer::Wait if stop.load(Ordering::Acquire) => return Ok(false),
                WriteAnswer::Wait => _ = self.host.changed.wait_for(&mut owners, LOOK),
            }
        }
    }

    fn taken(&self, info_hash: InfoHash, layout: &Layout, file: usize, owner: Owner) -> ClientError {
        let path = layout.files().get(file).map(|file| file.path.clone());
        let (mut ours, mut theirs) = (self.name.clone(), owner.name);
        if ours == theirs {
            (ours, theirs) = (format!("{ours} ({info_hash})"), format!("{theirs} ({})", owner.info_hash));
        }
        ClientError::FileTaken { path: path.unwrap_or_default(), ours, theirs }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.host.owners.lock().arrived(self.number);
        self.host.changed.notify_all();
    }
}
