//! All connections of one UDP socket.

mod half_open;
mod incoming;
mod released;
mod resets;
mod table;

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::util::random::Random;
use crate::utp::connection::{InitialValues, UtpConnection, UtpPhase};
use crate::utp::deadline_queue::DeadlineQueue;
use crate::utp::endpoint::half_open::HalfOpen;
use crate::utp::endpoint::resets::ResetQueue;
use crate::utp::endpoint::table::UtpTable;
use crate::utp::send_clock::UtpFigures;
use crate::utp::seq_nr::SeqNr;
use crate::utp::{UtpConfig, UtpConnectError, UtpDial, UtpEvent, UtpKey, UtpTime, UtpTransmit};

/// How often a free number for a connection is looked for.
const ID_ATTEMPTS: usize = 16;

/// All connections of one UDP socket. See [`crate::utp`] for what its driver does.
#[derive(Debug)]
pub struct UtpEndpoint {
    config: UtpConfig,
    random: Random,
    table: UtpTable,
    half_open: HalfOpen,
    /// The connections that were released, in this order. Some of them may be gone.
    released: VecDeque<UtpKey>,
    /// How many received bytes all connections keep.
    buffered: usize,
    events: VecDeque<UtpEvent>,
    /// The slots of connections that may have something to send.
    ready: VecDeque<u32>,
    deadlines: DeadlineQueue,
    /// The connections with new figures.
    changed: VecDeque<UtpKey>,
    resets: ResetQueue,
    is_accepting: bool,
    /// A buffer for selective acknowledgements.
    sack: Vec<u8>,
    /// The time of the last call that told it.
    now: UtpTime,
}

impl UtpEndpoint {
    /// An endpoint without connections.
    pub fn new(config: UtpConfig, random: Random) -> UtpEndpoint {
        UtpEndpoint {
            config,
            random,
            table: UtpTable::default(),
            half_open: HalfOpen::default(),
            released: VecDeque::new(),
            buffered: 0,
            events: VecDeque::new(),
            ready: VecDeque::new(),
            deadlines: DeadlineQueue::default(),
            changed: VecDeque::new(),
            resets: ResetQueue::default(),
            is_accepting: true,
            sack: Vec::new(),
            now: UtpTime::default(),
        }
    }

    /// Starts to connect. [`UtpEvent::Connected`] or [`UtpEvent::Closed`] follows. Data may be written at once.
    #[cfg(any(test, feature = "internals"))]
    pub fn connect(&mut self, now: UtpTime, addr: SocketAddr) -> Result<UtpKey, UtpConnectError> {
        self.dial(now, addr, UtpDial::Direct)
    }

    /// Starts to connect directly or through a router. [`UtpEvent::Connected`] or [`UtpEvent::Closed`] follows. Data may be written at
    /// once.
    pub fn dial(&mut self, now: UtpTime, addr: SocketAddr, dial: UtpDial) -> Result<UtpKey, UtpConnectError> {
        self.now = now;
        if self.table.len() >= self.config.max_connections {
            return Err(UtpConnectError::TooMany);
        }
        let initial = self.random_initial_values();
        let mut ids = (0..ID_ATTEMPTS).map(|_| self.random.u32() as u16);
        let id = ids.find(|id| !self.table.has(addr, *id)).ok_or(UtpConnectError::TooMany)?;
        let mut connection = UtpConnection::connecting(now, addr, id, dial, initial, &self.config);
        connection.start_syn_timeout(now, &self.config);
        let key = self.table.insert(connection);
        self.process_signals(key.slot);
        Ok(key)
    }

    fn random_initial_values(&mut self) -> InitialValues {
        let number = self.random.u64();
        InitialValues { first: SeqNr(number as u16), clock_offset: (number >> 32) as u32 }
    }

    /// Whether incoming connections are accepted; they are at first. Otherwise SYNs are ignored.
    pub fn set_accepting(&mut self, is_accepting: bool) {
        self.is_accepting = is_accepting;
    }

