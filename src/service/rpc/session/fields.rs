//! The fields of `session_get`. A field that means nothing to btsync has a fixed value.

use crate::service::rpc::json::JsonWriter;
use crate::service::rpc::{
    Context, Dialect, RPC_VERSION, RPC_VERSION_MINIMUM, RPC_VERSION_SEMVER, VERSION, tracker_list,
};
use crate::service::settings::SessionSettings;
use crate::types::Encryption;

/// What fields are written from.
pub struct SessionView<'a> {
    pub context: &'a Context<'a>,
    pub settings: SessionSettings,
}

/// A field of `session_get`.
pub struct SessionField {
    /// Its name in the legacy dialect.
    pub legacy_name: &'static str,
    /// Its name in JSON-RPC.
    pub name: &'static str,
    /// Writes its value.
    pub write: fn(&mut JsonWriter, &SessionView<'_>),
}

impl SessionField {
    /// Whether it is btsync's own, which the legacy dialect does not have.
    pub fn is_own(&self) -> bool {
        self.name.starts_with("btsync_")
    }
}

/// All fields, by their names in JSON-RPC.
pub const FIELDS: &[SessionField] = &[
    field("alt-speed-down", "alt_speed_down", |to, of| to.int(of.settings.alternative.down)),
    field("alt-speed-enabled", "alt_speed_enabled", |to, of| to.bool(of.settings.alternative.is_enabled)),
    field("alt-speed-time-begin", "alt_speed_time_begin", |to, of| to.int(of.settings.alternative.begin)),
    field("alt-speed-time-day", "alt_speed_time_day", |to, of| to.int(of.settings.alternative.days)),
    field("alt-speed-time-enabled", "alt_speed_time_enabled", |to, of| to.bool(of.settings.alternative.is_scheduled)),
    field("alt-speed-time-end", "alt_speed_time_end", |to, of| to.int(of.settings.alternative.end)),
    field("alt-speed-up", "alt_speed_up", |to, of| to.int(of.settings.alternative.up)),
    field("anti-brute-force-enabled", "anti_brute_force_enabled", |to, _| to.bool(true)),
    field("anti-brute-force-threshold", "anti_brute_force_threshold", |to, _| to.int(0)),
    field("blocklist-enabled", "blocklist_enabled", |to, of| {
        to.bool(of.context.control.block_list().is_enabled);
    }),
    field("blocklist-size", "blocklist_size", |to, of| to.int(of.context.control.block_list().ranges)),
    field("blocklist-url", "blocklist_url", |to, of| to.string(&of.context.control.block_list().url)),
    field("btsync_port_mapping", "btsync_port_mapping", |to, of| {
        to.string(&of.context.control.port_mapping().map(|status| status.to_string()).unwrap_or_default());
    }),
    field("cache-size-mb", "cache_size_mib", |to, _| to.int(0)),
    field("config-dir", "config_dir", |to, of| to.path(&of.context.control.state_folder())),
    field("default-trackers", "default_trackers", |to, of| {
        to.string(&tracker_list::join(&of.settings.default_trackers));
    }),
    field("dht-enabled", "dht_enabled", |to, of| to.bool(of.settings.network.uses_dht)),
    field("download-dir", "download_dir", |to, of| to.path(&of.settings.download_folder)),
    field("download-dir-free-space", "download_dir_free_space", write_free_space),
    field("download-queue-enabled", "download_queue_enabled", |to, of| to.bool(of.settings.queue.limits_downloads)),
    field("download-queue-size", "download_queue_size", |to, of| to.int(of.settings.queue.downloads)),
    field("encryption", "encryption", write_encryption),
    field("idle-seeding-limit", "idle_seeding_limit", |to, of| to.int(of.settings.seeding.idle_minutes)),
    field("idle-seeding-limit-enabled", "idle_seeding_limit_enabled", |to, of| {
        to.bool(of.settings.seeding.limits_idle);
    }),
    field("incomplete-dir", "incomplete_dir", |to, of| to.path(&of.settings.incomplete_folder)),
    field("incomplete-dir-enabled", "incomplete_dir_enabled", |to, of| to.bool(of.settings.uses_incomplete_folder)),
    field("lpd-enabled", "lpd_enabled", |to, of| to.bool(of.settings.network.uses_lsd)),
    field("peer-limit-global", "peer_limit_global", |to, of| to.int(of.settings.network.peer_limit)),
    field("peer-limit-per-torrent", "peer_limit_per_torrent", |to, of| {
        to.int(of.settings.network.peer_limit_per_torrent);
    }),
    field("peer-port", "peer_port", |to, of| to.int(of.context.control.peer_port())),
    field("peer-port-random-on-start", "peer_port_random_on_start", |to, of| {
        to.bool(of.settings.network.is_port_random);
    }),
    field("pex-enabled", "pex_enabled", |to, of| to.bool(of.settings.network.uses_pex)),
    field("port-forwarding-enabled", "port_forwarding_enabled", |to, of| {
        to.bool(of.context.control.is_port_mapping_on());
    }),
    field("preferred_transports", "preferred_transports", |to, of| {
        let control = of.context.control;
        let transports = [("tcp", control.is_tcp_on()), ("utp", control.is_utp_on())];
        to.array(transports.iter().filter(|(_, is_on)| *is_on), |to, (transport, _)| to.string(transport));
    }),
    field("queue-stalled-enabled", "queue_stalled_enabled", |to, of| to.bool(of.settings.queue.ignores_stalled)),
    field("queue-stalled-minutes", "queue_stalled_minutes", |to, of| to.int(of.settings.queue.stalled_minutes)),
    field("rename-partial-files", "rename_partial_files", |to, of| to.bool(of.settings.renames_partial_files)),
    field("reqq", "reqq", |to, _| to.int(crate::wire::extension::OUR_REQUEST_QUEUE)),
    field("rpc-version", "rpc_version", |to, _| to.int(RPC_VERSION)),
    field("rpc-version-minimum", "rpc_version_minimum", |to, _| to.int(RPC_VERSION_MINIMUM)),
    field("rpc-version-semver", "rpc_version_semver", |to, _| to.string(RPC_VERSION_SEMVER)),
    field("script-torrent-added-enabled", "script_torrent_added_enabled", |to, _| to.bool(false)),
    field("script-torrent-added-filename", "script_torrent_added_filename", |to, _| to.string("")),
    field("script-torrent-done-enabled", "script_torrent_done_enabled", |to, _| to.bool(false)),
    field("script-torrent-done-filename", "script_torrent_done_filename", |to, _| to.string("")),
    field("script-torrent-done-seeding-enabled", "script_torrent_done_seeding_enabled", |to, _| to.bool(false)),
    field("script-torrent-done-seeding-filename", "script_torrent_done_seeding_filename", |to, _| to.string("")),
    field("seed-queue-enabled", "seed_queue_enabled", |to, of| to.bool(of.settings.queue.limits_seeds)),
    field("seed-queue-size", "seed_queue_size", |to, of| to.int(of.settings.queue.seeds)),
    field("seedRatioLimit", "seed_ratio_limit", |to, of| to.float(of.settings.seeding.ratio)),
    field("seedRatioLimited", "seed_ratio_limited", |to, of| to.bool(of.settings.seeding.limits_ratio)),
    field("sequential_download", "sequential_download", |to, _| to.bool(false)),
    field("session-id", "session_id", |to, of| to.string(of.context.session_id)),
    field("speed-limit-down", "speed_limit_down", |to, of| to.int(of.settings.down_limit.kilobytes)),
    field("speed-limit-down-enabled", "speed_limit_down_enabled", |to, of| to.bool(of.settings.down_limit.is_enabled)),
    field("speed-limit-up", "speed_limit_up", |to, of| to.int(of.settings.up_limit.kilobytes)),
    field("speed-limit-up-enabled", "speed_limit_up_enabled", |to, of| to.bool(of.settings.up_limit.is_enabled)),
    field("start-added-torrents", "start_added_torrents", |to, of| to.bool(of.settings.starts_added)),
    field("tcp-enabled", "tcp_enabled", |to, of| to.bool(of.context.control.is_tcp_on())),
    field("trash-original-torrent-files", "trash_original_torrent_files", |to, of| {
        to.bool(of.settings.deletes_watched);
    }),
    field("units", "units", |to, _| write_units(to)),
    field("utp-enabled", "utp_enabled", |to, of| to.bool(of.context.control.is_utp_on())),
    field("version", "version", |to, _| to.string(VERSION)),
];

const fn field(
    legacy_name: &'static str,
    name: &'static str,
    write: fn(&mut JsonWriter, &SessionView<'_>),
) -> SessionField {
    SessionField { legacy_name, name, write }
}

fn write_free_space(to: &mut JsonWriter, of: &SessionView<'_>) {
    let free = of.context.control.free_space(&of.settings.download_folder);
    to.int(free.map_or(-1, |(free, _)| i64::try_from(free).unwrap_or(i64::MAX)));
}

/// Transmission has no word for connections that are never encrypted; the nearest is the one for plain connections first.
fn write_encryption(to: &mut JsonWriter, of: &SessionView<'_>) {
    to.string(match (of.settings.network.encryption, to.dialect()) {
        (Encryption::Require, _) => "required",
        (Encryption::Allow, _) => "preferred",
        (Encryption::Off, Dialect::Legacy) => "tolerated",
        (Encryption::Off, Dialect::JsonRpc) => "allowed",
    });
}

/// Before 4.1, the list of units began with thousands.
fn write_units(to: &mut JsonWriter) {
    let skipped = usize::from(to.dialect() == Dialect::Legacy);
    let units = [
        ("memory_bytes", 1024, "memory_units", ["B", "KiB", "MiB", "GiB", "TiB"]),
        ("size_bytes", 1000, "size_units", ["B", "kB", "MB", "GB", "TB"]),
        ("speed_bytes", 1000, "speed_units", ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"]),
    ];
    to.object(|to| {
        for (bytes_name, bytes, units_name, names) in units {
            to.either_name(&bytes_name.replace('_', "-"), bytes_name);
            to.int(bytes);
            to.either_name(&units_name.replace('_', "-"), units_name);
            to.array(names.into_iter().skip(skipped), JsonWriter::string);
        }
    });
}
