//! Sends the router one request, with the protocol that the planner chose.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use socket2::SockRef;

use crate::discovery::port_mapping::epoch::RouterTime;
use crate::discovery::port_mapping::exchange::{DATAGRAM, MAX_DATAGRAMS, RequestFailure, RouterIo, RouterResult};
use crate::discovery::port_mapping::natpmp::{self, NatPmpAnswer, NatPmpContent, ROUTER_PORT};
use crate::discovery::port_mapping::network::RouterPath;
use crate::discovery::port_mapping::pcp::{self, PcpAnswer, PcpContent, PcpMapRequest, PcpNonce};
use crate::discovery::port_mapping::planner::{LEASE, MappingRequest, PortGrant};
use crate::discovery::port_mapping::status::{MappingFailure, MappingProtocol};
use crate::discovery::port_mapping::upnp::description::{RouterService, RouterServices, services};
use crate::discovery::port_mapping::upnp::soap::{
    self, RouterAction, RouterRefusal, external_address, pinhole, reserved_port,
};
use crate::discovery::port_mapping::upnp::{RouterUrl, message, ssdp};
use crate::util::random::Random;

/// How long a search for the router's description takes, when it is repeated, and how long it goes on after the first answer: a
/// router may have several descriptions.
const SEARCH: Duration = Duration::from_millis(2500);
const SEARCH_AGAIN: Duration = Duration::from_millis(800);
const AFTER_FIRST: Duration = Duration::from_millis(400);
/// The most descriptions that are read.
const MAX_DESCRIPTIONS: usize = 6;
/// How many routers a search may pass.
const MULTICAST_TTL: u32 = 2;
/// How often another external port is tried if somebody else has the port.
const OTHER_PORTS: usize = 3;
/// The first of the ports of which another one is chosen.
const FIRST_OTHER_PORT: u16 = 49152;

/// An answer, and the router's clock if the protocol tells it.
pub struct RouterGrant {
    /// What was granted.
    pub grant: PortGrant,
    /// The time on the router's clock.
    pub time: Option<RouterTime>,
}

/// Asks the router.
#[derive(Debug)]
pub struct RouterClient {
    /// Sends and waits.
    pub io: RouterIo,
    /// Our port.
    pub port: u16,
    /// For PCP.
    pub nonce: PcpNonce,
    /// What UPnP found. Kept after a failure, because the mappings of a router that refused one more must be removed.
    pub upnp: Option<UpnpRouter>,
}

/// A router with UPnP.
#[derive(Clone, Debug)]
pub struct UpnpRouter {
    services: RouterServices,
    /// The service that maps ports, and the external address.
    nat: Option<(RouterService, Option<IpAddr>)>,
    /// The last request failed, so search again before the next one: it may be another router by now.
    has_failed: bool,
}

impl RouterClient {
    /// Asks the router at `path` for a mapping. UPnP is found through `ipv4`, for IPv6 too.
    pub fn ask(
        &mut self,
        path: &RouterPath,
        ipv4: Option<&RouterPath>,
        mapping: MappingRequest,
    ) -> RouterResult<RouterGrant> {
        match mapping.protocol {
            MappingProtocol::Pcp => self.ask_pcp(path, mapping),
            MappingProtocol::NatPmp => self.ask_natpmp(path, mapping),
            MappingProtocol::Upnp => {
                let asked = self.ask_upnp(path, ipv4, mapping);
                if let Some(upnp) = &mut self.upnp {
                    upnp.has_failed = asked.is_err();
                }
                asked.map(|grant| RouterGrant { grant, time: None })
            }
        }
    }