    /// An ICMP error has answered a datagram to this address. Only connections that are being opened believe it, because anybody can
    /// send one.
    pub fn refuse(&mut self, addr: SocketAddr) {
        for slot in 0..self.table.slots() {
            if let Some(connection) = self.table.get_slot_mut(slot).filter(|connection| connection.addr == addr) {
                connection.refuse();
                self.process_signals(slot);
            }
        }
    }

    /// The next change of a connection.
    pub fn next_event(&mut self) -> Option<UtpEvent> {
        loop {
            let event = self.events.pop_front()?;
            let (UtpEvent::Incoming { key, .. }
            | UtpEvent::Connected(key)
            | UtpEvent::Readable(key)
            | UtpEvent::Writable(key)
            | UtpEvent::Finished(key)
            | UtpEvent::Closed(key, _)) = event;
            // Events of connections that were released are not interesting any more.
            if self.table.forget_event(key, &event) {
                return Some(event);
            }
        }
    }

    /// The new figures of a connection's sending side.
    pub fn next_figures(&mut self) -> Option<(UtpKey, UtpFigures)> {
        loop {
            let key = self.changed.pop_front()?;
            if let Some(figures) = self.table.take_figures(key) {
                return Some((key, figures));
            }
        }
    }

    /// The first contiguous part of the received bytes in order; empty only if nothing is readable.
    pub fn readable(&self, key: UtpKey) -> &[u8] {
        self.table.get(key).map_or(&[], UtpConnection::readable)
    }

    /// Removes the first `count` readable bytes, which gives the peer space to send more.
    pub fn consume(&mut self, key: UtpKey, count: usize) {
        self.with(key, |connection| connection.consume(count));
    }

    /// Takes as many of the bytes as there is space for. If not all, [`UtpEvent::Writable`] follows when there is more space.
    pub fn write(&mut self, key: UtpKey, bytes: &[u8]) -> usize {
        let written = self.with(key, |connection| connection.write(bytes)).unwrap_or_default();
        // Even if nothing can be sent now, `transmit` starts the clock for asking a peer that has no space.
        self.enqueue(key);
        written
    }

    /// Takes the last bytes before [`UtpEndpoint::release`], whether or not there is space for them.
    pub fn write_rest(&mut self, key: UtpKey, bytes: &[u8]) {
        self.with(key, |connection| connection.write_rest(bytes));
    }

    /// How many bytes [`UtpEndpoint::write`] would take. If none, [`UtpEvent::Writable`] follows when there is space.
    pub fn await_space(&mut self, key: UtpKey) -> usize {
        self.table.get_mut(key).map_or(0, UtpConnection::await_space)
    }

    /// Gives the key up. Written bytes are still delivered, and our stream ends; what arrives is discarded.
    pub fn release(&mut self, now: UtpTime, key: UtpKey) {
        self.now = now;
        if let Some(connection) = self.table.get_mut(key) {
            connection.release(now, &self.config);
            self.table.retire(key);
            self.process_signals(key.slot);
            self.limit_released(key);
        }
    }

    /// Ends the connection at once, tells the peer, and gives the key up.
    pub fn reset(&mut self, key: UtpKey) {
        let now = self.now;
        if let Some(connection) = self.table.get_mut(key) {
            connection.abort(now);
            self.table.retire(key);
            self.process_signals(key.slot);
        }
    }

    /// Changes a connection and does what follows from it.
    fn with<T>(&mut self, key: UtpKey, change: impl FnOnce(&mut UtpConnection) -> T) -> Option<T> {
        let result = change(self.table.get_mut(key)?);
        self.process_signals(key.slot);
        Some(result)
    }

    /// Appends the next datagrams to send to `out`: of one connection, at most 64 and 65,507 bytes. Ask again until there are none.
    pub fn transmit(&mut self, now: UtpTime, out: &mut Vec<u8>) -> Option<UtpTransmit> {
        self.now = now;
        if let Some(transmit) = self.resets.transmit(out) {
            return Some(transmit);
        }
        while let Some(slot) = self.ready.pop_front() {
            let Some(connection) = self.table.dequeue(slot) else { continue };
            let transmit = connection.transmit(now, out, &mut self.sack);
            self.table.mark_changed(slot, &mut self.changed);
            self.schedule(slot);
            if transmit.is_some() {
                self.process_signals(slot);
                return transmit;
            }
        }
        None
    }

