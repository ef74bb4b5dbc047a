//! Local discovery (BEP 14): peers of our swarms on this network, by multicast over IPv4 and IPv6. The bytes and what to believe
//! of them are pure, in [`packet`]; here are the sockets and one thread, which sleeps until a datagram comes, an announce is due,
//! an interface comes or goes, or it shall end. Never to be started for a private torrent (BEP 27).
//!
//! Every interface that takes multicast is used, whatever the routes say, and one that comes up later is announced on at once.

pub mod packet;
mod sockets;

use std::collections::{HashMap, HashSet};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, unbounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::net::bind::Bind;
use crate::net::interfaces::{InterfaceChanges, interfaces};
use crate::types::InfoHash;
use crate::util::random;
use packet::{MAX_PACKET, PeerFilter};
use sockets::{Group, JoinedInterface};

/// Between two announces.
const INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The pause after the system failed to tell what came, so that trouble that lasts burns no time.
const RECEIVE_RETRY_DELAY: Duration = Duration::from_millis(50);
/// Datagrams taken from a socket before the other gets its turn.
const MAX_DATAGRAMS_PER_TURN: usize = 64;
/// The delay from a notice that interfaces changed to a look at them: changes come in bursts, and a new address needs a moment.
const INTERFACE_SETTLE_DELAY: Duration = Duration::from_secs(1);
/// On a new interface all is announced once more after so long: a neighbour whose link comes up at the same time may have joined the
/// group too late for the first.
const REANNOUNCE_DELAY: Duration = Duration::from_secs(4);
/// What the thread needs is little.
const STACK: usize = 128 * 1024;

/// Local discovery that runs until [`Lsd::stop`] or until it is dropped.
#[derive(Debug)]
pub struct Lsd {
    /// A byte wakes the thread to hear commands, its end ends it.
    alive: Option<PipeWriter>,
    commands: Sender<LsdCommand>,
    /// Interfaces in use.
    interfaces: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told.
enum LsdCommand {
    Add(InfoHash, PeerSender),
    Remove(InfoHash),
}

/// Where peers of a swarm go.
type PeerSender = Sender<(InfoHash, SocketAddr)>;

impl Lsd {
    /// Announces that we have `swarms` and listen on TCP port `port`, at once and every five minutes, and tells `found` who else
    /// does: 200 peers a minute at most, few of one host, and none that a bounded channel has no room for. Where only one family can be had,
    /// that one has to do. That there is no interface for it yet is no error.
    ///
    /// # Errors
    /// Where no socket can be had for either family, or no thread.
    pub fn start(bind: &Bind, port: u16, swarms: Vec<InfoHash>, found: PeerSender) -> io::Result<Lsd> {
        let groups = sockets::open(bind)?;
        // Before the first look, so that no change is missed. Without notices btsync uses the interfaces that it found at the start.
        let changes =
            InterfaceChanges::watch().inspect_err(|e| log::debug!("local discovery hears of no changes: {e}")).ok();
        let (asleep, alive) = io::pipe()?;
        // Bounded: two commands for each session.
        let (commands, command_receiver) = unbounded();
        let cookie = format!("btsync-{:08x}", random::u32());
        let found = swarms.iter().copied().zip(std::iter::repeat(found)).collect();
        let peer_filter = PeerFilter::new(swarms, cookie.clone());
        let interfaces = Arc::new(AtomicUsize::new(0));
        let counted = interfaces.clone();
        let bind = bind.clone();
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
        };
        let thread = thread::Builder::new().name("lsd".into()).stack_size(STACK).spawn(move || runner.run(&asleep))?;
        Ok(Lsd { alive: Some(alive), commands, interfaces, thread: Some(thread) })
    }

    /// Announces `swarm`, too, at once and with the others from then on, and tells `found` who else has it, until
    /// [`Lsd::remove`] or until nobody receives there.
    pub fn add(&self, swarm: InfoHash, found: Sender<(InfoHash, SocketAddr)>) {
        self.send_command(LsdCommand::Add(swarm, found));
    }

    /// Neither announces `swarm` nor listens for its peers any more.
    pub fn remove(&self, swarm: InfoHash) {
        self.send_command(LsdCommand::Remove(swarm));
    }

    /// How many interfaces it uses now.
    pub fn interfaces(&self) -> usize {
        self.interfaces.load(Ordering::Relaxed)
    }

    fn send_command(&self, command: LsdCommand) {
        // Both fail only where the thread is gone.
        let _ = self.commands.send(command);
        if let Some(mut alive) = self.alive.as_ref() {
            let _ = alive.write(&[0]);
        }
    }

    /// Ends it and waits for its thread, which is awake at once.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.alive.take());
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

/// What the thread has.
struct LsdThread {
    bind: Bind,
    groups: Vec<Group>,
    /// Notices of changes to interfaces, if the system sends them.
    changes: Option<InterfaceChanges>,
    interfaces: Arc<AtomicUsize>,
    port: u16,
    cookie: String,
    peer_filter: PeerFilter,
    /// By swarm.
    found: HashMap<InfoHash, PeerSender>,
    command_receiver: Receiver<LsdCommand>,
}

impl LsdThread {
    /// Until the pipe's other end is gone.
    fn run(mut self, mut asleep: &PipeReader) {
        let start = Instant::now();
        // When to announce to all, and once more, and when to look at the interfaces.
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
            let mut fds = vec![PollFd::new(asleep, PollFlags::IN)];
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
                if !matches!(asleep.read(&mut [0; 64]), Ok(1..)) {
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

    /// Joins the groups on interfaces that are new, and announces there; whether there were any.
    fn join_new_interfaces(&mut self) -> bool {
        let all = interfaces().inspect_err(|e| log::debug!("local discovery knows no interfaces: {e}")).ok();
        let (mut indexes, mut any) = (HashSet::new(), false);
        for group in &mut self.groups {
            let new = group.use_interfaces(&self.bind, all.as_deref());
            any |= !new.is_empty();
            send(group, &new, self.port, self.peer_filter.swarms(), &self.cookie);
            indexes.extend(group.places().iter().map(|place| place.index));
        }
        self.interfaces.store(indexes.len(), Ordering::Relaxed);
        any
    }

    /// Carries out all commands that wait.
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
            send(group, group.places(), self.port, swarms, &self.cookie);
        }
    }

    /// Takes what has come.
    fn receive(&mut self, now: Duration) {
        let mut buffer = [0; MAX_PACKET];
        let mut deaf = Vec::new();
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
                for heard in self.peer_filter.receive(now, from, buffer.get(..length).unwrap_or_default()) {
                    // Whoever stops us may be the one who would have to take them.
                    let sent = self.found.get(&heard.0).map(|found| found.try_send(heard));
                    if let Some(Err(TrySendError::Disconnected((swarm, _)))) = sent {
                        deaf.push(swarm);
                    }
                }
            }
        }
        for swarm in deaf {
            self.remove(swarm);
        }
    }
}

/// Announces swarms in some places of a group.
fn send(group: &Group, places: &[JoinedInterface], port: u16, swarms: &[InfoHash], cookie: &str) {
    for datagram in packet::announces(group.addr(), port, swarms, cookie) {
        for place in places {
            if let Err(error) = group.send(place, &datagram) {
                log::debug!("local discovery, to {} on interface {}: {error}", group.addr(), place.index);
            }
        }
    }
}
