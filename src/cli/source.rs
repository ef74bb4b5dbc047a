//! Loads the torrent that an argument names: a file, a URL ([`fetch`]), standard input or a magnet link.

mod fetch;

use std::path::Path;

use crossbeam_channel::{Receiver, TryRecvError};

use crate::cli::exit::{Exit, Failure};
use crate::cli::options::names::NameKind;
use crate::cli::settings::Settings;
use crate::cli::stop::NoMessages;
use crate::util::descriptors::{is_shortage, retry_while};
use crate::util::printable_text::printable;
use btsync::{Event, Magnet, Metainfo, MetainfoError, Source};

/// A source, and the event about the saved torrent file.
pub(crate) struct LoadedSource {
    pub source: Source,
    pub save_event: Option<Event>,
}

impl From<Source> for LoadedSource {
    fn from(source: Source) -> LoadedSource {
        LoadedSource { source, save_event: None }
    }
}

/// Loads the source that an argument names: a torrent file, a URL, standard input or a magnet link. Adds the peers of a
/// magnet link to `settings`.
pub(crate) fn load_source(
    file: &Path,
    settings: &mut Settings,
    stop: &Receiver<NoMessages>,
) -> Result<LoadedSource, Failure> {
    match NameKind::of(file) {
        NameKind::Url => fetch::fetch(file, settings, stop),
        NameKind::Stdin => Ok(Source::from(fetch::from_stdin(stop)?).into()),
        NameKind::Magnet => Ok(from_link(parse_link(&file.to_string_lossy())?, settings)),
        NameKind::Path => {
            let torrent = read_with_retry(file, || stop.try_recv() != Err(TryRecvError::Disconnected));
            Ok(Source::from(torrent.map_err(|error| torrent_failure(file, error))?).into())
        }
    }
}

/// Parses a magnet link that the user named.
pub(crate) fn parse_link(link: &str) -> Result<Magnet, Failure> {
    Magnet::parse(link).map_err(|error| Failure::new(Exit::BadMagnet, printable(&error.to_string())))
}

/// The source for a magnet link that the user named. Adds the link's peers and file selection to `settings`.
pub(crate) fn from_link(magnet: Magnet, settings: &mut Settings) -> LoadedSource {
    settings.add_link(&magnet, false);
    Source::from(magnet).into()
}

/// Reads a torrent file. If no descriptor is free, waits for one as long as `should_wait` returns true.
pub(crate) fn read_with_retry(file: &Path, should_wait: impl FnMut() -> bool) -> Result<Metainfo, MetainfoError> {
    let short = |read: &Result<Metainfo, MetainfoError>| matches!(read, Err(MetainfoError::Io { source, .. }) if is_shortage(source));
    retry_while(|| Metainfo::read(file), short, should_wait)
}

/// Reads a torrent file; a failure has the exit code for the error.
pub(crate) fn read_torrent(file: &Path) -> Result<Metainfo, Failure> {
    Metainfo::read(file).map_err(|error| torrent_failure(file, error))
}

/// The exit code and the message for a torrent file that was rejected.
pub(crate) fn torrent_failure(path: &Path, error: MetainfoError) -> Failure {
    let code = match &error {
        MetainfoError::Io { .. } | MetainfoError::Folder => Exit::OpenExisting,
        error if error.is_not_bencode() => Exit::Bencode,
        _ => Exit::BadTorrent,
    };
    let path = path.display();
    let message = match error {
        MetainfoError::Io { source, .. } => format!("{path}: cannot be read: {source}"),
        error => format!("{path}: {error}"),
    };
    Failure::new(code, printable(&message))
}
