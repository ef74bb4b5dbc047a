//! The loop of a UDP thread: datagrams, commands, the pairs of its uTP connections, and deadlines.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::net::address_filter::AddressFilter;
use crate::udp::AcceptUtp;
use crate::udp::bridge::{BridgeState, BridgeTurn, CHUNK, SocketBridge, pair};
use crate::udp::command::{UdpCommand, UdpInbox};
use crate::udp::dht_link::DhtForwarder;
use crate::udp::peer_stream::{PeerStream, UtpLink};
use crate::udp::socket::{BatchSocket, is_pending_icmp_error};
use crate::utp::{UtpDial, UtpEndpoint, UtpEvent, UtpKey, UtpTime, UtpTransmit};

/// The keys of the socket and of the commands; all others are those of connections.
const SOCKET: u64 = u64::MAX;
const INBOX: u64 = u64::MAX - 1;
/// Events per turn.
const EVENTS: usize = 256;
/// How often the socket is read in one turn, so that the connections get their turn too.
const RECEIVES: usize = 8;
/// How long the thread delivers the last data when it is to stop.
const STOP_GRACE: Duration = Duration::from_millis(200);
/// The shortest wait while the socket's send buffer is full, and after an error of the socket.
const PAUSE: Duration = Duration::from_millis(5);

/// See the module's documentation.
pub(super) struct UdpLoop {
    socket: BatchSocket,
    epoll: OwnedFd,
    inbox: UdpInbox,
    endpoint: UtpEndpoint,
    bridges: HashMap<u64, SocketBridge>,
    filter: Arc<AddressFilter>,
    accept: AcceptUtp,
    dht: Option<DhtForwarder>,
    started: Instant,
    /// The datagrams to send next.
    outgoing: Vec<u8>,
    /// What `outgoing` has, if the kernel did not take it.
    unsent: Option<UtpTransmit>,
    chunk: Vec<u8>,
}

