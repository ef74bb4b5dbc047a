//! What a program wants changed of a running torrent's files: their folder, their paths, or which of them are wanted.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::torrent::{AddOptions, TorrentConfig};

/// A change of the options of a torrent whose files are closed.
pub(crate) type OptionsChange = Box<dyn FnOnce(AddOptions) -> AddOptions + Send>;

/// The changes that main has not applied yet.
#[derive(Default)]
pub(crate) struct ReopenRequests(Mutex<Vec<OptionsChange>>);

impl ReopenRequests {
    /// Adds a change.
    pub fn add(&self, change: OptionsChange) {
        self.0.lock().push(change);
    }

    /// Whether there are changes.
    pub fn is_requested(&self) -> bool {
        !self.0.lock().is_empty()
    }

    /// Applies all changes to the folder and the files of `config`; nothing else in it changes. They may take long, as a program may
    /// move files. Returns how many there were.
    pub fn apply(&self, config: &mut Arc<TorrentConfig>) -> usize {
        let mut applied = 0;
        loop {
            let changes = std::mem::take(&mut *self.0.lock());
            if changes.is_empty() {
                return applied;
            }
            applied += changes.len();
            let before = AddOptions { config: TorrentConfig::clone(config), claim_position: None };
            let after = changes.into_iter().fold(before, |options, change| change(options)).config;
            let (max_open_files, ends_after_check) = (config.files.max_open_files, config.files.ends_after_check);
            let config = Arc::make_mut(config);
            (config.out_dir, config.files) = (after.out_dir, after.files);
            config.files.max_open_files = config.files.max_open_files.min(max_open_files);
            // A torrent that already has peers does not end after a check.
            config.files.ends_after_check &= ends_after_check;
        }
    }
}
