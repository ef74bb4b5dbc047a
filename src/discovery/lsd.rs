//! Local discovery (BEP 14, *local service discovery*): finds peers of the same torrents on the local network, by multicast.
//! [`packet`] parses datagrams and [`peer_filter`] filters them, without I/O. This module has the sockets and one thread, which
//! sleeps until a datagram arrives, an announce is due, an interface changes, or it must exit. The caller must not add private
//! torrents (BEP 27).
//!
//! It uses every interface with multicast, whatever the routing table says, and announces at once on an interface that comes up
//! later.

pub mod packet;
pub mod peer_filter;
mod sockets;

use std::collections::{HashMap, HashSet};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, unbounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::discovery::DormantTorrentsCell;
use crate::net::bind::Bind;
use crate::net::interfaces::{InterfaceChanges, interfaces};
use crate::types::InfoHash;
use crate::util::atomics::Amount;
use crate::util::random;
use packet::MAX_PACKET;
use peer_filter::PeerFilter;
use sockets::{Group, JoinedInterface};

/// The time between two announces.
const INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The pause after a receive error, so that a persistent error does not cause a busy loop.
const RECEIVE_RETRY_DELAY: Duration = Duration::from_millis(50);
/// The most datagrams received from one socket before the next socket is served.
const MAX_DATAGRAMS_PER_TURN: usize = 64;
/// The delay between a change of interfaces and the next look at them: changes come in bursts, and a new address needs a moment
/// to become usable.
const INTERFACE_SETTLE_DELAY: Duration = Duration::from_secs(1);
/// After joining a new interface, everything is announced again after this delay. A peer whose link came up at the same time may
/// have joined the multicast group too late for the first announce.
const REANNOUNCE_DELAY: Duration = Duration::from_secs(4);
/// The thread's stack size; it needs little.
const STACK: usize = 128 * 1024;

/// Running local discovery; stops when dropped.
#[derive(Debug)]
pub struct Lsd {
    /// A byte written here wakes the thread to run commands. Dropping it stops the thread.
    wake_sender: Option<PipeWriter>,
    commands: Sender<LsdCommand>,
    /// The number of interfaces in use.
    interfaces: Arc<Amount>,
    dormant: DormantTorrentsCell,
    thread: Option<JoinHandle<()>>,
}

/// A command for the thread.
enum LsdCommand {
    Add(InfoHash, PeerSender),
    Remove(InfoHash),
}

/// Receives the peers found for a swarm.
type PeerSender = Sender<(InfoHash, SocketAddr)>;

impl Lsd {
    /// Announces `swarms` with TCP port `port`, at once and every five minutes, and sends peers of these swarms to `found`:
    /// a few hundred a minute at most (see [`peer_filter`]). Drops a peer if the channel is full. If sockets for only one
    /// address family are available, uses that one. It is not an error if there is no interface yet.
    ///
    /// # Errors
    /// If no socket is available for either family, or no thread can be started.
    pub fn start(bind: &Bind, port: u16, swarms: Vec<InfoHash>, found: PeerSender) -> io::Result<Lsd> {
        let groups = sockets::open(bind)?;
        // Watch before listing the interfaces, so that no change is missed. Without change notices, btsync lists interfaces again
        // only when an announce is due.
        let changes = InterfaceChanges::watch()
            .inspect_err(|e| log::debug!("local discovery is not notified of interface changes: {e}"))
            .ok();
        let (wake_receiver, wake_sender) = io::pipe()?;
        // Bounded: each torrent sends two commands.
        let (commands, command_receiver) = unbounded();
        let cookie = format!("btsync-{:08x}", random::u32());
        let found = swarms.iter().copied().zip(std::iter::repeat(found)).collect();
        let peer_filter = PeerFilter::new(swarms, cookie.clone(), random::u64());
        let interfaces = Arc::new(Amount::default());
        let counted = interfaces.clone();
        let (bind, dormant) = (bind.clone(), DormantTorrentsCell::default());
        let runner = LsdThread {
            bind,
            groups,
            changes,
            interfaces: counted,
            port,
            cookie,
            peer_filter,
            found,
            command_receiver,
            dormant: dormant.clone(),
        };
        let thread =
            thread::Builder::new().name("lsd".into()).stack_size(STACK).spawn(move || runner.run(&wake_receiver))?;
        Ok(Lsd { wake_sender: Some(wake_sender), commands, interfaces, dormant, thread: Some(thread) })
    }

