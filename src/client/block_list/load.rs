//! Where a block list comes from, and how it is loaded. The last list from a URL is kept in a file: the URL's server may be away at the
//! next start.

use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::discovery::tracker::http::{FetchedUrl, UrlFetcher};
use crate::net::address_filter::AddressFilter;
use crate::net::block_list::read::{BlockList, BlockListError, read};
use crate::net::route::Route;
use crate::util::atomic_file::{open, private_folder, replace_private};
use crate::util::atomics::Flag;
use crate::util::os_error::reason;
use crate::util::redact::public_name;

/// How long a fetch may take.
const URL_DEADLINE: Duration = Duration::from_secs(60);
/// The largest list that is fetched, packed or not, in bytes.
const MAX_FETCHED: u64 = 64 << 20;
/// The beginning of a kept list: that of a file of ours, and what the rest is.
const COPY_HEADER: &[u8] = b"btsync copy of a block list\n";

/// Where a block list comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockListSource {
    /// A file.
    File(PathBuf),
    /// An HTTP or HTTPS URL of the user.
    Url(String),
}

impl BlockListSource {
    /// A URL if it begins like one, otherwise the path of a file.
    pub fn new(place: &str) -> BlockListSource {
        let starts_with =
            |scheme: &str| place.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        if starts_with("http://") || starts_with("https://") {
            BlockListSource::Url(place.to_owned())
        } else {
            BlockListSource::File(place.into())
        }
    }

    /// The place without secrets.
    pub(crate) fn public_name(&self) -> String {
        match self {
            BlockListSource::File(path) => path.display().to_string(),
            BlockListSource::Url(url) => public_name(url),
        }
    }

    /// What changes with the content of a file; `None` for a URL, and while there is no such file.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        let BlockListSource::File(path) = self else { return None };
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.mtime(), metadata.mtime_nsec(), metadata.len(), metadata.ino()))
    }
}

/// What changes with the content of a file: time, nanoseconds, size and inode.
pub(crate) type Fingerprint = (i64, i64, u64, u64);

/// Loads a list into a filter.
#[derive(Clone, Debug)]
pub(crate) struct BlockListLoader {
    /// Where the list comes from.
    pub source: BlockListSource,
    /// The file that keeps the last list of a URL.
    pub copy: Option<PathBuf>,
    /// The interface or address of connections.
    pub route: Route,
    /// What the list is loaded into.
    pub filter: Arc<AddressFilter>,
    /// Whether the filter is no longer to be changed, however long the source takes to answer.
    pub is_outdated: Arc<Flag>,
}

impl BlockListLoader {
    /// Loads the list.
    ///
    /// # Errors
    /// If it cannot be read or is none; the filter is then as before.
    pub fn load(&self) -> Result<(), BlockListError> {
        match &self.source {
            BlockListSource::File(path) => {
                self.set(read(File::open(path)?)?);
            }
            BlockListSource::Url(url) => {
                let bytes = fetch(url, &self.route)?;
                if self.set(read(Cursor::new(&bytes))?) {
                    self.keep(url, &bytes);
                }
            }
        }
        Ok(())
    }

    /// Loads the list, or the kept one if the URL fails. Returns whether the list is the current one.
    ///
    /// # Errors
    /// If neither can be loaded; the error is that of the list itself.
    pub fn load_or_use_copy(&self) -> Result<bool, BlockListError> {
        let Err(error) = self.load() else { return Ok(true) };
        let Some(list) = self.kept() else { return Err(error) };
        let (name, why) = (self.source.public_name(), block_list_reason(&error));
        log::warn!("block list {name}: {why}; the list of the last time is used");
        self.set(list);
        Ok(false)
    }

    /// Loads the kept list. Returns whether there is one.
    #[cfg(feature = "service")]
    pub fn use_copy(&self) -> bool {
        self.kept().is_some_and(|list| self.set(list))
    }

    /// Returns whether the list is in force now.
    fn set(&self, list: BlockList) -> bool {
        let BlockList { ranges, invalid, first_invalid } = list;
        let (name, count) = (self.source.public_name(), ranges.count());
        if !self.filter.set(ranges, &self.is_outdated) {
            return false;
        }
        log::info!("block list {name}: {count} ranges");
        if invalid > 0 {
            log::warn!("block list {name}: {invalid} lines are invalid and ignored; the first is line {first_invalid}");
        }
        true
    }

    /// Keeps a list that was fetched, with its URL.
    fn keep(&self, url: &str, bytes: &[u8]) {
        let Some(path) = &self.copy else { return };
        let content = [COPY_HEADER, url.as_bytes(), b"\n", bytes].concat();
        let folder = path.parent().map_or(Ok(()), private_folder);
        let kept = folder.and_then(|()| replace_private(path, &content, |old| old.starts_with(COPY_HEADER)));
        if let Err(error) = kept {
            log::warn!("{}: {}; the block list is not kept for the next start", path.display(), reason(&error));
        }
    }

    /// The list that was kept of this URL.
    fn kept(&self) -> Option<BlockList> {
        let (BlockListSource::Url(url), Some(path)) = (&self.source, &self.copy) else { return None };
        let mut content = Vec::new();
        let limit = MAX_FETCHED + 64 * 1024;
        open(path).ok()?.take(limit).read_to_end(&mut content).ok()?;
        let rest = content.strip_prefix(COPY_HEADER)?.strip_prefix(url.as_bytes())?.strip_prefix(b"\n")?;
        read(Cursor::new(rest)).ok()
    }
}

fn fetch(url: &str, route: &Route) -> Result<Vec<u8>, BlockListError> {
    let fetched = UrlFetcher::on_route(route, None).fetch(url, MAX_FETCHED, URL_DEADLINE);
    match fetched.map_err(|error| io::Error::other(error.to_string()))? {
        FetchedUrl::File(bytes) => Ok(bytes),
        FetchedUrl::Link { .. } => Err(io::Error::other("the URL leads to a magnet link").into()),
    }
}

/// The text of an error, without the system's number.
pub(crate) fn block_list_reason(error: &BlockListError) -> String {
    match error {
        BlockListError::Io(error) => reason(error),
        other => other.to_string(),
    }
}
