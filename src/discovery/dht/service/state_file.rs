//! Loads and saves the DHT state in a file.

use std::io::{self, Read as _};
use std::path::Path;

use crate::discovery::dht::state::{DhtState, MAX_STATE};
use crate::util::atomic_file::{self, private_folder, replace_private};
use crate::util::descriptors::{is_shortage, with_retry};

/// How often to retry writing while no file descriptor is available.
const TRIES: u32 = 10;

/// The state saved at `path`. An unreadable file counts as an empty state, because the DHT works without it.
///
/// # Errors
/// If no file descriptor is available. Treating the state as empty would overwrite the file at the end.
pub(crate) fn load(path: &Path) -> io::Result<DhtState> {
    let bytes = match std::fs::metadata(path) {
        Ok(meta) if meta.len() <= MAX_STATE as u64 => atomic_file::open(path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(MAX_STATE as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
        }),
        Ok(_) => return Ok(DhtState::default()),
        Err(error) => Err(error),
    };
    let state = match bytes {
        Err(error) if is_shortage(&error) => return Err(error),
        Err(error) => Err(error.to_string()),
        Ok(bytes) => DhtState::decode(&bytes).map_err(|error| error.to_string()),
    };
    Ok(state.unwrap_or_else(|why| {
        log::debug!("no DHT nodes from {}: {why}", path.display());
        DhtState::default()
    }))
}

/// Replaces the file atomically, and only if it contains a state. Retries while no file descriptor is available, but not for
/// long, because the program is about to exit.
pub(crate) fn save(path: &Path, state: &DhtState) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        private_folder(folder)?;
    }
    let mut tries = 0..TRIES;
    with_retry(|| replace_private(path, &state.encode(), DhtState::is_encoded), || tries.next().is_some())
}
