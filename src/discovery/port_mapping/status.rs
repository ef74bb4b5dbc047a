//! What the router said, for programs and users.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::net::networks::is_private;
use crate::util::atomics::Amount;

/// A protocol of port mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MappingProtocol {
    /// PCP (RFC 6887).
    Pcp,
    /// NAT-PMP (RFC 6886).
    NatPmp,
    /// UPnP Internet Gateway Device, version 1 or 2.
    Upnp,
}

impl fmt::Display for MappingProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MappingProtocol::Pcp => "PCP",
            MappingProtocol::NatPmp => "NAT-PMP",
            MappingProtocol::Upnp => "UPnP",
        })
    }
}

/// Why the router maps no port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MappingFailure {
    /// This system has no gateway, or does not say which.
    #[error("no router is known")]
    NoRouter,
    /// Our address is public, so that no router has to map a port.
    #[error("not needed, because our address is public")]
    PublicAddress,
    /// The router does not answer.
    #[error("the router does not answer")]
    Silent,
    /// It answered, and refused or sent something useless.
    #[error("the router refuses ({protocol}: {reason})")]
    Refused {
        /// The protocol of the answer.
        protocol: MappingProtocol,
        /// Printable.
        reason: String,
    },
}

impl MappingFailure {
    /// Which of two failures tells more.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            MappingFailure::NoRouter | MappingFailure::PublicAddress => 0,
            MappingFailure::Silent => 1,
            MappingFailure::Refused { .. } => 2,
        }
    }
}

/// What has become of the mapping for one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MappingState {
    /// The router has yet to be asked, or to answer.
    Asking,
    /// The router forwards our port.
    Mapped {
        /// How it was asked.
        protocol: MappingProtocol,
        /// The port at which peers reach us; `None` if the router maps only the other one.
        tcp_port: Option<u16>,
        /// The same for UDP, which the DHT uses.
        udp_port: Option<u16>,
        /// The router's address on its other side, if it says; for IPv6 our own.
        external_address: Option<IpAddr>,
    },
    /// It does not. btsync asks again from time to time.
    Failed(MappingFailure),
}

impl MappingState {
    /// The port at which peers reach us.
    pub fn tcp_port(&self) -> Option<u16> {
        if let MappingState::Mapped { tcp_port, .. } = self { *tcp_port } else { None }
    }

    /// The same for UDP.
    pub fn udp_port(&self) -> Option<u16> {
        if let MappingState::Mapped { udp_port, .. } = self { *udp_port } else { None }
    }

    /// The address of the router on its other side, if that is private: another router or the provider translates it once more.
    pub fn private_external_address(&self) -> Option<IpAddr> {
        match self {
            MappingState::Mapped { external_address: Some(ip), .. } if ip.is_ipv4() && is_private(*ip) => Some(*ip),
            _ => None,
        }
    }
}

impl fmt::Display for MappingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MappingState::Asking => f.write_str("asking the router"),
            MappingState::Failed(failure) => failure.fmt(f),
            MappingState::Mapped { protocol, tcp_port, udp_port, .. } => {
                let ports = match (tcp_port, udp_port) {
                    (Some(tcp), Some(udp)) if tcp != udp => format!("TCP port {tcp} and UDP port {udp}"),
                    (Some(tcp), Some(_)) => format!("port {tcp}"),
                    (Some(tcp), None) => format!("TCP port {tcp} only"),
                    (None, udp) => format!("UDP port {} only", udp.unwrap_or_default()),
                };
                write!(f, "the router forwards {ports} ({protocol})")?;
                let private = self.private_external_address();
                private.map_or(Ok(()), |address| write!(f, ", but is itself behind another router at {address}"))
            }
        }
    }
}

/// What has become of asking the router to forward our port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct PortMappingStatus {
    /// The port for IPv4.
    pub ipv4: MappingState,
    /// The opening in the router's firewall for IPv6; `None` if we have no public IPv6 address.
    pub ipv6: Option<MappingState>,
}

impl fmt::Display for PortMappingStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ipv4.fmt(f)?;
        match &self.ipv6 {
            Some(MappingState::Mapped { protocol, .. }) => write!(f, "; it lets IPv6 connections in ({protocol})"),
            _ => Ok(()),
        }
    }
}

