//! The settings of a service that a remote control may change, as they are saved in the state folder.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::service::rate_limit::{RateLimit, rate_limits};
use crate::strategy::rate_limiter::Limits;
use crate::types::Encryption;

/// All settings of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct SessionSettings {
    /// The folder of new torrents.
    pub download_folder: PathBuf,
    /// The folder of torrents that are not complete.
    pub incomplete_folder: PathBuf,
    /// Whether the folder of incomplete torrents is used.
    pub uses_incomplete_folder: bool,
    /// Whether incomplete files have the suffix `.part`.
    pub renames_partial_files: bool,
    /// Whether new torrents start at once.
    pub starts_added: bool,
    /// Whether a torrent file that the service read from its watch folder is deleted afterwards.
    pub deletes_watched: bool,
    /// The download limit of all torrents.
    pub down_limit: RateLimit,
    /// The upload limit of all torrents.
    pub up_limit: RateLimit,
    /// The alternative limits.
    pub alternative: AlternativeLimits,
    /// How many torrents run at a time.
    pub queue: QueueSettings,
    /// When seeding ends.
    pub seeding: SeedingSettings,
    /// How peers are found and connected.
    pub network: NetworkSettings,
    /// Trackers for all public torrents, by tier.
    pub default_trackers: Vec<Vec<String>>,
    /// The block list.
    pub block_list: BlockListSettings,
}

/// The block list that a remote control chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockListSettings {
    /// Whether the list is in force.
    #[serde(rename = "enabled")]
    pub is_enabled: bool,
    /// An HTTP or HTTPS URL; empty for none.
    pub url: String,
}

/// Limits for certain times of the week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlternativeLimits {
    /// Whether the alternative limits are in force now.
    #[serde(rename = "enabled")]
    pub is_enabled: bool,
    /// The download limit in KB/s.
    pub down: u32,
    /// The upload limit in KB/s.
    pub up: u32,
    /// Whether the schedule turns them on and off.
    pub is_scheduled: bool,
    /// When they begin, in minutes after local midnight.
    pub begin: u16,
    /// When they end, in minutes after local midnight.
    pub end: u16,
    /// On which days: bit 0 is Sunday, bit 6 Saturday.
    pub days: u8,
}

/// How many torrents run at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueSettings {
    /// The most active downloads.
    pub downloads: usize,
    /// Whether that limit is in force.
    pub limits_downloads: bool,
    /// The most active seeds.
    pub seeds: usize,
    /// Whether that limit is in force.
    pub limits_seeds: bool,
    /// Minutes without payload after which a torrent no longer counts as active.
    pub stalled_minutes: u16,
    /// Whether stalled torrents do not count.
    pub ignores_stalled: bool,
}

/// When seeding ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeedingSettings {
    /// Uploaded bytes / size.
    pub ratio: f64,
    /// Whether the ratio ends seeding.
    pub limits_ratio: bool,
    /// Minutes without upload.
    pub idle_minutes: u16,
    /// Whether the idle time ends seeding.
    pub limits_idle: bool,
}

/// How peers are found and connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct NetworkSettings {
    /// The TCP port; 0 for any.
    pub port: u16,
    /// Whether each start takes another port.
    pub is_port_random: bool,
    /// The most connections of all torrents.
    pub peer_limit: u16,
    /// The most connections of a new torrent.
    pub peer_limit_per_torrent: u16,
    /// Whether the DHT is on.
    #[serde(rename = "dht")]
    pub uses_dht: bool,
    /// Whether local discovery is on.
    #[serde(rename = "lsd")]
    pub uses_lsd: bool,
    /// Whether peer exchange is on.
    #[serde(rename = "pex")]
    pub uses_pex: bool,
    /// Whether the router is asked to forward the port; `None` leaves that to the options of the service.
    #[serde(rename = "port_mapping")]
    pub maps_port: Option<bool>,
    /// Whether uTP carries connections besides TCP; `None` leaves that to the options of the service.
    #[serde(rename = "utp")]
    pub uses_utp: Option<bool>,
    /// The encryption of connections: `allow`, `require` or `off`.
    #[serde(with = "encryption")]
    pub encryption: Encryption,
}

