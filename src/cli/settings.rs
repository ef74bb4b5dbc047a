//! The settings of a download, from the command's options.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::exit::{Exit, Failure};
use crate::cli::options::{DownloadArgs, bad_option, values};
use crate::util::descriptors::{DescriptorBudget, MIN_DESCRIPTORS, available};
use crate::util::os_error::reason;
use crate::util::state_mark::{BROUGHT, BTSYNC, PENDING, RESUME};
use btsync::{AddOptions, Client, ClientBuilder, DhtSettings, Limits, Magnet, PortMapping, SeedGoal, Selection};

/// How long a download runs before the router is asked to forward the port.
const MAPPING_DELAY: Duration = Duration::from_secs(60);

/// The options for the client and its torrents, and those that the command itself needs.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Options of the client.
    pub client: ClientBuilder,
    /// Options of each torrent.
    pub options: AddOptions,
    /// The download folder.
    pub out_dir: PathBuf,
    pub limits: Limits,
    pub selection: Selection,
    pub user_agent: Option<String>,
    pub save_torrent: Option<PathBuf>,
    /// The folder that records downloads whose hook command has not run yet, if any.
    pub unreported_folder: Option<PathBuf>,
    /// The folder that records the torrent and magnet files that downloads have created, if any.
    pub downloaded_torrents_folder: Option<PathBuf>,
    /// Whether `--out` gives files other paths.
    pub has_renamed_files: bool,
    /// Whether the DHT, local discovery or port mapping is on.
    uses_discovery: bool,
}

impl Settings {
    /// The settings for the given options.
    ///
    /// # Errors
    /// A peer's host name cannot be resolved.
    pub fn new(args: &DownloadArgs) -> Result<Settings, Failure> {
        let cache = cache_folder().map(|folder| folder.join(BTSYNC));
        let in_cache = |name: &str| cache.as_ref().map(|folder| folder.join(name));
        let limits =
            Limits { down: args.max_download_limit.unwrap_or_default(), up: args.max_upload_limit.unwrap_or_default() };
        let selection = Selection { select: args.select.clone(), exclude: args.exclude.clone(), magnet_indexes: None };
        let bind = args.interface.clone().unwrap_or_default();
        let unreported_folder = in_cache(PENDING).filter(|_| args.on_download_complete.is_some());
        let options = add_options(args, &selection, unreported_folder.as_deref(), in_cache)?;
        let mut dht = DhtSettings::default();
        dht.entry_points.clone_from(&args.dht_entry_point);
        dht.state_file = in_cache("dht");
        let client = Client::builder().bind(bind).limits(limits).dht((!args.no_dht).then_some(dht)).lsd(!args.no_lsd);
        let client = client
            .port_mapping(port_mapping(args))
            .transports(args.transport.unwrap_or_default())
            .block_list(args.block_list.as_deref())
            .block_list_copy(in_cache("block-list"));
        let client = client.proxy(args.proxy.as_deref()).map_err(|error| bad_option(error.to_string()))?;
        let client = client.anonymous(args.anonymous);
        check_anonymity(args)?;
        let settings = Settings {
            client,
            options,
            out_dir: args.out_dir(),
            limits,
            selection,
            user_agent: args.user_agent.clone(),
            save_torrent: args.save_torrent.clone(),
            unreported_folder,
            downloaded_torrents_folder: in_cache(BROUGHT),
            has_renamed_files: !args.out.is_empty(),
            uses_discovery: !args.no_dht || !args.no_lsd || !args.no_port_mapping,
        };
        Ok(settings.with_ports_and_peers(args))
    }

    /// Applies the ports and the number of peers if given; otherwise the library's defaults apply.
    fn with_ports_and_peers(mut self, args: &DownloadArgs) -> Settings {
        if let Some(ports) = &args.listen_port {
            self.client = self.client.listen_ports(ports.clone());
        }
        if let Some(max_peers) = args.max_peers {
            self.client = self.client.max_peers(max_peers);
            self.options = self.options.max_peers(max_peers);
        }
        self
    }

    /// Uses another download folder than that of the options.
    pub fn in_folder(self, folder: PathBuf) -> Settings {
        Settings { options: self.options.folder(folder.clone()), out_dir: folder, ..self }
    }