    fn ask_pcp(&self, path: &RouterPath, mapping: MappingRequest) -> RouterResult<RouterGrant> {
        let request = self.pcp_request(path, mapping, LEASE);
        let answer = self.io.ask(path, ROUTER_PORT, &request.encode(), |datagram| {
            if pcp::is_from_natpmp_router(datagram) {
                return Some(Err("it speaks only NAT-PMP".to_owned()));
            }
            let PcpAnswer { epoch, content } = pcp::decode(datagram)?;
            match content {
                PcpContent::Mapped { nonce, transport, internal, external, address, lifetime } => {
                    let is_ours = (nonce, transport, internal) == (request.nonce, request.transport, request.internal);
                    let grant = grant(external, Some(address), lifetime);
                    is_ours.then(|| grant.map(|grant| (epoch, grant)).ok_or_else(|| "no port".to_owned()))
                }
                PcpContent::Refused(code, nonce) if nonce.is_none_or(|nonce| nonce == request.nonce) => {
                    Some(Err(pcp::reason(code)))
                }
                PcpContent::Refused(..) | PcpContent::Announce => None,
            }
        })?;
        let (epoch, grant) = answer.map_err(|reason| refused(MappingProtocol::Pcp, reason))?;
        Ok(RouterGrant { grant, time: Some(RouterTime { epoch, is_pcp: true }) })
    }

    /// A request for a mapping; with a lifetime of zero to remove it.
    pub fn pcp_request(&self, path: &RouterPath, mapping: MappingRequest, lifetime: Duration) -> PcpMapRequest {
        let external = if lifetime.is_zero() { 0 } else { mapping.external_port };
        let (client, nonce, transport, internal) = (path.client, self.nonce, mapping.transport, self.port);
        PcpMapRequest { client, nonce, transport, internal, external, lifetime }
    }

    fn ask_natpmp(&self, path: &RouterPath, mapping: MappingRequest) -> RouterResult<RouterGrant> {
        let request = natpmp::map_request(mapping.transport, self.port, mapping.external_port, LEASE);
        let opcode = natpmp::opcode(mapping.transport);
        let answer = self.io.ask(path, ROUTER_PORT, &request, |datagram| {
            let NatPmpAnswer { epoch, content } = natpmp::decode(datagram)?;
            match content {
                NatPmpContent::Mapped { transport, internal, external, lifetime } => {
                    let is_ours = (transport, internal) == (mapping.transport, self.port);
                    let grant = grant(external, None, lifetime);
                    is_ours.then(|| grant.map(|grant| (epoch, grant)).ok_or_else(|| "no port".to_owned()))
                }
                NatPmpContent::Refused(of, code) if of == opcode => Some(Err(natpmp::reason(code))),
                _ => None,
            }
        })?;
        let (epoch, mut grant) = answer.map_err(|reason| refused(MappingProtocol::NatPmp, reason))?;
        let address = self.io.ask(path, ROUTER_PORT, &natpmp::address_request(), |datagram| {
            match natpmp::decode(datagram)?.content {
                NatPmpContent::Address(address) => Some(Some(IpAddr::V4(address))),
                NatPmpContent::Refused(0, _) => Some(None),
                _ => None,
            }
        });
        grant.external_address = match address {
            Err(RequestFailure::Stopped) => None, // the mapping exists, and has to be removed
            address => address.ok().flatten().filter(|address| !address.is_unspecified()),
        };
        Ok(RouterGrant { grant, time: Some(RouterTime { epoch, is_pcp: false }) })
    }

    fn ask_upnp(
        &mut self,
        path: &RouterPath,
        ipv4: Option<&RouterPath>,
        mapping: MappingRequest,
    ) -> RouterResult<PortGrant> {
        let ipv4 = ipv4.ok_or(MappingFailure::Silent)?;
        let upnp = if let Some(known) = self.upnp.clone().filter(|upnp| !upnp.has_failed) {
            known
        } else {
            let found = self.find_upnp(ipv4)?;
            self.upnp.insert(found).clone()
        };
        if path.client.is_ipv6() {
            let service = upnp.services.firewall.as_ref();
            let service = service.ok_or_else(|| upnp_refused("it has no firewall control".to_owned()))?;
            return self.open_firewall(path, ipv4, service, mapping);
        }
        let (service, address) = upnp.nat.as_ref().ok_or_else(|| upnp_refused("it maps no ports".to_owned()))?;
        let grant = self.add_port(path, service, mapping)?;
        Ok(PortGrant { external_address: *address, ..grant })
    }

