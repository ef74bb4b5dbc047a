use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn set(ranges: &[AddressRange]) -> RangeSet {
    let mut builder = RangeSetBuilder::default();
    for range in ranges {
        builder.add(*range);
    }
    builder.build()
}

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(number).into()
}

#[test]
fn ranges_that_overlap_or_touch_become_one() {
    let ranges = [(5, 6), (1, 2), (3, 4), (10, 20), (12, 13), (30, 30), (30, 30)];
    let set = set(&ranges.map(|(first, last)| AddressRange::V4(first, last)));
    assert_eq!(set.v4.as_ref(), [(1, 6), (10, 20), (30, 30)]);
    assert_eq!(set.count(), 3);
}

#[test]
fn the_ends_of_the_address_space_belong_to_ranges() {
    let set = set(&[
        AddressRange::V4(u32::MAX, u32::MAX),
        AddressRange::V4(0, 0),
        AddressRange::V4(u32::MAX - 1, u32::MAX),
        AddressRange::V6(u128::MAX, u128::MAX),
    ]);
    assert_eq!(set.count(), 3);
    for (ip, is_in) in [(0, true), (1, false), (u32::MAX - 2, false), (u32::MAX - 1, true), (u32::MAX, true)] {
        assert_eq!(set.contains(v4(ip)), is_in, "{ip}");
    }
    assert!(set.contains(Ipv6Addr::from_bits(u128::MAX).into()) && !set.contains(Ipv6Addr::from_bits(1).into()));
}

#[test]
fn an_address_of_ipv4_is_blocked_in_each_of_its_forms() {
    let set = set(&[AddressRange::V4(0x0101_0101, 0x0101_0101)]);
    for ip in ["1.1.1.1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::1"] {
        assert!(set.contains(ip.parse().expect("an address")), "{ip}");
    }
    for ip in ["1.1.1.2", "2001:db8::1", "64:ff9b::1.1.1.2"] {
        assert!(!set.contains(ip.parse().expect("an address")), "{ip}");
    }
}

#[test]
fn an_empty_set_has_no_address() {
    let set = RangeSet::default();
    assert!(set.count() == 0 && !set.contains(v4(0)) && !set.contains(Ipv6Addr::UNSPECIFIED.into()));
}

#[test]
fn half_a_million_ranges_need_less_than_eight_megabytes() {
    let mut builder = RangeSetBuilder::default();
    for n in 0..500_000 {
        builder.add(AddressRange::V4(n * 8000, n * 8000 + 4000));
    }
    assert!(builder.v4.capacity() * size_of::<(u32, u32)>() <= 8 << 20, "while it is built");
    let set = builder.build();
    assert_eq!(set.count(), 500_000);
    assert!(size_of_val(set.v4.as_ref()) <= 4 << 20);
}

proptest! {
    #[test]
    fn a_set_has_what_one_of_its_ranges_has(
        ranges in proptest::collection::vec((0_u32..300, 0_u32..40), 0..40),
        wide in proptest::collection::vec((0_u128..300, 0_u128..40), 0..40),
    ) {
        let mut all: Vec<_> = ranges.iter().map(|(first, more)| AddressRange::V4(*first, first + more)).collect();
        let base = 1 << 127; // no embedded IPv4 addresses
        all.extend(wide.iter().map(|(first, more)| AddressRange::V6(base + first, base + first + more)));
        let set = set(&all);
        for number in 0..350 {
            let is_in = ranges.iter().any(|(first, more)| (*first..=first + more).contains(&number));
            prop_assert_eq!(set.contains(v4(number)), is_in);
            let number = u128::from(number);
            let is_in = wide.iter().any(|(first, more)| (*first..=first + more).contains(&number));
            prop_assert_eq!(set.contains(Ipv6Addr::from_bits(base + number).into()), is_in);
        }
        prop_assert!(set.v4.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
    }
}
