//! The loop of a DHT thread: commands, packets and deadlines of one node.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::discovery::DormantTorrentsCell;
use crate::discovery::dht::item_request::ItemOutcome;
use crate::discovery::dht::message::{KrpcMessage, MAX_RECEIVED};
use crate::discovery::dht::node::{Dht, DhtOutput};
use crate::discovery::dht::service::channel::{DhtLoopHandle, DhtLoopInbox};
use crate::discovery::dht::service::named_nodes::NamedNodes;
use crate::discovery::dht::service::{DhtCommand, FoundPeers};
use crate::discovery::dht::state::DhtState;
use crate::net::address_filter::AddressFilter;
use crate::net::datagrams::ReceivedDatagram;
use crate::net::proxy::udp::MAX_ADDRESS_HEADER;
use crate::types::InfoHash;
use crate::util::random;

/// The longest time that a thread sleeps.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// The pause after a socket error other than a timeout, so that a broken network does not cause a busy loop.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// The state of a thread.
pub(super) struct DhtLoop {
    pub(super) dht: Dht,
    /// Its own index in `handles`.
    pub(super) at: usize,
    pub(super) inbox: DhtLoopInbox,
    pub(super) handles: Arc<Vec<DhtLoopHandle>>,
    pub(super) found: Sender<FoundPeers>,
    pub(super) dormant: DormantTorrentsCell,
    pub(super) filter: Arc<AddressFilter>,
    /// The receivers for single torrents.
    pub(super) subscribers: BTreeMap<InfoHash, Sender<FoundPeers>>,
    /// Where the results of requests for items go, by the requests' numbers.
    pub(super) item_subscribers: BTreeMap<u32, Sender<ItemOutcome>>,
    /// Nodes whose names only the proxy can resolve.
    pub(super) names: NamedNodes,
    pub(super) clock: DhtClock,
}

/// The time of the node. It stands still while the proxy carries no packets, so that no query fails meanwhile: those that wait are sent
/// later.
#[derive(Debug, Default)]
pub(super) struct DhtClock {
    before: Duration,
    running_since: Option<Instant>,
}

impl DhtClock {
    fn now(&self) -> Duration {
        self.before + self.running_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn set_running(&mut self, is_running: bool) {
        if is_running != self.running_since.is_some() {
            self.before = self.now();
            self.running_since = is_running.then(Instant::now);
        }
    }
}

impl DhtLoop {
    pub(super) fn run(mut self) -> DhtState {
        let mut buffer = vec![0; MAX_ADDRESS_HEADER + MAX_RECEIVED + 1];
        loop {
            if self.run_commands() {
                return self.dht.state(self.clock.now());
            }
            let sleep = self.do_due_work();
            match self.inbox.receive(&mut buffer, sleep) {
                Ok(packet) if self.filter.count_if_blocked(packet.from.ip()) => {}
                Ok(packet) => self.on_packet(packet),
                Err(error) if is_timeout(&error) => {}
                Err(error) => {
                    log::debug!("the DHT's socket: {error}");
                    if let Ok(command) = self.inbox.commands.recv_timeout(ERROR_PAUSE)
                        && self.run_command(command)
                    {
                        return self.dht.state(self.clock.now());
                    }
                }
            }
        }
    }

    /// Does what is due, unless the proxy carries no packets, and returns the time until something is due again.
    fn do_due_work(&mut self) -> Duration {
        let is_connected = self.inbox.socket.is_connected();
        self.clock.set_running(is_connected);
        let now = self.clock.now();
        if is_connected {
            self.dht.handle_deadlines(now);
            self.ping_names(now);
            self.flush_output(None);
        }
        if let Some(handle) = self.handles.get(self.at) {
            *handle.stats.lock() = self.dht.stats(now);
        }
        if !is_connected {
            return MAX_SLEEP;
        }
        let due = self.names.next_deadline().map_or(self.dht.next_deadline(), |due| due.min(self.dht.next_deadline()));
        due.saturating_sub(self.clock.now()).clamp(Duration::from_millis(1), MAX_SLEEP)
    }

    fn ping_names(&mut self, now: Duration) {
        let mut transaction = random::bytes();
        while let Some(to) = self.names.next_ping(now, transaction) {
            let packet = self.dht.ping_packet(transaction);
            if let Err(error) = self.inbox.socket.send_to_name(&to, &packet) {
                log::trace!("no DHT packet to {to}: {error}");
            }
            transaction = random::bytes();
        }
    }

