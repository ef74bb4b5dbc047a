//! The state between runs, in a file.

use std::io;
use std::path::Path;

use crate::atomic_file::{private_folder, replace_private};
use crate::sources::dht::state::{MAX_STATE, State};

/// A state that cannot be read is none: it is a help, not a need.
pub(super) fn load(path: &Path) -> State {
    let bytes = match std::fs::metadata(path) {
        Ok(meta) if meta.len() <= MAX_STATE as u64 => std::fs::read(path),
        Ok(_) => return State::default(),
        Err(error) => Err(error),
    };
    match bytes.map_err(|e| e.to_string()).and_then(|bytes| State::decode(&bytes).map_err(|e| e.to_string())) {
        Ok(state) => state,
        Err(why) => {
            log::debug!("no DHT nodes from {}: {why}", path.display());
            State::default()
        }
    }
}

/// Whole or not at all.
pub(super) fn save(path: &Path, state: &State) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        private_folder(folder)?;
    }
    replace_private(path, &state.encode())
}
