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
use crate::discovery::port_mapping::exchange::{AskFailure, RouterIo};
use crate::discovery::port_mapping::network::{RouterPath, RouterPaths, look_up};
use crate::discovery::port_mapping::planner::{LeasePlanner, MappingQuestion, NextMappingStep};
use crate::discovery::port_mapping::router::RouterClient;
use crate::discovery::port_mapping::status::{
    MappingFailure, MappingProtocol, MappingState, PortMappingStatus, SharedMappingStatus,
};
use crate::net::bind::Bind;
use crate::net::interfaces::InterfaceChanges;
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
        let (sides, ipv4, asked_again, unanswered) = (Vec::new(), Err(MappingFailure::NoRouter), None, None);
        let run = MapperThread { config, client, changes, started, shown, sides, ipv4, asked_again, unanswered };
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
struct RouterSide {
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
    started: Instant,
    shown: Arc<SharedMappingStatus>,
    /// At most one for each family.
    sides: Vec<RouterSide>,
    /// The gateway for IPv4, or why there is none.
    ipv4: Result<RouterPath, MappingFailure>,
    /// When everything was last asked again.
    asked_again: Option<Instant>,
    /// The question without an answer, which may have made a mapping.
    unanswered: Option<(RouterPath, MappingQuestion)>,
}

impl MapperThread {
    fn run(mut self) {
        let begin = self.started + self.config.after;
        while Instant::now() < begin {
            if self.client.io.wait(&mut Vec::new(), begin).is_err() {
                return;
            }
        }
        while self.turn().is_ok() {}
        // The status stays: trackers must be told `stopped` with the port that they know.
        self.client.io.stop = None;
        let mappings = self.mappings();
        if !mappings.is_empty() {
            let removed = removal::remove(&self.client, &mappings);
            log::debug!("port mapping: the router has removed {removed} of {} mappings", mappings.len());
        }
    }

    /// Looks for the gateway, asks what is due, and sleeps.
    fn turn(&mut self) -> Result<(), AskFailure> {
        self.look();
        self.publish();
        while let Some(side) = self.ask_next()? {
            // Both transports of a side are shown together.
            let now = self.started.elapsed();
            if self.sides.get_mut(side).is_some_and(|side| !side.planner.has_question(now)) {
                self.publish();
            }
        }
        self.sleep()
    }

    /// Looks whether the gateways are still the same. Mappings of another one are left to expire: we no longer reach it.
    fn look(&mut self) {
        let RouterPaths { ipv4, ipv6 } = look_up(&self.config.bind, self.config.is_forced);
        if self.ipv4 != ipv4 {
            (self.ipv4, self.client.upnp) = (ipv4, None);
        }
        let paths: Vec<RouterPath> = self.ipv4.iter().copied().chain(ipv6).collect();
        self.sides.retain(|side| paths.contains(&side.path));
        for path in paths {
            if self.sides.iter().all(|side| side.path != path) {
                let protocols = if path.client.is_ipv4() { IPV4_PROTOCOLS } else { IPV6_PROTOCOLS };
                log::debug!("port mapping: the router is {}", path.gateway());
                self.sides.push(RouterSide {
                    path,
                    planner: LeasePlanner::new(self.config.port, protocols),
                    clock: RouterClock::default(),
                    announces: announces::listen(&self.config.bind, &path).ok(),
                });
            }
        }
    }