    /// Turns off the DHT, local discovery and port mapping if there are too few file descriptors for them.
    pub fn limit_to_budget(self, budget: DescriptorBudget) -> Settings {
        if budget.allows_discovery || !self.uses_discovery {
            return self;
        }
        let without = "the DHT, local discovery and port forwarding";
        log::warn!("the limit on open files (`ulimit -n`) is low: btsync runs without {without}");
        let client = self.client.dht(None).lsd(false).port_mapping(PortMapping::Off);
        let options = self.options.dht(false).lsd(false);
        Settings { client, options, uses_discovery: false, ..self }
    }

    /// Uses the peers and the file selection of a magnet link; see [`AddOptions::link`].
    pub fn add_link(&mut self, magnet: &Magnet, is_public: bool) {
        self.options = self.options.clone().link(magnet, is_public);
        self.selection.magnet_indexes.clone_from(&magnet.select);
    }
}

/// Fails if other options identify an anonymous client, and warns if its address stays visible.
fn check_anonymity(args: &DownloadArgs) -> Result<(), Failure> {
    let contradicting = [
        ("--peer-id-prefix", args.peer_id_prefix.is_some()),
        ("--user-agent", args.user_agent.is_some()),
        ("--port-mapping", args.port_mapping && !args.no_port_mapping),
    ];
    if let Some((name, _)) = contradicting.iter().find(|(_, is_given)| *is_given && args.anonymous) {
        return Err(bad_option(format!("--anonymous and {name} contradict each other")));
    }
    if args.anonymous && args.proxy.is_none() && args.interface.is_none() {
        log::warn!("--anonymous does not hide the IP address; a VPN (--interface) or --proxy does");
    }
    Ok(())
}

/// The budget of file descriptors for `wanted` torrents at once.
///
/// # Errors
/// The limit is so low that a download would wait for descriptors forever.
pub(crate) fn descriptor_budget(wanted: usize) -> Result<DescriptorBudget, Failure> {
    let have = available();
    let too_few = || {
        format!("only {have} files may be open at a time, and a download needs {MIN_DESCRIPTORS}: raise `ulimit -n`")
    };
    DescriptorBudget::of(have, wanted).ok_or_else(|| Failure::new(Exit::Other, too_few()))
}

/// The options of each torrent; `in_cache` is the path of a file or folder in btsync's cache folder.
fn add_options(
    args: &DownloadArgs,
    selection: &Selection,
    unreported_folder: Option<&Path>,
    in_cache: impl Fn(&str) -> Option<PathBuf>,
) -> Result<AddOptions, Failure> {
    let mut peers = Vec::new();
    for peer in &args.peer {
        peers.extend(resolve(peer, args.proxy.is_some())?);
    }
    let options = AddOptions::new(args.out_dir())
        .seed(seed_goal(args))
        .peers(peers)
        .trackers(args.trackers().map(str::to_owned).collect())
        .exclude_trackers(args.excluded_trackers().map(str::to_owned).collect())
        .web_seeds(args.web_seed.clone())
        .torrent_web_seeds(!args.no_web_seeds)
        .dht(!args.no_dht)
        .lsd(!args.no_lsd)
        .pex(!args.no_pex)
        .encryption(args.encryption.unwrap_or_default())
        .peer_id_prefix(args.peer_id_prefix)
        .user_agent(args.user_agent.clone())
        .dscp(args.dscp.unwrap_or_default())
        .super_seed(args.super_seed)
        .save_torrent(args.save_torrent.clone())
        .stop_timeout(args.stop_timeout)
        .resume_folder(in_cache(RESUME))
        .unreported_folder(unreported_folder.map(Path::to_owned))
        .downloaded_torrents_folder(in_cache(BROUGHT))
        .private_folders(private_paths(args))
        .verify(args.verify)
        .files(selection.clone())
        .renamed_files(args.out.clone())
        .sequential(args.sequential)
        .first_and_last(args.first_and_last)
        .allocation(args.file_allocation.unwrap_or_default())
        .allow_hidden(args.allow_hidden)
        .overwrite(args.overwrite)
        .fsync(args.fsync)
        .incomplete_suffix(args.incomplete_suffix.clone())
        .metadata_only(args.list);
    Ok(options)
}