/// Changes of settings; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SettingsChange {
    /// See [`SessionSettings::download_folder`].
    pub download_folder: Option<PathBuf>,
    /// See [`SessionSettings::incomplete_folder`].
    pub incomplete_folder: Option<PathBuf>,
    /// See [`SessionSettings::uses_incomplete_folder`].
    pub uses_incomplete_folder: Option<bool>,
    /// See [`SessionSettings::renames_partial_files`].
    pub renames_partial_files: Option<bool>,
    /// See [`SessionSettings::starts_added`].
    pub starts_added: Option<bool>,
    /// See [`SessionSettings::deletes_watched`].
    pub deletes_watched: Option<bool>,
    /// The download limit in KB/s.
    pub down_limit: Option<u32>,
    /// Whether it is in force.
    pub is_down_limited: Option<bool>,
    /// The upload limit in KB/s.
    pub up_limit: Option<u32>,
    /// Whether it is in force.
    pub is_up_limited: Option<bool>,
    /// See [`AlternativeLimits`].
    pub alternative_is_enabled: Option<bool>,
    /// See [`AlternativeLimits::down`].
    pub alternative_down: Option<u32>,
    /// See [`AlternativeLimits::up`].
    pub alternative_up: Option<u32>,
    /// See [`AlternativeLimits::is_scheduled`].
    pub alternative_is_scheduled: Option<bool>,
    /// See [`AlternativeLimits::begin`].
    pub alternative_begin: Option<u16>,
    /// See [`AlternativeLimits::end`].
    pub alternative_end: Option<u16>,
    /// See [`AlternativeLimits::days`].
    pub alternative_days: Option<u8>,
    /// See [`QueueSettings::downloads`].
    pub queue_downloads: Option<usize>,
    /// See [`QueueSettings::limits_downloads`].
    pub queue_limits_downloads: Option<bool>,
    /// See [`QueueSettings::seeds`].
    pub queue_seeds: Option<usize>,
    /// See [`QueueSettings::limits_seeds`].
    pub queue_limits_seeds: Option<bool>,
    /// See [`QueueSettings::stalled_minutes`].
    pub queue_stalled_minutes: Option<u16>,
    /// See [`QueueSettings::ignores_stalled`].
    pub queue_ignores_stalled: Option<bool>,
    /// See [`SeedingSettings::ratio`].
    pub seed_ratio: Option<f64>,
    /// See [`SeedingSettings::limits_ratio`].
    pub seed_limits_ratio: Option<bool>,
    /// See [`SeedingSettings::idle_minutes`].
    pub seed_idle_minutes: Option<u16>,
    /// See [`SeedingSettings::limits_idle`].
    pub seed_limits_idle: Option<bool>,
    /// See [`NetworkSettings::port`].
    pub port: Option<u16>,
    /// See [`NetworkSettings::is_port_random`].
    pub is_port_random: Option<bool>,
    /// See [`NetworkSettings::peer_limit`].
    pub peer_limit: Option<u16>,
    /// See [`NetworkSettings::peer_limit_per_torrent`].
    pub peer_limit_per_torrent: Option<u16>,
    /// See [`NetworkSettings::uses_dht`].
    pub uses_dht: Option<bool>,
    /// See [`NetworkSettings::uses_lsd`].
    pub uses_lsd: Option<bool>,
    /// See [`NetworkSettings::uses_pex`].
    pub uses_pex: Option<bool>,
    /// See [`NetworkSettings::maps_port`].
    pub maps_port: Option<bool>,
    /// See [`NetworkSettings::uses_utp`].
    pub uses_utp: Option<bool>,
    /// See [`NetworkSettings::encryption`].
    pub encryption: Option<Encryption>,
    /// See [`SessionSettings::default_trackers`].
    pub default_trackers: Option<Vec<Vec<String>>>,
    /// See [`BlockListSettings::is_enabled`].
    pub block_list_is_enabled: Option<bool>,
    /// See [`BlockListSettings::url`].
    pub block_list_url: Option<String>,
}

/// Replaces a value if there is a new one.
pub fn set<T: Clone>(value: &mut T, new: Option<&T>) {
    if let Some(new) = new {
        value.clone_from(new);
    }
}

impl SessionSettings {
    /// Takes over the changes.
    pub fn apply(&mut self, change: &SettingsChange) {
        set(&mut self.download_folder, change.download_folder.as_ref());
        set(&mut self.incomplete_folder, change.incomplete_folder.as_ref());
        set(&mut self.uses_incomplete_folder, change.uses_incomplete_folder.as_ref());
        set(&mut self.renames_partial_files, change.renames_partial_files.as_ref());
        set(&mut self.starts_added, change.starts_added.as_ref());
        set(&mut self.deletes_watched, change.deletes_watched.as_ref());
        set(&mut self.down_limit.kilobytes, change.down_limit.as_ref());
        set(&mut self.down_limit.is_enabled, change.is_down_limited.as_ref());
        set(&mut self.up_limit.kilobytes, change.up_limit.as_ref());
        set(&mut self.up_limit.is_enabled, change.is_up_limited.as_ref());
        let alternative = &mut self.alternative;
        set(&mut alternative.is_enabled, change.alternative_is_enabled.as_ref());
        set(&mut alternative.down, change.alternative_down.as_ref());
        set(&mut alternative.up, change.alternative_up.as_ref());
        set(&mut alternative.is_scheduled, change.alternative_is_scheduled.as_ref());
        set(&mut alternative.begin, change.alternative_begin.as_ref());
        set(&mut alternative.end, change.alternative_end.as_ref());
        set(&mut alternative.days, change.alternative_days.as_ref());
        self.apply_rest(change);
    }