    /// Announces `swarm` as well, at once and then with the others, and sends its peers to `found`, until [`Lsd::remove`] is
    /// called or the receiver is dropped.
    pub fn add(&self, swarm: InfoHash, found: Sender<(InfoHash, SocketAddr)>) {
        self.send_command(LsdCommand::Add(swarm, found));
    }

    /// Stops announcing `swarm` and reporting its peers.
    pub fn remove(&self, swarm: InfoHash) {
        self.send_command(LsdCommand::Remove(swarm));
    }

    /// Where peers of torrents that are not announced are reported.
    pub(crate) fn dormant(&self) -> &DormantTorrentsCell {
        &self.dormant
    }

    /// The number of interfaces in use.
    pub fn interfaces(&self) -> usize {
        self.interfaces.get()
    }

    fn send_command(&self, command: LsdCommand) {
        // Both fail only if the thread has exited.
        let _ = self.commands.send(command);
        if let Some(mut wake_sender) = self.wake_sender.as_ref() {
            let _ = wake_sender.write(&[0]);
        }
    }

    /// Stops discovery and waits for the thread, which wakes at once.
    #[cfg(any(test, feature = "internals"))]
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.wake_sender.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("local discovery's thread panicked");
        }
    }
}

impl Drop for Lsd {
    fn drop(&mut self) {
        self.end();
    }
}

/// The state of the thread.
struct LsdThread {
    bind: Bind,
    groups: Vec<Group>,
    /// Notices of interface changes, if the system provides them.
    changes: Option<InterfaceChanges>,
    interfaces: Arc<Amount>,
    port: u16,
    cookie: String,
    peer_filter: PeerFilter,
    /// The receivers of peers, by swarm.
    found: HashMap<InfoHash, PeerSender>,
    command_receiver: Receiver<LsdCommand>,
    dormant: DormantTorrentsCell,
}

