//! Finds the files of a folder for `create`, and determines their order and the padding between them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::metainfo::create_error::CreateError;
use crate::metainfo::glob::Glob;
use crate::metainfo::paths;
use crate::util::cold_sort;
use crate::util::printable_text::printable;

/// A file of a new torrent, or padding.
#[derive(Clone, Debug)]
pub(crate) struct CreateEntry {
    /// The path below the torrent's name; empty in a single-file torrent.
    pub parts: Vec<String>,
    /// The path on disk; empty for padding.
    pub path: PathBuf,
    /// The length in bytes at the time of the scan.
    pub length: u64,
    /// The modification time at the time of the scan, as seconds since 1970 and nanoseconds.
    pub modified: (i64, i64),
    /// Whether the entry is padding (BEP 47): zeros that belong to no file.
    pub is_pad: bool,
}

impl CreateEntry {
    /// A file as it was found.
    pub fn new(parts: Vec<String>, path: PathBuf, found: &fs::Metadata) -> CreateEntry {
        let modified = (found.mtime(), found.mtime_nsec());
        CreateEntry { parts, path, length: found.len(), modified, is_pad: false }
    }

    /// Whether a file has changed since the scan. Inode numbers do not count, because some file systems give a file several.
    pub fn is_changed(&self, now: &fs::Metadata) -> bool {
        !now.is_file() || now.len() != self.length || (now.mtime(), now.mtime_nsec()) != self.modified
    }

    /// Padding of this length.
    pub fn pad(length: u64) -> CreateEntry {
        // The path that BEP 47 recommends.
        let parts = vec![".pad".to_owned(), length.to_string()];
        CreateEntry { parts, path: PathBuf::new(), length, modified: (0, 0), is_pad: true }
    }
}

/// The path of an existing or future file without links, `.` and `..`; `None` if its folder does not exist.
pub(crate) fn canonical_path(path: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(fs::canonicalize(folder).ok()?.join(path.file_name()?))
}

/// The regular files below `root`, without those that `exclude` matches and without `output`, sorted by their path components,
/// byte by byte. Leaves out what downloads have in the folder beside their files, too. Adds a note for each entry that it leaves out
/// unasked.
pub(crate) fn files(
    root: &Path,
    exclude: &[Glob],
    output: Option<&Path>,
    notes: &mut Vec<String>,
) -> Result<Vec<CreateEntry>, CreateError> {
    let mut found = Vec::new();
    let mut folders = vec![(root.to_path_buf(), Vec::new())];
    while let Some((folder, above)) = folders.pop() {
        let open = |e| CreateError::Open { path: folder.clone(), source: e };
        for entry in fs::read_dir(&folder).map_err(open)? {
            let entry = entry.map_err(open)?;
            let path = entry.path();
            // Exclude first: an excluded entry may have an invalid name or be of any kind.
            let mut parts: Vec<String> = above.clone();
            parts.push(entry.file_name().to_string_lossy().into_owned());
            if exclude.iter().any(|glob| glob.matches(&parts)) {
                continue;
            }
            let is_output = |output: &Path| {
                output.file_name() == path.file_name() && canonical_path(&path).as_deref() == Some(output)
            };
            let mut leave_out =
                |why: &str| notes.push(format!("{} is left out: {why}", printable(&path.to_string_lossy())));
            if output.is_some_and(is_output) {
                leave_out("it is the torrent file to write");
                continue;
            }
            if parts.last().is_some_and(|name| paths::is_own_file(name)) {
                leave_out("it belongs to an unfinished download");
                continue;
            }
            // `metadata` does not follow symbolic links here, so that nothing outside the folder is shared by mistake.
            let meta = entry.metadata().map_err(|e| CreateError::Open { path: path.clone(), source: e })?;
            if !meta.is_file() && !meta.is_dir() {
                leave_out(if meta.is_symlink() { "a symbolic link" } else { "neither a file nor a folder" });
                continue;
            }
            name_of(&path, notes)?;
            if parts.len() > paths::DEPTH_MAX {
                return Err(CreateError::Name { path, why: paths::PathError::TooDeep.to_string() });
            }
            if meta.is_dir() {
                folders.push((path, parts));
            } else {
                found.push(CreateEntry::new(parts, path, &meta));
            }
        }
    }
    cold_sort::sort_by(&mut found, |a, b| a.parts.cmp(&b.parts));
    // The system lists folders in arbitrary order.
    cold_sort::sort(notes);
    Ok(found)
}

/// The same files, with padding before every non-empty file that would not start at a piece boundary.
pub(crate) fn padded(files: &[CreateEntry], piece_length: u32) -> Vec<CreateEntry> {
    let piece_length = u64::from(piece_length);
    let mut padded = Vec::with_capacity(files.len() * 2);
    // Bytes in the last, incomplete piece.
    let mut filled = 0;
    for file in files {
        if filled > 0 && file.length > 0 {
            let length = piece_length - filled;
            padded.push(CreateEntry::pad(length));
            filled = 0;
        }
        filled = (filled + file.length % piece_length) % piece_length;
        padded.push(file.clone());
    }
    padded
}

/// The last component of the path as it will be stored in the torrent. Adds a note if a download will have another name.
pub(crate) fn name_of(path: &Path, notes: &mut Vec<String>) -> Result<String, CreateError> {
    let (name, safe) = names_of(path)?;
    note(&name, &safe, notes);
    Ok(name)
}

/// Like [`name_of`], for the torrent's name, which a download does not hide.
pub(crate) fn top_name_of(path: &Path, notes: &mut Vec<String>) -> Result<String, CreateError> {
    let (name, safe) = names_of(path)?;
    note(&name, &paths::without_leading_dot(&safe).unwrap_or(safe), notes);
    Ok(name)
}

/// The last component of the path, and the safe name that a download will have.
fn names_of(path: &Path) -> Result<(String, String), CreateError> {
    let refused = |why: &str| CreateError::Name { path: path.to_path_buf(), why: why.to_owned() };
    let name = path.file_name().ok_or_else(|| refused("it is empty"))?;
    let name = name.to_str().ok_or_else(|| refused("it is not UTF-8"))?;
    let safe = paths::safe_component(name.as_bytes()).map_err(|e| refused(&e.to_string()))?;
    Ok((name.to_owned(), safe))
}

fn note(name: &str, safe: &str, notes: &mut Vec<String>) {
    if safe != name {
        notes.push(format!("`{}` is not a safe file name: btsync will download it as `{safe}`", printable(name)));
    }
}
