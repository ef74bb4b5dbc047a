//! What a program may set of a torrent that it adds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::{ClaimPosition, DhtSettings};
use crate::discovery::tracker::announce::{AnnouncedBefore, TorrentIdentity};
use crate::metainfo::{Magnet, PeerAddress, Selection};
use crate::net::host_names::{ResolveError, resolve};
use crate::net::networks::is_private;
use crate::net::route::Route;
use crate::peer::LimitGroup;
use crate::storage::Allocation;
use crate::strategy::rate_limiter::Limits;
use crate::torrent::config::{LinkHost, RepairScope, SearchConfig, SeedGoal, TorrentConfig};
use crate::torrent::piece_order::FilePriority;
use crate::types::{Dscp, Encryption};

/// Upper limit on the peers that a magnet link provides.
const MAX_LINK_PEERS: usize = 32;
/// The time limit for looking up the host names of a link's peers, all together.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// How a torrent behaves, from the folder of its files on. The defaults are those of `btsync file.torrent folder`: every file is
/// wanted, and the torrent ends when its download is complete.
///
/// ```
/// use btsync::{AddOptions, SeedGoal};
/// let options = AddOptions::new("downloads").sequential(true).seed(SeedGoal::forever());
/// ```
#[derive(Debug)]
#[must_use]
pub struct AddOptions {
    pub(crate) config: TorrentConfig,
    pub(crate) claim_position: Option<ClaimPosition>,
}

impl Clone for AddOptions {
    /// The same options without [`AddOptions::claim_position`], which only one torrent can have.
    fn clone(&self) -> AddOptions {
        AddOptions { config: self.config.clone(), claim_position: None }
    }
}

