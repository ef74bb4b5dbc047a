//! The addresses that btsync neither connects to nor accepts, shared by all threads of a client. The filter is empty until a block
//! list is loaded, and another list may replace it at any time.

use std::net::{IpAddr, SocketAddr};

use parking_lot::RwLock;

use crate::net::block_list::RangeSet;
use crate::util::atomics::{Counter, Flag};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct AddressFilter {
    blocked: RwLock<BlockedAddresses>,
    /// Whether a list was loaded.
    is_on: Flag,
    hits: Counter,
}

#[derive(Debug, Default)]
struct BlockedAddresses {
    ranges: RangeSet,
    /// How often the ranges were replaced.
    version: u64,
}

/// The state of a filter, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct BlockListStats {
    /// The number of ranges; those that overlap or touch count as one.
    pub ranges: usize,
    /// How often an address was refused: to connect to, to accept, to exchange DHT packets with, or to remember as that of a peer.
    pub hits: u64,
}

impl BlockedAddresses {
    /// Returns the former ranges, which take long to drop.
    fn replace(&mut self, ranges: RangeSet) -> RangeSet {
        self.version += 1;
        std::mem::replace(&mut self.ranges, ranges)
    }
}

impl AddressFilter {
    /// Replaces the blocked addresses, unless `is_outdated` is set: then another list is in force, or none is wanted any more. Whoever
    /// sets the flag and then changes the filter has the last word, because both happen one after the other here. Returns whether
    /// the addresses were replaced.
    pub fn set(&self, ranges: RangeSet, is_outdated: &Flag) -> bool {
        let mut blocked = self.blocked.write();
        if is_outdated.is_set() {
            return false;
        }
        let old = blocked.replace(ranges);
        self.is_on.set(true);
        drop(blocked);
        drop(old); // takes long
        true
    }

    /// Blocks nothing any more.
    #[cfg(feature = "service")]
    pub fn clear(&self) {
        let mut blocked = self.blocked.write();
        let old = blocked.replace(RangeSet::default());
        self.is_on.set(false);
        drop(blocked);
        drop(old); // takes long
    }

    /// Whether an address is blocked; counts it if so.
    pub fn count_if_blocked(&self, ip: IpAddr) -> bool {
        let is_blocked = self.is_blocked(ip);
        if is_blocked {
            self.hits.add(1);
        }
        is_blocked
    }

    /// Whether an address is blocked.
    pub fn is_blocked(&self, ip: IpAddr) -> bool {
        self.is_on.is_set() && self.blocked.read().ranges.contains(ip)
    }

    /// The addresses that are not blocked; counts the others.
    pub fn allowed(&self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        addresses.iter().filter(|addr| !self.count_if_blocked(addr.ip())).copied().collect()
    }

    /// A number that changes with the list; 0 before there is one.
    pub fn version(&self) -> u64 {
        self.blocked.read().version
    }

    /// The figures for display; `None` without a block list.
    pub fn stats(&self) -> Option<BlockListStats> {
        let figures = || BlockListStats { ranges: self.blocked.read().ranges.count(), hits: self.hits.get() };
        self.is_on.is_set().then(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::block_list::{AddressRange, RangeSetBuilder};

    fn only(ip: [u8; 4]) -> RangeSet {
        let mut ranges = RangeSetBuilder::default();
        ranges.add(AddressRange::V4(u32::from_be_bytes(ip), u32::from_be_bytes(ip)));
        ranges.build()
    }

    #[test]
    fn a_filter_without_a_list_blocks_nothing() {
        let filter = AddressFilter::default();
        assert!(!filter.count_if_blocked([1, 2, 3, 4].into()));
        assert_eq!((filter.version(), filter.stats()), (0, None));
    }

    #[test]
    fn refusals_are_counted_and_another_list_takes_over() {
        let (filter, is_outdated) = (AddressFilter::default(), Flag::default());
        assert!(filter.set(only([1, 2, 3, 4]), &is_outdated));
        let addresses = [([1, 2, 3, 4], 1).into(), ([1, 2, 3, 5], 1).into()];
        assert_eq!(filter.allowed(&addresses), addresses[1..]);
        assert!(filter.is_blocked([1, 2, 3, 4].into()) && filter.count_if_blocked([1, 2, 3, 4].into()));
        assert_eq!(filter.stats(), Some(BlockListStats { ranges: 1, hits: 2 }));
        assert!(filter.set(only([1, 2, 3, 5]), &is_outdated));
        assert_eq!(filter.allowed(&addresses), addresses[..1]);
        assert_eq!((filter.version(), filter.stats()), (2, Some(BlockListStats { ranges: 1, hits: 3 })));
        filter.clear();
        assert!(!filter.is_blocked([1, 2, 3, 5].into()));
        assert_eq!((filter.version(), filter.stats()), (3, None));
        is_outdated.set(true);
        assert!(!filter.set(only([1, 2, 3, 5]), &is_outdated));
        assert_eq!((filter.version(), filter.stats()), (3, None), "nobody wants that list any more");
    }
}
