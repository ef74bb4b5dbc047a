//! Asks the router to forward our port (NAT-PMP, PCP, UPnP), so that peers can connect to us. docs/dev/port-mapping.md explains
//! it.
//!
//! [`planner`] decides what to ask when, [`natpmp`], [`pcp`] and [`upnp`] are the messages, and [`epoch`] recognises that the router
//! has restarted: all of this is pure. [`router`], [`removal`] and [`announces`] have the sockets, and this module the thread.

mod announces;
pub mod epoch;
mod exchange;
pub mod natpmp;
mod network;
pub mod pcp;
pub mod planner;
mod removal;
mod router;
pub mod status;
pub mod upnp;

use std::io::{self, PipeWriter};
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags};

use crate::discovery::port_mapping::epoch::RouterClock;
use crate::discovery::port_mapping::exchange::{RequestFailure, RouterIo};
use crate::discovery::port_mapping::network::{RouterPath, RouterPaths, look_up};
use crate::discovery::port_mapping::planner::{LeasePlanner, MappingRequest, NextMappingStep};
use crate::discovery::port_mapping::router::RouterClient;
use crate::discovery::port_mapping::status::{
    MappingFailure, MappingProtocol, MappingState, PortMappingStatus, SharedMappingStatus,
};
use crate::net::bind::Bind;
use crate::net::interfaces::{Interface, InterfaceChanges, interfaces};
use crate::util::random;

/// The protocols for IPv4 and for IPv6, in their order.
const IPV4_PROTOCOLS: &[MappingProtocol] = &[MappingProtocol::Pcp, MappingProtocol::NatPmp, MappingProtocol::Upnp];
const IPV6_PROTOCOLS: &[MappingProtocol] = &[MappingProtocol::Pcp, MappingProtocol::Upnp];
/// How often to look for the gateway: while there is one, and while there is none.
const LOOK_INTERVAL: Duration = Duration::from_secs(10 * 60);
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// The delay after a change of interfaces: changes come in bursts, and the routes follow the addresses.
const SETTLE_DELAY: Duration = Duration::from_secs(2);
/// The least time between two times that everything is asked again because of an announcement or a change.
const ASK_AGAIN_PAUSE: Duration = Duration::from_secs(30);
/// The thread's stack size.
const STACK: usize = 256 * 1024;

/// What to map, and when.
#[derive(Clone, Debug)]
pub struct PortMapperConfig {
    /// Our port, of TCP and UDP.
    pub port: u16,
    /// Where sockets are bound. Only the gateway of that interface is asked.
    pub bind: Bind,
    /// How long to wait before the router is asked.
    pub after: Duration,
    /// Also where our address is public.
    pub is_forced: bool,
}

/// Port mapping that runs. Dropping it removes the mappings, which takes less than a second.
#[derive(Debug)]
pub struct PortMapper {
    /// Dropping it ends the thread.
    stop: Mutex<Option<PipeWriter>>,
    thread: Option<JoinHandle<()>>,
}

impl PortMapper {
    /// Starts a thread that asks the router, and returns at once. `shown` gets what the router says.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(config: PortMapperConfig, shown: Arc<SharedMappingStatus>) -> io::Result<PortMapper> {
        let (stopped, stop) = io::pipe()?;
        let io = RouterIo { bind: config.bind.clone(), stop: Some(stopped) };
        let client = RouterClient { io, port: config.port, nonce: random::bytes(), upnp: None };
        // Subscribe before the first look, so that no change is missed.
        let changes = InterfaceChanges::watch().ok();
        let started = Instant::now();
        let run = MapperThread {
            config,
            client,
            changes,
            interfaces: Vec::new(),
            started,
            shown,
            families: Vec::new(),
            ipv4: Err(MappingFailure::NoRouter),
            ask_again_at: None,
            unanswered: None,
        };
        let thread = Builder::new().name("port-mapping".into()).stack_size(STACK).spawn(move || run.run())?;
        Ok(PortMapper { stop: Mutex::new(Some(stop)), thread: Some(thread) })
    }

    /// Begins to remove the mappings, without waiting for that.
    pub fn begin_stop(&self) {
        self.stop.lock().take();
    }
}

