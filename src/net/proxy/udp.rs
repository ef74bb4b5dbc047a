//! Datagrams through a SOCKS 5 proxy (RFC 1928, 7): each has a header with the address of the other end. Pure.

use std::net::SocketAddr;

use crate::net::proxy::socks::{IPV4, IPV6, decode_address, encode_target};
use crate::net::proxy::{ProxyError, ProxyTarget};

/// The largest header of a datagram with an address, in bytes.
pub const MAX_ADDRESS_HEADER: usize = 22;

/// The datagram for the proxy.
///
/// # Errors
/// [`ProxyError::Name`] if the target is a name that is too long.
pub fn wrap(target: &ProxyTarget, data: &[u8]) -> Result<Vec<u8>, ProxyError> {
    // Two reserved bytes, and the number of a fragment: none.
    Ok([&[0, 0, 0][..], &encode_target(target)?, data].concat())
}

/// The sender and the content of a datagram from the proxy; `None` if it is malformed, a fragment, or does not name its sender by an
/// address.
pub fn unwrap(datagram: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let [_, _, 0, kind, rest @ ..] = datagram else { return None };
    let length = match *kind {
        IPV4 => 6,
        IPV6 => 18,
        _ => return None,
    };
    let (address, data) = rest.split_at_checked(length)?;
    Some((decode_address(*kind, address)?, data))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_are_those_of_the_rfc() {
        let data = b"d1:q";
        let v4 = wrap(&ProxyTarget::Addr("1.2.3.4:258".parse().expect("an address")), data).expect("a datagram");
        assert_eq!(v4, [&[0, 0, 0, 1, 1, 2, 3, 4, 1, 2][..], data].concat());
        let named = wrap(&ProxyTarget::Name("t".into(), 258), data).expect("a datagram");
        assert_eq!(named, [&[0, 0, 0, 3, 1, b't', 1, 2][..], data].concat());
        assert!(wrap(&ProxyTarget::Name("t".repeat(256), 1), data).is_err());
        assert_eq!(unwrap(&named), None, "no address");
        assert_eq!(unwrap(&[0, 0, 1, 1, 1, 2, 3, 4, 1, 2]), None, "a fragment");
        for short in 0..10 {
            assert_eq!(unwrap(&v4[..short]), None);
        }
        assert_eq!(unwrap(&v4[..10]), Some(("1.2.3.4:258".parse().expect("an address"), &b""[..])));
    }

    proptest! {
        #[test]
        fn what_is_wrapped_can_be_unwrapped(ip: u128, is_v4: bool, port: u16, data: Vec<u8>) {
            let ip = if is_v4 {
                std::net::Ipv4Addr::from_bits(ip as u32).into()
            } else {
                std::net::IpAddr::from(std::net::Ipv6Addr::from_bits(ip)).to_canonical()
            };
            let addr = SocketAddr::new(ip, port);
            let wrapped = wrap(&ProxyTarget::Addr(addr), &data).expect("a datagram");
            prop_assert!(wrapped.len() <= data.len() + MAX_ADDRESS_HEADER);
            prop_assert_eq!(unwrap(&wrapped), Some((addr, &data[..])));
        }

        #[test]
        fn no_datagram_panics(datagram: Vec<u8>) {
            let _ = unwrap(&datagram);
        }
    }
}
