//! The event stream of the page: the torrents that have changed, with the fields of its list.

use crate::service::model::{Control, TorrentId, UnixTime};
use crate::service::rpc::json::JsonWriter;
use crate::service::rpc::torrent::{list_fields, write_torrents};
use crate::service::rpc::{Context, Dialect};

/// The fields that the page's list shows.
const LIST_FIELDS: [&str; 39] = [
    "id",
    "hash_string",
    "name",
    "status",
    "error",
    "error_string",
    "btsync_is_moving",
    "btsync_problem",
    "labels",
    "queue_position",
    "total_size",
    "size_when_done",
    "left_until_done",
    "have_valid",
    "have_unchecked",
    "percent_done",
    "metadata_percent_complete",
    "recheck_progress",
    "rate_download",
    "rate_upload",
    "downloaded_ever",
    "uploaded_ever",
    "upload_ratio",
    "eta",
    "peers_connected",
    "peers_sending_to_us",
    "peers_getting_from_us",
    "added_date",
    "done_date",
    "activity_date",
    "download_dir",
    "is_finished",
    "is_stalled",
    "is_private",
    "file_count",
    "piece_count",
    "sequential_download",
    "seed_ratio_limit",
    "seed_ratio_mode",
];

/// An event about these torrents, or about all with `None`; `removed` are gone.
pub fn torrents_event(
    control: &dyn Control,
    ids: Option<&[TorrentId]>,
    removed: &[TorrentId],
    now: UnixTime,
) -> Vec<u8> {
    let context = Context { control, session_id: "", now };
    let torrents = match ids {
        None => control.torrents(),
        Some(ids) => ids.iter().filter_map(|id| control.torrent(*id)).collect(),
    };
    let (settings, stats) = (control.settings(), control.stats());
    let free = control.free_space(&settings.download_folder).map_or(-1, |(free, _)| free.cast_signed());
    let mut to = JsonWriter::new(Dialect::JsonRpc);
    to.object(|to| {
        if ids.is_none() {
            to.name("full");
            to.bool(true);
            to.name("notices");
            to.array(control.notices(), |to, notice| to.string(&notice));
        }
        to.name("changed");
        write_torrents(to, &context, &torrents, &list_fields(&LIST_FIELDS));
        to.name("removed");
        to.array(removed, |to, id| to.int(id.0));
        to.name("session");
        to.object(|to| {
            for (name, value) in [
                ("down_rate", stats.down_rate.cast_signed()),
                ("up_rate", stats.up_rate.cast_signed()),
                ("free_space", free),
                ("speed_limit_down", i64::from(settings.down_limit.kilobytes)),
                ("speed_limit_up", i64::from(settings.up_limit.kilobytes)),
            ] {
                to.name(name);
                to.int(value);
            }
            for (name, value) in [
                ("alt_speed_enabled", settings.alternative.is_enabled),
                ("speed_limit_down_enabled", settings.down_limit.is_enabled),
                ("speed_limit_up_enabled", settings.up_limit.is_enabled),
            ] {
                to.name(name);
                to.bool(value);
            }
        });
    });
    to.into_bytes()
}
