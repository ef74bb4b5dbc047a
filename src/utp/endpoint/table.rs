//! The table of connections.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use crate::utp::connection::{UtpConnection, UtpSignals};
use crate::utp::send_clock::UtpFigures;
use crate::utp::{UtpEvent, UtpKey};

/// A place in the table.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
struct TableSlot {
    generation: u32,
    connection: Option<Box<UtpConnection>>,
    /// Whether it is in the list of those with something to send.
    is_queued: bool,
    /// Whether the key was given up, but the connection goes on.
    is_retired: bool,
    /// Whether these events wait to be taken.
    is_readable_queued: bool,
    is_writable_queued: bool,
    /// How many received bytes the connection keeps.
    buffered: usize,
    /// Whether it is in the list of those with new figures.
    is_changed: bool,
}

/// All connections, by key and by address.
#[derive(Debug, Default)]
pub(super) struct UtpTable {
    slots: Vec<TableSlot>,
    free: Vec<u32>,
    /// The slot for packets from an address with a connection's number.
    by_addr: HashMap<(SocketAddr, u16), u32>,
    /// The slot of the last packet; the next one is often for the same connection.
    last: u32,
}

impl UtpTable {
    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.by_addr.len()
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Adds a connection. No other one has its address and number.
    pub(super) fn insert(&mut self, connection: UtpConnection) -> UtpKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(TableSlot::default());
            self.slots() - 1
        });
        self.by_addr.insert((connection.addr, connection.recv_id), slot);
        let entry = &mut self.slots[slot as usize];
        entry.connection = Some(Box::new(connection));
        UtpKey { slot, generation: entry.generation }
    }

    /// Removes a connection.
    pub(super) fn remove(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        if let Some(connection) = entry.connection.take() {
            self.by_addr.remove(&(connection.addr, connection.recv_id));
            // It may still be in the list of those with something to send, which is harmless.
            let (generation, is_queued) = (entry.generation.wrapping_add(1), entry.is_queued);
            *entry = TableSlot { generation, is_queued, ..TableSlot::default() };
            self.free.push(slot);
        }
    }

    /// The IP address of the peer of a connection, also of one whose key was given up.
    pub(super) fn ip(&self, key: UtpKey) -> Option<IpAddr> {
        let entry = self.slots.get(key.slot as usize).filter(|entry| entry.generation == key.generation)?;
        Some(entry.connection.as_ref()?.addr.ip())
    }

    /// Notes how many received bytes a connection keeps. Returns how many it kept when that was noted last.
    pub(super) fn note_buffered(&mut self, slot: u32, bytes: usize) -> usize {
        std::mem::replace(&mut self.slots[slot as usize].buffered, bytes)
    }

    /// Whether a connection has this address and number.
    pub(super) fn has(&self, addr: SocketAddr, id: u16) -> bool {
        self.by_addr.contains_key(&(addr, id))
    }

    /// The connection for a packet.
    pub(super) fn find(&mut self, addr: SocketAddr, id: u16) -> Option<u32> {
        let last = self.slots.get(self.last as usize).and_then(|entry| entry.connection.as_ref());
        if last.is_some_and(|connection| connection.recv_id == id && connection.addr == addr) {
            return Some(self.last);
        }
        let slot = *self.by_addr.get(&(addr, id))?;
        self.last = slot;
        Some(slot)
    }

    /// The connection whose packets to this address have that number.
    pub(super) fn find_by_send_id(&self, addr: SocketAddr, id: u16) -> Option<u32> {
        let candidates = [id.wrapping_sub(1), id.wrapping_add(1)];
        let mut slots = candidates.iter().filter_map(|recv_id| self.by_addr.get(&(addr, *recv_id)).copied());
        slots.find(|slot| self.get_slot(*slot).is_some_and(|connection| connection.send_id == id))
    }

    fn entry(&self, key: UtpKey) -> Option<&TableSlot> {
        let entry = self.slots.get(key.slot as usize)?;
        (entry.generation == key.generation && !entry.is_retired).then_some(entry)
    }

    /// The connection of a key that is in use.
    pub(super) fn get(&self, key: UtpKey) -> Option<&UtpConnection> {
        self.entry(key)?.connection.as_deref()
    }

    /// The connection of a key that is in use.
    pub(super) fn get_mut(&mut self, key: UtpKey) -> Option<&mut UtpConnection> {
        self.entry(key)?;
        self.get_slot_mut(key.slot)
    }

    /// The connection of a slot.
    pub(super) fn get_slot(&self, slot: u32) -> Option<&UtpConnection> {
        self.slots.get(slot as usize)?.connection.as_deref()
    }

    /// The connection of a slot.
    pub(super) fn get_slot_mut(&mut self, slot: u32) -> Option<&mut UtpConnection> {
        self.slots.get_mut(slot as usize)?.connection.as_deref_mut()
    }

    /// The key of a slot's connection.
    pub(super) fn key(&self, slot: u32) -> UtpKey {
        UtpKey { slot, generation: self.slots.get(slot as usize).map_or(0, |entry| entry.generation) }
    }

    /// The key is not in use any more.
    pub(super) fn retire(&mut self, key: UtpKey) {
        self.slots[key.slot as usize].is_retired = true;
    }

    /// Notes that a slot is in the list of those with something to send. Returns whether it was not.
    pub(super) fn mark_queued(&mut self, slot: u32) -> bool {
        !std::mem::replace(&mut self.slots[slot as usize].is_queued, true)
    }

    /// Notes that a slot has left that list. Returns its connection.
    pub(super) fn dequeue(&mut self, slot: u32) -> Option<&mut UtpConnection> {
        let entry = &mut self.slots[slot as usize];
        entry.is_queued = false;
        entry.connection.as_deref_mut()
    }

    /// Adds a slot to the list of those with new figures, if it has some.
    pub(super) fn mark_changed(&mut self, slot: u32, changed: &mut VecDeque<UtpKey>) {
        let key = self.key(slot);
        let entry = &mut self.slots[slot as usize];
        let has_new = entry.connection.as_ref().is_some_and(|connection| connection.has_new_figures());
        if has_new && !entry.is_retired && !std::mem::replace(&mut entry.is_changed, true) {
            changed.push_back(key);
        }
    }

    /// Notes that a key has left that list. Returns its figures, if it is in use.
    pub(super) fn take_figures(&mut self, key: UtpKey) -> Option<UtpFigures> {
        self.entry(key)?;
        let entry = &mut self.slots[key.slot as usize];
        entry.is_changed = false;
        entry.connection.as_mut()?.take_figures()
    }

    /// Makes events of a connection's signals. Each kind waits at most once.
    pub(super) fn collect_events(&mut self, slot: u32, signals: UtpSignals, events: &mut VecDeque<UtpEvent>) {
        let key = self.key(slot);
        let entry = &mut self.slots[slot as usize];
        let Some(connection) = entry.connection.as_deref().filter(|_| !entry.is_retired) else { return };
        if signals.incoming {
            events.push_back(UtpEvent::Incoming { key, addr: connection.addr });
        }
        if signals.connected {
            events.push_back(UtpEvent::Connected(key));
        }
        if signals.readable && !std::mem::replace(&mut entry.is_readable_queued, true) {
            events.push_back(UtpEvent::Readable(key));
        }
        if signals.writable && !std::mem::replace(&mut entry.is_writable_queued, true) {
            events.push_back(UtpEvent::Writable(key));
        }
        if signals.finished {
            events.push_back(UtpEvent::Finished(key));
        }
        if let Some(reason) = signals.closed {
            events.push_back(UtpEvent::Closed(key, reason));
        }
    }

    /// Notes that an event was taken. Returns whether its key is in use.
    pub(super) fn forget_event(&mut self, key: UtpKey, event: &UtpEvent) -> bool {
        if self.entry(key).is_none() {
            return false;
        }
        let entry = &mut self.slots[key.slot as usize];
        match event {
            UtpEvent::Readable(_) => entry.is_readable_queued = false,
            UtpEvent::Writable(_) => entry.is_writable_queued = false,
            _ => {}
        }
        true
    }
}