    fn apply_rest(&mut self, change: &SettingsChange) {
        let queue = &mut self.queue;
        set(&mut queue.downloads, change.queue_downloads.as_ref());
        set(&mut queue.limits_downloads, change.queue_limits_downloads.as_ref());
        set(&mut queue.seeds, change.queue_seeds.as_ref());
        set(&mut queue.limits_seeds, change.queue_limits_seeds.as_ref());
        set(&mut queue.stalled_minutes, change.queue_stalled_minutes.as_ref());
        set(&mut queue.ignores_stalled, change.queue_ignores_stalled.as_ref());
        let seeding = &mut self.seeding;
        set(&mut seeding.ratio, change.seed_ratio.filter(|ratio| ratio.is_finite()).as_ref());
        set(&mut seeding.limits_ratio, change.seed_limits_ratio.as_ref());
        set(&mut seeding.idle_minutes, change.seed_idle_minutes.as_ref());
        set(&mut seeding.limits_idle, change.seed_limits_idle.as_ref());
        let network = &mut self.network;
        set(&mut network.port, change.port.as_ref());
        set(&mut network.is_port_random, change.is_port_random.as_ref());
        set(&mut network.peer_limit, change.peer_limit.as_ref());
        set(&mut network.peer_limit_per_torrent, change.peer_limit_per_torrent.as_ref());
        set(&mut network.uses_dht, change.uses_dht.as_ref());
        set(&mut network.uses_lsd, change.uses_lsd.as_ref());
        set(&mut network.uses_pex, change.uses_pex.as_ref());
        network.maps_port = change.maps_port.or(network.maps_port);
        network.uses_utp = change.uses_utp.or(network.uses_utp);
        set(&mut network.encryption, change.encryption.as_ref());
        set(&mut self.default_trackers, change.default_trackers.as_ref());
        set(&mut self.block_list.is_enabled, change.block_list_is_enabled.as_ref());
        set(&mut self.block_list.url, change.block_list_url.as_ref());
    }

    /// The limits in force, in bytes per second: the alternative ones if they are on.
    pub fn limits(&self) -> Limits {
        let AlternativeLimits { is_enabled, down, up, .. } = self.alternative;
        let alternative = |kilobytes: u32| RateLimit { kilobytes, is_enabled: true };
        if is_enabled {
            rate_limits(alternative(down), alternative(up))
        } else {
            rate_limits(self.down_limit, self.up_limit)
        }
    }
}

impl NetworkSettings {
    /// Whether a client with the settings `before` must be replaced by another.
    pub fn needs_new_client(&self, before: &NetworkSettings) -> bool {
        let part = |it: &NetworkSettings| (it.port, it.is_port_random, it.uses_dht, it.uses_lsd, it.peer_limit);
        part(self) != part(before) || self.uses_utp != before.uses_utp
    }
}

impl Default for SessionSettings {
    fn default() -> SessionSettings {
        SessionSettings {
            download_folder: PathBuf::new(),
            incomplete_folder: PathBuf::new(),
            uses_incomplete_folder: false,
            renames_partial_files: true,
            starts_added: true,
            deletes_watched: false,
            down_limit: RateLimit { kilobytes: 100, is_enabled: false },
            up_limit: RateLimit { kilobytes: 100, is_enabled: false },
            alternative: AlternativeLimits::default(),
            queue: QueueSettings::default(),
            seeding: SeedingSettings::default(),
            network: NetworkSettings::default(),
            default_trackers: Vec::new(),
            block_list: BlockListSettings::default(),
        }
    }
}

impl Default for AlternativeLimits {
    fn default() -> AlternativeLimits {
        AlternativeLimits { is_enabled: false, down: 50, up: 50, is_scheduled: false, begin: 540, end: 1020, days: 127 }
    }
}

impl Default for QueueSettings {
    fn default() -> QueueSettings {
        QueueSettings {
            downloads: 5,
            limits_downloads: true,
            seeds: 10,
            limits_seeds: false,
            stalled_minutes: 30,
            ignores_stalled: true,
        }
    }
}

impl Default for SeedingSettings {
    fn default() -> SeedingSettings {
        SeedingSettings { ratio: 2.0, limits_ratio: false, idle_minutes: 30, limits_idle: false }
    }
}

impl Default for NetworkSettings {
    fn default() -> NetworkSettings {
        NetworkSettings {
            port: 51413,
            is_port_random: false,
            peer_limit: 300,
            peer_limit_per_torrent: 50,
            uses_dht: true,
            uses_lsd: true,
            uses_pex: true,
            maps_port: None,
            uses_utp: None,
            encryption: Encryption::Allow,
        }
    }
}

/// [`Encryption`] as the word of the option `--encryption`.
mod encryption {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::types::Encryption;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub fn serialize<S: Serializer>(encryption: &Encryption, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(match encryption {
            Encryption::Allow => "allow",
            Encryption::Require => "require",
            Encryption::Off => "off",
        })
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Encryption, D::Error> {
        Ok(match String::deserialize(from)?.as_str() {
            "require" => Encryption::Require,
            "off" => Encryption::Off,
            _ => Encryption::Allow,
        })
    }
}

#[cfg(test)]
mod tests;