    fn on_packet(&mut self, packet: ReceivedDatagram<'_>) {
        let now = self.clock.now();
        let from = packet.from;
        let message = KrpcMessage::decode(packet.bytes);
        match message.as_ref().ok().and_then(|message| self.names.responded(from, message)) {
            Some(node) if node.is_router => self.dht.add_router(now, from),
            Some(_) => self.dht.add_node(now, from),
            None => self.dht.on_message(now, from, packet.bytes.len(), message),
        }
        self.flush_output(packet.to);
    }

    /// Runs all queued commands; returns whether the last one was to stop.
    fn run_commands(&mut self) -> bool {
        while let Ok(command) = self.inbox.commands.try_recv() {
            if self.run_command(command) {
                return true;
            }
        }
        false
    }

    fn run_command(&mut self, command: DhtCommand) -> bool {
        let now = self.clock.now();
        match command {
            DhtCommand::Search(info_hash, port, subscriber) => {
                match subscriber {
                    Some(subscriber) => _ = self.subscribers.insert(info_hash, subscriber),
                    None => _ = self.subscribers.remove(&info_hash),
                }
                self.dht.search(now, info_hash, port);
            }
            DhtCommand::AnnounceOnce(info_hash, port) => self.dht.announce_once(now, info_hash, port),
            DhtCommand::Forget(info_hash) => {
                self.dht.forget(info_hash);
                self.subscribers.remove(&info_hash);
            }
            DhtCommand::SetSeed(info_hash, is_seed) => self.dht.set_seed(info_hash, is_seed),
            DhtCommand::Node(addr) => self.dht.add_node(now, addr),
            DhtCommand::Router(addr) => self.dht.add_router(now, addr),
            DhtCommand::Name(node) => self.names.add(now, node),
            DhtCommand::Associated(association) => {
                self.inbox.socket.set_association(association);
                self.names.restart(now);
            }
            // Nobody can reach us through a proxy.
            DhtCommand::SetReadOnly { is_read_only } => {
                self.dht.set_read_only(is_read_only || self.inbox.socket.is_proxied());
            }
            DhtCommand::SetPortImplied { is_port_implied } => self.dht.set_port_implied(is_port_implied),
            DhtCommand::Item(request, timeout, subscriber) => {
                if let Some(number) = self.dht.request_item(now, *request, now + timeout) {
                    self.item_subscribers.insert(number, subscriber);
                }
            }
            DhtCommand::Stop => return true,
        }
        false
    }

    /// Does what the node wants. Answers come from the address of ours that was asked.
    fn flush_output(&mut self, asked: Option<IpAddr>) {
        while let Some(output) = self.dht.next_output() {
            match output {
                // The query fails later, as if the node did not answer.
                DhtOutput::Send { to, .. } if self.filter.count_if_blocked(to.ip()) => {}
                DhtOutput::Send { to, bytes, is_answer } => {
                    if let Err(error) = self.inbox.socket.send(asked.filter(|_| is_answer), to, &bytes) {
                        log::trace!("no DHT packet to {to}: {error}");
                    }
                }
                // The receiver may be gone, or its channel full.
                DhtOutput::FoundPeers { info_hash, peers } => {
                    let peers = self.filter.allowed(&peers);
                    match (self.subscribers.get(&info_hash), self.dormant.get()) {
                        (None, Some(dormant)) if dormant.has(info_hash) => {
                            let ours = self.dht.external_ip();
                            let others: Vec<_> = peers.into_iter().filter(|peer| Some(peer.ip()) != ours).collect();
                            if !others.is_empty() {
                                dormant.found_in_dht(info_hash, others);
                            }
                        }
                        (subscriber, _) => {
                            let subscriber = subscriber.unwrap_or(&self.found);
                            drop(subscriber.try_send(FoundPeers { info_hash, peers }));
                        }
                    }
                }
                DhtOutput::Item { number, outcome } => {
                    if let Some(subscriber) = self.item_subscribers.remove(&number) {
                        drop(subscriber.try_send(outcome));
                    }
                }
                DhtOutput::OtherFamilyNodes(nodes) => {
                    for (_, handle) in self.handles.iter().enumerate().filter(|(at, _)| *at != self.at) {
                        for addr in &nodes {
                            handle.send_address(*addr, DhtCommand::Node);
                        }
                    }
                }
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