impl UdpLoop {
    pub fn new(
        socket: BatchSocket,
        inbox: UdpInbox,
        endpoint: UtpEndpoint,
        filter: Arc<AddressFilter>,
        accept: AcceptUtp,
        started: Instant,
    ) -> io::Result<UdpLoop> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, socket.socket(), EventData::new_u64(SOCKET), EventFlags::IN)?;
        epoll::add(&epoll, inbox.wake(), EventData::new_u64(INBOX), EventFlags::IN)?;
        Ok(UdpLoop {
            socket,
            epoll,
            inbox,
            endpoint,
            bridges: HashMap::new(),
            filter,
            accept,
            dht: None,
            started,
            outgoing: Vec::new(),
            unsent: None,
            chunk: vec![0; CHUNK],
        })
    }

    fn now(&self) -> UtpTime {
        UtpTime(self.started.elapsed().as_micros() as u64)
    }

    pub fn run(mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        let mut stop_at: Option<Instant> = None;
        loop {
            if stop_at.is_some_and(|end| self.has_delivered() || Instant::now() >= end) {
                return;
            }
            events.clear();
            let timeout = self.timeout(stop_at);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return log::error!("a UDP thread stops: {error}"),
            }
            for event in &events {
                match event.data.u64() {
                    SOCKET => self.serve_socket(event.flags),
                    INBOX => self.run_commands(),
                    id => self.serve_bridge(id, event.flags),
                }
            }
            let now = self.now();
            if self.endpoint.next_deadline().is_some_and(|due| due <= now) {
                self.endpoint.handle_deadlines(now);
            }
            self.handle_events();
            self.transmit();
            self.publish_figures();
            if stop_at.is_none() && self.inbox.is_stopping() {
                stop_at = Some(Instant::now() + STOP_GRACE);
                self.begin_to_stop();
            }
        }
    }

    /// Whether everything that was to be sent has been, and has arrived.
    fn has_delivered(&self) -> bool {
        self.unsent.is_none() && self.endpoint.is_idle()
    }

    /// How long to wait for events.
    fn timeout(&mut self, stop_at: Option<Instant>) -> Option<Timespec> {
        let now = self.now();
        let least = if self.unsent.is_some() { PAUSE } else { Duration::ZERO };
        let due = self.endpoint.next_deadline().map(|due| Duration::from_micros(due.since(now)).max(least));
        let end = stop_at.map(|end| end.saturating_duration_since(Instant::now()));
        Timespec::try_from(due.into_iter().chain(end).min()?).ok()
    }

    /// Receives datagrams, and sends what the kernel did not take before.
    fn serve_socket(&mut self, flags: EventFlags) {
        if flags.contains(EventFlags::ERR) {
            self.note_unreachable();
        }
        if flags.contains(EventFlags::OUT) && self.unsent.is_some() {
            self.send_outgoing();
        }
        for _ in 0..RECEIVES {
            match self.socket.receive() {
                Ok(has_more) => {
                    self.handle_messages();
                    if !has_more {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_pending_icmp_error(&error) => self.note_unreachable(),
                Err(error) => {
                    log::debug!("a UDP socket: {error}");
                    return std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn handle_messages(&mut self) {
        let now = self.now();
        for (from, to, datagrams) in self.socket.messages() {
            // An answer to port 0 is impossible.
            if from.port() == 0 || self.filter.count_if_blocked(from.ip()) {
                continue;
            }
            for datagram in datagrams {
                // A dictionary in bencode; no uTP packet begins like that.
                if datagram.first() == Some(&b'd') {
                    if let Some(dht) = &self.dht {
                        dht.send(from, to, datagram);
                    }
                } else {
                    self.endpoint.receive(now, from, to, datagram);
                }
            }
        }
    }

    fn note_unreachable(&mut self) {
        for addr in self.socket.unreachable() {
            self.endpoint.refuse(addr);
        }
    }

    fn run_commands(&mut self) {
        for command in self.inbox.take() {
            match command {
                UdpCommand::Connect { addr, dial, pair, link } => self.connect(addr, dial, pair, link),
                UdpCommand::AttachDht(dht) => self.dht = Some(dht),
            }
        }
    }

    fn connect(&mut self, addr: SocketAddr, dial: UtpDial, pair: UnixStream, link: Arc<UtpLink>) {
        if self.filter.count_if_blocked(addr.ip()) {
            return; // dropping the pair ends the attempt
        }
        match self.endpoint.dial(self.now(), addr, dial) {
            Ok(key) => self.add(SocketBridge::new(key, pair, link, false), key),
            Err(error) => log::debug!("{addr}: {error}"),
        }
    }

    fn add(&mut self, mut bridge: SocketBridge, key: UtpKey) {
        if watch(&self.epoll, id(key), &mut bridge) {
            self.bridges.insert(id(key), bridge);
        } else {
            bridge.reset(&mut self.endpoint);
        }
    }

    /// The owner of a connection has written, read or closed.
    fn serve_bridge(&mut self, id: u64, flags: EventFlags) {
        let has_ended = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if flags.contains(EventFlags::OUT) {
            self.step(id, SocketBridge::copy_to_owner);
        }
        if has_ended {
            self.step(id, SocketBridge::copy_rest);
        } else if flags.contains(EventFlags::IN) {
            self.step(id, SocketBridge::copy_from_owner);
        }
    }

    /// Lets a connection do something, and then waits for what it needs.
    fn step(&mut self, id: u64, work: impl FnOnce(&mut SocketBridge, &mut BridgeTurn<'_>) -> BridgeState) {
        let now = self.now();
        let Some(bridge) = self.bridges.get_mut(&id) else { return };
        let mut turn = BridgeTurn { endpoint: &mut self.endpoint, now, chunk: &mut self.chunk };
        if work(bridge, &mut turn) == BridgeState::Open {
            if watch(&self.epoll, id, bridge) {
                return;
            }
            bridge.reset(&mut self.endpoint);
        }
        self.bridges.remove(&id);
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.endpoint.next_event() {
            match event {
                UtpEvent::Incoming { key, addr } => self.accept(key, addr),
                UtpEvent::Connected(key) => self.step(id(key), |bridge, _| {
                    bridge.connected();
                    BridgeState::Open
                }),
                UtpEvent::Readable(key) => self.step(id(key), SocketBridge::copy_to_owner),
                UtpEvent::Writable(key) => self.step(id(key), SocketBridge::copy_from_owner),
                UtpEvent::Finished(key) => self.step(id(key), SocketBridge::finished),
                UtpEvent::Closed(key, reason) => self.step(id(key), |bridge, turn| bridge.closed(turn, reason)),
            }
        }
    }

    fn accept(&mut self, key: UtpKey, addr: SocketAddr) {
        match pair() {
            Ok((theirs, ours)) => {
                let link = Arc::new(UtpLink::new(self.started));
                if (self.accept)(PeerStream::new(theirs, link.clone()), addr) {
                    return self.add(SocketBridge::new(key, ours, link, true), key);
                }
            }
            Err(error) => log::debug!("{addr}: no uTP connection: {error}"),
        }
        self.endpoint.reset(key);
    }

    /// Tells owners how their connections send.
    fn publish_figures(&mut self) {
        while let Some((key, figures)) = self.endpoint.next_figures() {
            if let Some(bridge) = self.bridges.get(&id(key)) {
                bridge.link.publish(figures);
            }
        }
    }

    /// Sends all that is due.
    fn transmit(&mut self) {
        while self.unsent.is_none() {
            self.outgoing.clear();
            let now = self.now();
            self.unsent = self.endpoint.transmit(now, &mut self.outgoing);
            if self.unsent.is_none() {
                return;
            }
            self.send_outgoing();
        }
    }

    /// Sends `unsent`, or waits until the kernel takes it.
    fn send_outgoing(&mut self) {
        let Some(transmit) = self.unsent.take() else { return };
        if self.filter.is_blocked(transmit.to.ip()) {
            return;
        }
        match self.socket.send(&transmit, &self.outgoing) {
            Ok(()) => self.watch_socket(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.unsent = Some(transmit);
                self.watch_socket(true);
            }
            // The endpoint retransmits the packet, and treats EMSGSIZE as a lost MTU probe.
            Err(error) => log::trace!("no uTP packet to {}: {error}", transmit.to),
        }
    }

    fn watch_socket(&mut self, for_output: bool) {
        if for_output == self.socket.is_waiting_for_writable {
            return;
        }
        self.socket.is_waiting_for_writable = for_output;
        let mut interest = EventFlags::IN;
        interest.set(EventFlags::OUT, for_output);
        let _ = epoll::modify(&self.epoll, self.socket.socket(), EventData::new_u64(SOCKET), interest);
    }

    /// Closes all connections. Those whose owners have closed them before still send their remaining data.
    fn begin_to_stop(&mut self) {
        self.dht = None;
        self.endpoint.set_accepting(false);
        let ids: Vec<_> = self.bridges.keys().copied().collect();
        for id in ids {
            self.step(id, SocketBridge::copy_rest);
        }
        for (_, bridge) in self.bridges.drain() {
            bridge.reset(&mut self.endpoint);
        }
        self.transmit();
    }
}

/// Waits for what a stream needs. Returns whether that is possible.
fn watch(epoll: &OwnedFd, id: u64, bridge: &mut SocketBridge) -> bool {
    let interest = bridge.interest();
    let result = match bridge.watched {
        Some(watched) if watched == interest => Ok(()),
        Some(_) => epoll::modify(epoll, &*bridge, EventData::new_u64(id), interest),
        None => epoll::add(epoll, &*bridge, EventData::new_u64(id), interest),
    };
    bridge.watched = Some(interest);
    result.inspect_err(|error| log::debug!("cannot wait for a uTP connection: {error}")).is_ok()
}

/// A connection's key in epoll.
fn id(key: UtpKey) -> u64 {
    u64::from(key.generation) << 32 | u64::from(key.slot)
}
