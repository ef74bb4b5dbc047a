//! All connections of one UDP socket.

use std::net::{IpAddr, SocketAddr};

use crate::util::random::Random;
use crate::utp::{UtpConfig, UtpConnectError, UtpEvent, UtpKey, UtpTime, UtpTransmit};

/// All connections of one UDP socket. See [`crate::utp`] for what its driver does.
#[derive(Debug)]
pub struct UtpEndpoint {
    config: UtpConfig,
    random: Random,
}

#[allow(unused_variables, clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "not written yet")]
impl UtpEndpoint {
    /// An endpoint without connections.
    pub fn new(config: UtpConfig, random: Random) -> UtpEndpoint {
        UtpEndpoint { config, random }
    }

    /// Starts to connect. [`UtpEvent::Connected`] or [`UtpEvent::Closed`] follows. Data may be written at once.
    pub fn connect(&mut self, now: UtpTime, addr: SocketAddr) -> Result<UtpKey, UtpConnectError> {
        Err(UtpConnectError::TooMany)
    }

    /// Whether incoming connections are accepted; they are at first. Otherwise SYNs are ignored.
    pub fn set_accepting(&mut self, is_accepting: bool) {}

    /// Handles a received datagram. Returns whether it was one of uTP, whatever it did; other protocols get those that were not.
    pub fn receive(&mut self, now: UtpTime, from: SocketAddr, datagram: &[u8]) -> bool {
        false
    }

    /// The system says that datagrams to this address may have at most so many bytes (`EMSGSIZE`, "fragmentation needed").
    pub fn note_mtu(&mut self, addr: IpAddr, max_datagram: usize) {}

    /// The system says that nobody listens at this address (`ECONNREFUSED`). Only connections that are being opened believe it.
    pub fn refuse(&mut self, addr: SocketAddr) {}

    /// The next change of a connection.
    pub fn next_event(&mut self) -> Option<UtpEvent> {
        None
    }

    /// The peer's address; nothing if the key is not in use.
    pub fn addr(&self, key: UtpKey) -> Option<SocketAddr> {
        None
    }

    /// Received bytes in order: as many as are adjacent in memory, and none only if there are none.
    pub fn readable(&self, key: UtpKey) -> &[u8] {
        &[]
    }

    /// Removes the first `count` readable bytes, which gives the peer space to send more.
    pub fn consume(&mut self, key: UtpKey, count: usize) {}

    /// Takes as many of the bytes as there is space for. If not all, [`UtpEvent::Writable`] follows when there is more space.
    pub fn write(&mut self, key: UtpKey, bytes: &[u8]) -> usize {
        0
    }

    /// How many bytes [`UtpEndpoint::write`] would take.
    pub fn write_space(&self, key: UtpKey) -> usize {
        0
    }

    /// Ends our direction: after everything that is written, the peer sees the end of the stream. We can still read.
    pub fn finish(&mut self, key: UtpKey) {}

    /// Gives the key up. Written bytes are still delivered, as by [`UtpEndpoint::finish`]; what arrives is discarded.
    pub fn release(&mut self, now: UtpTime, key: UtpKey) {}

    /// Ends the connection at once, tells the peer, and gives the key up.
    pub fn reset(&mut self, key: UtpKey) {}

    /// Appends the next datagrams to send to `out`: of one connection, at most 64 and 65,507 bytes. Ask again until there are none.
    pub fn transmit(&mut self, now: UtpTime, out: &mut Vec<u8>) -> Option<UtpTransmit> {
        None
    }

    /// When [`UtpEndpoint::handle_deadlines`] is to be called, at the latest.
    pub fn next_deadline(&mut self) -> Option<UtpTime> {
        None
    }

    /// Handles everything that is due: retransmission, acknowledgements, keep-alives, the end of connections.
    pub fn handle_deadlines(&mut self, now: UtpTime) {}

    /// How many connections there are, with those that are half open and those that linger.
    pub fn len(&self) -> usize {
        0
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
