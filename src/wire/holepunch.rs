//! The message of the holepunch extension (BEP 55), as payload of an extension message: two peers that accept no connections ask a
//! third one, to which both are connected, to make them dial each other at the same time.

use std::net::SocketAddr;

use crate::wire::compact::{self, V4_LENGTH, V6_LENGTH};

const RENDEZVOUS: u8 = 0;
const CONNECT: u8 = 1;
const ERROR: u8 = 2;
const IPV4: u8 = 0;
const IPV6: u8 = 1;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolePunchMessage {
    /// To the relay: introduce us to the peer at this address.
    Rendezvous(SocketAddr),
    /// From the relay, to both sides: connect to the peer at this address by uTP.
    Connect(SocketAddr),
    /// From the relay: why it cannot introduce us to the peer at this address.
    Failed(SocketAddr, HolePunchError),
}

/// Why a relay does not introduce two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolePunchError {
    /// No peer can have the address.
    NoSuchPeer,
    /// The relay is not connected to the address.
    NotConnected,
    /// The peer at the address does not support the extension.
    NoSupport,
    /// The address is the relay's own.
    NoSelf,
    /// An error that the specification does not have.
    Other(u32),
}

/// The payload is too short, or its type or kind of address is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a holepunch message is malformed")]
pub struct HolePunchFormatError;

impl HolePunchMessage {
    /// Parses a payload. Bytes after the message are ignored. libtorrent leaves the error code out where it has no meaning.
    ///
    /// # Errors
    /// [`HolePunchFormatError`] if the payload is too short, or its type or kind of address is unknown.
    pub fn parse(payload: &[u8]) -> Result<HolePunchMessage, HolePunchFormatError> {
        let (&[kind, family], rest) = payload.split_first_chunk().ok_or(HolePunchFormatError)?;
        let length = match family {
            IPV4 => V4_LENGTH,
            IPV6 => V6_LENGTH,
            _ => return Err(HolePunchFormatError),
        };
        let (addr, rest) = rest.split_at_checked(length).ok_or(HolePunchFormatError)?;
        let addr = match family {
            IPV4 => compact::parse_v4(addr).next(),
            _ => compact::parse_v6(addr).next(),
        };
        let addr = addr.ok_or(HolePunchFormatError)?;
        match kind {
            RENDEZVOUS => Ok(HolePunchMessage::Rendezvous(addr)),
            CONNECT => Ok(HolePunchMessage::Connect(addr)),
            ERROR => {
                let code = rest.first_chunk().ok_or(HolePunchFormatError)?;
                Ok(HolePunchMessage::Failed(addr, HolePunchError::from_code(u32::from_be_bytes(*code))))
            }
            _ => Err(HolePunchFormatError),
        }
    }

    /// Encodes the payload.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, addr, code) = match self {
            HolePunchMessage::Rendezvous(addr) => (RENDEZVOUS, *addr, 0),
            HolePunchMessage::Connect(addr) => (CONNECT, *addr, 0),
            HolePunchMessage::Failed(addr, error) => (ERROR, *addr, error.code()),
        };
        let mut out = vec![kind, if addr.is_ipv4() { IPV4 } else { IPV6 }];
        compact::write_addr(&mut out, addr);
        out.extend_from_slice(&code.to_be_bytes());
        out
    }
}

impl HolePunchError {
    fn code(self) -> u32 {
        match self {
            HolePunchError::NoSuchPeer => 1,
            HolePunchError::NotConnected => 2,
            HolePunchError::NoSupport => 3,
            HolePunchError::NoSelf => 4,
            HolePunchError::Other(code) => code,
        }
    }

    fn from_code(code: u32) -> HolePunchError {
        match code {
            1 => HolePunchError::NoSuchPeer,
            2 => HolePunchError::NotConnected,
            3 => HolePunchError::NoSupport,
            4 => HolePunchError::NoSelf,
            code => HolePunchError::Other(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let four = addr("1.2.3.4:6881");
        let bytes = HolePunchMessage::Rendezvous(four).encode();
        assert_eq!(bytes, [0, 0, 1, 2, 3, 4, 0x1a, 0xe1, 0, 0, 0, 0]);
        assert_eq!(HolePunchMessage::Connect(four).encode()[0], 1);
        let failed = HolePunchMessage::Failed(addr("[2001:db8::1]:5"), HolePunchError::NotConnected).encode();
        assert_eq!((failed.len(), failed.get(..4)), (24, Some(&[2, 1, 0x20, 1][..])));
        assert_eq!(failed.get(18..), Some(&[0, 5, 0, 0, 0, 2][..]));
    }

    #[test]
    fn the_error_code_may_be_absent_only_where_it_has_no_meaning() {
        let (four, error) = (addr("1.2.3.4:6881"), HolePunchError::NoSelf);
        for message in [HolePunchMessage::Rendezvous(four), HolePunchMessage::Connect(four)] {
            assert_eq!(HolePunchMessage::parse(&message.encode()[..8]), Ok(message));
        }
        let failed = HolePunchMessage::Failed(four, error).encode();
        for length in 8..12 {
            assert_eq!(HolePunchMessage::parse(&failed[..length]), Err(HolePunchFormatError));
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        let bytes = HolePunchMessage::Connect(addr("[2001:db8::1]:5")).encode();
        for length in 0..20 {
            assert_eq!(HolePunchMessage::parse(&bytes[..length]), Err(HolePunchFormatError), "{length} bytes");
        }
        for (at, value) in [(0, 3), (0, 255), (1, 2), (1, 255)] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            assert_eq!(HolePunchMessage::parse(&wrong), Err(HolePunchFormatError), "{value} at {at}");
        }
    }

    fn addresses() -> impl Strategy<Value = SocketAddr> {
        // An IPv4-mapped address would come back as IPv4.
        let ip = prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from).prop_filter("mapped", |ip| ip.to_canonical() == *ip),
        ];
        (ip, any::<u16>()).prop_map(SocketAddr::from)
    }

    proptest! {
        #[test]
        fn every_message_comes_back_as_written(addr in addresses(), kind in 0_u8..3, code in any::<u32>(), more in 0_usize..9) {
            let message = match kind {
                0 => HolePunchMessage::Rendezvous(addr),
                1 => HolePunchMessage::Connect(addr),
                _ => HolePunchMessage::Failed(addr, HolePunchError::from_code(code)),
            };
            let mut bytes = message.encode();
            bytes.extend(vec![7; more]);
            prop_assert_eq!(HolePunchMessage::parse(&bytes), Ok(message));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(message) = HolePunchMessage::parse(&bytes) {
                prop_assert_eq!(HolePunchMessage::parse(&message.encode()), Ok(message));
            }
        }
    }
}
