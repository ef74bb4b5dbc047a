use proptest::prelude::*;

use super::*;

fn v4(first: [u8; 4], last: [u8; 4]) -> BlockListLine {
    BlockListLine::Range(AddressRange::V4(u32::from_be_bytes(first), u32::from_be_bytes(last)))
}

fn v6(first: &str, last: &str) -> BlockListLine {
    let bits = |text: &str| text.parse::<Ipv6Addr>().expect("an address").to_bits();
    BlockListLine::Range(AddressRange::V6(bits(first), bits(last)))
}

#[test]
fn p2p_lines() {
    let range = v4([1, 2, 3, 0], [1, 2, 3, 255]);
    for line in [
        "Some organisation:1.2.3.0-1.2.3.255",
        "A:B, Inc. - #1; 9.9.9.9-9.9.9.10:1.2.3.0-1.2.3.255\r\n",
        ":1.2.3.0 - 1.2.3.255",
        "1.2.3.0-1.2.3.255",
    ] {
        assert_eq!(parse(line.as_bytes()), range, "{line}");
    }
    assert_eq!(parse(b"caf\xe9:1.2.3.0-1.2.3.255"), range, "Latin-1");
    let range = v6("2001:db8::", "2001:db8::ff");
    for line in [
        "name:2001:db8::-2001:db8::ff",
        "na:me:2001:db8::-2001:db8::ff",
        "2001:db8::-2001:db8::ff",
        "beef:2001:db8::-2001:db8::ff", // `beef:2001:db8::` is an address, but not one before the last
    ] {
        assert_eq!(parse(line.as_bytes()), range, "{line}");
    }
}

#[test]
fn dat_lines() {
    let range = v4([1, 2, 3, 8], [1, 2, 3, 10]);
    assert_eq!(parse(b"001.002.003.008 - 001.002.003.010 , 000 , Some organisation"), range);
    assert_eq!(parse(b"1.2.3.8-1.2.3.10,127,a, b - c:d"), range);
    assert_eq!(parse(b"001.002.003.008 - 001.002.003.010 , 100"), range);
    assert_eq!(parse(b"001.002.003.008 - 001.002.003.010 , 128 , allowed"), BlockListLine::Nothing);
    assert_eq!(parse(b"2001:db8:: - 2001:db8::1 , 0 , x"), v6("2001:db8::", "2001:db8::1"));
}

#[test]
fn networks_and_addresses() {
    assert_eq!(parse(b"1.2.3.0/24"), v4([1, 2, 3, 0], [1, 2, 3, 255]));
    assert_eq!(parse(b"1.2.3.9/24 ; SBL123"), v4([1, 2, 3, 0], [1, 2, 3, 255]));
    assert_eq!(parse(b"1.2.3.4"), v4([1, 2, 3, 4], [1, 2, 3, 4]));
    assert_eq!(parse(b"1.2.3.4 - 1.2.3.5\t# two"), v4([1, 2, 3, 4], [1, 2, 3, 5]));
    assert_eq!(parse(b"0.0.0.0/0"), v4([0; 4], [255; 4]));
    assert_eq!(parse(b"1.2.3.4/32"), v4([1, 2, 3, 4], [1, 2, 3, 4]));
    assert_eq!(parse(b"2001:db8::/32"), v6("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"));
    assert_eq!(parse(b"::/0"), v6("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
    assert_eq!(parse(b"::1/128"), v6("::1", "::1"));
    assert_eq!(parse(b"::ffff:1.2.3.0/120"), v4([1, 2, 3, 0], [1, 2, 3, 255]));
}

#[test]
fn comments_say_nothing_and_other_lines_are_invalid() {
    for line in ["", "  \r\n", "# List", "; Spamhaus", "// eMule", "#1.2.3.4"] {
        assert_eq!(parse(line.as_bytes()), BlockListLine::Nothing, "{line}");
    }
    for line in [
        "name",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "1.2.3.4/33",
        "::/129",
        "1.2.3.4/",
        "1.2.3.4/x",
        "1.2.3.5-1.2.3.4",
        "1.2.3.4-::1",
        "name:1.2.3.4",
        "0001.2.3.4",
        "1.2.3.-4",
        "<!DOCTYPE html>",
        "1.2.3.4-",
        "fe80::1%eth0",
        "-",
        ":",
        ",",
    ] {
        assert_eq!(parse(line.as_bytes()), BlockListLine::Invalid, "{line}");
    }
}

proptest! {
    #[test]
    fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..80)) {
        parse(&line);
    }

    #[test]
    fn lines_of_address_characters_panic_neither(line in "[0-9a-f:./, -]{0,40}") {
        if let BlockListLine::Range(AddressRange::V4(first, last)) = parse(line.as_bytes()) {
            prop_assert!(first <= last);
        }
    }

    #[test]
    fn each_form_of_a_range_means_the_same(a: u32, b: u32, name in "[a-zA-Z ,;#:-]{0,20}") {
        let (first, last) = (Ipv4Addr::from_bits(a.min(b)), Ipv4Addr::from_bits(a.max(b)));
        let wanted = BlockListLine::Range(AddressRange::V4(a.min(b), a.max(b)));
        let [o, p, q, r] = first.octets();
        prop_assert_eq!(parse(format!("x{name}:{first}-{last}").as_bytes()), wanted);
        prop_assert_eq!(parse(format!("{o:03}.{p:03}.{q:03}.{r:03} - {last} , 0 , {name}").as_bytes()), wanted);
        prop_assert_eq!(parse(format!("{first}-{last}").as_bytes()), wanted);
    }

    #[test]
    fn each_form_of_a_range_of_ipv6_means_the_same(a: u128, b: u128, name in "[g-zG-Z ]{1,20}") {
        let (first, last) = (Ipv6Addr::from_bits(a.min(b)), Ipv6Addr::from_bits(a.max(b)));
        prop_assume!(first.to_ipv4_mapped().is_none() && last.to_ipv4_mapped().is_none());
        let wanted = BlockListLine::Range(AddressRange::V6(a.min(b), a.max(b)));
        prop_assert_eq!(parse(format!("{name}:{first}-{last}").as_bytes()), wanted);
        prop_assert_eq!(parse(format!("{first} - {last} , 0 , {name}").as_bytes()), wanted);
    }
}
