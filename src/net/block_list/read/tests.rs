use std::fmt::Write as _;

use super::*;

const LIST: &str = "\u{feff}# A list\nname:1.2.3.0-1.2.3.255\r\n\n001.002.004.000 - 001.002.004.255 , 000 , x\n2001:db8::/32\nodd line";

fn of(list: &[u8]) -> BlockList {
    read(list).expect("a block list")
}

fn checked(list: &BlockList) {
    assert_eq!((list.ranges.count(), list.invalid, list.first_invalid), (2, 1, 6));
    for (ip, is_in) in
        [("1.2.3.4", true), ("1.2.4.255", true), ("1.2.5.0", false), ("2001:db8::1", true), ("::1", false)]
    {
        assert_eq!(list.ranges.contains(ip.parse().expect("an address")), is_in, "{ip}");
    }
}

#[test]
fn all_forms_may_occur_in_one_list() {
    checked(&of(LIST.as_bytes()));
    assert!(of(b"").ranges.count() + of(b"# nothing\n").ranges.count() == 0);
}

#[cfg(feature = "gzip")]
#[test]
fn lists_may_be_packed_with_gzip_or_zip() {
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(LIST.as_bytes(), flate2::Compression::fast())
        .read_to_end(&mut packed)
        .expect("memory");
    checked(&of(&packed));
    packed.truncate(packed.len() - 12);
    assert!(matches!(read(&packed[..]), Err(BlockListError::Io(_))), "half a list is none");
    let mut deflated = Vec::new();
    flate2::read::DeflateEncoder::new(LIST.as_bytes(), flate2::Compression::fast())
        .read_to_end(&mut deflated)
        .expect("memory");
    let header = &b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0a"[..];
    checked(&of(&[header, &deflated].concat()));
    assert!(matches!(read(&[header, &deflated[..20]].concat()[..]), Err(BlockListError::Io(_))));
}

#[test]
fn another_file_is_refused() {
    for other in ["<!DOCTYPE html>\n<html>\n", "no such list", "# x\n1.2.3.4\na\nb\n"] {
        assert!(matches!(read(other.as_bytes()), Err(BlockListError::UnknownForm { .. })), "{other}");
    }
    assert_eq!(of(b"1.2.3.4\nx").invalid, 1);
}

#[test]
fn a_long_line_is_one_invalid_line() {
    let long = ["1.2.3.4\n", &"x".repeat(300_000), ":1.1.1.1-1.1.1.2\n5.6.7.8"].concat();
    let list = of(long.as_bytes());
    assert_eq!((list.ranges.count(), list.invalid, list.first_invalid), (2, 1, 2));
}

/// Not a measurement: only that the work is not quadratic.
#[test]
fn a_list_of_many_ranges_is_read() {
    let mut text = String::new();
    for n in 0..100_000_u32 {
        let ip = std::net::Ipv4Addr::from_bits(n.wrapping_mul(2_654_435_761) & !1);
        writeln!(text, "Organisation {n}:{ip}-{ip}").expect("memory");
    }
    let list = of(text.as_bytes());
    assert_eq!(list.invalid, 0);
    assert!(list.ranges.contains(std::net::Ipv4Addr::from_bits(0).into()));
}