/// The status that the thread of port mapping shares with all torrents.
#[derive(Debug, Default)]
pub struct SharedMappingStatus {
    /// Grows with each change.
    version: Amount,
    status: Mutex<Option<PortMappingStatus>>,
    /// Wake the torrents.
    subscribers: Mutex<Vec<(usize, Sender<()>)>>,
    next_number: Amount,
}

impl SharedMappingStatus {
    /// Which change was the last one, to look at [`SharedMappingStatus::get`] only after another.
    pub fn version(&self) -> usize {
        self.version.get()
    }

    /// The status; `None` before the router is asked.
    pub fn get(&self) -> Option<PortMappingStatus> {
        self.status.lock().clone()
    }

    pub(crate) fn set(&self, status: &PortMappingStatus) {
        self.replace(Some(status.clone()));
    }

    /// Port mapping is off now.
    pub(crate) fn clear(&self) {
        self.replace(None);
    }

    fn replace(&self, status: Option<PortMappingStatus>) {
        let is_changed = {
            let mut current = self.status.lock();
            let is_changed = *current != status;
            *current = status;
            is_changed
        };
        if is_changed {
            self.version.add(1);
            // A full channel wakes its torrent anyway.
            for (_, wake) in self.subscribers.lock().iter() {
                let _ = wake.try_send(());
            }
        }
    }
}

/// Tells of changes of the status, until it is dropped.
#[derive(Debug)]
pub struct MappingSubscription {
    shared: Arc<SharedMappingStatus>,
    number: usize,
    /// Has something when the status has changed.
    pub changes: Receiver<()>,
}

impl MappingSubscription {
    /// Subscribes to a status.
    pub fn new(shared: Arc<SharedMappingStatus>) -> MappingSubscription {
        let (wake, changes) = bounded(1);
        let number = shared.next_number.add(1);
        shared.subscribers.lock().push((number, wake));
        MappingSubscription { shared, number, changes }
    }
}

impl Drop for MappingSubscription {
    fn drop(&mut self) {
        self.shared.subscribers.lock().retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_wakes_those_that_are_subscribed() {
        let shared = Arc::new(SharedMappingStatus::default());
        let (one, other) = (MappingSubscription::new(shared.clone()), MappingSubscription::new(shared.clone()));
        let status = PortMappingStatus { ipv4: MappingState::Asking, ipv6: None };
        shared.set(&status);
        shared.set(&status);
        assert_eq!((one.changes.try_iter().count(), other.changes.len(), shared.version()), (1, 1, 1));
        drop(other);
        shared.set(&PortMappingStatus { ipv6: Some(MappingState::Asking), ..status });
        assert_eq!((one.changes.len(), shared.subscribers.lock().len(), shared.version()), (1, 1, 2));
    }

    #[test]
    fn the_words_say_who_does_what() {
        let mapped = |tcp_port, udp_port, address: Option<[u8; 4]>| MappingState::Mapped {
            protocol: MappingProtocol::NatPmp,
            tcp_port,
            udp_port,
            external_address: address.map(IpAddr::from),
        };
        let ipv4 = mapped(Some(6881), Some(6881), Some([8, 8, 8, 8]));
        assert_eq!(ipv4.to_string(), "the router forwards port 6881 (NAT-PMP)");
        let other = mapped(Some(7000), Some(7001), Some([10, 0, 0, 2]));
        let text = "the router forwards TCP port 7000 and UDP port 7001 (NAT-PMP), but is itself behind another router at 10.0.0.2";
        assert_eq!(other.to_string(), text);
        assert_eq!(mapped(Some(1), None, None).to_string(), "the router forwards TCP port 1 only (NAT-PMP)");
        assert_eq!(mapped(None, Some(2), None).to_string(), "the router forwards UDP port 2 only (NAT-PMP)");
        let refused = MappingFailure::Refused { protocol: MappingProtocol::Upnp, reason: "error 606".to_owned() };
        let both =
            PortMappingStatus { ipv4: MappingState::Failed(refused), ipv6: Some(mapped(Some(1), Some(1), None)) };
        assert_eq!(both.to_string(), "the router refuses (UPnP: error 606); it lets IPv6 connections in (NAT-PMP)");
    }
}
