//! The .torrent that a magnet link names by URL (`xs`, `as`), asked for beside the peers: whichever brings the info dictionary first
//! wins. A link comes from a stranger, so that its URLs lead to public addresses only, and only the info dictionary counts of what
//! they bring, as nothing else is covered by the info-hash.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Config;
use crate::metainfo::torrent::FILE_MAX;
use crate::metainfo::{Magnet, Torrent};
use crate::peer::{Report, Shared};
use crate::sources::http::HttpTracker;
use crate::sources::redact::public_name;

/// URLs that are asked at most, one after the other.
const MOST: usize = 4;
/// For each of them, redirects and body included.
const DEADLINE: Duration = Duration::from_secs(30);

/// Begins to ask the URLs of a link, where it has any. Blocking I/O cannot be interrupted: when the session ends, the thread ends by its
/// deadline.
pub(super) fn ask(magnet: &Magnet, config: &Config, shared: &Arc<Shared>) {
    if magnet.sources.is_empty() {
        return;
    }
    let (urls, shared) = (magnet.sources.clone(), shared.clone());
    let http = HttpTracker::tied(&config.bind, config.user_agent.as_deref());
    let work = move || {
        for url in urls.iter().take(MOST).take_while(|_| !shared.is_stopping()) {
            match info(&http, url, &shared) {
                Ok(info) => return shared.report(Report::Info(info)),
                Err(why) => log::info!("{}: no metadata from there: {why}", public_name(url)),
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("link source".to_owned()).spawn(work) {
        log::warn!("no thread to ask the URLs of the link: {error}");
    }
}

/// The info dictionary of the .torrent at a URL, if it is the right one.
fn info(http: &HttpTracker, url: &str, shared: &Shared) -> Result<Vec<u8>, String> {
    let bytes = http.strangers_file(url, FILE_MAX as u64, DEADLINE);
    let bytes = bytes.map_err(|error| error.without_secrets_of(url).to_string())?;
    let torrent = Torrent::parse(&bytes).map_err(|error| error.to_string())?;
    if torrent.info_hash == shared.info_hash { Ok(torrent.info) } else { Err("it is another torrent".to_owned()) }
}