    /// Has a port mapped: the wanted one, or the one that the router chooses, or others.
    fn add_port(&self, path: &RouterPath, service: &RouterService, mapping: MappingRequest) -> RouterResult<PortGrant> {
        let (transport, client) = (mapping.transport, path.client);
        let (mut external, mut lifetime) = (mapping.external_port, LEASE);
        let (mut may_choose, mut other_ports) = (service.can_choose_port(), OTHER_PORTS);
        // Each round but the last changes something that is changed once, or uses up a port.
        for _ in 0..OTHER_PORTS + 3 {
            let internal = self.port;
            let action = if may_choose {
                RouterAction::AddAnyPort { transport, external, internal, client, lifetime }
            } else {
                RouterAction::AddPort { transport, external, internal, client, lifetime }
            };
            match self.act(path, service, &action)? {
                Ok(body) => {
                    let external_port = if may_choose { reserved_port(&body).unwrap_or(external) } else { external };
                    let lifetime = (!lifetime.is_zero()).then_some(lifetime);
                    return Ok(PortGrant { external_port, external_address: None, lifetime, pinhole: None });
                }
                Err(refusal) if refusal.wants_no_time_limit() && !lifetime.is_zero() => lifetime = Duration::ZERO,
                Err(refusal) if refusal.is_unknown_action() && may_choose => may_choose = false,
                Err(refusal) if refusal.is_conflict() && other_ports > 0 => {
                    other_ports -= 1;
                    let above = Random::system().up_to(u32::from(u16::MAX - FIRST_OTHER_PORT));
                    external = FIRST_OTHER_PORT.saturating_add(u16::try_from(above).unwrap_or(0));
                }
                Err(refusal) => return Err(upnp_refused(refusal.reason)),
            }
        }
        Err(upnp_refused("no port is free".to_owned()))
    }

    /// Opens the firewall for our IPv6 address, or keeps it open.
    fn open_firewall(
        &self,
        path: &RouterPath,
        ipv4: &RouterPath,
        service: &RouterService,
        mapping: MappingRequest,
    ) -> RouterResult<PortGrant> {
        let IpAddr::V6(client) = path.client else { return Err(MappingFailure::NoRouter.into()) };
        let granted = |id| PortGrant {
            external_port: self.port,
            external_address: Some(path.client),
            lifetime: Some(LEASE),
            pinhole: Some(id),
        };
        if let Some(id) = mapping.pinhole {
            match self.act_either(path, ipv4, service, &RouterAction::UpdatePinhole { id, lifetime: LEASE })? {
                Ok(_) => return Ok(granted(id)),
                Err(refusal) if refusal.is_unknown_pinhole() => {}
                Err(refusal) => return Err(upnp_refused(refusal.reason)),
            }
        }
        let (transport, internal, lifetime) = (mapping.transport, self.port, LEASE);
        let action = RouterAction::AddPinhole { transport, internal, client, lifetime };
        let body = self.act_either(path, ipv4, service, &action)?.map_err(|refusal| upnp_refused(refusal.reason))?;
        Ok(granted(pinhole(&body).ok_or_else(|| upnp_refused("it names no pinhole".to_owned()))?))
    }

    /// Sends a request over IPv6, because routers compare its sender with the address in it, and over IPv4 if the router does not
    /// listen there.
    fn act_either(
        &self,
        path: &RouterPath,
        ipv4: &RouterPath,
        service: &RouterService,
        action: &RouterAction,
    ) -> RouterResult<Result<String, RouterRefusal>> {
        match self.act(path, service, action) {
            Err(RequestFailure::Failed(MappingFailure::Silent)) => self.act(ipv4, service, action),
            asked => asked,
        }
    }

    fn act(
        &self,
        path: &RouterPath,
        service: &RouterService,
        action: &RouterAction,
    ) -> RouterResult<Result<String, RouterRefusal>> {
        let answer = self.io.request(path, service.control.port, encoded(path, service, action))?;
        Ok(soap::check_response(answer))
    }

    /// The request that removes a mapping, and the port of the gateway that it is for.
    pub fn upnp_removal(&self, path: &RouterPath, mapping: MappingRequest) -> Option<(u16, Vec<u8>)> {
        let upnp = self.upnp.as_ref()?;
        let (service, action) = if let Some(id) = mapping.pinhole {
            (upnp.services.firewall.as_ref()?, RouterAction::DeletePinhole { id })
        } else {
            let (transport, external) = (mapping.transport, mapping.external_port);
            (&upnp.nat.as_ref()?.0, RouterAction::DeletePort { transport, external })
        };
        Some((service.control.port, encoded(path, service, &action)))
    }