impl Drop for PortMapper {
    fn drop(&mut self) {
        self.begin_stop();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread of port mapping panicked");
        }
    }
}

/// One address family of the gateway.
struct GatewayFamily {
    path: RouterPath,
    planner: LeasePlanner,
    clock: RouterClock,
    /// Hears the router's announcements, if the port is free.
    announces: Option<UdpSocket>,
}

/// The state of the thread.
struct MapperThread {
    config: PortMapperConfig,
    client: RouterClient,
    changes: Option<InterfaceChanges>,
    interfaces: Vec<Interface>,
    started: Instant,
    shown: Arc<SharedMappingStatus>,
    /// At most one for each family.
    families: Vec<GatewayFamily>,
    /// The gateway for IPv4, or why there is none.
    ipv4: Result<RouterPath, MappingFailure>,
    /// When everything is asked again, or was for the last time.
    ask_again_at: Option<Duration>,
    /// The request without an answer, which may have made a mapping.
    unanswered: Option<(RouterPath, MappingRequest)>,
}

impl MapperThread {
    fn run(mut self) {
        let begin = self.started + self.config.after;
        while Instant::now() < begin {
            if self.client.io.wait(&mut Vec::new(), begin).is_err() {
                return;
            }
        }
        self.have_interfaces_changed();
        while self.run_once().is_ok() {}
        // The status stays: trackers must be told `stopped` with the port that they know.
        self.client.io.stop = None;
        let mappings = self.mappings();
        if !mappings.is_empty() {
            let removed = removal::remove(&self.client, &mappings);
            log::debug!("port mapping: the router has removed {removed} of {} mappings", mappings.len());
        }
    }

    /// Looks for the gateway, asks what is due, and sleeps.
    fn run_once(&mut self) -> Result<(), RequestFailure> {
        self.find_gateways();
        self.publish();
        while let Some(family) = self.ask_next()? {
            // Both transports of a family are shown together.
            let now = self.started.elapsed();
            if self.families.get_mut(family).is_some_and(|family| !family.planner.is_request_due(now)) {
                self.publish();
            }
        }
        self.sleep()
    }

    /// Looks whether the gateways are still the same. Mappings of another one are left to expire: we no longer reach it.
    fn find_gateways(&mut self) {
        let RouterPaths { ipv4, ipv6 } = look_up(&self.config.bind, self.config.is_forced);
        if self.ipv4 != ipv4 {
            (self.ipv4, self.client.upnp) = (ipv4, None);
        }
        let paths: Vec<RouterPath> = self.ipv4.iter().copied().chain(ipv6).collect();
        self.families.retain(|family| paths.contains(&family.path));
        for path in paths {
            if self.families.iter().all(|family| family.path != path) {
                let protocols = if path.client.is_ipv4() { IPV4_PROTOCOLS } else { IPV6_PROTOCOLS };
                log::debug!("port mapping: the router is {}", path.gateway());
                self.families.push(GatewayFamily {
                    path,
                    planner: LeasePlanner::new(self.config.port, protocols),
                    clock: RouterClock::default(),
                    announces: announces::listen(&self.config.bind, &path).ok(),
                });
            }
        }
    }

    /// Sends one request that is due. Returns the index of its family.
    fn ask_next(&mut self) -> Result<Option<usize>, RequestFailure> {
        let now = self.started.elapsed();
        for (at, family) in self.families.iter_mut().enumerate() {
            let NextMappingStep::Ask(mapping) = family.planner.next(now) else { continue };
            self.unanswered = Some((family.path, mapping));
            let asked = self.client.ask(&family.path, self.ipv4.as_ref().ok(), mapping);
            let now = self.started.elapsed();
            let (answer, time) = match asked {
                Ok(answer) => (Ok(answer.grant), answer.time),
                Err(RequestFailure::Failed(failure)) => (Err(failure), None),
                Err(RequestFailure::Stopped) => return Err(RequestFailure::Stopped),
            };
            self.unanswered = None;
            let before = family.planner.state();
            log::debug!("port mapping at {}, {mapping:?}: {answer:?}", family.path.gateway());
            family.planner.note_answer(now, mapping.transport, answer);
            let has_restarted = time.is_some_and(|time| family.clock.has_restarted(now, time));
            let state = family.planner.state();
            if state != before {
                log::info!("port mapping: {state}");
            }
            if has_restarted {
                log::info!("port mapping: the router has restarted");
                self.ask_all_again();
            }
            return Ok(Some(at));
        }
        Ok(None)
    }