/// A method for each field that a program may set.
macro_rules! setters {
    ($($(#[$documentation:meta])* $name:ident: $kind:ty => $($field:ident).+;)*) => {
        impl AddOptions {
            $($(#[$documentation])*
            pub fn $name(mut self, $name: $kind) -> AddOptions {
                self.config.$($field).+ = $name;
                self
            })*
        }
    };
}

setters! {
    /// When to stop seeding after the download is complete; by default, at once.
    seed: SeedGoal => seed;
    /// The most connections of this torrent, within those of its client.
    max_peers: usize => client.max_peers;
    /// Rate limits of this torrent, in addition to those of its client.
    limits: Limits => rates.limits;
    /// Whether the client's rate limits do not apply to this torrent.
    ignore_client_limits: bool => rates.ignores_client_limits;
    /// Rate limits that this torrent shares with the others that have the same group.
    #[doc(hidden)]
    limit_group: Option<Arc<LimitGroup>> => rates.group;
    /// Peers to connect to without asking a tracker.
    peers: Vec<SocketAddr> => search.peers;
    /// Trackers in addition to those of the torrent, each in a tier of its own.
    trackers: Vec<String> => search.trackers;
    /// Trackers by tier, in place of those of the torrent and those of [`AddOptions::trackers`]: see
    /// [`TorrentHandle::set_trackers`](crate::torrent::TorrentHandle::set_trackers).
    tracker_tiers: Option<Vec<Vec<String>>> => search.tiers;
    /// Trackers of the torrent that must not be used; `*` stands for all.
    exclude_trackers: Vec<String> => search.exclude_trackers;
    /// The user's web seeds (BEP 19), in addition to those of the torrent. They may have local addresses.
    web_seeds: Vec<String> => search.web_seeds;
    /// Whether the web seeds that the torrent or its magnet link names are used, as they are by default. Those of
    /// [`AddOptions::web_seeds`] are used in any case.
    torrent_web_seeds: bool => search.uses_torrent_web_seeds;
    /// Whether the client's local discovery searches for peers of this torrent (BEP 14).
    lsd: bool => client.uses_lsd;
    /// Whether peer exchange is on (BEP 11).
    pex: bool => search.uses_pex;
    /// Whether connections use message stream encryption.
    encryption: Encryption => connections.encryption;
    /// The start of peer ids, instead of btsync's own, for trackers that allow only certain clients.
    peer_id_prefix: Option<[u8; 8]> => connections.peer_id_prefix;
    /// How the torrent identifies itself to trackers and peers, instead of by random values.
    #[doc(hidden)]
    identity: Option<TorrentIdentity> => connections.identity;
    /// What trackers know of that identity already, so that they see one peer over several runs.
    #[doc(hidden)]
    announced: AnnouncedBefore => connections.announced;
    /// The client name in HTTP requests and for peers (BEP 10), instead of btsync's own.
    user_agent: Option<String> => connections.user_agent;
    /// The DSCP class of packets to peers.
    dscp: Dscp => connections.dscp;
    /// Whether to super-seed (BEP 16): reveal pieces to leechers one by one, if all are complete at the start.
    super_seed: bool => super_seeds;
    /// Where to save the torrent file of a magnet link: a file, or a folder in which the info-hash is its name.
    save_torrent: Option<PathBuf> => save_torrent;
    /// How long without received data until a download gives up and ends with [`Outcome::TimedOut`](crate::torrent::Outcome::TimedOut).
    stop_timeout: Option<Duration> => stop_timeout;
    /// The folder of the resume data; pieces that it covers are not hashed again at the start. `None` turns it off.
    resume_folder: Option<PathBuf> => records.resume_folder;
    /// The folder in which downloads are recorded until their completion has been reported to the user, if that must happen at
    /// least once for each, also after a crash: see
    /// [`TorrentHandle::is_completion_unreported`](crate::torrent::TorrentHandle::is_completion_unreported).
    unreported_folder: Option<PathBuf> => records.unreported_folder;
    /// The folder that records which torrent files and magnet files downloads created, if the file system cannot mark them: see
    /// [`Client::is_downloaded_file`](crate::client::Client::is_downloaded_file).
    downloaded_torrents_folder: Option<PathBuf> => records.downloaded_torrents_folder;
    /// Folders of the program's own files, and single files, to which the torrent must not write.
    private_folders: Vec<PathBuf> => records.private_folders;
    /// Whether to hash all existing files, whatever the resume data says.
    verify: bool => files.verifies_all;
    /// Whether to end after the check of the files, and to create none.
    #[doc(hidden)]
    ends_after_check: bool => files.ends_after_check;
    /// Whether to fail if none of the files exists.
    #[doc(hidden)]
    expects_files: bool => files.expects_files;
    /// To which existing files missing pieces may be written.
    #[doc(hidden)]
    repair_scope: RepairScope => files.repair_scope;
    /// The most open files.
    max_open_files: usize => files.max_open_files;
    /// Which of the torrent's files are wanted.
    files: Selection => files.selection;
    /// Other paths for files: the file's index from 0, counting padding, and a plain path below the folder.
    renamed_files: Vec<(u32, PathBuf)> => files.renamed_files;
    /// Whether to request pieces in the order of the torrent, as a media player needs them.
    sequential: bool => files.is_sequential;
    #[doc(hidden)]
    /// Which files to download before others: the file's index from 0, counting padding. All others have the normal priority.
    priorities: Vec<(u32, FilePriority)> => files.priorities;
    /// Whether to request the first and the last piece of each wanted file before all others.
    first_and_last: bool => files.prefers_first_and_last;
    /// When to allocate disk space for the files.
    allocation: Allocation => files.allocation;
    /// Whether a torrent's name may start with a dot.
    allow_hidden: bool => files.allows_hidden;
    /// Whether `_` replaces each colon in the names of the torrent and its files.
    replace_colons: bool => files.replaces_colons;
    /// Whether files that are in the way, and that btsync did not create, may be overwritten.
    overwrite: bool => files.may_overwrite;
    /// When overwriting was permitted, in nanoseconds since 1970: the permission is void if a file in the way was changed later.
    #[doc(hidden)]
    overwrite_permitted_at: Option<i64> => files.overwrite_permitted_at;
    /// Whether to sync all data to disk before a download counts as complete.
    fsync: bool => files.syncs_data;
    /// The suffix of file names until everything wanted is complete.
    incomplete_suffix: Option<String> => files.incomplete_suffix;
    /// Whether to end as soon as the metadata of a magnet link is complete; see
    /// [`TorrentHandle::metainfo`](crate::torrent::TorrentHandle::metainfo).
    metadata_only: bool => wants_metadata_only;
}

impl AddOptions {
    /// The defaults, with files below `folder`. btsync creates it if it does not exist.
    pub fn new(folder: impl Into<PathBuf>) -> AddOptions {
        AddOptions { config: TorrentConfig::new(folder), claim_position: None }
    }

    /// The folder that receives the files, in place of the one of [`AddOptions::new`].
    pub fn folder(mut self, folder: PathBuf) -> AddOptions {
        self.config.out_dir = folder;
        self
    }

    /// Whether the client's DHT searches for peers of this torrent. It never does for a private torrent (BEP 27).
    pub fn dht(mut self, is_on: bool) -> AddOptions {
        self.config.client.dht = is_on.then(DhtSettings::default);
        self
    }

    /// The torrent's position in the order in which torrents may claim their files: see
    /// [`Client::claim_position`](crate::client::Client::claim_position).
    pub fn claim_position(mut self, position: ClaimPosition) -> AddOptions {
        self.claim_position = Some(position);
        self
    }

    /// Uses what a magnet link says beside the torrent: its file selection, and its peers, whose host names the client looks up. Only
    /// 32 peers are used, as anyone may have written the link. `is_public` says that a public host provided the link, which then
    /// adds no peers in private networks.
    pub fn link(mut self, magnet: &Magnet, is_public: bool) -> AddOptions {
        let peers = &mut self.config.search.link_peers;
        self.config.files.selection.magnet_indexes.clone_from(&magnet.select);
        for peer in magnet.peers.iter().take(MAX_LINK_PEERS) {
            match peer {
                PeerAddress::Addr(addr) => peers.extend(Some(addr).filter(|addr| !is_public || !is_private(addr.ip()))),
                PeerAddress::Host(host, port) => {
                    self.config.search.link_hosts.push(LinkHost { host: host.clone(), port: *port, is_public });
                }
            }
        }
        self.config.search.link_hosts.truncate(MAX_LINK_PEERS);
        peers.truncate(MAX_LINK_PEERS);
        self
    }
}

impl SearchConfig {
    /// Looks up the host names of a link's peers, unless that would go around a proxy.
    pub(crate) fn resolve_link_hosts(&mut self, route: &Route) {
        let end = Instant::now() + LOOK_UP_TIMEOUT;
        for LinkHost { host, port, is_public } in std::mem::take(&mut self.link_hosts) {
            if route.direct_bind().is_none() {
                log::warn!("btsync does not look up the peer {host}:{port}: names would go around the proxy");
                continue;
            }
            let left = end.saturating_duration_since(Instant::now());
            let found = if left.is_zero() { Err(ResolveError::TimedOut) } else { resolve(&host, port, Some(left)) };
            match found {
                Ok(found) => {
                    self.link_peers.extend(found.into_iter().filter(|addr| !is_public || !is_private(addr.ip())));
                }
                Err(error) => log::warn!("cannot resolve the peer {host}:{port}: {error}"),
            }
        }
        self.link_peers.truncate(MAX_LINK_PEERS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anyone may have written a link.
    #[test]
    fn a_link_names_a_bounded_number_of_peers_and_a_public_one_no_private_addresses() {
        let peers: Vec<String> = (1..100).map(|host| format!("&x.pe=203.0.113.{host}:6881")).collect();
        let peers = peers.concat();
        let local = "&x.pe=127.0.0.1:22&x.pe=10.0.0.1:25&x.pe=localhost:80&x.pe=203.0.113.200:6881";
        let link = format!("magnet:?xt=urn:btih:{}{local}{peers}", "a".repeat(40));
        let magnet = Magnet::parse(&link).expect("a link");
        let named = |is_public| {
            let mut config = AddOptions::new("out").link(&magnet, is_public).config;
            let mut proxied = config.search.clone();
            proxied.resolve_link_hosts(&Route::default().through("socks5://127.0.0.1:1".parse().ok()));
            assert!(
                proxied.link_hosts.is_empty() && proxied.link_peers == config.search.link_peers,
                "no name is looked up"
            );
            config.search.resolve_link_hosts(&Route::default());
            assert!(config.search.peers.is_empty(), "they are not the user's own");
            config.search.link_peers
        };
        assert!(named(false).len() == MAX_LINK_PEERS && named(false).iter().any(|addr| addr.ip().is_loopback()));
        assert!(named(true).len() > 20 && named(true).iter().all(|addr| !is_private(addr.ip())));
    }
}
