//! How many connections the torrents of a client may have: as many as the program wants, as far as there are descriptors.

use crate::client::descriptors;
use crate::util::atomics::Amount;

/// Connections that each torrent may have at least, however many torrents there are.
const MIN_PEERS_PER_TORRENT: usize = 4;

/// The limit on the connections of all torrents, and their number.
pub(super) struct ConnectionCapacity {
    /// The most connections that the program wants.
    wanted: Amount,
    /// The same, as far as there are descriptors.
    max: Amount,
    /// The current number of connections.
    pub(super) connections: Amount,
    /// The number of files that all torrents together may hold open.
    reserved_files: Amount,
    /// The limit of the last warning about a lack of descriptors.
    warned: Amount,
}

impl ConnectionCapacity {
    /// The program wants at most so many connections.
    pub(super) fn new(wanted: usize) -> ConnectionCapacity {
        ConnectionCapacity {
            wanted: Amount::new(wanted),
            max: Amount::new(wanted),
            connections: Amount::new(0),
            reserved_files: Amount::new(0),
            warned: Amount::new(usize::MAX),
        }
    }

    /// Changes the number of connections that the program wants.
    pub(super) fn set_wanted(&self, wanted: usize) {
        self.wanted.set(wanted);
        self.update(self.reserved_files.get());
    }

    /// A torrent may have this many files open from now on. Recomputes how many connections that leaves.
    pub(super) fn reserve_files(&self, files: usize) {
        self.update(self.reserved_files.add(files) + files);
    }

    /// A torrent no longer needs this many open files: other torrents and connections may have them.
    pub(super) fn release_files(&self, files: usize) {
        self.update(self.reserved_files.sub(files) - files);
    }

    fn update(&self, files: usize) {
        let wanted = self.wanted.get();
        let (capacity, have) = descriptors::connection_capacity(wanted, files);
        self.max.set(capacity);
        // Each torrent changes the limit a little, so the warning is repeated only if the limit has become much lower.
        if files > 0 && capacity < wanted && capacity < self.warned.get() / 2 {
            self.warned.set(capacity);
            log::warn!("the process may open only {have} files: btsync connects to at most {capacity} peers");
        }
    }

    /// How many connections one of `torrents` that has `own` of them may have: an equal share, and beyond that what the others
    /// leave.
    pub(super) fn for_torrent(&self, own: usize, torrents: usize) -> usize {
        capacity(self.max.get(), torrents, self.connections.get().saturating_sub(own))
    }
}

/// How many of `max_connections` are open to one of `torrents` while the others have `others`. A torrent with less
/// than its share may take it at any time; those with more then have too many and close some.
fn capacity(max_connections: usize, torrents: usize, others: usize) -> usize {
    let part = (max_connections / torrents.max(1)).max(MIN_PEERS_PER_TORRENT.min(max_connections));
    part.max(max_connections.saturating_sub(others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_torrent_has_all_and_several_share() {
        assert_eq!(capacity(300, 1, 0), 300);
        assert_eq!(capacity(1, 1, 0), 1, "no more than the user wants");
        assert_eq!(capacity(300, 3, 0), 300, "the others want none");
        assert_eq!(capacity(300, 3, 40), 260, "all that they leave");
        assert_eq!(capacity(300, 3, 300), 100, "an equal part, whatever they have");
        assert_eq!(capacity(20, 10, 20), 4, "nobody starves");
        assert_eq!(capacity(0, 0, 0), 0);
    }

    /// Each torrent in turn takes what it may, and gives back what is too much.
    #[test]
    fn shared_capacity_is_not_exceeded_for_long() {
        let (max_connections, mut connections) = (100, [0_usize; 4]);
        for turn in 0..100 {
            let at = turn % connections.len();
            let others = connections.iter().sum::<usize>() - connections[at];
            connections[at] =
                capacity(max_connections, connections.len(), others).min(if at == 3 { 10 } else { usize::MAX });
        }
        assert_eq!(connections.iter().sum::<usize>(), max_connections);
        assert!(connections[..3].iter().all(|has| *has >= 25) && connections[3] == 10, "{connections:?}");
    }
}