    /// Sleeps until something is due, the interfaces change, or the router says that it has restarted.
    fn sleep(&mut self) -> Result<(), RequestFailure> {
        let now = self.started.elapsed();
        let look = if self.families.is_empty() { LOOK_AGAIN } else { LOOK_INTERVAL };
        let due = self.families.iter_mut().map(|family| match family.planner.next(now) {
            NextMappingStep::Ask(_) => now,
            NextMappingStep::Wait(until) => until,
        });
        let until = self.started + due.chain([now + look]).min().unwrap_or(now + look);
        let sockets = self.families.iter().filter_map(|family| family.announces.as_ref());
        let mut fds: Vec<PollFd<'_>> = sockets.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        fds.extend(self.changes.as_ref().map(|changes| PollFd::new(changes, PollFlags::IN)));
        self.client.io.wait(&mut fds, until)?;
        drop(fds);
        if self.changes.as_ref().is_some_and(InterfaceChanges::take) {
            let settled = Instant::now() + SETTLE_DELAY;
            self.client.io.wait(&mut Vec::new(), settled)?;
            self.changes.as_ref().map(InterfaceChanges::take);
            if self.have_interfaces_changed() {
                self.ask_all_again();
            }
        }
        let mut has_restarted = false;
        let now = self.started.elapsed();
        for family in &mut self.families {
            let Some(socket) = &family.announces else { continue };
            for time in announces::receive(socket, &family.path) {
                has_restarted |= family.clock.has_restarted(now, time);
            }
        }
        if has_restarted {
            log::info!("port mapping: the router says that it has restarted");
            self.ask_all_again();
        }
        Ok(())
    }

    /// Whether the interfaces or their addresses differ from those at the last call. The kernel also reports renewed lifetimes of
    /// addresses and the scans of wireless interfaces, with which the mappings have nothing to do.
    fn have_interfaces_changed(&mut self) -> bool {
        let before = std::mem::replace(&mut self.interfaces, interfaces().unwrap_or_default());
        before != self.interfaces
    }

    /// Asks everything again, at once or a pause after the last time: anybody in the local network can send an announcement, and the
    /// router's clock may go back in each answer.
    fn ask_all_again(&mut self) {
        let now = self.started.elapsed();
        let at = match self.ask_again_at {
            Some(pending) if pending > now => return,
            last => last.map_or(now, |last| now.max(last + ASK_AGAIN_PAUSE)),
        };
        self.ask_again_at = Some(at);
        self.families.iter_mut().for_each(|family| family.planner.ask_again(at));
    }

    fn publish(&self) {
        let state = |v4: bool| {
            let family = self.families.iter().find(|family| family.path.client.is_ipv4() == v4);
            family.map(|family| family.planner.state())
        };
        let failed = || MappingState::Failed(self.ipv4.clone().err().unwrap_or(MappingFailure::NoRouter));
        let status = PortMappingStatus { ipv4: state(true).unwrap_or_else(failed), ipv6: state(false) };
        self.shown.set(&status);
    }

    /// The mappings to remove.
    fn mappings(&self) -> Vec<(RouterPath, MappingRequest)> {
        let of_family = |family: &GatewayFamily| {
            let path = family.path;
            let request = move |(transport, protocol, grant): (_, _, planner::PortGrant)| {
                let (external_port, pinhole) = (grant.external_port, grant.pinhole);
                (path, MappingRequest { protocol, transport, external_port, pinhole })
            };
            family.planner.leases().map(request).collect::<Vec<_>>()
        };
        // UPnP removes by the external port, which might be somebody else's.
        let unanswered = self.unanswered.filter(|(_, mapping)| mapping.protocol != MappingProtocol::Upnp);
        self.families.iter().flat_map(of_family).chain(unanswered).collect()
    }
}
