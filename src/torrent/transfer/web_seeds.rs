//! The web seeds of a torrent: which ones are used, and how they end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::discovery::tracker::http::host_limit::{HostLimit, has_web_port};
use crate::metainfo::Metainfo;
use crate::peer::{TorrentContext, WebSeed, WebSeedSettings};
use crate::strategy::web_seed::{WebSeedFiles, WebSeedKind, WebSeedUrl};
use crate::torrent::config::SearchConfig;
use crate::torrent::peer_manager::PeerManager;
use crate::types::{PeerKey, PieceIndex};
use crate::util::os_error::reason;
use crate::util::redact::public_name;

/// The most web seeds of a torrent that are used.
const MAX_WEB_SEEDS: usize = 16;
/// The most of the torrent's own that are used of one host: each one that lacks files would be asked for many.
const MAX_OF_HOST: usize = 2;
/// How long to wait at the end for threads that may be connecting; they are left behind then.
const JOIN_TIMEOUT: Duration = Duration::from_millis(100);

/// The web seeds that main has started.
#[derive(Default)]
pub(super) struct WebSeeds {
    running: Vec<WebSeed>,
    /// Those that were told to end, with the keys under which their blocks are still known.
    stopped: Vec<WebSeed>,
}

impl WebSeeds {
    /// Starts all that a torrent and the user name.
    pub fn start(context: &Arc<TorrentContext>, metainfo: &Metainfo, peers: &PeerManager) -> WebSeeds {
        let (config, block_list) = (&peers.config, peers.registration.address_filter());
        let urls = choose(&config.search, metainfo);
        if urls.is_empty() {
            return WebSeeds::default();
        }
        let files = Arc::new(WebSeedFiles::new(metainfo));
        let user_agent = &config.connections.user_agent;
        let start = |url| {
            let (files, user_agent) = (files.clone(), user_agent.clone());
            let settings = WebSeedSettings { url, files, user_agent, block_list: block_list.clone() };
            WebSeed::start(context, settings)
                .inspect_err(|error| log::warn!("cannot start a thread for a web seed: {}", reason(error)))
                .ok()
        };
        WebSeeds { running: urls.into_iter().filter_map(start).collect(), stopped: Vec::new() }
    }

    /// Whether blocks with this key come or came from a web seed.
    pub fn has(&self, key: PeerKey) -> bool {
        self.running.iter().chain(&self.stopped).any(|seed| seed.key == key)
    }

    /// A piece failed its hash because of a web seed's data.
    pub fn piece_failed(&self, context: &TorrentContext, key: PeerKey, piece: PieceIndex) {
        if let Some(seed) = self.running.iter().find(|seed| seed.key == key) {
            seed.piece_failed(context, piece);
        }
    }

    /// Stops a web seed. Returns its URL for display.
    pub fn stop_one(&mut self, context: &TorrentContext, key: PeerKey) -> Option<String> {
        let at = self.running.iter().position(|seed| seed.key == key)?;
        let seed = self.running.remove(at);
        seed.stop(context);
        let name = public_name(seed.url.as_str());
        self.stopped.push(seed);
        Some(name)
    }

    /// Stops all web seeds.
    pub fn stop(&mut self, context: &TorrentContext) {
        self.stopped.extend(self.running.drain(..).inspect(|seed| seed.stop(context)));
    }

    /// Joins the threads that end soon.
    pub fn join(self) {
        let deadline = Instant::now() + JOIN_TIMEOUT;
        self.stopped.into_iter().for_each(|seed| seed.join_until(deadline));
    }
}

/// The web seeds to use: the user's first, each URL once. Of those of the torrent, only a few of each host, and none at the ports of
/// other services.
fn choose(search: &SearchConfig, metainfo: &Metainfo) -> Vec<WebSeedUrl> {
    let used = if search.uses_torrent_web_seeds { usize::MAX } else { 0 };
    let users = search.web_seeds.iter().map(|url| (url, WebSeedKind::Mirror, true));
    let mirrors = metainfo.web_seeds.iter().take(used).map(|url| (url, WebSeedKind::Mirror, false));
    let scripts = metainfo.http_seeds.iter().take(used).map(|url| (url, WebSeedKind::Script, false));
    let mut seen = HashSet::new();
    let is_new = |url: &WebSeedUrl| seen.insert((url.as_str().to_owned(), url.kind));
    let usable = users.chain(mirrors).chain(scripts).filter_map(|(url, kind, is_from_user)| {
        let usable = WebSeedUrl::new(url, kind, is_from_user);
        if usable.is_none() {
            log::info!("{}: btsync uses only web seeds with http and https", public_name(url));
        }
        usable
    });
    let mut of_torrent = HostLimit::new(MAX_OF_HOST, MAX_OF_HOST);
    let mut is_allowed = |url: &WebSeedUrl| {
        let is_allowed = url.is_from_user || has_web_port(url.as_str()) && of_torrent.admit(url.as_str());
        if !is_allowed {
            log::info!("{}: btsync does not use this web seed of the torrent", public_name(url.as_str()));
        }
        is_allowed
    };
    usable.filter(is_new).filter(|url| is_allowed(url)).take(MAX_WEB_SEEDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(web_seeds: Vec<String>) -> SearchConfig {
        SearchConfig { web_seeds, ..SearchConfig::default() }
    }

    #[test]
    fn the_users_web_seeds_come_first_and_each_url_once() {
        let torrent = b"d9:httpseedsl8:http://be4:infod6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae\
                        8:url-listl8:http://a8:http://b7:ftp://c1:/ee";
        let metainfo = Metainfo::from_bytes(torrent).expect("a torrent");
        let mut users = search(vec!["http://b".to_owned()]);
        let chosen = choose(&users, &metainfo);
        let facts: Vec<_> = chosen.iter().map(|url| (url.as_str(), url.kind, url.is_from_user)).collect();
        let expected = [
            ("http://b", WebSeedKind::Mirror, true),
            ("http://a", WebSeedKind::Mirror, false),
            ("http://b", WebSeedKind::Script, false),
        ];
        assert_eq!(facts, expected);
        let many: Vec<String> = (0..100).map(|n| format!("http://h/{n}")).collect();
        assert_eq!(choose(&search(many), &metainfo).len(), MAX_WEB_SEEDS);
        users.uses_torrent_web_seeds = false;
        let chosen = choose(&users, &metainfo);
        assert!(chosen.len() == 1 && chosen.iter().all(|url| url.is_from_user), "only the user's own");
    }

    #[test]
    fn a_torrent_names_few_web_seeds_of_a_host_and_none_at_ports_of_other_services() {
        let torrent = b"d4:infod6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
        let mut metainfo = Metainfo::from_bytes(torrent).expect("a torrent");
        let named =
            ["http://a:25/", "http://a/1", "http://a:8080/", "http://A/2", "https://b/1", "https://b/2", "https://c/"];
        metainfo.web_seeds = named.map(str::to_owned).into();
        metainfo.http_seeds = vec!["http://a/script".to_owned()];
        let chosen = choose(&search(vec!["http://a:22/".to_owned(), "http://a/2".to_owned()]), &metainfo);
        let urls: Vec<&str> = chosen.iter().map(WebSeedUrl::as_str).collect();
        let of_torrent = ["http://a/1", "http://a:8080/", "https://b/1", "https://b/2", "https://c/"];
        assert_eq!(urls, [&["http://a:22/", "http://a/2"][..], &of_torrent].concat());
    }
}
