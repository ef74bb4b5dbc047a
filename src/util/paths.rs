//! Paths and names as btsync compares them.

use std::path::{Path, PathBuf};

/// Whether a watched folder would take a file of this name for a torrent file or a file of magnet links.
pub fn is_watched_name(name: &Path) -> bool {
    let suffix = name.extension().unwrap_or_default();
    ["torrent", "magnet"].iter().any(|known| suffix.eq_ignore_ascii_case(known))
}

/// The absolute path without symbolic links, as far as it exists; for comparisons.
pub fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = path.ancestors().find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    let Some((ancestor, real)) = existing else { return path };
    let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
    // Joining an empty path would append a slash.
    if rest.as_os_str().is_empty() { real } else { real.join(rest) }
}

/// The path folded to lower case, as a case-insensitive file system compares it.
pub fn folded(path: &Path) -> String {
    path.to_string_lossy().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_without_links() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("a")).unwrap();
        std::os::unix::fs::symlink("a", real.join("b")).unwrap();
        assert_eq!(resolved(&dir.path().join("b/new/x")), real.join("a/new/x"));
        assert_eq!(resolved(&dir.path().join("b")), real.join("a"));
        assert_eq!(resolved(Path::new("nothing/x")), std::env::current_dir().unwrap().join("nothing/x"));
    }
}
