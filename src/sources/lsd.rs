//! Local discovery (BEP 14): peers of our swarms on this network, by multicast over IPv4 and IPv6. The bytes and what to believe
//! of them are pure, in [`packet`]; here are the sockets and one thread, which sleeps until a datagram comes, an announce is due or
//! it shall end. Never to be started for a private torrent (BEP 27).

pub mod packet;

use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, unbounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, InterfaceIndexOrAddress, SockAddr, Socket, Type};

use crate::bind::Bind;
use crate::types::InfoHash;
use packet::{Hearing, MAX_PACKET};

/// Where IPv4 announces go.
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 152, 143);
/// Where IPv6 announces go.
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f);
/// The port of both.
const PORT: u16 = 6771;
/// Between two announces.
const INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The pause after the system failed to tell what came, so that trouble that lasts burns no time.
const BREATHER: Duration = Duration::from_millis(50);
/// Datagrams taken from a socket before the other gets its turn.
const MAX_IN_A_ROW: usize = 64;
/// What the thread needs is little.
const STACK: usize = 128 * 1024;

/// Local discovery that runs until [`Lsd::stop`] or until it is dropped.
#[derive(Debug)]
pub struct Lsd {
    /// A byte wakes the thread to hear commands, its end ends it.
    alive: Option<PipeWriter>,
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told.
enum Command {
    Add(InfoHash, Found),
    Remove(InfoHash),
}

/// Where peers of a swarm go.
type Found = Sender<(InfoHash, SocketAddr)>;

/// The socket of one family and the group it talks to.
struct Group {
    socket: UdpSocket,
    addr: SocketAddr,
}

impl Lsd {
    /// Announces that we have `swarms` and listen on TCP port `port`, at once and every five minutes, and tells `found` who else
    /// does: 200 peers a minute at most, and none that a bounded channel has no room for. Where only one family can be had,
    /// that one has to do.
    ///
    /// # Errors
    /// Where no socket can be had for either family, or no thread.
    pub fn start(bind: &Bind, port: u16, swarms: Vec<InfoHash>, found: Found) -> io::Result<Lsd> {
        let groups = open(bind)?;
        let (asleep, alive) = io::pipe()?;
        let (commands, told) = unbounded();
        let cookie = format!("btsync-{:08x}", fastrand::u32(..));
        let found = swarms.iter().copied().zip(std::iter::repeat(found)).collect();
        let hearing = Hearing::new(swarms, cookie.clone());
        let runner = Runner { groups, port, cookie, hearing, found, told };
        let thread = thread::Builder::new().name("lsd".into()).stack_size(STACK).spawn(move || runner.run(&asleep))?;
        Ok(Lsd { alive: Some(alive), commands, thread: Some(thread) })
    }

    /// Announces `swarm`, too, at once and with the others from then on, and tells `found` who else has it, until
    /// [`Lsd::remove`] or until nobody receives there.
    pub fn add(&self, swarm: InfoHash, found: Sender<(InfoHash, SocketAddr)>) {
        self.tell(Command::Add(swarm, found));
    }

    /// Neither announces `swarm` nor listens for its peers any more.
    pub fn remove(&self, swarm: InfoHash) {
        self.tell(Command::Remove(swarm));
    }

    fn tell(&self, command: Command) {
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
struct Runner {
    groups: Vec<Group>,
    port: u16,
    cookie: String,
    hearing: Hearing,
    /// By swarm.
    found: HashMap<InfoHash, Found>,
    told: Receiver<Command>,
}

impl Runner {
    /// Until the pipe's other end is gone.
    fn run(mut self, mut asleep: &PipeReader) {
        let start = Instant::now();
        let mut due = Duration::ZERO;
        loop {
            let now = start.elapsed();
            if now >= due {
                self.announce(self.hearing.swarms());
                due = now + INTERVAL;
            }
            let mut fds = vec![PollFd::new(asleep, PollFlags::IN)];
            fds.extend(self.groups.iter().map(|group| PollFd::new(&group.socket, PollFlags::IN)));
            let timeout = Timespec::try_from(due.saturating_sub(start.elapsed())).ok();
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
                self.obey();
            }
            self.hear(start.elapsed());
        }
    }

    /// Carries out all commands that wait.
    fn obey(&mut self) {
        while let Ok(command) = self.told.try_recv() {
            match command {
                Command::Add(swarm, found) => {
                    self.hearing.add(swarm);
                    self.found.insert(swarm, found);
                    self.announce(&[swarm]);
                }
                Command::Remove(swarm) => self.remove(swarm),
            }
        }
    }

    fn remove(&mut self, swarm: InfoHash) {
        self.hearing.remove(swarm);
        self.found.remove(&swarm);
    }

    fn announce(&self, swarms: &[InfoHash]) {
        for group in &self.groups {
            for datagram in packet::announces(group.addr, self.port, swarms, &self.cookie) {
                if let Err(error) = group.socket.send_to(&datagram, group.addr) {
                    log::debug!("local discovery, to {}: {error}", group.addr);
                }
            }
        }
    }

    /// Takes what has come.
    fn hear(&mut self, now: Duration) {
        let mut buffer = [0; MAX_PACKET];
        let mut deaf = Vec::new();
        for group in &self.groups {
            for _ in 0..MAX_IN_A_ROW {
                let (length, from) = match group.socket.recv_from(&mut buffer) {
                    Ok(received) => received,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => {
                        log::debug!("local discovery: {e}");
                        thread::sleep(BREATHER);
                        break;
                    }
                };
                for heard in self.hearing.hear(now, from, buffer.get(..length).unwrap_or_default()) {
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

/// The groups that this machine can join.
fn open(bind: &Bind) -> io::Result<Vec<Group>> {
    let joined = [join(SocketAddr::from((GROUP_V4, PORT)), bind), join(SocketAddr::from((GROUP_V6, PORT)), bind)];
    let (groups, errors): (Vec<_>, Vec<_>) = joined.into_iter().partition(Result::is_ok);
    let mut errors = errors.into_iter().filter_map(Result::err);
    match errors.next() {
        Some(error) if groups.is_empty() => Err(error),
        error => {
            if let Some(error) = error {
                log::debug!("local discovery has one family only: {error}");
            }
            Ok(groups.into_iter().flatten().collect())
        }
    }
}

/// A socket in the group, beside those of other programs.
fn join(addr: SocketAddr, bind: &Bind) -> io::Result<Group> {
    let source = bind.source(addr)?;
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    bind.tie(&socket)?;
    // Bound to the group itself, it hears what was sent to the group and nothing that a stranger from far away sends to us.
    match addr {
        SocketAddr::V4(_) => {
            socket.bind(&SockAddr::from(addr))?;
            let IpAddr::V4(source) = source else { return Err(io::ErrorKind::AddrNotAvailable.into()) };
            // By default the system joins where its routes lead, which may be elsewhere than we are tied to.
            let at = match bind.index(&socket)? {
                0 => InterfaceIndexOrAddress::Address(source),
                index => InterfaceIndexOrAddress::Index(index),
            };
            socket.join_multicast_v4_n(&GROUP_V4, &at)?;
            socket.set_multicast_if_v4(&source)?;
            // Other clients on this machine are neighbours, too.
            socket.set_multicast_loop_v4(true)?;
        }
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.bind(&SockAddr::from(addr))?;
            socket.join_multicast_v6(&GROUP_V6, bind.index(&socket)?)?;
            socket.set_multicast_loop_v6(true)?;
        }
    }
    socket.set_nonblocking(true)?;
    Ok(Group { socket: socket.into(), addr })
}
