//! Decides when to announce which of many torrents that do not run in the DHT: each every 25 minutes, because nodes forget it after
//! 30, and at most one a second, because each announce costs some dozens of packets. Pure.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::discovery::tracker::dormant::DormantId;
use crate::types::InfoHash;

/// The time between two announces of a torrent.
const INTERVAL: Duration = Duration::from_secs(25 * 60);
/// The shortest time between two announces.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a torrent that runs is left alone before it is looked at again.
const RUNNING_PAUSE: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Default)]
pub struct DhtRotation {
    due: BTreeSet<(Duration, DormantId)>,
    torrents: HashMap<DormantId, (InfoHash, Duration)>,
    next: Duration,
}

impl DhtRotation {
    /// Adds a torrent.
    pub fn add(&mut self, id: DormantId, info_hash: InfoHash, now: Duration) {
        self.torrents.insert(id, (info_hash, now));
        self.due.insert((now, id));
    }

    /// Removes a torrent.
    pub fn remove(&mut self, id: DormantId) {
        if let Some((_, due)) = self.torrents.remove(&id) {
            self.due.remove(&(due, id));
        }
    }

    /// Whether there is no torrent.
    pub fn is_empty(&self) -> bool {
        self.torrents.is_empty()
    }

    /// When the next announce is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| (*due).max(self.next))
    }

    /// The torrent to announce now. Those for which `runs` is true announce themselves.
    pub fn next_torrent(&mut self, now: Duration, runs: impl Fn(InfoHash) -> bool) -> Option<InfoHash> {
        while now >= self.next
            && let Some(&(due, id)) = self.due.first()
            && due <= now
        {
            self.due.pop_first();
            let Some((info_hash, place)) = self.torrents.get_mut(&id) else { continue };
            let is_running = runs(*info_hash);
            *place = now.saturating_add(if is_running { RUNNING_PAUSE } else { INTERVAL });
            self.due.insert((*place, id));
            if !is_running {
                self.next = now.saturating_add(PAUSE);
                return Some(*info_hash);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_torrent_has_its_turn_and_none_comes_too_often() {
        let mut rotation = DhtRotation::default();
        let hash = |n: u64| InfoHash([n as u8; 20]);
        (0..100).for_each(|id| rotation.add(id, hash(id), s(0)));
        rotation.remove(7);
        let runs = |info_hash: InfoHash| info_hash == hash(8);
        let mut announced: HashMap<InfoHash, Vec<u64>> = HashMap::new();
        let mut now = s(0);
        while now < s(4000) {
            match rotation.next_torrent(now, runs) {
                Some(torrent) => announced.entry(torrent).or_default().push(now.as_secs()),
                None => now = rotation.next_due().expect("there are torrents").max(now + s(1)),
            }
        }
        assert_eq!(announced.len(), 98, "not the one that runs and not the one that was removed");
        for times in announced.values() {
            assert_eq!(times.len(), 3, "{times:?}");
            assert!(times.windows(2).all(|pair| (1500..1800).contains(&(pair[1] - pair[0]))), "{times:?}");
        }
        let mut all: Vec<u64> = announced.into_values().flatten().collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "one a second");
        (0..100).for_each(|id| rotation.remove(id));
        assert!(rotation.is_empty() && rotation.next_due().is_none());
    }

    #[test]
    fn more_torrents_than_fit_have_their_turn_later() {
        let mut rotation = DhtRotation::default();
        (0..5000).for_each(|id| rotation.add(id, InfoHash([1; 20]), s(0)));
        let announced = (0..10_000).filter(|second| rotation.next_torrent(s(*second), |_| false).is_some()).count();
        assert_eq!(announced, 10_000, "one a second, each after 5,000 seconds");
        assert_eq!(rotation.next_due(), Some(s(10_000)));
    }
}