impl LsdThread {
    /// Runs until the other end of the pipe is closed.
    fn run(mut self, mut wake_receiver: &PipeReader) {
        let start = Instant::now();
        // The times of the next regular announce, of its repetition after an interface came up, and of the next look at the
        // interfaces.
        let (mut due, mut again, mut look) = (INTERVAL, None, Some(Duration::ZERO));
        loop {
            let now = start.elapsed();
            if look.is_some_and(|look| now >= look) {
                look = None;
                if self.join_new_interfaces() {
                    again = Some(now + REANNOUNCE_DELAY);
                }
            }
            if again.is_some_and(|again| now >= again) {
                again = None;
                self.announce(self.peer_filter.swarms());
            }
            if now >= due {
                due = now + INTERVAL;
                self.join_new_interfaces();
                self.announce(self.peer_filter.swarms());
            }
            let wake = [Some(due), again, look].into_iter().flatten().min().unwrap_or(due);
            let mut fds = vec![PollFd::new(wake_receiver, PollFlags::IN)];
            fds.extend(self.changes.as_ref().map(|changes| PollFd::new(changes, PollFlags::IN)));
            fds.extend(self.groups.iter().map(|group| PollFd::new(group.socket(), PollFlags::IN)));
            let timeout = Timespec::try_from(wake.saturating_sub(start.elapsed())).ok();
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    log::warn!("local discovery ends: {error}");
                    return;
                }
            }
            let woken = fds.first().is_some_and(|fd| !fd.revents().is_empty());
            drop(fds);
            if woken {
                if !matches!(wake_receiver.read(&mut [0; 64]), Ok(1..)) {
                    return;
                }
                self.run_commands();
            }
            if self.changes.as_ref().is_some_and(InterfaceChanges::take) {
                look = look.or(Some(start.elapsed() + INTERFACE_SETTLE_DELAY));
            }
            self.receive(start.elapsed());
        }
    }

    /// Joins the groups on new interfaces and announces there. Returns whether there were any.
    fn join_new_interfaces(&mut self) -> bool {
        let all = interfaces().inspect_err(|e| log::debug!("local discovery cannot list the interfaces: {e}")).ok();
        let (mut indexes, mut own, mut any) = (HashSet::new(), Vec::new(), false);
        for group in &mut self.groups {
            let new = group.use_interfaces(&self.bind, all.as_deref());
            any |= !new.is_empty();
            send(group, &new, self.port, self.peer_filter.swarms(), &self.cookie);
            indexes.extend(group.joined().iter().map(|place| place.index));
            own.extend(group.joined().iter().map(|place| place.source));
        }
        self.interfaces.set(indexes.len());
        self.peer_filter.set_own_addresses(own.into_iter());
        any
    }

    /// Runs all queued commands.
    fn run_commands(&mut self) {
        while let Ok(command) = self.command_receiver.try_recv() {
            match command {
                LsdCommand::Add(swarm, found) => {
                    self.peer_filter.add(swarm);
                    self.found.insert(swarm, found);
                    self.announce(&[swarm]);
                }
                LsdCommand::Remove(swarm) => self.remove(swarm),
            }
        }
    }

    fn remove(&mut self, swarm: InfoHash) {
        self.peer_filter.remove(swarm);
        self.found.remove(&swarm);
    }

    fn announce(&self, swarms: &[InfoHash]) {
        for group in &self.groups {
            send(group, group.joined(), self.port, swarms, &self.cookie);
        }
    }

    /// Receives all queued datagrams.
    fn receive(&mut self, now: Duration) {
        let mut buffer = [0; MAX_PACKET];
        let mut disconnected = Vec::new();
        for group in &self.groups {
            for _ in 0..MAX_DATAGRAMS_PER_TURN {
                let (length, from) = match group.socket().recv_from(&mut buffer) {
                    Ok(received) => received,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => {
                        log::debug!("local discovery: {e}");
                        thread::sleep(RECEIVE_RETRY_DELAY);
                        break;
                    }
                };
                let datagram = buffer.get(..length).unwrap_or_default();
                let dormant = self.dormant.get();
                let is_dormant = |swarm: InfoHash| dormant.is_some_and(|dormant| dormant.has(swarm));
                for found_peer in self.peer_filter.receive_for(now, from, datagram, is_dormant) {
                    if let (false, Some(dormant)) = (self.found.contains_key(&found_peer.0), dormant) {
                        dormant.found_by_lsd(found_peer.0, found_peer.1);
                        continue;
                    }
                    // Do not block: the receiver may be the thread that waits for this one to exit.
                    let sent = self.found.get(&found_peer.0).map(|found| found.try_send(found_peer));
                    if let Some(Err(TrySendError::Disconnected((swarm, _)))) = sent {
                        disconnected.push(swarm);
                    }
                }
            }
        }
        for swarm in disconnected {
            self.remove(swarm);
        }
    }
}

/// Announces swarms to a group on some interfaces.
fn send(group: &Group, interfaces: &[JoinedInterface], port: u16, swarms: &[InfoHash], cookie: &str) {
    for datagram in packet::announces(group.addr(), port, swarms, cookie) {
        for interface in interfaces {
            if let Err(error) = group.send(interface, &datagram) {
                log::debug!("local discovery, to {} on interface {}: {error}", group.addr(), interface.index);
            }
        }
    }
}
