//! Fetches the torrent file that a magnet link names by URL (`xs`, `as`), in parallel to the peers: the first source of the
//! info dictionary wins. A link may come from a stranger, so its URLs may lead to public addresses only, and only the info
//! dictionary of the file is used, as the info-hash covers nothing else.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crate::discovery::tracker::http::UrlFetcher;
use crate::metainfo::torrent::TORRENT_FILE_MAX;
use crate::metainfo::{Magnet, Metainfo};
use crate::peer::{TorrentCommand, TorrentContext};
use crate::torrent::TorrentConfig;
use crate::types::InfoHash;
use crate::util::redact::public_name;

/// At most this many URLs are tried, one after the other.
const MAX_URLS: usize = 4;
/// Time limit for each of them, including redirects and body.
const DEADLINE: Duration = Duration::from_secs(30);

/// Starts to fetch the URLs of a link, if it has any. Blocking I/O cannot be interrupted: if a server is silent when the
/// metadata is complete or the torrent stops, the thread is left behind. It then holds nothing but its socket, and contacts no
/// other server.
pub(crate) fn fetch_in_background(magnet: &Magnet, config: &TorrentConfig, context: &Arc<TorrentContext>) {
    if magnet.sources.is_empty() {
        return;
    }
    let (urls, weak_context) = (magnet.sources.clone(), Arc::downgrade(context));
    let fetcher = UrlFetcher::on_route(&config.client.route, config.connections.user_agent.as_deref());
    let fetch = move |url: &str| {
        let bytes = fetcher.fetch_untrusted(url, TORRENT_FILE_MAX as u64, DEADLINE);
        bytes.map_err(|error| error.to_string())
    };
    let work = move || ask_all(&urls, &weak_context, fetch);
    if let Err(error) = thread::Builder::new().name("link source".to_owned()).spawn(work) {
        log::warn!("cannot start a thread to request the URLs of the link: {error}");
    }
}

/// Tries one URL after the other, until one provides the info dictionary or it is no longer needed.
fn ask_all(urls: &[String], weak_context: &Weak<TorrentContext>, fetch: impl Fn(&str) -> Result<Vec<u8>, String>) {
    let waiting = || weak_context.upgrade().filter(|context| !context.are_connections_ending());
    for url in urls.iter().take(MAX_URLS) {
        let Some(info_hash) = waiting().map(|context| context.settings.info_hash) else { return };
        match fetch(url).and_then(|bytes| info(&bytes, info_hash)) {
            Ok(info) => {
                if let Some(context) = waiting() {
                    context.send_to_main(TorrentCommand::UseMetadata(info));
                }
                return;
            }
            Err(why) => log::info!("{}: no metadata from this URL: {why}", public_name(url)),
        }
    }
}

/// The info dictionary of a torrent file, if it is the right one.
fn info(bytes: &[u8], info_hash: InfoHash) -> Result<Vec<u8>, String> {
    let torrent = Metainfo::parse(bytes).map_err(|error| error.to_string())?;
    if torrent.info_hash == info_hash { Ok(torrent.info) } else { Err("it is another torrent".to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use crossbeam_channel::{Receiver, bounded};

    use super::*;
    use crate::peer::ContextSettings;
    use crate::peer::TorrentMessage;
    use crate::pieces::PieceManager;
    use crate::storage::{Layout, Storage};
    use crate::types::Bitfield;

    const TORRENT: &[u8] = b"d4:infod6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";

    fn fetch_context(info_hash: InfoHash) -> (Arc<TorrentContext>, Receiver<TorrentMessage>) {
        let storage = Storage::new("out".into(), Layout::new(1, Vec::new()).expect("a layout"), 1);
        let (messages, heard) = bounded(4);
        let terms = ContextSettings { info_hash, is_fetching_metadata: true, ..ContextSettings::unconnected() };
        (
            TorrentContext::new(terms, PieceManager::new(Arc::new(storage), Vec::new(), Bitfield::new(0)), messages),
            heard,
        )
    }

    #[test]
    fn the_right_torrent_ends_the_search_and_nothing_does_so_late() {
        let info_hash = Metainfo::parse(TORRENT).expect("a torrent").info_hash;
        let urls = ["a", "b", "c"].map(str::to_owned);
        let asked = Cell::new(0);
        let (context, heard) = fetch_context(info_hash);
        ask_all(&urls, &Arc::downgrade(&context), |url| {
            asked.set(asked.get() + 1);
            if url == "a" { Err("not there".to_owned()) } else { Ok(TORRENT.to_vec()) }
        });
        assert!(
            asked.get() == 2 && matches!(heard.try_recv(), Ok(TorrentMessage::Command(TorrentCommand::UseMetadata(_))))
        );
        // The metadata has arrived from elsewhere meanwhile.
        ask_all(&urls, &Arc::downgrade(&context), |_| {
            asked.set(asked.get() + 1);
            context.detach_connections();
            Ok(TORRENT.to_vec())
        });
        assert!(asked.get() == 3 && heard.try_recv().is_err());
        ask_all(&urls, &Arc::downgrade(&context), |_| unreachable!("nobody waits for it"));
    }

    /// A server may be silent for long.
    #[test]
    fn nothing_of_the_torrent_is_kept_while_a_server_is_silent() {
        let (context, _heard) = fetch_context(InfoHash([7; 20]));
        let (weak_context, context) = (Arc::downgrade(&context), Cell::new(Some(context)));
        let asked = Cell::new(0);
        ask_all(&["a".to_owned(), "b".to_owned()], &weak_context, |_| {
            asked.set(asked.get() + 1);
            drop(context.take());
            assert!(weak_context.upgrade().is_none(), "the metadata phase is over");
            Err("silent".to_owned())
        });
        assert_eq!(asked.get(), 1);
    }
}
