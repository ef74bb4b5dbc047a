//! Messages of NAT-PMP (RFC 6886). Pure.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::discovery::port_mapping::planner::MappedTransport;

/// The UDP port of the router, also for PCP.
pub const ROUTER_PORT: u16 = 5351;
/// The UDP port on which clients hear that the router has restarted, also for PCP.
pub const ANNOUNCE_PORT: u16 = 5350;
/// The first byte of all messages.
const VERSION: u8 = 0;
/// Added to the opcode of a request in its answer.
const ANSWER: u8 = 0x80;

/// An answer of the router, or its announcement that it has restarted, which is an answer about its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatPmpAnswer {
    /// Seconds since the router forgot all mappings.
    pub epoch: u32,
    /// What it answers.
    pub content: NatPmpContent,
}

/// The content of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatPmpContent {
    /// The router's external address.
    Address(Ipv4Addr),
    /// A mapping. A lifetime of zero says that it is gone.
    Mapped {
        /// TCP or UDP.
        transport: MappedTransport,
        /// Our port.
        internal: u16,
        /// The router's port.
        external: u16,
        /// How long the mapping lasts.
        lifetime: Duration,
    },
    /// The router refuses: the opcode of the request and the result code.
    Refused(u8, u16),
}

/// A request for the external address.
pub fn address_request() -> Vec<u8> {
    vec![VERSION, 0]
}

/// A request for a mapping of `internal`, if possible to `external`. With a lifetime of zero it removes the mapping.
pub fn map_request(transport: MappedTransport, internal: u16, external: u16, lifetime: Duration) -> Vec<u8> {
    let mut out = vec![VERSION, opcode(transport), 0, 0];
    out.extend(internal.to_be_bytes());
    out.extend(external.to_be_bytes());
    out.extend(u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
    out
}

/// The opcode of a request for a mapping.
pub fn opcode(transport: MappedTransport) -> u8 {
    match transport {
        MappedTransport::Udp => 1,
        MappedTransport::Tcp => 2,
    }
}

/// Reads an answer; `None` if it is none.
pub fn decode(datagram: &[u8]) -> Option<NatPmpAnswer> {
    let [VERSION, operation, rest @ ..] = datagram else { return None };
    let opcode = operation.checked_sub(ANSWER)?;
    let (result, rest) = rest.split_first_chunk()?;
    let (epoch, rest) = rest.split_first_chunk()?;
    let (result, epoch) = (u16::from_be_bytes(*result), u32::from_be_bytes(*epoch));
    if result != 0 {
        return Some(NatPmpAnswer { epoch, content: NatPmpContent::Refused(opcode, result) });
    }
    let content = match opcode {
        0 => NatPmpContent::Address(Ipv4Addr::from(*rest.first_chunk::<4>()?)),
        1 | 2 => {
            let transport = if opcode == 1 { MappedTransport::Udp } else { MappedTransport::Tcp };
            let (internal, rest) = rest.split_first_chunk()?;
            let (external, rest) = rest.split_first_chunk()?;
            let lifetime = Duration::from_secs(u32::from_be_bytes(*rest.first_chunk()?).into());
            let (internal, external) = (u16::from_be_bytes(*internal), u16::from_be_bytes(*external));
            NatPmpContent::Mapped { transport, internal, external, lifetime }
        }
        _ => return None,
    };
    Some(NatPmpAnswer { epoch, content })
}

/// A result code in words (RFC 6886, 3.5).
pub fn reason(result: u16) -> String {
    match result {
        1 => "unsupported version".to_owned(),
        2 => "not authorized: port mapping may be turned off in the router".to_owned(),
        3 => "the router has no network".to_owned(),
        4 => "out of resources".to_owned(),
        5 => "unsupported operation".to_owned(),
        other => format!("error {other}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn requests_look_as_the_rfc_says() {
        assert_eq!(address_request(), [0, 0]);
        assert_eq!(map_request(MappedTransport::Udp, 0x1234, 0x5678, HOUR), *b"\0\x01\0\0\x12\x34\x56\x78\0\0\x0e\x10");
        assert_eq!(map_request(MappedTransport::Tcp, 6881, 0, Duration::ZERO)[1], 2);
    }

    #[test]
    fn answers_are_read() {
        let content = |datagram: &[u8]| decode(datagram).map(|answer| (answer.epoch, answer.content));
        let address = NatPmpContent::Address([9, 8, 7, 6].into());
        assert_eq!(content(b"\0\x80\0\0\0\0\0\x05\x09\x08\x07\x06"), Some((5, address)));
        let mapped =
            NatPmpContent::Mapped { transport: MappedTransport::Tcp, internal: 1, external: 2, lifetime: HOUR };
        assert_eq!(content(b"\0\x82\0\0\0\0\0\x05\0\x01\0\x02\0\0\x0e\x10"), Some((5, mapped)));
        assert_eq!(content(b"\0\x81\0\x02\0\0\0\x05"), Some((5, NatPmpContent::Refused(1, 2))));
        for bad in [
            &b""[..],
            b"\0",
            b"\0\x80\0\0\0\0\0",
            b"\x02\x81\0\0\0\0\0\0\0\0\0\0",
            b"\0\x01\0\0\0\0\0\x05",
            b"\0\x80\0\0\0\0\0\x05\x01",
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_datagram_is_a_problem(datagram in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&datagram);
        }

        #[test]
        fn an_answer_in_the_form_of_a_request_is_read_back(internal: u16, external: u16, seconds: u32, is_tcp: bool) {
            let transport = if is_tcp { MappedTransport::Tcp } else { MappedTransport::Udp };
            let lifetime = Duration::from_secs(seconds.into());
            let request = map_request(transport, internal, external, lifetime);
            let mut answer = vec![0, 0x80 | request[1], 0, 0, 0, 0, 0, 9];
            answer.extend(&request[4..]);
            let content = NatPmpContent::Mapped { transport, internal, external, lifetime };
            prop_assert_eq!(decode(&answer), Some(NatPmpAnswer { epoch: 9, content }));
        }
    }
}
