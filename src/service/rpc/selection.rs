//! The torrents that a request names with `ids`.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::service::model::{Control, TorrentId, TorrentSummary};
use crate::service::rpc::Dialect;
use crate::service::rpc::params::Params;
use crate::types::InfoHash;

/// From this number of torrents on, all summaries are fetched at once.
const MANY: usize = 32;

/// The torrents that a request names.
#[derive(Debug, PartialEq, Eq)]
pub enum TorrentSelection {
    /// All of them: a request without `ids`.
    All,
    /// Those that changed or moved payload lately.
    RecentlyActive,
    /// These, each once, in the order of the request. Some may not exist.
    These(Vec<TorrentId>),
}

impl TorrentSelection {
    /// Reads `ids`: a number, an info-hash, a list of both, or a word for the active torrents. Clients of the legacy dialect may
    /// say `id`, and `null` for all torrents when they only read.
    pub fn of(params: &Params, control: &dyn Control, dialect: Dialect, reads_only: bool) -> TorrentSelection {
        let value = match params.value("ids") {
            Some(Value::Null) if dialect == Dialect::Legacy && reads_only => None,
            None => params.value("id"),
            value => value,
        };
        match value {
            None => TorrentSelection::All,
            Some(Value::String(word)) if is_recently_active(word) => TorrentSelection::RecentlyActive,
            Some(Value::Array(list)) => TorrentSelection::These(listed(list, control)),
            Some(single) => TorrentSelection::These(listed(std::slice::from_ref(single), control)),
        }
    }

    /// The summaries of the torrents that exist.
    pub fn summaries(&self, control: &dyn Control) -> Vec<TorrentSummary> {
        let recent;
        let ids = match self {
            TorrentSelection::All => return control.torrents(),
            TorrentSelection::RecentlyActive => {
                recent = control.recently_active();
                &recent
            }
            TorrentSelection::These(ids) => ids,
        };
        if ids.len() < MANY {
            return ids.iter().filter_map(|&id| control.torrent(id)).collect();
        }
        let mut all: HashMap<_, _> = control.torrents().into_iter().map(|torrent| (torrent.id, torrent)).collect();
        ids.iter().filter_map(|id| all.remove(id)).collect()
    }

    /// The numbers of the torrents that exist.
    pub fn ids(&self, control: &dyn Control) -> Vec<TorrentId> {
        self.summaries(control).into_iter().map(|torrent| torrent.id).collect()
    }
}

/// Whether `ids` is the word for the active torrents.
pub fn is_recently_active(word: &str) -> bool {
    matches!(word, "recently_active" | "recently-active")
}

fn listed(values: &[Value], control: &dyn Control) -> Vec<TorrentId> {
    let (mut ids, mut seen) = (Vec::new(), HashSet::new());
    // The same for each time that a request has the word.
    let mut has_recent = false;
    for value in values {
        let found = match value {
            Value::Number(number) => {
                number.as_u64().and_then(|number| u32::try_from(number).ok()).map(TorrentId).into_iter().collect()
            }
            Value::String(word) if is_recently_active(word) => {
                if std::mem::replace(&mut has_recent, true) {
                    Vec::new()
                } else {
                    control.recently_active()
                }
            }
            Value::String(hash) => InfoHash::from_hex(hash).and_then(|hash| control.find(&hash)).into_iter().collect(),
            _ => Vec::new(),
        };
        ids.extend(found.into_iter().filter(|id| seen.insert(*id)));
    }
    ids
}
