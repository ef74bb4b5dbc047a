//! The longest texts that a service keeps, whoever they are from: a remote control, a torrent file or another client.

use std::path::Path;

use crate::service::model::ControlError;

/// The most labels of a torrent.
pub const MAX_LABELS: usize = 64;
/// The most bytes of a label or of a bandwidth group's name.
pub const MAX_LABEL: usize = 128;
/// The most characters of a torrent's name.
pub const MAX_NAME: usize = 255;
/// The most bytes of a path, as on Linux. A longer one costs much time to compare, and the system would refuse it.
pub const MAX_PATH: usize = 4096;

/// Refuses a path that the system would refuse.
///
/// # Errors
/// If it is too long or has a NUL character.
pub fn check_path(path: &Path) -> Result<(), ControlError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.len() > MAX_PATH || bytes.contains(&0) {
        return Err(ControlError::Invalid(format!("a path has at most {MAX_PATH} bytes and no NUL character")));
    }
    Ok(())
}

/// Refuses a name of a bandwidth group that is too long.
///
/// # Errors
/// If it is.
pub fn check_group(name: &str) -> Result<(), ControlError> {
    if name.len() > MAX_LABEL {
        return Err(ControlError::Invalid(format!("the name of a bandwidth group has at most {MAX_LABEL} bytes")));
    }
    Ok(())
}
