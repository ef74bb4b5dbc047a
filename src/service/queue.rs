//! Decides which torrents of a service run, by their positions in the queue. Pure.

use std::collections::BTreeSet;

use crate::service::model::TorrentId;
use crate::service::settings::QueueSettings;
use crate::util::cold_sort;

/// How many torrents hash their files at a time.
const MAX_CHECKS: usize = 1;

/// A torrent that wants to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueCandidate {
    /// Its number.
    pub id: TorrentId,
    /// Its position in the queue.
    pub position: usize,
    /// What it would do.
    pub class: QueueClass,
    /// Whether it runs whatever the limits say.
    pub is_forced: bool,
    /// Whether it runs now, and nothing has moved for longer than the queue accepts.
    pub is_stalled: bool,
}

/// What a torrent would do if it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueClass {
    /// Hash its files.
    Check,
    /// Download, or fetch metadata.
    Download,
    /// Seed.
    Seed,
}

/// Chooses the torrents that run. Those that are forced or stalled do not count against the limits.
pub fn choose_running(candidates: &[QueueCandidate], settings: &QueueSettings) -> BTreeSet<TorrentId> {
    let mut sorted: Vec<&QueueCandidate> = candidates.iter().collect();
    cold_sort::sort_by_key(&mut sorted, |candidate| (candidate.position, candidate.id));
    let limit = |number: usize, is_limited: bool| if is_limited { number } else { usize::MAX };
    let mut places = [
        (QueueClass::Check, MAX_CHECKS),
        (QueueClass::Download, limit(settings.downloads, settings.limits_downloads)),
        (QueueClass::Seed, limit(settings.seeds, settings.limits_seeds)),
    ];
    let mut chosen = BTreeSet::new();
    for candidate in sorted {
        let is_free = candidate.is_forced || (candidate.is_stalled && settings.ignores_stalled);
        let Some((_, left)) = places.iter_mut().find(|(class, _)| *class == candidate.class) else { continue };
        if is_free && candidate.class != QueueClass::Check {
            chosen.insert(candidate.id);
        } else if *left > 0 {
            *left -= 1;
            chosen.insert(candidate.id);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: u32, position: usize, class: QueueClass) -> QueueCandidate {
        QueueCandidate { id: TorrentId(id), position, class, is_forced: false, is_stalled: false }
    }

    fn chosen(candidates: &[QueueCandidate], downloads: usize) -> Vec<u32> {
        let settings = QueueSettings { downloads, ..QueueSettings::default() };
        choose_running(candidates, &settings).into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn the_first_of_the_queue_run() {
        let all = [4, 1, 3, 2].map(|id| candidate(id, 10 - id as usize, QueueClass::Download));
        assert_eq!(chosen(&all, 2), [3, 4]);
        assert_eq!(chosen(&all, 0), [0_u32; 0]);
    }

    #[test]
    fn forced_and_stalled_torrents_take_no_place() {
        let mut all = [1, 2, 3, 4].map(|id| candidate(id, id as usize, QueueClass::Download));
        all[0].is_stalled = true;
        all[3].is_forced = true;
        assert_eq!(chosen(&all, 1), [1, 2, 4]);
        let settings = QueueSettings { downloads: 1, ignores_stalled: false, ..QueueSettings::default() };
        assert_eq!(choose_running(&all, &settings), [TorrentId(1), TorrentId(4)].into());
    }

    #[test]
    fn seeds_are_unlimited_unless_limited_and_checks_run_one_by_one() {
        let mut all: Vec<QueueCandidate> = (1..=5).map(|id| candidate(id, id as usize, QueueClass::Seed)).collect();
        all.extend(
            [6, 7].map(|id| QueueCandidate { is_forced: true, ..candidate(id, id as usize, QueueClass::Check) }),
        );
        assert_eq!(chosen(&all, 0), [1, 2, 3, 4, 5, 6]);
        let settings = QueueSettings { seeds: 2, limits_seeds: true, ..QueueSettings::default() };
        assert_eq!(choose_running(&all, &settings).len(), 3);
    }
}
