//! When to ask the router for which mapping, and with which protocol. Pure: the caller asks, and reports the answers.
//!
//! One planner is for one address family of one gateway: for IPv4 the router maps an external port to ours, for IPv6 it opens
//! its firewall. The protocols are tried in their order until one is answered with a mapping. Each lease is renewed at half time.

use std::net::IpAddr;
use std::time::Duration;

use crate::discovery::port_mapping::status::{MappingFailure, MappingProtocol, MappingState};

/// How long a mapping should last.
pub const LEASE: Duration = Duration::from_secs(60 * 60);
/// A lease counts as at least and at most this long, whatever the router says, so that no answer makes btsync ask all the time
/// or never again.
const MIN_LEASE: Duration = Duration::from_secs(2 * 60);
const MAX_LEASE: Duration = Duration::from_secs(24 * 60 * 60);
/// The least and the most time between a failed attempt to renew a lease and the next one.
const MIN_RENEWAL_PAUSE: Duration = Duration::from_secs(30);
const MAX_RENEWAL_PAUSE: Duration = Duration::from_secs(15 * 60);
/// The pause after all protocols have failed; doubled each time, up to the second one.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const MAX_PAUSE: Duration = Duration::from_secs(60 * 60);

/// What the router forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappedTransport {
    /// Connections of peers.
    Tcp,
    /// Packets of the DHT.
    Udp,
}

impl MappedTransport {
    /// Both.
    pub const ALL: [MappedTransport; 2] = [MappedTransport::Tcp, MappedTransport::Udp];
}

/// What the router has granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortGrant {
    /// The port at which others reach us.
    pub external_port: u16,
    /// The address at which others reach us, if the router says.
    pub external_address: Option<IpAddr>,
    /// `None`: until it is removed.
    pub lifetime: Option<Duration>,
    /// By which the router knows a pinhole (UPnP).
    pub pinhole: Option<u16>,
}

/// What to ask the router for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingRequest {
    /// How to ask.
    pub protocol: MappingProtocol,
    /// For what.
    pub transport: MappedTransport,
    /// The external port to ask for.
    pub external_port: u16,
    /// The pinhole to renew.
    pub pinhole: Option<u16>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextMappingStep {
    /// Ask this, and report the answer.
    Ask(MappingRequest),
    /// Nothing before this time.
    Wait(Duration),
}

/// A granted mapping.
#[derive(Clone, Copy, Debug)]
struct PortLease {
    grant: PortGrant,
    protocol: MappingProtocol,
    expires: Duration,
}

/// What is known of one transport.
#[derive(Clone, Copy, Debug, Default)]
struct TransportPlan {
    lease: Option<PortLease>,
    /// When to ask next.
    due: Duration,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct LeasePlanner {
    port: u16,
    protocols: &'static [MappingProtocol],
    /// The protocol in use, as an index.
    current: usize,
    plans: [TransportPlan; 2],
    pause: Duration,
    /// Before this time nothing is asked, because everything has failed.
    rests_until: Duration,
    /// The failure that tells most, of the current round and of the last complete one.
    failure: Option<MappingFailure>,
    last_failure: Option<MappingFailure>,
}

impl LeasePlanner {
    /// A planner for our port `port`. It begins at once.
    pub fn new(port: u16, protocols: &'static [MappingProtocol]) -> LeasePlanner {
        LeasePlanner {
            port,
            protocols,
            current: 0,
            plans: [TransportPlan::default(); 2],
            pause: FIRST_PAUSE,
            rests_until: Duration::ZERO,
            failure: None,
            last_failure: None,
        }
    }

    /// What is to be done `now`.
    pub fn next(&mut self, now: Duration) -> NextMappingStep {
        for plan in &mut self.plans {
            // The mapping is gone, and the protocol may be, too.
            if plan.lease.is_some_and(|lease| now >= lease.expires) {
                (plan.lease, plan.due) = (None, now);
            }
        }
        if now < self.rests_until {
            return NextMappingStep::Wait(self.rests_until);
        }
        let Some(&protocol) = self.protocols.get(self.current) else {
            return NextMappingStep::Wait(Duration::MAX);
        };
        for transport in MappedTransport::ALL {
            let plan = self.plan(transport);
            if now >= plan.due {
                let grant = plan.lease.map(|lease| lease.grant);
                let external_port = grant.map_or(self.port, |grant| grant.external_port);
                let pinhole = grant.and_then(|grant| grant.pinhole);
                return NextMappingStep::Ask(MappingRequest { protocol, transport, external_port, pinhole });
            }
        }
        NextMappingStep::Wait(self.plans.iter().map(|plan| plan.due).min().unwrap_or(Duration::MAX))
    }

