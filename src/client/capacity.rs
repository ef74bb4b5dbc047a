//! How many connections the torrents of a client may have: as many as the program wants, as far as there are descriptors.

use crate::client::descriptors;
use crate::util::atomics::Amount;

/// Connections that each torrent may have at least, however many torrents there are, as far as there are descriptors.
const MIN_PEERS_PER_TORRENT: usize = 4;

/// The limit on the connections of all torrents, and their number.
pub(super) struct ConnectionCapacity {
    /// The most connections that the program wants.
    wanted: Amount,
    /// The same, as far as there are descriptors.
    max: Amount,
    /// How many there are descriptors for.
    possible: Amount,
    /// The current number of connections.
    pub(super) connections: Amount,
    /// The number of files that all torrents together may hold open.
    reserved_files: Amount,
    /// Whether connections may use uTP, which needs more descriptors.
    pub(super) uses_utp: bool,
    /// The limit of the last warning about a lack of descriptors.
    warned: Amount,
}

impl ConnectionCapacity {
    /// The program wants at most so many connections.
    pub(super) fn new(wanted: usize, uses_utp: bool) -> ConnectionCapacity {
        ConnectionCapacity {
            wanted: Amount::new(wanted),
            max: Amount::new(wanted),
            possible: Amount::new(wanted),
            connections: Amount::new(0),
            reserved_files: Amount::new(0),
            uses_utp,
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
        let (possible, have) = descriptors::connection_capacity(files, self.uses_utp);
        self.possible.set(possible);
        let capacity = possible.min(wanted);
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
        let others = self.connections.get().saturating_sub(own);
        capacity(self.max.get(), self.possible.get(), torrents, others)
    }
}

/// How many of `max_connections` are open to one of `torrents` while the others have `others`. A torrent with less
/// than its share may take it at any time; those with more then have too many and close some. There are descriptors for `possible`
/// connections: no more than these, unless there are more torrents.
fn capacity(max_connections: usize, possible: usize, torrents: usize, others: usize) -> usize {
    let least = MIN_PEERS_PER_TORRENT.min(max_connections).min((possible / torrents.max(1)).max(1));
    let part = (max_connections / torrents.max(1)).max(least);
    part.max(max_connections.saturating_sub(others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_torrent_has_all_and_several_share() {
        let capacity = |max, torrents, others| capacity(max, 1000, torrents, others);
        assert_eq!(capacity(300, 1, 0), 300);
        assert_eq!(capacity(1, 1, 0), 1, "no more than the user wants");
        assert_eq!(capacity(300, 3, 0), 300, "the others want none");
        assert_eq!(capacity(300, 3, 40), 260, "all that they leave");
        assert_eq!(capacity(300, 3, 300), 100, "an equal part, whatever they have");
        assert_eq!(capacity(20, 10, 20), 4, "nobody starves");
        assert_eq!(capacity(0, 0, 0), 0);
    }

    #[test]
    fn the_least_that_each_torrent_has_is_bounded_by_descriptors() {
        for torrents in [1, 50, 100, 500, 800] {
            let least = capacity(200, 900, torrents, 900);
            assert!(least > 0 && least * torrents <= 900, "{torrents} torrents with {least} connections each");
        }
        assert_eq!((capacity(200, 900, 100, 900), capacity(200, 900, 300, 900)), (4, 3));
        assert_eq!(capacity(1, 1, 1000, 1000), 1);
    }

    /// Each torrent in turn takes what it may, and gives back what is too much.
    #[test]
    fn shared_capacity_is_not_exceeded_for_long() {
        let (max_connections, mut connections) = (100, [0_usize; 4]);
        for turn in 0..100 {
            let at = turn % connections.len();
            let others = connections.iter().sum::<usize>() - connections[at];
            connections[at] =
                capacity(max_connections, 1000, connections.len(), others).min(if at == 3 { 10 } else { usize::MAX });
        }
        assert_eq!(connections.iter().sum::<usize>(), max_connections);
        assert!(connections[..3].iter().all(|has| *has >= 25) && connections[3] == 10, "{connections:?}");
    }
}
