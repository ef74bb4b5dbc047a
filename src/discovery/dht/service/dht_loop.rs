//! The loop of a DHT thread: commands, packets and deadlines of one node.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::discovery::DormantListener;
use crate::discovery::dht::message::MAX_RECEIVED;
use crate::discovery::dht::node::{Dht, DhtOutput};
use crate::discovery::dht::service::channel::{DhtLoopHandle, DhtLoopInbox};
use crate::discovery::dht::service::{DhtCommand, FoundPeers};
use crate::discovery::dht::state::DhtState;
use crate::net::address_filter::AddressFilter;
use crate::types::InfoHash;

/// The longest time that a thread sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
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
    pub(super) dormant: DormantListener,
    pub(super) filter: Arc<AddressFilter>,
    /// The receivers for single torrents.
    pub(super) subscribers: BTreeMap<InfoHash, Sender<FoundPeers>>,
}

impl DhtLoop {
    pub(super) fn run(mut self) -> DhtState {
        let start = Instant::now();
        let mut buffer = vec![0; MAX_RECEIVED + 1];
        loop {
            let now = start.elapsed();
            if self.run_commands(now) {
                return self.dht.state(now);
            }
            self.dht.on_tick(now);
            self.flush_output();
            if let Some(handle) = self.handles.get(self.at) {
                *handle.stats.lock() = self.dht.stats(now);
            }
            let sleep = self.dht.next_deadline().saturating_sub(start.elapsed());
            let sleep = sleep.clamp(Duration::from_millis(1), LONGEST_SLEEP);
            match self.inbox.receive(&mut buffer, sleep) {
                Ok((_, from)) if self.filter.refuses(from.ip()) => {}
                Ok((size, from)) => {
                    self.dht.on_packet(start.elapsed(), from, buffer.get(..size).unwrap_or_default());
                    self.flush_output();
                }
                Err(error) if is_timeout(&error) => {}
                Err(error) => {
                    log::debug!("the DHT's socket: {error}");
                    if let Ok(command) = self.inbox.commands.recv_timeout(ERROR_PAUSE)
                        && self.run_command(command, start.elapsed())
                    {
                        return self.dht.state(start.elapsed());
                    }
                }
            }
        }
    }

    /// Runs all queued commands; returns whether the last one was to stop.
    fn run_commands(&mut self, now: Duration) -> bool {
        while let Ok(command) = self.inbox.commands.try_recv() {
            if self.run_command(command, now) {
                return true;
            }
        }
        false
    }

    fn run_command(&mut self, command: DhtCommand, now: Duration) -> bool {
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
            DhtCommand::Node(addr) => self.dht.add_node(now, addr),
            DhtCommand::Router(addr) => self.dht.add_router(now, addr),
            DhtCommand::ReadOnly(read_only) => self.dht.set_read_only(read_only),
            DhtCommand::Stop => return true,
        }
        false
    }

    fn flush_output(&mut self) {
        while let Some(output) = self.dht.next_output() {
            match output {
                // The query fails later, as if the node did not answer.
                DhtOutput::Send { to, .. } if self.filter.refuses(to.ip()) => {}
                DhtOutput::Send { to, bytes } => {
                    if let Err(error) = self.inbox.socket.send_to(&bytes, to) {
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