    /// Searches for the router's descriptions, reads them, and chooses the service that has an external address.
    fn find_upnp(&self, path: &RouterPath) -> RouterResult<UpnpRouter> {
        let mut found = RouterServices::default();
        let locations = self.search(path)?;
        for at in &locations {
            let request = message::get(path.router(at.port), at);
            match self.io.request(path, at.port, request) {
                Ok(answer) if answer.status == 200 => found.merge(services(&answer.body, at)),
                Ok(_) | Err(RequestFailure::Failed(_)) => {}
                Err(RequestFailure::Stopped) => return Err(RequestFailure::Stopped),
            }
        }
        if found == RouterServices::default() {
            let failure = if locations.is_empty() {
                MappingFailure::Silent
            } else {
                refused(MappingProtocol::Upnp, "it offers no port mapping".to_owned())
            };
            return Err(failure.into());
        }
        let mut nat = found.nat.first().map(|service| (service.clone(), None));
        for service in &found.nat {
            if let Ok(body) = self.act(path, service, &RouterAction::ExternalAddress)?
                && let Some(address) = external_address(&body)
            {
                nat = Some((service.clone(), Some(address)));
                break;
            }
        }
        Ok(UpnpRouter { services: found, nat, has_failed: false })
    }

    /// Where the router's descriptions are: it is searched for by multicast and directly.
    fn search(&self, path: &RouterPath) -> RouterResult<Vec<RouterUrl>> {
        let IpAddr::V4(client) = path.client else { return Ok(Vec::new()) };
        let socket = self.io.bind.udp(SocketAddr::new(path.client, 0)).map_err(|_| MappingFailure::Silent)?;
        socket.set_nonblocking(true).map_err(|_| MappingFailure::Silent)?;
        // If one of these fails, the direct search remains.
        let _ = socket.set_multicast_ttl_v4(MULTICAST_TTL);
        let _ = SockRef::from(&socket).set_multicast_if_v4(&client);
        let start = Instant::now();
        let (mut end, mut again, mut found) = (start + SEARCH, start, Vec::new());
        let mut left = MAX_DATAGRAMS;
        while Instant::now() < end && found.len() < MAX_DESCRIPTIONS && left > 0 {
            if again <= Instant::now() {
                again = if again == start { start + SEARCH_AGAIN } else { end };
                for search in ssdp::searches() {
                    for to in [SocketAddr::from(ssdp::GROUP), path.router(ssdp::GROUP.1)] {
                        let _ = socket.send_to(search.as_bytes(), to);
                    }
                }
            }
            self.io.wait(&mut vec![PollFd::new(&socket, PollFlags::IN)], again.min(end))?;
            let mut buffer = [0; DATAGRAM];
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                left -= 1;
                let answer = buffer.get(..length).unwrap_or_default();
                if let Some(url) = ssdp::location(answer, from.ip(), path.gateway()).filter(|url| !found.contains(url))
                {
                    found.push(url);
                    end = end.min(Instant::now() + AFTER_FIRST);
                }
            }
        }
        Ok(found)
    }
}

fn encoded(path: &RouterPath, service: &RouterService, action: &RouterAction) -> Vec<u8> {
    let (header, body) = action.encode(service.kind);
    message::post(path.router(service.control.port), &service.control, &header, &body)
}

/// A grant, unless the router names no port or a mapping that is over.
fn grant(external_port: u16, external_address: Option<IpAddr>, lifetime: Duration) -> Option<PortGrant> {
    let is_real = external_port != 0 && !lifetime.is_zero();
    let external_address = external_address.filter(|address| !address.is_unspecified());
    is_real.then_some(PortGrant { external_port, external_address, lifetime: Some(lifetime), pinhole: None })
}

fn refused(protocol: MappingProtocol, reason: String) -> MappingFailure {
    MappingFailure::Refused { protocol, reason }
}

fn upnp_refused(reason: String) -> RequestFailure {
    refused(MappingProtocol::Upnp, reason).into()
}