    /// Whether there is something to ask `now`.
    pub fn is_request_due(&mut self, now: Duration) -> bool {
        matches!(self.next(now), NextMappingStep::Ask(_))
    }

    /// Records the answer to the request of [`LeasePlanner::next`] for this transport.
    pub fn note_answer(
        &mut self,
        now: Duration,
        transport: MappedTransport,
        answer: Result<PortGrant, MappingFailure>,
    ) {
        let Some(&protocol) = self.protocols.get(self.current) else { return };
        match answer {
            Ok(grant) => {
                // The router may lose a mapping without a time limit, too, when it restarts.
                let lifetime = grant.lifetime.unwrap_or(LEASE).clamp(MIN_LEASE, MAX_LEASE);
                let plan = self.plan_mut(transport);
                plan.lease = Some(PortLease { grant, protocol, expires: now + lifetime });
                plan.due = now + lifetime / 2;
                (self.pause, self.failure, self.last_failure) = (FIRST_PAUSE, None, None);
            }
            Err(failure) => self.failed(now, transport, failure),
        }
    }

    fn failed(&mut self, now: Duration, transport: MappedTransport, failure: MappingFailure) {
        let pause = self.pause;
        let plan = self.plan_mut(transport);
        if let Some(lease) = plan.lease {
            // It may still exist. Ask again, more and more often until it ends.
            let left = lease.expires.saturating_sub(now);
            plan.due = now + (left / 2).clamp(MIN_RENEWAL_PAUSE, MAX_RENEWAL_PAUSE);
            return;
        }
        if self.has_lease() {
            // The router speaks this protocol, and has refused only one of the two.
            self.plan_mut(transport).due = now + pause;
            self.pause = (pause * 2).min(MAX_PAUSE);
            return;
        }
        let is_told = self.failure.as_ref().is_some_and(|known| known.rank() >= failure.rank());
        if !is_told {
            self.failure = Some(failure);
        }
        self.current += 1;
        for plan in &mut self.plans {
            plan.due = now;
        }
        if self.current >= self.protocols.len() {
            (self.current, self.last_failure) = (0, self.failure.take());
            self.rests_until = now + self.pause;
            self.pause = (self.pause * 2).min(MAX_PAUSE);
        }
    }

    /// The router has restarted, or the network has changed: everything is asked again, not later than `at`.
    pub fn ask_again(&mut self, at: Duration) {
        (self.rests_until, self.pause) = (self.rests_until.min(at), FIRST_PAUSE);
        for plan in &mut self.plans {
            plan.due = plan.due.min(at);
        }
    }

    /// The mappings that exist, with the protocol that made each.
    pub fn leases(&self) -> impl Iterator<Item = (MappedTransport, MappingProtocol, PortGrant)> + '_ {
        let plans = MappedTransport::ALL.into_iter().map(|transport| (transport, self.plan(transport)));
        plans.filter_map(|(transport, plan)| plan.lease.map(|lease| (transport, lease.protocol, lease.grant)))
    }

    /// What is to be shown.
    pub fn state(&self) -> MappingState {
        let grant = |transport| self.plan(transport).lease.map(|lease| lease.grant);
        let (tcp, udp) = (grant(MappedTransport::Tcp), grant(MappedTransport::Udp));
        if let Some((_, protocol, any)) = self.leases().next() {
            return MappingState::Mapped {
                protocol,
                tcp_port: tcp.map(|grant| grant.external_port),
                udp_port: udp.map(|grant| grant.external_port),
                external_address: any.external_address,
            };
        }
        self.last_failure.clone().map_or(MappingState::Asking, MappingState::Failed)
    }

    fn has_lease(&self) -> bool {
        self.plans.iter().any(|plan| plan.lease.is_some())
    }

    fn plan(&self, transport: MappedTransport) -> &TransportPlan {
        let [tcp, udp] = &self.plans;
        if transport == MappedTransport::Tcp { tcp } else { udp }
    }

    fn plan_mut(&mut self, transport: MappedTransport) -> &mut TransportPlan {
        let [tcp, udp] = &mut self.plans;
        if transport == MappedTransport::Tcp { tcp } else { udp }
    }
}

#[cfg(test)]
mod tests;