    /// When [`UtpEndpoint::handle_deadlines`] is to be called, at the latest.
    pub fn next_deadline(&mut self) -> Option<UtpTime> {
        while let Some((at, slot)) = self.deadlines.peek() {
            let deadline = self.table.get_slot_mut(slot).and_then(|connection| connection.next_deadline());
            if deadline.is_some_and(|deadline| deadline <= at) {
                return Some(at);
            }
            // It has moved.
            self.deadlines.pop();
            self.schedule(slot);
        }
        None
    }

    /// Handles everything that is due: retransmission, acknowledgements, keep-alives, the end of connections.
    pub fn handle_deadlines(&mut self, now: UtpTime) {
        self.now = now;
        while let Some((at, slot)) = self.deadlines.peek().filter(|(at, _)| *at <= now) {
            self.deadlines.pop();
            let Some(connection) = self.table.get_slot_mut(slot) else { continue };
            if connection.next_deadline().is_some_and(|deadline| deadline <= at) {
                connection.handle_deadlines(now, &self.config);
            }
            self.process_signals(slot);
        }
    }

    /// Whether everything that was written and released is delivered, as far as it will be.
    pub fn is_idle(&self) -> bool {
        let mut connections = (0..self.table.slots()).filter_map(|slot| self.table.get_slot(slot));
        connections.all(UtpConnection::is_delivered)
    }

    /// Turns a connection's signals into events, lets it send, and notes its deadline.
    fn process_signals(&mut self, slot: u32) {
        let Some(connection) = self.table.get_slot_mut(slot) else { return };
        let signals = std::mem::take(&mut connection.signals);
        if signals.send_reset {
            let header = connection.reset_header(self.now);
            self.resets.push(connection.local_ip, connection.addr, &header);
        }
        if signals.is_removable {
            return self.forget(slot);
        }
        let buffered = connection.buffered();
        self.buffered = self.buffered + buffered - self.table.note_buffered(slot, buffered);
        let Some(connection) = self.table.get_slot_mut(slot) else { return };
        let has_output = connection.has_output(self.now);
        self.table.mark_changed(slot, &mut self.changed);
        self.table.collect_events(slot, signals, &mut self.events);
        if has_output && self.table.mark_queued(slot) {
            self.ready.push_back(slot);
        }
        self.schedule(slot);
    }

    /// Removes a connection without a word to the peer.
    fn forget(&mut self, slot: u32) {
        if let Some(connection) = self.table.get_slot_mut(slot)
            && connection.phase() == UtpPhase::HalfOpen
        {
            let ip = connection.addr.ip();
            self.half_open.remove(ip);
        }
        self.buffered -= self.table.note_buffered(slot, 0);
        self.table.remove(slot);
        self.deadlines.forget(slot);
    }

    fn enqueue(&mut self, key: UtpKey) {
        if self.table.get(key).is_some() && self.table.mark_queued(key.slot) {
            self.ready.push_back(key.slot);
        }
    }

    fn schedule(&mut self, slot: u32) {
        if let Some(at) = self.table.get_slot_mut(slot).and_then(|connection| connection.next_deadline()) {
            self.deadlines.schedule(slot, at);
        }
    }
}

#[cfg(any(test, feature = "internals"))]
impl UtpEndpoint {
    /// How many received bytes all connections keep.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// The peer's address; nothing if the key is not in use.
    pub fn addr(&self, key: UtpKey) -> Option<SocketAddr> {
        self.table.get(key).map(|connection| connection.addr)
    }

    /// Ends our direction: after everything that is written, the peer sees the end of the stream. We can still read.
    pub fn finish(&mut self, key: UtpKey) {
        self.with(key, UtpConnection::finish);
    }

    /// How many connections there are, including half-open and lingering ones.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A connection.
    pub fn connection(&self, key: UtpKey) -> Option<&UtpConnection> {
        self.table.get(key)
    }
}
