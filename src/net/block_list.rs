//! Block lists: ranges of IP addresses that btsync neither connects to nor accepts. `line` parses one line, `read` a whole list,
//! packed or not. Pure.
//!
//! A list may have a million ranges, so they are two sorted arrays without gaps between their elements: 8 bytes for a range of
//! IPv4 addresses, 32 for one of IPv6.

pub mod line;
pub mod read;

use std::net::IpAddr;

use crate::net::networks::embedded_ipv4;

/// A range of addresses of one family, both ends included; the first is not greater than the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRange {
    /// IPv4 addresses as numbers.
    V4(u32, u32),
    /// IPv6 addresses as numbers.
    V6(u128, u128),
}

/// A set of addresses. The ranges are sorted and do not touch each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

/// Collects ranges in any order.
#[derive(Debug, Default)]
pub struct RangeSetBuilder {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl RangeSetBuilder {
    /// Adds a range.
    pub fn add(&mut self, range: AddressRange) {
        match range {
            AddressRange::V4(first, last) => self.v4.push((first, last)),
            AddressRange::V6(first, last) => self.v6.push((first, last)),
        }
    }

    /// The number of ranges so far, merged or not.
    pub fn count(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Sorts the ranges and merges those that overlap or touch.
    pub fn build(self) -> RangeSet {
        RangeSet { v4: merged(self.v4, |last| last.checked_add(1)), v6: merged(self.v6, |last| last.checked_add(1)) }
    }
}

/// Sorts and merges ranges. `after` is the number after another one, if there is any.
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>, after: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joins = after(kept.1).is_none_or(|after| next.0 <= after);
        if joins {
            kept.1 = kept.1.max(next.1);
        }
        joins
    });
    ranges.into_boxed_slice()
}

impl RangeSet {
    /// Whether the set has the address, or the IPv4 address that a translator or a tunnel forwards its packets to.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => contains(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => {
                contains(&self.v6, ip.to_bits())
                    || embedded_ipv4(ip).into_iter().flatten().any(|ip| contains(&self.v4, ip.to_bits()))
            }
        }
    }

    /// The number of ranges, after merging.
    pub fn count(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

fn contains<T: Copy + Ord>(ranges: &[(T, T)], number: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= number);
    let range = after.checked_sub(1).and_then(|at| ranges.get(at));
    range.is_some_and(|(_, last)| number <= *last)
}

#[cfg(test)]
mod tests;
