//! Messages of PCP (RFC 6887): mappings of IPv4 ports, and pinholes for IPv6 ports in the router's firewall. Pure.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::discovery::port_mapping::planner::MappedTransport;

const VERSION: u8 = 2;
const ANSWER: u8 = 0x80;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;
/// The lengths of the header and of the MAP part, in bytes.
const HEADER: usize = 24;
const MAP_PART: usize = 36;
/// The largest message (RFC 6887, 7).
const MAX_MESSAGE: usize = 1100;

/// Ties answers to requests, and a mapping to its owner.
pub type PcpNonce = [u8; 12];

/// A request for a mapping. With a lifetime of zero it removes the mapping.
#[derive(Clone, Copy, Debug)]
pub struct PcpMapRequest {
    /// Our address, which must be the source address of the datagram.
    pub client: IpAddr,
    /// The same for all requests about one mapping.
    pub nonce: PcpNonce,
    /// TCP or UDP.
    pub transport: MappedTransport,
    /// Our port.
    pub internal: u16,
    /// The port that the router should use.
    pub external: u16,
    /// How long the mapping should last.
    pub lifetime: Duration,
}

/// An answer of the router, or its announcement that it has restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcpAnswer {
    /// Seconds since the router forgot all mappings.
    pub epoch: u32,
    /// What it answers.
    pub content: PcpContent,
}

/// The content of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PcpContent {
    /// The router has restarted.
    Announce,
    /// A mapping. A lifetime of zero says that it is gone.
    Mapped {
        /// That of the request.
        nonce: PcpNonce,
        /// TCP or UDP.
        transport: MappedTransport,
        /// Our port.
        internal: u16,
        /// The router's port.
        external: u16,
        /// The router's address.
        address: IpAddr,
        /// How long the mapping lasts.
        lifetime: Duration,
    },
    /// The router refuses a mapping: the result code, and the nonce of the request if the answer has it.
    Refused(u8, Option<PcpNonce>),
}

impl PcpMapRequest {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, MAP, 0, 0];
        out.extend(u32::try_from(self.lifetime.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(as_ipv6(self.client).octets());
        out.extend(self.nonce);
        out.extend([protocol(self.transport), 0, 0, 0]);
        out.extend(self.internal.to_be_bytes());
        out.extend(self.external.to_be_bytes());
        // Any external address of the family will do.
        let any = if self.client.is_ipv4() { Ipv6Addr::from_bits(0xffff_0000_0000) } else { Ipv6Addr::UNSPECIFIED };
        out.extend(any.octets());
        out
    }
}

/// PCP writes IPv4 addresses as `::ffff:a.b.c.d`.
fn as_ipv6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn protocol(transport: MappedTransport) -> u8 {
    match transport {
        MappedTransport::Tcp => 6,
        MappedTransport::Udp => 17,
    }
}

/// Whether the datagram is the answer of a router that knows only NAT-PMP: the version of that, "unsupported version", any opcode.
pub fn is_from_natpmp_router(datagram: &[u8]) -> bool {
    matches!(datagram, [0, operation, 0, 1, ..] if operation & ANSWER != 0)
}

/// Reads an answer; `None` if it is none.
pub fn decode(datagram: &[u8]) -> Option<PcpAnswer> {
    if datagram.len() > MAX_MESSAGE {
        return None;
    }
    let [VERSION, operation, _, result, ..] = *datagram else { return None };
    let opcode = operation.checked_sub(ANSWER)?;
    let number = |at: usize| Some(u32::from_be_bytes(*datagram.get(at..)?.first_chunk()?));
    let (lifetime, epoch) = (Duration::from_secs(number(4)?.into()), number(8)?);
    let part = datagram.get(HEADER..)?;
    let content = match (opcode, result) {
        (ANNOUNCE, 0) => PcpContent::Announce,
        (MAP, 0) => mapped(part, lifetime)?,
        (MAP, result) => PcpContent::Refused(result, part.first_chunk().copied()),
        _ => return None,
    };
    Some(PcpAnswer { epoch, content })
}

fn mapped(part: &[u8], lifetime: Duration) -> Option<PcpContent> {
    let part = part.first_chunk::<MAP_PART>()?;
    let transport = match part.get(12)? {
        6 => MappedTransport::Tcp,
        17 => MappedTransport::Udp,
        _ => return None,
    };
    let number = |at: usize| Some(u16::from_be_bytes(*part.get(at..)?.first_chunk()?));
    let address = Ipv6Addr::from(*part.get(20..)?.first_chunk::<16>()?);
    Some(PcpContent::Mapped {
        nonce: *part.first_chunk()?,
        transport,
        internal: number(16)?,
        external: number(18)?,
        address: IpAddr::V6(address).to_canonical(),
        lifetime,
    })
}