    /// Asks one question that is due. Returns which side it was of.
    fn ask_next(&mut self) -> Result<Option<usize>, AskFailure> {
        let now = self.started.elapsed();
        for (at, side) in self.sides.iter_mut().enumerate() {
            let NextMappingStep::Ask(question) = side.planner.next(now) else { continue };
            self.unanswered = Some((side.path, question));
            let asked = self.client.ask(&side.path, self.ipv4.as_ref().ok(), question);
            let now = self.started.elapsed();
            let (answer, epoch) = match asked {
                Ok(answer) => (Ok(answer.grant), answer.epoch),
                Err(AskFailure::Failed(failure)) => (Err(failure), None),
                Err(AskFailure::Stopped) => return Err(AskFailure::Stopped),
            };
            self.unanswered = None;
            let (before, transport) = (side.planner.state(), question.transport);
            log::debug!("port mapping, {} {transport:?} at {}: {answer:?}", question.protocol, side.path.gateway());
            side.planner.answered(now, transport, answer);
            if epoch.is_some_and(|(epoch, is_pcp)| side.clock.has_restarted(now, epoch, is_pcp)) {
                log::info!("port mapping: the router has restarted");
                side.planner.ask_again(now);
            }
            let state = side.planner.state();
            if state != before {
                log::info!("port mapping: {state}");
            }
            return Ok(Some(at));
        }
        Ok(None)
    }

    /// Sleeps until something is due, the interfaces change, or the router says that it has restarted.
    fn sleep(&mut self) -> Result<(), AskFailure> {
        let now = self.started.elapsed();
        let look = if self.sides.is_empty() { LOOK_AGAIN } else { LOOK_INTERVAL };
        let due = self.sides.iter_mut().map(|side| match side.planner.next(now) {
            NextMappingStep::Ask(_) => now,
            NextMappingStep::Wait(until) => until,
        });
        let until = self.started + due.chain([now + look]).min().unwrap_or(now + look);
        let sockets = self.sides.iter().filter_map(|side| side.announces.as_ref());
        let mut fds: Vec<PollFd<'_>> = sockets.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        fds.extend(self.changes.as_ref().map(|changes| PollFd::new(changes, PollFlags::IN)));
        self.client.io.wait(&mut fds, until)?;
        drop(fds);
        if self.changes.as_ref().is_some_and(InterfaceChanges::take) {
            let settled = Instant::now() + SETTLE_DELAY;
            self.client.io.wait(&mut Vec::new(), settled)?;
            self.changes.as_ref().map(InterfaceChanges::take);
            self.ask_all_again();
        }
        let mut has_restarted = false;
        let now = self.started.elapsed();
        for side in &mut self.sides {
            let Some(socket) = &side.announces else { continue };
            for (epoch, is_pcp) in announces::take(socket, &side.path) {
                has_restarted |= side.clock.has_restarted(now, epoch, is_pcp);
            }
        }
        if has_restarted {
            log::info!("port mapping: the router says that it has restarted");
            self.ask_all_again();
        }
        Ok(())
    }

    /// Asks everything again, but not too often: anybody in the local network can send an announcement.
    fn ask_all_again(&mut self) {
        if self.asked_again.is_some_and(|then| then.elapsed() < ASK_AGAIN_PAUSE) {
            return;
        }
        self.asked_again = Some(Instant::now());
        let now = self.started.elapsed();
        self.sides.iter_mut().for_each(|side| side.planner.ask_again(now));
    }

    fn publish(&self) {
        let state = |v4: bool| {
            let side = self.sides.iter().find(|side| side.path.client.is_ipv4() == v4);
            side.map(|side| side.planner.state())
        };
        let failed = || MappingState::Failed(self.ipv4.clone().err().unwrap_or(MappingFailure::NoRouter));
        let status = PortMappingStatus { ipv4: state(true).unwrap_or_else(failed), ipv6: state(false) };
        self.shown.set(&status);
    }

    /// The mappings to remove.
    fn mappings(&self) -> Vec<(RouterPath, MappingQuestion)> {
        let of_side = |side: &RouterSide| {
            let path = side.path;
            let question = move |(transport, protocol, grant): (_, _, planner::PortGrant)| {
                let (external_port, pinhole) = (grant.external_port, grant.pinhole);
                (path, MappingQuestion { protocol, transport, external_port, pinhole })
            };
            side.planner.leases().map(question).collect::<Vec<_>>()
        };
        // UPnP removes by the external port, which might be somebody else's.
        let unanswered = self.unanswered.filter(|(_, question)| question.protocol != MappingProtocol::Upnp);
        self.sides.iter().flat_map(of_side).chain(unanswered).collect()
    }
}