/// When to stop seeding. A time of 0 disables seeding whatever the ratio, as in aria2.
fn seed_goal(args: &DownloadArgs) -> SeedGoal {
    let never = args.seed_time.is_some_and(|time| time.is_zero());
    SeedGoal {
        is_forever: args.seed,
        time: args.seed_time.filter(|time| !time.is_zero()),
        ratio: args.seed_ratio.filter(|&ratio| ratio > 0.0 && !never),
    }
}

/// Seeds ask the router at once, because peers have to reach them. A download asks only if it takes longer.
fn port_mapping(args: &DownloadArgs) -> PortMapping {
    let SeedGoal { is_forever, time, ratio } = seed_goal(args);
    let is_seed = is_forever || time.is_some() || ratio.is_some();
    let after = if is_seed { Duration::ZERO } else { MAPPING_DELAY };
    values::port_mapping(args.no_port_mapping, args.port_mapping, after)
}

/// btsync's own folders, the files that it reads options, torrents and blocked addresses from, and the program of the hook: a torrent
/// that wrote to them could run commands, or let blocked peers in.
fn private_paths(args: &DownloadArgs) -> Vec<PathBuf> {
    let files = [&args.config, &args.input_file].into_iter().flatten().filter(|file| *file != Path::new("-"));
    let hook = args.on_download_complete.as_deref().and_then(|command| command.split_whitespace().next());
    // Only a path can lead to a file of a torrent; a name alone is looked up in `PATH`.
    let hook = hook.filter(|program| program.contains('/')).map(PathBuf::from);
    let files = files.cloned().chain(block_list_file(args.block_list.as_deref())).chain(hook);
    private_folders().into_iter().chain(files).collect()
}

/// The file of a block list; `None` for a URL.
pub(crate) fn block_list_file(block_list: Option<&str>) -> Option<PathBuf> {
    let is_url = |place: &str| {
        place
            .split_once("://")
            .is_some_and(|(scheme, _)| ["http", "https"].iter().any(|it| scheme.eq_ignore_ascii_case(it)))
    };
    block_list.filter(|place| !is_url(place)).map(PathBuf::from)
}

/// btsync's own configuration, cache and state folders.
pub(crate) fn private_folders() -> Vec<PathBuf> {
    let folders = [config_folder(), cache_folder(), state_folder()];
    folders.into_iter().flatten().map(|folder| folder.join(BTSYNC)).collect()
}

/// The user's state folder according to XDG; `None` without a home folder.
pub(crate) fn state_folder() -> Option<PathBuf> {
    xdg_folder("XDG_STATE_HOME", ".local/state")
}

/// The user's cache folder according to XDG; `None` without a home folder.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    xdg_folder("XDG_CACHE_HOME", ".cache")
}

/// The user's configuration folder according to XDG.
fn config_folder() -> Option<PathBuf> {
    xdg_folder("XDG_CONFIG_HOME", ".config")
}

fn xdg_folder(variable: &str, default: &str) -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    named(variable).or_else(|| named("HOME").map(|home| home.join(default)))
}

/// The addresses of a peer. With a proxy, its name must not be looked up.
fn resolve(peer: &str, has_proxy: bool) -> Result<Vec<SocketAddr>, Failure> {
    if has_proxy {
        let address = peer.parse().map(|addr| vec![addr]);
        let message = format!("--peer={peer}: with --proxy, btsync looks up no host names; give the peer's address");
        return address.map_err(|_| bad_option(message));
    }
    let addresses = peer.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    addresses
        .map_err(|error| Failure::new(Exit::NameLookup, format!("cannot resolve the peer {peer}: {}", reason(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_means_no_seeding() {
        let mut args = DownloadArgs::default();
        (args.seed_time, args.seed_ratio) = (Some(std::time::Duration::ZERO), Some(0.0));
        assert!(!seed_goal(&args).any());
        args.seed_ratio = Some(2.0);
        assert!(!seed_goal(&args).any(), "a time of 0 has the last word");
        args.seed = true;
        assert!(seed_goal(&args).any(), "but for --seed");
    }
}
