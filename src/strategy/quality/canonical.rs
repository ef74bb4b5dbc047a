//! The canonical peer priority (BEP 40), a number for a pair of addresses that both sides compute alike, and CRC-32C, on which it
//! is based.

use std::net::{IpAddr, SocketAddr};

/// The polynomial of CRC-32C (Castagnoli), lowest bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The remainder of each byte value.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
};

/// Computes the CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// How much the peers `a` and `b` should prefer each other (BEP 40); symmetric, and greater is better.
///
/// The BEP has no rule for addresses of different families: the IPv4 address counts as an IPv4-mapped IPv6 address.
pub fn canonical_priority(a: SocketAddr, b: SocketAddr) -> u32 {
    let (one, other) = (a.ip().to_canonical(), b.ip().to_canonical());
    match (one, other) {
        _ if one == other => {
            let (low, high) = (a.port().min(b.port()).to_be_bytes(), a.port().max(b.port()).to_be_bytes());
            crc32c(&[low, high].concat())
        }
        (IpAddr::V4(one), IpAddr::V4(other)) => of_addresses(one.octets(), other.octets(), 2),
        (one, other) => of_addresses(as_v6(one), as_v6(other), 6),
    }
}

fn as_v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The first `whole` bytes count in full; if they are equal, one byte beyond the common prefix counts too. Of the rest, every
/// other bit counts.
fn of_addresses<const N: usize>(mut one: [u8; N], mut other: [u8; N], whole: usize) -> u32 {
    let same = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let whole = if same >= whole { same + 1 } else { whole };
    for byte in one.iter_mut().skip(whole).chain(other.iter_mut().skip(whole)) {
        *byte &= 0x55;
    }
    crc32c(&[one.min(other), one.max(other)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priority(a: &str, b: &str) -> u32 {
        let of = |a: &str, b: &str| canonical_priority(a.parse().expect("address"), b.parse().expect("address"));
        assert_eq!(of(a, b), of(b, a));
        of(a, b)
    }

    #[test]
    fn crc32c_has_the_known_values() {
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa); // RFC 3720, B.4
    }

    #[test]
    fn the_beps_examples() {
        assert_eq!(priority("123.213.32.10:1", "98.76.54.32:2"), 0xec2d_7224);
        assert_eq!(priority("123.213.32.10:1", "123.213.32.234:2"), 0x9956_8189);
        // As IPv4-mapped addresses they give the same result.
        assert_eq!(priority("[::ffff:123.213.32.10]:1", "98.76.54.32:2"), 0xec2d_7224);
    }

    #[test]
    fn masks_hide_bits_beyond_the_first_difference() {
        // Within one /16 the third byte counts in full, and every other bit of the fourth.
        assert_eq!(priority("1.2.3.0:1", "1.2.5.0:1"), priority("1.2.3.170:1", "1.2.5.0:1"));
        assert_ne!(priority("1.2.3.0:1", "1.2.5.0:1"), priority("1.2.1.0:1", "1.2.5.0:1"));
        assert_eq!(priority("1.9.3.0:1", "1.2.5.0:1"), priority("1.9.1.0:1", "1.2.5.0:1"));
        // The same for IPv6 from /48 on.
        assert_eq!(
            priority("[2001:db8:1::]:1", "[2001:db8:2::]:1"),
            priority("[2001:db8:1:aa00::]:1", "[2001:db8:2::]:1")
        );
        assert_ne!(priority("[2001:db8:1::]:1", "[2001:db8:1:100::]:1"), {
            priority("[2001:db8:1:2200::]:1", "[2001:db8:1:100::]:1")
        });
        // For equal addresses the ports decide.
        assert_eq!(priority("1.2.3.4:258", "1.2.3.4:772"), crc32c(&[1, 2, 3, 4]));
    }
}