/// A result code in words (RFC 6887, 7.4).
pub fn reason(result: u8) -> String {
    let text = match result {
        1 => "unsupported version",
        2 => "not authorized: port mapping may be turned off in the router",
        3 => "malformed request",
        4 => "unsupported operation",
        5 | 6 => "unsupported or malformed option",
        7 => "the router has no network",
        8 => "out of resources",
        9 => "unsupported protocol",
        10 => "too many mappings",
        11 => "the port is not available",
        12 => "address mismatch: there is another router between",
        13 => "too many remote peers",
        other => return format!("error {other}"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(client: &str) -> PcpMapRequest {
        let (transport, lifetime) = (MappedTransport::Tcp, Duration::from_secs(3600));
        let client = client.parse().expect("an address");
        PcpMapRequest { client, nonce: *b"abcdefghijkl", transport, internal: 6881, external: 7000, lifetime }
    }

    /// The answer that grants a request.
    fn granted(request: &PcpMapRequest, address: Ipv6Addr) -> Vec<u8> {
        let mut answer = request.encode();
        answer[1] |= 0x80;
        answer[8..24].copy_from_slice(&[0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        answer[44..].copy_from_slice(&address.octets());
        answer
    }

    #[test]
    fn requests_look_as_the_rfc_says() {
        let bytes = request("192.168.1.7").encode();
        assert_eq!(bytes.len(), HEADER + MAP_PART);
        assert_eq!(bytes[..8], [2, 1, 0, 0, 0, 0, 14, 16]);
        assert_eq!(bytes[8..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 168, 1, 7]);
        assert_eq!(bytes[24..44], *b"abcdefghijkl\x06\0\0\0\x1a\xe1\x1b\x58");
        assert_eq!(bytes[44..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0]);
        assert_eq!(request("fd00::7").encode()[44..], [0; 16]);
    }

    #[test]
    fn answers_are_read() {
        let asked = request("192.168.1.7");
        let answer = granted(&asked, Ipv6Addr::from_bits(0xffff_0908_0706));
        let content = PcpContent::Mapped {
            nonce: asked.nonce,
            transport: MappedTransport::Tcp,
            internal: 6881,
            external: 7000,
            address: [9, 8, 7, 6].into(),
            lifetime: asked.lifetime,
        };
        assert_eq!(decode(&answer), Some(PcpAnswer { epoch: 7, content }));
        for length in 0..answer.len() {
            assert_eq!(decode(&answer[..length]), None, "{length}");
        }
        let mut refused = answer.clone();
        refused[3] = 2;
        let content = PcpContent::Refused(2, Some(asked.nonce));
        assert_eq!(decode(&refused), Some(PcpAnswer { epoch: 7, content }));
        refused.truncate(HEADER);
        assert_eq!(decode(&refused).map(|answer| answer.content), Some(PcpContent::Refused(2, None)));
        let mut announce = answer[..HEADER].to_vec();
        announce[1] = 0x80;
        assert_eq!(decode(&announce), Some(PcpAnswer { epoch: 7, content: PcpContent::Announce }));
        assert_eq!(decode(&asked.encode()), None, "a request is no answer");
        let mut long = answer;
        long.resize(MAX_MESSAGE + 1, 0);
        assert_eq!(decode(&long), None);
    }

    #[test]
    fn a_router_that_knows_only_natpmp_is_recognised() {
        assert!(is_from_natpmp_router(b"\0\x81\0\x01\0\0\0\x05") && is_from_natpmp_router(b"\0\x80\0\x01"));
        assert!(!is_from_natpmp_router(b"\0\x81\0\0\0\0\0\x05") && !is_from_natpmp_router(b"\x02\x81\0\x01"));
        assert!(!is_from_natpmp_router(b""));
    }

    proptest! {
        #[test]
        fn no_datagram_is_a_problem(mut datagram in prop::collection::vec(any::<u8>(), 0..120), is_answer: bool) {
            if is_answer && datagram.len() > 3 {
                (datagram[0], datagram[1], datagram[3]) = (2, 0x81, 0);
            }
            let _ = (decode(&datagram), is_from_natpmp_router(&datagram));
        }
    }
}
