//! Loads torrent files that may take long: from an http(s) URL with the HTTP client for trackers and its safeguards, or
//! from a pipe. Both can be stopped.

use std::path::Path;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};

use crate::cli::exit::{Exit, Failure};
use crate::cli::options::STDIN;
use crate::cli::report::tracker_error;
use crate::cli::settings::Settings;
use crate::cli::source::{LoadedSource, torrent_failure};
use crate::cli::stop::NoMessages;
use crate::util::descriptors::{is_exhausted, retry_while, warn_shortage_once};
use crate::util::printable_text::printable;
use crate::util::redact::public_name;
use btsync::Source;
use btsync::tracker::{FetchedUrl, TrackerError, UrlFetcher};
use btsync::{Magnet, MagnetError, Metainfo};

/// The time limit for the whole fetch: name look-up, redirects and body.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a URL led to.
enum FetchedSource {
    /// A torrent, with the bytes of its file, unpacked.
    Metainfo(Box<Metainfo>, Vec<u8>),
    /// A magnet link to which the URL redirected. `is_public`: the redirecting host is public.
    Link { magnet: Box<Magnet>, is_public: bool },
}

/// Fetches the torrent at `url` and saves it if `--save-torrent` asks for it; a redirect to a magnet link yields that link.
/// Fails early when `stop` is disconnected.
///
/// # Errors
/// The exit code and the message if the URL cannot be fetched or is not a torrent.
pub(crate) fn fetch(url: &Path, settings: &mut Settings, stop: &Receiver<NoMessages>) -> Result<LoadedSource, Failure> {
    let url = url.to_string_lossy().into_owned();
    let shown = public_name(&url);
    let fetcher = settings.client.url_fetcher(settings.user_agent.as_deref());
    match unless_stopped(&shown, stop, move || get(&url, &fetcher))? {
        FetchedSource::Metainfo(torrent, bytes) => {
            let save_event = settings.save_torrent.as_ref().map(|place| torrent.save(place, &bytes, &settings.options));
            Ok(LoadedSource { source: Source::Metainfo(torrent), save_event })
        }
        FetchedSource::Link { magnet, is_public } => {
            settings.add_link(&magnet, is_public);
            Ok(Source::Magnet(magnet).into())
        }
    }
}

/// Reads a torrent from standard input, however slowly it arrives. Fails early when `stop` is disconnected.
///
/// # Errors
/// The exit code and the message if the input is not a valid torrent.
pub(crate) fn from_stdin(stop: &Receiver<NoMessages>) -> Result<Metainfo, Failure> {
    let path = Path::new(STDIN);
    unless_stopped(STDIN, stop, || Metainfo::read(path).map_err(|error| torrent_failure(path, error)))
}

/// Runs `get` on a thread. Blocking I/O cannot be interrupted, so a stop leaves the thread behind.
fn unless_stopped<T: Send + 'static>(
    shown: &str,
    stop: &Receiver<NoMessages>,
    get: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (result_sender, results) = bounded(1);
    let thread = thread::Builder::new().name("fetch".to_owned()).spawn(move || drop(result_sender.send(get())));
    let thread = thread.map_err(|e| Failure::new(Exit::Other, format!("{shown}: cannot start a thread: {e}")))?;
    select! {
        recv(results) -> fetched => {
            let _ = thread.join();
            fetched.unwrap_or_else(|_| Err(Failure::new(Exit::Other, format!("{shown}: internal error while loading the torrent"))))
        }
        recv(stop) -> _ => Err(Failure::new(Exit::Unfinished, format!("{shown}: stopped before the torrent file arrived"))),
    }
}

fn get(url: &str, urls: &UrlFetcher) -> Result<FetchedSource, Failure> {
    let shown = public_name(url);
    let fetch = || urls.fetch(url, Metainfo::MAX_FILE_SIZE as u64, DEADLINE);
    let is_short = |fetched: &Result<_, TrackerError>| match fetched {
        Ok(_) => false,
        Err(TrackerError::Shortage) => true,
        // Another error may be caused by a lack of descriptors too: for instance, a name look-up then fails.
        Err(_) => is_exhausted(),
    };
    let wait = || {
        warn_shortage_once();
        true
    };
    let outcome = retry_while(fetch, is_short, wait);
    let bytes = match outcome.map_err(|error| failure(url, &error))? {
        FetchedUrl::File(bytes) => bytes,
        FetchedUrl::Link { link, is_public } => {
            let bad = |error: MagnetError| Failure::new(Exit::BadMagnet, printable(&format!("{shown}: {error}")));
            let magnet = Box::new(Magnet::parse(&link).map_err(bad)?);
            return Ok(FetchedSource::Link { magnet, is_public });
        }
        _ => return Err(Failure::new(Exit::BadTorrent, format!("{shown}: neither a torrent file nor a magnet link"))),
    };
    // Some servers send gzip without declaring it.
    let broken = |error| Failure::new(Exit::BadTorrent, printable(&format!("{shown}: cannot be unpacked: {error}")));
    let bytes = Metainfo::unpack(bytes).map_err(broken)?;
    match Metainfo::parse(&bytes) {
        Ok(torrent) => Ok(FetchedSource::Metainfo(Box::new(torrent), bytes)),
        Err(error) => Err(torrent_failure(Path::new(&shown), error)),
    }
}

fn failure(url: &str, error: &TrackerError) -> Failure {
    let (code, why) = match error {
        TrackerError::NameLookup { .. } => (Exit::NameLookup, error.to_string()),
        TrackerError::TooLarge => {
            (Exit::BadTorrent, format!("too large for a torrent file: more than {} MiB", Metainfo::MAX_FILE_SIZE >> 20))
        }
        TrackerError::Url => (Exit::BadOption, error.to_string()),
        _ => (Exit::Network, tracker_error(error)),
    };
    Failure::new(code, printable(&format!("{}: {why}", public_name(url))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::options::DownloadArgs;

    #[test]
    fn a_stop_while_a_server_is_silent_tells_no_secret() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("http://{}", silent.local_addr().unwrap());
        let (_, stop) = bounded::<NoMessages>(0);
        let url = format!("{host}/0123456789abcdef/x.torrent");
        let failure = fetch(Path::new(&url), &mut Settings::new(&DownloadArgs::default()).unwrap(), &stop)
            .map(|_| ())
            .unwrap_err();
        let told = format!("{host}: stopped before the torrent file arrived");
        assert_eq!((failure.code, failure.message.as_str()), (Exit::Unfinished, told.as_str()));
    }

    #[test]
    fn failures_have_their_codes_and_hold_no_secret() {
        let url = "http://me:pw@h/0123456789abcdef/x.torrent?passkey=1";
        let of = |error| failure(url, &error);
        assert_eq!(of(TrackerError::Timeout).code, Exit::Network);
        assert_eq!(of(TrackerError::NameLookup { host: "h".into() }).code, Exit::NameLookup);
        assert_eq!(of(TrackerError::TooLarge).code, Exit::BadTorrent);
        let line = of(TrackerError::Http(404));
        assert_eq!((line.code, line.message.as_str()), (Exit::Network, "http://h: HTTP status 404"));
    }
}
